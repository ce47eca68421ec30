"""The images' face over a socket, with an NBD server in memory."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.transfer.images import Images
from node.transfer.nbd_wire import Command
from node.transfer.server import Server
from node.transfer.tickets import Op, TicketRequest, Tickets
from tests.unit.node.transfer import nbd_server

DEADLINE_S = 30.0
SIZE = 8192


@pytest.fixture
def image(tmp_path: Path) -> Iterator[nbd_server.Server]:
    memory = nbd_server.Server(bytearray(SIZE))
    with nbd_server.listening(memory, tmp_path / "nbd.sock") as found:
        yield found


@pytest.fixture
def caller(image: nbd_server.Server, tmp_path: Path) -> Iterator[socket.socket]:
    book = Tickets(SystemClock())
    url = f"nbd:unix:{tmp_path / 'nbd.sock'}"
    book.install(TicketRequest("t1", SIZE, url, 300, (Op.WRITE,)))
    path = tmp_path / "transfer.sock"
    server = Server(path, 0o600, Images(book, str(path)), SystemClock())
    server.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as found:
        found.settimeout(DEADLINE_S)
        found.connect(str(path))
        yield found
    server.close(DEADLINE_S)
    book.remove("t1")


def ask(caller: socket.socket, first: str, body: bytes = b"") -> bytes:
    """Return the head of an answer; its body is not looked at."""
    head = f"{first} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    caller.sendall(head.encode() + body)
    return caller.recv(64 * 1024).partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    ("first", "body", "flushes"),
    [
        pytest.param("PUT /images/t1", b"x", 1, id="put"),
        pytest.param("PUT /images/t1?flush=y", b"x", 1, id="put-flush"),
        pytest.param("PUT /images/t1?flush=n", b"x", 0, id="put-later"),
        pytest.param("PATCH /images/t1", b'{"op":"zero","size":1}', 0, id="zero"),
        pytest.param(
            "PATCH /images/t1",
            b'{"op":"zero","size":1,"flush":true}',
            1,
            id="zero-flush",
        ),
        pytest.param("PATCH /images/t1", b'{"op":"flush"}', 1, id="flush"),
    ],
)
def test_what_was_written_is_flushed_when_asked(
    caller: socket.socket,
    image: nbd_server.Server,
    first: str,
    body: bytes,
    flushes: int,
) -> None:
    assert ask(caller, first, body).startswith(b"HTTP/1.1 200 ")
    commands = [each.command for each in image.requests]
    assert commands.count(Command.FLUSH) == flushes
    if flushes:
        assert commands[-1] == Command.FLUSH


def test_a_refused_body_ends_the_connection(caller: socket.socket) -> None:
    answer = ask(caller, "PUT /images/other", b"GET / HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"\r\nConnection: close" in answer
    assert caller.recv(1) == b""


def test_nothing_is_read_from_one_without_a_ticket(caller: socket.socket) -> None:
    caller.sendall(b"PATCH /images/other HTTP/1.1\r\nContent-Length: 65536\r\n\r\n{")
    assert caller.recv(64 * 1024).startswith(b"HTTP/1.1 403 ")


def test_a_body_that_nobody_wants_is_no_request(caller: socket.socket) -> None:
    first = "GET /images/t1/checksum/algorithms"
    answer = ask(caller, first, b"GET / HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close" in answer
    assert caller.recv(1) == b""


def test_a_read_that_fails_at_once_is_an_error(
    caller: socket.socket, image: nbd_server.Server
) -> None:
    image.reply = lambda request: nbd_server.chunk(
        request.handle, 0x8001, b"\0\0\0\x05\0\0"
    )
    assert ask(caller, "GET /images/t1").startswith(b"HTTP/1.1 500 ")
    image.reply = None
    assert ask(caller, "PATCH /images/t1", b'{"op":"flush"}').startswith(
        b"HTTP/1.1 200 "
    )


def test_storage_that_is_full_says_so_and_may_be_tried_again(
    caller: socket.socket, image: nbd_server.Server
) -> None:
    image.reply = lambda request: nbd_server.simple(request.handle, 28)
    head = b"PUT /images/t1 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"
    caller.sendall(head)
    answer = caller.recv(64 * 1024)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"space" in answer
    image.reply = None
    assert ask(caller, "PUT /images/t1", b"x").startswith(b"HTTP/1.1 200 ")
