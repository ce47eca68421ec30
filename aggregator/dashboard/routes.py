"""Bind handlers to paths; each says which permission it needs on what.

A handler gets the pages, the visit (a public one does not) and the parts of its
path, and returns a page. What it raises becomes a page, or after a form a note
on the page that the form was on.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import flask

from aggregator.dashboard import visits
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.visits import LoginNeeded
from node.errors import Error, Invalid
from node.model.verbs import ActionGroup, Object

log = logging.getLogger(__name__)

Handler = Callable[..., flask.Response]
# What a path may name, that a permission is looked up on.
_OBJECTS: Final = (
    *("vm_id", "node_id", "disk_id", "storage_domain_id", "pool_id"),
    "template_id",
)
_DIGITS_MAX = 18  # more does not fit into an integer of the database
FORM_BYTES_MAX = 64 * 1024  # our longest form is a VM's, with its description


class FormTooLarge(Invalid):
    code = "form_too_large"
    remedy = "Shorten what you typed."


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler
    group: ActionGroup
    object: Object
    is_polled: bool = False  # by a script: no redirect to the login page
    form_max: int = FORM_BYTES_MAX


@dataclass(frozen=True, slots=True)
class PublicRoute:
    """What whoever comes may see: the login page, the style sheet."""

    method: str
    path: str
    handler: Handler


def bind(
    blueprint: flask.Blueprint, pages: Pages, routes: Iterable[Route | PublicRoute]
) -> None:
    """Add the routes to the blueprint."""
    for number, route in enumerate(routes):
        view = (
            _public(pages, route)
            if isinstance(route, PublicRoute)
            else _guarded(pages, route)
        )
        blueprint.add_url_rule(
            route.path, f"{number}", view, methods=[route.method], strict_slashes=False
        )


def _public(pages: Pages, route: PublicRoute) -> Handler:
    def answer(**path: str) -> flask.Response:
        try:
            return route.handler(pages, **path)
        except Error as error:
            return pages.show_error(None, error)

    return answer


def _guarded(pages: Pages, route: Route) -> Handler:
    access = pages.services.access

    def answer(**path: str) -> flask.Response:
        visit = None
        try:
            visit = visits.begin(access)
            object_id = next((path[each] for each in _OBJECTS if each in path), None)
            if route.method == "POST":
                _check_size(route.form_max)
                visits.check_form(visit)
            access.require(visit.identity, route.group, route.object, object_id)
            return route.handler(pages, visit, **path)
        except LoginNeeded as error:
            return _ask_for_login(route, error)
        except Error as error:
            log.info("%s %s: %s", route.method, flask.request.path, error)
            if route.method == "POST" and route.is_polled:
                return _tell(error)
            if route.method == "POST" and visit is not None:
                return _go_back(error)
            return pages.show_error(visit, error)

    return answer


def _check_size(form_max: int) -> None:
    if (flask.request.content_length or 0) > form_max:
        raise FormTooLarge("the form is too large")


def _ask_for_login(route: Route, error: LoginNeeded) -> flask.Response:
    if route.is_polled:
        return flask.make_response(str(error), error.status)
    wanted = flask.request.full_path.rstrip("?") if route.method == "GET" else "/"
    return redirect(
        "/ui/login" if wanted == "/" else f"/ui/login?next={_quote(wanted)}"
    )


def _quote(path: str) -> str:
    return path.replace("%", "%25").replace("&", "%26").replace("#", "%23")


def _tell(error: Error) -> flask.Response:
    """Tell a script of ours what went wrong."""
    response = answer_json(
        {"code": error.code, "error": str(error), "remedy": error.remedy}
    )
    response.status_code = error.status
    return response


def _go_back(error: Error) -> flask.Response:
    response = redirect(visits.local_path(flask.request.form.get("back"), "/"))
    visits.leave_note(response, visits.error_note(error))
    return response


def redirect(path: str) -> flask.Response:
    """Send the browser to another page of ours, by GET."""
    response = flask.make_response("", 303)
    response.headers["Location"] = path
    return response


def page_number() -> int:
    """Return the page asked for; the first if that is no number."""
    return number("page") or 1


def number(name: str) -> int | None:
    """Return a number asked for by name; None if it is none that is ever meant."""
    text = flask.request.args.get(name, "")
    is_meant = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
    return int(text) if is_meant else None


def query_text() -> str:
    """Return what is asked for by `q`."""
    return flask.request.args.get("q", "").strip()


def answer_json(body: object) -> flask.Response:
    """Return a reply to a script of ours."""
    return flask.jsonify(body)


def done(pages: Pages, path: str) -> flask.Response:
    """Send the browser on after a form that changed something."""
    pages.moments.forget()
    return redirect(visits.local_path(flask.request.form.get("back"), path))
