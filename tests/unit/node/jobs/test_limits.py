"""Who may begin, and who waits for whom."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.jobs import Jobs, Limited, Place, Progress, limits
from node.model.ids import JobId, NodeId
from node.model.job import Job, JobState
from node.store import Store
from tests.fakes.clock import FakeClock
from tests.unit.node.storage.pools.nodes import wait_until

LONG_S = 30.0  # nothing here takes so long unless it is broken


def place(key: str, maximum: int = 2) -> Place:
    return Place(key, maximum, f"storage domain {key}")


@pytest.mark.parametrize(
    ("wanted", "counts", "reserved", "why"),
    [
        pytest.param("", {"a": 9}, "", "", id="needs-none"),
        pytest.param("a", {}, "", "", id="empty"),
        pytest.param("a", {"a": 1, "b": 2}, "", "", id="one-left"),
        pytest.param(
            "a", {"a": 2}, "", "waits: 2 jobs work on storage domain a", id="full"
        ),
        pytest.param(
            "ab", {"b": 2}, "", "waits: 2 jobs work on storage domain b", id="second"
        ),
        pytest.param(
            *("a", {}, "a"),
            "waits: an earlier job is to work on storage domain a",
            id="in-turn",
        ),
    ],
)
def test_why_wait_says_what_is_full(
    wanted: str, counts: dict[str, int], reserved: str, why: str
) -> None:
    assert limits.why_wait(map(place, wanted), counts, reserved) == why


class Scene:
    """Jobs that run until they are let go."""

    def __init__(self, folder: Path) -> None:
        store = Store(folder / "node.db", FakeClock(), NodeId("n"), "boot")
        self.jobs = Jobs(store, SystemClock(), {"early": 1, "": 6})
        self.gates: dict[str, threading.Event] = {}
        self.order: list[str] = []
        self.jobs.start()

    def submit(self, name: str, keys: str, verb: str = "copy") -> None:
        gate = self.gates[name] = threading.Event()

        def run(progress: Progress) -> None:
            self.order.append(name)
            assert gate.wait(LONG_S)
            progress.check()

        limited = Limited(run, tuple(map(place, keys)))
        self.jobs.submit(verb, "disk", name, limited, job_id=JobId(name))

    def job(self, name: str) -> Job:
        return self.jobs.get(JobId(name))

    def wait_running(self, *names: str) -> None:
        wait_until(lambda: set(names) <= set(self.order))

    def end(self) -> None:
        for gate in self.gates.values():
            gate.set()
        self.jobs.stop(LONG_S)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.end()


def test_third_job_of_a_storage_domain_waits_and_says_why(scene: Scene) -> None:
    for name in ("one", "two", "three"):
        scene.submit(name, "a")
    scene.submit("other", "b")
    scene.wait_running("one", "two", "other")
    wait_until(lambda: scene.job("three").step)
    waiting = scene.job("three")
    assert (waiting.state, waiting.step) == (
        JobState.QUEUED,
        "waits: 2 jobs work on storage domain a",
    )
    scene.gates["one"].set()
    scene.wait_running("three")


def test_later_job_does_not_overtake_one_that_needs_two_places(scene: Scene) -> None:
    for name in ("one", "two"):
        scene.submit(name, "a")
    scene.wait_running("one", "two")
    scene.submit("both", "ab")
    scene.submit("late", "b")
    wait_until(lambda: scene.job("late").step)
    assert "late" not in scene.order
    scene.gates["one"].set()
    scene.wait_running("both", "late")


def test_waiting_job_is_cancelled_at_once(scene: Scene) -> None:
    for name in ("one", "two", "three", "four"):
        scene.submit(name, "a")
    scene.wait_running("one", "two")
    assert scene.jobs.cancel(JobId("three")).state is JobState.CANCELLED
    scene.gates["one"].set()
    scene.wait_running("four")
    assert "three" not in scene.order


def test_later_job_does_not_overtake_one_of_an_earlier_lane(scene: Scene) -> None:
    for name in ("one", "two"):
        scene.submit(name, "a")
    scene.wait_running("one", "two")
    scene.submit("both", "ab", verb="early")
    scene.submit("late", "b")
    wait_until(lambda: scene.job("late").step)
    assert "late" not in scene.order
    scene.gates["one"].set()
    scene.wait_running("both", "late")
    # It was told so at once, and not when the next job ended.
    assert scene.job("two").state is JobState.RUNNING


def test_jobs_of_a_verb_with_a_lane_keep_no_worker_from_others(scene: Scene) -> None:
    for name in ("first", "second"):
        scene.submit(name, "", verb="early")
    scene.wait_running("first")
    scene.submit("one", "")
    scene.wait_running("one")
    assert "second" not in scene.order
    scene.gates["first"].set()
    scene.wait_running("second")


def test_job_that_waits_for_a_worker_keeps_no_place_from_others(scene: Scene) -> None:
    scene.submit("first", "b", verb="early")
    scene.wait_running("first")
    scene.submit("second", "a", verb="early")
    scene.submit("one", "a")
    scene.wait_running("one")
    scene.submit("two", "a")
    scene.wait_running("two")
    scene.gates["first"].set()
    wait_until(lambda: scene.job("second").step)
    scene.submit("three", "a")  # by now that comes first
    scene.gates["one"].set()
    scene.wait_running("second")
    assert "three" not in scene.order


def test_jobs_on_one_object_wait_for_each_other_whatever_their_lanes(
    scene: Scene,
) -> None:
    gate = threading.Event()

    def run(_progress: Progress) -> None:
        assert gate.wait(LONG_S)
        scene.order.append("before")

    scene.jobs.submit("early", "disk", "same", run, job_id=JobId("before"))
    scene.submit("same", "")
    gate.set()
    scene.wait_running("same")
    assert scene.order == ["before", "same"]


def test_job_behind_one_that_was_cancelled_waits_in_its_own_lane(scene: Scene) -> None:
    """Else a copy would have a worker of those that end journals."""
    scene.submit("first", "", verb="early")
    scene.wait_running("first")
    scene.jobs.submit("early", "disk", "same", _never, job_id=JobId("before"))
    scene.submit("same", "")
    scene.jobs.cancel(JobId("before"))
    scene.wait_running("same")
    assert scene.job("first").state is JobState.RUNNING


def _never(_progress: Progress) -> None:
    raise AssertionError("it was cancelled before")
