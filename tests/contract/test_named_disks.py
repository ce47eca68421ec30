"""What is left of a VM's disk that is moved or deleted, wherever that stops.

With the real qemu-img, at every point: see `disks`. The VM's definition names the disk
where it is whole, or it names none; until that is decided no guest starts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from node import wire
from node.errors import Error
from node.model.host import Image
from node.model.ids import DiskId, SnapshotId, StorageDomainId, VmId, VolumeId
from node.model.storage import SnapshotKind, SnapshotState
from node.model.vm import Disk, Snapshot, SnapshotDisk, Vm, VmSpec
from node.storage.disks import chain, startable
from node.storage.disks import tasks as disk_tasks
from node.storage.disks.tasks import Delete, Eyes, Move, Named, Task
from node.storage.formats.volume_meta import Format
from node.storage.images import ImageUnknown
from node.storage.operations import add_volume, facts
from node.storage.operations.facts import Disk as SeenDisk
from node.storage.operations.facts import Place
from node.units import GiB
from tests.contract import disks, stages
from tests.contract.disks import House, Manager, new, qemu_io
from tests.unit.node.storage.examples import OTHER_SD, SD

VM_ID = VmId("aaaaaaaa-0000-4000-8000-000000000001")
DISK_ID = DiskId("d15c0000-0000-4000-8000-000000000001")
S1 = SnapshotId("5a450000-0000-4000-8000-000000000001")
BASE, LEAF = (VolumeId(f"70100000-0000-4000-8000-00000000000{n}") for n in (1, 2))
AT = "2026-11-22T08:00:00.000Z"
TASKS: Mapping[str, Task] = {
    "move": Move(DISK_ID, SD, OTHER_SD),
    "delete": Delete(DISK_ID, SD),
}

pytestmark = disks.NEED_QEMU_UTILS


@dataclass(frozen=True, slots=True)
class HouseEyes:
    house: House

    def look(self, storage_domain_id: str, image_id: str) -> Place:
        return self.house.look(image_id, storage_domain_id, [LEAF])

    def places(self, image_id: str) -> tuple[str, ...]:
        return ()

    def named_by(self, disk_id: str, storage_domain_id: str) -> tuple[Named, ...]:
        return (Named(self.house.definition(VM_ID), SD),)

    def users(self, storage_domain_id: str, image_id: str) -> tuple[str, ...]:
        return ()

    def templates(self, place: Place) -> Mapping[str, SeenDisk]:
        return {}

    def allocated_bytes(self, storage_domain_id: str, image_id: str) -> int:
        return 0

    def free_bytes(self, storage_domain_id: str) -> int:
        return GiB

    def base_image(self, name: str) -> Image:
        raise ImageUnknown(name)


_typed: type[Eyes] = HouseEyes


def prepare(house: House) -> None:
    """Make a VM with a disk that has a snapshot and data."""
    house.make()
    disks.make_disk(house, DISK_ID, BASE, "write -P 1 0 1M")
    house.run(add_volume.make(house.look(DISK_ID), new(DISK_ID, LEAF), BASE))
    qemu_io(house.volume(DISK_ID, LEAF), Format.COW, "write -P 2 512k 1M")
    where = StorageDomainId(SD)
    disk = Disk(DISK_ID, "root", disks.SIZE, storage_domain_id=where, volume_id=LEAF)
    spec = VmSpec(VM_ID, "web", GiB, disks=(disk,))
    then = replace(spec, disks=(replace(disk, volume_id=BASE),))
    kept, kind = (SnapshotDisk(DISK_ID, BASE),), SnapshotKind.REGULAR
    state = SnapshotState.OK
    taken = Snapshot(S1, VM_ID, kind, state, AT, disks=kept, spec=then)
    slots = ((f"disk-{DISK_ID}", 5), ("nic-1", 6))
    vm = Vm(spec, 4, AT, addresses=slots, snapshots=(taken,), snapshot_id=S1)
    path = house.definition_path(VM_ID)
    path.parent.mkdir(parents=True)
    path.write_bytes(wire.encode(vm))


def content(house: House) -> str:
    """Return what a guest finds where the definition says; empty: it may not start.

    "none": the definition has no disk.
    """
    vm = house.definition(VM_ID)
    if not vm.spec.disks:
        return "none"
    (disk,) = vm.spec.disks
    try:
        where = str(disk.storage_domain_id)
        seen = house.look(DISK_ID, where, [LEAF]).require()
        startable.startable(seen, LEAF)
    except Error:
        return ""
    path = house.volume(DISK_ID, LEAF, where)
    meta = facts.meta_of(seen, LEAF)
    return disks.digest(path, chain.walk(seen.image, LEAF), meta)


@dataclass(frozen=True, slots=True)
class Stage(stages.Stage):
    task: Task
    was: str  # what the guest found
    actions: int

    def check(self, house: House, where: str) -> bool:
        """Check that the disk is where the definition has it, or nowhere."""
        assert house.leftovers() == [], where
        vm, before = house.definition(VM_ID), self.house.definition(VM_ID)
        images = {site: house.domain(site).images() for site in (SD, OTHER_SD)}
        if vm == before:
            assert (content(house), images) == (
                self.was,
                {SD: (DISK_ID,), OTHER_SD: ()},
            )
            assert house.problems({DISK_ID: [LEAF]}) == [], where
            return False
        assert vm.generation == before.generation + 1, where
        (taken,) = vm.snapshots
        assert taken.spec is not None
        if isinstance(self.task, Move):
            assert (content(house), images) == (
                self.was,
                {SD: (), OTHER_SD: (DISK_ID,)},
            )
            assert house.problems({DISK_ID: [LEAF]}) == [], where
            (old,) = taken.spec.disks
            assert old.storage_domain_id == OTHER_SD
        else:
            assert (content(house), images) == ("none", {SD: (), OTHER_SD: ()}), where
            assert (taken.disks, taken.spec.disks) == ((), ())
            assert vm.addresses == (("nic-1", 6),)
        return True


@pytest.fixture(params=list(TASKS.values()), ids=list(TASKS))
def stage(request: pytest.FixtureRequest, folder: Path) -> Stage:
    house = House(folder / "house")
    prepare(house)
    made = disk_tasks.plan(request.param, HouseEyes(house))
    done = house.copy(folder / "done")
    manager = Manager.of(done)
    manager.execute(made)
    moments, actions = manager.guard.moments, manager.guard.actions
    was = content(house)
    found = Stage(house, made, folder, moments, request.param, was, actions)
    assert found.check(done, "undisturbed")
    return found


def test_disk_is_where_its_vm_finds_it_wherever_the_manager_stops(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    ends = []
    for point in range(stage.moments):
        house, manager, where = stage.stop(point)
        # A guest that is started then finds all of its data, and keeps its files.
        seen = content(house)
        assert seen in ("", "none", stage.was), where
        later = manager.next(house)
        assert [each.error for each in later.recover() if each.error] == [], where
        ends.append(stage.check(house, where))
        if seen:
            assert content(house) == seen, where
    record_property("points", stage.moments)
    assert ends[-1], "the last point is after the end"
    assert ends == sorted(ends), "it goes on once it has been decided"


@pytest.mark.parametrize("stays_full", [False, True], ids=["once", "stays"])
def test_disk_is_where_its_vm_finds_it_without_space(
    stage: Stage, stays_full: bool
) -> None:
    for action in range(stage.actions):
        house, manager = stage.start()
        manager.guard.refuse_at, manager.guard.stays_full = action, stays_full
        where = f"action {action}"
        try:
            manager.execute(stage.plan)
        except Error:
            assert content(house) in ("", "none", stage.was), where
        later = manager.next(house)
        assert [each.error for each in later.recover() if each.error] == [], where
        stage.check(house, where)
