"""Give out tokens as oVirt's single sign-on does, and take them back.

Only what clients of the API use. Source: reference of oVirt's REST API,
section 1.2: errors are 400 with a JSON object that has the key `error`.
"""

import flask

from aggregator.rest import caller
from aggregator.services import Services
from node import clock
from node.errors import Error
from node.log import Secret

SCOPE = "ovirt-app-api"


def add_routes(routes: flask.Blueprint, services: Services) -> None:
    """Serve the token and the logout."""

    @routes.post("/ovirt-engine/sso/oauth/token")
    def token() -> flask.Response:
        values = flask.request.values
        if values.get("grant_type") != "password":
            return _error("unsupported_grant_type", "Only passwords are accepted.")
        if SCOPE not in values.get("scope", "").split():
            return _error("invalid_scope", f"The scope must be {SCOPE}.")
        user = values.get("username", "")
        if not user or "password" not in values:
            return _error("invalid_request", "username or password is missing.")
        try:
            session = services.access.login(
                user, Secret(values["password"]), caller.address()
            )
        except Error as error:
            return _error(
                "access_denied", f"Cannot authenticate user '{user}': {error}."
            )
        ends_at = clock.parse_rfc3339(session.expires_at)
        return flask.jsonify(
            {
                "access_token": session.token.reveal(),
                "scope": SCOPE,
                "exp": str(round(ends_at.timestamp() * 1000)),
                "token_type": "bearer",
            }
        )

    @routes.post("/ovirt-engine/services/sso-logout")
    def logout() -> flask.Response:
        text = flask.request.values.get("token", "")
        if text:
            services.access.logout(text)
        return flask.jsonify({})


def _error(code: str, message: str) -> flask.Response:
    reply = flask.jsonify({"error_code": code, "error": message})
    reply.status_code = 400
    return reply
