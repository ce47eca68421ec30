"""What is done aside: one of each kind at a time."""

import logging
import threading

import pytest

from node.errors import Busy
from node.storage.aside import Aside, at_once

LONG_S = 10.0


def test_do_does_one_of_a_kind_at_a_time() -> None:
    aside, may_end, done = Aside(), threading.Event(), list[str]()

    def long() -> None:
        assert may_end.wait(LONG_S)
        done.append("long")

    assert aside.do("upkeep", long)
    assert not aside.do("upkeep", lambda: done.append("refused"))
    assert aside.do("join", lambda: done.append("other"))
    may_end.set()
    aside.wait(LONG_S)
    assert aside.do("upkeep", lambda: done.append("next"))
    aside.wait(LONG_S)
    assert sorted(done) == ["long", "next", "other"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(Busy("wait a moment"), "join: busy: wait a moment", id="error"),
        pytest.param(KeyError("x"), "join failed", id="bug"),
    ],
)
def test_do_survives_what_goes_wrong(
    caplog: pytest.LogCaptureFixture, error: Exception, told: str
) -> None:
    def fail() -> None:
        raise error

    caplog.set_level(logging.INFO)
    aside = Aside()
    assert aside.do("join", fail)
    aside.wait(LONG_S)
    assert told in caplog.text
    assert aside.do("join", lambda: None)
    aside.wait(LONG_S)


def test_at_once_calls_all_at_the_same_time() -> None:
    barrier = threading.Barrier(5)
    found = at_once("x", [lambda: barrier.wait(LONG_S)] * 5, LONG_S)
    assert sorted(each.result(0.0) for each in found) == list(range(5))


def test_at_once_leaves_behind_who_takes_long_and_keeps_errors() -> None:
    may_end = threading.Event()

    def fail() -> bool:
        raise Busy("no")

    late, failed, quick = at_once(
        "x", [lambda: may_end.wait(LONG_S), fail, may_end.is_set], 0.1
    )
    assert not late.done()
    assert isinstance(failed.exception(), Busy)
    assert quick.result() is False
    may_end.set()
    assert late.result(LONG_S)
