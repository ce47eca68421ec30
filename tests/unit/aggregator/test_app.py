"""Tests of how the aggregator stops."""

import threading

import pytest

from aggregator import app


@pytest.mark.parametrize(
    ("hangs", "ended"),
    [pytest.param(False, True, id="ends"), pytest.param(True, False, id="hangs")],
)
def test_ends_within_waits_no_longer_than_told(hangs: bool, ended: bool) -> None:
    gate = threading.Event()

    def act() -> None:
        gate.wait()

    if not hangs:
        gate.set()
    assert app.ends_within(act, 0.2) is ended
    gate.set()
