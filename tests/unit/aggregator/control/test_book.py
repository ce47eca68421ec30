"""What is kept of orders, and for how long."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator import db
from aggregator.control import actions, book, order
from aggregator.control.book import Book
from aggregator.control.order import Entry
from node.errors import Conflict
from tests.fakes import fleet
from tests.fakes.clock import FakeClock
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, say, view_of

VIEW = view_of(1)


def entry(number: int) -> Entry:
    ids = (fleet.job_id(number), ONE, fleet.vm_id(number), ORIGIN.correlation_id)
    at = f"2026-11-22T08:00:00.{number:03}Z"
    create = actions.CreateVm(*ids, fleet.spec(number))
    return order.record(create, f"vm{number}", ORIGIN, at)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[db.Database]:
    opened = db.Database(db.sqlite_url(tmp_path / "aggregator.db"))
    yield opened
    opened.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def kept(database: db.Database, clock: FakeClock) -> Book:
    return Book(database.records("order"), clock)


def test_put_is_on_disk(kept: Book, database: db.Database, clock: FakeClock) -> None:
    kept.put(entry(2))
    again = Book(database.records("order"), clock)
    assert again.entry(fleet.job_id(2)) == entry(2)


def test_open_leaves_alone_what_it_cannot_read(
    database: db.Database, clock: FakeClock
) -> None:
    database.records("order").put("a", {"schema": 99})
    database.records("order").put("b", order.to_body(entry(2)))
    assert [each.name for each in Book(database.records("order"), clock).orders(9)] == [
        "vm2"
    ]


def test_put_writes_nothing_that_is_written(kept: Book, database: db.Database) -> None:
    for _ in range(2):
        kept.put(entry(2))
    record = database.records("order").get(fleet.job_id(2))
    assert record is not None
    assert record.version == 1


def test_put_keeps_what_is_open_and_a_bounded_history(
    kept: Book, database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "KEPT", 5)
    monkeypatch.setattr(book, "_PRUNE_SLACK", 2)
    kept.put(entry(2))
    for number in range(3, 20):
        kept.put(order.finish(entry(number), fleet.AT))
    found = [each.name for each in kept.orders(100)]
    assert len(found) <= 7
    assert "vm2" in found
    assert "vm19" in found
    assert {record.id for record in database.records("order").list()} == {
        each.order_id for each in kept.orders(100)
    }


def test_under_way_keeps_what_the_view_may_not_show_yet(
    kept: Book, clock: FakeClock
) -> None:
    kept.put(order.finish(entry(2), fleet.AT))
    assert [each.order.name for each in kept.under_way(VIEW)] == ["vm2"]
    clock.advance(61.0)
    assert kept.under_way(VIEW) == ()


def test_under_way_forgets_what_the_view_shows(kept: Book) -> None:
    kept.put(order.finish(entry(2), fleet.AT))
    assert kept.under_way(say(VIEW, 1, fleet.vm(2))) == ()
    assert kept.under_way(VIEW) == ()


def test_under_way_forgets_what_was_refused(kept: Book) -> None:
    kept.put(order.refuse(entry(2), Conflict("no"), fleet.AT))
    assert kept.under_way(VIEW) == ()
    assert kept.creation_of(fleet.vm_id(2), VIEW) is None


def test_creation_of_finds_the_order_that_makes_a_vm(kept: Book) -> None:
    kept.put(entry(2))
    found = kept.creation_of(fleet.vm_id(2), VIEW)
    assert found is not None
    assert found.order.name == "vm2"
    assert kept.creation_of(fleet.vm_id(3), VIEW) is None
