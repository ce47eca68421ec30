"""Which OVF_STORE to read and which to write."""

from datetime import UTC, datetime, timedelta

import pytest

from node.storage.ovf import alternation
from node.storage.ovf.alternation import StoreAt
from node.storage.ovf.description import StoreLabel
from node.storage.ovf.store import STORE_MAX

OLD = "2026-11-22T08:00:00.000Z"
NEW = "2026-11-22T09:00:00.000Z"


def at(name: str, *, is_updated: bool, size: int | None, when: str | None) -> StoreAt:
    return StoreAt(name, f"volume of {name}", StoreLabel(is_updated, size, when))


A_OLD = at("a", is_updated=True, size=512, when=OLD)
B_NEW = at("b", is_updated=True, size=512, when=NEW)
B_CUT_OFF = at("b", is_updated=False, size=512, when=NEW)
B_HUGE = at("b", is_updated=True, size=STORE_MAX + 1, when=NEW)
B_EMPTY = at("b", is_updated=True, size=0, when=NEW)
B_SIZELESS = at("b", is_updated=True, size=None, when=NEW)
NEITHER = at("a", is_updated=False, size=None, when=None)


@pytest.mark.parametrize(
    ("stores", "read", "written"),
    [
        ((A_OLD, B_NEW), ["b", "a"], "a"),
        ((A_OLD, B_CUT_OFF), ["a"], "b"),
        ((A_OLD, B_HUGE), ["a"], "b"),
        ((A_OLD, B_EMPTY), ["a"], "b"),
        ((A_OLD, B_SIZELESS), ["a"], "b"),
        ((NEITHER, B_CUT_OFF), [], "a"),
    ],
    ids=["both-whole", "cut-off", "huge", "empty", "no-size", "never-written"],
)
def test_stores_are_chosen(
    stores: tuple[StoreAt, ...], read: list[str], written: str
) -> None:
    for each in (stores, stores[::-1]):
        assert [e.disk_id for e in alternation.newest_first(each)] == read
        assert alternation.next_to_write(each).disk_id == written


def test_one_that_cannot_be_read_is_written_before_an_older_one() -> None:
    whole = (A_OLD, B_NEW)
    newer, older = alternation.newest_first(whole)
    assert alternation.next_to_write(whole, [newer.disk_id]) == newer
    assert alternation.next_to_write(whole, [older.disk_id]) == older


@pytest.mark.parametrize(
    ("now", "expected"),
    [(10, 10 * 3600), (9, 9 * 3600 + 1), (1, 9 * 3600 + 1)],
    ids=["later", "same-second", "clock-went-back"],
)
def test_moment_is_later_than_all_others(now: int, expected: int) -> None:
    day = datetime(2026, 11, 22, tzinfo=UTC)
    found = alternation.moment((A_OLD, B_NEW), day.replace(hour=now, microsecond=9))
    assert found == day + timedelta(seconds=expected)
