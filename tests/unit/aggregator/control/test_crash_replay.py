"""Stop after every step, start again: the end is the same, nothing is doubled.

A step is a write to the disk or a word with a node. A crash comes just before
one or just after one: the exception goes through all of our code.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aggregator.control.orders import Order, Orders
from node.errors import Unavailable
from node.model.job import JobState
from tests.fakes import fleet
from tests.fakes.nodes import FakeNode
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, TWO, Parts

WEB, NEW = fleet.vm_id(1), fleet.vm_id(2)
STEPS_MAX = 30


class Crash(BaseException):
    """The process ended here."""


class Steps:
    """Counts steps, and crashes at one of them."""

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal
        self.count = 0

    def step(self) -> None:
        self.count += 1
        if self.count == self.fatal:
            raise Crash

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **named: Any) -> Any:
            self.step()
            result = function(*arguments, **named)
            self.step()
            return result

        return stepping


class FragileParts(Parts):
    """Crashes once, at the chosen step; what is opened later is whole."""

    def __init__(self, folder: Path, fatal: int) -> None:
        self.steps = Steps(fatal)
        super().__init__(folder)
        book = self.orders.book
        book._records.put = self.steps.around(book._records.put)  # type: ignore[method-assign]  # where the process ends
        self._whole = dict(self.nodes)
        self.nodes = {
            node_id: FragileNode(node, self.steps)  # type: ignore[misc]  # speaks like one
            for node_id, node in self.nodes.items()
        }

    def restart(self) -> None:
        self.nodes = self._whole
        super().restart()


class FragileNode:
    def __init__(self, node: FakeNode, steps: Steps) -> None:
        self._node = node
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return self._steps.around(getattr(self._node, name))


def crash_everywhere(
    folder: Path, ask: Callable[[Orders], Order], prepare: Callable[[Parts], None]
) -> Iterator[Parts]:
    """Yield the parts after a crash at each step, a restart and some time."""
    for fatal in range(1, STEPS_MAX):
        place = folder / str(fatal)
        place.mkdir()
        parts = FragileParts(place, fatal)
        prepare(parts)
        try:
            ask(parts.orders)
        except Crash:
            parts.restart()
        else:
            assert fatal > 1, "nothing was a step"
            parts.database.close()
            return
        for _ in range(3):
            parts.pass_time(11.0)
        yield parts
        parts.database.close()
    raise AssertionError(f"more than {STEPS_MAX} steps")


def nothing(_parts: Parts) -> None:
    pass


def refuse_first(parts: Parts) -> None:
    parts._whole[TWO].refusal = Unavailable("libvirt is down")  # type: ignore[attr-defined]  # a FragileParts


def test_create_vm_makes_one_vm_whenever_it_crashes(tmp_path: Path) -> None:
    crashes = 0
    for parts in crash_everywhere(
        tmp_path, lambda orders: orders.create_vm(fleet.spec(2), ORIGIN), nothing
    ):
        crashes += 1
        was_recorded = bool(parts.orders.list())
        expected = {f"vm_create {NEW}": 1} if was_recorded else {}
        assert parts.did() == expected
        assert all(each.state is JobState.DONE for each in parts.orders.list())
    assert crashes >= 6


def test_start_vm_starts_once_whenever_it_crashes(tmp_path: Path) -> None:
    crashes = 0
    for parts in crash_everywhere(
        tmp_path, lambda orders: orders.start_vm(WEB, ORIGIN), nothing
    ):
        crashes += 1
        was_recorded = bool(parts.orders.list())
        assert parts.did() == ({f"vm_start {WEB}": 1} if was_recorded else {})
        assert all(each.state is JobState.RUNNING for each in parts.orders.list())
    assert crashes >= 6


def test_create_vm_never_makes_two_when_the_first_node_refuses(
    tmp_path: Path,
) -> None:
    ends: set[JobState] = set()
    for parts in crash_everywhere(
        tmp_path, lambda orders: orders.create_vm(fleet.spec(2), ORIGIN), refuse_first
    ):
        refuse_first_over = parts.nodes[TWO]
        refuse_first_over.refusal = None
        for _ in range(3):
            parts.pass_time(11.0)
        made = parts.did()
        assert sum(made.values()) <= 1
        ends.update(each.state for each in parts.orders.list())
        for order in parts.orders.list():
            assert order.state is not JobState.DONE or made
    assert JobState.DONE in ends


def test_wait_ends_after_a_restart(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    started = parts.orders.start_vm(WEB, ORIGIN)
    parts.restart()
    parts.say(1, fleet.job(1, JobState.DONE, job_id=started.order_id))
    parts.loop.cycle()
    assert parts.orders.wait(started.order_id, 10.0).state is JobState.DONE
    assert parts.nodes[ONE].asked == ["vm_start"]
    parts.database.close()
