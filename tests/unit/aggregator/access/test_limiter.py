"""Tests of the limit on logins."""

import pytest

from aggregator.access import limiter
from aggregator.access.limiter import (
    FAILURES_MAX,
    WINDOW_S,
    LoginLimiter,
    TooManyLogins,
)
from tests.fakes.clock import FakeClock

KEY = ("admin@internal", "192.0.2.1")


def _fail(gate: LoginLimiter, times: int, key: limiter.Key = KEY) -> None:
    for _ in range(times):
        gate.begin(key)


def test_begin_refuses_after_too_many_failures() -> None:
    gate = LoginLimiter(FakeClock())
    _fail(gate, FAILURES_MAX)
    with pytest.raises(TooManyLogins):
        gate.begin(KEY)


def test_begin_accepts_again_when_the_window_is_over() -> None:
    clock = FakeClock()
    gate = LoginLimiter(clock)
    _fail(gate, FAILURES_MAX)
    clock.advance(WINDOW_S)
    gate.begin(KEY)


def test_begin_accepts_after_a_success() -> None:
    gate = LoginLimiter(FakeClock())
    _fail(gate, FAILURES_MAX)
    gate.succeed(KEY)
    gate.begin(KEY)


@pytest.mark.parametrize(
    "other",
    [("admin@internal", "192.0.2.2"), ("ann@internal", "192.0.2.1")],
    ids=["address", "user"],
)
def test_begin_counts_each_user_and_address(other: limiter.Key) -> None:
    gate = LoginLimiter(FakeClock())
    _fail(gate, FAILURES_MAX)
    gate.begin(other)


def test_begin_forgets_the_oldest_when_memory_is_full() -> None:
    gate = LoginLimiter(FakeClock(), keys_max=3)
    _fail(gate, FAILURES_MAX)
    for number in range(3):
        gate.begin(("admin@internal", str(number)))
    gate.begin(KEY)
