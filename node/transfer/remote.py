"""Speak imageio's protocol as a client: one connection to one image.

Each call is one request; whatever goes wrong on the way is RemoteGone, and may be sent
again: what was confirmed and flushed is in place. Sizes are bytes.
"""

import http.client
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib import parse as urls

from node import wire
from node.errors import Denied, Failed, Invalid, Unavailable
from node.transfer.extents import Extent
from node.units import MiB

BUFFER_BYTES: Final = 1 * MiB
_ANSWER_S: Final = 130.0  # the server waits 120 s for the storage
_REACH_S: Final = 5.0  # a node that is farther off is reached in another way
_CHECKSUM_S: Final = 12 * 3600.0  # a whole disk is read
CONNECTIONS_MAX: Final = 8


class RemoteGone(Unavailable):
    """The connection broke, or what serves the image is away."""

    code = "image_server_gone"
    remedy = "Send again what came after the last flush."


class RemoteDenies(Denied):
    """The ticket is over, or does not allow it."""

    code = "image_denied"
    remedy = "Look at the transfer: it may be paused, or over."


class RemoteFailed(Failed):
    code = "image_request_failed"
    remedy = "Correct what the message names, then transfer again."


class BadAddress(Invalid):
    code = "bad_image_address"
    remedy = "Take the address that the transfer names."


def is_reached(url: str) -> bool:
    """Tell whether somebody listens where an image is served."""
    found = urls.urlsplit(url)
    try:
        place = (found.hostname, found.port or 443)
        socket.create_connection(place, _REACH_S).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Offer:
    """What the server has for this image."""

    connections: int
    features: tuple[str, ...]


class Remote:
    """One connection. Not for two threads at once."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        """`context` says whom to trust; the connection is made by the first call."""
        found = urls.urlsplit(url)
        if found.scheme != "https" or found.hostname is None:
            raise BadAddress(f"{found.scheme}://… is no address of an image")
        self._path = found.path
        self._connection = http.client.HTTPSConnection(
            found.hostname,
            found.port or 443,
            timeout=_ANSWER_S,
            context=context,
            blocksize=BUFFER_BYTES,
        )

    def close(self) -> None:
        self._connection.close()

    def offer(self) -> Offer:
        """Ask how many connections may be used, and what can be done."""
        said = self._json("OPTIONS", "")
        readers = min(int(said.get("max_readers", 1)), int(said.get("max_writers", 1)))
        features = tuple(map(str, said.get("features", ())))
        return Offer(max(1, min(readers, CONNECTIONS_MAX)), features)

    def extents(self) -> tuple[Extent, ...]:
        """Return which parts of the image hold data, and which are zeros."""
        found = self._json("GET", "/extents")
        return tuple(
            Extent(int(each["start"]), int(each["length"]), bool(each["zero"]), False)
            for each in found
        )

    def checksum(self) -> str:
        """Return the SHA-256 of those of the image's blocks; it reads all of it."""
        self._connection.timeout = _CHECKSUM_S
        self.close()  # so that the next connection has that patience
        try:
            return str(self._json("GET", "/checksum?algorithm=sha256")["checksum"])
        finally:
            self._connection.timeout = _ANSWER_S
            self.close()

    def put(self, file: int, start: int, length: int) -> None:
        """Send a part of a file, not flushed."""
        headers = {
            "Content-Length": str(length),
            "Content-Range": f"bytes {start}-{start + length - 1}/*",
        }
        self._exchange("PUT", "?flush=n", _pieces(file, start, length), headers)

    def zero(self, start: int, length: int) -> None:
        self._patch({"op": "zero", "offset": start, "size": length, "flush": False})

    def flush(self) -> None:
        """Have on the storage what was confirmed."""
        self._patch({"op": "flush"})

    def get(self, file: int, start: int, length: int) -> None:
        """Fetch a part of the image into a file."""
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        at, end = start, start + length
        try:
            reply = self._ask("GET", "", None, headers)
            while at < end:
                data = reply.read(min(BUFFER_BYTES, end - at))
                if not data:
                    break
                at += _write(file, data, at)
            reply.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise RemoteGone(f"the connection broke: {error}") from error
        if at != end:
            self.close()
            raise RemoteGone(f"the answer ended {end - at} bytes early")

    def _patch(self, what: dict[str, object]) -> None:
        headers = {"Content-Type": "application/json"}
        self._exchange("PATCH", "", wire.encode(what), headers)

    def _json(self, method: str, rest: str) -> Any:
        return wire.parse(self._exchange(method, rest))

    def _exchange(
        self,
        method: str,
        rest: str,
        body: "bytes | Iterator[bytes] | None" = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        try:
            return self._ask(method, rest, body, headers or {}).read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise RemoteGone(f"the connection broke: {error}") from error

    def _ask(
        self,
        method: str,
        rest: str,
        body: "bytes | Iterator[bytes] | None",
        headers: dict[str, str],
    ) -> http.client.HTTPResponse:
        """Return an answer that is no refusal; its body is not read."""
        self._connection.request(method, self._path + rest, body, headers)
        reply = self._connection.getresponse()
        if reply.status < http.HTTPStatus.BAD_REQUEST:
            return reply
        text = reply.read(4096).decode(errors="replace").strip()
        self.close()
        message = f"HTTP {reply.status}: {text}"
        if reply.status == http.HTTPStatus.FORBIDDEN:
            raise RemoteDenies(message)
        if reply.status in _PASSING:
            raise RemoteGone(message)
        raise RemoteFailed(message, status=int(reply.status))


# Too many connections, the storage refused, nobody is behind nginx.
_PASSING: Final = frozenset({423, 500, 502, 503, 504})


def _pieces(file: int, start: int, length: int) -> Iterator[bytes]:
    """Yield a part of a file; what is after its end is zeros."""
    end = start + length
    while start < end:
        data = os.pread(file, min(BUFFER_BYTES, end - start), start)
        data = data or bytes(min(BUFFER_BYTES, end - start))
        yield data
        start += len(data)


def _write(file: int, data: bytes, at: int) -> int:
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], at + done)
    return done
