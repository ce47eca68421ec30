"""What verbs on snapshots do to a definition: tables, and a model of the storage."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from node.contract import memories, snapshots
from node.contract.snapshots import Act, Change, Leaf
from node.errors import Error
from node.model.ids import DiskId, SnapshotId, StorageDomainId, VmId, VolumeId
from node.model.storage import DiskFormat, SnapshotKind, SnapshotState
from node.model.vm import Disk, Snapshot, SnapshotDisk, Vm, VmMemory, VmSpec
from node.units import GiB

VM_ID = VmId("vm")
ROOT, DATA = DiskId("root"), DiskId("data")
AT = "2026-11-22T08:00:00.000Z"


def disk(disk_id: DiskId) -> Disk:
    made = Disk(disk_id, disk_id, GiB, storage_domain_id=StorageDomainId("sd"))
    volume_id = VolumeId(f"{disk_id}-0")
    return replace(made, volume_id=volume_id, disk_format=DiskFormat.RAW)


SPEC = VmSpec(VM_ID, "web", GiB, disks=(disk(ROOT), disk(DATA)))
VM = Vm(SPEC, 1, AT)


@dataclass(slots=True)
class World:
    """A VM, and what its volumes hold: numbers that its guest wrote."""

    vm: Vm = VM
    written: dict[str, frozenset[int]] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    taken: dict[str, dict[DiskId, frozenset[int]]] = field(default_factory=dict)
    kept: dict[DiskId, frozenset[int]] = field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        for each in self.vm.spec.disks:
            self.written[str(each.volume_id)] = frozenset()

    def reads(self, volume_id: str) -> frozenset[int]:
        below = self.parents.get(volume_id)
        return self.written[volume_id] | (self.reads(below) if below else frozenset())

    def now(self) -> dict[DiskId, frozenset[int]]:
        return {e.disk_id: self.reads(str(e.volume_id)) for e in self.vm.spec.disks}

    def new(self) -> int:
        self.number += 1
        return self.number

    def apply(self, change: Change) -> None:
        """Apply a change as it has to be: once, and then never more."""
        before = self.vm
        self.vm = snapshots.apply(before, change)
        assert self.vm.generation == before.generation + 1
        assert snapshots.apply(self.vm, change) is self.vm
        assert snapshots.is_applied(self.vm, change)

    def write(self) -> None:
        number = self.new()
        for each in self.vm.spec.disks:
            self.written[str(each.volume_id)] |= {number}

    def take(self) -> None:
        snapshot_id = SnapshotId(f"s{self.new()}")
        disks = tuple(
            SnapshotDisk(each.disk_id, VolumeId(str(each.volume_id)))
            for each in self.vm.spec.disks
        )
        snapshot = Snapshot(
            *(snapshot_id, VM_ID, SnapshotKind.REGULAR, SnapshotState.OK, AT),
            disks=disks,
            spec=self.vm.spec,
        )
        self.taken[snapshot_id] = self.now()
        leaves = self.grow({e.disk_id: e.volume_id for e in disks})
        self.apply(
            Change(Act.TAKE, VM_ID, snapshot_id, leaves, self.vm.generation, snapshot)
        )

    def grow(self, over: dict[DiskId, VolumeId]) -> tuple[Leaf, ...]:
        leaves = []
        for disk_id, parent_id in over.items():
            volume_id = VolumeId(f"{disk_id}-{self.new()}")
            self.written[volume_id] = frozenset()
            self.parents[volume_id] = parent_id
            leaves.append(Leaf(disk_id, volume_id, parent_id))
        return tuple(leaves)

    def preview(self, snapshot: Snapshot) -> None:
        self.kept = self.now()
        leaves = self.grow({e.disk_id: e.volume_id for e in snapshot.disks})
        new = {each.disk_id: each.volume_id for each in leaves}
        spec = snapshots.as_of(self.vm, snapshot, new)
        where = (Act.PREVIEW, VM_ID, snapshot.snapshot_id, leaves, self.vm.generation)
        self.apply(Change(*where, spec=spec))
        assert self.now() == self.taken[snapshot.snapshot_id]

    def end(self, act: Act) -> None:
        assert self.vm.preview is not None
        going = snapshots.lost if act is Act.COMMIT else snapshots.tried
        snapshot_id, before = self.vm.preview.snapshot_id, self.now()
        gone = going(self.vm)
        self.apply(Change(act, VM_ID, snapshot_id, gone, self.vm.generation))
        for leaf in gone:
            self.remove(leaf.volume_id)
        assert self.now() == (before if act is Act.COMMIT else self.kept)

    def remove(self, volume_id: str) -> None:
        """Remove a leaf and what only it is built on, as a discard does."""
        step: str | None = volume_id
        needed = {each for _, each in snapshots.named(self.vm)}
        while step and step not in needed and step not in self.parents.values():
            del self.written[step]
            step = self.parents.pop(step, None)

    def delete(self, snapshot: Snapshot) -> None:
        snapshot_id = snapshot.snapshot_id
        self.apply(Change(Act.BREAK, VM_ID, snapshot_id))
        before = self.now()
        for each in snapshot.disks:
            now = snapshots.get(self.vm, snapshot_id)
            top = snapshots.above(self.vm, now, each.disk_id)
            assert top is not None
            assert self.parents[top] == each.volume_id, "what is above is its child"
            self.written[each.volume_id] |= self.written.pop(top)
            del self.parents[top]
            for volume_id, parent_id in self.parents.items():
                if parent_id == top:
                    self.parents[volume_id] = each.volume_id
            leaf = Leaf(each.disk_id, top, each.volume_id)
            self.apply(Change(Act.FOLD, VM_ID, snapshot_id, (leaf,)))
        self.apply(Change(Act.DROP, VM_ID, snapshot_id))
        assert self.now() == before

    def check(self) -> None:
        """Check that all that is named is there, and nothing else."""
        for snapshot in self.vm.snapshots:
            found = {e.disk_id: self.reads(e.volume_id) for e in snapshot.disks}
            assert found == self.taken[snapshot.snapshot_id]
            assert snapshot.parent_id in {
                None,
                *(each.snapshot_id for each in self.vm.snapshots),
            }
        named = {str(each) for _, each in snapshots.named(self.vm)}
        assert named <= set(self.written)
        if self.vm.preview is None:
            assert named == set(self.written), "nothing is left over"
            ids = [each.snapshot_id for each in self.vm.snapshots]
            assert list(snapshots.line(self.vm)) == ids[::-1]


@settings(max_examples=300, deadline=None)
@given(some.lists(some.tuples(some.sampled_from("wtpucd"), some.integers(0, 9))))
def test_states_stay_what_they_were_whatever_is_asked(
    steps: list[tuple[str, int]],
) -> None:
    world = World()
    for step, choice in steps:
        known = world.vm.snapshots
        is_previewing = world.vm.preview is not None
        if step == "w":
            world.write()
        elif step == "t" and not is_previewing:
            world.take()
        elif step == "p" and known and not is_previewing:
            world.preview(known[choice % len(known)])
        elif step in "uc" and is_previewing:
            world.end(Act.UNDO if step == "u" else Act.COMMIT)
        elif step == "d" and known and not is_previewing:
            world.delete(known[choice % len(known)])
        world.check()


def taken() -> World:
    world = World()
    world.take()
    world.write()
    return world


@pytest.mark.parametrize("act", [Act.TAKE, Act.PREVIEW], ids=lambda act: act.value)
def test_change_that_was_decided_on_another_definition_is_refused(act: Act) -> None:
    world = taken()
    change = Change(act, VM_ID, SnapshotId("other"), (), world.vm.generation - 1)
    with pytest.raises(snapshots.DefinitionChanged):
        snapshots.apply(world.vm, change)


def test_retract_leaves_what_was_before() -> None:
    world = taken()
    (snapshot,) = world.vm.snapshots
    leaves = tuple(
        Leaf(each.disk_id, VolumeId(str(each.volume_id)), snapshot.disks[n].volume_id)
        for n, each in enumerate(world.vm.spec.disks)
    )
    change = Change(Act.RETRACT, VM_ID, snapshot.snapshot_id, leaves)
    after = snapshots.apply(world.vm, change)
    assert after.snapshots == ()
    assert after.snapshot_id is None
    assert snapshots.leaves(after) == snapshots.leaves(VM)


def test_finish_says_whether_the_guest_was_frozen() -> None:
    world = taken()
    (snapshot,) = world.vm.snapshots
    locked = replace(snapshot, state=SnapshotState.LOCKED)
    vm = replace(world.vm, snapshots=(locked,))
    where = (Act.FINISH, VM_ID, snapshot.snapshot_id)
    (found,) = snapshots.apply(vm, Change(*where, is_consistent=True)).snapshots
    assert (found.state, found.is_consistent) == (SnapshotState.OK, True)


def test_disk_that_the_snapshot_does_not_have_stays_as_it_is() -> None:
    (snapshot,) = taken().vm.snapshots
    only = replace(snapshot, disks=snapshot.disks[:1])
    new = {ROOT: VolumeId("new")}
    spec = snapshots.as_of(VM, only, new)
    assert [each.volume_id for each in spec.disks] == ["new", "data-0"]


def test_disk_that_was_detached_does_not_come_back() -> None:
    (snapshot,) = taken().vm.snapshots
    less = replace(VM, spec=replace(SPEC, disks=SPEC.disks[:1]))
    assert len(snapshots.as_of(less, snapshot, {ROOT: VolumeId("new")}).disks) == 1


def test_raw_disk_is_none_any_more_over_a_snapshot() -> None:
    spec = snapshots.renewed(SPEC, {ROOT: VolumeId("new")})
    assert [each.disk_format for each in spec.disks] == [None, DiskFormat.RAW]


def test_names_of_what_is_not_there_are_refused() -> None:
    with pytest.raises(snapshots.SnapshotUnknown):
        snapshots.get(VM, SnapshotId("x"))
    world = taken()
    world.preview(world.vm.snapshots[0])
    with pytest.raises(Error):
        snapshots.check_settled(world.vm)


MEMORY = VmMemory(StorageDomainId("sd"), DiskId("memory"))


def taken_with_memory() -> Vm:
    """Return a VM whose prepared memory went to the snapshot that is being taken."""
    vm = replace(VM, memory=MEMORY)
    snapshot = Snapshot(
        *(SnapshotId("s"), VM_ID, SnapshotKind.REGULAR, SnapshotState.LOCKED, AT),
        memory=MEMORY,
    )
    take = Change(Act.TAKE, VM_ID, snapshot.snapshot_id, snapshot=snapshot)
    return snapshots.apply(vm, take)


def test_take_moves_the_memory_to_the_snapshot() -> None:
    vm = taken_with_memory()
    assert vm.memory is None
    assert [each.memory for each in vm.snapshots] == [MEMORY]
    assert memories.kept(vm) == (MEMORY,)


@pytest.mark.parametrize(
    ("has_memory", "expected"),
    [
        pytest.param(True, replace(MEMORY, is_saved=True), id="whole"),
        pytest.param(False, None, id="not-kept"),
    ],
)
def test_finish_says_whether_the_memory_is_whole(
    has_memory: bool, expected: VmMemory | None
) -> None:
    finish = Change(Act.FINISH, VM_ID, SnapshotId("s"), has_memory=has_memory)
    (done,) = snapshots.apply(taken_with_memory(), finish).snapshots
    assert (done.state, done.memory) == (SnapshotState.OK, expected)


def test_take_without_memory_leaves_what_the_vm_has() -> None:
    snapshot = Snapshot(
        *(SnapshotId("s"), VM_ID, SnapshotKind.REGULAR, SnapshotState.OK, AT)
    )
    take = Change(Act.TAKE, VM_ID, snapshot.snapshot_id, snapshot=snapshot)
    vm = snapshots.apply(replace(VM, memory=MEMORY), take)
    assert vm.memory == MEMORY
