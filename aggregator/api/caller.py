"""Know who calls: the token of a request, its user, and its correlation id."""

import re
import uuid
from collections.abc import Mapping

import flask

from aggregator.access import Access
from aggregator.control.orders import Origin
from node.errors import Denied
from node.model.ids import CorrelationId
from node.model.verbs import Caller, Verb

_NOT_ALLOWED = re.compile(r"[^0-9a-zA-Z_-]")
_SCHEME = "Bearer "
# What a path names, and a permission may be on.
_OBJECTS = (
    *("vm_id", "node_id", "disk_id", "storage_domain_id", "pool_id"),
    "template_id",
)


class TokenRefused(Denied):
    """There is no valid token in the request."""

    status = 401
    code = "token_refused"
    remedy = "Log in again: skerry login."


def authorize(access: Access, verb: Verb, path: Mapping[str, str]) -> None:
    """Let a request through if its user may do this to that object."""
    if Caller.ANYONE in verb.callers:
        return
    header = flask.request.headers.get("Authorization", "")
    token = header.removeprefix(_SCHEME) if header.startswith(_SCHEME) else ""
    identity = access.identify(token) if token else None
    if identity is None:
        raise TokenRefused("the token is missing, unknown or expired")
    object_id = next((path[name] for name in _OBJECTS if name in path), None)
    access.require(identity, verb.group, verb.object, object_id)
    flask.g.user = identity.user


def origin() -> Origin:
    """Return who asked, from where, under which correlation id."""
    given = flask.request.headers.get("X-Correlation-Id", "")
    correlation = _NOT_ALLOWED.sub("", given)[:36] or str(uuid.uuid4())
    return Origin(flask.g.user, address(), CorrelationId(correlation))


def address() -> str:
    """Return the address that nginx saw."""
    return flask.request.headers.get("X-Real-IP", "local")
