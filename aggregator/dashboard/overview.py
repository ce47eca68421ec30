"""Serve the first page: how the fleet is; and what stands where no page is."""

from typing import Final

import flask

from aggregator.dashboard import routes as routing
from aggregator.dashboard import rows, storage_rows
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.routes import Route
from aggregator.dashboard.visits import Visit
from node.errors import NotFound
from node.model.verbs import ActionGroup, Object

_ALARMS_SHOWN = 12
_EVENTS_SHOWN = 12


class NoSuchPage(NotFound):
    code = "no_such_page"
    remedy = "Start from the overview, or search by name."


def show(pages: Pages, visit: Visit) -> flask.Response:
    """Return the first page."""
    moment = pages.moments.now()
    events = pages.services.events.list(maximum=_EVENTS_SHOWN)
    return pages.show(
        visit,
        "overview.html",
        moment,
        capacity=rows.capacity(moment.view.nodes.values()),
        shared_space=storage_rows.shared_space(moment.view),
        alarms=[
            rows.alarm_row(alarm, pages.translate)
            for alarm in moment.alarms[:_ALARMS_SHOWN]
        ],
        candidates=[
            rows.candidate_row(each, pages.translate) for each in moment.candidates
        ],
        events=[rows.event_row(each, pages.translate) for each in events],
    )


def tell_changes(pages: Pages, _visit: Visit) -> flask.Response:
    """Tell an open page whether there is another moment than its own."""
    since = flask.request.args.get("since", "")
    wait_s = flask.request.args.get("wait_s", 0.0, type=float)
    moment, has_waited = pages.moments.wait(since, wait_s)
    return routing.answer_json({"moment": moment.token, "has_waited": has_waited})


def show_none(pages: Pages, visit: Visit, path: str) -> flask.Response:
    """Say that an address leads nowhere, among the pages that there are."""
    raise NoSuchPage(f"there is no page /{path}")


_SEE: Final = (ActionGroup.READ, Object.FLEET)
ROUTES: Final = (
    Route("GET", "/", show, *_SEE),
    Route("GET", "/ui", show, *_SEE),
    Route("GET", "/ui/changes", tell_changes, *_SEE, is_polled=True),
    Route("GET", "/<path:path>", show_none, *_SEE),
)
