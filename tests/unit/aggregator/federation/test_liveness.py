"""What silence says of a node."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.federation import liveness
from aggregator.federation.liveness import Pulse
from aggregator.federation.view import NodeState
from tests.fakes import fleet

UP, SUSPECT = NodeState.UP, NodeState.SUSPECT
UNREACHABLE, CONNECTING = NodeState.UNREACHABLE, NodeState.CONNECTING
NODE = fleet.node_id(1)


@pytest.mark.parametrize(
    ("state", "silence_s", "expected"),
    [
        pytest.param(UP, 0.0, UP, id="heard-now"),
        pytest.param(UP, 11.9, UP, id="missed-two"),
        pytest.param(UP, 12.0, SUSPECT, id="suspect"),
        pytest.param(SUSPECT, 24.9, SUSPECT, id="still-suspect"),
        pytest.param(SUSPECT, 25.0, UNREACHABLE, id="unreachable"),
        pytest.param(UP, 40.0, UNREACHABLE, id="straight-to-unreachable"),
        pytest.param(CONNECTING, 13.0, CONNECTING, id="connecting-is-not-suspect"),
        pytest.param(CONNECTING, 25.0, UNREACHABLE, id="never-heard"),
        pytest.param(UNREACHABLE, 0.0, UNREACHABLE, id="back-only-by-its-voice"),
        pytest.param(SUSPECT, 0.0, SUSPECT, id="suspect-back-only-by-its-voice"),
    ],
)
def test_judge_follows_the_table(
    state: NodeState, silence_s: float, expected: NodeState
) -> None:
    assert liveness.judge(state, silence_s) is expected


def _heard() -> Pulse:
    return liveness.hear(Pulse(0.0), NODE, 0.0)


def test_look_counts_silence_when_in_time() -> None:
    pulse = _heard()
    for second in range(1, 6):
        pulse = liveness.look(pulse, float(second))
    assert liveness.silence_s(pulse, NODE, 5.0) == 5.0


def test_look_restarts_all_silences_when_late() -> None:
    pulse = liveness.look(_heard(), 60.0)
    assert liveness.silence_s(pulse, NODE, 60.0) == 0.0
    assert liveness.silence_s(pulse, NODE, 61.0) == 1.0


def test_look_does_not_count_the_time_that_it_came_late() -> None:
    pulse = liveness.look(liveness.look(_heard(), 1.0), 4.5)
    assert liveness.silence_s(pulse, NODE, 4.5) == 2.0


@pytest.mark.parametrize(
    ("heard", "waiting", "is_swamped"),
    [
        pytest.param(400, 0, False, id="none-waits"),
        pytest.param(400, 400, False, id="they-wait-a-second"),
        pytest.param(400, 401, True, id="they-wait-longer"),
        pytest.param(0, 1, False, id="the-only-one-just-came"),
        pytest.param(0, 2, True, id="nobody-is-taken"),
    ],
)
def test_look_counts_no_silence_while_pushes_wait(
    heard: int, waiting: int, is_swamped: bool
) -> None:
    pulse = Pulse(0.0)
    for _ in range(heard):
        pulse = liveness.hear(pulse, NODE, 0.0)
    pulse = liveness.look(pulse, 1.0, waiting)
    assert pulse.is_swamped is is_swamped
    silent = replace(pulse, heard_at=_heard().heard_at)
    assert liveness.silence_s(silent, NODE, 1.0) == (0.0 if is_swamped else 1.0)


def test_look_counts_what_was_heard_since_the_last() -> None:
    pulse = _heard()
    for _ in range(99):
        pulse = liveness.hear(pulse, NODE, 0.0)
    pulse = liveness.look(pulse, 1.0, 50)
    assert not pulse.is_swamped
    assert liveness.look(pulse, 2.0, 50).is_swamped


def test_silence_is_none_of_a_node_that_is_new() -> None:
    assert liveness.silence_s(Pulse(0.0), NODE, 7.0) == 0.0


def test_forget_leaves_no_trace() -> None:
    pulse = liveness.hear(Pulse(0.0), NODE, 0.0)
    assert NODE not in liveness.forget(pulse, NODE).heard_at
    assert liveness.forget(Pulse(0.0), NODE) == Pulse(0.0)


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=40))
def test_look_never_counts_time_in_which_nobody_looked(gaps: list[float]) -> None:
    now, pulse = 0.0, _heard()
    watched = 0.0
    for gap in gaps:
        now += gap
        watched = watched + min(gap, 1.0) if gap <= 5.0 else 0.0
        pulse = liveness.look(pulse, now)
        assert liveness.silence_s(pulse, NODE, now) <= watched + 1e-6
