"""Serve the login page, logout, and what a browser needs before a login."""

from typing import Final

import flask

from aggregator.dashboard import assets, visits
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.routes import PublicRoute, Route, redirect
from aggregator.dashboard.visits import Visit
from node.errors import Error
from node.log import Secret
from node.model.verbs import ActionGroup, Object


def show_form(pages: Pages) -> flask.Response:
    """Return the login page; `next` says where it leads."""
    return _draw(pages, wanted=visits.local_path(flask.request.args.get("next"), "/"))


def log_in(pages: Pages) -> flask.Response:
    """Open a session, or return the login page again with what is wrong."""
    fields = flask.request.form
    wanted = visits.local_path(fields.get("next"), "/")
    user = fields.get("user", "").strip()
    if user and "@" not in user:
        user += "@internal"
    try:
        visits.check_login_form()
        session = pages.services.access.login(
            user, Secret(fields.get("password", "")), visits.address()
        )
    except Error as error:
        return _draw(pages, wanted=wanted, user=user, error=error)
    response = redirect(wanted)
    visits.open_session(response, session.token.reveal())
    return response


def log_out(pages: Pages, _visit: Visit) -> flask.Response:
    """End the session."""
    pages.services.access.logout(visits.session_token())
    response = redirect("/ui/login")
    visits.close_session(response)
    return response


def send_file(_pages: Pages, name: str = "logo.svg") -> flask.Response:
    """Return a file of the pages; browsers ask for the logo by themselves."""
    return assets.send(name)


def _draw(
    pages: Pages, *, wanted: str, user: str = "", error: Error | None = None
) -> flask.Response:
    word = visits.login_word()
    response = pages.show_bare(
        "login.html",
        status=error.status if error else 200,
        csrf=word,
        wanted=wanted,
        user=user,
        error=error,
        fleet_name=pages.services.config.name,
    )
    visits.serve_login_word(response, word)
    return response


ROUTES: Final[tuple[Route | PublicRoute, ...]] = (
    PublicRoute("GET", "/ui/login", show_form),
    PublicRoute("POST", "/ui/login", log_in),
    PublicRoute("GET", "/static/<path:name>", send_file),
    PublicRoute("GET", "/favicon.ico", send_file),
    Route("POST", "/ui/logout", log_out, ActionGroup.READ, Object.FLEET),
)
