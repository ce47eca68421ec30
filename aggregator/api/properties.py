"""Serve declarations of custom properties, and what is asked of VMs' own."""

import flask

from aggregator.api import caller, orders
from aggregator.api import property_model as model
from aggregator.api import property_verbs as verbs
from aggregator.api.model import OrderLine
from aggregator.policies.properties import Declaration
from aggregator.services import Services
from node.http import face
from node.model.ids import VmId
from node.model.requests import SetProperties


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes of custom properties."""
    routes = flask.Blueprint("properties", __name__)
    declared = services.orders.properties

    def show() -> model.DeclaredProperties:
        return model.DeclaredProperties(tuple(declared.now().values()))

    def declare(request: model.DeclareProperty) -> Declaration:
        words = (request.level, request.name, request.pattern, request.help)
        return declared.declare(*words, request.needs_hook)

    def remove(request: model.RemoveProperty) -> model.DeclaredProperties:
        declared.remove(services.mirror.view, request.level, request.name)
        return show()

    def set_properties(request: SetProperties, vm_id: str) -> OrderLine:
        words = (VmId(vm_id), request, caller.origin())
        order = services.orders.set_properties(*words)
        return orders.line(services.mirror.view, order)

    for verb, handler in (
        (verbs.PROPERTY_LIST, show),
        (verbs.PROPERTY_DECLARE, declare),
        (verbs.PROPERTY_REMOVE, remove),
        (verbs.VM_SET_PROPERTIES, set_properties),
    ):
        face.bind(routes, verb, handler)
    return routes
