"""Stop after every write and every word with a node, and start again.

Whatever was done, a script before it had permitted it; whoever was asked is told how it
ended, once or more often; and no node is asked for two.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.control.dispatch import Gate
from node.model.job import JobState
from tests.fakes import fleet
from tests.lab import polling
from tests.unit.aggregator.control.ordering import ONE
from tests.unit.aggregator.control.test_crash_replay import Crash, FragileNode, Steps
from tests.unit.aggregator.hooks.center_scene import ORDER, WAIT_S, WEB, Scene

STEPS_MAX = 40
BEFORE, AFTER = "before_vm_start/50_a", "after_vm_start/50_a"


class FragileScene(Scene):
    """Crashes once, at the chosen step, in whatever thread; and is still after it."""

    def __init__(self, folder: Path, fatal: int) -> None:
        self.steps: Steps | None = DeadlySteps(fatal)
        super().__init__(folder)
        self.add("before_vm_start", "50_a")
        self.add("after_vm_start", "50_a")
        book, whole = self.orders.book, self.nodes[ONE]
        book._records.put = self.steps.around(book._records.put)  # type: ignore[method-assign]  # where the process ends
        self.nodes[ONE] = FragileNode(whole, self.steps)  # type: ignore[assignment]  # speaks like one
        self.whole = whole

    def gate(self) -> Gate:
        gate = super().gate()
        if self.steps is not None:
            kept = self.hooks._records
            kept.put = self.steps.around(kept.put)  # type: ignore[method-assign]
            kept.delete = self.steps.around(kept.delete)  # type: ignore[method-assign]
        return gate

    def restart(self) -> None:
        self.steps, self.nodes[ONE] = None, self.whole
        self.hooks.stop()
        super().restart()


class DeadlySteps(Steps):
    """Steps of several threads: after the crash there is none any more."""

    def step(self) -> None:
        super().step()
        if self.count > self.fatal:
            raise Crash


def crashes(folder: Path) -> Iterator[FragileScene]:
    """Yield a scene after a crash at each step, and a start."""
    for fatal in range(1, STEPS_MAX):
        place = folder / str(fatal)
        place.mkdir()
        scene = FragileScene(place, fatal)
        assert scene.steps is not None, "it has not crashed yet"
        steps = scene.steps
        if _has_ended(scene, steps):
            assert fatal > 10, "hardly anything was a step"
            scene.close()
            return
        scene.restart()
        yield scene
        scene.close()
    raise AssertionError(f"more than {STEPS_MAX} steps")


def _has_ended(scene: FragileScene, steps: Steps) -> bool:
    """Start a VM; tell whether it came to its end without a crash."""

    def is_over() -> bool:
        if steps.count < steps.fatal:
            is_running = scene.orders.book.entry(ORDER).order.state is JobState.RUNNING
            if is_running:
                scene.say(1, fleet.job(1, JobState.DONE, job_id=ORDER))
            scene.loop.cycle()
            scene.hooks.cycle()
        return steps.count >= steps.fatal or scene.is_told()

    try:
        scene.begin()
        assert polling.until(is_over, WAIT_S)
    except Crash:
        return False
    return steps.count < steps.fatal


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nothing_goes_without_permission_and_all_is_told(tmp_path: Path) -> None:
    ends = 0
    for scene in crashes(tmp_path):
        if not scene.orders.list():
            assert scene.heard == []
            continue
        for _ in range(3):
            scene.pass_time(11.0)
            scene.tell(scene.is_asked)
        scene.say(1, fleet.job(1, JobState.DONE, job_id=ORDER))
        scene.loop.cycle()
        scene.tell(scene.is_told)
        assert scene.orders.get(ORDER).state is JobState.DONE
        assert scene.did() == {f"vm_start {WEB}": 1}
        assert scene.heard[0] == BEFORE
        assert scene.heard[-1] == AFTER
        assert scene.heard.index(AFTER) > scene.heard.count(BEFORE) - 1
        ends += 1
    assert ends > 10
