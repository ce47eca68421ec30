"""What a plan refuses of what was true when it was asked for."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.contract.definitions import Placing
from node.contract.templates import Source
from node.errors import Error
from node.jobs import Progress
from node.model.feed import Kind
from node.model.ids import DiskId, SnapshotId, StorageDomainId, VmId, VolumeId
from node.model.job import Job, JobState
from node.model.storage import DiskFormat, SnapshotKind, SnapshotState
from node.model.storage_requests import CopyDisk
from node.model.vm import Disk, Snapshot, SnapshotDisk, Vm, VmSpec
from node.storage.disks.tasks import Named
from node.storage.disks.work import Asked
from node.units import GiB, MiB
from tests.unit.node.storage import pool_disks
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, OTHER_SD, SD
from tests.unit.node.storage.images import name
from tests.unit.node.storage.pool_disks import Agent, new_disk, volume_of

VM_ID = VmId("aaaaaaaa-0000-4000-8000-000000000001")
OTHER = StorageDomainId(OTHER_SD)
AT = "2026-11-22T08:00:00.000Z"


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Agent]:
    """Return the manager of a disk that has a snapshot, whose guest runs."""
    with pool_disks.managing(tmp_path) as made:
        asked = new_disk(IMAGE, disk_format=DiskFormat.QCOW2)
        assert made.end_of(made.disks.create(asked)).state is JobState.DONE
        job = made.disks.add_volume(IMAGE, name(1), volume_of(IMAGE), Asked())
        assert made.end_of(job).state is JobState.DONE
        made.running[IMAGE] = VM_ID
        yield made


def _have_snapshot(one: Agent, state: SnapshotState) -> None:
    """Let a VM have the disk, and keep what it was."""
    snapshot = Snapshot(
        *(SnapshotId("s"), VM_ID, SnapshotKind.REGULAR, state, AT),
        disks=(SnapshotDisk(DiskId(IMAGE), VolumeId(volume_of(IMAGE))),),
    )
    vm = Vm(VmSpec(VM_ID, "web", GiB), 1, AT, snapshots=(snapshot,))
    one.named[IMAGE] = Named(vm, SD)


def _copy(one: Agent) -> Job:
    request = CopyDisk(DiskId(OTHER_IMAGE), OTHER, snapshot_id=SnapshotId("s"))
    return one.disks.copy(IMAGE, request, volume_of(IMAGE))


def _clone(one: Agent) -> Job:
    """Make a VM of what a snapshot keeps."""
    disk = Disk(DiskId(OTHER_IMAGE), "root", MiB, storage_domain_id=OTHER)
    new_id = VmId("aaaaaaaa-0000-4000-8000-000000000002")
    home = StorageDomainId(SD)
    vm = Vm(VmSpec(new_id, "new", GiB, disks=(disk,)), 1, AT, home=home)
    sources = {disk.disk_id: Source(IMAGE, volume_of(IMAGE))}

    def run(progress: Progress) -> None:
        placing = Placing(new_id, home, 0, vm)
        one.disks.make_whole(placing, sources, progress, lambda: None)

    return one.jobs.submit("vm_clone", Kind.TEMPLATE, new_id, run, job_id=None)


BOTH = pytest.mark.parametrize("ask", [_copy, _clone], ids=["disk", "clone"])


@BOTH
def test_what_a_snapshot_keeps_is_copied_while_its_guest_runs(
    one: Agent, ask: Callable[[Agent], Job]
) -> None:
    _have_snapshot(one, SnapshotState.OK)
    ended = one.end_of(ask(one))
    assert (ended.state, ended.error) == (JobState.DONE, None)


@BOTH
@pytest.mark.parametrize("state", [SnapshotState.BROKEN, SnapshotState.LOCKED])
def test_what_no_whole_snapshot_keeps_any_more_is_not_copied(
    one: Agent, ask: Callable[[Agent], Job], state: SnapshotState
) -> None:
    """It was read before the disk was claimed: QEMU may merge into it by now."""
    _have_snapshot(one, state)
    try:
        error = one.end_of(ask(one)).error
        code = error.code if error is not None else ""
    except Error as refused:
        code = refused.code
    assert code == "snapshot_unresolved"
    assert one.catalog.find(OTHER_IMAGE) == ()
