"""Serve which hooks the nodes of the fleet have, and where they differ."""

import flask

from aggregator.api import verbs
from aggregator.api.model import FleetHooks
from aggregator.federation.view import View
from aggregator.policies import hook_differences
from aggregator.services import Services
from node.http import face


def blueprint(services: Services) -> flask.Blueprint:
    """Return the route of hooks."""
    routes = flask.Blueprint("hooks", __name__)

    def hook_list() -> FleetHooks:
        return of_fleet(services.mirror.view)

    face.bind(routes, verbs.HOOK_LIST, hook_list)
    return routes


def of_fleet(view: View) -> FleetHooks:
    """Return all hooks by point and name, with the names of nodes."""
    nodes = view.nodes.values()
    heard = {node.name: node.facts.hooks for node in nodes if node.facts is not None}
    unheard = sorted(node.name for node in nodes if node.facts is None)
    return FleetHooks(hook_differences.compare(heard), tuple(unheard))
