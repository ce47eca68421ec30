"""Say when a simulated node pushes next, and what it has to say then. Pure.

Times are seconds of a clock that only grows. Figures do not make a push of their
own: they ride on the next one, as in `node.feed`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from node import feed

HEARTBEAT_S: Final = 5.0  # a node with no news pushes nevertheless
STATS_S: Final = 15.0
CHURN_PER_MINUTE: Final = 0.01  # share of the VMs that change in a minute


@dataclass(frozen=True, slots=True)
class Plan:
    """What is due next at one node; `retry_at` None: nothing was refused."""

    pushed_at: float
    stats_at: float
    change_at: float
    failures: int = 0
    retry_at: float | None = None

    @property
    def due(self) -> float:
        """Return when to push."""
        if self.retry_at is not None:
            return self.retry_at
        return min(self.pushed_at + HEARTBEAT_S, self.change_at + feed.COALESCE_S)


def first(now: float, vms: int, chance: Callable[[], float]) -> Plan:
    """Return the plan of a node that starts; nodes do not start in step."""
    return Plan(
        now - HEARTBEAT_S * chance(),
        now + STATS_S * chance(),
        now + _until_change(vms, chance()),
    )


def after_push(plan: Plan, now: float, vms: int, chance: float) -> Plan:
    """Return the plan once all that was due has been taken."""
    stats_at, change_at = plan.stats_at, plan.change_at
    if stats_at <= now:
        # in step with its own beat, however late this push was
        stats_at += STATS_S * (1 + (now - stats_at) // STATS_S)
    if change_at <= now:
        change_at = now + _until_change(vms, chance)
    return Plan(now, stats_at, change_at)


def after_refusal(plan: Plan, now: float, retry_after_s: float, chance: float) -> Plan:
    """Return the plan of a node that was refused, or not answered."""
    wait_s = feed.back_off_s(plan.failures, chance, retry_after_s)
    return replace(plan, failures=plan.failures + 1, retry_at=now + wait_s)


def after_resync(plan: Plan, now: float) -> Plan:
    """Return the plan of a node that was asked for everything: at once."""
    return replace(plan, failures=0, retry_at=now)


def _until_change(vms: int, chance: float) -> float:
    """Return the time until one of its VMs changes, from 0 to twice the mean."""
    return 2 * 60 / (CHURN_PER_MINUTE * vms) * chance
