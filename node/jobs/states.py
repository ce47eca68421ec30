"""Decide how a job may go on, and when it may be forgotten. Pure.

Times are RFC 3339 texts of UTC, which sort as they follow one another.

    queued ──► running ──► done
     ▲ │ │        │ ├────► failed
     │ │ └────────┼─┴────► cancelled
     │ └──────────┼──────► failed      nobody can run it after a restart
     └────────────┘                    it is run again after a restart
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from node.errors import Error
from node.model.ids import JobId
from node.model.job import ENDED, ErrorReport, Job, JobState
from node.units import HOUR_S

# Long enough for whoever asked for a job to see how it ended.
KEPT_S: Final = HOUR_S
# A busy hour must not fill the feed.
KEPT_MAX: Final = 200

NEXT: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset(
        {JobState.QUEUED, JobState.DONE, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.DONE: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def advance(
    job: Job, state: JobState, at: str, error: ErrorReport | None = None
) -> Job:
    """Return the job in its next state; `error` goes with a failed one only."""
    assert state in NEXT[job.state], f"{job.state} never becomes {state}"
    assert (error is not None) == (state is JobState.FAILED)
    match state:
        case JobState.RUNNING:
            return replace(job, state=state, started_at=at)
        case JobState.QUEUED:
            return replace(job, state=state, started_at=None, progress_percent=0)
        case JobState.DONE:
            return replace(job, state=state, ended_at=at, progress_percent=100)
    return replace(job, state=state, ended_at=at, error=error)


def report(error: Error) -> ErrorReport:
    """Return an expected error as data."""
    return ErrorReport(
        error.kind, error.code, error.message, error.remedy, error.fields
    )


def forgettable(jobs: Iterable[Job], oldest: str) -> frozenset[JobId]:
    """Return the ended jobs that are too many, or ended before the oldest moment."""
    ended = sorted(
        (job for job in jobs if job.state in ENDED),
        key=lambda job: job.ended_at or "",
        reverse=True,
    )
    return frozenset(
        job.job_id
        for place, job in enumerate(ended)
        if place >= KEPT_MAX or (job.ended_at or job.created_at) < oldest
    )
