"""Listen on a unix socket, with a thread for each connection and a bound on them."""

import contextlib
import logging
import os
import socket
import threading
from pathlib import Path
from typing import Final

from node.clock import Clock
from node.errors import Busy
from node.transfer.connection import Connection, Exchange, Face
from node.transfer.http_head import Head
from node.transfer.stream import PeerGone, PeerSilent, Stream

log = logging.getLogger(__name__)

# Twelve transfers with eight connections each; every one may take two buffers.
CONNECTIONS_MAX: Final = 100
_BACKLOG: Final = CONNECTIONS_MAX
# What a client has just closed may be counted still.
_ROOM_S: Final = 0.5
# So that what fails for long does not burn a processor.
_PAUSE_S: Final = 0.5


class TooManyConnections(Busy):
    code = "too_many_connections"
    remedy = "Close connections that are idle, and connect again in a moment."


class Server:
    def __init__(
        self,
        path: Path,
        mode: int,
        face: Face,
        clock: Clock,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """Listen; who may write to the socket may connect."""
        self._face = face
        self._clock = clock
        self._connections_max = connections_max
        self._changed = threading.Condition()
        self._connections = 0
        self._ending = threading.Event()
        self._path = path
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o777 & ~mode)
        try:
            self._listener.bind(os.fspath(path))
        finally:
            os.umask(mask)
        self._listener.listen(_BACKLOG)

    def start(self) -> None:
        """Accept connections in a thread of its own, until `close`."""
        threading.Thread(target=self._accept, name="accept", daemon=True).start()

    def close(self, timeout_s: float) -> None:
        """Accept nobody, and let requests that are under way end for a while."""
        self._ending.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._listener.close()
        deadline = self._clock.monotonic() + timeout_s
        with self._changed:
            while self._connections:
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    log.warning("%d requests are cut off", self._connections)
                    break
                self._changed.wait(left)
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while not self._ending.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._ending.is_set():
                    log.warning("nobody can connect for a moment: %s", error)
                    self._ending.wait(_PAUSE_S)
                continue
            stream = Stream(connection, self._clock)
            with self._changed:
                has_room = self._changed.wait_for(self._has_room, _ROOM_S)
                self._connections += has_room
            if not has_room:
                self._send_away(stream)
                continue
            client = threading.Thread(
                target=self._serve, args=(stream,), name="client", daemon=True
            )
            try:
                client.start()
            except RuntimeError as error:  # as Python tells that there is no room
                log.warning("no thread for a client: %s", error)
                self._end(stream)

    def _has_room(self) -> bool:
        return self._connections < self._connections_max

    def _serve(self, stream: Stream) -> None:
        try:
            Connection(stream, self._face, self._ending.is_set).serve()
        finally:
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        stream.close()
        with self._changed:
            self._connections -= 1
            self._changed.notify_all()

    def _send_away(self, stream: Stream) -> None:
        """Answer without having read: it fits into the socket's buffer."""
        error = TooManyConnections(f"more than {self._connections_max} connections")
        answer = self._face.refuse(None, error)
        exchange = Exchange(Head("", "", {}, {"connection": "close"}), stream, [])
        headers = {**answer.headers, "Content-Length": str(len(answer.body))}
        with contextlib.suppress(PeerGone, PeerSilent):
            stream.send(exchange.render(answer.status, headers), answer.body)
        stream.close()
