"""Carry one request to a node and its whole reply back, within a deadline.

Over TLS or a unix socket. A reply that breaks off, or takes too long, is none.
"""

import contextlib
import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from node.errors import Failed, Unavailable

REPLY_BYTES_MAX = 64 * 1024 * 1024  # a node with thousands of VMs stays far below


class NodeUnreachable(Unavailable):
    """The node could not be reached, or broke off: whether it acted is unknown."""

    code = "node_unreachable"
    remedy = "Check the node and its network, then try again."


class BadReply(Failed):
    code = "bad_reply"
    remedy = "Check that the address is that of a Skerry node of a like version."


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    media_type: str
    body: bytes


class Transport(Protocol):
    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> Reply:
        """Send one request; NodeUnreachable if no whole reply came."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True)
class UnixTransport:
    """Speak to the agent of this machine."""

    path: Path

    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> Reply:
        connection = _UnixConnection(self.path, timeout_s)
        with contextlib.closing(connection):
            return exchange(connection, method, target, body, headers, str(self.path))


@dataclass(frozen=True, slots=True)
class TlsTransport:
    """Speak to a server that is known by its address; `context`: whom we trust."""

    address: str
    port: int
    context: ssl.SSLContext

    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> Reply:
        connection = http.client.HTTPSConnection(
            self.address, self.port, timeout=timeout_s, context=self.context
        )
        where = f"{self.address}:{self.port}"
        with contextlib.closing(connection):
            return exchange(connection, method, target, body, headers, where)


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: bytes | None,
    headers: Mapping[str, str],
    where: str,
) -> Reply:
    """Send one request and read its whole reply; `where` names the other side.

    The connection stays open after a whole reply if the other side keeps it; it
    is closed after an error. Raises NodeUnreachable, BadReply.
    """
    connection.response_class = _TimedResponse
    try:
        return _ask(connection, method, target, body, headers, where)
    except BaseException:
        connection.close()
        raise


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: bytes | None,
    headers: Mapping[str, str],
    where: str,
) -> Reply:
    try:
        connection.request(method, target, body, dict(headers))
        with connection.getresponse() as response:
            content = response.read(REPLY_BYTES_MAX + 1)
    # UnicodeError: what no name of a machine can be
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise NodeUnreachable(
            f"{where} cannot be reached: {str(error) or type(error).__name__}",
            address=where,
        ) from error
    if len(content) > REPLY_BYTES_MAX:
        raise BadReply(f"{where} answers with more than {REPLY_BYTES_MAX} bytes")
    # An answer without its length may be any part of one.
    if response.length or (response.length is None and not response.chunked):
        raise NodeUnreachable(f"{where} broke off its answer", address=where)
    media_type = response.getheader("Content-Type", "").partition(";")[0]
    return Reply(response.status, media_type, content)


class _TimedResponse(http.client.HTTPResponse):
    """A reply that must be there in the socket's timeout, however it trickles."""

    def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp = io.BufferedReader(_TimedReader(sock, self.fp.detach()))


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self._end = time.monotonic() + (sock.gettimeout() or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("its answer takes too long")
        self._sock.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
