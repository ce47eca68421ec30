"""Ask the transfer server: tickets, and what only it can tell of an image."""

import http.client
import socket
from pathlib import Path
from typing import Final

from node import errors, wire
from node.errors import Failed, Unavailable
from node.transfer.tickets import (
    PREFIX,
    REMOVE_S,
    Extension,
    TicketInfo,
    TicketRequest,
)

_ANSWER_S: Final = 10.0
_FLUSH_S: Final = 120.0  # of a storage that is slow
_READ_S: Final = 12 * 3600.0  # a whole disk
ALGORITHM: Final = "sha256"


class TransferServerSilent(Unavailable):
    code = "transfer_server_silent"
    remedy = "See whether skerry-transfer runs; its log says why not."


class ImageRefused(Failed):
    """The transfer server could not do it; it says why in a line of text."""

    code = "image_refused"
    remedy = "Resume the transfer, and send again what came after the last flush."


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class TicketClient:
    def __init__(self, path: Path) -> None:
        """Know the agent's socket; each call is a connection."""
        self._path = path

    def install(self, request: TicketRequest) -> None:
        """Add a ticket; the same one again only begins its time anew."""
        self._call("PUT", request.uuid, request)

    def info(self, ticket_id: str) -> TicketInfo:
        """Return what has become of a ticket; NotFound."""
        data = self._call("GET", ticket_id)
        return wire.decode(TicketInfo, data, strict=False)

    def extend(self, ticket_id: str, timeout_s: int) -> None:
        """Let a ticket end so long after now; NotFound."""
        self._call("PATCH", ticket_id, Extension(timeout_s))

    def remove(self, ticket_id: str) -> None:
        """End a ticket's requests and forget it; Conflict: they have not ended."""
        self._call("DELETE", ticket_id, timeout_s=REMOVE_S + _ANSWER_S)

    def _call(
        self,
        method: str,
        ticket_id: str,
        body: object = None,
        timeout_s: float = _ANSWER_S,
    ) -> bytes:
        data = None if body is None else wire.encode(body)
        path = f"{PREFIX}{ticket_id}"
        status, answer = _exchange(self._path, method, path, data, timeout_s)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise _revived(answer)
        return answer


class ImageClient:
    def __init__(self, path: Path) -> None:
        """Know the clients' socket; each call is a connection."""
        self._path = path

    def flush(self, ticket_id: str) -> None:
        """Have all that was written on the storage; ImageRefused."""
        body = wire.encode({"op": "flush"})
        self._call("PATCH", f"/images/{ticket_id}", body, _FLUSH_S)

    def checksum(self, ticket_id: str) -> str:
        """Read an image, and return the SHA-256 of those of its blocks."""
        path = f"/images/{ticket_id}/checksum?algorithm={ALGORITHM}"
        answer = wire.parse(self._call("GET", path, None, _READ_S))
        return str(answer["checksum"])

    def _call(
        self, method: str, path: str, body: bytes | None, timeout_s: float
    ) -> bytes:
        status, answer = _exchange(self._path, method, path, body, timeout_s)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise ImageRefused(answer.decode(errors="replace").strip())
        return answer


def _exchange(
    path: Path, method: str, target: str, body: bytes | None, timeout_s: float
) -> tuple[int, bytes]:
    connection = _UnixConnection(path, timeout_s)
    try:
        connection.request(method, target, body)
        reply = connection.getresponse()
        return reply.status, reply.read()
    except (OSError, http.client.HTTPException) as error:
        raise TransferServerSilent(f"no answer: {error}") from error
    finally:
        connection.close()


def _revived(answer: bytes) -> errors.Error:
    report = wire.parse(answer)["error"]
    return errors.revive(
        report["kind"],
        report["code"],
        report["message"],
        report["remedy"],
        **report["fields"],
    )
