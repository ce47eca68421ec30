"""An image in memory that is served over HTTPS as imageio does, and may break."""

import contextlib
import hashlib
import http.server
import json
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib import parse

from node.units import MiB

BLOCK_BYTES = 4 * MiB


def block_sum(data: bytes | bytearray) -> str:
    """Return imageio's sum of an image: the SHA-256 of those of its blocks."""
    whole = hashlib.sha256()
    for start in range(0, len(data), BLOCK_BYTES):
        whole.update(hashlib.sha256(data[start : start + BLOCK_BYTES]).digest())
    return whole.hexdigest()


@dataclass(slots=True)
class ImageServer:
    """`breaks_after` so many more requests it hangs up; `denies`: 403 to all."""

    data: bytearray
    port: int = 0
    breaks_after: int | None = None
    denies: bool = False
    zeros: list[tuple[int, int]] = field(default_factory=list)  # start, length
    puts: list[tuple[int, int]] = field(default_factory=list)
    gets: list[tuple[int, int]] = field(default_factory=list)
    flushes: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/images/t1"


@contextlib.contextmanager
def serve(size_bytes: int, context: ssl.SSLContext) -> Iterator[ImageServer]:
    """Serve an image of zeros until the end of the block."""
    image, lock = ImageServer(bytearray(size_bytes)), threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_OPTIONS(self) -> None:
            said = {"features": ["extents", "zero", "flush"], "max_readers": 3}
            self._do(lambda: self._json({**said, "max_writers": 3}))

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            found = re.fullmatch(r"bytes (\d+)-(\d+)/\*", self.headers["Content-Range"])
            assert found is not None
            start = int(found[1])

            def put() -> None:
                image.puts.append((start, len(data)))
                image.data[start : start + len(data)] = data
                self._send(b"")

            self._do(put)

        def do_PATCH(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))

            def patch() -> None:
                if said["op"] == "flush":
                    image.flushes += 1
                else:
                    start, size = said["offset"], said["size"]
                    image.zeros.append((start, size))
                    image.data[start : start + size] = bytes(size)
                self._send(b"")

            self._do(patch)

        def do_GET(self) -> None:
            path = parse.urlsplit(self.path).path
            if path.endswith("/extents"):
                self._do(lambda: self._json(_extents(image.data)))
            elif path.endswith("/checksum"):
                self._do(lambda: self._json({"checksum": block_sum(image.data)}))
            else:
                self._do(self._get)

        def _get(self) -> None:
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
            assert found is not None
            start, end = int(found[1]), int(found[2]) + 1
            image.gets.append((start, end - start))
            self._send(bytes(image.data[start:end]), 206)

        def _do(self, answer: Any) -> None:
            with lock:
                if image.breaks_after == 0:
                    self.close_connection = True
                    return
                if image.breaks_after is not None:
                    image.breaks_after -= 1
                if image.denies:
                    self._send(b"the ticket is over", 403)
                    return
                answer()

        def _json(self, said: object) -> None:
            self._send(json.dumps(said).encode())

        def _send(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = _Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    image.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield image
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Pass over clients that hang up."""


def _extents(data: bytearray, step: int = 65536) -> list[dict[str, object]]:
    """Return runs of zeros and of data."""
    found: list[dict[str, Any]] = []
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        is_zero = not any(piece)
        if found and found[-1]["zero"] is is_zero:
            found[-1]["length"] += len(piece)
        else:
            found.append({"start": start, "length": len(piece), "zero": is_zero})
    return found
