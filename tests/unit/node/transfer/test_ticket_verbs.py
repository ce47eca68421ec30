"""The agent's client and the transfer server's face for it, over a socket."""

import contextlib
import dataclasses
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.errors import Conflict, Denied, Error, Invalid, NotFound
from node.transfer import connection
from node.transfer.client import TicketClient, TransferServerSilent
from node.transfer.connection import Answer, Exchange
from node.transfer.http_head import Head
from node.transfer.server import Server
from node.transfer.ticket_verbs import TicketVerbs
from node.transfer.tickets import Op, TicketRequest, Tickets

REQUEST = TicketRequest("t1", 1000, "nbd:unix:/run/x.sock", 300, (Op.READ,))
DEADLINE_S = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tickets.sock"


@pytest.fixture
def book() -> Tickets:
    return Tickets(SystemClock(), remove_s=0.1)


@pytest.fixture
def agent(path: Path, book: Tickets) -> Iterator[TicketClient]:
    server = Server(path, 0o600, TicketVerbs(book), SystemClock(), connections_max=2)
    server.start()
    yield TicketClient(path)
    server.close(DEADLINE_S)


def test_install_info_extend_remove(agent: TicketClient) -> None:
    agent.install(REQUEST)
    info = agent.info("t1")
    assert (info.uuid, info.size, info.ops) == ("t1", 1000, (Op.READ,))
    agent.extend("t1", 3000)
    assert agent.info("t1").expires > info.expires + 1000
    agent.remove("t1")
    agent.remove("t1")
    with pytest.raises(NotFound) as caught:
        agent.info("t1")
    assert caught.value.code == "ticket_unknown"


def test_refusals_arrive_as_what_they_are(agent: TicketClient, book: Tickets) -> None:
    with pytest.raises(Invalid):
        agent.install(dataclasses.replace(REQUEST, url="file:///x"))
    with pytest.raises(NotFound):
        agent.extend("t1", 10)
    agent.install(REQUEST)
    with pytest.raises(Invalid):
        agent.extend("t1", 0)
    with book.get("t1").operate():
        with pytest.raises(Conflict) as caught:
            agent.remove("t1")
        assert caught.value.fields == {"count": 1}
        with pytest.raises(Denied):
            agent.install(REQUEST)
    agent.remove("t1")


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        pytest.param("PUT", "/tickets/t2", b'{"uuid": "t1"}', 400, id="lacks-fields"),
        pytest.param("PUT", "/tickets/t2", b"no", 400, id="no-json"),
        pytest.param("PUT", "/tickets/t2", b"x" * 70_000, 413, id="too-large"),
        pytest.param("GET", "/tickets/", b"", 404, id="no-id"),
        pytest.param("GET", "/images/t1", b"", 404, id="other-path"),
        pytest.param("POST", "/tickets/t1", b"", 405, id="method"),
    ],
)
def test_what_is_wrong_is_refused_as_data(
    agent: TicketClient, path: Path, method: str, target: str, body: bytes, status: int
) -> None:
    caller = http.client.HTTPConnection("localhost")
    caller.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(caller):
        caller.sock.connect(str(path))
        caller.request(method, target, body)
        reply = caller.getresponse()
        assert reply.status == status
        assert b'"remedy":"' in reply.read()


def test_client_tells_that_nobody_is_there(path: Path) -> None:
    with pytest.raises(TransferServerSilent):
        TicketClient(path).info("t1")


def test_server_sends_away_who_is_too_many(agent: TicketClient, path: Path) -> None:
    idle = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3)]
    with contextlib.ExitStack() as stack:
        for each in idle:
            stack.enter_context(each)
            each.connect(str(path))
        idle[2].settimeout(DEADLINE_S)
        assert idle[2].recv(12) == b"HTTP/1.1 423"


def test_a_mistake_of_ours_costs_one_connection(path: Path) -> None:
    class Clumsy:
        def answer(self, exchange: Exchange) -> Answer:
            raise ZeroDivisionError

        def refuse(self, _head: Head | None, error: Error) -> Answer:
            return Answer(error.status, {}, error.code.encode())

    server = Server(path, 0o600, Clumsy(), SystemClock())
    server.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(DEADLINE_S)
        caller.connect(str(path))
        caller.sendall(b"GET / HTTP/1.1\r\n\r\n")
        data = b""
        while piece := caller.recv(4096):
            data += piece
    server.close(DEADLINE_S)
    assert data.startswith(b"HTTP/1.1 500")
    assert data.endswith(connection.Broken.code.encode())


def test_a_long_list_comes_in_chunks_and_a_short_one_with_its_length(
    path: Path,
) -> None:
    class Lister:
        def answer(self, exchange: Exchange) -> None:
            count = int(exchange.head.path.removeprefix("/"))
            exchange.send_pieces({}, (b"x" * 1000 for _ in range(count)))

        def refuse(self, _head: Head | None, error: Error) -> Answer:
            return Answer(error.status)

    server = Server(path, 0o600, Lister(), SystemClock())
    server.start()
    caller = http.client.HTTPConnection("localhost")
    caller.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(caller):
        caller.sock.connect(str(path))
        for count, length in ((2, "2000"), (2000, None), (0, "0")):
            caller.request("GET", f"/{count}")
            reply = caller.getresponse()
            assert reply.headers["Content-Length"] == length
            assert len(reply.read()) == count * 1000
    server.close(DEADLINE_S)
