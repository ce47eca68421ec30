"""Suspensions, and starts from them, that meet another job or run, or have to wait."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.contract import snapshots
from node.contract.memories import MemoryMark
from node.contract.volumes import VmHasLease
from node.errors import Unavailable
from node.model.ids import VmId
from node.model.job import Job, JobState
from node.model.requests import StartVm, StopManner, StopVm
from node.model.storage import SnapshotState
from node.model.storage_requests import (
    CreateSnapshot,
    DeleteSnapshot,
    SnapshotPart,
    SuspendVm,
)
from node.model.vm import Vm
from node.storage.pools.memories import PoolMemories
from node.system.hypervisor import Activity
from node.vm import guest_parts, holding, live_disks, snapshot_tending, starting
from tests.contract import disks
from tests.contract.test_vm_snapshots_elsewhere import (
    BEGIN,
    FINISH,
    GUEST,
    Pair,
    Side,
)
from tests.contract.test_vm_suspended import (
    activity,
    is_removed,
    mark,
    paired,
    suspend,
    suspend_all,
    tend,
)
from tests.contract.vm_agent import ROOT, S1, S2, WAIT_S
from tests.unit.node.storage.pools.nodes import wait_until
from tests.unit.node.vm.examples import VM_ID

pytestmark = disks.NEED_QEMU_UTILS


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    yield from paired(tmp_path, monkeypatch)


def test_guest_runs_on_while_other_memories_are_written(pair: Pair) -> None:
    suspend(pair.manager, BEGIN)
    writers = pair.runner.snapshots.hibernator.writers
    for _ in range(holding.WRITERS):
        assert writers.acquire(blocking=False)
    asked = SuspendVm(part=GUEST)
    job = pair.runner.snapshots.hibernator.suspend(VM_ID, asked)
    wait_until(lambda: pair.runner.node.jobs.get(job.job_id).step.startswith("waits"))
    assert activity(pair.runner) is Activity.RUNNING
    pair.runner.node.jobs.cancel(job.job_id)
    assert pair.runner.end_of(job).state is JobState.CANCELLED
    assert activity(pair.runner) is Activity.RUNNING
    suspend(pair.manager, BEGIN)
    job = pair.runner.snapshots.hibernator.suspend(VM_ID, asked)
    writers.release()
    pair.runner.done(job)
    assert mark(pair) is MemoryMark.SAVED


def start_while_full(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> tuple[Job, threading.Event]:
    """Start a suspended VM whose guest cannot go on until the event is cleared."""
    use, is_full, has_waited = PoolMemories.use, threading.Event(), threading.Event()
    is_full.set()

    def use_later(memories: PoolMemories, vm: Vm, version: int | None) -> None:
        if is_full.is_set():
            has_waited.set()
            raise Unavailable("no space left")
        use(memories, vm, version)

    monkeypatch.setattr(starting, "_STORAGE_AGAIN_S", 0.01)
    monkeypatch.setattr(PoolMemories, "use", use_later)
    start = pair.manager.vms.start(VM_ID, StartVm(vm=pair.manager.vm))
    assert has_waited.wait(WAIT_S)
    return start, is_full


def test_guest_goes_on_when_its_storage_has_space_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspend_all(pair)
    start, is_full = start_while_full(pair, monkeypatch)
    jobs = pair.manager.node.jobs
    wait_until(lambda: jobs.get(start.job_id).step == "waits: no space left")
    assert (activity(pair.manager), mark(pair)) == (Activity.PAUSED, MemoryMark.SAVED)
    pair.restart(pair.manager)
    assert activity(pair.manager) is Activity.PAUSED
    is_full.clear()
    assert pair.manager.end_of(start).state is JobState.DONE
    assert (activity(pair.manager), mark(pair)) == (Activity.RUNNING, MemoryMark.USED)
    assert pair.manager.hypervisor.calls.count("restore") == 1


def losing_lease(
    side: Side, act: Callable[[PoolMemories, Vm, int | None], None]
) -> Callable[[PoolMemories, Vm, int | None], None]:
    """Return it as it is when the storage process was killed: its leases are free."""
    has_lost: list[bool] = []

    def lose(memories: PoolMemories, vm: Vm, version: int | None) -> None:
        if not has_lost:
            has_lost.append(True)
            side.node.volumes.unpark(VM_ID)
        act(memories, vm, version)

    return lose


def test_guest_goes_on_when_its_lease_went_with_the_storage_process(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspend_all(pair)
    monkeypatch.setattr(starting, "_STORAGE_AGAIN_S", 0.01)
    lose = losing_lease(pair.manager, PoolMemories.use)
    monkeypatch.setattr(PoolMemories, "use", lose)
    pair.manager.start()
    assert (activity(pair.manager), mark(pair)) == (Activity.RUNNING, MemoryMark.USED)


def test_memory_is_marked_when_its_lease_went_with_the_storage_process(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspend(pair.manager, BEGIN)
    lose = losing_lease(pair.runner, PoolMemories.save)
    monkeypatch.setattr(PoolMemories, "save", lose)
    suspend(pair.runner, GUEST)
    assert mark(pair) is MemoryMark.SAVED
    pair.manager.start()  # its lease was given back


def test_forced_stop_of_a_guest_that_waits_leaves_it_suspended(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspend_all(pair)
    start, is_full = start_while_full(pair, monkeypatch)
    force = StopVm(manner=StopManner.FORCE)
    pair.manager.done(pair.manager.vms.stop(VM_ID, force))
    assert pair.manager.end_of(start).state is JobState.CANCELLED
    assert (activity(pair.manager), mark(pair)) == (None, MemoryMark.SAVED)
    is_full.clear()
    pair.manager.vms.pool_vms.go_round()  # the lease of one that ended is given back
    pair.runner.start()
    assert pair.runner.hypervisor.calls.count("restore") == 1
    assert activity(pair.runner) is Activity.RUNNING


def test_guest_that_is_restored_and_has_not_gone_on_is_not_suspended(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspend_all(pair)
    start, is_full = start_while_full(pair, monkeypatch)
    pair.manager.node.jobs.cancel(start.job_id)
    assert pair.manager.end_of(start).state is JobState.CANCELLED
    is_full.clear()
    assert (activity(pair.manager), mark(pair)) == (Activity.PAUSED, MemoryMark.SAVED)
    job = pair.manager.snapshots.hibernator.suspend(VM_ID, SuspendVm())
    assert pair.manager.refused(job) == "vm_not_resumed"
    pair.manager.start()
    assert activity(pair.manager) is Activity.RUNNING
    assert pair.manager.hypervisor.calls.count("restore") == 1


def test_end_of_an_earlier_run_is_not_taken_for_this_ones(pair: Pair) -> None:
    """Its memory was discarded; what is prepared now was never written."""
    suspend_all(pair)
    pair.runner.stop()
    wait_until(lambda: is_removed(pair))
    suspend(pair.manager, BEGIN)
    suspend(pair.runner, GUEST)
    assert mark(pair) is MemoryMark.BLANK


def snapshot_while_it_rests(pair: Pair) -> None:
    """Suspend a VM; its snapshot is begun before its memory is marked as saved."""
    rest = pair.runner.hypervisor.on_rest

    def begin(vm_id: VmId) -> None:
        pair.manager.done(pair.manager.create(BEGIN))
        rest(vm_id)

    suspend(pair.manager, BEGIN)
    pair.runner.hypervisor.on_rest = begin
    suspend(pair.runner, GUEST)
    pair.runner.hypervisor.on_rest = rest
    assert mark(pair) is MemoryMark.SAVED


def snapshot_state(pair: Pair) -> SnapshotState:
    return snapshots.get(pair.manager.vm, S1).state


@pytest.mark.parametrize("part", [FINISH, SnapshotPart.WHOLE])
def test_snapshot_begun_before_its_guest_rests_is_finished(
    pair: Pair, part: SnapshotPart
) -> None:
    pair.write(1)
    snapshot_while_it_rests(pair)
    assert pair.runner.done(pair.runner.create(GUEST)).result == ""
    pair.manager.done(pair.manager.create(part))
    assert snapshot_state(pair) is SnapshotState.OK
    suspend(pair.manager, FINISH)
    pair.runner.start()
    assert pair.runner.hypervisor.calls.count("restore") == 1
    assert pair.tops() == pair.leaves()
    wait_until(lambda: is_removed(pair))
    pair.check(2)
    pair.has(1)


def test_snapshot_of_a_guest_that_rests_is_finished_with_nobody_asked(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_tending, "AGE_S", 0.0)
    snapshot_while_it_rests(pair)

    def is_finished() -> bool:
        tend(pair)
        return snapshot_state(pair) is SnapshotState.OK

    wait_until(is_finished)
    assert mark(pair) is MemoryMark.SAVED


def test_snapshot_of_a_vm_that_is_suspended_is_not_begun(pair: Pair) -> None:
    suspend_all(pair)
    assert pair.manager.refused(pair.manager.create(BEGIN)) == "vm_suspended"
    assert pair.manager.vm.snapshots == ()


def test_snapshot_waits_for_a_suspension_that_fails(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_TURN_LOOK_S", 0.01)
    hypervisor = pair.runner.hypervisor
    suspend(pair.manager, BEGIN)
    hypervisor.saves_hang = True
    asked = SuspendVm(part=GUEST)
    suspension = pair.runner.snapshots.hibernator.suspend(VM_ID, asked)
    assert hypervisor.is_saving.wait(WAIT_S)
    pair.manager.done(pair.manager.create(BEGIN))
    job = pair.runner.create(GUEST)
    wait_until(lambda: pair.runner.node.jobs.get(job.job_id).step.startswith("waits"))
    pair.runner.node.jobs.cancel(suspension.job_id)
    assert pair.runner.end_of(suspension).state is JobState.CANCELLED
    assert pair.runner.done(job).result == guest_parts.TURNED
    pair.manager.done(pair.manager.create(FINISH))
    assert snapshot_state(pair) is SnapshotState.OK
    assert activity(pair.runner) is Activity.RUNNING


@pytest.mark.parametrize("act", ["create", "delete"])
def test_snapshot_is_refused_at_once_where_the_vm_is_being_suspended(
    pair: Pair, act: str
) -> None:
    """Nothing of it has begun: it need not wait."""
    pair.take()
    pair.runner.stop()
    manager = pair.manager
    manager.start()
    manager.hypervisor.saves_hang = True
    suspension = manager.snapshots.hibernator.suspend(VM_ID, SuspendVm())
    assert manager.hypervisor.is_saving.wait(WAIT_S)
    asks: dict[str, Callable[[], Job]] = {
        "create": lambda: manager.snapshots.create(VM_ID, CreateSnapshot(S2)),
        "delete": lambda: manager.snapshots.delete(VM_ID, DeleteSnapshot(S1)),
    }
    with pytest.raises(holding.BeingSuspended) as caught:
        asks[act]()
    assert caught.value.fields["job_id"] == suspension.job_id
    manager.node.jobs.cancel(suspension.job_id)
    assert manager.end_of(suspension).state is JobState.CANCELLED
    manager.done(manager.delete(SnapshotPart.WHOLE))


def merge_without_end(pair: Pair) -> Job:
    """Begin a deletion whose merge does not end by itself."""
    pair.take()
    pair.runner.hypervisor.merges_hang = True
    pair.manager.done(pair.manager.delete(BEGIN))
    job = pair.runner.delete(GUEST)
    wait_until(lambda: "begin_merge" in pair.runner.hypervisor.calls)
    return job


def test_guest_does_not_rest_while_its_disk_is_merged(pair: Pair) -> None:
    merge = merge_without_end(pair)
    suspend(pair.manager, BEGIN)
    asked = SuspendVm(part=GUEST)
    job = pair.runner.snapshots.hibernator.suspend(VM_ID, asked)
    assert pair.runner.refused(job) == "vm_disk_being_merged"
    assert activity(pair.runner) is Activity.RUNNING
    assert "save" not in pair.runner.hypervisor.calls
    pair.runner.node.jobs.cancel(merge.job_id)
    pair.runner.end_of(merge)
    suspend(pair.manager, BEGIN)
    suspend(pair.runner, GUEST)
    assert mark(pair) is MemoryMark.SAVED


def test_guest_goes_on_when_a_merge_begins_before_it_rests(pair: Pair) -> None:
    suspend(pair.manager, BEGIN)
    writers = pair.runner.snapshots.hibernator.writers
    for _ in range(holding.WRITERS):
        assert writers.acquire(blocking=False)
    asked = SuspendVm(part=GUEST)
    job = pair.runner.snapshots.hibernator.suspend(VM_ID, asked)
    wait_until(lambda: pair.runner.node.jobs.get(job.job_id).step.startswith("waits"))
    (top, _), hypervisor = pair.tops(), pair.runner.hypervisor
    hypervisor.merges_hang = True
    hypervisor.begin_merge(VM_ID, live_disks._alias(ROOT), "base", str(top))
    writers.release(holding.WRITERS)
    assert pair.runner.refused(job) == "vm_disk_being_merged"
    assert activity(pair.runner) is Activity.RUNNING


def while_it_starts(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
) -> None:
    """Start the suspended VM; act while it is restored, and its memory is not used."""
    use = PoolMemories.use

    def use_later(memories: PoolMemories, vm: Vm, version: int | None) -> None:
        act()
        use(memories, vm, version)

    with monkeypatch.context() as patched:
        patched.setattr(PoolMemories, "use", use_later)
        pair.manager.start()
    assert pair.manager.hypervisor.calls.count("restore") == 1
    assert (activity(pair.manager), mark(pair)) == (Activity.RUNNING, MemoryMark.USED)


def test_job_takes_no_lease_from_a_start(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspend_all(pair)
    volumes, vm = pair.manager.node.volumes, pair.manager.vm

    def take_lease() -> None:
        with pytest.raises(VmHasLease), volumes.holding_any(vm):
            pass

    while_it_starts(pair, monkeypatch, take_lease)


def test_merge_waits_for_a_start(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its guest merges it, when there is one."""
    monkeypatch.setattr(holding, "_TURN_LOOK_S", 0.01)
    pair.take()
    pair.manager.done(pair.manager.delete(BEGIN))
    pair.runner.stop()
    manager, merges = pair.manager, []

    def merge(_xml: str) -> None:
        job = manager.delete(FINISH)
        wait_until(lambda: manager.node.jobs.get(job.job_id).step.startswith("waits"))
        merges.append(job)

    manager.hypervisor.on_create = merge
    manager.start()
    manager.done(merges[0])
    assert manager.vm.snapshots == ()
    assert "pivot" in manager.hypervisor.calls
    assert activity(manager) is Activity.RUNNING


def test_deletion_that_has_begun_ends_though_its_guest_rests(pair: Pair) -> None:
    pair.write(1)
    pair.take()
    pair.write(2)
    pair.manager.done(pair.manager.delete(BEGIN))
    suspend_all(pair)
    pair.manager.done(pair.manager.delete(FINISH))
    assert pair.manager.vm.snapshots == ()
    assert mark(pair) is MemoryMark.SAVED
    pair.runner.start()
    assert pair.runner.hypervisor.calls.count("restore") == 1
    assert pair.tops() == pair.leaves()
    wait_until(lambda: is_removed(pair))
    pair.check(1)
    pair.has(1, 2)


def test_deletion_is_not_begun_while_the_guest_rests(pair: Pair) -> None:
    pair.take()
    suspend_all(pair)
    for part in (BEGIN, SnapshotPart.WHOLE):
        assert pair.manager.refused(pair.manager.delete(part)) == "vm_suspended"
        assert snapshot_state(pair) is SnapshotState.OK
