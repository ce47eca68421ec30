"""Links: who answers is checked, and a connection is kept as long as it may be."""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from node import pki
from node.http import client, links
from node.model.fleet import Role
from tests.fakes.papers import NODE_ID, PaperFleet

END_S = 20.0  # a test that hangs ends here
SHORT_S = 0.3
PEER = links.Peer(NODE_ID, Role.NODE)
Act = Literal["answer", "answer and close", "close", "say nothing"]


@dataclass(slots=True)
class Server:
    """Serves one connection after the other; answers, unless an act is prepared."""

    listener: ssl.SSLSocket
    acts: list[Act] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)  # one for each connection
    requests: int = 0
    request: bytes = b""  # the last one
    status: bytes = b"200 OK"
    reply: bytes = b"{}"

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except ssl.SSLError:
                continue
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(END_S)
                shown = connection.getpeercert(binary_form=True)
                assert shown is not None
                self.callers.append(pki.fingerprint_of_der(shown))
                while self._serve(connection):
                    pass

    def _serve(self, connection: socket.socket) -> bool:
        self.request = connection.recv(65536)
        if not self.request:
            return False
        while b"\r\n\r\n" not in self.request or _lacks_body(self.request):
            self.request += connection.recv(65536)
        self.requests += 1
        act = self.acts.pop(0) if self.acts else "answer"
        if act.startswith("answer"):
            head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % (self.status, len(self.reply)) + self.reply)
        return act in ("answer", "say nothing")


def _lacks_body(request: bytes) -> bool:
    head, _, body = request.partition(b"\r\n\r\n")
    wanted = re.search(rb"Content-Length: (\d+)", head)
    return wanted is not None and len(body) < int(wanted[1])


class Papers:
    """A fleet, and files with the papers of its members."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fleet = PaperFleet(now=datetime.now(UTC))
        self._made = 0
        self.fingerprints: list[str] = []
        self.ca = self._fleet.ca

    def context(self, name: str = "a1", role: Role = Role.AGGREGATOR) -> ssl.SSLContext:
        """Return how a member with a fresh certificate calls others."""
        certificate, key = self._files(name, role)
        self.fingerprints.append(pki.fingerprint(certificate.read_text()))
        return pki.client_context(self.ca, str(certificate), str(key))

    @contextlib.contextmanager
    def server(
        self, name: str = NODE_ID, role: Role = Role.NODE, address: str = "127.0.0.1"
    ) -> Iterator[Server]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._files(name, role))
        context.load_verify_locations(cadata=self.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        listener = socket.create_server((address, 0))
        server = Server(context.wrap_socket(listener, server_side=True))
        thread = threading.Thread(target=server.run)
        thread.start()
        yield server
        with contextlib.suppress(OSError):
            server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        thread.join(END_S)

    def _files(self, name: str, role: Role) -> tuple[Path, Path]:
        self._made += 1
        key = pki.make_key()
        paths = (
            self._folder / f"{self._made}.pem",
            self._folder / f"{self._made}.key",
        )
        certificate = self._fleet.issue(pki.signing_request(key, name), name, role)
        paths[0].write_text(certificate)
        paths[1].write_text(pki.dump_key(key).reveal())
        return paths


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


@dataclass(slots=True)
class Bench:
    server: Server
    papers: Papers
    context: ssl.SSLContext
    transport: links.KeptTransport

    def ask(self, timeout_s: float = END_S) -> client.Reply:
        return self.transport.exchange("GET", "/v1/x", None, {}, timeout_s)


@pytest.fixture
def bench(papers: Papers) -> Iterator[Bench]:
    with papers.server() as server:
        made = Bench(
            server,
            papers,
            papers.context(),
            links.KeptTransport("127.0.0.1", server.port, PEER, lambda: made.context),
        )
        yield made
        made.transport.close()


# --- who answers


def _ask_once(
    server: Server, context: ssl.SSLContext, address: str = "127.0.0.1"
) -> client.Reply:
    transport = links.MemberTransport(address, server.port, PEER, context)
    return transport.exchange("GET", "/v1/x", None, {}, END_S)


def test_exchange_reaches_the_member_it_wants(papers: Papers) -> None:
    with papers.server() as server:
        assert _ask_once(server, papers.context()).body == b"{}"


def test_exchange_reaches_it_where_its_certificate_does_not_say(
    papers: Papers,
) -> None:
    with papers.server(address="127.0.0.2") as server:
        reply = _ask_once(server, papers.context(), "127.0.0.2")
    assert reply.body == b"{}"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        pytest.param("22222222-0000-4000-8000-000000000002", Role.NODE, id="node"),
        pytest.param(NODE_ID, Role.AGGREGATOR, id="role"),
    ],
)
def test_exchange_tells_another_member_nothing(
    papers: Papers, name: str, role: Role
) -> None:
    with papers.server(name, role) as server:
        with pytest.raises(links.WrongMember) as raised:
            _ask_once(server, papers.context())
        assert server.requests == 0
    assert raised.value.fields["wanted"] == NODE_ID
    assert raised.value.remedy


def test_exchange_tells_another_fleet_nothing(papers: Papers, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = Papers(tmp_path / "other")
    with papers.server() as server:
        with pytest.raises(client.NodeUnreachable, match="certificate"):
            _ask_once(server, stranger.context())
        assert server.requests == 0


def test_kept_exchange_tells_another_member_nothing(papers: Papers) -> None:
    with papers.server("22222222-0000-4000-8000-000000000002") as server:
        context = papers.context()
        transport = links.KeptTransport("127.0.0.1", server.port, PEER, lambda: context)
        for _ in range(2):
            with pytest.raises(links.WrongMember):
                transport.exchange("GET", "/v1/x", None, {}, END_S)
        assert server.requests == 0


# --- how long a connection lives


def test_connection_is_kept_between_requests(bench: Bench) -> None:
    assert [bench.ask().status for _ in range(3)] == [200, 200, 200]
    assert len(bench.server.callers) == 1


def test_connection_is_made_anew_when_the_other_side_has_closed_it(
    bench: Bench,
) -> None:
    bench.server.acts = ["answer and close"]
    assert [bench.ask().status for _ in range(2)] == [200, 200]
    assert len(bench.server.callers) == 2


def test_request_is_sent_again_when_the_other_side_closes_meanwhile(
    bench: Bench,
) -> None:
    bench.server.acts = ["answer", "close"]
    assert [bench.ask().status for _ in range(2)] == [200, 200]
    assert (bench.server.requests, len(bench.server.callers)) == (3, 2)


def test_request_is_sent_once_on_a_connection_of_its_own(bench: Bench) -> None:
    bench.server.acts = ["close"]
    with pytest.raises(client.NodeUnreachable):
        bench.ask()
    assert bench.server.requests == 1
    assert bench.ask().status == 200


def test_request_is_not_sent_again_when_its_time_is_over(bench: Bench) -> None:
    bench.ask()
    bench.server.acts = ["say nothing"]
    begin = time.monotonic()
    with pytest.raises(client.NodeUnreachable):
        bench.ask(SHORT_S)
    assert time.monotonic() - begin < END_S / 2
    assert bench.server.requests == 2


def test_connection_is_made_anew_with_a_fresh_certificate(bench: Bench) -> None:
    bench.ask()
    bench.context = bench.papers.context()
    bench.ask()
    assert bench.server.callers == bench.papers.fingerprints
