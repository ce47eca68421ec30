"""Serve the feed's endpoint: nodes push their deltas here.

Who speaks is what nginx read from the certificate, never the body. Most of what an
aggregator is asked are pushes, several hundred a second: they are answered here
without Flask, which took a third of their time. All else goes on to the application
behind.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from aggregator.federation.mirror import Mirror, NotAMember
from node import wire
from node.errors import Denied, Error, Invalid
from node.http import face
from node.http.face import Answer
from node.http.serving import Application
from node.model.feed import Delta, FleetMark
from node.model.fleet import Role
from node.model.ids import NodeId
from node.units import MiB

PATH: Final = "/v1/feed/delta"
# Parts are at most 1 MiB of documents; statistics and events ride along.
BODY_BYTES_MAX: Final = 2 * MiB

# How a push begins that tells everything: a node writes its fields in this order.
_EVERYTHING: Final = re.compile(rb'\{"epoch":"[^"\\]*","from":0,')
_JSON: Final = (("Content-Type", "application/json"),)
# What nginx says of the certificate, and how WSGI spells it.
ROLE: Final = "X-Skerry-Role"
SUBJECT: Final = "X-Skerry-Subject"
_ROLE: Final = "HTTP_X_SKERRY_ROLE"
_SUBJECT: Final = "HTTP_X_SKERRY_SUBJECT"


class NodesOnly(Denied):
    code = "nodes_only"
    remedy = "Call with a certificate of this fleet and of the role node."


class PushTooLarge(Invalid):
    """It is larger than any node sends."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "push_too_large"
    remedy = f"Send it in parts of at most {BODY_BYTES_MAX} bytes."


class Ingest:
    """POST /v1/feed/delta."""

    def __init__(
        self,
        mirror: Mirror,
        is_member: Callable[[NodeId], bool],
        mark: Callable[[], FleetMark | None],
    ) -> None:
        """`mark` says which sealed copy of the fleet's documents is the newest."""
        self._mirror = mirror
        self._is_member = is_member
        self._mark = mark

    def before(self, others: Application) -> Application:
        """Return an application that takes pushes, and passes on all else."""

        def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            if (environ["PATH_INFO"], environ["REQUEST_METHOD"]) != (PATH, "POST"):
                return others(environ, start_response)
            answer = self._answer(environ)
            start_response(
                f"{answer.status} {HTTPStatus(answer.status).phrase}",
                [*answer.headers, ("Content-Length", str(len(answer.body)))],
            )
            return (answer.body,)

        return serve

    def _answer(self, environ: Mapping[str, Any]) -> Answer:
        try:
            return Answer(HTTPStatus.OK, _JSON, self._take(environ))
        except Error as error:
            return face.answer_of(error, PATH)
        except Exception as error:  # noqa: BLE001 - a bug: logged, and told as one
            return face.answer_of_bug(error, "POST", PATH)

    def _take(self, environ: Mapping[str, Any]) -> bytes:
        """Apply a push and return the reply."""
        node_id = _caller(environ)
        if not self._is_member(node_id):
            raise NotAMember(f"{node_id} is not a member", node_id=node_id)
        # The server has read the whole body, and knows its length.
        size_bytes = int(environ.get("CONTENT_LENGTH") or 0)
        if size_bytes > BODY_BYTES_MAX:
            raise PushTooLarge(f"a push of {size_bytes} bytes")
        body: bytes = environ["wsgi.input"].read(size_bytes)
        if _EVERYTHING.match(body):
            self._mirror.make_room(node_id)
        reply = self._mirror.push(node_id, wire.decode(Delta, body, strict=False))
        return wire.encode(replace(reply, fleet=self._mark()))


def _caller(environ: Mapping[str, Any]) -> NodeId:
    subject = environ.get(_SUBJECT, "")
    if environ.get(_ROLE) != Role.NODE or not subject:
        raise NodesOnly("only nodes push to the feed")
    return NodeId(subject)
