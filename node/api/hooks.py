"""Serve which hooks there are, and what they would do."""

import flask

from node.hooks.installing import Bundles
from node.hooks.trying import Trials
from node.http import face
from node.model import hook_verbs as verbs
from node.model.hooks import (
    HookBundle,
    HookBundles,
    HookList,
    HookTrial,
    InstallHooks,
    ReceiveHooks,
    RemoveHooks,
    TryHook,
)


def blueprint(trials: Trials, bundles: Bundles) -> flask.Blueprint:
    """Return the routes of hooks."""
    routes = flask.Blueprint("hooks", __name__)

    def show() -> HookList:
        return trials.list()

    def attempt(request: TryHook) -> HookTrial:
        return trials.attempt(request)

    def show_bundles() -> HookBundles:
        return HookBundles(bundles.list())

    def install(request: InstallHooks) -> HookBundle:
        return bundles.install(
            request.bundle, request.keys, is_unsigned=request.is_unsigned
        )

    def receive(request: ReceiveHooks) -> HookBundle:
        return bundles.install(request.bundle)

    def remove(request: RemoveHooks) -> HookBundles:
        bundles.remove(request.name)
        return show_bundles()

    face.bind(routes, verbs.HOOK_BUNDLES, show_bundles)
    face.bind(routes, verbs.HOOK_INSTALL, install)
    face.bind(routes, verbs.HOOK_RECEIVE, receive)
    face.bind(routes, verbs.HOOK_REMOVE, remove)
    face.bind(routes, verbs.HOOK_LIST, show)
    face.bind(routes, verbs.HOOK_TRY, attempt)
    return routes
