"""Move whole buffers through a socket, with a patience and in few system calls.

The kernel fills or empties a buffer in one call, without Python's lock; twice a
second it comes back, so that a transfer that was cancelled ends.
"""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, TypeVar

from node.clock import Clock
from node.errors import Unavailable

T = TypeVar("T")

SLICE_S: Final = 0.5
_TIMEVAL: Final = struct.pack("@ll", 0, int(SLICE_S * 1_000_000))
# The kernel grants less without a privilege; more is never worse.
_SEND_BUFFER: Final = 1024 * 1024
_PIECE: Final = 16 * 1024


class PeerGone(Unavailable):
    """The other side has closed the connection."""

    code = "peer_gone"


class PeerSilent(Unavailable):
    """The other side has neither sent nor taken anything for too long."""

    code = "peer_silent"


def _nothing() -> None:
    return


class Stream:
    """A connected socket; `patience_s` is how long nothing may move."""

    def __init__(self, connection: socket.socket, clock: Clock) -> None:
        prepare(connection)
        self._connection = connection
        self._clock = clock
        self._read_ahead = b""
        self.patience_s = 60.0
        self.check: Callable[[], None] = _nothing

    @contextlib.contextmanager
    def under(self, patience_s: float, check: Callable[[], None]) -> Iterator[None]:
        """Have another patience for a while, and ask `check` each half second."""
        before = self.patience_s, self.check
        self.patience_s, self.check = patience_s, check
        try:
            yield
        finally:
            self.patience_s, self.check = before

    def fill(self, view: memoryview, limit_s: float | None = None) -> int:
        """Read until the view is full or the stream ends; return how much.

        `limit_s` is for all of it; None: only the patience counts.
        """
        deadline = None if limit_s is None else self._clock.monotonic() + limit_s
        done = min(len(self._read_ahead), len(view))
        view[:done] = self._read_ahead[:done]
        self._read_ahead = self._read_ahead[done:]
        while done < len(view):
            if deadline is not None and self._clock.monotonic() >= deadline:
                raise PeerSilent(f"it took longer than {limit_s:g} s")
            rest = view[done:]
            count = self._patiently(
                partial(self._connection.recv_into, rest, 0, socket.MSG_WAITALL)
            )
            if not count:
                break
            done += count
        return done

    def read(self, size: int) -> bytearray:
        """Read exactly so much; PeerGone if the stream ends before."""
        data = bytearray(size)
        if self.fill(memoryview(data)) < size:
            raise PeerGone("the connection has ended")
        return data

    def read_until(self, end: bytes, size_max: int, rest_s: float) -> bytes | None:
        """Read up to a mark that ends what is read; None: there is too much.

        Empty: the stream has ended. The patience is for the first byte; the rest
        must come in `rest_s` altogether.
        """
        data, self._read_ahead = self._read_ahead, b""
        deadline = self._clock.monotonic() + rest_s if data else None
        while end not in data:
            if len(data) > size_max:
                return None
            limit = self.patience_s
            if deadline is not None:
                limit = deadline - self._clock.monotonic()
                if limit <= 0:
                    raise PeerSilent(f"it took longer than {rest_s:g} s")
            piece = self._patiently(partial(self._connection.recv, _PIECE), limit)
            if not piece:
                return b""
            data += piece
            deadline = deadline or self._clock.monotonic() + rest_s
        before, _, self._read_ahead = data.partition(end)
        return None if len(before) > size_max else before + end

    def send(self, *parts: bytes | memoryview) -> None:
        """Send all parts."""
        left = [memoryview(part) for part in parts if len(part)]
        while left:
            sent = self._patiently(partial(self._connection.sendmsg, left))
            while left and sent >= len(left[0]):
                sent -= len(left[0])
                left = left[1:]
            if left:
                left = [left[0][sent:], *left[1:]]

    def drain(self, limit_s: float) -> None:
        """Say that nothing more is sent, and pass over what still comes for a while.

        Closed at once, the other side could lose our answer to its own write's error.
        """
        deadline = self._clock.monotonic() + limit_s
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
            waste = bytearray(_PIECE)
            while self._clock.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    if not self._connection.recv_into(waste):
                        return

    def has_news(self) -> bool:
        """Tell whether there is something to read, the end included."""
        try:
            self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        self._connection.close()

    def _patiently(self, call: Callable[[], T], limit_s: float | None = None) -> T:
        limit_s = self.patience_s if limit_s is None else limit_s
        begin = self._clock.monotonic()
        while True:
            try:
                return call()
            except BlockingIOError as error:  # a slice is over
                self.check()
                if self._clock.monotonic() - begin >= limit_s:
                    raise PeerSilent(f"nothing moved for {limit_s:g} s") from error
            except OSError as error:
                raise PeerGone(f"the connection broke: {error.strerror}") from error


def prepare(connection: socket.socket) -> None:
    """Let no call on a socket block for longer than a slice."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
