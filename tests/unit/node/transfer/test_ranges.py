"""Ranges, against a set of single bytes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.transfer import ranges
from node.transfer.ranges import Ranges

PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=20)


@given(PAIRS)
def test_add_equals_a_set_of_bytes(pairs: list[tuple[int, int]]) -> None:
    known, expected = Ranges(), set[int]()
    for start, end in pairs:
        known.add(start, end)
        expected |= set(range(start, end))
    assert known.total == len(expected)
    found = known.first(100)
    assert {byte for start, end in found for byte in range(start, end)} == expected
    # Apart and in order: neighbours do not even touch.
    assert all(one[1] < two[0] for one, two in itertools.pairwise(found))


def test_copy_goes_its_own_way() -> None:
    first = Ranges()
    first.add(0, 10)
    second = Ranges(first)
    second.add(20, 30)
    assert (first.total, second.total) == (10, 20)


def test_add_falls_behind_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "RANGES_MAX", 2)
    known = Ranges()
    for start in (0, 10, 20):
        known.add(start, start + 1)
    assert known.first(9) == ((0, 1), (10, 11))
    known.add(1, 10)  # joins what is known
    assert known.first(9) == ((0, 11),)
