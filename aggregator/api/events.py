"""Serve what happened."""

import flask

from aggregator.api import verbs
from aggregator.api.model import EventLine, EventLines
from aggregator.federation.events import LoggedEvent
from aggregator.services import Services
from node import translate
from node.http import face
from node.model import messages

EVENTS_MAX = 1000


def blueprint(services: Services) -> flask.Blueprint:
    """Return /v1/events."""
    routes = flask.Blueprint("events", __name__)

    def event_list(
        since: int | None = None,
        wait_s: float = 0.0,
        max: int = 100,  # the parameter's name on the wire
    ) -> EventLines:
        if wait_s and since is not None:
            services.events.wait(since, wait_s)
        found = services.events.list(after=since, maximum=min(max, EVENTS_MAX))
        return EventLines(tuple(map(line, found)))

    face.bind(routes, verbs.EVENT_LIST, event_list)
    return routes


def line(event: LoggedEvent) -> EventLine:
    """Return an event with its text."""
    return EventLine(
        event.seq,
        event.at,
        event.code,
        messages.severity(event.code).value,
        translate.text(event.code, event.fields),
        dict(event.fields),
        event.node_id,
        event.vm_id,
        event.user,
        event.correlation_id,
    )
