"""Data of disks that another node of the pool moves, with all its parts."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from node.contract.definitions import Placing
from node.contract.snapshots import Act, Change, Leaf
from node.contract.templates import Source
from node.jobs import Progress
from node.model.feed import Kind
from node.model.ids import (
    DiskId,
    NodeId,
    PoolId,
    SnapshotId,
    StorageDomainId,
    VmId,
    VolumeId,
)
from node.model.job import JobState
from node.model.storage import DiskFormat, Liveness, SnapshotKind, SnapshotState
from node.model.storage_requests import (
    ActOnPool,
    ActOnStorageDomain,
    AttachStorageDomain,
    BecomeSpm,
    ConnectPool,
    CopyDisk,
    CreateDisk,
    CreatePool,
    CreateStorageDomain,
    LeaveSpm,
    MoveDisk,
    RepairStorage,
    SparsifyDisk,
)
from node.model.vm import Disk, Snapshot, SnapshotDisk, Vm, VmSpec
from node.storage.data import hand, part
from node.storage.data.part import DataNodeUnknown
from node.storage.data.volume_leases import VolumeHeld
from node.storage.disks.actions import Home, Homes
from node.storage.disks.verbs import first_volume
from node.storage.disks.work import Asked
from node.storage.formats import volume_meta
from node.storage.formats.volume_meta import VolumeRole
from node.storage.spm.term import SpmLost
from node.units import GiB, MiB
from tests.fakes.guard import Outcome as Ended
from tests.unit.node.storage.pools.nodes import NODES, Node, Nodes, wait_until
from tests.unit.node.storage.small_qemu import qemu_img

ALPHA, BETA = (
    StorageDomainId(f"11111111-1111-4222-8333-00000000000{each}") for each in "ab"
)
POOL = PoolId("22222222-1111-4222-8333-00000000000a")
DISK, COPY = (DiskId(f"cccccccc-1111-4222-8333-00000000000{n}") for n in (1, 2))
LEAF = VolumeId("eeeeeeee-1111-4222-8333-000000000001")
VM = VmId("aaaaaaaa-1111-4222-8333-000000000001")
AT = "2026-11-22T09:00:00.000Z"
OTHER = NodeId(NODES[1])


@pytest.fixture
def pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Node, Node]]:
    """Yield the manager of a pool with a disk, and another node of it."""
    monkeypatch.setattr(part, "IDLE_S", 0.05)
    monkeypatch.setattr(part, "BUSY_S", 0.05)
    nodes = Nodes(tmp_path)
    one = nodes.start()
    for key, name in ((ALPHA, "alpha"), (BETA, "beta")):
        request = CreateStorageDomain(key, name, nodes.connection(name))
        one.done(one.storage.storage_domain_create(request))
    one.done(one.storage.pool_create(CreatePool(POOL, "main", ALPHA)))
    one.done(one.storage.storage_domain_attach(BETA, AttachStorageDomain(POOL)))
    one.done(one.storage.storage_domain_activate(BETA, ActOnStorageDomain()))
    two = nodes.start(1)
    way = one.domain(ALPHA).storage_domain
    two.done(two.storage.pool_connect(POOL, ConnectPool("main", (way,))))
    for node in (one, two):
        node.guard.programs["qemu-img"] = qemu_img(node.guard)
    disk = CreateDisk(DISK, "root", ALPHA, MiB, DiskFormat.RAW)
    one.done(one.storage.disk_create(disk))
    wait_until(lambda: _sees_other(one))
    wait_until(lambda: len(two.guard.lockspaces()) > 1)
    yield one, two
    nodes.close()


def _sees_other(node: Node) -> bool:
    (seat,) = node.storage.roster.seats()
    seat.poke()
    return any(
        each.node_id == OTHER and each.liveness is Liveness.LIVE and each.silence_s < 9
        for each in seat.sight.members
    )


def converts(node: Node) -> list[str]:
    return [each.argv[1] for each in node.guard.runs if each.argv[0] == "qemu-img"]


def test_copy_move_and_sparsify_are_done_by_the_node_that_is_named(
    pair: tuple[Node, Node],
) -> None:
    one, two = pair
    storage = one.storage
    one.done(storage.disk_copy(DISK, CopyDisk(COPY, BETA, data_node_id=OTHER)))
    one.done(storage.disk_move(COPY, MoveDisk(ALPHA, data_node_id=OTHER)))
    one.done(storage.disk_sparsify(COPY, SparsifyDisk(data_node_id=OTHER)))
    assert (converts(one), converts(two)) == ([], ["convert"] * 3)
    assert storage.disk_show(COPY).storage_domain_ids == (ALPHA,)
    wait_until(lambda: not two.guard.leases().held)
    assert two.guard.steps() == ()


def test_nobody_named_the_manager_does_it_itself(pair: tuple[Node, Node]) -> None:
    one, two = pair
    one.done(one.storage.disk_copy(DISK, CopyDisk(COPY, BETA)))
    assert (converts(one), converts(two)) == (["convert"], [])


def test_node_that_is_no_member_is_refused(pair: tuple[Node, Node]) -> None:
    one, _ = pair
    request = CopyDisk(COPY, BETA, data_node_id=NodeId("somebody"))
    with pytest.raises(Exception, match="is no member") as error:
        one.storage.disk_copy(DISK, request)
    assert getattr(error.value, "code", "") == "data_node_unknown"


def test_cancelled_job_ends_the_program_of_the_other_node(
    pair: tuple[Node, Node],
) -> None:
    one, two = pair
    two.guard.programs["qemu-img"] = lambda _argv: None  # it runs until it is ended
    job = one.storage.disk_copy(DISK, CopyDisk(COPY, BETA, data_node_id=OTHER))
    wait_until(two.guard.steps)
    one.jobs.cancel(job.job_id)
    assert one.end_of(job).state is JobState.CANCELLED
    assert two.guard.steps() == ()
    assert not two.guard.leases().held


def test_what_fails_on_the_other_node_is_done_here(pair: tuple[Node, Node]) -> None:
    one, two = pair
    two.guard.programs["qemu-img"] = lambda _argv: Ended(1, stderr="bad image")
    one.done(one.storage.disk_copy(DISK, CopyDisk(COPY, BETA, data_node_id=OTHER)))
    assert len(converts(one)) == len(converts(two)) == 1


def test_job_fails_if_the_manager_fails_too(pair: tuple[Node, Node]) -> None:
    one, two = pair
    for each in pair:
        each.guard.programs["qemu-img"] = lambda _argv: Ended(1, stderr="bad image")
    job = one.storage.disk_copy(DISK, CopyDisk(COPY, BETA, data_node_id=OTHER))
    assert one.error(job) == "storage_program_failed"
    assert len(converts(two)) == 1


def test_node_that_leaves_the_pool_ends_what_it_moves(pair: tuple[Node, Node]) -> None:
    one, two = pair
    two.guard.programs["qemu-img"] = lambda _argv: None
    job = one.storage.disk_copy(DISK, CopyDisk(COPY, BETA, data_node_id=OTHER))
    wait_until(two.guard.steps)
    two.done(two.storage.pool_disconnect(POOL, ActOnPool()))
    assert two.guard.steps() == ()
    assert two.guard.lockspaces() == ()
    one.jobs.cancel(job.job_id)
    assert one.end_of(job).state is JobState.CANCELLED


def test_copies_for_a_vm_are_made_by_the_node_that_is_named(
    pair: tuple[Node, Node],
) -> None:
    one, two = pair
    (seat,) = one.storage.roster.seats()
    disk = Disk(COPY, "root", MiB, storage_domain_id=BETA)
    vm = Vm(VmSpec(VM, "clone", GiB, disks=(disk,)), 1, AT, home=BETA)

    def run(progress: Progress) -> None:
        words = (Placing(VM, BETA, 0, vm), {COPY: Source(DISK)}, progress)
        seat.disks.make_whole(*words, lambda: None, OTHER)

    job = one.jobs.submit("vm_clone", Kind.TEMPLATE, VM, run, job_id=None)
    assert one.end_of(job).error is None
    assert (converts(one), converts(two)) == ([], ["convert"])


def test_snapshot_is_merged_by_the_node_that_is_named(pair: tuple[Node, Node]) -> None:
    one, two = pair
    (seat,) = one.storage.roster.seats()
    base = VolumeId(first_volume(DISK))
    one.done(seat.disks.add_volume(DISK, LEAF, base, Asked()))
    disk = Disk(DISK, "root", MiB, storage_domain_id=ALPHA, volume_id=LEAF)
    kept = Snapshot(
        *(SnapshotId("s"), VM, SnapshotKind.REGULAR, SnapshotState.BROKEN, AT),
        disks=(SnapshotDisk(DISK, base),),
    )
    spec = VmSpec(VM, "web", GiB, disks=(disk,))
    vm = Vm(spec, 1, AT, home=ALPHA, snapshots=(kept,), snapshot_id=SnapshotId("s"))
    seat.vms.write(vm, ALPHA, 0)
    fold = Change(Act.FOLD, VM, SnapshotId("s"), (Leaf(DISK, LEAF, base),))
    volumes = one.storage.volumes()

    def run(progress: Progress) -> None:
        words = (replace(vm, spec=replace(spec, pool_id=POOL)), fold, progress)
        volumes.reshape(*words, lambda: None, is_running=False, data_node_id=OTHER)

    del one.guard.runs[:]
    job = one.jobs.submit("vm_snapshot_delete", Kind.VM, VM, run, job_id=None)
    assert one.end_of(job).error is None
    assert (converts(one), converts(two)) == ([], ["commit"])


def test_who_moves_data_for_a_vm_must_be_a_member(pair: tuple[Node, Node]) -> None:
    volumes = pair[0].storage.volumes()
    volumes.check_data_node(POOL, OTHER)
    with pytest.raises(DataNodeUnknown):
        volumes.check_data_node(POOL, NodeId("somebody"))


def test_job_tells_which_other_node_moves_its_data(pair: tuple[Node, Node]) -> None:
    one, two = pair
    two.guard.programs["qemu-img"] = lambda _argv: None  # it runs until it is ended
    job = one.storage.disk_copy(DISK, CopyDisk(COPY, BETA, data_node_id=OTHER))
    wait_until(lambda: one.jobs.get(job.job_id).data_node_id == OTHER)
    one.jobs.cancel(job.job_id)
    assert one.end_of(job).state is JobState.CANCELLED


def test_manager_that_leaves_does_not_wait_for_data_that_another_node_moves(
    pair: tuple[Node, Node],
) -> None:
    """It would have to wait for hours; the next one goes on from the journal."""
    one, two = pair
    two.guard.programs["qemu-img"] = lambda _argv: None
    job = one.storage.disk_copy(DISK, CopyDisk(COPY, BETA, data_node_id=OTHER))
    wait_until(two.guard.steps)
    one.done(one.storage.spm_leave(POOL, LeaveSpm()))
    assert one.error(job) == SpmLost.code
    two.done(two.storage.spm_become(POOL, BecomeSpm()))
    (step,) = two.guard.steps()
    run = two.guard.runs[-1]
    data = Path(run.folder, run.argv[-2]).read_bytes()
    Path(run.folder, run.argv[-1]).write_bytes(data)
    two.guard.finish(step.step_id, Ended())
    seat = two.storage.roster.seat(POOL)
    wait_until(lambda: not seat.work.left() and seat.catalog.find(COPY))
    assert seat.catalog.find(COPY)[0].problems == ()
    assert len(converts(two)) == 1
    assert two.storage.storage_domain_check(BETA).problems == ()


def test_repair_waits_for_a_node_that_still_fills_a_volume(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal that told of it was on a master that is dead."""
    # No look lets the lease go, not even the first one.
    monkeypatch.setattr(hand.Hand, "_tidy", lambda _hand, _ground: None)
    one, two = pair
    access = one.storage.roster.seat(POOL).pool.access(ALPHA)
    volume_id = first_volume(DISK)
    meta = Path(access.layout.volume_meta(DISK, volume_id))
    before = volume_meta.parse(meta.read_bytes())
    ill = replace(before, role=VolumeRole.INTERNAL)
    meta.write_bytes(volume_meta.write(ill))
    lease = Homes({ALPHA: Home(str(access.layout.root))}).resource(
        f"/{ALPHA}/images/{DISK}/{volume_id}.lease"
    )
    two.guard.acquire(lease)
    repair = partial(one.storage.storage_domain_repair, ALPHA)
    assert one.error(repair(RepairStorage())) == VolumeHeld.code
    assert meta.read_bytes() == volume_meta.write(ill)
    two.guard.release(lease)
    one.done(repair(RepairStorage()))
    assert volume_meta.parse(meta.read_bytes()).role is VolumeRole.LEAF
    assert all(each.resource != volume_id for each in one.guard.leases().held)
