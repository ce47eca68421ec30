"""Draw a page: its template, and what stands around every page.

The templates know gettext, as all faces do: see `node.translate`.
"""

import functools
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import flask
import jinja2

from aggregator.control.orders import Order
from aggregator.dashboard import assets, figures, rows, visits
from aggregator.dashboard.looks import Looks
from aggregator.dashboard.moments import Moment, Moments
from aggregator.dashboard.visits import Visit
from aggregator.services import Services
from node import clock, translate
from node.errors import Error
from node.model.job import ENDED, JobState

# Sent by the script when it only refreshes what the page shows.
LIVE_HEADER = "X-Skerry-Live"
_TASKS_SHOWN = 8
_TITLES = {
    400: "That cannot be done",
    401: "Log in",
    403: "Not allowed",
    404: "Not found",
    409: "Not now",
    423: "Busy",
    501: "Not possible here",
    503: "Not available",
}


class Pages:
    """The room that all handlers work in: services, the moment, the templates."""

    def __init__(self, services: Services, moments: Moments) -> None:
        self.services = services
        self.moments = moments
        self.looks = Looks()
        self.translate = translate.catalogue().gettext

    def now(self) -> datetime:
        return self.services.clock.now()

    def show(
        self,
        visit: Visit,
        template: str,
        moment: Moment | None = None,
        *,
        status: int = 200,
        **context: object,
    ) -> flask.Response:
        """Return a page with the head, the navigation and the tasks around it."""
        moment = moment or self.moments.now()
        is_live = LIVE_HEADER in flask.request.headers
        tasks = [
            rows.task_row(order, moment.view, self.translate)
            for order in moment.orders[:_TASKS_SHOWN]
        ]
        response = flask.make_response(
            self._draw(
                template,
                visit=visit,
                moment=moment,
                note=None if is_live else visits.read_note(),
                tasks=tasks,
                tasks_running=sum(each.state not in ENDED for each in moment.orders),
                tasks_failed=sum(
                    each.state is JobState.FAILED for each in moment.orders
                ),
                fleet_name=self.services.config.name,
                here=flask.request.full_path.rstrip("?"),
                path=flask.request.path,
                back=visits.local_path(flask.request.args.get("back"), ""),
                **context,
            ),
            status,
        )
        response.headers["X-Skerry-Moment"] = moment.token
        if not is_live:
            visits.drop_note(response)
        return response

    def show_coming(
        self,
        visit: Visit,
        moment: Moment,
        list_page: str,
        list_title: str,
        orders: Sequence[Order],
    ) -> flask.Response:
        """Return the page of something that orders, newest first, are about to make."""
        return self.show(
            visit,
            "coming.html",
            moment,
            name=orders[0].name,
            list_page=list_page,
            list_title=list_title,
            jobs=[rows.task_row(each, moment.view, self.translate) for each in orders],
        )

    def show_bare(
        self, template: str, *, status: int = 200, **context: object
    ) -> flask.Response:
        """Return a page for whoever is not logged in."""
        return flask.make_response(self._draw(template, **context), status)

    def show_error(self, visit: Visit | None, error: Error) -> flask.Response:
        """Return a page that says what went wrong and what to do."""
        title = self.translate(_TITLES.get(error.status, "That did not work"))
        if visit is None:
            return self.show_bare(
                "error_bare.html", status=error.status, title=title, error=error
            )
        return self.show(
            visit, "error.html", status=error.status, title=title, error=error
        )

    def _draw(self, template: str, **context: object) -> str:
        now = self.now()

        def age(moment: str) -> str:
            return figures.age(moment, now)

        return (
            _templates()
            .get_template(template)
            .render(age=age, now=clock.rfc3339(now), **context)
        )


@functools.cache
def _templates() -> jinja2.Environment:
    """Return the templates: compiled once for the whole process."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aggregator.dashboard"),
        autoescape=True,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.i18n"],
    )
    environment.globals["asset"] = assets.address
    environment.globals["figures"] = figures
    environment.filters["translated"] = _translated
    # what the extension adds to the environment is not in its type
    install: Any = vars(environment)["install_gettext_translations"]
    install(translate.catalogue(), newstyle=True)
    return environment


def _translated(text: str) -> str:
    """Return a text that may be a person's own: `_` would not escape it."""
    return translate.catalogue().gettext(text) if text else text
