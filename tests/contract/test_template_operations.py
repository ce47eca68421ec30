"""What is left of a template, or of a full clone, wherever its manager stops.

With the real qemu-img, at every point of each operation: see `disks`. Definition and
disks are always either all there or not at all, and the original is as it was.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from node.contract import templates
from node.contract.definitions import Placing
from node.errors import Error
from node.model.host import Image
from node.model.ids import StorageDomainId, TemplateId, VmId
from node.model.templates import CreateTemplate
from node.model.vm import Vm
from node.policy import made_of
from node.storage.disks import startable, whole_tasks
from node.storage.disks.tasks import Eyes, Named
from node.storage.disks.verbs import first_volume
from node.storage.disks.whole_tasks import Copied, Ending, Making
from node.storage.formats.volume_meta import Format
from node.storage.images import ImageUnknown
from node.storage.operations.copy import CopyOf
from node.storage.operations.facts import Disk, Place
from node.storage.operations.plan import Plan
from node.units import GiB
from tests.contract import disks, stages
from tests.contract.disks import House, Manager, State, qemu_io
from tests.contract.test_snapshot_operations import (
    DATA,
    PLACES,
    ROOT,
    VM_ID,
    stopped,
    volume,
)
from tests.unit.node.storage.examples import OTHER_SD, SD

pytestmark = disks.NEED_QEMU_UTILS

T1 = TemplateId("7e400000-0000-4000-8000-000000000001")
CLONE = VmId("aaaa0000-0000-4000-8000-000000000002")
AT = "2026-11-22T09:00:00.000Z"


@dataclass(frozen=True, slots=True)
class HouseEyes:
    """What lies in the house, with enough space."""

    house: House

    def look(self, storage_domain_id: str, image_id: str) -> Place:
        return self.house.look(image_id, storage_domain_id)

    def places(self, image_id: str) -> tuple[str, ...]:
        return ()

    def named_by(self, disk_id: str, storage_domain_id: str) -> tuple[Named, ...]:
        return ()

    def users(self, storage_domain_id: str, image_id: str) -> tuple[str, ...]:
        return ()

    def templates(self, place: Place) -> Mapping[str, Disk]:
        return {}

    def allocated_bytes(self, storage_domain_id: str, image_id: str) -> int:
        return GiB

    def free_bytes(self, storage_domain_id: str) -> int:
        return 16 * GiB

    def base_image(self, name: str) -> Image:
        raise ImageUnknown(name)


_typed: type[Eyes] = HouseEyes


def copied(source_id: str, disk_id: str, place: str, *, is_template: bool) -> Copied:
    copy = CopyOf(disk_id, first_volume(disk_id), 1, is_template=is_template)
    state_id = None if is_template else first_volume(source_id)
    return Copied(source_id, place, place, copy, state_id)


def template(house: House) -> Plan:
    """Plan a template of the VM: its disks lie on two storage domains."""
    vm = house.definition(VM_ID)
    request = CreateTemplate(T1, "debian", VM_ID)
    made = replace(templates.define(request, vm, (), AT), home=StorageDomainId(SD))
    copies = tuple(
        copied(each, templates.copy_id(T1, each), place, is_template=True)
        for each, place in PLACES.items()
    )
    placing = Placing(made.spec.vm_id, StorageDomainId(SD), 0, made)
    return whole_tasks.make(Making(placing, copies), HouseEyes(house))


def clone(house: House) -> Plan:
    """Plan a VM that is a full copy of the template."""
    known = templates.of(house.definition(T1))
    spec = made_of.spec(known, CLONE, "clone", macs=(), is_clone=True)
    copies = tuple(
        copied(
            str(each.from_disk_id),
            each.disk_id,
            str(each.storage_domain_id),
            is_template=False,
        )
        for each in spec.disks
    )
    vm = Vm(spec, 1, AT, home=StorageDomainId(SD))
    placing = Placing(CLONE, StorageDomainId(SD), 0, vm)
    return whole_tasks.make(Making(placing, copies), HouseEyes(house))


def end(house: House) -> Plan:
    """Plan the end of the template."""
    vm = house.definition(T1)
    gone = tuple((str(e.storage_domain_id), str(e.disk_id)) for e in vm.spec.disks)
    placing = Placing(VmId(T1), StorageDomainId(SD), vm.generation)
    return whole_tasks.end(Ending(placing, gone), HouseEyes(house))


def with_template(house: House) -> None:
    stopped(house)
    house.run(template(house))


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    prepare: Callable[[House], None]
    plan: Callable[[House], Plan]


CASES = (
    Case("template", stopped, template),
    Case("clone", with_template, clone),
    Case("end", with_template, end),
)


@dataclass(frozen=True, slots=True)
class End:
    """All that is on the storage."""

    definitions: Mapping[str, Vm]
    state: State

    def is_same(self, other: "End") -> bool:
        mine, others = (
            {key: each[:2] for key, each in end.state.items()} for end in (self, other)
        )
        return self.definitions == other.definitions and mine == others


def end_of(house: House) -> End:
    known = {
        str(each): house.definition(each)
        for each in (VM_ID, T1, CLONE)
        if house.definition_path(each).exists()
    }
    return End(known, house.state())


@dataclass(frozen=True, slots=True)
class Stage(stages.Stage):
    before: End
    after: End

    def check(self, house: House, where: str) -> bool:
        """Check that all is as before, or as after; tell whether it is that."""
        assert house.leftovers() == [], where
        assert house.problems({}) == [], where
        found = end_of(house)
        is_after = found.is_same(self.after)
        assert is_after or found.is_same(self.before), f"{where}: {found}"
        return is_after


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def stage(request: pytest.FixtureRequest, folder: Path) -> Stage:
    case: Case = request.param
    house = House(folder / "house")
    case.prepare(house)
    made, before = case.plan(house), end_of(house)
    done = house.copy(folder / "done")
    manager = Manager.of(done)
    manager.execute(made)
    after = end_of(done)
    assert not before.is_same(after)
    found = Stage(house, made, folder, manager.guard.moments, before, after)
    assert found.check(done, "undisturbed")
    return found


def test_all_or_nothing_is_there_wherever_the_manager_stops(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    stages.check_all(stage, stage.check)
    record_property("points", stage.moments)


def test_all_is_undone_wherever_the_storage_is_full(stage: Stage) -> None:
    manager = Manager.of(stage.house.copy(stage.folder / "count"))
    manager.execute(stage.plan)
    for number in range(manager.guard.actions):
        house, full = stage.start()
        full.guard.refuse_at = number
        where = (
            f"action {number}, {disks.code_of(lambda m=full: m.execute(stage.plan))}"  # type: ignore[misc]  # a lambda's default binds the loop's value
        )
        later = full.again(house)
        assert [each.error for each in later.recover() if each.error] == [], where
        stage.check(house, where)


def test_what_starts_at_any_point_is_whole(stage: Stage) -> None:
    """A VM that may be started has all its disks, and nobody touches them then."""
    for point in range(stage.moments):
        house, manager, where = stage.stop(point)
        before = {path: disks.identity(path) for path in startable_files(house)}
        later = manager.next(house)
        later.recover()
        assert {each: disks.identity(each) for each in before} == before, where


def test_vm_cannot_start_while_it_is_copied(folder: Path) -> None:
    """It would go on writing to what is copied."""
    house = House(folder / "house")
    stopped(house)
    made, copied_at = template(house), 0
    manager = Manager.of(house.copy(folder / "done"))
    manager.execute(made)
    stage = stages.Stage(house, made, folder, manager.guard.moments)
    for point in range(stage.moments):
        now, _, where = stage.stop(point)
        if "convert" in where:
            copied_at += 1
            assert startable_files(now) == [], where
    assert copied_at >= len(PLACES)


def startable_files(house: House) -> list[Path]:
    """Return what the VMs would write to that may be started as they lie there."""
    found = []
    for vm_id in (VM_ID, CLONE):
        if not house.definition_path(vm_id).exists():
            continue
        paths = []
        try:
            for disk in house.definition(vm_id).spec.disks:
                place = str(disk.storage_domain_id)
                leaf_id = str(disk.volume_id or first_volume(disk.disk_id))
                startable.startable(house.look(disk.disk_id, place).require(), leaf_id)
                paths.append(house.volume(disk.disk_id, leaf_id, place))
        except Error:
            continue
        found += paths
    return found


def test_template_made_meanwhile_under_its_id_undoes_it(folder: Path) -> None:
    house = House(folder / "house")
    stopped(house)
    made, before = template(house), house.state()
    path = house.definition_path(T1)
    path.parent.mkdir(parents=True)
    path.write_bytes(house.definition_path(VM_ID).read_bytes())
    manager = Manager.of(house)
    code = disks.code_of(lambda: manager.execute(made))
    assert code == "vm_definition_changed"
    assert house.leftovers() == []
    assert house.state().keys() == before.keys()


def test_copies_hold_what_the_vm_read(folder: Path) -> None:
    house = House(folder / "house")
    with_template(house)
    for number, (disk_id, place) in enumerate(PLACES.items(), 1):
        copy_id = templates.copy_id(T1, disk_id)
        kind = Format.RAW if disk_id == DATA else Format.COW
        path = house.volume(copy_id, first_volume(copy_id), place)
        qemu_io(path, kind, f"read -P {number} 0 1M")


def test_the_vm_s_own_volumes_stay(folder: Path) -> None:
    house = House(folder / "house")
    stopped(house)
    paths = [house.volume(e, volume(e, 1), PLACES[e]) for e in (ROOT, DATA)]
    before = [disks.identity(each) for each in paths]
    house.run(template(house))
    assert [disks.identity(each) for each in paths] == before
    assert PLACES[DATA] == OTHER_SD, "the disks lie on two storage domains"
