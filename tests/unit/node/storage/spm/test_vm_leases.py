"""VMs' leases in `xleases`: each prefix of a change is harmless."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.errors import Error
from node.storage.domains.access import Access
from node.storage.formats import xlease_index
from node.storage.formats.layout import Special
from node.storage.process.protocol import ResourceAt
from node.storage.spm import vm_leases
from node.storage.spm.term import Term
from node.units import MiB
from tests.contract.disks import code_of
from tests.fakes.leasing_guard import LeasingGuard, Stopped
from tests.fakes.pool_nodes import PoolNode, PoolWorld
from tests.unit.node.storage.examples import POOL, SD

VM = "aaaaaaaa-0000-4000-8000-000000000001"
OTHER = "aaaaaaaa-0000-4000-8000-000000000002"
NOW_S = 1_700_000_000


@dataclass(slots=True)
class Scene:
    node: PoolNode
    guard: LeasingGuard
    access: Access

    @property
    def term(self) -> Term:
        return self.node.pool.spm.term()

    def add(self, vm_id: str) -> ResourceAt:
        return vm_leases.add(self.guard, self.access, self.term, vm_id)

    def find(self, vm_id: str) -> ResourceAt:
        return vm_leases.find(self.guard, self.access, vm_id)

    def remove(self, vm_id: str) -> None:
        vm_leases.remove(self.guard, self.access, self.term, vm_id)

    def rebuild(self, *wanted: str) -> None:
        place = (self.guard, self.access, self.term, NOW_S)
        vm_leases.rebuild(*place, lambda name: name in wanted)

    def spoil(self) -> None:
        with self.path.open("r+b") as file:
            file.seek(xlease_index.index_offset(MiB))
            file.write(b"nonsense")

    @property
    def path(self) -> Path:
        return Path(self.access.layout.special(Special.XLEASES))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    world = PoolWorld(tmp_path, POOL)
    guard = LeasingGuard(storage=world.storage, machine="node-1")
    node = world.node("node-1", guard=guard)
    access = world.make(node, SD)
    node.pool.create(access)
    return Scene(node, guard, access)


def test_two_vms_that_come_at_once_get_a_lease_each(scene: Scene) -> None:
    """The index is read, then written: in between the other one would read it."""
    other = threading.Thread(target=scene.add, args=(OTHER,))

    def begin() -> None:
        scene.guard.on_write_resource = lambda: None
        other.start()
        other.join(0.2)  # as long as it is kept from it; no longer if it is not

    scene.guard.on_write_resource = begin
    scene.add(VM)
    other.join(10)
    assert scene.find(VM).offset != scene.find(OTHER).offset


def test_add_makes_a_lease_that_is_found(scene: Scene) -> None:
    made = scene.add(VM)
    assert (made.name, made.lockspace, made.offset) == (VM, SD, 3 * MiB)
    assert scene.find(VM) == made
    record = vm_leases.read(scene.guard, scene.access, made)
    assert (record.resource, record.version, record.is_free) == (VM, 0, True)


def test_add_again_is_the_same_and_leaves_the_holder(scene: Scene) -> None:
    made = scene.add(VM)
    scene.guard.acquire(made)
    assert scene.add(VM) == made
    assert not vm_leases.read(scene.guard, scene.access, made).is_free


def test_add_gives_each_a_place_of_its_own(scene: Scene) -> None:
    assert scene.add(VM).offset != scene.add(OTHER).offset


def test_find_says_that_there_is_none(scene: Scene) -> None:
    with pytest.raises(vm_leases.VmLeaseMissing):
        scene.find(VM)


def test_remove_takes_it_away_and_its_place_is_free(scene: Scene) -> None:
    place = scene.add(VM)
    scene.remove(VM)
    scene.remove(VM)
    assert code_of(lambda: scene.find(VM)) == "vm_lease_missing"
    assert code_of(lambda: vm_leases.read(scene.guard, scene.access, place)) == (
        "lease_damaged"
    )
    assert scene.add(OTHER).offset == place.offset


@pytest.mark.parametrize("change", [vm_leases.add, vm_leases.remove])
def test_changes_are_the_managers(scene: Scene, change: Callable[..., object]) -> None:
    scene.add(VM)
    term = scene.term
    scene.node.pool.spm.leave()
    with pytest.raises(Error) as caught:
        change(
            scene.guard, scene.access, term, OTHER if change is vm_leases.add else VM
        )
    assert caught.value.code == "stale_lease"


def test_add_formats_nothing_once_the_manager_is_another(scene: Scene) -> None:
    place = scene.add(VM)
    scene.remove(VM)
    term = scene.term
    scene.guard.on_write_resource = lambda: scene.guard.release(scene.access.spm_lease)
    with pytest.raises(Error) as caught:
        vm_leases.add(scene.guard, scene.access, term, OTHER)
    assert caught.value.code == "stale_lease"
    code = code_of(lambda: vm_leases.read(scene.guard, scene.access, place))
    assert code == "lease_damaged"


@pytest.mark.parametrize("stop_at", range(2))
def test_add_may_stop_anywhere(scene: Scene, stop_at: int) -> None:
    """Stop before the lease is written, or before the index names it."""
    _stop_before(scene, "write_resource" if stop_at == 0 else "write_at")
    with pytest.raises(Stopped):
        scene.add(VM)
    _go_on(scene)
    assert code_of(lambda: scene.find(VM)) == "vm_lease_missing"
    assert scene.add(VM).offset == 3 * MiB


def test_rebuild_finds_what_lies_there(scene: Scene) -> None:
    kept, held = scene.add(VM), scene.add(OTHER)
    scene.guard.acquire(held)
    scene.spoil()
    assert code_of(lambda: scene.find(VM)) == "lease_index_damaged"
    scene.rebuild(VM, OTHER)
    assert (scene.find(VM), scene.find(OTHER)) == (kept, held)
    assert not vm_leases.read(scene.guard, scene.access, held).is_free


def test_rebuild_leaves_out_what_no_vm_has(scene: Scene) -> None:
    scene.add(VM)
    scene.add(OTHER)
    scene.spoil()
    scene.rebuild(OTHER)
    assert code_of(lambda: scene.find(VM)) == "vm_lease_missing"
    assert scene.find(OTHER).offset == 4 * MiB


def test_rebuild_believes_the_held_one_of_two(scene: Scene) -> None:
    old = scene.add(VM)
    second = scene.add(OTHER)
    twin = ResourceAt(SD, VM, second.path, second.offset)
    scene.guard.write_resource(twin)
    scene.guard.acquire(twin)
    scene.spoil()
    scene.rebuild(VM)
    assert scene.find(VM).offset == second.offset != old.offset


def test_rebuild_that_stopped_leaves_an_index_that_nobody_uses(scene: Scene) -> None:
    scene.add(VM)
    _stop_before(scene, "write_at", passes=1)
    with pytest.raises(Stopped):
        scene.rebuild(VM)
    _go_on(scene)
    assert code_of(lambda: scene.find(VM)) == "lease_index_damaged"
    scene.rebuild(VM)
    assert scene.find(VM).name == VM


def _stop_before(scene: Scene, what: str, passes: int = 0) -> None:
    scene.guard.stop_before, scene.guard.passes = what, passes


def _go_on(scene: Scene) -> None:
    scene.guard.stop_before = ""
