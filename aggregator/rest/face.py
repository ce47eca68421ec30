"""Serve the API: HTTP in, a route's handler, XML or JSON out.

One rule of Flask's takes all paths below /ovirt-engine/api; `routes` knows
them, for oVirt's paths have matrix parameters that Flask's rules do not.
"""

import functools
import itertools
import logging
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import flask
from werkzeug.exceptions import HTTPException

from aggregator import registering
from aggregator.control.orders import Origin
from aggregator.rest import (
    authentication,
    body,
    caller,
    faults,
    fleet,
    parameters,
    public,
    resource,
    routes,
    serialise,
    sso,
)
from aggregator.rest.authentication import COOKIE, Unauthenticated
from aggregator.rest.body import Body
from aggregator.rest.call import Call, Many, NoSuchObject, Reply
from aggregator.rest.element import Element
from aggregator.rest.parameters import Parameters
from aggregator.rest.resource import Context, Entity
from aggregator.rest.serialise import Form
from aggregator.services import Services
from node.errors import Error, Invalid
from node.model.verbs import Object
from node.units import KiB, MiB

log = logging.getLogger(__name__)

BASE: Final = "/ovirt-engine/api"
_BODY_MAX: Final = 2 * MiB  # as nginx has it
# What is put together before it is sent: a page of 100 VMs takes 360 KiB. A larger
# reply goes out in pieces.
_WHOLE_MAX: Final = 512 * KiB
_METHODS: Final = ("GET", "POST", "PUT", "DELETE")
_CHANGING: Final = frozenset({"POST", "PUT"})  # with a body
_VERSION: Final = re.compile(r"v(\d+)(?:/|$)")
_REALM: Final = 'Basic realm="RESTAPI"'


class WrongVersion(Invalid):
    code = "wrong_version"
    remedy = "Ask for version 4."


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes below /ovirt-engine."""
    face = flask.Blueprint("rest", __name__)
    sso.add_routes(face, services)
    public.add_routes(face, services)

    @face.route(BASE, methods=_METHODS, strict_slashes=False)
    @face.route(f"{BASE}/<path:path>", methods=_METHODS)
    def api(path: str = "") -> flask.Response:
        return _serve(services, path)

    @face.before_request
    def begin() -> None:
        flask.request.max_content_length = _BODY_MAX
        flask.g.correlation_id = parameters.correlation(
            flask.request.headers.get("Correlation-Id")
            or flask.request.args.get("correlation_id", ""),
            str(uuid.uuid4()),
        )

    @face.after_request
    def end(reply: flask.Response) -> flask.Response:
        reply.headers["Correlation-Id"] = flask.g.correlation_id
        return reply

    @face.errorhandler(Error)
    def refuse(error: Error) -> flask.Response:
        if isinstance(error, Unauthenticated):
            # No body: clients make of it what they make of oVirt's own.
            headers = {"WWW-Authenticate": _REALM}
            return flask.Response(b"", 401, headers, mimetype=_form().value)
        return _document(faults.fault_of(error), faults.status_of(error))

    @face.errorhandler(HTTPException)
    def reject(error: HTTPException) -> flask.Response:
        fault = faults.fault(faults.FAILED, error.description or error.name)
        return _document(fault, error.code or 500)

    @face.errorhandler(Exception)
    def fail(error: Exception) -> flask.Response:
        log.error("%s failed", flask.request.path, exc_info=error)
        text = "The aggregator has a bug; its log tells more."
        return _document(faults.fault(faults.FAILED, text), 500)

    return face


def _serve(services: Services, path: str) -> flask.Response:
    request = flask.request
    who = authentication.identify(request, services.access, caller.address())
    base, path = _versioned(path)
    plain, matrix = parameters.split_matrix(path)
    segments = tuple(filter(None, plain.split("/")))
    found = routes.match(segments)
    if found is None:
        raise NoSuchObject(f"there is nothing at /{plain}")
    method = "GET" if request.method == "HEAD" else request.method
    route = found.routes.get(method)
    if route is None:
        allowed = ", ".join(sorted(found.routes))
        fault = faults.fault(faults.FAILED, f"{method} is not possible there")
        return _document(fault, 405, {"Allow": allowed})
    object_id = None if route.object is Object.FLEET else found.object_ids[0]
    services.access.require(who.identity, route.group, route.object, object_id)
    asked = _parameters(matrix)
    sent = _body()
    call = Call(
        services,
        _context(services, base, asked),
        asked,
        who.identity,
        Origin(who.identity.user, caller.address(), flask.g.correlation_id),
        sent,
        is_async=_is_async(asked, sent),
    )
    done = route.run(call, found.object_ids)
    if method != "GET":
        # What was changed is shown as it is now.
        call = replace(call, context=_context(services, base, asked))
    reply = _reply(call, done)
    _keep_session(services, reply, who)
    return reply


def _versioned(path: str) -> tuple[str, str]:
    """Return what hrefs start with, and the path without a version."""
    if flask.request.headers.get("Version", "4").strip() != "4":
        raise WrongVersion("only version 4 of the API is served")
    match = _VERSION.match(path)
    if match is None:
        return BASE, path
    if match[1] != "4":
        raise WrongVersion("only version 4 of the API is served")
    return f"{BASE}/v4", path[match.end() :]


def _parameters(matrix: dict[str, str]) -> Parameters:
    """Return the parameters; the query wins over the path, the path over headers."""
    headers = flask.request.headers
    values = {}
    for name, header in (("filter", "Filter"), ("all_content", "All-Content")):
        if header in headers:
            values[name] = headers[header]
    values.update(matrix)
    values.update((key.lower(), value) for key, value in flask.request.args.items())
    return Parameters(values)


def _body() -> Body:
    if flask.request.method not in _CHANGING:
        return body.EMPTY
    form = Form.JSON if flask.request.is_json else Form.XML
    return body.read(flask.request.get_data(cache=False), form)


def _is_async(asked: Parameters, sent: Body) -> bool:
    expected = flask.request.headers.get("X-Ovirt-Expect", "")
    wanted = sent.boolean("async") or asked.flag("async")
    return bool(wanted) or expected.strip() == "202-accepted"


def _context(services: Services, base: str, asked: Parameters) -> Context:
    view = services.mirror.view
    documents = fleet.load(services.database)
    bare = Context(
        base,
        view,
        documents,
        lambda path: None,
        is_all_content=asked.flag("all_content"),
        is_unregistered=asked.flag("unregistered"),
        origin=f"https://{flask.request.host}",
        lying=functools.partial(registering.lying, services),
    )
    return replace(bare, resolve=routes.resolver(services, bare))


def _reply(call: Call, reply: Reply) -> flask.Response:
    follow = parameters.follow_tree(call.parameters.text("follow"))
    content = reply.content
    if isinstance(content, Many):
        return _collection(call, content, follow, reply)
    if isinstance(content, Entity):
        content = resource.render(_afterwards(call), content, follow)
    return _document(content, reply.status, dict(reply.headers))


def _afterwards(call: Call) -> Context:
    """Return a context with the fleet's documents as a change has left them."""
    if flask.request.method not in _CHANGING:
        return call.context
    return replace(call.context, fleet=fleet.load(call.services.database))


def _collection(
    call: Call, many: Many, follow: resource.Tree, reply: Reply
) -> flask.Response:
    form = _form()
    elements = (
        resource.render(call.context, entity, follow) for entity in many.entities
    )
    tags = many.resource.list_tag, many.resource.tag
    pieces = serialise.stream(*tags, elements, form)
    whole = b"".join(_at_first(pieces))
    rest: Iterable[bytes] = pieces
    following = next(iter(rest), None)
    if following is None:
        return flask.Response(whole, reply.status, mimetype=form.value)
    parts = itertools.chain((whole, following), pieces)
    return flask.Response(parts, reply.status, mimetype=form.value)


def _at_first(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield pieces up to the size that is sent whole; errors show before it."""
    size = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        if size > _WHOLE_MAX:
            return


def _document(
    content: Element, status: int, headers: dict[str, str] | None = None
) -> flask.Response:
    form = _form()
    data = serialise.document(content, form)
    return flask.Response(data, status, headers, mimetype=form.value)


def _form() -> Form:
    """Return the form that the client prefers: XML, unless it says JSON."""
    if flask.request.args.get("accept") == Form.JSON.value:
        return Form.JSON
    best = flask.request.accept_mimetypes.best_match(
        [Form.XML.value, Form.JSON.value], default=Form.XML.value
    )
    return Form(best)


def _keep_session(
    services: Services, reply: flask.Response, who: authentication.Caller
) -> None:
    if who.ended is not None:
        services.access.logout(who.ended)
        reply.delete_cookie(COOKIE, path=BASE)
    if who.opened is not None:
        is_secure = flask.request.headers.get("X-Forwarded-Proto") == "https"
        reply.set_cookie(
            COOKIE,
            who.opened,
            path=BASE,
            secure=is_secure,
            httponly=True,
            samesite="Strict",
        )
