"""Converse over one HTTP connection: a head, what a face answers, the next head.

Bodies are never kept: a face reads them into a buffer of the connection and sends
from it. The head must come fast; a body may be slow as long as it moves.
"""

import http
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from node.errors import Denied, Error, Failed, Invalid
from node.transfer import http_head
from node.transfer.http_head import Head, HeadTooLarge, LengthMissing
from node.transfer.stream import PeerGone, PeerSilent, Stream
from node.units import KiB

log = logging.getLogger(__name__)

# A bigger one falls out of the processor's cache between two system calls.
BUFFER_BYTES: Final = 512 * KiB
# Longer than nginx keeps a connection to us that is idle (60 s).
IDLE_S: Final = 75.0
HEAD_S: Final = 10.0
# What is written at once of a list; a longer one is sent in chunks.
_GATHERED_BYTES: Final = 256 * KiB
JSON_BYTES_MAX: Final = 64 * KiB
# How long an answer waits for a client that still sends what nobody wants.
_DRAIN_S: Final = 2.0


class BodyTooLarge(Invalid):
    status = 413
    code = "body_too_large"
    remedy = f"Send at most {JSON_BYTES_MAX} bytes of JSON."


class BodyCutShort(Invalid):
    """The client ended or stalled in the middle of a body."""

    code = "body_cut_short"
    remedy = "Send the rest again: what had come is in place."


class Broken(Failed):
    """A mistake of ours; its traceback is in the log."""

    code = "transfer_server_broken"
    remedy = "Report it with the transfer server's log."


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Exchange:
    """One request and the answer to it."""

    def __init__(self, head: Head, stream: Stream, buffers: list[bytearray]) -> None:
        self.head = head
        self.stream = stream
        self.size_bytes = http_head.body_bytes(head)  # of the body; None: not told
        self.unread_bytes = self.size_bytes or 0
        self.is_last = head.is_last
        self.is_begun = False
        self._buffers = buffers

    def buffers(self) -> tuple[memoryview, memoryview]:
        """Return two buffers, which are the connection's and made once."""
        while len(self._buffers) < 2:
            self._buffers.append(bytearray(BUFFER_BYTES))
        return memoryview(self._buffers[0]), memoryview(self._buffers[1])

    def invite(self) -> None:
        """Tell a client that waits for it that its body is welcome."""
        if self.head.headers.get("expect", "").lower() == "100-continue":
            self.stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def fill(self, view: memoryview, limit_s: float | None = None) -> int:
        """Read the body until the view is full; less: the client has ended it."""
        assert len(view) <= self.unread_bytes, "the body is that long"
        got = self.stream.fill(view, limit_s)
        self.unread_bytes -= got
        return got

    def json(self) -> bytes:
        """Return the body, which is a short text and comes as fast as a head."""
        if self.size_bytes is None:
            raise LengthMissing("the body has no length")
        if self.size_bytes > JSON_BYTES_MAX:
            raise BodyTooLarge(f"the body has {self.size_bytes} bytes")
        self.invite()
        data = bytearray(self.size_bytes)
        if self.fill(memoryview(data), HEAD_S) < self.size_bytes:
            raise BodyCutShort("the body ended early")
        return bytes(data)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of an answer whose body follows."""
        self.is_begun = True
        self.stream.send(self.render(status, headers))

    def send_pieces(self, headers: Mapping[str, str], pieces: Iterator[bytes]) -> None:
        """Send an answer of unknown length; a short one gets its length."""
        gathered = bytearray()
        for piece in pieces:
            gathered += piece
            if len(gathered) < _GATHERED_BYTES:
                continue
            if not self.is_begun:
                self.begin(200, {**headers, "Transfer-Encoding": "chunked"})
            self.stream.send(b"%x\r\n" % len(gathered), bytes(gathered), b"\r\n")
            gathered.clear()
        if not self.is_begun:
            self.begin(200, {**headers, "Content-Length": str(len(gathered))})
            self.stream.send(bytes(gathered))
            return
        if gathered:
            self.stream.send(b"%x\r\n" % len(gathered), bytes(gathered), b"\r\n")
        self.stream.send(b"0\r\n\r\n")

    def render(self, status: int, headers: Mapping[str, str]) -> bytes:
        """Return the head of an answer."""
        lines = [f"HTTP/1.1 {status} {_phrase(status)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self.is_last:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


class Face(Protocol):
    """What answers on a socket."""

    def answer(self, exchange: Exchange) -> Answer | None:
        """Do what a request asks; None: the answer was sent already."""

    def refuse(self, head: Head | None, error: Error) -> Answer:
        """Return an error as this face tells it; no head: it made no sense."""


class Connection:
    def __init__(
        self, stream: Stream, face: Face, is_ending: Callable[[], bool]
    ) -> None:
        self._stream = stream
        self._face = face
        self._is_ending = is_ending
        self._buffers: list[bytearray] = []

    def serve(self) -> None:
        """Answer request after request, until one of both has enough."""
        try:
            while self._serve_one():
                pass
        except (PeerGone, PeerSilent) as error:
            log.debug("a connection has ended: %s", error)

    def _serve_one(self) -> bool:
        """Answer one request; tell whether there may be another."""
        with self._stream.under(IDLE_S, self._check_ending):
            data = self._stream.read_until(
                http_head.END, http_head.HEAD_BYTES_MAX, HEAD_S
            )
        if data == b"":
            return False
        try:
            if data is None:
                raise HeadTooLarge("the head does not end")
            exchange = Exchange(http_head.parse(data), self._stream, self._buffers)
        except Error as error:
            self._send(Exchange(_NO_HEAD, self._stream, []), None, error)
            self._stream.drain(_DRAIN_S)
            return False
        return self._converse(exchange)

    def _converse(self, exchange: Exchange) -> bool:
        try:
            answer = self._face.answer(exchange)
        except Error as error:
            if exchange.is_begun:
                log.warning("an answer broke off: %s", error)
                return False
            is_over = exchange.unread_bytes > 0 or isinstance(error, Denied)
            exchange.is_last = exchange.is_last or is_over
            self._send(exchange, exchange.head, error)
        except Exception:
            log.exception("a request broke us")
            exchange.is_last = True
            if exchange.is_begun:
                return False
            self._send(exchange, exchange.head, Broken())
        else:
            # A body that nobody asked for would pass for the next head.
            exchange.is_last = exchange.is_last or exchange.unread_bytes > 0
            if answer is not None:
                self._reply(exchange, answer)
        if exchange.unread_bytes:
            self._stream.drain(_DRAIN_S)
        return not exchange.is_last

    def _send(self, exchange: Exchange, head: Head | None, error: Error) -> None:
        log.debug("refused: %s", error)
        exchange.is_last = exchange.is_last or head is None
        self._reply(exchange, self._face.refuse(head, error))

    def _reply(self, exchange: Exchange, answer: Answer) -> None:
        headers = {**answer.headers, "Content-Length": str(len(answer.body))}
        if answer.status == http.HTTPStatus.NO_CONTENT:
            del headers["Content-Length"]
        self._stream.send(exchange.render(answer.status, headers), answer.body)

    def _check_ending(self) -> None:
        if self._is_ending():
            raise PeerGone("the server ends")


_NO_HEAD: Final = Head("", "", {}, {"connection": "close"})


def json_answer(value: object, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a JSON value as imageio does: with a newline."""
    content_type = {"Content-Type": "application/json"}
    body = json.dumps(value).encode() + b"\n"
    return Answer(200, {**content_type, **(headers or {})}, body)


def _phrase(status: int) -> str:
    return http.HTTPStatus(status).phrase
