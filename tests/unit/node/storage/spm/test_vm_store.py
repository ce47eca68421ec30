"""Definitions of VMs on their storage domains: nothing is lost, nothing comes back."""

import itertools
import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from node.contract.snapshots import Act, Change
from node.model.ids import PoolId, SnapshotId, VmId
from node.model.storage import SnapshotKind, SnapshotState
from node.model.vm import Snapshot, Vm, VmSpec
from node.storage.formats import vm_file
from node.storage.formats.vm_file import VmFile
from node.storage.guard import Guard
from node.storage.process import file_operations
from node.storage.spm.vm_store import TOMBSTONE_KEPT_S, StoredVm, VmStore
from node.units import GiB
from tests.contract.disks import Crash, code_of
from tests.fakes.guard import FakeGuard
from tests.fakes.pool_nodes import PoolNode, PoolWorld
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, OTHER_SD, POOL, SD

VM = VmId(IMAGE)
OTHER_VM = VmId(OTHER_IMAGE)
AT = "2026-11-22T08:00:00.000Z"


def vm(generation: int = 1, name: str = "web", vm_id: VmId = VM) -> Vm:
    return Vm(VmSpec(vm_id, name, GiB), generation, AT)


@dataclass(slots=True)
class Scene:
    world: PoolWorld
    node: PoolNode
    vms: VmStore

    @property
    def guard(self) -> FakeGuard:
        return self.node.guard

    def folder(self, where: str = SD, vm_id: str = VM) -> Path:
        return Path(self.world.access(where).layout.vm(vm_id))

    def path(self, where: str = SD, vm_id: str = VM) -> Path:
        return self.folder(where, vm_id) / vm_file.NAME

    def put(self, file: VmFile, where: str) -> None:
        self.folder(where, file.vm_id).mkdir()
        self.path(where, file.vm_id).write_bytes(vm_file.write(file))

    def listed(self) -> list[tuple[str, int, str]]:
        return [
            (each.vm.spec.vm_id, each.vm.generation, each.home)
            for each in self.vms.list().vms
        ]

    def again(self) -> VmStore:
        """Return what an agent has after its start."""
        return VmStore(self.node.pool, self.guard, self.world.clock)


@dataclass(slots=True)
class Stopping:
    """The storage process, of which a manager asks so many changes until it stops."""

    guard: FakeGuard
    left: int

    def file(self, domain: str, root: str, operations: Any, *more: Any) -> Any:
        for each in operations:
            if each["name"] not in file_operations.READING:
                if self.left == 0:
                    raise Crash
                self.left -= 1
        return self.guard.file(domain, root, operations, *more)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    world = PoolWorld(tmp_path, POOL)
    node = world.node("node-1")
    node.pool.create(world.make(node, SD))
    node.pool.attach(world.make(node, OTHER_SD))
    node.pool.activate(OTHER_SD)
    return Scene(world, node, VmStore(node.pool, node.guard, world.clock))


def test_write_puts_a_definition_on_its_home(scene: Scene) -> None:
    for _ in range(2):
        scene.vms.write(vm(), OTHER_SD, 0)
    assert scene.vms.read(VM) == StoredVm(vm(), OTHER_SD)
    assert scene.listed() == [(VM, 1, OTHER_SD)]
    assert scene.path(OTHER_SD).stat().st_mode & 0o777 == 0o660
    assert not scene.folder(SD).exists()
    assert code_of(lambda: scene.vms.read(OTHER_VM)) == "vm_not_stored"


@pytest.mark.parametrize("based_on", [0, 1, 3], ids=["none", "older", "newer"])
def test_write_refuses_what_is_based_on_another_generation(
    scene: Scene, based_on: int
) -> None:
    scene.vms.write(vm(2), SD, 0)
    before = scene.path().read_bytes()
    write = scene.vms.write
    assert code_of(lambda: write(vm(4, "mine"), SD, based_on)) == "vm_generation_moved"
    assert code_of(lambda: scene.vms.delete(VM, based_on)) == "vm_generation_moved"
    assert scene.path().read_bytes() == before
    write(vm(4, "mine"), SD, 2)
    assert scene.vms.read(VM).vm.spec.name == "mine"


def test_write_moves_a_definition_to_its_new_home(scene: Scene) -> None:
    scene.vms.write(vm(1), SD, 0)
    scene.vms.write(vm(2), OTHER_SD, 1)
    assert scene.listed() == [(VM, 2, OTHER_SD)]
    assert not scene.folder(SD).exists()


def test_firmware_variables_go_with_the_definition(scene: Scene) -> None:
    scene.vms.write(vm(1), SD, 0)
    (scene.folder(SD) / "variables").write_bytes(b"boot order")
    scene.vms.write(vm(2), SD, 1)
    scene.vms.write(vm(3), OTHER_SD, 2)
    assert (scene.folder(OTHER_SD) / "variables").read_bytes() == b"boot order"
    assert not scene.folder(SD).exists()
    scene.vms.delete(VM, 3)
    assert not (scene.folder(OTHER_SD) / "variables").exists()


def test_move_of_a_definition_with_variables_goes_on_wherever_it_stops(
    scene: Scene,
) -> None:
    scene.vms.write(vm(1), SD, 0)
    (scene.folder(SD) / "variables").write_bytes(b"boot order")
    for allowed in itertools.count():
        guard = cast(Guard, Stopping(scene.guard, allowed))
        vms = VmStore(scene.node.pool, guard, scene.world.clock)
        try:
            vms.write(vm(2), OTHER_SD, 1)
        except Crash:
            stored = scene.again().read(VM)
        else:
            break
        kept = scene.folder(stored.home) / "variables"
        assert kept.read_bytes() == b"boot order", allowed
    assert allowed == 5, "the fifth change is one of the old copy"
    scene.again().tidy()
    assert (scene.folder(OTHER_SD) / "variables").read_bytes() == b"boot order"
    assert not scene.folder(SD).exists()


def test_old_copy_that_was_left_behind_loses_and_goes(scene: Scene) -> None:
    scene.vms.write(vm(2), OTHER_SD, 0)
    scene.put(VmFile(1, VM, 1, AT, vm(1)), SD)
    assert scene.listed() == [(VM, 2, OTHER_SD)]
    scene.vms.tidy()
    assert not scene.folder(SD).exists()
    assert scene.listed() == [(VM, 2, OTHER_SD)]


TAKEN = Snapshot(
    *(SnapshotId("s1"), VM, SnapshotKind.REGULAR, SnapshotState.OK, AT),
)
TAKE = Change(Act.TAKE, VM, TAKEN.snapshot_id, based_on=1, snapshot=TAKEN)


def test_change_is_applied_where_the_definition_lies_and_once(scene: Scene) -> None:
    scene.vms.write(vm(), OTHER_SD, 0)
    for _ in range(2):
        changed = scene.vms.change(TAKE)
        assert changed is not None
        assert (changed.generation, changed.snapshots) == (2, (TAKEN,))
        assert scene.vms.read(VM) == StoredVm(changed, OTHER_SD)


def test_change_of_another_generation_is_refused(scene: Scene) -> None:
    scene.vms.write(vm(2), SD, 0)
    assert code_of(lambda: scene.vms.change(TAKE)) == "vm_definition_changed"
    assert scene.vms.read(VM).vm == vm(2)


def test_change_of_a_vm_that_is_gone_matters_to_no_merge(scene: Scene) -> None:
    assert code_of(lambda: scene.vms.change(TAKE)) == "vm_definition_changed"
    assert scene.vms.change(Change(Act.FOLD, VM, TAKEN.snapshot_id)) is None


def test_only_the_manager_writes(scene: Scene) -> None:
    scene.vms.write(vm(), SD, 0)
    scene.node.pool.spm.leave()
    assert code_of(lambda: scene.vms.write(vm(2), SD, 1)) == "not_spm"
    assert code_of(lambda: scene.vms.delete(VM, 1)) == "not_spm"
    assert code_of(scene.vms.tidy) == "not_spm"
    assert scene.vms.read(VM).vm == vm()


def test_lost_lease_stops_a_change(scene: Scene) -> None:
    scene.vms.write(vm(), SD, 0)
    scene.node.guard.lose(SD)
    assert code_of(lambda: scene.vms.write(vm(2), SD, 1)) == "spm_lost"
    assert scene.vms.read(VM).vm == vm()


def test_delete_leaves_tombstones_everywhere(scene: Scene) -> None:
    scene.vms.write(vm(3), OTHER_SD, 0)
    for _ in range(2):
        scene.vms.delete(VM, 3)
    for each in (SD, OTHER_SD):
        file = vm_file.parse(scene.path(each).read_bytes(), VM)
        assert (file.vm, file.generation) == (None, 4)
    assert scene.listed() == []
    assert code_of(lambda: scene.vms.read(VM)) == "vm_not_stored"
    assert code_of(lambda: scene.vms.write(vm(9), SD, 0)) == "vm_was_deleted"
    scene.vms.delete(OTHER_VM, 0)
    assert not scene.folder(SD, OTHER_VM).exists()


@pytest.mark.parametrize("is_restarted", [False, True], ids=["goes-on", "restarted"])
def test_deleted_vm_does_not_come_back_with_its_storage_domain(
    scene: Scene, is_restarted: bool
) -> None:
    scene.vms.write(vm(3), OTHER_SD, 0)
    scene.guard.hanging.add(OTHER_SD)
    scene.vms.delete(VM, 3)
    scene.guard.hanging.clear()
    if is_restarted:
        scene.vms = scene.again()
    assert scene.path(OTHER_SD).exists()
    assert scene.listed() == []
    scene.vms.tidy()
    assert not scene.folder(OTHER_SD).exists()
    assert scene.listed() == []


def test_delete_of_what_nobody_can_read_is_refused(scene: Scene) -> None:
    scene.vms.write(vm(3), OTHER_SD, 0)
    scene.guard.hanging.add(OTHER_SD)
    fresh = scene.again()
    assert code_of(lambda: fresh.delete(VM, 3)) == "storage_hangs"
    assert not scene.folder(SD).exists()


def test_tombstones_go_when_nothing_can_contradict_them(scene: Scene) -> None:
    scene.vms.write(vm(1), SD, 0)
    scene.vms.delete(VM, 1)
    scene.vms.tidy()
    assert scene.path().exists()
    scene.world.clock.advance(TOMBSTONE_KEPT_S + 1)
    scene.guard.hanging.add(OTHER_SD)
    scene.vms.tidy()
    scene.guard.hanging.clear()
    scene.node.pool.maintain(OTHER_SD)
    scene.vms.tidy()
    assert scene.path().exists()
    scene.node.pool.activate(OTHER_SD)
    scene.vms.tidy()
    for each in (SD, OTHER_SD):
        assert not scene.folder(each).exists()


def test_storage_domain_that_is_away_stops_only_its_own_vms(scene: Scene) -> None:
    scene.vms.write(vm(1), SD, 0)
    scene.vms.write(vm(1, "db", OTHER_VM), OTHER_SD, 0)
    scene.guard.hanging.add(OTHER_SD)
    scene.vms.write(vm(2), SD, 1)
    assert scene.vms.read(VM).vm.generation == 2
    assert code_of(lambda: scene.vms.read(OTHER_VM)) == "vm_home_away"
    found = scene.vms.list()
    assert [each.vm.spec.vm_id for each in found.vms] == [VM]
    assert [(each.storage_domain_id, each.vm_id) for each in found.problems] == [
        (OTHER_SD, "")
    ]


class MeetingGuard:
    """Each file operation goes on when all storage domains have one under way."""

    def __init__(self, guard: FakeGuard, count: int) -> None:
        self._guard = guard
        self._meeting = threading.Barrier(count, timeout=30.0)

    def file(self, *asked: Any, **options: Any) -> tuple[Any, ...]:
        self._meeting.wait()
        return self._guard.file(*asked, **options)


def test_read_asks_all_storage_domains_at_once(scene: Scene) -> None:
    scene.vms.write(vm(), OTHER_SD, 0)
    guard = cast(Guard, MeetingGuard(scene.guard, 2))
    fresh = VmStore(scene.node.pool, guard, scene.world.clock)
    assert fresh.read(VM) == StoredVm(vm(), OTHER_SD)


def test_older_copy_is_not_believed_while_the_newer_is_away(scene: Scene) -> None:
    scene.vms.write(vm(2), OTHER_SD, 0)
    scene.put(VmFile(1, VM, 1, AT, vm(1)), SD)
    scene.vms.list()
    scene.guard.hanging.add(OTHER_SD)
    assert code_of(lambda: scene.vms.write(vm(5), SD, 1)) == "vm_home_away"
    assert scene.listed() == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"half", "vm_file_damaged", id="damaged"),
        pytest.param(b"", "vm_file_damaged", id="empty"),
        pytest.param(bytes(vm_file.SIZE_MAX + 1), "file_too_large", id="large"),
    ],
)
def test_damaged_file_is_told_of_and_never_touched(
    scene: Scene, data: bytes, code: str
) -> None:
    scene.vms.write(vm(1), SD, 0)
    scene.vms.write(vm(1, "db", OTHER_VM), SD, 0)
    scene.folder(OTHER_SD).mkdir()
    scene.path(OTHER_SD).write_bytes(data)
    found = scene.vms.list()
    assert [each.vm.spec.vm_id for each in found.vms] == [OTHER_VM]
    (problem,) = found.problems
    assert (problem.storage_domain_id, problem.vm_id) == (OTHER_SD, VM)
    assert problem.error.code == code
    for act in (
        lambda: scene.vms.write(vm(2), SD, 1),
        lambda: scene.vms.delete(VM, 1),
        lambda: scene.vms.read(VM),
    ):
        assert code_of(act) == code
    scene.world.clock.advance(2 * TOMBSTONE_KEPT_S)
    scene.vms.tidy()
    assert scene.path(OTHER_SD).read_bytes() == data
    assert vm_file.parse(scene.path(SD).read_bytes(), VM).vm == vm(1)


def test_tombstone_stays_while_a_copy_cannot_be_read(scene: Scene) -> None:
    scene.vms.write(vm(1), SD, 0)
    scene.vms.delete(VM, 1)
    scene.path(OTHER_SD).write_bytes(b"half")
    scene.world.clock.advance(2 * TOMBSTONE_KEPT_S)
    scene.vms.tidy()
    assert vm_file.parse(scene.path(SD).read_bytes(), VM).vm is None


def test_two_definitions_of_one_generation_are_an_alarm(scene: Scene) -> None:
    scene.vms.write(vm(1), SD, 0)
    scene.put(VmFile(1, VM, 1, AT, vm(1, "other")), OTHER_SD)
    found = scene.vms.list()
    assert found.vms == ()
    assert [each.error.code for each in found.problems] == ["vm_files_differ"]
    assert code_of(lambda: scene.vms.delete(VM, 1)) == "vm_files_differ"
    scene.vms.tidy()
    assert scene.path(SD).exists()
    assert scene.path(OTHER_SD).exists()


def test_names_that_are_no_vms_are_passed_over(scene: Scene, tmp_path: Path) -> None:
    vms = scene.folder().parent
    (vms / "..x").mkdir()
    (vms / "NOT-AN-ID").mkdir()
    (vms / IMAGE).symlink_to(tmp_path)
    (vms / OTHER_IMAGE).touch()
    assert scene.vms.list().problems == ()
    assert scene.listed() == []
    hostile = replace(vm(), spec=replace(vm().spec, vm_id=VmId("../../x")))
    assert code_of(lambda: scene.vms.write(hostile, SD, 0)) == "bad_storage_id"
    assert code_of(lambda: scene.vms.delete(VmId("../x"), 0)) == "bad_storage_id"
    assert code_of(lambda: scene.vms.read(VmId("a/b"))) == "bad_storage_id"


@pytest.mark.parametrize("done", range(3))
def test_delete_goes_on_where_it_was_stopped(scene: Scene, done: int) -> None:
    scene.vms.write(vm(1), OTHER_SD, 0)
    copy = scene.path(OTHER_SD).read_bytes()
    scene.vms.delete(VM, 1)
    if done < 2:
        scene.path(OTHER_SD).write_bytes(copy)
    if done < 1:
        shutil.rmtree(scene.folder(SD))
    again = scene.again()
    again.delete(VM, 1)
    again.tidy()
    assert again.list().vms == ()
    assert again.list().problems == ()


FOREIGN = replace(vm(3, "theirs"), spec=replace(vm().spec, pool_id=PoolId(SD)))


def test_definition_of_another_pool_is_no_vm_here(scene: Scene) -> None:
    scene.put(VmFile(1, VM, 3, AT, FOREIGN), SD)
    assert scene.listed() == []
    assert scene.vms.find(VM) is None
    assert scene.vms.foreign(SD).vms == (StoredVm(FOREIGN, SD),)
    assert scene.vms.foreign(OTHER_SD).vms == ()


def test_definition_of_another_pool_is_written_anew_when_it_is_ours(
    scene: Scene,
) -> None:
    scene.put(VmFile(1, VM, 3, AT, FOREIGN), SD)
    ours = replace(FOREIGN, spec=replace(FOREIGN.spec, pool_id=PoolId(POOL)))
    scene.vms.write(replace(ours, generation=4), SD, 0)
    assert scene.listed() == [(VM, 4, SD)]
    assert scene.vms.foreign(SD).vms == ()


def test_foreign_tells_of_deletions_and_of_what_is_damaged(scene: Scene) -> None:
    scene.vms.write(vm(), SD, 0)
    scene.vms.delete(VM, 1)
    scene.folder(SD, OTHER_VM).mkdir()
    scene.path(SD, OTHER_VM).write_bytes(b"garbage")
    found = scene.vms.foreign(SD)
    assert found.deleted == {VM: 2}
    assert [each.vm_id for each in found.problems] == [OTHER_VM]


def test_definitions_are_complete_if_none_is_away(scene: Scene) -> None:
    assert scene.vms.is_complete(scene.vms.list())
    scene.put(VmFile(1, VM, 1, AT, vm()), SD)
    scene.path(SD).write_bytes(b"garbage")
    assert not scene.vms.is_complete(scene.vms.list())
    scene.path(SD).unlink()
    scene.node.pool.maintain(OTHER_SD)
    assert not scene.vms.is_complete(scene.vms.list())
