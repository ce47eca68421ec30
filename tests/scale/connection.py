"""Keep one HTTP connection open to a unix socket or through TLS.

As nginx does towards the aggregator: many nodes share few connections.
"""

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from node.errors import Unavailable


class NoAnswer(Unavailable):
    code = "no_answer"
    remedy = "Look at the log of the process behind the socket."


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    retry_after_s: float
    elapsed_s: float  # from the first byte sent to the last received
    cookies: tuple[str, ...] = ()
    location: str = ""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Connection:
    """One at a time: not for use by several threads."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    @classmethod
    def unix(cls, path: Path, timeout_s: float = 30.0) -> Self:
        return cls(_UnixConnection(path, timeout_s))

    @classmethod
    def tls(
        cls, address: str, port: int, context: ssl.SSLContext, timeout_s: float = 30.0
    ) -> Self:
        return cls(
            http.client.HTTPSConnection(
                address, port, timeout=timeout_s, context=context
            )
        )

    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return the answer; NoAnswer if there is none."""
        begin = time.perf_counter()
        try:
            self._connection.request(method, target, body, dict(headers or {}))
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswer(f"{method} {target}: {error!r}") from error
        return Answer(
            response.status,
            content,
            float(response.headers.get("Retry-After", "0")),
            time.perf_counter() - begin,
            tuple(response.headers.get_all("Set-Cookie", ())),
            response.headers.get("Location", ""),
        )

    def close(self) -> None:
        """Close it; the next exchange opens it anew."""
        with contextlib.suppress(OSError):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
