"""How often it is tried to end what was left, when that fails."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from node import jobs, wire
from node.clock import SystemClock
from node.errors import Error, Failed
from node.jobs import AgentStopping, Cancelled, Jobs, Runner
from node.model.ids import JobId, NodeId
from node.model.job import ENDED, JobState
from node.storage.data.assigner import NodeHoldsVolume
from node.storage.disks.executor import Outcome
from node.storage.disks.leftovers import (
    PAUSE_MAX_S,
    PAUSE_S,
    Ending,
    Leftovers,
    wait_for_node,
)
from node.storage.disks.locks import DiskLocks
from node.storage.formats import journal
from node.storage.formats.journal import Journal
from node.storage.operations import plan
from node.storage.operations.plan import Plan, Step
from node.storage.spm.journal_folder import JournalGone
from node.store import Store
from tests.fakes.clock import FakeClock
from tests.unit.node.storage.examples import IMAGE, OTHER_SD, POOL, SD

LEFT = JobId("5cc55a2c-0000-4000-8000-000000000001")
STEP = Step("make", (plan.make_folder(PurePosixPath("/", SD, "images", IMAGE)),))
JOURNAL = Journal(
    journal.SCHEMA, LEFT, "disk_create", IMAGE, "node-1", 1, Plan((STEP,))
)


@dataclass(slots=True)
class Executor:
    """Has one journal, until it can be ended."""

    error: Error | None
    journal: Journal = JOURNAL
    tries: list[str] = field(default_factory=list)
    is_gone: bool = False  # its job has ended since the journals were read
    on_try: Callable[[jobs.Progress], None] = lambda _progress: None

    def claim(self, _is_spared: object) -> tuple[tuple[Journal, ...], tuple[()]]:
        return (self.journal,) if self.error is not None else (), ()

    def find(self, job_id: str) -> Journal:
        if self.is_gone:
            raise JournalGone(f"job {job_id} has no journal")
        return self.journal

    def resume(self, job_id: str, watch: jobs.Progress) -> None:
        self.tries.append(job_id)
        self.on_try(watch)
        if self.error is not None:
            raise self.error


@dataclass(slots=True)
class Scene:
    leftovers: Leftovers
    executor: Executor
    locks: DiskLocks
    clock: FakeClock
    jobs: Jobs
    limited: list[tuple[str, ...]]  # where each job's places are

    def look(self, after_s: float) -> int:
        """Go round after so long, and return how often it was tried."""
        self.clock.advance(after_s)
        before = len(self.executor.tries)
        term: Any = None
        self.leftovers.take_over(term)
        for job in self.jobs.list():
            assert self.jobs.get(job.job_id, 20.0).state in ENDED
        return len(self.executor.tries) - before


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    store = Store(tmp_path / "node.db", SystemClock(), NodeId("node-1"), "boot")
    all_jobs = Jobs(store, SystemClock())
    spm = SimpleNamespace(work=lambda: nullcontext(None))
    pool: Any = SimpleNamespace(pool_id=POOL, spm=spm)

    def is_alive(job_id: JobId) -> bool:
        states = {each.job_id: each.state for each in all_jobs.list()}
        return states.get(job_id) not in {None, *ENDED}

    limited: list[tuple[str, ...]] = []

    def limit(run: Runner, storage_domain_ids: Iterable[str]) -> Runner:
        limited.append(tuple(storage_domain_ids))
        return run

    numbers = iter(range(100))
    executor, locks, clock = (
        Executor(Failed("for good")),
        DiskLocks(is_alive),
        FakeClock(),
    )
    made: Any = executor
    leftovers = Leftovers(
        *(pool, all_jobs, locks, lambda _term: made, is_alive),
        wait=lambda _progress: None,
        look_again=lambda _places: None,
        new_id=lambda: JobId(f"00000000-0000-4000-8000-{next(numbers):012}"),
        limit=limit,
        clock=clock,
    )
    all_jobs.recover({})
    all_jobs.start()
    yield Scene(leftovers, executor, locks, clock, all_jobs, limited)
    all_jobs.stop(20.0)
    store.close()


def test_what_fails_for_good_is_tried_more_and_more_rarely(scene: Scene) -> None:
    assert [scene.look(10.0) for _ in range(8)] == [1, 0, 1, 0, 0, 0, 1, 0]
    left = scene.locks.left()[LEFT]
    assert left.error is scene.executor.error, "and it is told why all the time"
    assert left.holds((SD, IMAGE))


def test_what_ended_while_it_was_read_locks_nothing(scene: Scene) -> None:
    scene.executor.is_gone = True
    assert scene.look(0.0) == 0
    assert scene.locks.left() == {}


def test_what_fails_for_good_is_tried_on_and_on(scene: Scene) -> None:
    assert all(scene.look(PAUSE_MAX_S) for _ in range(12))


def test_what_failed_is_tried_at_once_in_a_new_term(scene: Scene) -> None:
    scene.look(0.0)
    scene.leftovers.begin_term()
    assert scene.look(0.0) == 1


def test_what_was_mended_is_forgotten(scene: Scene) -> None:
    scene.look(0.0)
    scene.executor.error = None
    scene.look(PAUSE_S)
    assert (scene.locks.left(), scene.look(PAUSE_S)) == ({}, 0)


def test_volume_that_a_node_holds_on_is_waited_for_but_once_in_a_while(
    scene: Scene,
) -> None:
    """Each try has waited for minutes, and so long nothing else has its worker."""
    scene.executor.error = NodeHoldsVolume("node-2 holds it")
    assert [scene.look(10.0) for _ in range(4)] == [1, 0, 1, 0]


def test_data_that_another_node_moves_on_are_counted(scene: Scene) -> None:
    """After a change of the manager as before it; and after a restart of its agent."""
    volume = PurePosixPath("/", SD, "images", IMAGE, LEFT)
    source = f"/{OTHER_SD}/images/{IMAGE}/{LEFT}"
    move = plan.move_data(volume, "convert", source, LEFT)
    order = journal.Order(LEFT, LEFT, move, 1, 1)
    assigned = journal.Assignment(order, 0, "node-2", 2)
    scene.executor.journal = JOURNAL.assign(assigned)
    scene.look(0.0)
    (ending,) = scene.jobs.list()
    places = tuple(sorted((SD, OTHER_SD)))
    assert scene.limited == [places]
    arguments = wire.to_json(Ending(LEFT, POOL, places))
    scene.leftovers.end_again(ending, arguments)
    assert scene.limited == [places, places]


@pytest.mark.parametrize("is_undone", [False, True], ids=["own", "undone"])
def test_what_no_node_moves_data_for_takes_no_place(
    scene: Scene, is_undone: bool
) -> None:
    if is_undone:
        move = plan.move_data(PurePosixPath("/", SD, "images", LEFT), "convert", LEFT)
        order = journal.Order(LEFT, LEFT, move, 1, 1)
        made = JOURNAL.assign(journal.Assignment(order, 0, "node-2", 2))
        scene.executor.journal = replace(made, direction=journal.Direction.BACK)
    scene.look(0.0)
    assert scene.limited == [()]


@dataclass(slots=True)
class Own:
    """The job of the journal itself, asked of this manager under its id."""

    on_check: Callable[[], None]
    job: Any = field(default_factory=lambda: SimpleNamespace(job_id=LEFT))

    def check(self) -> None:
        self.on_check()


def alone(scene: Scene, on_check: Callable[[], None]) -> Any:
    own: Any = Own(on_check)
    return scene.leftovers.alone(own)


def take_over(scene: Scene) -> None:
    term: Any = None
    scene.leftovers.take_over(term)


def test_job_waits_while_its_journal_is_ended(scene: Scene) -> None:
    """Undone here and done anew there, its disks would be removed under it."""
    began, may_end = threading.Event(), threading.Event()

    def end(_progress: jobs.Progress) -> None:
        began.set()
        assert may_end.wait(20.0)

    scene.executor.on_try = end
    take_over(scene)
    assert began.wait(20.0)
    with alone(scene, may_end.set):
        assert may_end.is_set()
        (ending,) = scene.jobs.list()
        assert scene.jobs.get(ending.job_id, 20.0).state in ENDED


def test_what_ends_a_journal_is_cancelled_with_its_job(scene: Scene) -> None:
    began = threading.Event()

    def end(progress: jobs.Progress) -> None:
        began.set()
        progress.pause(20.0)

    def cancel() -> None:
        raise Cancelled("no")

    scene.executor.on_try = end
    take_over(scene)
    assert began.wait(20.0)
    with alone(scene, cancel):
        (ending,) = scene.jobs.list()
        assert scene.jobs.get(ending.job_id, 20.0).state is JobState.CANCELLED


def test_journal_is_left_to_its_job(scene: Scene) -> None:
    with alone(scene, lambda: None):
        assert scene.look(0.0) == 0
    assert scene.look(0.0) == 1


@dataclass(slots=True)
class Waiting:
    """A job whose volume another node has for so long."""

    ends: list[Outcome | Error]  # of each time that it goes on
    pauses: list[Error | None]
    job: Any = field(default_factory=lambda: SimpleNamespace(job_id=LEFT))
    journal: Journal = JOURNAL

    def find(self, _job_id: str) -> Journal:
        return self.journal

    def pause(self, _seconds: float) -> None:
        error = self.pauses.pop(0)
        if error is not None:
            raise error

    def resume(self, _job_id: str, _watch: object) -> Outcome:
        end = self.ends.pop(0)
        if isinstance(end, Error):
            raise end
        return end

    def wait(self) -> None:
        made: Any = self
        wait_for_node(made, made, made, NodeHoldsVolume("node-2 holds it"))


HELD = NodeHoldsVolume("node-2 holds it on")


def test_job_waits_until_the_node_gives_the_volume_back() -> None:
    job = Waiting([HELD, HELD, Outcome.FINISHED], [None] * 3)
    job.wait()
    assert job.ends == []


@pytest.mark.parametrize(
    ("end", "pause", "kind"),
    [
        pytest.param(Outcome.UNDONE, None, NodeHoldsVolume, id="undone"),
        pytest.param(Failed("no"), None, Failed, id="fails"),
        pytest.param(Cancelled("no"), Cancelled("no"), Cancelled, id="cancelled"),
    ],
)
def test_job_that_waits_for_a_node_ends_with_its_journal(
    end: Outcome | Error, pause: Error | None, kind: type[Error]
) -> None:
    job = Waiting([HELD, end], [None, pause])
    with pytest.raises(kind):
        job.wait()
    assert job.ends == []


def test_cancelled_job_does_not_wait_until_it_is_undone() -> None:
    """An earlier manager was at undoing it: nobody finishes it any more."""
    job = Waiting([HELD], [Cancelled("no")])
    job.journal = replace(JOURNAL, direction=journal.Direction.BACK)
    with pytest.raises(Cancelled):
        job.wait()


def test_cancelled_job_waits_for_what_is_finished_all_the_same() -> None:
    job = Waiting([HELD, Outcome.FINISHED], [Cancelled("no")] * 2)
    job.wait()
    assert job.ends == []


def test_job_that_waits_for_a_node_goes_on_with_the_next_agent() -> None:
    job = Waiting([Outcome.FINISHED], [AgentStopping("it stops")])
    with pytest.raises(AgentStopping):
        job.wait()
    assert job.ends == [Outcome.FINISHED]
