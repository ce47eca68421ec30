"""Serve which hooks the nodes of the fleet have, and what is decided about them."""

import flask

from aggregator.api import caller
from aggregator.api import hook_model as model
from aggregator.api import hook_verbs as verbs
from aggregator.api.model import FleetHooks
from aggregator.federation.view import View
from aggregator.policies import hook_differences
from aggregator.services import Services
from node.http import face


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes of hooks."""
    routes = flask.Blueprint("hooks", __name__)
    rules, bundles = services.hook_rules, services.hook_bundles

    def hook_list() -> FleetHooks:
        return of_fleet(services.mirror.view)

    def show() -> model.HookRulesReply:
        return model.HookRulesReply(rules.signers(), rules.is_strict())

    def add_key(request: model.AddHookKey) -> model.HookRulesReply:
        rules.add_key(request.name, request.pem, caller.origin())
        return show()

    def remove_key(request: model.RemoveHookKey) -> model.HookRulesReply:
        rules.remove_key(request.name, caller.origin())
        return show()

    def set_strict(request: model.SetStrictHooks) -> model.HookRulesReply:
        rules.set_strict(caller.origin(), is_strict=request.is_strict)
        return show()

    def install(request: model.InstallBundle) -> model.HookOutcomes:
        return model.HookOutcomes(bundles.install(request.bundle, request.node_ids))

    def remove(request: model.RemoveBundle) -> model.HookOutcomes:
        return model.HookOutcomes(bundles.remove(request.name, request.node_ids))

    for verb, handler in (
        (verbs.HOOK_LIST, hook_list),
        (verbs.CENTER_HOOK_LIST, services.center_hooks.list),
        (verbs.HOOK_RULES, show),
        (verbs.HOOK_KEY_ADD, add_key),
        (verbs.HOOK_KEY_REMOVE, remove_key),
        (verbs.HOOK_STRICT, set_strict),
        (verbs.HOOK_INSTALL, install),
        (verbs.HOOK_REMOVE, remove),
    ):
        face.bind(routes, verb, handler)
    return routes


def of_fleet(view: View) -> FleetHooks:
    """Return all hooks by point and name, with the names of nodes."""
    nodes = view.nodes.values()
    heard = {node.name: node.facts.hooks for node in nodes if node.facts is not None}
    unheard = sorted(node.name for node in nodes if node.facts is None)
    return FleetHooks(hook_differences.compare(heard), tuple(unheard))
