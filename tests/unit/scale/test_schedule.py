"""Test when simulated nodes push."""

from hypothesis import given
from hypothesis import strategies as st

from node import feed
from tests.scale import schedule
from tests.scale.schedule import Plan

NOW = 1000.0
CHANCE = st.floats(0, 1)


@given(CHANCE)
def test_first_push_is_within_a_heartbeat(chance: float) -> None:
    plan = schedule.first(NOW, 20, lambda: chance)
    assert NOW <= plan.due <= NOW + schedule.HEARTBEAT_S
    assert NOW <= plan.stats_at <= NOW + schedule.STATS_S


def test_heartbeat_is_due_when_nothing_changes() -> None:
    plan = Plan(NOW, NOW + 1, NOW + 100)
    assert plan.due == NOW + schedule.HEARTBEAT_S


def test_change_is_due_after_coalescing() -> None:
    plan = Plan(NOW, NOW + 100, NOW + 1)
    assert plan.due == NOW + 1 + feed.COALESCE_S


def test_push_keeps_the_beat_of_figures_however_late() -> None:
    plan = Plan(NOW, NOW + 1, NOW + 100)
    late = schedule.after_push(plan, NOW + 33, 20, 0.5)
    assert late.stats_at == NOW + 1 + 3 * schedule.STATS_S
    assert (late.pushed_at, late.change_at) == (NOW + 33, NOW + 100)


def test_push_of_a_change_plans_the_next_one() -> None:
    plan = Plan(NOW, NOW + 100, NOW - 1)
    next_plan = schedule.after_push(plan, NOW, 20, 0.5)
    mean_s = 60 / (schedule.CHURN_PER_MINUTE * 20)
    assert next_plan.change_at == NOW + mean_s


@given(st.lists(CHANCE, min_size=200, max_size=200))
def test_changes_are_one_percent_a_minute_on_average(chances: list[float]) -> None:
    total = sum(
        schedule.after_push(Plan(NOW, NOW, NOW), NOW, 100, chance).change_at - NOW
        for chance in chances
    )
    expected = sum(chances) / len(chances) * 2 * 60  # a minute, if they are fair
    assert abs(total / len(chances) - expected) < 1e-6


def test_refusal_waits_as_long_as_asked() -> None:
    plan = schedule.after_refusal(Plan(NOW, NOW, NOW), NOW, 7.0, 0.0)
    assert plan.due == NOW + 7.0
    assert plan.failures == 1


def test_refusals_in_a_row_wait_longer() -> None:
    plan = Plan(NOW, NOW, NOW)
    waits = []
    for _ in range(4):
        plan = schedule.after_refusal(plan, NOW, 0.0, 1.0)
        waits.append(plan.due - NOW)
    assert waits == sorted(set(waits))


def test_resync_is_due_at_once() -> None:
    assert schedule.after_resync(Plan(NOW, NOW + 9, NOW + 9), NOW).due == NOW


def test_push_after_a_refusal_forgets_it() -> None:
    refused = schedule.after_refusal(Plan(NOW, NOW, NOW + 9), NOW, 0.0, 1.0)
    assert schedule.after_push(refused, NOW, 20, 0.5).retry_at is None
