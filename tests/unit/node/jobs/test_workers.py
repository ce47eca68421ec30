"""Jobs: order, cancel, restart, and the same end after every interruption."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.errors import Conflict
from node.jobs import (
    Cancelled,
    Handler,
    JobIdTaken,
    Jobs,
    JobUnknown,
    Progress,
    Runner,
    states,
    workers,
)
from node.model.feed import Kind
from node.model.ids import JobId, NodeId
from node.model.job import Job, JobState
from node.store import Store
from node.wire import Json
from tests.fakes.clock import FakeClock

_LONG_S = 30.0  # nothing here takes so long unless it is broken


class NameTaken(Conflict):
    code = "name_taken"
    remedy = "Choose another name."


def open_store(folder: Path) -> Store:
    return Store(folder / "node.db", FakeClock(), NodeId("n"), "boot")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def jobs(store: Store) -> Iterator[Jobs]:
    jobs = Jobs(store, SystemClock())
    jobs.start()
    yield jobs
    jobs.stop(_LONG_S)


def submit(jobs: Jobs, run: Runner, job_id: str = "j1", object_id: str = "v") -> Job:
    return jobs.submit("vm_start", "vm", object_id, run, job_id=JobId(job_id))


def end_of(jobs: Jobs, job_id: str = "j1") -> Job:
    return jobs.get(JobId(job_id), _LONG_S)


def do_nothing(progress: Progress) -> None:
    """Be done at once."""


def until_cancelled(started: threading.Event) -> Runner:
    def run(progress: Progress) -> None:
        started.set()
        progress.pause(_LONG_S)

    return run


def test_jobs_that_hang_on_disks_do_not_hold_up_those_of_vms(jobs: Jobs) -> None:
    started = threading.Event()
    for number in range(2 * sum(workers.LANES.values())):
        jobs.submit(
            *("disk_copy", Kind.DISK, f"d{number}", until_cancelled(started)),
            job_id=JobId(f"copy-{number}"),
        )
    assert started.wait(_LONG_S)
    submit(jobs, do_nothing)
    assert end_of(jobs).state is JobState.DONE


def test_submit_persists_before_it_returns(store: Store) -> None:
    job = Jobs(store, FakeClock()).submit(
        "vm_start", "vm", "v", do_nothing, job_id=JobId("j1"), arguments={"a": 1}
    )
    document = store.get(Kind.JOB, "j1")
    assert document is not None
    assert (job.state, document.body["state"]) == (JobState.QUEUED, "queued")
    assert [entry.arguments for entry in store.journal()] == [{"a": 1}]


def test_submit_chooses_an_id_when_the_caller_has_none(store: Store) -> None:
    jobs = Jobs(store, FakeClock(), new_id=lambda: JobId("chosen"))
    job = jobs.submit("vm_start", "vm", "v", do_nothing, job_id=None)
    assert job.job_id == "chosen"


def test_job_runs_to_its_end(jobs: Jobs, store: Store) -> None:
    submit(jobs, do_nothing)
    job = end_of(jobs)
    assert (job.state, job.progress_percent) == (JobState.DONE, 100)
    assert store.journal() == ()


def test_submit_runs_a_job_once_when_it_is_asked_again(jobs: Jobs) -> None:
    runs: list[str] = []
    submit(jobs, lambda progress: runs.append("first"))
    end_of(jobs)
    again = submit(jobs, lambda progress: runs.append("second"))
    assert (again.state, runs) == (JobState.DONE, ["first"])


def test_submit_refuses_the_id_of_another_job(jobs: Jobs) -> None:
    submit(jobs, do_nothing)
    with pytest.raises(JobIdTaken):
        submit(jobs, do_nothing, object_id="other")


def test_job_fails_with_the_error_as_data(jobs: Jobs) -> None:
    def run(progress: Progress) -> None:
        raise NameTaken("v1 is taken", name="v1")

    submit(jobs, run)
    error = end_of(jobs).error
    assert error is not None
    assert (error.kind, error.code, error.message, error.fields) == (
        "conflict",
        "name_taken",
        "v1 is taken",
        {"name": "v1"},
    )


def test_job_fails_and_logs_the_traceback_when_it_meets_a_bug(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    def run(progress: Progress) -> None:
        raise KeyError("oops")

    submit(jobs, run)
    job = end_of(jobs)
    assert job.error is not None
    assert job.error.code == "internal_error"
    assert "Traceback" in caplog.text


def test_jobs_of_one_object_run_in_order_one_at_a_time(jobs: Jobs) -> None:
    seen: list[str] = []

    def run(name: str) -> Runner:
        def step(progress: Progress) -> None:
            seen.append(f"{name} starts")
            progress.step(50, "half")
            seen.append(f"{name} ends")

        return step

    names = [f"j{number}" for number in range(8)]
    for name in names:
        submit(jobs, run(name), name)
    for name in names:
        end_of(jobs, name)
    assert seen == [f"{name} {what}" for name in names for what in ("starts", "ends")]


def test_jobs_of_several_objects_run_together(jobs: Jobs) -> None:
    both = threading.Barrier(2, timeout=_LONG_S)

    def meet(progress: Progress) -> None:
        both.wait()

    submit(jobs, meet, "j1", "v1")
    submit(jobs, meet, "j2", "v2")
    assert {end_of(jobs, name).state for name in ("j1", "j2")} == {JobState.DONE}


def test_progress_is_told_while_the_job_runs(jobs: Jobs) -> None:
    told = threading.Event()
    seen = threading.Event()

    def run(progress: Progress) -> None:
        progress.step(40, "copying")
        told.set()
        seen.wait(_LONG_S)

    submit(jobs, run)
    assert told.wait(_LONG_S)
    job = jobs.get(JobId("j1"))
    seen.set()
    assert (job.progress_percent, job.step, job.state) == (
        40,
        "copying",
        JobState.RUNNING,
    )


def test_cancel_stops_a_running_job_where_it_checks(jobs: Jobs) -> None:
    started = threading.Event()
    submit(jobs, until_cancelled(started))
    assert started.wait(_LONG_S)
    assert jobs.cancel(JobId("j1")).is_cancel_asked
    assert end_of(jobs).state is JobState.CANCELLED


def test_cancel_ends_a_waiting_job_at_once(jobs: Jobs, store: Store) -> None:
    started = threading.Event()
    submit(jobs, until_cancelled(started), "j1")
    submit(jobs, do_nothing, "j2")
    submit(jobs, do_nothing, "j3")
    assert started.wait(_LONG_S)
    assert jobs.cancel(JobId("j2")).state is JobState.CANCELLED
    assert [entry.job_id for entry in store.journal()] == ["j1", "j3"]
    jobs.cancel(JobId("j1"))
    assert end_of(jobs, "j3").state is JobState.DONE


def test_cancel_leaves_an_ended_job_as_it_is(jobs: Jobs) -> None:
    submit(jobs, do_nothing)
    job = end_of(jobs)
    assert jobs.cancel(JobId("j1")) == job


@pytest.mark.parametrize(
    "ask",
    [lambda jobs: jobs.get(JobId("no")), lambda jobs: jobs.cancel(JobId("no"))],
    ids=["get", "cancel"],
)
def test_jobs_say_when_there_is_no_such_job(
    jobs: Jobs, ask: Callable[[Jobs], Job]
) -> None:
    with pytest.raises(JobUnknown):
        ask(jobs)


def test_list_shows_ended_and_active_jobs(jobs: Jobs) -> None:
    started = threading.Event()
    submit(jobs, do_nothing, "j1")
    end_of(jobs, "j1")
    submit(jobs, until_cancelled(started), "j2")
    assert started.wait(_LONG_S)
    assert {job.job_id: job.state for job in jobs.list()} == {
        "j1": JobState.DONE,
        "j2": JobState.RUNNING,
    }


def test_ended_jobs_are_kept_for_a_while_only(store: Store) -> None:
    clock = FakeClock()
    jobs = Jobs(store, clock)
    jobs.start()
    submit(jobs, do_nothing, "old")
    end_of(jobs, "old")
    clock.advance(states.KEPT_S + 1)
    submit(jobs, do_nothing, "new")
    end_of(jobs, "new")
    jobs.stop(_LONG_S)
    assert [document.id for document in store.list(Kind.JOB)] == ["new"]
    assert [job.job_id for job in jobs.list()] == ["new"]


def test_stop_leaves_a_running_job_for_the_next_start(store: Store) -> None:
    started = threading.Event()
    first = Jobs(store, SystemClock())
    first.start()
    submit(first, until_cancelled(started))
    assert started.wait(_LONG_S)
    first.stop(_LONG_S)
    second = Jobs(store, SystemClock())
    second.recover({"vm_start": lambda job, arguments: do_nothing})
    second.start()
    assert end_of(second).state is JobState.DONE
    second.stop(_LONG_S)


def test_cancel_of_a_stopped_job_holds_for_the_next_start(store: Store) -> None:
    started = threading.Event()
    first = Jobs(store, SystemClock())
    first.start()
    submit(first, until_cancelled(started))
    assert started.wait(_LONG_S)
    first.stop(_LONG_S)
    assert first.cancel(JobId("j1")).is_cancel_asked
    second = Jobs(store, SystemClock())
    second.recover({"vm_start": lambda job, arguments: until_cancelled(started)})
    second.start()
    assert end_of(second).state is JobState.CANCELLED
    second.stop(_LONG_S)


def _answer(answer: Runner | str | None) -> Handler:
    return lambda job, arguments: answer


@pytest.mark.parametrize(
    ("handlers", "code"),
    [
        ({}, "job_interrupted"),
        ({"vm_start": _answer(None)}, "job_interrupted"),
        ({"vm_start": _answer("vm_crashed")}, "vm_crashed"),
    ],
    ids=["no-handler", "no-answer", "a-reason"],
)
def test_recover_ends_a_job_that_cannot_go_on(
    store: Store, handlers: dict[str, Handler], code: str
) -> None:
    submit(Jobs(store, FakeClock()), do_nothing)
    jobs = Jobs(store, FakeClock())
    jobs.recover(handlers)
    job = jobs.get(JobId("j1"))
    assert (job.state, store.journal()) == (JobState.FAILED, ())
    assert job.error is not None
    assert job.error.code == code


def test_recover_remembers_that_cancel_was_asked(store: Store) -> None:
    started = threading.Event()
    stay = threading.Event()

    def run(progress: Progress) -> None:
        started.set()
        stay.wait(_LONG_S)
        progress.check()

    first = Jobs(store, SystemClock())
    first.start()
    submit(first, run)
    assert started.wait(_LONG_S)
    first.cancel(JobId("j1"))
    second = Jobs(store, SystemClock())
    second.recover({"vm_start": _answer(Progress.check)})
    second.start()
    assert end_of(second).state is JobState.CANCELLED
    second.stop(_LONG_S)
    stay.set()
    first.stop(_LONG_S)


_STEPS = ("make disk", "define", "start", "wait for guest")


class Machine:
    """A thing that a job changes in steps, each safe to do twice."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store
        self.before_step: Callable[[int], None] = lambda number: None

    def build(self, job: Job, arguments: Json) -> Runner:
        def run(progress: Progress) -> None:
            for number, step in enumerate(_STEPS):
                self.before_step(number)
                progress.check()
                progress.step(number * 25, step)
                with self._store.change() as change:
                    done = [*(change.setting("done") or [])]
                    change.set("done", [*done, step] if step not in done else done)
                    change.put("vm", arguments["name"], {"done": step})

        return run


def _outcome(store: Store) -> tuple[object, ...]:
    job = store.get(Kind.JOB, "j1")
    assert job is not None
    vm = store.get("vm", "v1")
    assert vm is not None
    return job.body["state"], vm.body, store.setting("done"), store.journal()


@pytest.mark.parametrize("stopped_at", range(len(_STEPS)))
def test_job_comes_to_the_same_end_when_the_power_fails_before_a_step(
    tmp_path: Path, stopped_at: int
) -> None:
    (tmp_path / "first").mkdir()
    store = open_store(tmp_path / "first")
    machine = Machine(tmp_path, store)

    def fail(number: int) -> None:
        # What a copy of the files holds now, a machine without power would keep.
        if number == stopped_at:
            shutil.copytree(tmp_path / "first", tmp_path / "second")

    machine.before_step = fail
    jobs = Jobs(store, SystemClock())
    jobs.start()
    job = Job(JobId("j1"), "vm_start", "vm", "v", JobState.QUEUED, "")
    arguments = {"name": "v1"}
    jobs.submit(
        "vm_start",
        "vm",
        "v",
        machine.build(job, arguments),
        job_id=JobId("j1"),
        arguments=arguments,
    )
    end_of(jobs)
    jobs.stop(_LONG_S)
    survivor = open_store(tmp_path / "second")
    after = Jobs(survivor, SystemClock())
    after.recover({"vm_start": Machine(tmp_path, survivor).build})
    after.start()
    end_of(after)
    after.stop(_LONG_S)
    assert _outcome(survivor) == _outcome(store)
    assert _outcome(store)[:3] == ("done", {"done": _STEPS[-1]}, list(_STEPS))
    store.close()
    survivor.close()


def test_end_is_written_when_the_full_disk_has_space_again(store: Store) -> None:
    tried = threading.Event()

    def run(progress: Progress) -> None:
        store._writer.execute("PRAGMA query_only = ON")
        tried.set()

    jobs = Jobs(store, SystemClock())
    jobs.start()
    submit(jobs, run)
    assert tried.wait(_LONG_S)
    assert jobs.get(JobId("j1"), 0.3).state is JobState.RUNNING
    store._writer.execute("PRAGMA query_only = OFF")
    assert end_of(jobs).state is JobState.DONE
    jobs.stop(_LONG_S)


def test_check_raises_cancelled_for_the_job_to_pass_on(jobs: Jobs) -> None:
    raised: list[Cancelled] = []
    started = threading.Event()

    def run(progress: Progress) -> None:
        started.set()
        try:
            progress.pause(_LONG_S)
        except Cancelled as error:
            raised.append(error)
            raise

    submit(jobs, run)
    assert started.wait(_LONG_S)
    jobs.cancel(JobId("j1"))
    end_of(jobs)
    assert len(raised) == 1
