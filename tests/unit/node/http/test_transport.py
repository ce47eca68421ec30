"""Two transports: deadlines, broken replies, servers that are not ours."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node import pki
from node.http import transport
from node.http.transport import BadReply, NodeUnreachable, Reply
from tests.fakes.papers import PaperFleet

JSON = b"Content-Type: application/json\r\n"
# A sign of life every so often, and a deadline that many of them do not meet.
DRIP_S, DEADLINE_S = 0.1, 0.4
END_S = 20.0  # a test that hangs ends here


class Canned:
    """A server that sends prepared pieces, whatever is asked."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.pieces: tuple[bytes, ...] = ()
        self.asked = b""
        self.lingers = False
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(END_S)

    def _serve(self) -> None:
        while not self._end.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self.asked = connection.recv(65536)
                for piece in self.pieces:
                    connection.sendall(piece)
                    if self._end.wait(DRIP_S if len(self.pieces) > 1 else 0):
                        return
                if self.lingers:
                    self._end.wait(END_S)


Bench = tuple[Canned, transport.Transport]


@contextlib.contextmanager
def _unix(folder: Path) -> Iterator[Bench]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "s"))
    listener.listen()
    served = Canned(listener)
    yield served, transport.UnixTransport(folder / "s")
    served.close()


@contextlib.contextmanager
def _tls(folder: Path) -> Iterator[Bench]:
    papers, key = PaperFleet(now=datetime.now(UTC)), pki.make_key()
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_text(papers.issue(pki.signing_request(key, "n1")))
    files[1].write_text(pki.dump_key(key).reveal())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    served = Canned(context.wrap_socket(listener, server_side=True))
    trust = ssl.create_default_context(cadata=papers.ca)
    yield served, transport.TlsTransport("127.0.0.1", port, trust)
    served.close()


@pytest.fixture(params=[_unix, _tls], ids=["unix", "tls"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    make: Callable[[Path], contextlib.AbstractContextManager[Bench]] = request.param
    with make(tmp_path) as made:
        yield made


def _reply(body: bytes, head: bytes = JSON, status: bytes = b"200 OK") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + head + length + b"\r\n" + body


def _exchange(bench: Bench, timeout_s: float = END_S) -> Reply:
    return bench[1].exchange("GET", "/v1/jobs", None, {"X-A": "b"}, timeout_s)


def test_exchange_returns_the_reply(bench: Bench) -> None:
    bench[0].pieces = (_reply(b"{}"),)
    assert _exchange(bench) == Reply(200, "application/json", b"{}")
    assert bench[0].asked.startswith(b"GET /v1/jobs HTTP/1.1\r\n")
    assert b"X-A: b\r\n" in bench[0].asked


def test_exchange_joins_the_pieces_of_a_reply(bench: Bench) -> None:
    whole = _reply(b'{"jobs":[]}')
    bench[0].pieces = (whole[:9], whole[9:40], whole[40:])
    assert _exchange(bench).body == b'{"jobs":[]}'


def test_exchange_joins_the_chunks_of_a_reply(bench: Bench) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    bench[0].pieces = (head + b"1\r\n{\r\n", b"1\r\n}\r\n", b"0\r\n\r\n")
    assert _exchange(bench).body == b"{}"


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((), id="nothing"),
        pytest.param((b"SSH-2.0-OpenSSH\r\n",), id="another-protocol"),
        pytest.param((b"HTTP/1.1 200 OK\r\nContent-Le",), id="half-a-head"),
        pytest.param((_reply(b"{}" * 50)[:-1],), id="half-a-body"),
        pytest.param((b"HTTP/1.1 200 OK\r\n\r\n{}",), id="no-length"),
        pytest.param(
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",),
            id="half-a-chunk",
        ),
    ],
)
def test_exchange_says_so_when_the_reply_breaks_off(
    bench: Bench, pieces: tuple[bytes, ...]
) -> None:
    bench[0].pieces = pieces
    with pytest.raises(NodeUnreachable) as raised:
        _exchange(bench)
    assert raised.value.remedy
    assert raised.value.fields["address"]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((), id="silent"),
        pytest.param((b"HTTP/1.1 200 OK\r\n",) + (b"X: y\r\n",) * 90, id="slow-head"),
        pytest.param((_reply(b"")[:-2],) + (b"X",) * 200, id="slow-letters"),
        pytest.param(
            (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",) + (b"x",) * 200,
            id="slow-body",
        ),
    ],
)
def test_exchange_ends_at_its_deadline(bench: Bench, pieces: tuple[bytes, ...]) -> None:
    bench[0].pieces, bench[0].lingers = pieces, True
    begin = time.monotonic()
    with pytest.raises(NodeUnreachable):
        _exchange(bench, DEADLINE_S)
    # Each piece alone comes in time: together they take much longer.
    assert time.monotonic() - begin < 80 * DRIP_S


def test_exchange_refuses_a_reply_without_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "REPLY_BYTES_MAX", 99)
    bench[0].pieces = (_reply(b"x" * 100),)
    with pytest.raises(BadReply):
        _exchange(bench)


def test_exchange_says_so_when_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(NodeUnreachable, match="cannot be reached"):
        transport.UnixTransport(tmp_path / "s").exchange("GET", "/", None, {}, 1.0)


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".test"], ids=["empty", "long"])
def test_exchange_says_so_when_no_machine_can_have_the_name(name: str) -> None:
    made = transport.TlsTransport(name, 1, ssl.create_default_context())
    with pytest.raises(NodeUnreachable):
        made.exchange("GET", "/", None, {}, 1.0)


def test_exchange_refuses_a_server_of_another_fleet(tmp_path: Path) -> None:
    with _tls(tmp_path) as (served, made):
        served.pieces = (_reply(b"{}"),)
        assert isinstance(made, transport.TlsTransport)
        stranger = ssl.create_default_context(
            cadata=PaperFleet(now=datetime.now(UTC)).ca
        )
        refused = transport.TlsTransport(made.address, made.port, stranger)
        with pytest.raises(NodeUnreachable, match="certificate"):
            refused.exchange("GET", "/", None, {}, END_S)
