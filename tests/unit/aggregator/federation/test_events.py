"""The log of what happened in the fleet."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator import db
from aggregator.federation.events import EventLog, LoggedEvent
from node.model.ids import CorrelationId
from tests.fakes import fleet
from tests.fakes.clock import FakeClock


@pytest.fixture
def events(tmp_path: Path) -> Iterator[EventLog]:
    database = db.Database(db.sqlite_url(tmp_path / "aggregator.db"))
    yield EventLog(database, FakeClock())
    database.close()


def test_record_returns_what_list_shows(events: EventLog) -> None:
    recorded = events.record(
        "vm_placed",
        node_id=fleet.node_id(1),
        vm_id=fleet.vm_id(1),
        user="admin@internal",
        correlation_id=CorrelationId("c-1"),
        name="web",
        node="n1",
    )
    assert events.list() == (recorded,)
    assert recorded == LoggedEvent(
        1,
        "2026-11-22T08:00:00.000Z",
        "vm_placed",
        {"name": "web", "node": "n1", "user": "admin@internal"},
        fleet.node_id(1),
        fleet.vm_id(1),
        "admin@internal",
        CorrelationId("c-1"),
    )


def _silences() -> list[db.NewEvent]:
    return [db.NewEvent("t", "node_suspect", {}, fleet.node_id(i)) for i in (1, 2)]


def test_record_all_gives_each_its_number(events: EventLog) -> None:
    assert events.record_all(_silences()) == (1, 2)
    found = [(each.seq, each.node_id) for each in events.wait(0, 0.0)]
    assert found == [(1, fleet.node_id(1)), (2, fleet.node_id(2))]


def test_record_all_wakes_who_waits(events: EventLog) -> None:
    waiter = threading.Thread(target=events.wait, args=(0, 60.0), daemon=True)
    waiter.start()
    events.record_all(_silences())
    waiter.join(10.0)
    assert not waiter.is_alive()


def test_list_gives_the_newest_first_between_its_bounds(events: EventLog) -> None:
    for number in range(6):
        events.record("vm_placed", name=str(number))
    found = events.list(after=1, before=6, maximum=3)
    assert [event.seq for event in found] == [5, 4, 3]


def test_list_gives_those_of_a_vm_or_node(events: EventLog) -> None:
    events.record("vm_placed", vm_id=fleet.vm_id(1), node_id=fleet.node_id(1))
    events.record("vm_placed", vm_id=fleet.vm_id(2), node_id=fleet.node_id(2))
    assert [each.seq for each in events.list(vm_id=fleet.vm_id(2))] == [2]
    assert [each.seq for each in events.list(node_id=fleet.node_id(1))] == [1]


def test_wait_returns_the_oldest_first_without_waiting(events: EventLog) -> None:
    for _ in range(3):
        events.record("vm_placed")
    assert [each.seq for each in events.wait(1, 10.0)] == [2, 3]


def test_wait_returns_nothing_when_the_time_is_over(events: EventLog) -> None:
    assert events.wait(0, 0.01) == ()


def test_wait_wakes_when_something_happens(events: EventLog) -> None:
    seen: list[LoggedEvent] = []
    waiter = threading.Thread(target=lambda: seen.extend(events.wait(0, 10.0)))
    waiter.start()
    events.record("vm_placed")
    waiter.join(10.0)
    assert [each.seq for each in seen] == [1]


def test_close_lets_go_of_those_who_wait(events: EventLog) -> None:
    waiter = threading.Thread(target=events.wait, args=(0, 60.0))
    waiter.start()
    events.close()
    waiter.join(10.0)
    assert not waiter.is_alive()
