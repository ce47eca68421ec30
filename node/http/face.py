"""Bind typed verbs to Flask: parse, call one function, render.

Both the node's and the aggregator's APIs are made of this. A handler gets the
request's dataclass (if its verb has one) and the path's and query's values by
name; it returns the reply's dataclass, or bytes. Errors become HTTP here only.
"""

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any, Final

import flask
import werkzeug.exceptions
import werkzeug.routing
from werkzeug.datastructures import MultiDict

from node import wire
from node.errors import Busy, Error, Invalid
from node.model.job import ErrorReport
from node.model.verbs import Query, Verb

log = logging.getLogger(__name__)

Handler = Callable[..., object]
Authorize = Callable[[Verb, Mapping[str, str]], None]

BODY_BYTES_MAX: Final = 1024 * 1024  # a VM's definition takes some kilobytes
WAIT_S_MAX: Final = 20.0  # proxies give up after 30 s and more
WAITERS: Final = 3  # of the eight threads that a face has
SLOW: Final = 3  # likewise: two remain for what is answered from memory
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CORRELATION = re.compile(r"[^0-9a-zA-Z_-]")
_CORRELATION_ID = re.compile(r"[0-9a-zA-Z_-]{1,36}")
_PARAMETER = re.compile(r"\{(\w+)\}")


class MalformedId(Invalid):
    code = "malformed_id"
    remedy = (
        "Ids are lower-case UUIDs, such as 6f1c…-…; "
        "correlation ids are up to 36 letters, digits, - and _."
    )


class NotJson(Invalid):
    """The body says that it is something else."""

    code = "not_json"
    remedy = "Send JSON, with Content-Type: application/json."


class TooManySlow(Busy):
    """Others wait for an answer of the same sort, perhaps for one that hangs."""

    code = "too_many_slow"
    remedy = "Try again in a moment."


class BadQuery(Invalid):
    code = "bad_query"
    remedy = "Correct or remove the parameter."


class LateRule(werkzeug.routing.Rule):
    """A route that compiles what builds its URLs when that is first asked for.

    Werkzeug does it with each route, twice: half of the time that an application takes
    to be made, and nobody asks for the URLs of an API.
    """

    def _compile_builder(
        self, append_unknown: bool = True
    ) -> Callable[..., tuple[str, str]]:
        compiled: Callable[..., tuple[str, str]] | None = None
        compile_now = super()._compile_builder

        def build(rule: LateRule, /, **values: Any) -> tuple[str, str]:
            nonlocal compiled
            if compiled is None:
                compiled = compile_now(append_unknown)
            return compiled(rule, **values)

        return build


class Application(flask.Flask):
    """An application without static files."""

    url_rule_class = LateRule

    def __init__(self, name: str) -> None:
        super().__init__(name, static_folder=None)


def bind(blueprint: flask.Blueprint, verb: Verb, handler: Handler) -> None:
    """Serve a verb by a handler."""

    def view(**path: str) -> flask.Response:
        _check_ids(path)
        query = _query(verb, flask.request.args)
        arguments = () if verb.request is None else (_body(verb.request),)
        with _slot(verb), _waiting(query) as allowed:
            return _render(verb, handler(*arguments, **path, **allowed))

    view.verb = verb  # type: ignore[attr-defined]  # read back by verb_of
    blueprint.add_url_rule(
        _PARAMETER.sub(r"<\1>", verb.path),
        endpoint=verb.name,
        view_func=view,
        methods=[verb.method],
    )


def verb_of(app: flask.Flask, endpoint: str | None) -> Verb | None:
    """Return the verb behind an endpoint; None if it is not one of ours."""
    view = app.view_functions.get(endpoint or "")
    verb: Verb | None = getattr(view, "verb", None)
    return verb


def create_app(
    name: str, blueprints: tuple[flask.Blueprint, ...], authorize: Authorize
) -> flask.Flask:
    """Return the application of one face; `authorize` raises Denied or Conflict."""
    app = Application(name)
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
    app.extensions["skerry_waiters"] = threading.BoundedSemaphore(WAITERS)
    app.extensions["skerry_slow"] = threading.BoundedSemaphore(SLOW)
    for blueprint in blueprints:
        app.register_blueprint(blueprint)

    @app.before_request
    def check() -> None:
        verb = verb_of(app, flask.request.endpoint)
        if verb is not None:
            authorize(verb, flask.request.view_args or {})

    @app.after_request
    def echo(response: flask.Response) -> flask.Response:
        given = flask.request.headers.get("X-Correlation-Id", "")
        if given:
            response.headers["X-Correlation-Id"] = _CORRELATION.sub("", given)[:36]
        return response

    app.register_error_handler(Error, _answer_error)
    app.register_error_handler(werkzeug.exceptions.HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_bug)
    return app


def report_of(error: Error) -> ErrorReport:
    """Return an error as data."""
    return ErrorReport(
        error.kind, error.code, str(error), error.remedy, dict(error.fields)
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What HTTP carries of an error."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def answer_of(error: Error, path: str) -> Answer:
    """Return an error as HTTP, and log what is our fault; `path` was asked for."""
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s failed: %s", path, error)
    headers = [("Content-Type", "application/json")]
    delay = error.fields.get("retry_after_s")
    if isinstance(delay, int | float):  # it may be a peer's word
        headers.append(("Retry-After", str(delay)))
    body = wire.encode({"error": wire.to_json(report_of(error))})
    return Answer(error.status, tuple(headers), body)


def answer_of_bug(error: Exception, method: str, path: str) -> Answer:
    """Return what HTTP carries of a bug, and log its traceback."""
    log.error("%s %s", method, path, exc_info=error)
    report = ErrorReport(
        "failed",
        "internal_error",
        "This is a bug: the log has the details.",
        "Report it with the log's traceback.",
    )
    return Answer(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        (("Content-Type", "application/json"),),
        wire.encode({"error": wire.to_json(report)}),
    )


def _answer_error(error: Error) -> flask.Response:
    return _response(answer_of(error, flask.request.path))


def _answer_http(
    error: werkzeug.exceptions.HTTPException,
) -> flask.Response:
    status = error.code or HTTPStatus.BAD_REQUEST
    kind = "not_found" if status == HTTPStatus.NOT_FOUND else "invalid"
    report = ErrorReport(
        kind,
        error.name.lower().replace(" ", "_"),
        f"{flask.request.method} {flask.request.path}: {error.name}",
        "See /v1/openapi.json for what there is.",
    )
    response = _json({"error": wire.to_json(report)}, status)
    if isinstance(error, werkzeug.exceptions.MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(error.valid_methods)
    return response


def _answer_bug(error: Exception) -> flask.Response:
    request = flask.request
    return _response(answer_of_bug(error, request.method, request.path))


def _response(answer: Answer) -> flask.Response:
    return flask.Response(answer.body, answer.status, answer.headers)


def _json(value: wire.Json, status: int) -> flask.Response:
    return flask.Response(
        wire.encode(value), status=status, content_type="application/json"
    )


def _render(verb: Verb, reply: object) -> flask.Response:
    body = reply if isinstance(reply, bytes) else wire.encode(reply)
    content_type = verb.media_type
    if content_type.startswith("text/"):
        content_type += "; charset=utf-8"
    return flask.Response(body, status=verb.status, content_type=content_type)


def _check_ids(given: Mapping[str, str]) -> None:
    for name, value in given.items():
        form = _CORRELATION_ID if name == "correlation_id" else _UUID
        if name.endswith("_id") and not form.fullmatch(value):
            raise MalformedId(f"{name} is not an id: {value[:60]!r}", field=name)


def _body(kind: type[Any]) -> object:
    body = flask.request.get_data(cache=False)
    if body and flask.request.mimetype not in ("", "application/json"):
        raise NotJson(f"the body is {flask.request.mimetype[:60]!r}")
    request = wire.decode(kind, body or b"{}")
    # A plain str is no id of ours, whatever its name.
    typed = [each.name for each in fields(request) if each.type is not str]
    given = {name: getattr(request, name) for name in typed}
    _check_ids({name: each for name, each in given.items() if isinstance(each, str)})
    return request


def _query(verb: Verb, given: MultiDict[str, str]) -> dict[str, Any]:
    known = {query.name: query for query in verb.query}
    for name in given:
        if name not in known:
            raise BadQuery(f"there is no parameter {name[:60]!r}", field=name[:60])
        if len(given.getlist(name)) > 1:
            raise BadQuery(f"{name} is given twice", field=name)
    return {name: _parameter(known[name], text) for name, text in given.items()}


def _parameter(query: Query, text: str) -> Any:
    try:
        value = query.kind(text)
    except ValueError as error:
        raise BadQuery(
            f"{query.name} must be {query.kind.__name__}, not {text[:60]!r}",
            field=query.name,
        ) from error
    if isinstance(value, str):
        return value
    if not 0 <= value < 2**63:  # nor is what is no number
        raise BadQuery(f"{query.name} is out of range", field=query.name)
    return value


@contextlib.contextmanager
def _slot(verb: Verb) -> Iterator[None]:
    """Let few requests at a time ask what may hang; the others are sent away."""
    slots: threading.BoundedSemaphore = flask.current_app.extensions["skerry_slow"]
    if not verb.is_slow:
        yield
    elif slots.acquire(blocking=False):
        try:
            yield
        finally:
            slots.release()
    else:
        raise TooManySlow(f"{SLOW} others wait for this already", retry_after_s=1)


@contextlib.contextmanager
def _waiting(query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Let few requests wait at a time; the others are answered at once."""
    slots: threading.BoundedSemaphore = flask.current_app.extensions["skerry_waiters"]
    wait_s = query.get("wait_s", 0.0)
    if not wait_s:
        yield query
    elif slots.acquire(blocking=False):
        try:
            yield {**query, "wait_s": min(wait_s, WAIT_S_MAX)}
        finally:
            slots.release()
    else:
        yield {**query, "wait_s": 0.0}
