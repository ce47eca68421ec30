"""Answer clients that move images: oVirt's imageio protocol.

    OPTIONS /images/{ticket}              what this ticket may do; * what any may
    GET     /images/{ticket}              bytes, with Range
    PUT     /images/{ticket}              bytes, with Content-Range; ?flush=y|n
    PATCH   /images/{ticket}              {"op": "zero" | "flush"}
    GET     /images/{ticket}/extents      ?context=zero|dirty
    GET     /images/{ticket}/checksum     ?algorithm= &block_size=
    GET     /images/{ticket}/checksum/algorithms

Errors are one line of text. Source: docs/formats/transfers.md.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib import parse as urls

from node import wire
from node.errors import Conflict, Error, Invalid, NotFound
from node.transfer import checksum, copying, extents, http_head
from node.transfer.checksum import ALGORITHMS, BLOCK_BYTES, BLOCK_STEP
from node.transfer.connection import Answer, BodyCutShort, Exchange, json_answer
from node.transfer.extents import Extent
from node.transfer.http_head import Head, LengthMissing
from node.transfer.nbd import Nbd
from node.transfer.stream import PeerGone, PeerSilent
from node.transfer.tickets import Op, Ticket, Tickets

log = logging.getLogger(__name__)

_READ_FEATURES: Final = ("checksum", "extents")
_WRITE_FEATURES: Final = (*_READ_FEATURES, "flush", "zero")
_PATH: Final = re.compile(r"/images/([^/]+)(/extents|/checksum|/checksum/algorithms)?")
_READS: Final = "OPTIONS,GET"
_METHODS: Final = "OPTIONS,GET,PUT,PATCH"
_CORS_S: Final = 24 * 60 * 60  # how long a browser need not ask again


class PathUnknown(NotFound):
    code = "path_unknown"
    remedy = "Use the address that the transfer was given: /images/{ticket}."


class MethodUnknown(Invalid):
    status = 405
    code = "method_unknown"
    remedy = "OPTIONS tells which methods there are."


class QueryWrong(Invalid):
    code = "query_wrong"
    remedy = "Correct the parameter that the message names."


class PatchWrong(Invalid):
    code = "patch_wrong"
    remedy = 'Send {"op": "zero", "offset": …, "size": …} or {"op": "flush"}.'


class RangeOutside(Invalid):
    """A range beyond what the ticket or the image has."""

    status = 416
    code = "range_outside"
    remedy = "Stay below the size that Content-Range names."


class NoDirtyExtents(NotFound):
    code = "no_dirty_extents"
    remedy = "Ask for context=zero: this is no incremental backup."


class ImageSmaller(Conflict):
    """The image is smaller than its ticket."""

    code = "image_smaller"
    remedy = "Begin another transfer."


class Images:
    """The face on the socket that nginx and local clients use."""

    def __init__(self, tickets: Tickets, unix_socket: str) -> None:
        """Know where this face listens; clients of the same host ask."""
        self._tickets = tickets
        self._unix_socket = unix_socket

    def answer(self, exchange: Exchange) -> Answer | None:
        """Do what a client asks."""
        head = exchange.head
        found = _PATH.fullmatch(head.path)
        if found is None:
            raise PathUnknown("there is nothing at this path")
        ticket_id, part = found[1], found[2] or ""
        answers = {
            ("OPTIONS", ""): self._options,
            ("GET", ""): self._get,
            ("PUT", ""): self._put,
            ("PATCH", ""): self._patch,
            ("GET", "/extents"): self._extents,
            ("GET", "/checksum"): self._checksum,
            ("GET", "/checksum/algorithms"): self._algorithms,
        }
        answer = answers.get((head.method, part))
        if answer is None:
            raise MethodUnknown(f"{head.method[:16]} is not for this path")
        return answer(exchange, ticket_id)

    def refuse(self, head: Head | None, error: Error) -> Answer:
        """Return an error as a line of text: clients show it to people."""
        text = f"{error} {error.remedy}".strip() + "\n"
        headers = {"Content-Type": "text/plain; charset=UTF-8", **_cors(head)}
        if isinstance(error, RangeOutside):
            headers["Content-Range"] = f"bytes */{error.fields['available']}"
        return Answer(error.status, headers, text.encode())

    def _options(self, exchange: Exchange, ticket_id: str) -> Answer:
        allowed, features = _METHODS, list(_WRITE_FEATURES)
        said: dict[str, object] = {"unix_socket": self._unix_socket}
        if ticket_id != "*":
            ticket = self._tickets.authorize(ticket_id, Op.READ)
            with ticket.operate(is_transfer=False):
                connections = ticket.pool.limit()
            said |= {"max_readers": connections, "max_writers": connections}
            if not ticket.may(Op.WRITE):
                allowed, features = _READS, list(_READ_FEATURES)
        said["features"] = features
        headers = {"Allow": allowed, **_cors(exchange.head)}
        return json_answer(said, headers)

    def _get(self, exchange: Exchange, ticket_id: str) -> None:
        head = exchange.head
        exchange.is_last = exchange.is_last or _choice(head, "close", "ny") == "y"
        wanted = http_head.wanted_range(head)
        ticket = self._tickets.authorize(ticket_id, Op.READ)
        start = wanted.start if wanted else 0
        with ticket.operate(start) as operation, ticket.pool.borrow() as image:
            available = min(ticket.request.size, image.size_bytes)
            end = available if wanted is None or wanted.end is None else wanted.end
            _check_range(start, end, available)
            if wanted is not None and start == end:
                raise _outside("the range is empty", available)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(end - start),
                "Content-Disposition": _disposition(ticket.request.filename),
                **_cors(head),
            }
            if wanted is not None:
                size = ticket.request.size
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            status = 200 if wanted is None else 206
            patience_s = float(ticket.request.inactivity_timeout)
            with exchange.stream.under(patience_s, operation.check):
                copying.download(image, exchange, operation, end, (status, headers))

    def _put(self, exchange: Exchange, ticket_id: str) -> Answer:
        head = exchange.head
        exchange.is_last = exchange.is_last or _choice(head, "close", "ny") == "y"
        if exchange.size_bytes is None:
            raise LengthMissing("the body has no length")
        start = http_head.body_start(head)
        is_flushed = _choice(head, "flush", "yn") == "y"
        ticket = self._tickets.authorize(ticket_id, Op.WRITE)
        _check_range(start, start + exchange.size_bytes, ticket.request.size)
        with ticket.operate(start) as operation, ticket.pool.borrow() as image:
            _check_size(ticket, image)
            patience_s = float(ticket.request.inactivity_timeout)
            with exchange.stream.under(patience_s, operation.check):
                exchange.invite()
                try:
                    copying.upload(exchange, image, operation)
                except (PeerGone, PeerSilent) as error:
                    raise BodyCutShort(f"after {operation.done} bytes") from error
            if is_flushed:
                image.flush()
        return Answer(headers=_cors(head))

    def _patch(self, exchange: Exchange, ticket_id: str) -> Answer:
        ticket = self._tickets.authorize(ticket_id, Op.WRITE)
        said = wire.parse(exchange.json())
        if not isinstance(said, dict) or said.get("op") not in ("zero", "flush"):
            raise PatchWrong("the op is neither zero nor flush")
        is_flushed = _flag(said, "flush") or said["op"] == "flush"
        start, size = 0, 0
        if said["op"] == "zero":
            start, size = _number(said, "offset", 0), _number(said, "size", None)
        _check_range(start, start + size, ticket.request.size)
        with ticket.operate(start) as operation, ticket.pool.borrow() as image:
            _check_size(ticket, image)
            copying.zero(image, operation, size, ticket.request.sparse)
            if is_flushed:
                image.flush()
        return Answer(headers=_cors(exchange.head))

    def _extents(self, exchange: Exchange, ticket_id: str) -> None:
        ticket = self._tickets.authorize(ticket_id, Op.READ)
        context = _choice(exchange.head, "context", ("zero", "dirty"))
        is_dirty = context == "dirty"
        with (
            ticket.operate(is_transfer=False) as operation,
            ticket.pool.borrow() as image,
        ):
            has_bitmap = any(
                name.startswith(extents.DIRTY) for name in image.contexts.values()
            )
            if is_dirty and not (ticket.request.dirty and has_bitmap):
                raise NoDirtyExtents("this image has no bitmap of changes")
            found = _described(image, ticket, is_dirty)
            headers = {"Content-Type": "application/json", **_cors(exchange.head)}
            patience_s = float(ticket.request.inactivity_timeout)
            with exchange.stream.under(patience_s, operation.check):
                exchange.send_pieces(headers, extents.to_json(found, is_dirty))

    def _checksum(self, exchange: Exchange, ticket_id: str) -> Answer:
        query = exchange.head.query
        algorithm = query.get("algorithm", checksum.ALGORITHM)
        if algorithm not in ALGORITHMS:
            raise QueryWrong(f"algorithm is none of {', '.join(ALGORITHMS)}")
        text = query.get("block_size", str(BLOCK_BYTES))
        block_bytes = int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
        limits = checksum.BLOCK_BYTES_MIN, checksum.BLOCK_BYTES_MAX
        if not limits[0] <= block_bytes <= limits[1] or block_bytes % BLOCK_STEP:
            raise QueryWrong(
                f"block_size is no multiple of {BLOCK_STEP} from {limits[0]} "
                f"to {limits[1]}"
            )
        ticket = self._tickets.authorize(ticket_id, Op.READ)
        with (
            ticket.operate(is_transfer=False) as operation,
            ticket.pool.borrow() as image,
        ):
            blocks = checksum.blocks(_described(image, ticket, False), block_bytes)
            # The status of a window and its blocks' data come by turns.
            hashed = copying.hash_blocks(
                image, operation, blocks, algorithm, exchange.buffers()
            )
        return json_answer(
            {"algorithm": algorithm, "block_size": block_bytes, "checksum": hashed},
            _cors(exchange.head),
        )

    def _algorithms(self, exchange: Exchange, _ticket_id: str) -> Answer:
        return json_answer({"algorithms": ALGORITHMS}, _cors(exchange.head))


def _described(image: Nbd, ticket: Ticket, is_dirty: bool) -> Iterator[Extent]:
    """Yield the extents of what a ticket may see."""
    size_bytes = min(ticket.request.size, image.size_bytes)
    unwanted = extents.DEPTH if is_dirty else extents.DIRTY
    return extents.join(copying.describe(image, size_bytes, unwanted))


def _check_size(ticket: Ticket, image: Nbd) -> None:
    if image.size_bytes < ticket.request.size:
        raise ImageSmaller(f"the image has {image.size_bytes} bytes")


def _check_range(start: int, end: int, available: int) -> None:
    if not 0 <= start <= end <= available:
        raise _outside(f"{start} to {end} is not in the image", available)


def _outside(message: str, available: int) -> RangeOutside:
    return RangeOutside(message, available=available)


def _choice(head: Head, name: str, choices: "str | tuple[str, ...]") -> str:
    """Return a parameter; the first choice is what it is by default."""
    value = head.query.get(name, choices[0])
    if value not in tuple(choices):
        raise QueryWrong(f"{name} is none of {', '.join(choices)}")
    return value


def _flag(said: Mapping[str, wire.Json], name: str) -> bool:
    value = said.get(name, False)
    if type(value) is not bool:
        raise PatchWrong(f"{name} is neither true nor false")
    return value


def _number(said: Mapping[str, wire.Json], name: str, default: int | None) -> int:
    value = said.get(name, default)
    if type(value) is not int or not 0 <= value < 2**63:
        raise PatchWrong(f"{name} is no number of bytes")
    return value


def _disposition(filename: str) -> str:
    if not filename:
        return "attachment"
    return f"attachment; filename*=UTF-8''{urls.quote(filename, safe='')}"


def _cors(head: Head | None) -> dict[str, str]:
    """Return what lets pages of any origin in: the ticket is what counts."""
    asked = head.headers if head else {}
    headers = {
        allowed: value
        for given, allowed, value in (
            ("origin", "Access-Control-Allow-Origin", "*"),
            ("access-control-request-headers", "Access-Control-Allow-Headers", "*"),
            ("access-control-request-method", "Access-Control-Allow-Methods", _METHODS),
        )
        if given in asked
    }
    if headers:
        headers["Access-Control-Max-Age"] = str(_CORS_S)
    return headers
