"""Tests of aggregator.dashboard.looks."""

import pytest

from aggregator.dashboard import looks
from aggregator.dashboard.looks import Looks, TooManyLooks
from node.errors import Unavailable


def _look_within(taken: Looks, depth: int) -> bytes:
    """Look while `depth` others look."""
    if depth == 0:
        return taken.take(lambda: b"seen")
    return taken.take(lambda: _look_within(taken, depth - 1))


def test_take_returns_what_is_seen_when_others_look() -> None:
    assert _look_within(Looks(), looks.AT_ONCE - 1) == b"seen"


def test_take_refuses_one_look_too_many() -> None:
    with pytest.raises(TooManyLooks):
        _look_within(Looks(), looks.AT_ONCE)


def test_take_gives_its_place_back_when_the_node_is_silent() -> None:
    taken = Looks()

    def fail() -> bytes:
        raise Unavailable("the node is silent")

    for _ in range(looks.AT_ONCE):
        with pytest.raises(Unavailable):
            taken.take(fail)
    assert taken.take(lambda: b"seen") == b"seen"
