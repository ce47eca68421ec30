"""Serve templates, and what is ordered of them."""

import uuid
from collections.abc import Mapping

import flask

from aggregator.api import caller, orders, storage
from aggregator.api import template_verbs as verbs
from aggregator.api.model import OrderLine
from aggregator.api.template_model import (
    NewVmOfTemplate,
    TemplateLine,
    TemplateLines,
)
from aggregator.control import routes as control
from aggregator.control import templating
from aggregator.federation.view import TemplateRow, View, VmView
from aggregator.services import Services
from node.http import face
from node.model import template_verbs as node_verbs
from node.model.ids import TemplateId, VmId
from node.model.templates import ChangeTemplate, CreateTemplate, DeleteTemplate


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes below /v1/templates."""
    routes = flask.Blueprint("templates", __name__)

    def list_all() -> TemplateLines:
        view = services.mirror.view
        rows = (view.templates[each] for _, each in view.template_order)
        by_name = sorted(rows, key=lambda row: (row.name, row.version))
        users = templating.all_users(view)
        return TemplateLines(tuple(_line(view, row, users) for row in by_name))

    def show(template_id: str) -> TemplateLine:
        view = services.mirror.view
        row = control.template(view, TemplateId(template_id))
        return _line(view, row, templating.all_users(view))

    def create(request: CreateTemplate) -> OrderLine:
        verb = node_verbs.TEMPLATE_CREATE
        return storage.order(services, verb, request.template_id, request)

    def change(request: ChangeTemplate, template_id: str) -> OrderLine:
        verb = node_verbs.TEMPLATE_CHANGE
        return storage.order(services, verb, template_id, request)

    def delete(request: DeleteTemplate, template_id: str) -> OrderLine:
        verb = node_verbs.TEMPLATE_DELETE
        return storage.order(services, verb, template_id, request)

    def new_vm(request: NewVmOfTemplate, template_id: str) -> OrderLine:
        view = services.mirror.view
        chosen = request.vm_id or VmId(str(uuid.uuid4()))
        row = control.template(view, TemplateId(template_id))
        place = request.storage_domain_id
        wanted = templating.spec(
            view,
            row.template_id,
            chosen,
            request.name,
            is_clone=request.is_clone,
            places=dict.fromkeys(row.disk_ids, place) if place is not None else None,
        )
        wanted = templating.changed(
            wanted, memory_bytes=request.memory_bytes, description=request.description
        )
        words = (services.orders, wanted, caller.origin())
        made = templating.make_vm(*words, request.data_node_id)
        return orders.line(services.mirror.view, made)

    for verb, handler in (
        (verbs.TEMPLATE_LIST, list_all),
        (verbs.TEMPLATE_SHOW, show),
        (verbs.TEMPLATE_CREATE, create),
        (verbs.TEMPLATE_CHANGE, change),
        (verbs.TEMPLATE_DELETE, delete),
        (verbs.TEMPLATE_NEW_VM, new_vm),
    ):
        face.bind(routes, verb, handler)
    return routes


def _line(
    view: View, row: TemplateRow, users: Mapping[TemplateId, tuple[VmView, ...]]
) -> TemplateLine:
    pool = view.pools.get(row.pool_id) if row.pool_id is not None else None
    return TemplateLine(
        templating.template_of(row),
        pool.name if pool is not None else "",
        tuple(each.name for each in users.get(row.template_id, ())),
    )
