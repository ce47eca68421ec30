"""Follow work to its end."""

import time
from dataclasses import replace

from node.commands import terminal
from node.model.ids import JobId
from node.model.job import Job, JobState

RUNNING = Job(
    JobId("00000000-0000-4000-8000-000000000001"),
    *("vm_start", "vm", "vm-1", JobState.RUNNING, "2026-01-01T00:00:00.000Z"),
)
DONE = replace(RUNNING, state=JobState.DONE)
TIMES = 10


def follow(*answers: Job) -> None:
    given = iter(answers)
    terminal.follow(RUNNING, lambda _: next(given), lambda job: job.state, is_json=True)


def test_follow_does_not_pause_after_the_end() -> None:
    begin = time.monotonic()
    for _ in range(TIMES):
        follow(DONE)
    assert time.monotonic() - begin < TIMES * terminal._PAUSE_S


def test_follow_pauses_when_there_is_no_waiter_to_spare() -> None:
    begin = time.monotonic()
    follow(RUNNING, DONE)
    assert time.monotonic() - begin >= terminal._PAUSE_S
