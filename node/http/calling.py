"""Call verbs of a table through a transport, typed both ways.

A refusal comes back as the error that was raised there. Every call has a deadline.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import quote, urlencode

from node import wire
from node.errors import Error, Invalid, revive
from node.http.transport import (
    BadReply,
    Reply,
    Transport,
)
from node.model.job import ErrorReport
from node.model.verbs import Verb

T = TypeVar("T")

DEADLINE_S = 10.0  # a verb only records and answers; what lasts is a job
LOOK_WAIT_S = 20.0  # on top, for a storage that may have to be mounted first
CHECK_WAIT_S = 40.0  # on top, for thousands of disks; proxies wait a minute in all


def _no_headers() -> Mapping[str, str]:
    return {}


class VerbClient:
    """Call verbs of a table through a transport."""

    def __init__(
        self,
        transport: Transport,
        headers: Callable[[], Mapping[str, str]] = _no_headers,
    ) -> None:
        self._transport = transport
        self._headers = headers

    def call(
        self,
        verb: Verb,
        kind: type[T],
        request: object = None,
        *,
        query: Mapping[str, object] | None = None,
        wait_s: float = 0.0,
        **path: str,
    ) -> T:
        """Return the reply of a verb as its dataclass; raise what it refused with."""
        reply = self.send(verb, request, query=query, wait_s=wait_s, **path)
        try:
            return wire.decode(kind, reply.body, strict=False)
        except Invalid as error:
            raise BadReply(
                f"{verb.name} was answered with nonsense: {error}"
            ) from error

    def send(
        self,
        verb: Verb,
        request: object = None,
        *,
        query: Mapping[str, object] | None = None,
        wait_s: float = 0.0,
        **path: str,
    ) -> Reply:
        """Return the whole reply of a verb."""
        target = verb.path.format_map(
            {name: quote(value, safe="") for name, value in path.items()}
        )
        if query:
            target += "?" + urlencode(query)
        headers = dict(self._headers())
        body = None
        if request is not None:
            body = wire.encode(request)
            headers["Content-Type"] = "application/json"
        reply = self._transport.exchange(
            verb.method, target, body, headers, DEADLINE_S + wait_s
        )
        if reply.status >= 400:
            raise error_of(reply)
        if reply.media_type != verb.media_type:
            raise BadReply(f"{verb.name} was answered with {reply.media_type!r}")
        return reply


def error_of(reply: Reply) -> Error:
    """Return the error that a reply carries."""
    try:
        report = wire.from_json(
            ErrorReport, wire.parse(reply.body)["error"], strict=False
        )
    except (KeyError, TypeError, IndexError, Invalid):
        return BadReply(f"HTTP {reply.status} without an error of ours")
    fields = {
        name: value
        for name, value in report.fields.items()
        if name not in ("self", "kind", "code", "message", "remedy")
    }
    return revive(report.kind, report.code, report.message, report.remedy, **fields)
