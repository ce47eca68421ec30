"""The NBD client with a server in memory, and with servers that break the protocol."""

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.errors import Error
from node.transfer import nbd, nbd_wire
from node.transfer.extents import ALLOCATION
from node.transfer.nbd import Nbd
from node.transfer.nbd_wire import Chunk, Export, OptionReply
from tests.unit.node.transfer import nbd_server
from tests.unit.node.transfer.nbd_server import Request, Server, chunk, simple

SIZE = 8192


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with nbd_server.listening(Server(bytearray(SIZE)), tmp_path / "nbd") as found:
        yield found


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[], Nbd]]:
    made: list[Nbd] = []

    def make() -> Nbd:
        made.append(Nbd(str(tmp_path / "nbd"), "", False, SystemClock()))
        return made[-1]

    yield make
    for image in made:
        image.close()


def test_write_and_read_move_bytes(server: Server, connect: Callable[[], Nbd]) -> None:
    image = connect()
    assert (image.size_bytes, image.may_share) == (SIZE, True)
    image.wait(image.ask_write(100, memoryview(b"hello")))
    assert server.data[100:105] == b"hello"
    data = bytearray(7)
    image.wait(image.ask_read(99, memoryview(data)))
    assert data == b"\0hello\0"
    assert image.is_usable


def test_wait_takes_answers_in_any_order(
    server: Server, connect: Callable[[], Nbd]
) -> None:
    server.data[:4] = b"abcd"
    image = connect()
    kept: list[bytes] = []

    def reply(request: Request) -> bytes:
        data = bytes(server.data[request.offset : request.offset + request.length])
        payload = nbd_wire.OFFSET.pack(request.offset) + data
        kept.insert(0, chunk(request.handle, Chunk.DATA, payload))
        return b"".join(kept) if len(kept) == 2 else b""

    server.reply = reply
    first, second = bytearray(2), bytearray(2)
    handles = [
        image.ask_read(0, memoryview(first)),
        image.ask_read(2, memoryview(second)),
    ]
    assert not image.is_usable
    for handle in handles:
        image.wait(handle)
    assert bytes(first + second) == b"abcd"


def test_read_fills_holes_with_zeroes(
    server: Server, connect: Callable[[], Nbd]
) -> None:
    image = connect()
    server.reply = lambda request: (
        chunk(request.handle, Chunk.HOLE, struct.pack(">QI", 2, 2), is_done=False)
        + chunk(request.handle, Chunk.DATA, nbd_wire.OFFSET.pack(0) + b"ab")
    )
    data = bytearray(b"xxxx")
    image.wait(image.ask_read(0, memoryview(data)))
    assert data == b"ab\0\0"


@pytest.mark.parametrize(("is_sparse", "flags"), [(True, 0), (False, 2)])
def test_zero_keeps_the_space_unless_sparse(
    server: Server, connect: Callable[[], Nbd], is_sparse: bool, flags: int
) -> None:
    server.data[:] = b"x" * SIZE
    connect().zero(4096, 4096, is_sparse)
    assert server.data == b"x" * 4096 + bytes(4096)
    assert server.requests[-1].flags == flags


def test_statuses_are_named(server: Server, connect: Callable[[], Nbd]) -> None:
    assert connect().statuses(0, SIZE) == {ALLOCATION: [(SIZE, 0)]}


def test_flush_asks_only_who_can(server: Server, connect: Callable[[], Nbd]) -> None:
    connect().flush()
    assert len(server.requests) == 1
    server.flags = Export.READ_ONLY
    connect().flush()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("number", "code"),
    [(28, "no_space"), (1, "image_read_only"), (5, "image_failed")],
)
@pytest.mark.parametrize("is_structured", [False, True], ids=["simple", "structured"])
def test_wait_raises_what_the_storage_says_and_goes_on(
    server: Server,
    connect: Callable[[], Nbd],
    number: int,
    code: str,
    is_structured: bool,
) -> None:
    image = connect()
    payload = struct.pack(">IH", number, 3) + b"why"

    def reply(request: Request) -> bytes:
        if is_structured:
            return chunk(request.handle, nbd_wire.CHUNK_ERROR + 1, payload)
        return simple(request.handle, number)

    server.reply = reply
    with pytest.raises(Error) as caught:
        image.wait(image.ask_write(0, memoryview(b"x")))
    assert caught.value.code == code
    server.reply = None
    image.wait(image.ask_write(0, memoryview(b"x")))


BAD_REPLIES: dict[str, Callable[[Request], bytes]] = {
    "magic": lambda request: b"x" * 16,
    "handle": lambda request: chunk(request.handle + 1, Chunk.NONE),
    "simple-read": lambda request: simple(request.handle),
    "outside": lambda request: chunk(
        request.handle, Chunk.DATA, nbd_wire.OFFSET.pack(4) + b"ab"
    ),
    "before": lambda request: chunk(
        request.handle, Chunk.HOLE, struct.pack(">QI", 0, 4)
    ),
    "huge-hole": lambda request: chunk(
        request.handle, Chunk.HOLE, struct.pack(">QI", 1, 2**31)
    ),
    "no-data": lambda request: chunk(request.handle, Chunk.DATA, b"12345678"),
    "nothing": lambda request: chunk(request.handle, Chunk.NONE),
    "half": lambda request: chunk(
        request.handle, Chunk.DATA, nbd_wire.OFFSET.pack(1) + b"a"
    ),
    "unknown-kind": lambda request: chunk(request.handle, 99),
    "status-of-a-read": lambda request: chunk(
        request.handle, Chunk.BLOCK_STATUS, bytes(12)
    ),
    "long-error": lambda request: nbd_wire.STRUCTURED.pack(
        *(nbd_wire.STRUCTURED_MAGIC, 1, nbd_wire.CHUNK_ERROR + 1),
        *(request.handle, 2**31),
    ),
    "short-error": lambda request: chunk(
        request.handle, nbd_wire.CHUNK_ERROR + 1, b"123"
    ),
}


@pytest.mark.parametrize("reply", BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_a_reply_against_the_protocol_ends_the_connection(
    server: Server, connect: Callable[[], Nbd], reply: Callable[[Request], bytes]
) -> None:
    image = connect()
    server.reply = reply
    data = bytearray(4)
    with pytest.raises(nbd_wire.NotNbd):
        image.wait(image.ask_read(1, memoryview(data)))
    assert not image.is_usable


BAD_STATUSES: dict[str, bytes] = {
    "unknown-context": struct.pack(">III", 7, SIZE, 0),
    "no-length": struct.pack(">III", 0, 0, 0),
    "cut": struct.pack(">II", 0, SIZE),
    "empty": b"",
}


@pytest.mark.parametrize("payload", BAD_STATUSES.values(), ids=BAD_STATUSES)
def test_a_status_against_the_protocol_ends_the_connection(
    server: Server, connect: Callable[[], Nbd], payload: bytes
) -> None:
    image = connect()
    server.reply = lambda request: chunk(request.handle, Chunk.BLOCK_STATUS, payload)
    with pytest.raises(nbd_wire.NotNbd):
        image.statuses(0, SIZE)
    assert not image.is_usable


BAD_OPTIONS: dict[str, Callable[[int], bytes]] = {
    "magic": lambda kind: b"x" * 20,
    "other-option": lambda kind: nbd_server.option_reply(kind + 1, OptionReply.ACK),
    "refused": lambda kind: nbd_server.option_reply(kind, nbd_wire.OPTION_ERROR + 6),
    "huge": lambda kind: nbd_wire.OPTION_REPLY.pack(
        nbd_wire.OPTION_REPLY_MAGIC, kind, OptionReply.INFO, 2**31
    ),
    "endless": lambda kind: nbd_server.option_reply(kind, OptionReply.INFO) * 100,
    "no-contexts": lambda kind: nbd_server.option_reply(kind, OptionReply.ACK),
    "nameless-context": lambda kind: (
        nbd_server.option_reply(kind, OptionReply.META_CONTEXT, b"1234")
        + nbd_server.option_reply(kind, OptionReply.ACK)
    ),
}


@pytest.mark.parametrize("option", BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_connect_refuses_a_strange_negotiation(
    server: Server, connect: Callable[[], Nbd], option: Callable[[int], bytes]
) -> None:
    server.option = option
    with pytest.raises(nbd_wire.NotNbd):
        connect()


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad\r\n\r\n", nbd_wire.GREETING.pack(b"NBDMAGIC", 1, 1)],
    ids=["http", "old"],
)
def test_connect_refuses_what_is_no_nbd_server(
    server: Server, connect: Callable[[], Nbd], greeting: bytes
) -> None:
    server.greeting = greeting
    with pytest.raises(nbd_wire.NotNbd):
        connect()


def test_connect_tells_that_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(nbd.ImageUnreachable):
        Nbd(str(tmp_path / "nobody"), "", False, SystemClock())


def test_connect_waits_for_who_does_not_listen_yet(
    tmp_path: Path, connect: Callable[[], Nbd], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "nbd"
    with contextlib.ExitStack() as stack:
        early = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        early.bind(str(path))

        def listen(_duration_s: float) -> None:
            path.unlink()
            stack.enter_context(nbd_server.listening(Server(bytearray(SIZE)), path))

        monkeypatch.setattr(time, "sleep", listen)
        assert connect().size_bytes == SIZE


def test_a_server_that_hangs_up_ends_the_connection(
    server: Server, connect: Callable[[], Nbd]
) -> None:
    image = connect()
    server.reply = lambda _request: b""
    handle = image.ask_read(0, memoryview(bytearray(4)))
    server.hang_up()
    with pytest.raises(nbd.ImageUnreachable):
        image.wait(handle)
    assert not image.is_usable


def test_a_server_that_is_silent_hangs(
    server: Server, connect: Callable[[], Nbd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd, "REQUEST_S", 0.2)
    image = connect()
    server.reply = lambda _request: b""
    with pytest.raises(nbd.StorageHangs):
        image.flush()
    assert not image.is_usable
