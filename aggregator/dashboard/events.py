"""Serve the events of the fleet, newest first."""

from typing import Final

import flask

from aggregator.dashboard import routes as routing
from aggregator.dashboard import rows
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.routes import Route
from aggregator.dashboard.visits import Visit
from node.model.ids import NodeId, VmId
from node.model.verbs import ActionGroup, Object

_PAGE_EVENTS = 100


def show(pages: Pages, visit: Visit) -> flask.Response:
    """Return the page of events; `before` turns it back in time."""
    arguments = flask.request.args
    before = routing.number("before")
    node_id, vm_id = arguments.get("node_id"), arguments.get("vm_id")
    # one more than shown: whether there are older ones
    found = pages.services.events.list(
        before=before,
        maximum=_PAGE_EVENTS + 1,
        node_id=NodeId(node_id) if node_id else None,
        vm_id=VmId(vm_id) if vm_id else None,
    )
    shown = [rows.event_row(each, pages.translate) for each in found[:_PAGE_EVENTS]]
    return pages.show(
        visit,
        "events.html",
        events=shown,
        before=before,
        older=shown[-1].seq if len(found) > _PAGE_EVENTS else None,
        node_id=node_id,
        vm_id=vm_id,
    )


ROUTES: Final = (Route("GET", "/ui/events", show, ActionGroup.READ, Object.FLEET),)
