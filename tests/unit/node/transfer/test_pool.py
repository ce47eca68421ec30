"""Connections that are lent, kept, dropped, and never too many."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.transfer import nbd_wire, pool
from node.transfer.nbd import ImageUnreachable, Nbd
from node.transfer.nbd_wire import Export
from node.transfer.pool import Pool, PoolClosed, TooManyAtOnce
from tests.unit.node.transfer import nbd_server
from tests.unit.node.transfer.nbd_server import DEADLINE_S, Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with nbd_server.listening(Server(bytearray(4096)), tmp_path / "nbd") as found:
        yield found


@pytest.fixture
def lent(server: Server, tmp_path: Path) -> Iterator[Pool]:
    clock = SystemClock()
    found = Pool(lambda: Nbd(str(tmp_path / "nbd"), "", False, clock), clock, 0.1)
    yield found
    found.close()


def test_borrow_keeps_a_sound_connection(server: Server, lent: Pool) -> None:
    for _ in range(3):
        with lent.borrow() as image:
            image.flush()
    assert len(server.connections) == 1
    assert lent.open == 1


def test_borrow_drops_a_connection_with_a_request_under_way(
    server: Server, lent: Pool
) -> None:
    with lent.borrow() as image:
        image.ask_read(0, memoryview(bytearray(4)))
    assert lent.open == 0
    with lent.borrow() as image:
        image.flush()
    assert len(server.connections) == 2


def test_borrow_replaces_a_connection_that_its_server_ended(
    server: Server, lent: Pool
) -> None:
    with lent.borrow() as image:
        image.flush()
    server.hang_up()
    with lent.borrow() as image:
        image.flush()
    assert lent.open == 1


def test_limit_is_one_unless_the_export_may_be_shared(
    server: Server, lent: Pool
) -> None:
    server.flags = Export.FLUSH
    assert lent.limit() == 1
    with lent.borrow(), pytest.raises(TooManyAtOnce), lent.borrow():
        pass


def test_borrow_lends_as_many_as_the_limit(lent: Pool) -> None:
    assert lent.limit() == pool.CONNECTIONS_MAX
    borrowed = [lent.borrow() for _ in range(pool.CONNECTIONS_MAX)]
    images = [each.__enter__() for each in borrowed]
    assert len(set(map(id, images))) == pool.CONNECTIONS_MAX
    with pytest.raises(TooManyAtOnce), lent.borrow():
        pass
    for each in borrowed:
        each.__exit__(None, None, None)
    with lent.borrow():
        pass


def test_borrow_waits_for_its_turn(server: Server, tmp_path: Path) -> None:
    server.flags = Export.FLUSH
    clock = SystemClock()
    waiting = Pool(
        lambda: Nbd(str(tmp_path / "nbd"), "", False, clock), clock, DEADLINE_S
    )
    got = threading.Event()

    def borrow() -> None:
        with waiting.borrow():
            got.set()

    second = threading.Thread(target=borrow)
    with waiting.borrow():
        second.start()
        assert not got.wait(0.1)
    assert got.wait(DEADLINE_S)
    second.join(DEADLINE_S)
    waiting.close()


def test_borrow_gives_its_place_back_when_it_cannot_connect(
    server: Server, lent: Pool
) -> None:
    server.greeting = b"x" * nbd_wire.GREETING.size
    for _ in range(pool.CONNECTIONS_MAX + 1):
        with pytest.raises(nbd_wire.NotNbd), lent.borrow():
            pass
    assert lent.open == 0


def test_close_ends_what_is_idle_and_lends_nothing(server: Server, lent: Pool) -> None:
    with lent.borrow() as image:
        image.flush()
        lent.close()
    assert lent.open == 0
    with pytest.raises(PoolClosed), lent.borrow():
        pass


def test_unreachable_images_take_no_place(tmp_path: Path) -> None:
    clock = SystemClock()
    nobody = Pool(lambda: Nbd(str(tmp_path / "no"), "", False, clock), clock, 0.1)
    for _ in range(2):
        with pytest.raises(ImageUnreachable), nobody.borrow():
            pass
    assert nobody.open == 0
