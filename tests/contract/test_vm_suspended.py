"""Suspend a VM on one node of a pool, and let it go on upon another.

Two agents on one shared pool, with the real storage operations, a fake libvirt, and a
fake sanlock that knows who has the VM's lease. What libvirt has saved is known to both
hypervisors, as a file of the pool is.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node.contract.memories import (
    MemoryMark,
    VmSuspended,
    check_stays,
    check_unseen,
)
from node.contract.volumes import DiskNotMade, check_unnamed
from node.errors import Error, Unavailable
from node.jobs import AgentStopping
from node.model.ids import DiskId, JobId, StorageDomainId, VmId
from node.model.job import Job, JobState
from node.model.requests import (
    AttachDisk,
    DeleteVm,
    StartVm,
    StopManner,
    StopVm,
)
from node.model.storage_requests import (
    ActOnDisk,
    ActOnStorageDomain,
    AttachStorageDomain,
    ChangeDisk,
    CreateSnapshot,
    CreateStorageDomain,
    MoveDisk,
    ResizeDisk,
    SnapshotPart,
    SparsifyDisk,
    SuspendVm,
)
from node.model.vm import Disk, EndCause, Vm, VmState, Wanted
from node.storage.disks.verbs import Disks
from node.storage.pools import volumes
from node.storage.pools.memories import PoolMemories
from node.storage.pools.service import Storage
from node.storage.process.holdings import StaleLease
from node.system.hypervisor import Activity, DomainMissing, HypervisorDown
from node.units import MiB
from node.vm import hibernating, holding, memory_writing
from tests import memory
from tests.contract import disks
from tests.contract.test_vm_snapshots_elsewhere import (
    ALPHA,
    BEGIN,
    FINISH,
    GUEST,
    POOL,
    Pair,
    Side,
    killed_at,
)
from tests.contract.vm_agent import ROOT, S1, WAIT_S, of_jobs
from tests.unit.node.storage.pools.nodes import wait_until
from tests.unit.node.vm.examples import SPEC, VM_ID

pytestmark = disks.NEED_QEMU_UTILS

BETA = StorageDomainId("11111111-1111-4222-8333-00000000000b")
KEEPS = "disk_keeps_memory"


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    yield from paired(tmp_path, monkeypatch)


def paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(hibernating, "_MARK_AGAIN_S", 0.01)
    monkeypatch.setattr(memory_writing, "_CANCEL_LOOK_S", 0.01)
    monkeypatch.setattr(memory_writing, "_PLACE_LOOK_S", 0.01)
    monkeypatch.setattr(hibernating, "_DISK_AGAIN_S", 0.05)
    monkeypatch.setattr(holding, "_RELEASE_LOOK_S", 0.01)
    with memory.fast_folder(tmp_path) as folder:
        made = Pair(folder)
        monkeypatch.setattr(volumes, "_MADE_S", 0.5)  # who is dead waits for nobody
        made.runner.hypervisor.saved = made.manager.hypervisor.saved
        made.runner.start()
        yield made
        made.close()


def suspend(side: Side, part: SnapshotPart = SnapshotPart.WHOLE) -> None:
    side.done(side.snapshots.hibernator.suspend(VM_ID, SuspendVm(part=part)))


def suspend_all(pair: Pair) -> None:
    """Suspend in three parts, as an aggregator's plan does."""
    suspend(pair.manager, BEGIN)
    suspend(pair.runner, GUEST)
    suspend(pair.manager, FINISH)


def mark(pair: Pair) -> MemoryMark:
    vm = pair.manager.vm
    return pair.manager.node.volumes.memories.look(vm)


def activity(side: Side) -> Activity | None:
    try:
        return side.hypervisor.observe(VM_ID).activity
    except DomainMissing:
        return None


def images(pair: Pair) -> int:
    """Return how many disks lie on the storage domain."""
    vm = pair.manager.vm
    leaf = pair.manager.node.volumes.open(vm.spec.disks[0]).layers[0].path
    folder = Path(leaf).parent.parent
    return sum(not each.name.startswith(("_", ".")) for each in folder.iterdir())


def tend(pair: Pair) -> None:
    pair.manager.vms.pool_vms.read_definitions()


def is_removed(pair: Pair) -> bool:
    tend(pair)
    return pair.manager.vm.memory is None


def test_suspension_without_space_leaves_no_trace(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_anything: object) -> Job:
        raise DiskNotMade("no space left")

    before = images(pair)
    with monkeypatch.context() as full:
        full.setattr(Disks, "create", refuse)
        begun = pair.manager.snapshots.hibernator.suspend(VM_ID, SuspendVm(part=BEGIN))
        ended = pair.manager.end_of(begun)
    assert ended.error is not None
    assert ended.error.code == DiskNotMade.code
    assert pair.manager.vm.memory is None
    assert images(pair) == before
    assert pair.runs()
    suspend_all(pair)
    assert mark(pair) is MemoryMark.SAVED


def test_suspended_vm_goes_on_once_upon_another_node(pair: Pair) -> None:
    before = images(pair)
    suspend_all(pair)
    assert activity(pair.runner) is None
    memory = pair.manager.vm.memory
    assert memory is not None
    assert memory.is_saved
    entry = pair.runner.vms.show(VM_ID)
    assert entry.run.end is not None
    assert (entry.run.state, entry.run.end.cause) == (VmState.DOWN, EndCause.SUSPENDED)
    assert (entry.vm.wanted, entry.run.reason) == (Wanted.DOWN, None)
    pair.manager.start()
    assert pair.manager.hypervisor.calls.count("restore") == 1
    assert activity(pair.manager) is Activity.RUNNING
    tend(pair)
    assert pair.manager.vm.memory is None
    assert images(pair) == before
    pair.manager.stop()
    pair.runner.start()  # boots: nothing is restored a second time
    assert "restore" not in pair.runner.hypervisor.calls


def test_memory_is_used_before_its_guest_runs(pair: Pair) -> None:
    suspend_all(pair)
    seen: list[MemoryMark] = []
    run = pair.manager.hypervisor.on_run

    def look(vm_id: object) -> None:
        seen.append(mark(pair))
        run(VM_ID)

    pair.manager.hypervisor.on_run = look
    pair.manager.start()
    assert seen == [MemoryMark.USED]


def test_failed_restore_leaves_the_vm_suspended(pair: Pair) -> None:
    suspend_all(pair)
    pair.manager.hypervisor.refusal = "the CPU lacks something"
    job = pair.manager.vms.start(VM_ID, StartVm(vm=pair.manager.vm))
    assert pair.manager.refused(job) == "hypervisor_refused"
    assert mark(pair) is MemoryMark.SAVED
    reason = pair.manager.vms.show(VM_ID).run.reason
    assert reason is not None
    assert reason.code == "vm_start_failed"
    pair.manager.hypervisor.refusal = ""
    pair.runner.start()
    assert pair.runner.hypervisor.calls.count("restore") == 1


def test_discarded_memory_is_not_restored(pair: Pair) -> None:
    suspend_all(pair)
    request = StartVm(vm=pair.manager.vm, discard_memory=True)
    pair.manager.done(pair.manager.vms.start(VM_ID, request))
    assert "restore" not in pair.manager.hypervisor.calls
    assert mark(pair) is MemoryMark.USED
    pair.manager.stop()
    pair.runner.start()
    assert "restore" not in pair.runner.hypervisor.calls


@pytest.mark.parametrize("side", ["manager", "runner"])
def test_forced_stop_discards_the_memory(pair: Pair, side: str) -> None:
    before = images(pair)
    suspend_all(pair)
    stopper: Side = getattr(pair, side)
    request = StopVm(manner=StopManner.FORCE)
    stopper.done(stopper.vms.stop(VM_ID, request))
    assert mark(pair) is MemoryMark.USED
    tend(pair)
    assert pair.manager.vm.memory is None
    assert images(pair) == before


def test_disks_of_a_suspended_vm_stay_as_they_are(pair: Pair) -> None:
    suspend_all(pair)
    job = pair.manager.snapshots.create(VM_ID, CreateSnapshot(S1, "no"))
    assert pair.manager.refused(job) == "vm_suspended"
    pair.runner.start()  # its lease was given back at once
    assert pair.runner.hypervisor.calls.count("restore") == 1


def test_guest_is_not_suspended_while_its_snapshot_is_taken(pair: Pair) -> None:
    begun = CreateSnapshot(S1, "", part=BEGIN)
    pair.manager.done(pair.manager.snapshots.create(VM_ID, begun))
    suspend(pair.manager, BEGIN)
    job = pair.runner.snapshots.hibernator.suspend(VM_ID, SuspendVm(part=GUEST))
    assert pair.runner.refused(job) == "snapshot_locked"
    assert pair.runs()


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda s, d: s.disk_delete(d, ActOnDisk()), id="delete"),
        pytest.param(lambda s, d: s.disk_move(d, MoveDisk(BETA)), id="move"),
        pytest.param(lambda s, d: s.disk_resize(d, ResizeDisk(MiB)), id="resize"),
        pytest.param(lambda s, d: s.disk_sparsify(d, SparsifyDisk()), id="sparsify"),
    ],
)
def test_disk_of_a_memory_is_nobody_elses(
    pair: Pair, ask: Callable[[Storage, DiskId], Job]
) -> None:
    suspend_all(pair)
    assert refusal(lambda: ask(pair.manager.node.storage, kept(pair))) == KEEPS
    assert mark(pair) is MemoryMark.SAVED


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda s: s.disk_delete(ROOT, ActOnDisk()), id="delete"),
        pytest.param(lambda s: s.disk_resize(ROOT, ResizeDisk(8 * MiB)), id="resize"),
        pytest.param(lambda s: s.disk_sparsify(ROOT, SparsifyDisk()), id="sparsify"),
    ],
)
def test_what_a_memory_has_seen_is_not_changed(
    pair: Pair, ask: Callable[[Storage], Job]
) -> None:
    suspend_all(pair)
    storage = pair.manager.node.storage
    assert refusal(lambda: ask(storage)) == "vm_suspended"
    pair.manager.done(storage.disk_change(ROOT, ChangeDisk(name="other")))
    assert mark(pair) is MemoryMark.SAVED


def add_beta(pair: Pair) -> None:
    """Let the pool have another storage domain, which both nodes use."""
    storage = pair.manager.node.storage
    new = CreateStorageDomain(BETA, "beta", pair.nodes.connection("beta"))
    pair.manager.done(storage.storage_domain_create(new))
    pair.manager.done(storage.storage_domain_attach(BETA, AttachStorageDomain(POOL)))
    pair.manager.done(storage.storage_domain_activate(BETA, ActOnStorageDomain()))
    pool = pair.runner.node.storage.roster.seat(POOL).pool
    wait_until(lambda: any(e.storage_domain_id == BETA for e in pool.reached()))


def test_guest_goes_on_over_a_disk_that_was_moved(pair: Pair) -> None:
    pair.nodes.holding = pair.manager.vms.pool_vms.holding
    add_beta(pair)
    suspend_all(pair)
    pair.manager.done(pair.manager.node.storage.disk_move(ROOT, MoveDisk(BETA)))
    pair.runner.start()
    assert pair.runner.hypervisor.calls.count("restore") == 1
    assert BETA in str(pair.leaves()[0])


def test_disk_that_was_asked_for_before_the_vm_was_suspended_stays(pair: Pair) -> None:
    """Its job waited for a worker meanwhile."""
    suspend_all(pair)
    holding = pair.manager.vms.pool_vms.holding
    with pytest.raises(VmSuspended), holding(frozenset({ROOT}), may_sleep=False):
        raise AssertionError("it is held")


def test_disk_is_unseen_by_a_memory_that_is_not_kept_yet(pair: Pair) -> None:
    suspend(pair.manager, BEGIN)
    check_unseen(ROOT, [pair.manager.vm])
    suspend(pair.runner, GUEST)
    suspend(pair.manager, FINISH)
    with pytest.raises(Error) as caught:
        check_unseen(ROOT, [pair.manager.vm])
    assert caught.value.code == "vm_suspended"
    check_unseen(kept(pair), [pair.manager.vm])


def test_memory_that_is_prepared_is_not_attached(pair: Pair) -> None:
    suspend(pair.manager, BEGIN)
    pair.runner.stop()
    disk = Disk(kept(pair), "memory", 0, storage_domain_id=ALPHA)
    job = pair.manager.vms.attach_disk(VM_ID, AttachDisk(disk))
    assert pair.manager.refused(job) == KEEPS


def test_vm_does_not_get_its_memory_as_a_disk(pair: Pair) -> None:
    suspend_all(pair)
    disk = Disk(kept(pair), "memory", MiB, storage_domain_id=ALPHA)
    with pytest.raises(Error) as caught:
        check_unnamed(disk, pair.manager.vm, [pair.manager.vm])
    assert caught.value.code == KEEPS


def test_guest_does_not_boot_when_its_memory_is_missing(pair: Pair) -> None:
    suspend_all(pair)
    folder = Path(pair.manager.node.volumes.memories.path(pair.manager.vm)).parent
    away = folder.rename(folder.parent.parent / "away")
    job = pair.manager.vms.start(VM_ID, StartVm(vm=pair.manager.vm))
    assert pair.manager.refused(job) == "memory_missing"
    away.rename(folder)
    pair.manager.start()
    assert pair.manager.hypervisor.calls.count("restore") == 1


def test_guest_that_boots_leaves_no_memory_behind(pair: Pair) -> None:
    """What was blank when it booted does not count when it is found whole later."""
    suspend(pair.manager, BEGIN)
    pair.runner.stop()
    pair.manager.start()
    assert mark(pair) is MemoryMark.USED


def test_memory_is_marked_when_its_storage_answers_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspend(pair.manager, BEGIN)
    refusals = iter([Unavailable("the storage does not answer")] * 50)
    save = PoolMemories.save

    def save_later(memories: PoolMemories, vm: Vm, version: int | None) -> None:
        for error in refusals:
            raise error
        save(memories, vm, version)

    monkeypatch.setattr(PoolMemories, "save", save_later)
    suspend(pair.runner, GUEST)
    assert mark(pair) is MemoryMark.SAVED


def test_guest_whose_memory_may_not_be_marked_is_told_as_lost(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspend(pair.manager, BEGIN)

    def refuse(_memories: PoolMemories, _vm: Vm, _version: int | None) -> None:
        raise StaleLease("another host has it")

    monkeypatch.setattr(PoolMemories, "save", refuse)
    job = pair.runner.snapshots.hibernator.suspend(VM_ID, SuspendVm(part=GUEST))
    assert pair.runner.refused(job) == StaleLease.code
    end = pair.runner.vms.show(VM_ID).run.end
    assert end is not None
    assert (end.cause, "memory" in end.detail) == (EndCause.CRASHED, True)


def test_libvirt_that_is_lost_while_it_writes_is_waited_for(pair: Pair) -> None:
    suspend(pair.manager, BEGIN)
    hypervisor, save = pair.runner.hypervisor, pair.runner.hypervisor.save
    breaks = iter([HypervisorDown("the connection broke")])

    def break_once(vm_id: VmId, path: str) -> None:
        for error in breaks:
            raise error
        save(vm_id, path)

    hypervisor.save = break_once  # type: ignore[method-assign]
    suspend(pair.runner, GUEST)
    assert mark(pair) is MemoryMark.SAVED


def test_storage_domain_of_a_suspended_vm_is_not_detached(pair: Pair) -> None:
    suspend_all(pair)
    vms = [pair.manager.vm]
    with pytest.raises(Error) as caught:
        check_stays(ALPHA, vms)
    assert caught.value.code == "vm_suspended"
    check_stays(BETA, vms)


def test_guest_goes_on_when_its_memory_cannot_be_written(pair: Pair) -> None:
    before = images(pair)
    suspend(pair.manager, BEGIN)
    pair.runner.hypervisor.refusal = "no space left"
    asked = SuspendVm(part=GUEST)
    job = pair.runner.snapshots.hibernator.suspend(VM_ID, asked)
    assert pair.runner.refused(job) == "hypervisor_refused"
    pair.runner.hypervisor.refusal = ""
    wait_until(lambda: activity(pair.runner) is Activity.RUNNING)
    asked = SuspendVm(part=FINISH)
    job = pair.manager.snapshots.hibernator.suspend(VM_ID, asked)
    assert pair.manager.refused(job) == "vm_not_suspended"
    assert pair.manager.vm.memory is None
    assert images(pair) == before
    suspend_all(pair)
    assert mark(pair) is MemoryMark.SAVED


@pytest.mark.parametrize("manner", [StopManner.FORCE, StopManner.GRACEFUL])
def test_only_a_forced_stop_ends_a_long_save(pair: Pair, manner: StopManner) -> None:
    before = images(pair)
    runner, saving = pair.runner, begin_long_save(pair)
    stop = runner.vms.stop(VM_ID, StopVm(manner=manner, deadline_s=0))
    if manner is not StopManner.FORCE:
        assert not runner.node.jobs.get(saving.job_id).is_cancel_asked
        runner.node.jobs.cancel(saving.job_id)
    runner.done(stop)
    assert runner.end_of(saving).state is JobState.CANCELLED
    end = runner.vms.show(VM_ID).run.end
    assert end is not None
    assert end.cause is EndCause.KILLED
    wait_until(lambda: is_removed(pair))
    assert images(pair) == before


def test_forced_stop_that_is_asked_again_cancels_nothing(pair: Pair) -> None:
    job_id = JobId("22220000-0000-4000-8000-000000000001")
    forced = StopVm(manner=StopManner.FORCE, job_id=job_id)
    pair.runner.done(pair.runner.vms.stop(VM_ID, forced))
    pair.runner.start()
    saving = begin_long_save(pair)
    pair.runner.vms.stop(VM_ID, forced)
    assert not pair.runner.node.jobs.get(saving.job_id).is_cancel_asked
    pair.runner.node.jobs.cancel(saving.job_id)
    assert pair.runner.end_of(saving).state is JobState.CANCELLED


def test_cancelled_suspension_lets_its_guest_go_on(pair: Pair) -> None:
    saving = begin_long_save(pair)
    pair.runner.node.jobs.cancel(saving.job_id)
    assert pair.runner.end_of(saving).state is JobState.CANCELLED
    assert activity(pair.runner) is Activity.RUNNING
    pair.runner.hypervisor.saves_hang = False
    suspend_all(pair)
    assert mark(pair) is MemoryMark.SAVED


def test_cancelled_suspension_is_aborted_by_the_next_agent(pair: Pair) -> None:
    """The one before died while libvirt wrote, and the guest stood still."""
    suspend(pair.manager, BEGIN)
    runner, hypervisor, has_died = (
        pair.runner,
        pair.runner.hypervisor,
        threading.Event(),
    )

    job_id = JobId("22220000-0000-4000-8000-000000000002")

    def die() -> None:
        hypervisor.on_call = lambda: None
        runner.node.jobs.cancel(job_id)
        has_died.set()
        raise AgentStopping("the agent dies")

    rest_then_save = iter((lambda: None, die))
    hypervisor.on_call = of_jobs(lambda: next(rest_then_save)())
    asked = SuspendVm(part=GUEST, job_id=job_id)
    saving = runner.snapshots.hibernator.suspend(VM_ID, asked)
    assert has_died.wait(WAIT_S)
    assert activity(runner) is Activity.PAUSED
    hypervisor.saves_hang = True
    pair.restart(runner)
    assert runner.end_of(saving).state is JobState.CANCELLED
    assert activity(runner) is Activity.RUNNING


def test_memory_that_nobody_fills_is_removed_when_the_vm_is_down(pair: Pair) -> None:
    before = images(pair)
    suspend(pair.manager, BEGIN)
    tend(pair)
    assert images(pair) == before + 1  # its guest may be about to fill it
    pair.runner.stop()
    tend(pair)
    assert pair.manager.vm.memory is None
    assert images(pair) == before


def test_manager_that_nobody_asks_finishes(pair: Pair) -> None:
    suspend(pair.manager, BEGIN)
    suspend(pair.runner, GUEST)
    tend(pair)
    memory = pair.manager.vm.memory
    assert memory is not None
    assert memory.is_saved


def test_new_manager_removes_a_memory_that_was_used(pair: Pair) -> None:
    """To remove it asks who uses it: that reads the definitions, but once."""
    pair.nodes.user_elsewhere = lambda disk_id: pair.manager.vms.user_of(disk_id)
    suspend_all(pair)
    pair.runner.start()
    assert mark(pair) is MemoryMark.USED
    pair.restart(pair.manager)
    wait_until(lambda: is_removed(pair))


def test_deleted_vm_takes_its_memory_with_it(pair: Pair) -> None:
    suspend_all(pair)
    folder = Path(
        pair.manager.node.volumes.open(pair.manager.vm.spec.disks[0]).layers[0].path
    ).parent.parent
    pair.manager.done(pair.manager.vms.delete(VM_ID, DeleteVm()))
    wait_until(lambda: not list(folder.iterdir()))
    assert pair.manager.node.storage.storage_domain_check(ALPHA).problems == ()


@pytest.mark.parametrize("why", ["saved", "crashed"])
def test_agent_that_died_sees_whether_libvirt_has_saved(
    pair: Pair, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies while libvirt writes, which goes on to its end."""
    suspend(pair.manager, BEGIN)
    runner = pair.runner
    memories = runner.node.volumes.memories
    path = str(memories.path(pair.manager.vm))

    def die(_vm_id: VmId, _path: str) -> None:
        with hypervisor.silence():
            hypervisor.saved[path] = hypervisor.observe(VM_ID).xml
            log_end(runner, why)  # libvirt does before the domain is gone
            hypervisor.end(VM_ID, why)
        raise AgentStopping("the agent dies")

    hypervisor = runner.hypervisor
    monkeypatch.setattr(hypervisor, "save", die)
    job = runner.snapshots.hibernator.suspend(VM_ID, SuspendVm(part=GUEST))
    wait_until(lambda: not hypervisor.domains())
    pair.restart(runner)
    assert runner.end_of(job).state is JobState.DONE
    is_saved = mark(pair) is MemoryMark.SAVED
    assert is_saved is (why == "saved")


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"  # a thread that is killed
)
def test_guest_goes_on_once_wherever_an_agent_dies(
    pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    manager, runner = pair.manager, pair.runner
    restored: list[str] = []
    save = runner.hypervisor.save

    def save_and_say(vm_id: VmId, path: str) -> None:
        log_end(runner, "saved")  # libvirt does before the domain is gone
        save(vm_id, path)

    monkeypatch.setattr(runner.hypervisor, "save", save_and_say)
    for side in (manager, runner):
        side.hypervisor.on_create = restored.append
    before, points = images(pair), 0
    for calls in itertools.count(1):
        died = []
        for side, part in ((manager, BEGIN), (runner, GUEST), (manager, FINISH)):
            ask = functools.partial(_ask, side, part)
            died.append(killed_at(pair, side, calls, ask))
        assert (activity(runner), mark(pair)) == (None, MemoryMark.SAVED), calls
        restored.clear()
        start = functools.partial(_start, manager)
        died.append(killed_at(pair, manager, calls, start))
        assert len(restored) == 1, calls
        assert activity(manager) is Activity.RUNNING, calls
        wait_until(lambda: is_removed(pair))
        assert images(pair) == before, calls
        manager.stop()
        runner.start()
        points += sum(died)
        if not any(died):
            break
    record_property("points", points)
    assert points > 1


def _ask(side: Side, part: SnapshotPart, job_id: JobId) -> Job:
    request = SuspendVm(part=part, job_id=job_id)
    return side.snapshots.hibernator.suspend(VM_ID, request)


def _start(side: Side, job_id: JobId) -> Job:
    return side.vms.start(VM_ID, StartVm(job_id=job_id, vm=side.vm))


def begin_long_save(pair: Pair) -> Job:
    """Let libvirt write a memory that takes for ever."""
    suspend(pair.manager, BEGIN)
    pair.runner.hypervisor.saves_hang = True
    job = pair.runner.snapshots.hibernator.suspend(VM_ID, SuspendVm(part=GUEST))
    assert pair.runner.hypervisor.is_saving.wait(WAIT_S)
    return job


def kept(pair: Pair) -> DiskId:
    """Return the disk that keeps the VM's memory."""
    memory = pair.manager.vm.memory
    assert memory is not None
    return memory.disk_id


def refusal(ask: Callable[[], object]) -> str:
    with pytest.raises(Error) as caught:
        ask()
    return caught.value.code


def log_end(side: Side, why: str) -> None:
    """Write down how the guest ends, as libvirt does in QEMU's log."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    path = side.folder / "logs" / f"{SPEC.name}.log"
    path.write_text(
        f"{now}+0000: starting up\n{now}+0000: shutting down, reason={why}\n"
    )
