"""Snapshots of a VM that runs on another node than its pool's manager.

Two agents on one shared pool, with the real qemu-img, and a fake sanlock that knows
who has the VM's lease: the storage process, or the guest's QEMU. The test sends what
an aggregator would, one part after the other, and stops in between.
"""

import functools
import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from node import jobs
from node.contract import snapshots
from node.model.ids import DiskId, JobId, PoolId, SnapshotId, StorageDomainId, VmId
from node.model.job import ENDED, Job
from node.model.requests import CreateVm, DeleteVm, StartVm
from node.model.storage import SnapshotState
from node.model.storage_requests import (
    ConnectPool,
    CreatePool,
    CreateSnapshot,
    CreateStorageDomain,
    DeleteSnapshot,
    SnapshotPart,
)
from node.model.vm import Disk
from node.storage.disks.startable import VolumeIllegal
from node.storage.formats.volume_meta import Format
from node.storage.process.protocol import ResourceAt
from node.storage.spm import vm_leases
from node.system.hypervisor import Activity, DomainLeased, HypervisorRefused
from node.system.leases import Owner
from node.units import MiB
from node.vm import guest_parts, holding, live_disks, snapshot_checks
from tests import memory
from tests.contract import disks
from tests.contract.disks import qemu_io
from tests.contract.vm_agent import DATA, ROOT, S1, S2, WAIT_S, VmAgent, of_jobs
from tests.fakes import leasing_guard
from tests.unit.node.storage.pools.nodes import Node, Nodes, wait_until
from tests.unit.node.vm.examples import SPEC, VM_ID

pytestmark = disks.NEED_QEMU_UTILS

POOL = PoolId("99990000-0000-4000-8000-000000000001")
ALPHA = StorageDomainId("77770000-0000-4000-8000-000000000001")
BEGIN, GUEST, FINISH = SnapshotPart.BEGIN, SnapshotPart.GUEST, SnapshotPart.FINISH
# Each moment costs the start of an agent; its steps are several calls each.
_DELETION_STRIDE = 5


class Side(VmAgent):
    """One node: the agent's part for VMs, which starts again with the node."""

    def __init__(self, folder: Path, nodes: Nodes, number: int) -> None:
        super().__init__(folder / f"vms-{number}")
        self.folder.mkdir()
        self.nodes = nodes
        self.hypervisor.on_run = self.take_lease
        self.hypervisor.on_rest = self.free_lease

    # what libvirt's lock manager does for QEMU

    def take_lease(self, vm_id: VmId) -> None:
        place, storage = self._lease(), self.nodes.leases
        lease = storage.leases[place.lockspace, place.name]
        if lease.owner is not None:
            raise DomainLeased("sanlock: the lease is held")
        host_id, generation = self._host(place.lockspace)
        lease.version += 1
        lease.owner = Owner(host_id, generation, lease.version)
        data = leasing_guard.record(
            place, lease.version, host_id, generation, timestamp=1
        )
        leasing_guard.write(place, data)

    def free_lease(self, vm_id: VmId) -> None:
        place, storage = self._lease(), self.nodes.leases
        lease = storage.leases[place.lockspace, place.name]
        assert lease.owner is not None, "QEMU had it"
        owner, lease.owner = lease.owner, None
        data = leasing_guard.record(
            place, lease.version, owner.host_id, owner.generation
        )
        leasing_guard.write(place, data)

    def _lease(self) -> ResourceAt:
        pool = self.node.storage.roster.seat(POOL).pool
        return vm_leases.find(self.node.guard, pool.access(ALPHA), VM_ID)

    def _host(self, lockspace: str) -> tuple[int, int]:
        (own,) = (e for e in self.node.guard.lockspaces() if e.name == lockspace)
        hosts = self.node.guard.hosts(lockspace)
        return next(
            (e.host_id, e.generation) for e in hosts if e.host_id == own.host_id
        )

    # what the aggregator asks

    def refused(self, job: Job) -> str:
        ended = self.end_of(job)
        assert ended.error is not None, ended
        return ended.error.code

    def create(
        self,
        part: SnapshotPart,
        job_id: JobId | None = None,
        snapshot_id: SnapshotId = S1,
    ) -> Job:
        request = CreateSnapshot(snapshot_id, "now", part=part, job_id=job_id)
        return self.snapshots.create(VM_ID, request)

    def delete(
        self,
        part: SnapshotPart,
        job_id: JobId | None = None,
        snapshot_id: SnapshotId = S1,
    ) -> Job:
        request = DeleteSnapshot(snapshot_id, part=part, job_id=job_id)
        return self.snapshots.delete(VM_ID, request)

    def start(self) -> None:
        self.done(self.vms.start(VM_ID, StartVm(vm=self.vm)))


class Pair:
    """The manager, another node where the VM runs, and what the VM's disks hold."""

    def __init__(self, folder: Path) -> None:
        self.nodes = Nodes(folder, user_elsewhere=self._user_of)
        self.manager, self.runner = (Side(folder, self.nodes, n) for n in (0, 1))
        self.nodes.prepare = self._begin
        one = self.nodes.start(0)
        alpha = CreateStorageDomain(ALPHA, "alpha", self.nodes.connection("alpha"))
        one.done(one.storage.storage_domain_create(alpha))
        one.done(one.storage.pool_create(CreatePool(POOL, "main", ALPHA)))
        two = self.nodes.start(1)
        way = one.domain(ALPHA).storage_domain
        two.done(two.storage.pool_connect(POOL, ConnectPool("main", (way,))))
        made = tuple(
            Disk(each, "d", 4 * MiB, storage_domain_id=ALPHA) for each in (ROOT, DATA)
        )
        spec = replace(SPEC, disks=made, pool_id=POOL, nics=())
        self.manager.vms.create(CreateVm(spec))

    def _user_of(self, disk_id: str) -> str | None:
        """Return the VM that runs with a disk."""
        is_its = disk_id in (ROOT, DATA)
        return VM_ID if is_its and self.runner.hypervisor.domains() else None

    def _begin(self, node: Node) -> Mapping[str, jobs.Handler]:
        side = self.manager if node.node_id == self._names[0] else self.runner
        return side.begin(node)

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.nodes.guards)

    def restart(self, side: Side) -> None:
        side.restart()
        if side is self.manager:
            wait_until(lambda: side.node.storage.roster.seat(POOL).is_serving)

    def close(self) -> None:
        for side in (self.manager, self.runner):
            side.vms.close()
        self.nodes.close()

    def take(self, snapshot_id: SnapshotId = S1) -> None:
        """Take a snapshot in three parts, as an aggregator's plan does."""
        manager, runner = self.manager, self.runner
        manager.done(manager.create(BEGIN, snapshot_id=snapshot_id))
        ended = runner.done(runner.create(GUEST, snapshot_id=snapshot_id))
        assert ended.result == guest_parts.TURNED
        manager.done(manager.create(FINISH, snapshot_id=snapshot_id))

    def drop(self, snapshot_id: SnapshotId = S1) -> None:
        manager, runner = self.manager, self.runner
        manager.done(manager.delete(BEGIN, snapshot_id=snapshot_id))
        runner.done(runner.delete(GUEST, snapshot_id=snapshot_id))
        manager.done(manager.delete(FINISH, snapshot_id=snapshot_id))

    def write(self, pattern: int) -> None:
        """Let the guest write to each disk."""
        for path in self.tops():
            qemu_io(path, Format.COW, f"write -P {pattern} {pattern * 64}k 64k")

    def tops(self) -> list[Path]:
        """Return what the running guest writes to."""
        live = live_disks.of(self.runner.hypervisor)
        return [Path(live.files(VM_ID, each)[0]) for each in (ROOT, DATA)]

    def leaves(self) -> list[Path]:
        """Return what a guest would be started on."""
        volumes = self.manager.node.volumes
        spec = self.manager.vm.spec
        return [Path(volumes.open(each).layers[0].path) for each in spec.disks]

    def has(self, *patterns: int) -> None:
        """Check which patterns the disks hold, of 1 to 5."""
        reads = [
            f"read -P {each if each in patterns else 0} {each * 64}k 64k"
            for each in range(1, 6)
        ]
        for path in self.leaves():
            qemu_io(path, Format.COW, *reads)

    def check(self, count: int) -> None:
        """Check that nothing is wrong, and that each disk has so many volumes."""
        storage = self.manager.node.storage
        assert storage.storage_domain_check(ALPHA).problems == ()
        for path in self.leaves():
            volumes = [e.name for e in path.parent.iterdir() if "." not in e.name]
            assert len(volumes) == count, volumes

    def runs(self) -> bool:
        activity = self.runner.hypervisor.observe(VM_ID).activity
        return activity is Activity.RUNNING


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(live_disks, "_LOOK_S", 0.01)
    monkeypatch.setattr(guest_parts, "_CLOSE_AGAIN_S", 0.01)
    monkeypatch.setattr(holding, "_RELEASE_LOOK_S", 0.01)
    with memory.fast_folder(tmp_path) as folder:
        made = Pair(folder)
        made.runner.start()
        yield made
        made.close()


def test_guest_keeps_its_data_while_snapshots_come_and_go(pair: Pair) -> None:
    pair.write(1)
    pair.take(S1)
    pair.write(2)
    pair.take(S2)
    pair.write(3)
    assert pair.tops() == pair.leaves()
    pair.drop(S1)
    pair.check(2)
    pair.drop(S2)
    pair.check(1)
    assert (pair.runs(), pair.manager.vm.snapshots) == (True, ())
    assert pair.tops() == pair.leaves()
    pair.write(4)
    pair.runner.stop()
    pair.has(1, 2, 3, 4)
    pair.runner.start()


@pytest.mark.parametrize("then", ["rests", "ran", "runs"])
def test_merge_that_nobody_noted_keeps_no_guest_down(pair: Pair, then: str) -> None:
    """QEMU had taken the volume out of the chain when the power failed."""
    pair.write(1)
    pair.take(S1)
    pair.write(2)
    pair.take(S2)
    pair.write(3)
    manager, runner = pair.manager, pair.runner
    manager.done(manager.delete(BEGIN))
    runner.done(runner.delete(GUEST))
    runner.stop()
    pair.has(1, 2, 3)
    if then != "rests":
        runner.start()
        pair.write(4)
    if then == "runs":
        pair.drop(S1)
    if then != "rests":
        runner.stop()
    manager.done(manager.delete(SnapshotPart.WHOLE))
    pair.check(2)
    pair.has(*((1, 2, 3) if then == "rests" else (1, 2, 3, 4)))
    manager.done(manager.delete(SnapshotPart.WHOLE, snapshot_id=S2))
    pair.check(1)


def test_newest_snapshot_is_merged_first(pair: Pair) -> None:
    pair.write(1)
    pair.take(S1)
    pair.write(2)
    pair.take(S2)
    pair.drop(S2)
    pair.write(3)
    pair.drop(S1)
    pair.check(1)
    pair.runner.stop()
    pair.has(1, 2, 3)


def test_manager_alone_does_not_finish_what_a_guest_has_not_done(pair: Pair) -> None:
    manager, whole = pair.manager, SnapshotPart.WHOLE
    assert manager.refused(manager.create(whole)) == "vm_runs_elsewhere"
    manager.done(manager.create(BEGIN))
    assert manager.refused(manager.create(whole)) == "vm_runs_elsewhere"
    assert snapshots.get(manager.vm, S1).state is SnapshotState.LOCKED
    pair.take()
    assert manager.refused(manager.delete(whole)) == "vm_runs_elsewhere"


def test_next_snapshot_waits_for_the_one_under_way(pair: Pair) -> None:
    manager = pair.manager
    manager.done(manager.create(BEGIN))
    wait_until(lambda: manager.vms.list()[0].vm.snapshots)
    assert disks.code_of(lambda: manager.create(BEGIN, snapshot_id=S2)) == (
        "snapshot_locked"
    )
    assert disks.code_of(lambda: manager.delete(BEGIN)) == "snapshot_locked"


def test_guest_that_ends_before_it_has_turned_has_its_snapshot(pair: Pair) -> None:
    pair.write(1)
    pair.manager.done(pair.manager.create(BEGIN))
    pair.write(2)  # to what the snapshot keeps, by now
    pair.runner.stop()
    assert pair.runner.done(pair.runner.create(GUEST)).result == ""
    pair.manager.done(pair.manager.create(SnapshotPart.WHOLE))
    assert snapshots.get(pair.manager.vm, S1).state is SnapshotState.OK
    pair.check(2)
    pair.has(1, 2)
    pair.runner.start()
    pair.write(3)
    pair.drop()
    pair.check(1)


def test_guest_that_is_started_before_that_is_no_other(pair: Pair) -> None:
    pair.write(1)
    pair.manager.done(pair.manager.create(BEGIN))
    pair.write(2)
    pair.runner.stop()
    pair.runner.start()
    pair.write(3)
    assert pair.runner.done(pair.runner.create(GUEST)).result == guest_parts.TURNED
    pair.manager.done(pair.manager.create(FINISH))
    pair.runner.stop()
    pair.check(2)
    pair.has(1, 2, 3)


def test_snapshot_that_qemu_refuses_leaves_nothing(pair: Pair) -> None:
    pair.write(1)
    pair.manager.done(pair.manager.create(BEGIN))
    pair.runner.hypervisor.refusal = "no"
    assert pair.runner.done(pair.runner.create(GUEST)).result == ""
    pair.runner.hypervisor.refusal = ""
    assert pair.runs()
    pair.write(2)
    # Asked again, it does not turn: the manager takes away what it would turn to.
    assert pair.runner.done(pair.runner.create(GUEST)).result == ""
    with pytest.raises(VolumeIllegal):
        pair.leaves()
    refused = pair.manager.create(SnapshotPart.WHOLE)
    assert pair.manager.refused(refused) == "snapshot_refused"
    assert pair.manager.vm.snapshots == ()
    assert pair.tops() == pair.leaves()
    pair.check(1)
    pair.take()
    pair.runner.stop()
    pair.has(1, 2)


def test_guest_that_ends_as_its_qemu_refuses_has_its_snapshot(pair: Pair) -> None:
    pair.write(1)
    pair.manager.done(pair.manager.create(BEGIN))
    hypervisor = pair.runner.hypervisor

    def end() -> None:
        hypervisor.on_call = pair.runner.node.guard.pass_call
        hypervisor.end(VM_ID, "crashed")
        raise HypervisorRefused("the monitor is gone")

    hypervisor.on_call = of_jobs(end)
    assert pair.runner.done(pair.runner.create(GUEST)).result == ""
    pair.manager.done(pair.manager.create(SnapshotPart.WHOLE))
    pair.check(2)
    pair.has(1)


def test_guest_that_turns_after_it_was_given_up_keeps_its_leaves(pair: Pair) -> None:
    """Its QEMU hung: it turns before it stands still."""
    pair.write(1)
    pair.manager.done(pair.manager.create(BEGIN))
    hypervisor = pair.runner.hypervisor
    live = live_disks.of(hypervisor)
    leaves = snapshot_checks.leaves_of(snapshots.get(pair.manager.vm, S1))

    def turn_late() -> None:
        hypervisor.refusal, hypervisor.on_call = "", lambda: None
        live.turn(VM_ID, leaves, may_freeze=False)

    def give_up() -> None:
        hypervisor.on_call = of_jobs(turn_late)
        raise HypervisorRefused("no answer")

    hypervisor.on_call = of_jobs(give_up)
    assert pair.runner.done(pair.runner.create(GUEST)).result == guest_parts.TURNED
    assert pair.runs()
    pair.write(2)
    pair.manager.done(pair.manager.create(FINISH))
    pair.runner.stop()
    pair.check(2)
    pair.has(1, 2)


def test_guest_writes_on_before_the_manager_has_heard(pair: Pair) -> None:
    pair.write(1)
    pair.take()
    pair.write(2)
    pair.manager.done(pair.manager.delete(BEGIN))
    pair.runner.done(pair.runner.delete(GUEST))
    assert pair.runs()
    pair.write(3)
    pair.runner.stop()
    # Nobody starts it on what is out of date, nor merges that into what is newer.
    with pytest.raises(VolumeIllegal):
        pair.leaves()
    started = pair.runner.vms.start(VM_ID, StartVm(vm=pair.manager.vm))
    assert pair.runner.refused(started) == "volume_illegal"
    pair.manager.done(pair.manager.delete(SnapshotPart.WHOLE))
    pair.check(1)
    pair.has(1, 2, 3)
    pair.runner.start()


def test_mark_outlives_metadata_that_were_planned_before_it(pair: Pair) -> None:
    """A manager that died in between has changed a label: another one undoes that."""
    pair.write(1)
    pair.take()
    pair.write(2)
    pair.manager.done(pair.manager.delete(BEGIN))
    left = [path.with_name(f"{path.name}.meta") for path in pair.tops()]
    planned = [path.read_bytes() for path in left]
    pair.runner.done(pair.runner.delete(GUEST))
    for path, data in zip(left, planned, strict=True):
        path.write_bytes(data)
    pair.write(3)
    pair.runner.stop()
    with pytest.raises(VolumeIllegal):
        pair.leaves()
    pair.manager.done(pair.manager.delete(SnapshotPart.WHOLE))
    pair.check(1)
    pair.has(1, 2, 3)
    assert not [each for path in left for each in path.parent.glob("*.turned*")]


def test_guest_that_ends_in_a_merge_is_merged_at_rest(pair: Pair) -> None:
    pair.write(1)
    pair.take()
    pair.write(2)
    pair.manager.done(pair.manager.delete(BEGIN))
    pair.runner.hypervisor.merges_hang = True
    job = pair.runner.delete(GUEST)
    wait_until(lambda: "begin_merge" in pair.runner.hypervisor.calls)
    pair.runner.stop()
    pair.runner.done(job)
    pair.has(1, 2)
    pair.manager.done(pair.manager.delete(SnapshotPart.WHOLE))
    pair.check(1)
    pair.has(1, 2)


def test_guest_whose_disk_failed_stands_still_while_it_turns(pair: Pair) -> None:
    """Its storage is back: only the merge may let it go on, when that is marked."""
    pair.write(1)
    pair.take()
    pair.write(2)
    pair.manager.done(pair.manager.delete(BEGIN))
    pair.runner.hypervisor.merges_hang = True
    job = pair.runner.delete(GUEST)
    wait_until(lambda: "begin_merge" in pair.runner.hypervisor.calls)
    pair.runner.hypervisor.fault(VM_ID, "eio on a disk")
    wait_until(lambda: pair.runner.vms.show(VM_ID).run.reason is not None)
    pair.runner.hypervisor.merges_hang = False
    pair.runner.done(job)
    assert pair.runs()
    calls = [e for e in pair.runner.hypervisor.calls if e in ("pivot", "resume")]
    assert calls == ["pivot", "resume"] * 2
    pair.write(3)
    pair.runner.stop()
    pair.manager.done(pair.manager.delete(SnapshotPart.WHOLE))
    pair.check(1)
    pair.has(1, 2, 3)


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(1, id="qemu-has-it"),  # now, not the storage process
        pytest.param(None, id="nobody-looked"),
    ],
)
def test_mark_is_refused_without_the_lease(pair: Pair, version: int | None) -> None:
    pair.take()
    vm, volumes = pair.runner.vm, pair.runner.node.volumes
    (leaf, _) = snapshot_checks.leaves_of(snapshots.get(vm, S1))
    assert disks.code_of(lambda: volumes.close(vm, leaf, version)) == "stale_lease"
    assert pair.tops() == pair.leaves()


def killed_at(pair: Pair, side: Side, calls: int, ask: Callable[[JobId], Job]) -> bool:
    """Ask for a job whose agent dies after so many calls; tell whether it did.

    Started again, the job ends well.
    """
    job_id = JobId(str(uuid.uuid4()))
    guard = side.node.guard
    guard.calls_left, guard.death = calls, disks.Crash
    ask(job_id)
    wait_until(lambda: guard.is_dead or side.node.jobs.get(job_id).state in ENDED)
    was_killed = guard.is_dead
    if was_killed:
        side.node.jobs.stop(WAIT_S)
    guard.calls_left = None
    if was_killed:
        pair.restart(side)
    side.done(side.node.jobs.get(job_id))
    return was_killed


@pytest.mark.parametrize("at_commits", [False, True], ids=["calls", "commits"])
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"  # a thread that is killed
)
def test_snapshot_comes_and_goes_wherever_an_agent_dies(
    pair: Pair, at_commits: bool, record_property: Callable[[str, object], None]
) -> None:
    """At each call to the storage process and to libvirt; also at each commit."""
    manager = pair.manager
    for guard in pair.nodes.guards.values():
        guard.dies_at_commits = at_commits
    steps = ((manager, BEGIN), (pair.runner, GUEST), (manager, FINISH))
    pair.write(1)
    points = 0
    for calls in itertools.count(1):
        died = []
        for side, part in steps:
            ask = functools.partial(side.create, part)
            died.append(killed_at(pair, side, calls, ask))
        assert snapshots.get(manager.vm, S1).state is SnapshotState.OK
        pair.write(2)
        for side, part in steps:
            ask = functools.partial(side.delete, part)
            died.append(killed_at(pair, side, calls, ask))
        assert manager.vm.snapshots == (), calls
        pair.check(1)
        pair.has(1, 2)
        assert pair.tops() == pair.leaves(), calls
        assert pair.runs(), calls
        points += sum(died)
        if not any(died):
            break
    record_property("points", points)
    assert points > 1


def deleted(pair: Pair, calls: int) -> bool:
    """Delete a VM whose manager dies after so many calls; tell whether it did."""
    manager, spec = pair.manager, pair.manager.vm.spec
    ids = [DiskId(str(uuid.uuid4())) for _ in spec.disks]
    disks_there = zip(spec.disks, ids, strict=True)
    own = tuple(replace(each, disk_id=disk_id) for each, disk_id in disks_there)
    vm_id = VmId(str(uuid.uuid4()))
    made = replace(spec, vm_id=vm_id, name=f"web{calls}", disks=own)
    manager.vms.create(CreateVm(made))

    def ask(job_id: JobId) -> Job:
        return manager.vms.delete(vm_id, DeleteVm(job_id=job_id))

    was_killed = killed_at(pair, manager, calls, ask)
    seat = manager.node.storage.roster.seat(POOL)
    wait_until(lambda: not seat.work.left())
    access = seat.pool.access(ALPHA)
    left = {each.name for each in Path(access.layout.images).iterdir()}
    assert not {each for each in left if each.endswith(tuple(ids))}, calls
    assert vm_leases.names(manager.node.guard, access) == (VM_ID,), calls
    assert manager.node.volumes.find(vm_id) is None, calls
    assert not list(Path(access.layout.journals).iterdir()), calls
    return was_killed


@pytest.mark.parametrize("at_commits", [False, True], ids=["calls", "commits"])
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"  # a thread that is killed
)
def test_vm_goes_with_all_its_disks_wherever_the_manager_dies(
    pair: Pair, at_commits: bool
) -> None:
    pair.runner.stop()
    pair.manager.node.guard.dies_at_commits = at_commits
    stride = itertools.count(0, _DELETION_STRIDE)
    points = list(itertools.takewhile(lambda calls: deleted(pair, calls), stride))
    assert len(points) > 1
