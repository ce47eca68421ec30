"""Tell from where a request came."""

import flask


def address() -> str:
    """Return the address that nginx saw."""
    return flask.request.headers.get("X-Real-IP", "local")
