"""What moves much data of a storage domain waits for its place."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from node.model.ids import DiskId
from node.model.job import JobState
from node.model.storage_requests import ActOnDisk
from tests.fakes.guard import Outcome
from tests.unit.node.storage.disks.test_work import Scene
from tests.unit.node.storage.pool_disks import new_disk
from tests.unit.node.storage.pools.nodes import wait_until

DISKS = [DiskId(f"d15c0000-0000-4000-8000-00000000010{each}") for each in range(3)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(tmp_path, stack)


@pytest.mark.parametrize("is_wiped", [True, False])
def test_disks_are_wiped_two_at_a_time(scene: Scene, is_wiped: bool) -> None:
    disks, jobs = scene.one.disks, scene.one.jobs
    python = os.path.basename(os.path.realpath(sys.executable))
    scene.one.guard.programs[python] = lambda _argv: None
    for each in DISKS:
        made = replace(new_disk(each), wipe_after_delete=is_wiped)
        assert scene.one.end_of(disks.create(made)).state is JobState.DONE
    asked = [disks.delete(each, ActOnDisk()) for each in DISKS]
    if is_wiped:
        wait_until(lambda: len(scene.running()) == 2)
        wait_until(lambda: "waits: 2 jobs" in jobs.get(asked[2].job_id).step)
    for _ in DISKS if is_wiped else ():
        wait_until(lambda: bool(scene.running()))
        scene.one.guard.finish(scene.running()[0], Outcome())
    for job in asked:
        assert scene.one.end_of(job).state is JobState.DONE
