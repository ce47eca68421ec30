"""Whole buffers through a socket pair, with impatience."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from node.clock import SystemClock
from node.transfer.stream import SLICE_S, PeerGone, PeerSilent, Stream

DEADLINE_S: Final = 30.0
END: Final = b"\r\n\r\n"


@pytest.fixture
def ends() -> Iterator[tuple[Stream, socket.socket]]:
    one, two = socket.socketpair()
    two.settimeout(DEADLINE_S)
    yield Stream(one, SystemClock()), two
    one.close()
    two.close()


Ends = tuple[Stream, socket.socket]


def test_fill_gathers_what_comes_in_pieces(ends: Ends) -> None:
    stream, other = ends

    def send() -> None:
        for _ in range(4):
            other.sendall(b"x" * 100_000)

    sender = threading.Thread(target=send)
    sender.start()
    data = bytearray(400_000)
    assert stream.fill(memoryview(data)) == 400_000
    sender.join(DEADLINE_S)
    assert data == b"x" * 400_000


def test_fill_returns_less_at_the_end(ends: Ends) -> None:
    stream, other = ends
    other.sendall(b"abc")
    other.close()
    data = bytearray(5)
    assert stream.fill(memoryview(data)) == 3
    with pytest.raises(PeerGone):
        stream.read(1)


def test_send_takes_parts_larger_than_the_socket(ends: Ends) -> None:
    stream, other = ends
    parts = [b"a" * 10, b"", b"b" * 3_000_000, b"c" * 10]
    sender = threading.Thread(target=stream.send, args=parts)
    sender.start()
    got = b""
    while len(got) < 3_000_020:
        got += other.recv(1 << 20)
    sender.join(DEADLINE_S)
    assert got == b"".join(parts)


def test_read_until_keeps_what_comes_after(ends: Ends) -> None:
    stream, other = ends
    other.sendall(b"one" + END + b"two" + END + b"rest")
    assert stream.read_until(END, 100, 1) == b"one" + END
    assert stream.read_until(END, 100, 1) == b"two" + END
    assert stream.read(4) == b"rest"


@pytest.mark.parametrize("data", [b"x" * 5000, b"x" * 101 + END], ids=["open", "ended"])
def test_read_until_tells_that_there_is_too_much(ends: Ends, data: bytes) -> None:
    stream, other = ends
    other.sendall(data)
    assert stream.read_until(END, 100, 1) is None


def test_read_until_is_empty_at_the_end(ends: Ends) -> None:
    stream, other = ends
    other.sendall(b"half")
    other.close()
    assert stream.read_until(END, 100, 1) == b""


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda e: e.read_until(END, 100, 3 * SLICE_S), id="read_until"),
        pytest.param(lambda e: e.fill(memoryview(bytearray(100)), SLICE_S), id="fill"),
    ],
)
def test_slow_rest_is_not_waited_for(
    ends: Ends, read: Callable[[Stream], object]
) -> None:
    stream, other = ends
    is_over = threading.Event()

    def drip() -> None:
        while not is_over.wait(0.05):
            other.sendall(b"x")

    dripper = threading.Thread(target=drip)
    dripper.start()
    try:
        with pytest.raises(PeerSilent):
            read(stream)
    finally:
        is_over.set()
        dripper.join(DEADLINE_S)


def test_fill_gives_up_when_nothing_moves(ends: Ends) -> None:
    stream, _ = ends
    with stream.under(SLICE_S, lambda: None), pytest.raises(PeerSilent):
        stream.fill(memoryview(bytearray(1)))


def test_send_gives_up_when_nothing_moves(ends: Ends) -> None:
    stream, _ = ends
    with stream.under(SLICE_S, lambda: None), pytest.raises(PeerSilent):
        stream.send(bytes(20_000_000))


def test_fill_ends_when_the_check_says_so(ends: Ends) -> None:
    stream, _ = ends

    def refuse() -> None:
        raise PeerGone("enough")

    with stream.under(60, refuse), pytest.raises(PeerGone, match="enough"):
        stream.fill(memoryview(bytearray(1)))
    assert stream.patience_s == 60.0


def test_send_tells_that_the_peer_has_gone(ends: Ends) -> None:
    stream, other = ends
    other.close()
    with pytest.raises(PeerGone):
        stream.send(b"x")


def test_has_news_tells_of_bytes_and_of_the_end(ends: Ends) -> None:
    stream, other = ends
    assert not stream.has_news()
    other.sendall(b"x")
    assert stream.has_news()
    stream.read(1)
    assert not stream.has_news()
    other.close()
    assert stream.has_news()


def test_drain_lets_the_peer_read_our_last_word(ends: Ends) -> None:
    stream, other = ends
    stream.send(b"answer")
    drainer = threading.Thread(target=stream.drain, args=(DEADLINE_S,))
    drainer.start()
    other.sendall(b"x" * 1_000_000)
    assert other.recv(100) == b"answer"
    assert other.recv(100) == b""
    other.close()
    drainer.join(DEADLINE_S)
    assert not drainer.is_alive()
