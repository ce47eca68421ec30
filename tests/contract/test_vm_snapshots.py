"""Snapshots of VMs as their agent does them: on a local pool, with the real qemu-img.

The guest is a fake: the test writes to the files that its hypervisor names.
"""

import functools
import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.contract import snapshots
from node.errors import Error
from node.model.ids import DiskId, JobId, SnapshotId
from node.model.job import ENDED, Job, JobState
from node.model.storage import SnapshotState
from node.model.storage_requests import (
    ActOnSnapshot,
    CopyDisk,
    CreateSnapshot,
    DeleteSnapshot,
    PreviewSnapshot,
    SnapshotPart,
)
from node.model.vm import Vm, VmState
from node.storage.formats.volume_meta import Format
from node.system.hypervisor import Activity
from node.vm import live_disks
from node.vm.snapshot_writing import SnapshotWriter
from tests import memory
from tests.contract import disks
from tests.contract.disks import code_of, qemu_io
from tests.contract.vm_agent import DATA, ROOT, S1, S2, WAIT_S
from tests.contract.vm_scene import Scene
from tests.unit.node.storage.pools.nodes import wait_until
from tests.unit.node.vm.examples import VM_ID

pytestmark = disks.NEED_QEMU_UTILS

COPY = DiskId("d15c0000-0000-4000-8000-000000000009")
JOB = JobId("5cc55a2c-0000-4000-8000-000000000001")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(live_disks, "_LOOK_S", 0.01)
    with memory.fast_folder(tmp_path) as folder:
        made = Scene(folder)
        yield made
        made.close()


def test_stopped_vm_goes_back_and_forth(scene: Scene) -> None:
    scene.write(1)
    scene.take(S1)
    scene.write(2)
    scene.take(S2)
    scene.write(3)
    scene.has(1, 2, 3)
    scene.check(3)
    scene.preview(S1)
    scene.has(1)
    scene.write(4)
    scene.check(4)
    assert snapshots.get(scene.vm, S1).state is SnapshotState.IN_PREVIEW
    scene.undo()
    scene.has(1, 2, 3)
    scene.check(3)
    scene.preview(S1)
    scene.write(5)
    scene.commit()
    scene.has(1, 5)
    scene.check(2)
    assert [each.snapshot_id for each in scene.vm.snapshots] == [S1]
    scene.start()


@pytest.mark.parametrize("order", [(S1, S2), (S2, S1)], ids=["older", "newer"])
@pytest.mark.parametrize("runs", [False, True], ids=["stopped", "running"])
def test_deleted_snapshots_leave_the_newest_data(
    scene: Scene, order: tuple[SnapshotId, SnapshotId], runs: bool
) -> None:
    if runs:
        scene.start()
    for pattern, snapshot_id in enumerate((S1, S2), 1):
        scene.write(pattern)
        scene.take(snapshot_id)
    scene.write(3)
    for left, snapshot_id in zip((2, 1), order, strict=True):
        scene.delete(snapshot_id)
        scene.has(1, 2, 3)
        scene.check(left)
    assert scene.vm.snapshots == ()
    assert scene.vm.snapshot_id is None
    if runs:
        assert scene.tops() == [scene.leaf(each).name for each in (ROOT, DATA)]
        assert scene.vms.show(VM_ID).run.state is not VmState.PAUSED
        assert scene.hypervisor.observe(VM_ID).activity is Activity.RUNNING


def test_running_vm_is_turned_to_its_new_leaves(scene: Scene) -> None:
    scene.start()
    before = scene.tops()
    scene.take(S1)
    assert scene.tops() == [scene.leaf(each).name for each in (ROOT, DATA)]
    assert scene.tops() != before
    taken = snapshots.get(scene.vm, S1)
    assert [each.volume_id for each in taken.disks] == before
    assert (taken.state, taken.is_consistent) == (SnapshotState.OK, False)
    scene.stop()
    scene.start()
    scene.check(2)


def test_guest_with_an_agent_is_frozen(scene: Scene) -> None:
    scene.start()
    scene.hypervisor.set_guest(VM_ID, {"guest-network-get-interfaces": []})
    wait_until(lambda: scene.vms.show(VM_ID).run.guest)
    scene.take(S1)
    assert snapshots.get(scene.vm, S1).is_consistent
    assert not scene.hypervisor.is_frozen(VM_ID)


@pytest.mark.parametrize("unheard", ["freeze", "thaw"])
def test_guest_that_pauses_in_a_freeze_goes_on_later(
    scene: Scene, unheard: str
) -> None:
    """Its snapshot says that it may not be whole; the VM is not left frozen."""
    scene.start()
    scene.hypervisor.set_guest(VM_ID, {"guest-network-get-interfaces": []})
    wait_until(lambda: scene.vms.show(VM_ID).run.guest)
    scene.hypervisor.unheard = frozenset({unheard, "thaw"})
    scene.take(S1)
    assert not snapshots.get(scene.vm, S1).is_consistent
    assert scene.hypervisor.is_frozen(VM_ID)
    scene.hypervisor.unheard = frozenset()
    wait_until(lambda: not scene.hypervisor.is_frozen(VM_ID))


def test_snapshot_that_qemu_refuses_leaves_nothing(scene: Scene) -> None:
    scene.start()
    scene.write(1)
    before = scene.tops()
    scene.hypervisor.refusal = "no"
    job = scene.end_of(scene.snapshots.create(VM_ID, CreateSnapshot(S1)))
    assert job.error is not None
    assert job.error.code == "hypervisor_refused"
    scene.hypervisor.refusal = ""
    assert scene.vm.snapshots == ()
    assert [scene.leaf(each).name for each in (ROOT, DATA)] == before
    scene.check(1)
    scene.take(S1)
    scene.has(1)


def test_snapshot_asked_twice_is_one(scene: Scene) -> None:
    scene.take(S1)
    scene.take(S1)
    scene.check(2)
    scene.delete(S1)
    scene.delete(S1)
    scene.check(1)


def test_merge_goes_on_after_a_restart_of_the_agent(scene: Scene) -> None:
    scene.start()
    scene.write(1)
    scene.take(S1)
    scene.write(2)
    scene.hypervisor.merges_hang = True
    asked = DeleteSnapshot(S1, job_id=JOB)
    job = scene.snapshots.delete(VM_ID, asked)
    wait_until(lambda: "begin_merge" in scene.hypervisor.calls)
    scene.restart()
    scene.hypervisor.merges_hang = False
    scene.done(job)
    assert scene.hypervisor.calls.count("begin_merge") == 2  # one for each disk
    scene.has(1, 2)
    scene.check(1)


def test_guest_that_ends_in_a_merge_is_merged_at_rest(scene: Scene) -> None:
    scene.start()
    scene.write(1)
    scene.take(S1)
    scene.write(2)
    scene.hypervisor.merges_hang = True
    job = scene.snapshots.delete(VM_ID, DeleteSnapshot(S1))
    wait_until(lambda: "begin_merge" in scene.hypervisor.calls)
    scene.stop()
    scene.done(job)
    scene.has(1, 2)
    scene.check(1)
    scene.start()


def test_guest_goes_on_when_qemu_does_not_turn_it(scene: Scene) -> None:
    scene.start()
    scene.take(S1)
    scene.write(1)
    scene.hypervisor.refusal = "no"
    job = scene.end_of(scene.snapshots.delete(VM_ID, DeleteSnapshot(S1)))
    assert job.error is not None
    assert job.error.code == "hypervisor_refused"
    assert scene.hypervisor.observe(VM_ID).activity is Activity.RUNNING
    scene.hypervisor.refusal = ""
    scene.delete(S1)
    scene.has(1)
    scene.check(1)


def test_cancelled_merge_leaves_a_snapshot_that_can_only_be_deleted(
    scene: Scene,
) -> None:
    scene.start()
    scene.take(S1)
    scene.write(2)
    scene.hypervisor.merges_hang = True
    job = scene.snapshots.delete(VM_ID, DeleteSnapshot(S1))
    wait_until(lambda: "begin_merge" in scene.hypervisor.calls)
    scene.node.jobs.cancel(job.job_id)
    assert scene.end_of(job).state is JobState.CANCELLED
    scene.stop()
    ask = functools.partial(scene.snapshots.preview, VM_ID, PreviewSnapshot(S1))
    assert code_of(ask) == "snapshot_broken"
    scene.hypervisor.merges_hang = False
    scene.delete(S1)
    scene.has(2)


def killed_at(scene: Scene, calls: int, ask: Callable[[JobId], Job]) -> bool:
    """Ask for a job whose agent dies after so many calls; tell whether it did.

    Calls are those to the storage process and the hypervisor. Started again, the job
    ends well.
    """
    job_id = JobId(str(uuid.uuid4()))
    guard = scene.node.guard
    guard.calls_left, guard.death = calls, disks.Crash
    ask(job_id)
    wait_until(lambda: guard.is_dead or _has_ended(scene, job_id))
    was_killed = not _has_ended(scene, job_id)
    if was_killed:
        scene.node.jobs.stop(WAIT_S)
    guard.calls_left = None
    if was_killed:
        scene.restart()
    scene.done(scene.node.jobs.get(job_id))
    return was_killed


def _has_ended(scene: Scene, job_id: JobId) -> bool:
    return scene.node.jobs.get(job_id).state in ENDED


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"  # a thread that is killed
)
@pytest.mark.parametrize("runs", [False, True], ids=["stopped", "running"])
def test_snapshot_comes_and_goes_wherever_the_agent_dies(
    scene: Scene, runs: bool, record_property: Callable[[str, object], None]
) -> None:
    if runs:
        scene.start()
    scene.write(1)
    points, is_alive = 0, False
    for calls in itertools.count(1, STRIDE):

        def take(job_id: JobId) -> Job:
            return scene.snapshots.create(VM_ID, CreateSnapshot(S1, job_id=job_id))

        def delete(job_id: JobId) -> Job:
            return scene.snapshots.delete(VM_ID, DeleteSnapshot(S1, job_id=job_id))

        died = [killed_at(scene, calls, take)]
        assert snapshots.get(scene.vm, S1).state is SnapshotState.OK
        scene.check(2)
        scene.write(2)
        died.append(killed_at(scene, calls, delete))
        assert scene.vm.snapshots == (), calls
        scene.check(1)
        scene.has(1, 2)
        if runs:
            assert scene.tops() == [scene.leaf(each).name for each in (ROOT, DATA)]
            activity = scene.hypervisor.observe(VM_ID).activity
            assert activity is Activity.RUNNING, calls
        points += sum(died)
        is_alive = not any(died)
        if is_alive:
            break
    record_property("points", points)
    assert points > 1


# Of the points at which the agent dies, those that are tried.
STRIDE = 3


def test_verbs_refuse_what_the_state_forbids(scene: Scene) -> None:
    verbs = scene.snapshots
    assert code_of(lambda: verbs.undo(VM_ID, ActOnSnapshot())) == "vm_not_in_preview"
    ask = functools.partial(verbs.preview, VM_ID, PreviewSnapshot(S1))
    assert code_of(ask) == "snapshot_unknown"
    scene.take(S1)
    scene.preview(S1)
    again = functools.partial(verbs.create, VM_ID, CreateSnapshot(S2))
    assert code_of(again) == "vm_in_preview"
    assert code_of(lambda: verbs.delete(VM_ID, DeleteSnapshot(S1))) == "vm_in_preview"
    scene.undo()
    scene.start()
    job = scene.end_of(verbs.preview(VM_ID, PreviewSnapshot(S1)))
    assert job.error is not None
    assert job.error.code == "vm_in_use"
    with pytest.raises(Error):
        verbs.create(VM_ID, CreateSnapshot(SnapshotId("../up")))
    stale = CreateSnapshot(S2, generation=1)
    assert code_of(lambda: verbs.create(VM_ID, stale)) == "stale_generation"


def test_preview_is_refused_when_a_snapshot_was_begun_before_its_turn(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.take(S1)
    reshape, may_begin = SnapshotWriter.reshape, threading.Event()

    def reshape_later(*words: Any, is_running: bool) -> Vm:
        assert may_begin.wait(WAIT_S)
        return reshape(*words, is_running=is_running)

    monkeypatch.setattr(SnapshotWriter, "reshape", reshape_later)
    verbs = scene.snapshots
    begun = verbs.create(VM_ID, CreateSnapshot(S2, part=SnapshotPart.BEGIN))
    job = verbs.preview(VM_ID, PreviewSnapshot(S1))
    may_begin.set()
    scene.done(begun)
    error = scene.end_of(job).error
    assert error is not None
    assert error.code == "snapshot_locked"
    assert scene.vm.preview is None


def test_snapshot_of_one_disk_leaves_the_other(scene: Scene) -> None:
    scene.write(1)
    asked = CreateSnapshot(S1, disk_ids=(ROOT,))
    scene.done(scene.snapshots.create(VM_ID, asked))
    scene.write(2)
    scene.preview(S1)
    assert scene.leaf(DATA).parent.name == DATA
    qemu_io(scene.leaf(ROOT), Format.COW, "read -P 0 128k 64k")
    qemu_io(scene.leaf(DATA), Format.COW, "read -P 2 128k 64k")
    scene.undo()
    scene.has(1, 2)


def test_disk_is_copied_as_a_snapshot_has_it(scene: Scene) -> None:
    scene.write(1)
    scene.take(S1)
    scene.write(2)
    copy = CopyDisk(COPY, scene.home, snapshot_id=S1)
    scene.done(scene.node.storage.disk_copy(ROOT, copy))
    (path,) = scene.leaf(ROOT).parent.with_name(COPY).glob("*.meta")
    for pattern, value in ((1, 1), (2, 0)):
        command = f"read -P {value} {pattern * 64}k 64k"
        qemu_io(path.with_suffix(""), Format.COW, command)
    other = CopyDisk(COPY, scene.home, snapshot_id=S2)
    ask = functools.partial(scene.node.storage.disk_copy, ROOT, other)
    assert code_of(ask) == "snapshot_unresolved"
