"""Serve the tasks: what people asked for, and what became of it."""

from typing import Final

import flask

from aggregator.dashboard import rows
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.routes import Route
from aggregator.dashboard.visits import Visit
from node.model.verbs import ActionGroup, Object

_TASKS_SHOWN = 100


def show(pages: Pages, visit: Visit) -> flask.Response:
    """Return the page of tasks, newest first."""
    moment = pages.moments.now()
    orders = pages.services.orders.list(maximum=_TASKS_SHOWN)
    return pages.show(
        visit,
        "tasks.html",
        moment,
        all_tasks=[
            rows.task_row(order, moment.view, pages.translate) for order in orders
        ],
    )


ROUTES: Final = (Route("GET", "/ui/tasks", show, ActionGroup.READ, Object.FLEET),)
