"""Tickets: what they allow, when they end, what they remember."""

import contextlib
import dataclasses
import threading
from typing import Any

import pytest

from node.errors import Denied
from node.transfer import tickets
from node.transfer.tickets import (
    Cancelled,
    NotAllowed,
    Op,
    TicketDiffers,
    TicketInUse,
    TicketRequest,
    Tickets,
    TicketUnknown,
    TicketWrong,
    TooManyTickets,
)
from tests.fakes.clock import FakeClock

REQUEST = TicketRequest("t1", 1000, "nbd:unix:/run/x.sock", 300, (Op.WRITE,))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def book(clock: FakeClock) -> Tickets:
    found = Tickets(clock, remove_s=0)
    found.install(REQUEST)
    return found


@pytest.mark.parametrize(
    ("ops", "reads", "writes"),
    [
        pytest.param((Op.READ,), True, False, id="read"),
        pytest.param((Op.WRITE,), True, True, id="write"),
        pytest.param((Op.READ, Op.WRITE), True, True, id="both"),
    ],
)
def test_authorize_lets_the_writer_read(
    clock: FakeClock, ops: tuple[Op, ...], reads: bool, writes: bool
) -> None:
    book = Tickets(clock)
    book.install(dataclasses.replace(REQUEST, ops=ops))
    for op, is_allowed in ((Op.READ, reads), (Op.WRITE, writes)):
        if is_allowed:
            book.authorize("t1", op)
        else:
            with pytest.raises(NotAllowed):
                book.authorize("t1", op)


def test_authorize_refuses_a_stranger(book: Tickets) -> None:
    with pytest.raises(NotAllowed):
        book.authorize("t2", Op.READ)


def test_a_ticket_ends_after_its_last_use(book: Tickets, clock: FakeClock) -> None:
    clock.advance(299)
    with book.authorize("t1", Op.WRITE).operate():
        pass
    clock.advance(299)
    book.authorize("t1", Op.WRITE)
    clock.advance(1)
    with pytest.raises(NotAllowed):
        book.authorize("t1", Op.WRITE)


def test_extend_counts_from_now(book: Tickets, clock: FakeClock) -> None:
    clock.advance(400)
    book.get("t1").extend(10)
    clock.advance(9)
    book.authorize("t1", Op.WRITE)
    clock.advance(1)
    with pytest.raises(NotAllowed):
        book.authorize("t1", Op.WRITE)


def test_info_counts_what_is_done_and_what_is_under_way(
    book: Tickets, clock: FakeClock
) -> None:
    ticket = book.get("t1")
    with ticket.operate(0) as operation:
        operation.done = 100
    with contextlib.suppress(ZeroDivisionError), ticket.operate(500) as operation:
        operation.done = 10
        raise ZeroDivisionError
    clock.advance(7)
    assert (ticket.info().idle_time, ticket.info().active) == (7, False)
    with ticket.operate(90) as operation:
        operation.done = 20
        info = ticket.info()
    assert (info.idle_time, info.active) == (0, True)
    assert info.ranges == ((0, 110), (500, 510))
    assert info.transferred == 120


def test_info_counts_nothing_of_looking(book: Tickets) -> None:
    with book.get("t1").operate(0, is_transfer=False) as operation:
        operation.done = 100
    assert book.get("t1").info().transferred == 0


def test_info_cannot_tell_what_a_ticket_for_both_transferred(clock: FakeClock) -> None:
    book = Tickets(clock)
    book.install(dataclasses.replace(REQUEST, ops=(Op.READ, Op.WRITE)))
    assert book.get("t1").info().transferred is None


def test_install_again_keeps_what_was_done(book: Tickets, clock: FakeClock) -> None:
    with book.get("t1").operate() as operation:
        operation.done = 5
    clock.advance(299)
    book.install(REQUEST)
    clock.advance(299)
    assert book.authorize("t1", Op.WRITE).info().transferred == 5


def test_install_refuses_another_ticket_of_the_same_id(book: Tickets) -> None:
    with pytest.raises(TicketDiffers):
        book.install(dataclasses.replace(REQUEST, size=2000))
    assert book.get("t1").request.size == 1000


def test_install_refuses_too_many(
    book: Tickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "TICKETS_MAX", 1)
    with pytest.raises(TooManyTickets):
        book.install(dataclasses.replace(REQUEST, uuid="t2"))
    book.install(REQUEST)


@pytest.mark.parametrize(
    "change",
    [
        {"uuid": ""},
        {"uuid": "a/b"},
        {"uuid": "x" * 65},
        {"size": -1},
        {"url": "file:///etc/passwd"},
        {"url": "nbd:unix:relative"},
        {"url": "nbd:localhost:10809"},
        {"timeout": 0},
        {"ops": ()},
        {"inactivity_timeout": 0},
        {"filename": "a\r\nSet-Cookie: b"},
        {"transfer_id": "a\nb"},
    ],
    ids=str,
)
def test_install_refuses_what_makes_no_sense(
    clock: FakeClock, change: dict[str, Any]
) -> None:
    with pytest.raises(TicketWrong) as caught:
        Tickets(clock).install(dataclasses.replace(REQUEST, **change))
    assert caught.value.fields["field"] in change


def test_remove_forgets_and_may_be_asked_twice(book: Tickets) -> None:
    book.remove("t1")
    book.remove("t1")
    with pytest.raises(TicketUnknown):
        book.get("t1")
    with pytest.raises(NotAllowed):
        book.authorize("t1", Op.WRITE)


def test_remove_stays_until_requests_have_ended(book: Tickets) -> None:
    ticket = book.get("t1")
    with ticket.operate() as operation:
        with pytest.raises(TicketInUse):
            book.remove("t1")
        with pytest.raises(Cancelled):
            operation.check()
        with pytest.raises(Cancelled), ticket.operate():
            pass
        with pytest.raises(Denied):
            book.authorize("t1", Op.READ)
        with pytest.raises(Denied):
            book.install(REQUEST)
        assert book.get("t1").info().canceled
    book.remove("t1")
    book.install(REQUEST)


def test_remove_waits_for_the_last_request(clock: FakeClock) -> None:
    book = Tickets(clock, remove_s=10.0)
    book.install(REQUEST)
    remover = threading.Thread(target=book.remove, args=("t1",))
    with book.get("t1").operate() as operation:
        remover.start()
        while not operation.ticket.info().canceled:
            remover.join(0.01)
        assert remover.is_alive()
    remover.join(10.0)
    assert not remover.is_alive()
    with pytest.raises(TicketUnknown):
        book.get("t1")
