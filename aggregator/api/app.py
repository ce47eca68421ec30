"""Make the application of /v1."""

import flask

from aggregator.api import (
    caller,
    disks,
    events,
    exports,
    fleet,
    hooks,
    nodes,
    orders,
    profiles,
    properties,
    registering,
    snapshots,
    storage,
    templates,
    transfers,
    vm_orders,
    vms,
)
from aggregator.api.verbs import VERBS
from aggregator.services import Services
from node import VERSION
from node.http import face, openapi


def create(services: Services) -> flask.Flask:
    """Return the application that serves the aggregator's own API."""
    describe = openapi.document(VERBS, "Skerry aggregator", VERSION)
    blueprints = (
        fleet.blueprint(services, describe),
        nodes.blueprint(services),
        hooks.blueprint(services),
        vms.blueprint(services),
        vm_orders.blueprint(services),
        snapshots.blueprint(services),
        storage.blueprint(services),
        exports.blueprint(services),
        registering.blueprint(services),
        disks.blueprint(services),
        profiles.blueprint(services),
        properties.blueprint(services),
        templates.blueprint(services),
        transfers.blueprint(services),
        orders.blueprint(services),
        events.blueprint(services),
    )
    return face.create_app(
        "aggregator",
        blueprints,
        lambda verb, path: caller.authorize(services.access, verb, path),
    )
