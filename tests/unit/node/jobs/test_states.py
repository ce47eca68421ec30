"""How a job may go on, and when it is forgotten."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.clock import rfc3339
from node.jobs import states
from node.model.ids import JobId
from node.model.job import ENDED, ErrorReport, Job, JobState

_NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
_OLDEST = rfc3339(_NOW - timedelta(seconds=states.KEPT_S))
_ERROR = ErrorReport("failed", "broken", "it broke")


def make_job(
    state: JobState = JobState.QUEUED, name: str = "j", ended: datetime = _NOW
) -> Job:
    return Job(
        JobId(name),
        "vm_start",
        "vm",
        "v",
        state,
        rfc3339(_NOW),
        ended_at=rfc3339(ended) if state in ENDED else None,
    )


def go(job: Job, state: JobState) -> Job:
    error = _ERROR if state is JobState.FAILED else None
    return states.advance(job, state, rfc3339(_NOW), error)


@pytest.mark.parametrize("after", JobState)
@pytest.mark.parametrize("before", JobState)
def test_advance_allows_what_the_table_says(before: JobState, after: JobState) -> None:
    if after in states.NEXT[before]:
        assert go(make_job(before), after).state is after
    else:
        with pytest.raises(AssertionError):
            go(make_job(before), after)


def test_advance_leaves_ended_jobs_alone() -> None:
    assert not any(states.NEXT[state] for state in ENDED)


@pytest.mark.parametrize(
    ("state", "percent"),
    [(JobState.DONE, 100), (JobState.FAILED, 0), (JobState.CANCELLED, 0)],
    ids=["done", "failed", "cancelled"],
)
def test_advance_notes_the_end(state: JobState, percent: int) -> None:
    job = go(go(make_job(), JobState.RUNNING), state)
    assert (job.ended_at, job.progress_percent) == (rfc3339(_NOW), percent)
    assert job.error == (_ERROR if state is JobState.FAILED else None)


@pytest.mark.parametrize(
    ("age_s", "is_forgotten"),
    [(0, False), (states.KEPT_S, False), (states.KEPT_S + 1, True)],
    ids=["just-ended", "an-hour", "over-an-hour"],
)
def test_forgettable_names_jobs_that_are_old(age_s: float, is_forgotten: bool) -> None:
    job = make_job(JobState.DONE, ended=_NOW - timedelta(seconds=age_s))
    assert bool(states.forgettable([job], _OLDEST)) is is_forgotten


@given(
    unended=some.integers(0, 3),
    ages=some.lists(some.integers(0, 2 * states.KEPT_S), max_size=250),
)
def test_forgettable_keeps_the_newest_and_all_that_run(
    unended: int, ages: list[int]
) -> None:
    running = [make_job(JobState.RUNNING, f"r{number}") for number in range(unended)]
    ended = [
        make_job(JobState.DONE, str(number), _NOW - timedelta(seconds=age))
        for number, age in enumerate(ages)
    ]
    forgotten = states.forgettable(running + ended, _OLDEST)
    kept = [job for job in ended if job.job_id not in forgotten]
    young = sorted(age for age in ages if age <= states.KEPT_S)
    assert (
        sorted(
            (_NOW - datetime.fromisoformat(job.ended_at or "")).total_seconds()
            for job in kept
        )
        == young[: states.KEPT_MAX]
    )
    assert not forgotten & {job.job_id for job in running}
