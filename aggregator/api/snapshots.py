"""Serve the snapshots of VMs, and what is ordered of them."""

import uuid
from typing import Any

import flask

from aggregator.api import caller, orders, storage, vms
from aggregator.api import snapshot_verbs as verbs
from aggregator.api.model import CloneSnapshot, OrderLine
from aggregator.control import cloning
from aggregator.services import Services
from node import wire
from node.errors import Invalid
from node.http import face
from node.model import snapshot_verbs as node_verbs
from node.model.ids import VmId
from node.model.storage_requests import (
    PreviewSnapshot,
    SnapshotList,
    SnapshotPart,
)
from node.model.verb import Verb
from node.model.vm import Vm


class PartGiven(Invalid):
    """Who does what of it is the aggregator's to say."""

    code = "snapshot_part_given"
    remedy = "Leave the field out; ask the nodes themselves for a part."


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes below /v1/vms/{vm_id}/snapshots."""
    routes = flask.Blueprint("snapshots", __name__)

    def show(vm_id: str) -> SnapshotList:
        document = vms.find(services, vm_id).vm_document
        if not document:
            return SnapshotList(())
        return SnapshotList(wire.decode(Vm, document, strict=False).snapshots)

    def restore(request: PreviewSnapshot, vm_id: str) -> OrderLine:
        ordered = services.orders.storage.restore(VmId(vm_id), request, caller.origin())
        return orders.line(services.mirror.view, ordered)

    def clone(request: CloneSnapshot, vm_id: str) -> OrderLine:
        new_id = request.vm_id or VmId(str(uuid.uuid4()))
        source, view = VmId(vm_id), services.mirror.view
        spec, copied = cloning.of_snapshot(
            view, source, request.snapshot_id, new_id, request.name
        )
        words = (spec, caller.origin(), copied)
        ordered = services.orders.clone_vm(*words, request.data_node_id)
        return orders.line(view, ordered)

    face.bind(routes, verbs.VM_SNAPSHOT_CLONE, clone)
    face.bind(routes, verbs.VM_SNAPSHOT_LIST, show)
    face.bind(routes, verbs.VM_SNAPSHOT_RESTORE, restore)
    for verb, asked in (
        (verbs.VM_SNAPSHOT_CREATE, node_verbs.VM_SNAPSHOT_CREATE),
        (verbs.VM_SNAPSHOT_DELETE, node_verbs.VM_SNAPSHOT_DELETE),
        (verbs.VM_SNAPSHOT_PREVIEW, node_verbs.VM_SNAPSHOT_PREVIEW),
        (verbs.VM_SNAPSHOT_COMMIT, node_verbs.VM_SNAPSHOT_COMMIT),
        (verbs.VM_SNAPSHOT_UNDO, node_verbs.VM_SNAPSHOT_UNDO),
    ):
        face.bind(routes, verb, _orderer(services, asked))
    return routes


def _orderer(services: Services, verb: Verb) -> Any:
    def handler(request: Any, vm_id: str) -> OrderLine:
        if getattr(request, "part", SnapshotPart.WHOLE) is not SnapshotPart.WHOLE:
            raise PartGiven(f"part must not be {request.part}", field="part")
        return storage.order(services, verb, vm_id, request)

    return handler
