"""VMs made of snapshots: full copies, on a local pool with the real qemu-img."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.contract import snapshots
from node.model.ids import DiskId, JobId, SnapshotId, VmId
from node.model.job import JobState
from node.model.storage import SnapshotState
from node.model.storage_requests import DeleteSnapshot
from node.model.templates import CloneVm, SnapshotCopied
from node.model.vm import VmSpec
from node.storage.formats.volume_meta import Format
from tests.contract import disks
from tests.contract.disks import code_of, qemu_io
from tests.contract.test_templates import Templates
from tests.contract.vm_agent import DATA, ROOT, S1, S2
from tests.unit.node.vm.examples import VM_ID

pytestmark = disks.NEED_QEMU_UTILS

NEW = VmId("aaaa0000-0000-4000-8000-000000000007")
COPIES = {
    DiskId(f"c0b1e000-0000-4000-8000-00000000000{n}"): disk_id
    for n, disk_id in enumerate((ROOT, DATA))
}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Templates]:
    """Return a node whose VM has a snapshot, and has gone on since."""
    made = Templates(tmp_path)
    made.write(1)
    made.take(S1)
    made.write(2)
    yield made
    made.close()


def asked(scene: Templates, snapshot_id: SnapshotId = S1) -> CloneVm:
    """Return what an aggregator asks for a clone of the VM."""
    spec = scene.vm.spec
    disks = tuple(
        replace(disk, disk_id=new, volume_id=None, disk_format=None)
        for new, disk in zip(COPIES, spec.disks, strict=True)
    )
    made = replace(spec, vm_id=NEW, name="copy", disks=disks)
    return CloneVm(
        made, snapshot=SnapshotCopied(VM_ID, snapshot_id, tuple(COPIES.items()))
    )


def holds(scene: Templates, spec: VmSpec, pattern: int, at: int) -> None:
    for number in (0, 1):
        command = f"read -P {pattern} {at * 64}k 64k"
        qemu_io(scene.path(spec, number), Format.COW, command)


@pytest.mark.parametrize("runs", [False, True], ids=["stopped", "running"])
def test_clone_is_what_the_vm_was(scene: Templates, runs: bool) -> None:
    if runs:
        scene.start()
    scene.done(scene.templates.clone(asked(scene)))
    vm = scene.vms.show(NEW).vm
    holds(scene, vm.spec, 1, at=1)
    holds(scene, vm.spec, 0, at=2)
    assert (vm.snapshots, vm.spec.name) == ((), "copy")
    qemu_io(scene.path(vm.spec), Format.COW, "write -P 9 64k 64k")
    scene.has(1, 2)
    scene.delete(S1)
    scene.has(1, 2)
    scene.check(1)


def test_clone_asked_twice_is_one_vm(scene: Templates) -> None:
    for _ in range(2):
        scene.done(scene.templates.clone(asked(scene)))
    assert scene.images() == {ROOT, DATA, *COPIES}


def test_clone_goes_on_after_a_restart_of_the_agent(scene: Templates) -> None:
    job_id = JobId(str(uuid.uuid4()))
    scene.templates.clone(replace(asked(scene), job_id=job_id))
    scene.restart()
    assert scene.node.jobs.get(job_id, 30).state is JobState.DONE
    holds(scene, scene.vms.show(NEW).vm.spec, 1, at=1)


def test_clone_is_refused_of_what_is_not_kept(scene: Templates) -> None:
    clone = scene.templates.clone
    assert code_of(lambda: clone(asked(scene, S2))) == "snapshot_unknown"
    strange = replace(asked(scene), snapshot=SnapshotCopied(VM_ID, S1, ()))
    assert code_of(lambda: clone(strange)) == "bad_vm"
    assert scene.images() == {ROOT, DATA}


def test_deletion_waits_for_who_copies_that_state(scene: Templates) -> None:
    (part,) = scene.node.volumes._parts()
    places = {(scene.home, disk_id) for disk_id in (ROOT, DATA)}
    with part.disks.sparing(places):
        ended = scene.end_of(scene.snapshots.delete(VM_ID, DeleteSnapshot(S1)))
    assert ended.error is not None
    assert ended.error.code == "disk_locked"
    assert snapshots.get(scene.vm, S1).state is SnapshotState.OK
    scene.delete(S1)
    scene.has(1, 2)
