"""Serve what changed and what happened, to whoever polls."""

import flask

from node.http import face
from node.model import verbs
from node.model.requests import Changes, EventList
from node.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Return /v1/changes and /v1/events."""
    routes = flask.Blueprint("changes", __name__)

    def changes(since: int = 0, wait_s: float = 0.0) -> Changes:
        if wait_s:
            store.wait(since, wait_s)
        return store.changes(since)

    def events(since: int = 0, wait_s: float = 0.0) -> EventList:
        if wait_s:
            store.wait_events(since, wait_s)
        return store.events(since)

    face.bind(routes, verbs.CHANGES, changes)
    face.bind(routes, verbs.EVENTS, events)
    return routes
