"""Serve which hooks there are, and what they would do."""

import flask

from node.hooks.trying import Trials
from node.http import face
from node.model import hook_verbs as verbs
from node.model.hooks import HookList, HookTrial, TryHook


def blueprint(trials: Trials) -> flask.Blueprint:
    """Return the routes of hooks."""
    routes = flask.Blueprint("hooks", __name__)

    def show() -> HookList:
        return trials.list()

    def attempt(request: TryHook) -> HookTrial:
        return trials.attempt(request)

    face.bind(routes, verbs.HOOK_LIST, show)
    face.bind(routes, verbs.HOOK_TRY, attempt)
    return routes
