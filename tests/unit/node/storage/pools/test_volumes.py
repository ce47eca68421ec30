"""What VMs get of a pool: two nodes on real folders, with a fake sanlock."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from node.contract import definitions
from node.contract.definitions import Placing
from node.contract.volumes import (
    DisksAway,
    DiskTaken,
    LeaseMovedOn,
    NodeJoining,
    PoolUnknown,
    VmRunsElsewhere,
)
from node.errors import Error
from node.jobs import AgentStopping, Progress
from node.jobs.workers import random_id
from node.model.feed import Kind
from node.model.ids import DiskId, JobId, PoolId, StorageDomainId, VmId
from node.model.storage import DiskFormat, DiskQos
from node.model.storage_requests import ActOnDisk, ChangeDisk, MoveDisk
from node.model.vm import Disk, Vm, VmSpec
from node.storage.disks.locks import Claim
from node.storage.disks.verbs import first_volume
from node.storage.formats import volume_meta
from node.storage.formats.volume_meta import Format, Legality, VolumeRole
from node.storage.pools.parts import Part
from node.storage.pools.volumes import PoolVolumes
from node.storage.spm import vm_leases
from node.storage.spm.vm_store import VmStore
from node.system.leases import LeaseFailed, LeaseHeld, Liveness
from node.units import GiB, MiB
from tests.contract.disks import code_of
from tests.fakes.clock import FakeClock
from tests.fakes.leasing_guard import LeasingGuard
from tests.fakes.pool_nodes import PoolWorld
from tests.unit.node.storage import pool_disks
from tests.unit.node.storage.examples import IMAGE, OTHER_SD, POOL, SD
from tests.unit.node.storage.pool_disks import Agent, put

VM_ID = VmId("aaaaaaaa-0000-4000-8000-000000000001")
DISK = Disk(
    DiskId(IMAGE),
    "root",
    MiB,
    storage_domain_id=StorageDomainId(SD),
    disk_format=DiskFormat.RAW,
)
SPEC = VmSpec(VM_ID, "web", GiB, disks=(DISK,), pool_id=PoolId(POOL))
VM = Vm(SPEC, 1, "2026-11-22T08:00:00.000Z", home=StorageDomainId(SD))
BASE, LEAF = (f"cccccccc-0000-4000-8000-00000000000{n}" for n in (1, 2))


@dataclass(slots=True)
class Side:
    """One node of the pool."""

    agent: Agent
    guard: LeasingGuard
    volumes: PoolVolumes

    def make(self, vm: Vm = VM) -> None:
        assert self.volumes.home(vm.spec) == SD
        self.volumes.make(vm)
        with self.volumes.naming(vm, vm.spec.disks):
            self.volumes.write(vm, 0)

    def delete(self, vm: Vm = VM, *, leaves: bool = False) -> tuple[str, ...]:
        """Delete a VM in a job, as its service does; return the disks that stay."""
        caught: list[Error] = []
        left: list[str] = []

        def work(progress: Progress) -> None:
            try:
                left.extend(self.volumes.delete(vm, progress, may_leave_disks=leaves))
            except Error as error:
                caught.append(error)

        job = self.agent.jobs.submit(
            "vm_delete", Kind.VM, vm.spec.vm_id, work, job_id=random_id()
        )
        self.agent.end_of(job)
        if caught:
            raise caught[0]
        return tuple(left)


def _side(world: PoolWorld, folder: Path, name: str) -> Side:
    guard = LeasingGuard(storage=world.storage, machine=name)
    agent = pool_disks.agent(world, folder / name, name, guard)
    vms = VmStore(agent.pool, guard, world.clock)
    agent.follow.append(lambda text: _place(vms, text))
    part = Part(agent.pool, vms, agent.catalog, agent.disks, is_local=False)
    return Side(
        agent, guard, PoolVolumes(lambda: [part], guard, agent.jobs, world.clock)
    )


def _place(vms: VmStore, text: str) -> None:
    defined = definitions.read(text)
    assert isinstance(defined, Placing)
    vms.place(defined)


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    """Return the manager, and another node of the pool."""
    world = PoolWorld(tmp_path, POOL)
    with ExitStack() as stack:
        one, two = (_side(world, tmp_path, name) for name in ("node-1", "node-2"))
        pool_disks.make_pool(world, one.agent)
        for storage_domain_id in (SD, OTHER_SD):
            access = world.access(storage_domain_id)
            two.agent.pool.connect(access)
            two.agent.pool.join(access)
        two.agent.pool.refresh()
        for each in (one, two):
            stack.enter_context(pool_disks.started(each.agent))
        yield one, two


@pytest.fixture
def one(sides: tuple[Side, Side]) -> Side:
    return sides[0]


@pytest.fixture
def two(sides: tuple[Side, Side]) -> Side:
    return sides[1]


def test_make_makes_disks_lease_and_definition(one: Side, two: Side) -> None:
    one.make()
    one.make()
    opened = two.volumes.open(DISK)
    (layer,) = opened.layers
    assert (layer.path.name, layer.disk_format) == (first_volume(IMAGE), DiskFormat.RAW)
    lease = two.volumes.lease(VM)
    assert lease is not None
    assert (lease.lockspace, lease.key, lease.offset) == (SD, VM_ID, 3 * MiB)
    assert two.volumes.find(VM_ID) == VM
    (pool,) = one.volumes.definitions()
    assert (pool.vms, pool.is_complete) == ((VM,), True)
    assert two.volumes.definitions() == ()


def test_home_is_the_managers_to_say(two: Side) -> None:
    assert code_of(lambda: two.volumes.home(SPEC)) == "not_spm"


def test_home_is_where_the_first_disk_lies(one: Side) -> None:
    there = replace(DISK, storage_domain_id=StorageDomainId(OTHER_SD))
    assert one.volumes.home(replace(SPEC, disks=(there,))) == OTHER_SD
    assert one.volumes.home(replace(SPEC, disks=())) == SD


def test_home_refuses_a_storage_domain_that_rests(one: Side) -> None:
    one.agent.pool.maintain(OTHER_SD)
    there = replace(DISK, storage_domain_id=StorageDomainId(OTHER_SD))
    code = code_of(lambda: one.volumes.home(replace(SPEC, disks=(there,))))
    assert code == "storage_domain_inactive"


def test_make_needs_a_size_for_a_disk_that_is_not_there(one: Side) -> None:
    vm = replace(VM, spec=replace(SPEC, disks=(replace(DISK, size_bytes=0),)))
    assert code_of(lambda: one.volumes.make(vm)) == "disk_missing"


def test_all_refuse_a_pool_that_this_node_is_not_in(one: Side) -> None:
    with pytest.raises(PoolUnknown):
        one.volumes.lease(replace(VM, spec=replace(SPEC, pool_id=PoolId("x"))))


def test_open_names_the_whole_chain(one: Side, two: Side) -> None:
    access = one.agent.world.access(SD)
    meta = {"role": VolumeRole.INTERNAL}
    put(access, IMAGE, BASE, **meta)
    put(access, IMAGE, LEAF, parent_id=BASE)
    layers = two.volumes.open(DISK).layers
    assert [each.path.name for each in layers] == [LEAF, BASE]
    assert {each.disk_format for each in layers} == {DiskFormat.QCOW2}


def test_open_tells_the_limits_that_the_disk_has_by_now(one: Side, two: Side) -> None:
    """Not those of when it was attached: nobody changes definitions with the disk."""
    first, later = DiskQos(total_iops=500), DiskQos(read_bytes_s=1000)
    limited = replace(DISK, qos=first)
    one.make(replace(VM, spec=replace(SPEC, disks=(limited,))))
    assert two.volumes.open(limited).qos == two.volumes.limits(limited) == first
    for wanted in (later, DiskQos()):
        one.agent.end_of(one.agent.disks.change(IMAGE, ChangeDisk(qos=wanted)))
        assert two.volumes.open(limited).qos == two.volumes.limits(limited) == wanted


def test_open_keeps_limits_that_cannot_be_read(one: Side, two: Side) -> None:
    limited = replace(DISK, qos=DiskQos(total_iops=500))
    one.make(replace(VM, spec=replace(SPEC, disks=(limited,))))
    options = Path(one.agent.world.access(SD).layout.disk_options(IMAGE))
    options.write_bytes(b"{}")
    assert two.volumes.open(limited).qos == limited.qos
    assert two.volumes.limits(limited) == limited.qos


def test_open_refuses_what_must_not_be_used(one: Side, two: Side) -> None:
    access = one.agent.world.access(SD)
    put(access, IMAGE, LEAF, legality=Legality.ILLEGAL)
    assert code_of(lambda: two.volumes.open(DISK)) == "volume_illegal"


def test_open_refuses_to_share_qcow2(one: Side, two: Side) -> None:
    put(one.agent.world.access(SD), IMAGE, LEAF)
    shared = replace(DISK, is_shared=True)
    assert code_of(lambda: two.volumes.open(shared)) == "shared_disk_not_raw"


def test_variables_lie_beside_the_definition(one: Side, two: Side) -> None:
    one.make()
    for each in (one, two):
        version = each.volumes.park(VM, None)
        path = each.volumes.variables(VM, version, lambda: b"first")
        assert Path(path) == Path(
            one.agent.world.access(SD).layout.vm(VM_ID), path.name
        )
        assert Path(path).stat().st_mode & 0o777 == 0o660
        assert Path(path).read_bytes() == (b"first" if each is one else b"boot order")
        Path(path).write_bytes(b"boot order")
        each.volumes.unpark(VM_ID)
    assert two.volumes.find(VM_ID) == VM


def test_variables_are_made_by_who_has_the_lease(one: Side, two: Side) -> None:
    one.make()
    version = two.volumes.park(VM, None)
    two.volumes.unpark(VM_ID)
    one.volumes.park(VM, None)
    for late in (version, None):
        make = partial(two.volumes.variables, VM, late, lambda: b"")
        assert code_of(make) == "stale_lease"
    layout = one.agent.world.access(SD).layout
    assert not Path(layout.vm_variables(VM_ID)).exists()


def test_lease_that_is_not_there_is_an_error(one: Side) -> None:
    assert code_of(lambda: one.volumes.lease(VM)) == "vm_lease_missing"


def test_lease_may_lie_elsewhere(one: Side) -> None:
    there = replace(SPEC, lease_domain_id=StorageDomainId(OTHER_SD))
    one.make(replace(VM, spec=there))
    lease = one.volumes.lease(replace(VM, spec=there))
    assert lease is not None
    assert lease.lockspace == OTHER_SD


def test_park_keeps_others_out_and_names_who_has_it(one: Side, two: Side) -> None:
    one.make()
    version = one.volumes.park(VM, None)
    assert one.volumes.park(VM, None) == version
    assert one.volumes.parked() == {VM_ID}
    with pytest.raises(VmRunsElsewhere) as caught:
        two.volumes.park(VM, None)
    assert caught.value.fields["node_id"] == "node-1"
    one.volumes.unpark(VM_ID)
    one.volumes.unpark(VM_ID)
    assert one.volumes.parked() == frozenset()
    assert two.volumes.park(VM, version) == version + 1


def test_lease_whose_release_failed_is_given_back_later(one: Side, two: Side) -> None:
    one.make()
    one.volumes.park(VM, None)
    one.guard._door.release_fails = True
    with pytest.raises(LeaseFailed):
        one.volumes.unpark(VM_ID)
    one.guard._door.release_fails = False
    assert one.volumes.parked() == {VM_ID}
    one.volumes.unpark(VM_ID)
    assert one.volumes.parked() == frozenset()
    two.volumes.park(VM, None)


def test_unpark_does_not_read_what_other_vms_have(one: Side) -> None:
    one.make()
    there = replace(SPEC, vm_id=OTHER.spec.vm_id, name="db", disks=())
    other = replace(VM, spec=replace(there, lease_domain_id=StorageDomainId(OTHER_SD)))
    one.make(other)
    for each in (VM, other):
        one.volumes.park(each, None)
    one.guard.hanging.add(OTHER_SD)
    again = PoolVolumes(one.volumes._parts, one.guard, one.agent.jobs, FakeClock())
    again.unpark(VM_ID)
    assert again.parked() == {other.spec.vm_id}


def test_park_does_not_wait_for_a_host_that_may_live(one: Side, two: Side) -> None:
    """Sanlock is not asked: it would look for minutes whether the host is dead."""
    one.make()
    one.volumes.park(VM, None)
    storage = one.guard.storage
    live = storage.lockspaces[SD][1]
    for liveness in (Liveness.LIVE, Liveness.FAIL, Liveness.UNKNOWN):
        storage.lockspaces[SD][1] = replace(live, liveness=liveness)
        asked = len(two.guard.asked)
        assert code_of(lambda: two.volumes.park(VM, None)) == "vm_runs_elsewhere"
        assert len(two.guard.asked) == asked
    storage.die(SD, 1)
    assert two.volumes.park(VM, None) == 2


@pytest.mark.parametrize("is_held", [False, True], ids=["free", "held"])
def test_park_says_that_this_node_is_joining_still(
    one: Side, two: Side, is_held: bool
) -> None:
    one.make()
    if is_held:
        one.volumes.park(VM, None)
    (at,) = (each for each in two.guard.lockspaces() if each.name == SD)
    two.guard.leave(two.agent.pool.access(SD).lockspace, at.host_id)
    with pytest.raises(NodeJoining, match="is still joining storage domain"):
        two.volumes.park(VM, None)


def test_park_does_not_take_its_own_qemu_for_another_node(one: Side) -> None:
    one.make()
    one.volumes.park(VM, None)
    # To sanlock, the storage process and QEMU are two processes of one host.
    one.guard.refusal = LeaseHeld("by another process of this host")
    assert code_of(lambda: one.volumes.park(VM, None)) == "vm_has_lease"


def test_two_jobs_do_not_hold_one_vm(one: Side) -> None:
    one.make()
    with one.volumes.holding(VM):
        for ask in (
            lambda: one.volumes.park(VM, None),
            one.delete,
            lambda: one.volumes.holding(VM).__enter__(),
        ):
            assert code_of(ask) == "vm_has_lease"
    assert one.volumes.find(VM_ID) == VM
    assert one.volumes.read_lease(VM).is_free


def test_lease_is_looked_at_where_it_lies_now(one: Side, two: Side) -> None:
    """Another VM may have its slot, if it had to move meanwhile."""
    one.make()
    assert two.volumes.read_lease(VM).is_free
    other = replace(OTHER, spec=replace(OTHER.spec, disks=()))
    access = one.agent.world.access(SD)
    with one.agent.pool.spm.work() as term:
        vm_leases.remove(one.guard, access, term, VM_ID)
        vm_leases.add(one.guard, access, term, other.spec.vm_id)
        vm_leases.add(one.guard, access, term, VM_ID)
    again = PoolVolumes(one.volumes._parts, one.guard, one.agent.jobs, FakeClock())
    again.park(VM, None)
    assert two.volumes.read_lease(VM).is_held


def test_disks_that_are_being_named_stay(one: Side) -> None:
    one.make()
    disks, delete = one.agent.disks, ActOnDisk()
    bare = replace(VM, spec=replace(SPEC, disks=()), generation=2)
    one.volumes.write(bare, 1)
    with one.volumes.naming(bare, [DISK]):
        assert code_of(lambda: disks.delete(IMAGE, delete)) == "disk_locked"
        move = MoveDisk(StorageDomainId(OTHER_SD))
        assert code_of(lambda: disks.move(IMAGE, move)) == "disk_locked"
        with one.volumes.naming(OTHER, [DISK]):
            pass  # who reads only is in nobody's way
    assert one.agent.end_of(disks.delete(IMAGE, delete)).error is None


def test_disk_that_is_deleted_is_named_by_nobody(one: Side) -> None:
    one.make()
    bare = replace(VM, spec=replace(SPEC, disks=()), generation=2)
    one.volumes.write(bare, 1)
    claim = Claim(JobId("job-9"), frozenset({IMAGE}), frozenset(), frozenset())
    one.agent.work.hold(claim)
    name = one.volumes.naming(bare, [DISK]).__enter__
    assert code_of(name) == "disk_locked"
    one.agent.work.let_go("job-9")
    assert one.agent.end_of(one.agent.disks.delete(IMAGE, ActOnDisk())).error is None
    name = one.volumes.naming(bare, [DISK]).__enter__
    assert code_of(name) == "disk_missing"


def test_wait_for_pool_waits_until_what_is_known_is_true(one: Side) -> None:
    looks: list[float] = []
    (part,) = one.volumes._parts()
    there = replace(part, is_settled=lambda: len(looks) == 3)

    def parts() -> list[Part]:
        return [there] if len(looks) > 1 else []

    volumes = PoolVolumes(parts, one.guard, one.agent.jobs, FakeClock())
    volumes.wait_for_pool(PoolId(POOL), looks.append)
    assert len(looks) == 3
    volumes.wait_for_pool(None, looks.append)
    assert len(looks) == 3


def test_vm_that_is_held_starts_nowhere(one: Side, two: Side) -> None:
    one.make()
    with one.volumes.holding(VM):
        # Whoever looks after parked leases does not give this one back.
        assert one.volumes.parked() == frozenset()
        one.volumes.unpark(VM_ID)
        with pytest.raises(VmRunsElsewhere):
            two.volumes.park(VM, None)
    two.volumes.park(VM, None)
    with pytest.raises(VmRunsElsewhere), one.volumes.holding(VM):
        pass


def test_vm_without_a_lease_is_held_by_nobody_and_can_be_deleted(one: Side) -> None:
    """Its guest may run: the index of leases may be what is wrong."""
    one.make()
    access = one.agent.world.access(SD)
    with one.agent.pool.spm.work() as term:
        vm_leases.remove(one.guard, access, term, VM_ID)
    assert code_of(one.volumes.holding(VM).__enter__) == "vm_lease_missing"
    one.volumes._leasing.forget(access, VM_ID)  # as after a restart of the agent
    one.delete()
    assert one.volumes.find(VM_ID) is None


def test_unpark_never_gives_back_what_a_job_has_just_taken(
    one: Side, two: Side
) -> None:
    """A start gives a lease back when a job begins to keep it."""
    one.make()
    one.volumes.park(VM, None)
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with one.volumes.holding(VM):
            is_held.set()
            may_end.wait(10)

    job = threading.Thread(target=hold)

    def begin() -> None:
        one.guard.on_release = lambda: None
        job.start()
        is_held.wait(0.1)  # as long as it is kept from it; no longer if it is not

    one.guard.on_release = begin
    one.volumes.unpark(VM_ID)
    try:
        assert is_held.wait(10)
        assert code_of(lambda: two.volumes.park(VM, None)) == VmRunsElsewhere.code
    finally:
        may_end.set()
        job.join()


def test_park_refuses_a_lease_that_another_node_had(one: Side, two: Side) -> None:
    one.make()
    version = one.volumes.park(VM, None)
    one.volumes.unpark(VM_ID)
    two.volumes.park(VM, None)
    two.volumes.unpark(VM_ID)
    with pytest.raises(LeaseMovedOn):
        one.volumes.park(VM, version)
    assert one.volumes.parked() == frozenset()


def test_park_takes_what_this_node_itself_had_since(one: Side) -> None:
    one.make()
    version = one.volumes.park(VM, None)
    one.volumes.unpark(VM_ID)
    one.volumes.park(VM, None)  # as libvirt does, and nobody wrote it down
    one.volumes.unpark(VM_ID)
    assert one.volumes.park(VM, version) == version + 2


def test_park_believes_its_own_only_once(one: Side) -> None:
    one.make()
    version = one.volumes.park(VM, None)
    one.volumes.unpark(VM_ID)
    for _ in range(2):
        one.volumes.park(VM, None)
        one.volumes.unpark(VM_ID)
    with pytest.raises(LeaseMovedOn):
        one.volumes.park(VM, version)


def test_read_lease_tells_whose_it_is(one: Side, two: Side) -> None:
    one.make()
    assert one.volumes.read_lease(VM).node_id is None
    version = one.volumes.park(VM, None)
    here, there = (each.volumes.read_lease(VM) for each in (one, two))
    assert (here.version, here.is_here, here.is_free) == (version, True, False)
    assert (there.node_id, there.is_here) == ("node-1", False)


def test_read_lease_does_not_take_an_earlier_boot_for_here(one: Side) -> None:
    one.make()
    one.volumes.park(VM, None)
    one.guard.storage.lockspaces[SD][1] = replace(
        one.guard.storage.lockspaces[SD][1], generation=9
    )
    assert not one.volumes.read_lease(VM).is_here


def test_has_lost_tells_when_the_lockspace_went(one: Side) -> None:
    one.make()
    assert not one.volumes.has_lost(VM)
    one.guard.lose(SD)
    assert one.volumes.has_lost(VM)


def test_is_well_tells_whether_the_storage_answers(one: Side) -> None:
    one.make()
    assert one.volumes.is_well(VM)
    one.guard.hanging.add(SD)
    assert not one.volumes.is_well(VM)


def test_is_well_tells_whether_a_disk_is_open_to_writing(one: Side) -> None:
    """A program that runs is not, as nothing is on a file system that is read-only."""
    one.make()
    (leaf,) = [e for e in one.agent.folder(IMAGE).iterdir() if not e.suffix]
    shutil.copy("/bin/sleep", leaf)
    with subprocess.Popen([leaf, "60"]) as running:
        try:
            assert not one.volumes.is_well(VM)
        finally:
            running.kill()
    assert one.volumes.is_well(VM)


def test_delete_leaves_nothing(one: Side, two: Side) -> None:
    one.make()
    one.delete()
    assert two.volumes.find(VM_ID) is None
    assert code_of(lambda: two.volumes.park(VM, None)) == "vm_lease_missing"
    for job in one.agent.jobs.list():
        assert one.agent.end_of(job).error is None
    assert not one.agent.folder(IMAGE).exists()
    one.delete()


def test_delete_refuses_what_runs_elsewhere(one: Side, two: Side) -> None:
    one.make()
    two.volumes.park(VM, None)
    with pytest.raises(VmRunsElsewhere):
        one.delete()
    assert two.volumes.find(VM_ID) == VM


def test_delete_refuses_while_a_job_works_on_a_disk(one: Side) -> None:
    """Else the definition would be gone, and the disk nobody's."""
    one.make()
    reads = Claim(JobId("job-9"), frozenset(), frozenset({IMAGE}), frozenset())
    one.agent.work.hold(reads)
    assert code_of(one.delete) == "disk_locked"
    assert one.volumes.find(VM_ID) == VM
    one.agent.work.let_go("job-9")
    one.delete()
    assert one.volumes.find(VM_ID) is None


def test_delete_is_finished_by_the_next_manager(one: Side, two: Side) -> None:
    """Its definition is gone: nobody else would know that its disk is to go."""
    one.make()

    def die(_text: str) -> None:
        raise AgentStopping("after the tombstone")

    one.agent.follow.append(die)
    assert code_of(one.delete) == AgentStopping.code
    assert two.volumes.find(VM_ID) is None
    one.agent.pool.spm.leave()
    two.agent.pool.spm.become()
    for job in two.agent.jobs.list():
        assert two.agent.end_of(job).error is None
    assert not one.agent.folder(IMAGE).exists()
    assert two.agent.journals() == []


def leases(side: Side, where: str = SD) -> tuple[str, ...]:
    return vm_leases.names(side.guard, side.agent.world.access(where))


def test_tidy_removes_the_lease_of_a_vm_that_is_deleted(one: Side, two: Side) -> None:
    """Who deleted it died before it came to the lease."""
    one.make()
    one.volumes.make_lease(OTHER)  # nobody has said of this one that it goes
    two.volumes.park(VM, None)
    vms = VmStore(one.agent.pool, one.guard, one.agent.world.clock)
    vms.delete(VM_ID, 1)
    one.volumes.tidy_leases()
    assert leases(one) == (VM_ID, OTHER.spec.vm_id), "somebody has it"
    two.volumes.unpark(VM_ID)
    one.volumes.tidy_leases()
    assert leases(one) == (OTHER.spec.vm_id,)


def test_tidy_removes_the_lease_that_a_vm_had_before_it_moved(one: Side) -> None:
    one.make()
    moved = replace(VM, home=StorageDomainId(OTHER_SD), generation=2)
    one.volumes.make_lease(moved)
    with one.volumes.holding(VM):
        one.volumes.tidy_leases()
        assert leases(one, OTHER_SD) == (VM_ID,), "a job is about to move the VM"
    one.volumes.write(moved, 1)  # and the agent died before it came to the old one
    one.volumes.tidy_leases()
    assert (leases(one), leases(one, OTHER_SD)) == ((), (VM_ID,))


def test_delete_leaves_a_disk_that_another_vm_has(one: Side) -> None:
    one.make()
    other_id = VmId("aaaaaaaa-0000-4000-8000-000000000002")
    other = replace(VM, spec=replace(SPEC, vm_id=other_id, name="db"))
    one.volumes.write(other, 0)
    one.delete()
    assert one.volumes.open(DISK).layers


AWAY = replace(
    DISK,
    disk_id=DiskId("bbbbbbbb-0000-4000-8000-000000000009"),
    name="data",
    storage_domain_id=StorageDomainId(OTHER_SD),
)
SPREAD = replace(VM, spec=replace(SPEC, disks=(DISK, AWAY)))


def test_delete_refuses_to_leave_a_disk(one: Side) -> None:
    one.make(SPREAD)
    one.agent.pool.maintain(OTHER_SD)
    with pytest.raises(DisksAway, match=f"{AWAY.disk_id} on {OTHER_SD}"):
        one.delete(SPREAD)
    assert one.volumes.find(VM_ID) == SPREAD
    assert one.agent.folder(IMAGE).exists()


def test_delete_leaves_a_disk_if_it_may_and_names_it(one: Side) -> None:
    one.make(SPREAD)
    one.agent.pool.maintain(OTHER_SD)
    assert one.delete(SPREAD, leaves=True) == (AWAY.disk_id,)
    assert one.volumes.find(VM_ID) is None
    # Asked again after a restart, it is not refused: nothing is left to decide.
    assert one.delete(SPREAD) == (AWAY.disk_id,)


OTHER = replace(
    VM,
    spec=replace(SPEC, vm_id=VmId("aaaaaaaa-0000-4000-8000-000000000002"), name="db"),
)


def test_make_refuses_a_disk_that_another_vm_has(one: Side) -> None:
    one.make()
    with pytest.raises(DiskTaken) as caught:
        one.make(OTHER)
    assert caught.value.fields["vm_id"] == VM_ID
    assert one.volumes.find(OTHER.spec.vm_id) is None


def test_disk_is_not_free_while_a_definition_cannot_be_read(one: Side) -> None:
    one.make()
    one.guard.hanging.add(OTHER_SD)
    assert code_of(lambda: one.volumes.check_free(VM, DISK)) == "vm_definitions_unread"
    one.guard.hanging.clear()
    one.volumes.check_free(VM, DISK)


def test_find_tells_of_a_storage_that_does_not_answer(one: Side) -> None:
    one.make()
    assert one.volumes.find(VM_ID) == VM
    one.guard.hanging.add(SD)
    with pytest.raises(Error):
        one.volumes.find(VM_ID)


def test_record_size_lets_the_metadata_follow(one: Side) -> None:
    one.make()
    one.volumes.record_size(DISK, 2 * MiB)
    one.volumes.record_size(DISK, MiB)
    path = one.agent.folder(IMAGE) / f"{first_volume(IMAGE)}.meta"
    meta = volume_meta.parse(path.read_bytes())
    assert (meta.capacity_bytes, meta.volume_format) == (2 * MiB, Format.RAW)


@pytest.mark.parametrize("kind", ["meta", "lease", "data", "all"])
def test_delete_takes_a_disk_along_that_is_damaged(one: Side, kind: str) -> None:
    one.make()
    folder = one.agent.folder(IMAGE)
    (meta,) = folder.glob("*.meta")
    if kind == "meta":
        meta.write_bytes(b"nonsense\n" * 9)
    elif kind == "all":
        shutil.rmtree(folder)
    else:
        meta.with_suffix(".lease" if kind == "lease" else "").unlink()
    one.delete()
    assert one.volumes.find(VM_ID) is None
    for job in one.agent.jobs.list():
        assert one.agent.end_of(job).error is None
    assert not folder.exists()
