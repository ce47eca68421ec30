"""Extents from block status, against the same bytes one by one."""

import json

from hypothesis import given
from hypothesis import strategies as st

from node.transfer import extents
from node.transfer.extents import ALLOCATION, DEPTH, DIRTY, Extent

BITMAP = f"{DIRTY}b"
STATUS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), max_size=8)


def spread(status: list[tuple[int, int]]) -> list[int]:
    return [value for length, value in status for _ in range(length)]


@given(STATUS, STATUS, STATUS, st.integers(0, 5), st.integers(0, 30))
def test_read_says_of_each_byte_what_all_contexts_do(
    allocation: list[tuple[int, int]],
    depth: list[tuple[int, int]],
    bitmap: list[tuple[int, int]],
    start: int,
    length: int,
) -> None:
    given_ = {ALLOCATION: allocation, DEPTH: depth, BITMAP: bitmap}
    said = [
        (each.is_zero, each.is_hole, each.is_dirty)
        for each in extents.read(start, start + length, given_)
        for _ in range(each.length)
    ]
    expected = [
        (bool(a & 2), d == 0, bool(b & 1))
        for a, d, b in zip(
            spread(allocation), spread(depth), spread(bitmap), strict=False
        )
    ]
    assert said == expected[:length]


def test_read_knows_no_holes_without_depth() -> None:
    found = list(extents.read(10, 20, {ALLOCATION: [(100, 3)]}))
    assert found == [Extent(10, 10, is_zero=True)]


def test_join_puts_like_neighbours_together() -> None:
    parts = [Extent(0, 4, True), Extent(4, 4, True), Extent(8, 4, False)]
    assert list(extents.join(parts)) == [Extent(0, 8, True), Extent(8, 4, False)]
    assert list(extents.join([])) == []


def test_to_json_is_imageios_list() -> None:
    found = [Extent(0, 4, True, True), Extent(4, 2, False, False, True)]
    assert json.loads(b"".join(extents.to_json(found, is_dirty=False))) == [
        {"start": 0, "length": 4, "zero": True, "hole": True},
        {"start": 4, "length": 2, "zero": False, "hole": False},
    ]
    assert json.loads(b"".join(extents.to_json(found, is_dirty=True))) == [
        {"start": 0, "length": 4, "zero": True, "dirty": False},
        {"start": 4, "length": 2, "zero": False, "dirty": True},
    ]
    assert b"".join(extents.to_json([], is_dirty=False)) == b"[]\n"
