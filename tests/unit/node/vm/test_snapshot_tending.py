"""What the manager ends by itself: snapshots that a guest's node has left to it."""

from dataclasses import replace

import pytest

from node.contract.snapshots import Leaf
from node.errors import Unavailable
from node.model.ids import DiskId, SnapshotId, StorageDomainId, VolumeId
from node.model.storage import SnapshotKind, SnapshotState
from node.model.vm import Disk, Snapshot, SnapshotDisk, Vm, VmMemory
from node.vm import snapshot_tending
from node.vm.snapshot_tending import Tender
from tests.fakes.clock import FakeClock
from tests.unit.node.vm.examples import SPEC

AT = "2026-11-22T08:00:00.000Z"
DISK, TOP, BASE = DiskId("d1"), VolumeId("v2"), VolumeId("v1")


def vm_with(state: SnapshotState) -> Vm:
    disks = (SnapshotDisk(DISK, BASE),)
    of = (SnapshotId("s1"), SPEC.vm_id, SnapshotKind.REGULAR, state, AT)
    spec = replace(SPEC, disks=(Disk(DISK, "d", 1, volume_id=TOP),))
    return Vm(spec, 1, AT, snapshots=(Snapshot(*of, disks=disks),))


class Scene:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.closed = {(DISK, TOP, BASE)}
        self.ended: list[SnapshotState] = []
        self.is_away = False
        self.is_down = False
        self.tender = Tender(
            self._is_closed, lambda _: self.is_down, self._finish, self.clock
        )

    def _is_closed(self, vm: Vm, leaf: Leaf) -> bool:
        if self.is_away:
            raise Unavailable("the storage is away")
        return (leaf.disk_id, leaf.volume_id, leaf.parent_id) in self.closed

    def _finish(self, vm: Vm, snapshot: Snapshot) -> None:
        self.ended.append(snapshot.state)

    def look(self, state: SnapshotState = SnapshotState.BROKEN) -> None:
        self.tender.tend([vm_with(state)])
        self.clock.advance(30.0)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("state", [SnapshotState.BROKEN, SnapshotState.LOCKED])
def test_tend_ends_what_it_finds_twice(scene: Scene, state: SnapshotState) -> None:
    scene.look(state)
    assert scene.ended == []
    scene.look(state)
    assert scene.ended == [state]


def test_tend_finishes_the_snapshot_of_a_guest_that_rests(scene: Scene) -> None:
    scene.closed.clear()
    memory = VmMemory(StorageDomainId("sd1"), DiskId("m1"))
    vm = replace(vm_with(SnapshotState.LOCKED), memory=memory)
    for _ in range(2):
        scene.tender.tend([vm])
        scene.clock.advance(30.0)
    assert scene.ended == []
    vm = replace(vm, memory=replace(memory, is_saved=True))
    for _ in range(2):
        scene.tender.tend([vm])
        scene.clock.advance(30.0)
    assert scene.ended == [SnapshotState.LOCKED]


def test_tend_finishes_the_snapshot_of_a_vm_that_stays_down(scene: Scene) -> None:
    scene.closed.clear()
    scene.is_down = True
    for _ in range(2):
        scene.look(SnapshotState.LOCKED)
    assert scene.ended == []  # it may have been paused a moment ago
    scene.look(SnapshotState.LOCKED)
    assert scene.ended == [SnapshotState.LOCKED]


def test_tend_counts_anew_when_the_vm_ran_in_between(scene: Scene) -> None:
    scene.closed.clear()
    for is_down in (True, True, False, True, True):
        scene.is_down = is_down
        scene.look(SnapshotState.LOCKED)
    assert scene.ended == []


def test_tend_leaves_a_deletion_to_people_while_the_vm_is_down(scene: Scene) -> None:
    """It copies data, and may have been cancelled on purpose."""
    scene.closed.clear()
    scene.is_down = True
    for _ in range(5):
        scene.look(SnapshotState.BROKEN)
    assert scene.ended == []


def test_tend_waits_however_often_it_looks(scene: Scene) -> None:
    for _ in range(5):
        scene.tender.tend([vm_with(SnapshotState.BROKEN)])
    assert scene.ended == []
    scene.clock.advance(snapshot_tending.AGE_S)
    scene.look()
    assert len(scene.ended) == 1


def test_tend_leaves_alone_what_is_worked_on(scene: Scene) -> None:
    for _ in range(3):
        scene.look(SnapshotState.OK)
    scene.closed.clear()
    for _ in range(3):
        scene.look()
    assert scene.ended == []


def test_tend_tries_again_after_a_while(scene: Scene) -> None:
    for _ in range(4):
        scene.look()
    assert len(scene.ended) == 1
    scene.clock.advance(snapshot_tending.AGAIN_S)
    scene.look()
    assert len(scene.ended) == 2


def test_tend_does_without_a_storage_that_is_away(scene: Scene) -> None:
    scene.look()
    scene.is_away = True
    scene.look()
    scene.is_away = False
    scene.look()
    assert scene.ended == []
    scene.look()
    assert len(scene.ended) == 1
