"""Snapshots with memory of a VM on one node of a pool, gone back to upon another.

Two agents on one shared pool, as for VMs that are suspended: the real storage
operations, a fake libvirt, and a fake sanlock that knows who has the VM's lease. What
libvirt has written is known to both hypervisors, by the bytes that the test puts into
the memory's file: a copy of the file is known as what it is a copy of.
"""

import functools
import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.contract import snapshots
from node.contract.memories import MemoryMark, of_snapshot
from node.contract.volumes import check_unnamed
from node.errors import Error
from node.model.ids import JobId, SnapshotId, VmId
from node.model.job import Job, JobState
from node.model.requests import ActOnVm, DeleteVm, StartVm, StopManner, StopVm
from node.model.storage import SnapshotState
from node.model.storage_requests import (
    ActOnDisk,
    ActOnSnapshot,
    CreateSnapshot,
    PreviewSnapshot,
    SnapshotPart,
)
from node.model.vm import Disk, Snapshot, VmState
from node.storage.pools import volumes
from node.storage.pools.memories import PoolMemories
from node.storage.process.holdings import StaleLease
from node.system import hypervisor_reading
from node.system.hypervisor import Activity, DomainMissing
from node.vm import guest_parts, hibernating, holding, live_disks, memory_writing
from node.vm.pausing import Pauser
from node.vm.register import Sight
from node.vm.states import Seen
from tests import memory
from tests.contract import disks
from tests.contract.test_vm_snapshots_elsewhere import (
    ALPHA,
    BEGIN,
    FINISH,
    GUEST,
    Pair,
    Side,
    killed_at,
)
from tests.contract.test_vm_suspended import (
    activity,
    images,
    is_removed,
    mark,
    refusal,
    suspend_all,
)
from tests.contract.vm_agent import ROOT, S1, S2, WAIT_S, of_jobs
from tests.contract.vm_scene import Scene
from tests.unit.node.storage.pools.nodes import wait_until
from tests.unit.node.vm.examples import VM_ID

pytestmark = disks.NEED_QEMU_UTILS

WHOLE = SnapshotPart.WHOLE
# Each moment costs the start of an agent; its steps are several calls each.
_STRIDE = 2 if os.environ.get("SKERRY_ALL_POINTS") == "1" else 7


class Saved(dict[str, str]):
    """What libvirt has written to files: their contents say which domain it was."""

    def __setitem__(self, path: str, xml: str) -> None:
        number = str(uuid.uuid4())
        with Path(path).open("r+b") as file:
            file.write(number.encode())
        super().__setitem__(number, xml)

    def __getitem__(self, path: str) -> str:
        return super().__getitem__(_number(path))

    def __contains__(self, path: object) -> bool:
        return Path(str(path)).exists() and super().__contains__(_number(str(path)))


def _number(path: str) -> str:
    with Path(path).open("rb") as file:
        return file.read(len(str(uuid.UUID(int=0)))).decode(errors="replace")


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    yield from pairs(tmp_path, monkeypatch)


def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(memory_writing, "_CANCEL_LOOK_S", 0.01)
    monkeypatch.setattr(hibernating, "_DISK_AGAIN_S", 0.05)
    monkeypatch.setattr(holding, "_RELEASE_LOOK_S", 0.01)
    monkeypatch.setattr(guest_parts, "_CLOSE_AGAIN_S", 0.01)
    monkeypatch.setattr(live_disks, "_LOOK_S", 0.01)
    with memory.fast_folder(tmp_path) as folder:
        made = Pair(folder)
        monkeypatch.setattr(volumes, "_MADE_S", 0.5)  # who is dead waits for nobody
        made.runner.hypervisor.saved = made.manager.hypervisor.saved = Saved()
        made.runner.start()
        yield made
        made.close()


def take(side: Side, part: SnapshotPart, snapshot_id: SnapshotId = S1) -> Job:
    request = CreateSnapshot(snapshot_id, "now", has_memory=True, part=part)
    return side.snapshots.create(VM_ID, request)


def take_all(pair: Pair, snapshot_id: SnapshotId = S1) -> None:
    """Take a snapshot in three parts, as an aggregator's plan does."""
    pair.manager.done(take(pair.manager, BEGIN, snapshot_id))
    ended = pair.runner.done(take(pair.runner, GUEST, snapshot_id))
    assert ended.result == guest_parts.TURNED
    pair.manager.done(take(pair.manager, FINISH, snapshot_id))


def preview(side: Side, snapshot_id: SnapshotId = S1) -> Job:
    request = PreviewSnapshot(snapshot_id, has_memory=True)
    return side.snapshots.preview(VM_ID, request)


def undo(side: Side) -> None:
    side.done(side.snapshots.undo(VM_ID, ActOnSnapshot()))


def commit(side: Side) -> None:
    side.done(side.snapshots.commit(VM_ID, ActOnSnapshot()))


def taken(pair: Pair, snapshot_id: SnapshotId = S1) -> Snapshot:
    return snapshots.get(pair.manager.vm, snapshot_id)


def kept(pair: Pair) -> MemoryMark:
    """Return the mark of the snapshot's memory."""
    vm = pair.manager.vm
    return pair.manager.node.volumes.memories.look(of_snapshot(vm, taken(pair)))


def restored(side: Side) -> int:
    return side.hypervisor.calls.count("restore")


def open_files(side: Side) -> list[str]:
    """Return what a guest writes to."""
    xml = side.hypervisor.observe(VM_ID).xml
    aliases = [f"ua-disk-{each.disk_id}" for each in side.vm.spec.disks]
    return [hypervisor_reading.disk(xml, each).files[0] for each in aliases]


def test_guest_goes_on_where_its_snapshot_was_taken_again_and_again(
    pair: Pair,
) -> None:
    before = images(pair)
    pair.write(1)
    take_all(pair)
    assert pair.runs()
    assert pair.tops() == pair.leaves()
    memory = taken(pair).memory
    assert memory is not None
    assert (memory.is_saved, pair.manager.vm.memory) == (True, None)
    pair.write(2)
    pair.runner.stop()
    for count in (1, 2):
        pair.manager.done(preview(pair.manager))
        assert mark(pair) is MemoryMark.SAVED
        pair.has(1)
        pair.manager.start()
        assert restored(pair.manager) == count
        assert activity(pair.manager) is Activity.RUNNING
        assert open_files(pair.manager) == [str(each) for each in pair.leaves()]
        wait_until(lambda: is_removed(pair))
        pair.manager.stop()
        undo(pair.manager)
        pair.has(1, 2)
    assert kept(pair) is MemoryMark.SAVED
    pair.manager.done(pair.manager.delete(WHOLE))
    assert images(pair) == before
    pair.check(1)
    pair.has(1, 2)


def test_manager_that_runs_the_vm_takes_it_whole(pair: Pair) -> None:
    pair.runner.stop()
    pair.manager.start()
    pair.manager.done(take(pair.manager, WHOLE))
    assert kept(pair) is MemoryMark.SAVED
    assert activity(pair.manager) is Activity.RUNNING
    found = taken(pair)
    assert found.memory is not None
    assert (found.state, found.memory.is_saved) == (SnapshotState.OK, True)


def test_guest_that_was_paused_stays_so(pair: Pair) -> None:
    pair.runner.done(pair.runner.vms.pause(VM_ID, ActOnVm()))
    take_all(pair)
    assert kept(pair) is MemoryMark.SAVED
    assert activity(pair.runner) is Activity.PAUSED
    pair.runner.done(pair.runner.vms.resume(VM_ID, ActOnVm()))
    assert kept(pair) is MemoryMark.SAVED


def test_memory_and_disks_are_of_one_moment(pair: Pair) -> None:
    """The guest stands still, under its lease, from before until the mark is there."""
    # What the guest does, and what lies there, after each of the job's two calls.
    moments: dict[str, tuple[Activity | None, MemoryMark]] = {}
    runner = pair.runner.hypervisor

    def look() -> None:
        done = [each for each in runner.calls if each in ("suspend", "snapshot")]
        if done:
            moments[done[-1]] = (activity(pair.runner), kept(pair))

    pair.manager.done(take(pair.manager, BEGIN))
    runner.on_call = of_jobs(look)
    pair.runner.done(take(pair.runner, GUEST))
    assert moments == {
        "suspend": (Activity.PAUSED, MemoryMark.BLANK),
        "snapshot": (Activity.PAUSED, MemoryMark.SAVED),
    }


def test_vm_that_is_down_has_no_memory_to_keep(pair: Pair) -> None:
    pair.runner.stop()
    pair.manager.done(take(pair.manager, WHOLE))
    assert taken(pair).memory is None
    job = functools.partial(preview, pair.manager)
    assert refusal(job) == "snapshot_has_no_memory"


def test_memory_needs_all_disks(pair: Pair) -> None:
    request = CreateSnapshot(S1, has_memory=True, disk_ids=(ROOT,), part=BEGIN)
    asked = functools.partial(pair.manager.snapshots.create, VM_ID, request)
    assert refusal(asked) == "bad_snapshot"
    take_all(pair)
    pair.runner.stop()
    some = PreviewSnapshot(S1, has_memory=True, disk_ids=(ROOT,))
    asked = functools.partial(pair.manager.snapshots.preview, VM_ID, some)
    assert refusal(asked) == "snapshot_memory_unfit"


def test_refused_snapshot_leaves_no_memory(pair: Pair) -> None:
    before = images(pair)
    pair.manager.done(take(pair.manager, BEGIN))
    pair.runner.hypervisor.refusal = "no space left"
    assert pair.runner.done(take(pair.runner, GUEST)).result == ""
    pair.runner.hypervisor.refusal = ""
    assert pair.runs()
    job = take(pair.manager, WHOLE)
    assert pair.manager.refused(job) == "snapshot_refused"
    assert pair.manager.vm.snapshots == ()
    assert images(pair) == before
    pair.check(1)
    take_all(pair)
    assert kept(pair) is MemoryMark.SAVED


def test_guest_that_ends_before_has_a_snapshot_without_memory(pair: Pair) -> None:
    before = images(pair)
    pair.manager.done(take(pair.manager, BEGIN))
    pair.runner.stop()
    pair.manager.done(take(pair.manager, WHOLE))
    found = taken(pair)
    assert (found.state, found.memory) == (SnapshotState.OK, None)
    assert images(pair) == before
    events = [each.code for each in pair.manager.node.store.events(0).events]
    assert "snapshot_without_memory" in events


def test_memory_that_may_not_be_marked_is_not_kept(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disks have turned by then: the snapshot is good without it."""
    pair.manager.done(take(pair.manager, BEGIN))

    def refuse(*_anything: object) -> None:
        raise StaleLease("another host has it")

    monkeypatch.setattr(PoolMemories, "save", refuse)
    assert pair.runner.done(take(pair.runner, GUEST)).result == guest_parts.TURNED
    pair.manager.done(take(pair.manager, FINISH))
    assert pair.runs()
    assert taken(pair).memory is None


def begin_long_snapshot(pair: Pair) -> Job:
    """Let libvirt write a memory that takes for ever."""
    pair.manager.done(take(pair.manager, BEGIN))
    pair.runner.hypervisor.saves_hang = True
    job = take(pair.runner, GUEST)
    assert pair.runner.hypervisor.is_saving.wait(WAIT_S)
    return job


def is_given_up(pair: Pair) -> bool:
    pair.manager.vms.pool_vms.read_definitions()
    return not pair.manager.vm.snapshots


def test_cancelled_snapshot_is_taken_back(pair: Pair) -> None:
    before = images(pair)
    job = begin_long_snapshot(pair)
    pair.runner.node.jobs.cancel(job.job_id)
    assert pair.runner.end_of(job).state is JobState.CANCELLED
    assert pair.runs()
    wait_until(lambda: is_given_up(pair))
    assert images(pair) == before
    pair.check(1)
    assert pair.tops() == pair.leaves()


def test_forced_stop_does_not_wait_for_the_memory(pair: Pair) -> None:
    job = begin_long_snapshot(pair)
    stop = pair.runner.vms.stop(VM_ID, StopVm(manner=StopManner.FORCE))
    pair.runner.done(stop)
    assert pair.runner.end_of(job).state in (JobState.CANCELLED, JobState.DONE)
    assert pair.runner.vms.show(VM_ID).run.state is VmState.DOWN


def test_guest_that_ends_while_it_is_held_lets_its_snapshot_be_ended(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.manager.done(take(pair.manager, BEGIN))
    hypervisor = pair.runner.hypervisor

    def crash(*_anything: object) -> None:
        hypervisor.end(VM_ID, "crashed")
        raise DomainMissing("it is gone")

    monkeypatch.setattr(hypervisor, "snapshot", crash)
    assert pair.runner.done(take(pair.runner, GUEST)).result == ""
    pair.manager.done(take(pair.manager, WHOLE))
    found = taken(pair)
    assert (found.state, found.memory) == (SnapshotState.OK, None)


def strike_once_held(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, strike: Callable[[], object]
) -> None:
    """Strike between a guest's pause and the look at its lease, once."""
    keep, strikes = Pauser.keep, iter([strike])

    def keep_later(pauser: Pauser, vm_id: VmId) -> int | None:
        for each in strikes:
            each()
        return keep(pauser, vm_id)

    monkeypatch.setattr(Pauser, "keep", keep_later)


def end_guest(pair: Pair) -> None:
    pair.runner.hypervisor.end(VM_ID, "destroyed")
    wait_until(lambda: pair.runner.vms.show(VM_ID).run.state is VmState.DOWN)


def test_guest_that_ends_before_it_is_held_lets_its_snapshot_be_ended(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.manager.done(take(pair.manager, BEGIN))
    strike_once_held(pair, monkeypatch, lambda: end_guest(pair))
    assert pair.runner.done(take(pair.runner, GUEST)).result == ""
    pair.manager.done(take(pair.manager, WHOLE))
    assert taken(pair).state is SnapshotState.OK


def test_guest_that_ends_while_its_snapshot_is_given_up_fails_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begin_long_snapshot(pair)
    strike_once_held(pair, monkeypatch, lambda: end_guest(pair))
    pair.runner.node.jobs.cancel(job.job_id)
    assert pair.runner.end_of(job).state in (JobState.CANCELLED, JobState.DONE)
    pair.manager.done(take(pair.manager, WHOLE))
    assert taken(pair).state is SnapshotState.OK


def test_guest_that_is_being_stopped_is_held_nevertheless(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stop has been asked for, and QEMU is still there."""
    pair.manager.done(take(pair.manager, BEGIN))
    register, asked = pair.runner.vms._register, Sight(Seen.STOP_ASKED)
    strike_once_held(pair, monkeypatch, lambda: register.apply(VM_ID, asked))
    assert pair.runner.done(take(pair.runner, GUEST)).result == guest_parts.TURNED
    assert kept(pair) is MemoryMark.SAVED


def test_guest_that_ended_as_it_was_held_leaves_its_lease(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.manager.done(take(pair.manager, BEGIN))
    hypervisor = pair.runner.hypervisor
    suspend = hypervisor.suspend

    def suspend_the_last(vm_id: VmId) -> None:
        suspend(vm_id)
        hypervisor.end(vm_id, "destroyed")
        wait_until(lambda: pair.runner.vms.show(vm_id).run.state is VmState.DOWN)

    monkeypatch.setattr(hypervisor, "suspend", suspend_the_last)
    assert pair.runner.done(take(pair.runner, GUEST)).result == ""
    pair.manager.done(take(pair.manager, WHOLE))
    found = taken(pair)
    assert (found.state, found.memory) == (SnapshotState.OK, None)


def test_undo_discards_the_copy(pair: Pair) -> None:
    take_all(pair)
    pair.runner.stop()
    before = images(pair)
    pair.manager.done(preview(pair.manager))
    assert images(pair) == before + 1
    undo(pair.manager)
    wait_until(lambda: is_removed(pair))
    assert images(pair) == before
    pair.manager.start()
    assert restored(pair.manager) == 0


def test_commit_keeps_the_copy_and_drops_what_came_after(pair: Pair) -> None:
    take_all(pair, S1)
    take_all(pair, S2)
    pair.runner.stop()
    before = images(pair)
    pair.manager.done(preview(pair.manager, S1))
    commit(pair.manager)
    assert [each.snapshot_id for each in pair.manager.vm.snapshots] == [S1]
    assert images(pair) == before  # one memory has gone, one has come
    pair.runner.start()
    assert restored(pair.runner) == 1
    assert kept(pair) is MemoryMark.SAVED


def test_deleted_vm_takes_the_memories_of_its_snapshots_with_it(pair: Pair) -> None:
    take_all(pair)
    pair.runner.stop()
    folder = pair.leaves()[0].parent.parent
    pair.manager.done(pair.manager.vms.delete(VM_ID, DeleteVm()))
    wait_until(lambda: not list(folder.iterdir()))


def test_memory_of_a_snapshot_is_no_disk_of_peoples(pair: Pair) -> None:
    take_all(pair)
    pair.runner.stop()
    memory = taken(pair).memory
    assert memory is not None
    storage = pair.manager.node.storage
    delete = functools.partial(storage.disk_delete, memory.disk_id, ActOnDisk())
    assert refusal(delete) == "disk_keeps_memory"
    disk = Disk(memory.disk_id, "memory", 0, storage_domain_id=ALPHA)
    with pytest.raises(Error) as caught:
        check_unnamed(disk, pair.manager.vm, [pair.manager.vm])
    assert caught.value.code == "disk_keeps_memory"


def test_previewed_vm_is_a_suspended_one(pair: Pair) -> None:
    take_all(pair)
    pair.runner.stop()
    pair.manager.done(preview(pair.manager))
    assert pair.manager.vm.memory is not None
    assert pair.manager.vm.memory.is_saved
    storage = pair.manager.node.storage
    delete = functools.partial(storage.disk_delete, ROOT, ActOnDisk())
    assert refusal(delete) == "vm_suspended"
    pair.manager.done(
        pair.manager.vms.start(VM_ID, StartVm(vm=pair.manager.vm, discard_memory=True))
    )
    assert (restored(pair.manager), mark(pair)) == (0, MemoryMark.USED)


def test_suspended_vm_is_not_previewed(pair: Pair) -> None:
    take_all(pair)
    suspend_all(pair)
    assert pair.manager.refused(preview(pair.manager)) == "vm_suspended"
    assert pair.manager.node.volumes.is_given_back(pair.manager.vm)
    assert pair.manager.vm.preview is None


def test_node_keeps_memories_on_its_local_pool(tmp_path: Path) -> None:
    """Nobody else reaches it: there are no leases."""
    with memory.fast_folder(tmp_path) as folder:
        scene = Scene(folder)
        scene.hypervisor.saved = Saved()
        scene.start()
        request = CreateSnapshot(S1, "now", has_memory=True)
        scene.done(scene.snapshots.create(VM_ID, request))
        assert scene.hypervisor.observe(VM_ID).activity is Activity.RUNNING
        scene.stop()
        scene.done(scene.snapshots.preview(VM_ID, PreviewSnapshot(S1, has_memory=True)))
        scene.start()
        assert scene.hypervisor.calls.count("restore") == 1
        scene.stop()
        scene.undo()
        scene.delete(S1)
        scene.vms.pool_vms.read_definitions()
        wait_until(lambda: scene.vm.memory is None)
        scene.check(1)
        scene.close()


def _create(side: Side, part: SnapshotPart, job_id: JobId) -> Job:
    request = CreateSnapshot(S1, "now", has_memory=True, part=part, job_id=job_id)
    return side.snapshots.create(VM_ID, request)


def _preview(side: Side, job_id: JobId) -> Job:
    request = PreviewSnapshot(S1, has_memory=True, job_id=job_id)
    return side.snapshots.preview(VM_ID, request)


def _act(side: Side, verb: str, job_id: JobId) -> Job:
    act: Callable[[VmId, ActOnSnapshot], Job] = getattr(side.snapshots, verb)
    return act(VM_ID, ActOnSnapshot(job_id=job_id))


def _start(side: Side, job_id: JobId) -> Job:
    return side.vms.start(VM_ID, StartVm(job_id=job_id, vm=side.vm))


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"  # a thread that is killed
)
def test_snapshot_comes_and_goes_with_its_memory_wherever_an_agent_dies(
    pair: Pair, record_property: Callable[[str, object], None]
) -> None:
    """It has its memory, or says that it has none; nothing else is left behind."""
    manager, runner = pair.manager, pair.runner
    before, points, with_memory = images(pair), 0, 0
    pair.write(1)
    for calls in itertools.count(1, _STRIDE):
        died = []
        for side, part in ((manager, BEGIN), (runner, GUEST), (manager, FINISH)):
            ask = functools.partial(_create, side, part)
            died.append(killed_at(pair, side, calls, ask))
        found = taken(pair)
        assert found.state is SnapshotState.OK, calls
        is_saved = found.memory is not None
        assert (kept(pair) is MemoryMark.SAVED) is is_saved, calls
        assert images(pair) == before + is_saved, calls
        assert pair.runs(), calls
        assert pair.tops() == pair.leaves(), calls
        with_memory += is_saved
        for side, part in ((manager, BEGIN), (runner, GUEST), (manager, FINISH)):
            ask = functools.partial(side.delete, part)
            died.append(killed_at(pair, side, calls, ask))
        assert images(pair) == before, calls
        pair.check(1)
        pair.has(1)
        points += sum(died)
        if not any(died):
            break
    record_property("points", points)
    assert points > with_memory > 1
    assert is_saved, "nobody died"


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"  # a thread that is killed
)
def test_preview_goes_on_once_wherever_an_agent_dies(
    pair: Pair, record_property: Callable[[str, object], None]
) -> None:
    manager = pair.manager
    started: list[str] = []
    manager.hypervisor.on_create = started.append
    pair.write(1)
    take_all(pair)
    pair.write(2)
    pair.runner.stop()
    before, points = images(pair), 0
    for calls in itertools.count(1, _STRIDE):
        died = [killed_at(pair, manager, calls, functools.partial(_preview, manager))]
        assert mark(pair) is MemoryMark.SAVED, calls
        pair.has(1)
        started.clear()
        restores = restored(manager)
        died.append(killed_at(pair, manager, calls, functools.partial(_start, manager)))
        assert (len(started), restored(manager) > restores) == (1, True), calls
        assert activity(manager) is Activity.RUNNING, calls
        manager.stop()
        ask = functools.partial(_act, manager, "undo")
        died.append(killed_at(pair, manager, calls, ask))
        wait_until(lambda: is_removed(pair))
        assert images(pair) == before, calls
        assert kept(pair) is MemoryMark.SAVED, calls
        pair.has(1, 2)
        points += sum(died)
        if not any(died):
            break
    record_property("points", points)
    assert points > 1
