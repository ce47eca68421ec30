"""What is left of a VM's snapshots, on two disks, wherever their manager stops.

With the real qemu-img, at every point of each change: see `disks`. The definition and
the volumes are always either as before or as after, all of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from node import wire
from node.contract import snapshots
from node.contract.snapshots import Act, Change, Leaf
from node.errors import Error
from node.model.ids import DiskId, SnapshotId, StorageDomainId, VmId, VolumeId
from node.model.storage import SnapshotKind, SnapshotState
from node.model.vm import Disk, Snapshot, SnapshotDisk, Vm, VmSpec
from node.storage.disks import chain, startable, vm_tasks
from node.storage.disks.vm_tasks import Part, Reshape
from node.storage.formats.volume_meta import Format
from node.storage.operations import create, facts
from node.storage.operations.plan import Plan
from node.units import GiB
from tests.contract import disks, stages
from tests.contract.disks import House, Manager, State, new, qemu_io
from tests.unit.node.storage.examples import OTHER_SD, SD

VM_ID = VmId("aaaaaaaa-0000-4000-8000-000000000001")
ROOT, DATA = (DiskId(f"d15c0000-0000-4000-8000-00000000000{n}") for n in (1, 2))
PLACES = {ROOT: SD, DATA: OTHER_SD}
S1, S2 = (SnapshotId(f"5a450000-0000-4000-8000-00000000000{n}") for n in (1, 2))

pytestmark = disks.NEED_QEMU_UTILS

Contents = Mapping[DiskId, str]


def volume(disk_id: DiskId, number: int) -> VolumeId:
    """Return the id of a disk's volume: 1 is its first."""
    return VolumeId(f"70100000-000{number}-4000-8000-{disk_id[-12:]}")


def spec(number: int) -> VmSpec:
    """Return the VM with the leaves of that number."""
    made = (
        Disk(each, "d", GiB, None, storage_domain_id=StorageDomainId(place))
        for each, place in PLACES.items()
    )
    on = tuple(replace(e, volume_id=volume(e.disk_id, number)) for e in made)
    return VmSpec(VM_ID, "web", GiB, disks=on)


def stopped(house: House) -> None:
    """Make a VM with two disks that have data."""
    house.make()
    for number, (disk_id, place) in enumerate(PLACES.items(), 1):
        volume_format = Format.RAW if disk_id == DATA else Format.COW
        first = volume(disk_id, 1)
        request = new(disk_id, first, volume_format=volume_format)
        house.run(create.make(house.look(disk_id, place), request))
        path = house.volume(disk_id, first, place)
        qemu_io(path, volume_format, f"write -P {number} 0 1M")
    path = house.definition_path(VM_ID)
    path.parent.mkdir(parents=True)
    path.write_bytes(wire.encode(Vm(spec(1), 1, "2026-11-22T08:00:00.000Z")))


def one_snapshot(house: House) -> None:
    stopped(house)
    house.run(plan(house, take(house, S1, 2)))
    write(house, 2, 3)


def two_snapshots(house: House) -> None:
    one_snapshot(house)
    house.run(plan(house, take(house, S2, 3)))
    write(house, 3, 4)


def previewing(house: House) -> None:
    two_snapshots(house)
    house.run(plan(house, preview(house)))
    write(house, 4, 5)


def turned(house: House) -> None:
    """Take a live merge of the leaf of one disk past its pivot."""
    two_snapshots(house)
    top = volume(ROOT, 3)
    disks.run("qemu-img", "commit", "-q", "-d", str(house.volume(ROOT, top)))


def taken_out(house: House) -> None:
    """Let QEMU take the first snapshot's child out of the chain of one disk."""
    two_snapshots(house)
    base, top, leaf = (volume(ROOT, each) for each in (1, 2, 3))
    disks.run("qemu-img", "commit", "-q", "-d", str(house.volume(ROOT, top)))
    words = ("rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", base)
    disks.run("qemu-img", *words, str(house.volume(ROOT, leaf)))


def write(house: House, number: int, pattern: int) -> None:
    """Let a guest write to the leaves of that number."""
    for disk_id, place in PLACES.items():
        path = house.volume(disk_id, volume(disk_id, number), place)
        qemu_io(path, Format.COW, f"write -P {pattern} {pattern * 64}k 128k")


def take(house: House, snapshot_id: SnapshotId, number: int) -> Change:
    vm = house.definition(VM_ID)
    taken = tuple(
        SnapshotDisk(each.disk_id, each.volume_id)
        for each in vm.spec.disks
        if each.volume_id
    )
    kind, state = SnapshotKind.REGULAR, SnapshotState.OK
    at = "2026-11-22T09:00:00.000Z"
    snapshot = Snapshot(snapshot_id, VM_ID, kind, state, at, disks=taken, spec=vm.spec)
    leaves = tuple(
        Leaf(each.disk_id, volume(each.disk_id, number), each.volume_id)
        for each in taken
    )
    return Change(Act.TAKE, VM_ID, snapshot_id, leaves, vm.generation, snapshot)


def preview(house: House) -> Change:
    vm = house.definition(VM_ID)
    leaves = tuple(
        Leaf(each.disk_id, volume(each.disk_id, 4), each.volume_id)
        for each in snapshots.get(vm, S1).disks
    )
    return Change(Act.PREVIEW, VM_ID, S1, leaves, vm.generation, spec=spec(4))


def undo(house: House) -> Change:
    vm = house.definition(VM_ID)
    return Change(Act.UNDO, VM_ID, S1, snapshots.tried(vm), vm.generation)


def commit(house: House) -> Change:
    vm = house.definition(VM_ID)
    return Change(Act.COMMIT, VM_ID, S1, snapshots.lost(vm), vm.generation)


def fold(house: House, snapshot_id: SnapshotId, disk_id: DiskId = ROOT) -> Change:
    vm = house.definition(VM_ID)
    snapshot = snapshots.get(vm, snapshot_id)
    top = snapshots.above(vm, snapshot, disk_id)
    base = next(e.volume_id for e in snapshot.disks if e.disk_id == disk_id)
    assert top is not None
    return Change(Act.FOLD, VM_ID, snapshot_id, (Leaf(disk_id, top, base),))


def look(house: House, disk_id: DiskId) -> facts.Place:
    vm = house.definition(VM_ID)
    wanted = [each for disk, each in snapshots.leaves(vm) if disk == disk_id]
    return house.look(disk_id, PLACES[disk_id], wanted)


def plan(house: House, change: Change, *, is_running: bool = False) -> Plan:
    vm = house.definition(VM_ID)
    parts = tuple(
        Part(each.disk_id, PLACES[each.disk_id], str(each.volume_id))
        for each in vm.spec.disks
        if each.disk_id in {leaf.disk_id for leaf in change.leaves}
    )
    task = Reshape(change, SD, parts, 1, is_running)
    looks = {each.disk_id: look(house, DiskId(each.disk_id)) for each in parts}
    return vm_tasks.plan(task, vm, looks)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    prepare: Callable[[House], None]
    change: Callable[[House], Change]
    is_running: bool = False


CASES = (
    Case("take", stopped, lambda house: take(house, S1, 2)),
    Case("take-second", one_snapshot, lambda house: take(house, S2, 3)),
    Case("take-running", one_snapshot, lambda house: take(house, S2, 3), True),
    Case("preview", two_snapshots, preview),
    Case("undo", previewing, undo),
    Case("commit", previewing, commit),
    Case("fold-leaf", two_snapshots, lambda house: fold(house, S2)),
    Case("fold-inner", two_snapshots, lambda house: fold(house, S1)),
    Case("fold-into-raw", two_snapshots, lambda house: fold(house, S1, DATA)),
    Case("fold-turned", turned, lambda house: fold(house, S2), True),
    Case("fold-taken-out", taken_out, lambda house: fold(house, S1)),
)


@dataclass(frozen=True, slots=True)
class End:
    """All that is on the storage of a VM."""

    vm: Vm
    state: State

    def is_same(self, other: "End") -> bool:
        kept = {key: each[:2] for key, each in self.state.items()}
        return self.vm == other.vm and kept == {
            key: each[:2] for key, each in other.state.items()
        }


def end_of(house: House) -> End:
    return End(house.definition(VM_ID), house.state())


@dataclass(frozen=True, slots=True)
class Stage(stages.Stage):
    case: Case
    before: End
    after: End
    contents: tuple[Contents, Contents]  # what the VM reads, before and after

    def check(self, house: House, where: str) -> bool:
        """Check that all is as before, or as after; tell whether it is that."""
        assert house.leftovers() == [], where
        found = end_of(house)
        is_after = found.is_same(self.after)
        assert is_after or found.is_same(self.before), f"{where}: {found}"
        vm = house.definition(VM_ID)
        wanted: dict[str, list[str]] = {}
        for disk_id, volume_id in snapshots.leaves(vm):
            wanted.setdefault(disk_id, []).append(volume_id)
        if self.case.name != "fold-taken-out" or is_after:
            assert house.problems(wanted) == [], where
        return is_after


def contents(house: House) -> Contents:
    """Return what the VM would read, in short, whether or not it may start."""
    found = {}
    for disk in house.definition(VM_ID).spec.disks:
        seen = look(house, disk.disk_id).require()
        leaf_id, place = str(disk.volume_id), PLACES[disk.disk_id]
        path = house.volume(disk.disk_id, leaf_id, place)
        meta = facts.meta_of(seen, leaf_id)
        found[disk.disk_id] = disks.digest(path, chain.walk(seen.image, leaf_id), meta)
    return found


def may_start(house: House) -> bool:
    """Tell whether a guest may be started with what the definition names."""
    try:
        for disk in house.definition(VM_ID).spec.disks:
            seen = look(house, disk.disk_id).require()
            startable.startable(seen, str(disk.volume_id))
    except Error:
        return False
    return True


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def stage(request: pytest.FixtureRequest, folder: Path) -> Stage:
    case: Case = request.param
    house = House(folder / "house")
    case.prepare(house)
    made = plan(house, case.change(house), is_running=case.is_running)
    before, was = end_of(house), contents(house)
    done = house.copy(folder / "done")
    manager = Manager.of(done)
    manager.execute(made)
    after = end_of(done)
    assert not before.is_same(after)
    reads = (was, contents(done))
    moments = manager.guard.moments
    found = Stage(house, made, folder, moments, case, before, after, reads)
    assert found.check(done, "undisturbed")
    again = plan(done, case.change(house), is_running=case.is_running)
    assert again == Plan(), "asked again, nothing is left to do"
    return found


def test_change_ends_whole_wherever_its_manager_stops(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    stages.check_all(stage, stage.check)
    record_property("points", stage.moments)


def test_vm_that_starts_at_any_point_finds_its_data(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    """What the definition names then is whole, and touched by nobody afterwards."""
    started = 0
    for point in range(stage.moments):
        house, manager, where = stage.stop(point)
        is_after = house.definition(VM_ID) == stage.after.vm
        if stage.case.is_running or may_start(house):
            assert contents(house) == stage.contents[is_after], where
        if stage.case.is_running or not may_start(house):
            continue
        files = {
            path: disks.identity(path)
            for disk_id, volume_id in snapshots.leaves(house.definition(VM_ID))
            for path in (house.volume(disk_id, volume_id, PLACES[disk_id]),)
            if (disk_id, volume_id) in current(house)
        }
        started += 1
        later = manager.next(house)
        later.recover()
        assert {path: disks.identity(path) for path in files} == files, where
    record_property("started", f"{started} of {stage.moments}")


def current(house: House) -> set[tuple[DiskId, str]]:
    """Return the leaves that the VM would write to."""
    vm = house.definition(VM_ID)
    return {(each.disk_id, str(each.volume_id)) for each in vm.spec.disks}


@pytest.mark.parametrize(
    "stage",
    [c for c in CASES if not c.name.startswith("fold")],
    ids=lambda case: case.name,
    indirect=True,
)
def test_change_of_a_vm_that_was_changed_meanwhile_is_undone(stage: Stage) -> None:
    house = stage.house.copy(stage.folder / "other")
    before = house.state()
    vm = house.definition(VM_ID)
    edited = replace(vm, generation=vm.generation + 1)
    house.definition_path(VM_ID).write_bytes(wire.encode(edited))
    manager = Manager.of(house)
    code = disks.code_of(lambda: manager.execute(stage.plan))
    assert code == "vm_definition_changed"
    assert house.leftovers() == []
    assert house.definition(VM_ID) == edited
    assert house.state().keys() == before.keys()


def test_guest_that_runs_keeps_its_leaf_untouched(folder: Path) -> None:
    house = House(folder / "house")
    one_snapshot(house)
    made = plan(house, take(house, S2, 3), is_running=True)
    leaves = [house.volume(e, volume(e, 2), place) for e, place in PLACES.items()]
    before = [disks.identity(each) for each in leaves]
    house.run(made)
    assert [disks.identity(each) for each in leaves] == before
    assert may_start(house)
