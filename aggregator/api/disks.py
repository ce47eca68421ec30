"""Serve the disks of pools, and what is ordered of them."""

import uuid

import flask

from aggregator.api import orders, storage_lines, storage_verbs, vm_orders
from aggregator.api.model import OrderLine
from aggregator.api.storage import order
from aggregator.api.storage_model import DiskDetail, DiskLines, NewDisk
from aggregator.control import attaching
from aggregator.control import routes as control
from aggregator.federation import view as views
from aggregator.federation.view import DiskRow, View
from aggregator.services import Services
from node.http import face
from node.model import storage_verbs as node_verbs
from node.model.ids import DiskId
from node.model.storage_requests import (
    ActOnDisk,
    ChangeDisk,
    CopyDisk,
    CreateDisk,
    MoveDisk,
    ResizeDisk,
    SparsifyDisk,
)

LINES_MAX = 1000


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes below /v1/disks."""
    routes = flask.Blueprint("disks", __name__)
    disks = _Disks(services)
    for verb in storage_verbs.VERBS:
        if verb.name.startswith("disk_"):
            face.bind(routes, verb, getattr(disks, verb.name))
    return routes


class _Disks:
    def __init__(self, services: Services) -> None:
        self._services = services

    def disk_list(
        self,
        search: str = "",
        max: int = LINES_MAX,  # the parameter's name on the wire
    ) -> DiskLines:
        view = self._services.mirror.view
        order_of = view.disk_order
        if not search:
            shown = [view.disks[each] for _, each in order_of[:max]]
            return DiskLines(
                tuple(storage_lines.disk(view, each) for each in shown), len(order_of)
            )
        wanted = views.fold(search)
        found = [
            view.disks[each]
            for name, each in order_of
            if wanted in name or _fits(view, view.disks[each], wanted)
        ]
        shown = found[:max]
        return DiskLines(
            tuple(storage_lines.disk(view, each) for each in shown), len(found)
        )

    def disk_show(self, disk_id: str) -> DiskDetail:
        view = self._services.mirror.view
        row = control.disk(view, DiskId(disk_id))
        profile = self._services.orders.profiles.now().of(view, row)
        return storage_lines.disk_detail(view, row, profile)

    def disk_create(self, request: NewDisk) -> OrderLine:
        disk_id = request.disk_id or DiskId(str(uuid.uuid4()))
        create = CreateDisk(
            disk_id,
            request.name,
            request.storage_domain_id,
            request.size_bytes,
            request.disk_format,
            request.allocation,
            request.description,
            request.content,
            request.is_shared,
            request.wipe_after_delete,
            request.qos,
        )
        if request.profile_id is not None:
            view, places = self._services.mirror.view, {create.storage_domain_id}
            words = (view, disk_id, request.profile_id, places)
            self._services.orders.profiles.choose(*words)
        return order(self._services, node_verbs.DISK_CREATE, disk_id, create)

    def disk_delete(self, request: ActOnDisk, disk_id: str) -> OrderLine:
        return order(self._services, node_verbs.DISK_DELETE, disk_id, request)

    def disk_resize(self, request: ResizeDisk, disk_id: str) -> OrderLine:
        view, grown = self._services.mirror.view, DiskId(disk_id)
        vm = attaching.runner_of(view, grown)
        if vm is not None:
            words = (self._services, vm, grown, request.size_bytes)
            return orders.line(view, vm_orders.grow_disk(*words))
        return order(self._services, node_verbs.DISK_RESIZE, disk_id, request)

    def disk_change(self, request: ChangeDisk, disk_id: str) -> OrderLine:
        return order(self._services, node_verbs.DISK_CHANGE, disk_id, request)

    def disk_copy(self, request: CopyDisk, disk_id: str) -> OrderLine:
        return order(self._services, node_verbs.DISK_COPY, disk_id, request)

    def disk_move(self, request: MoveDisk, disk_id: str) -> OrderLine:
        return order(self._services, node_verbs.DISK_MOVE, disk_id, request)

    def disk_sparsify(self, request: SparsifyDisk, disk_id: str) -> OrderLine:
        return order(self._services, node_verbs.DISK_SPARSIFY, disk_id, request)


def _fits(view: View, row: DiskRow, wanted: str) -> bool:
    if wanted in (row.state, row.disk_id):
        return True
    rows = map(view.storage_domains.get, row.storage_domain_ids)
    return any(each is not None and views.fold(each.name) == wanted for each in rows)
