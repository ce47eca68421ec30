"""Say what each verb on snapshots does to a VM's definition.

Pure. Both siblings use it: `node.vm` decides on a change, `node.storage` applies it to
what lies there, after the new volumes are made and before the old ones go. So it is
the definition that tells whether a change has happened: applying one again changes
nothing, and one that was decided on another generation is refused, but for `fold`,
which is never too late.

    take      S1 ─ leaf          →  S1 ─ S2 ─ new leaf
    preview   S1 ─ S2 ─ leaf     →  S1 ┬ S2 ─ leaf     (kept in `Vm.preview`)
                                       └ new leaf
    undo      the new leaf goes, what was kept is back
    commit    S2 and the old leaf go, the VM stays on the new one
    fold      S1's volume takes up the one above, which goes: one disk at a time
    drop      S1 has no disks any more, and goes
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from node.errors import Conflict, NotFound
from node.model.ids import DiskId, SnapshotId, VmId, VolumeId
from node.model.storage import SnapshotState
from node.model.vm import Disk, Preview, Snapshot, SnapshotDisk, Vm, VmSpec

# A definition holds one of each, and QEMU opens all files of a chain.
SNAPSHOTS_MAX: Final = 32


class DefinitionChanged(Conflict):
    """The VM's definition is another than the one that was decided on."""

    code = "vm_definition_changed"
    remedy = "Look at the VM again, then decide anew."


class SnapshotUnknown(NotFound):
    """The VM has no such snapshot."""

    code = "snapshot_unknown"
    remedy = "Check the id against the list of the VM's snapshots."


class InPreview(Conflict):
    """The VM previews a snapshot."""

    code = "vm_in_preview"
    remedy = "Commit or undo the preview first."


class NotInPreview(Conflict):
    """The VM previews no snapshot."""

    code = "vm_not_in_preview"
    remedy = "Preview a snapshot first; or nothing is left to do."


class SnapshotBroken(Conflict):
    """The snapshot is being deleted, or that was interrupted: its state is lost."""

    code = "snapshot_broken"
    remedy = "Delete the snapshot; choose another one."


class SnapshotLocked(Conflict):
    """The snapshot is being taken."""

    code = "snapshot_locked"
    remedy = (
        "Wait until its job has ended; if it failed, ask for the snapshot again, by "
        "its id."
    )


class TooManySnapshots(Conflict):
    code = "too_many_snapshots"
    remedy = "Delete some of the VM's snapshots first."


class Act(StrEnum):
    TAKE = "take"
    FINISH = "finish"  # a snapshot of a running VM is complete
    PREVIEW = "preview"
    RETRACT = "retract"  # a snapshot that QEMU refused
    UNDO = "undo"
    COMMIT = "commit"
    BREAK = "break"  # a snapshot is about to be deleted
    FOLD = "fold"
    DROP = "drop"


# They are about the definition only, and need no journal.
WRITTEN_ALONE: Final = frozenset({Act.FINISH, Act.BREAK, Act.DROP})


@dataclass(frozen=True, slots=True)
class Leaf:
    """A disk's volume that a change brings, or takes away."""

    disk_id: DiskId
    volume_id: VolumeId
    parent_id: VolumeId  # what it is built on


@dataclass(frozen=True, slots=True)
class Change:
    act: Act
    vm_id: VmId
    snapshot_id: SnapshotId
    leaves: tuple[Leaf, ...] = ()  # of `fold`: those that go
    based_on: int = 0  # generation; 0: whichever there is
    snapshot: Snapshot | None = None  # that is taken
    spec: VmSpec | None = None  # of the preview, with its new leaves
    addresses: tuple[tuple[str, int], ...] = ()  # of the preview's devices
    is_consistent: bool = False  # of a snapshot that is complete
    has_memory: bool = False  # of that, too: it is whole


def apply(vm: Vm, change: Change) -> Vm:
    """Return the definition after a change, the same if that has happened.

    DefinitionChanged, if it was decided on another one.
    """
    if is_applied(vm, change):
        return vm
    if change.based_on not in (0, vm.generation):
        raise DefinitionChanged(
            f"VM {vm.spec.name} is at generation {vm.generation}, not "
            f"{change.based_on}",
            generation=vm.generation,
        )
    return replace(_DEEDS[change.act](vm, change), generation=vm.generation + 1)


def is_applied(vm: Vm, change: Change) -> bool:
    """Tell whether a definition shows that a change has happened."""
    snapshot = find(vm, change.snapshot_id)
    match change.act:
        case Act.TAKE:
            return snapshot is not None
        case Act.FINISH:
            return snapshot is None or snapshot.state is not SnapshotState.LOCKED
        case Act.PREVIEW:
            wanted = {(each.disk_id, each.volume_id) for each in change.leaves}
            return vm.preview is not None and wanted <= set(_named(vm.spec))
        case Act.UNDO | Act.COMMIT:
            return vm.preview is None
        case Act.BREAK:
            return snapshot is None or snapshot.state is SnapshotState.BROKEN
        case Act.FOLD:
            gone = {(each.disk_id, each.volume_id) for each in change.leaves}
            return not gone & named(vm)
        case Act.DROP | Act.RETRACT:
            return snapshot is None


def find(vm: Vm, snapshot_id: SnapshotId) -> Snapshot | None:
    """Return a snapshot of a VM; None: it has none of that id."""
    found = (each for each in vm.snapshots if each.snapshot_id == snapshot_id)
    return next(found, None)


def places(vm: Vm, snapshot_id: SnapshotId) -> frozenset[tuple[str, str]]:
    """Return the disks that a snapshot has, and where they lie: that first."""
    snapshot = find(vm, snapshot_id)
    kept = {each.disk_id for each in snapshot.disks} if snapshot is not None else set()
    return frozenset(
        (str(disk.storage_domain_id), str(disk.disk_id))
        for disk in vm.spec.disks
        if disk.disk_id in kept
    )


def get(vm: Vm, snapshot_id: SnapshotId) -> Snapshot:
    """Return a snapshot of a VM; SnapshotUnknown."""
    found = find(vm, snapshot_id)
    if found is None:
        raise SnapshotUnknown(
            f"VM {vm.spec.name} has no snapshot {snapshot_id}", snapshot_id=snapshot_id
        )
    return found


def is_whole(snapshot: Snapshot) -> bool:
    """Tell whether a snapshot's volumes hold what it was taken of."""
    return snapshot.state in (SnapshotState.OK, SnapshotState.IN_PREVIEW)


def named(vm: Vm) -> frozenset[tuple[DiskId, VolumeId]]:
    """Return every volume that a definition needs, with its disk."""
    return leaves(vm) | taken(vm)


def taken(vm: Vm) -> frozenset[tuple[DiskId, VolumeId]]:
    """Return the volumes that snapshots keep, with their disks."""
    return frozenset(
        (disk.disk_id, disk.volume_id) for each in vm.snapshots for disk in each.disks
    )


def leaves(vm: Vm) -> frozenset[tuple[DiskId, VolumeId]]:
    """Return the volumes that guests write to: two of a disk in preview."""
    kept = _named(vm.preview.spec) if vm.preview is not None else ()
    return frozenset((*_named(vm.spec), *kept))


def previews(vm: Vm, snapshot_id: SnapshotId) -> bool:
    """Tell whether a VM looks at a snapshot."""
    return vm.preview is not None and vm.preview.snapshot_id == snapshot_id


def above(vm: Vm, snapshot: Snapshot, disk_id: DiskId) -> VolumeId | None:
    """Return the volume that goes when a snapshot's takes it up; None: none is known.

    That is the disk's in the next snapshot that has it, or what the VM runs with.
    """
    below = snapshot.snapshot_id
    for _ in vm.snapshots:
        follower = next((e for e in vm.snapshots if e.parent_id == below), None)
        if follower is None:
            break
        for each in follower.disks:
            if each.disk_id == disk_id:
                return each.volume_id
        below = follower.snapshot_id
    return next((d.volume_id for d in vm.spec.disks if d.disk_id == disk_id), None)


def line(vm: Vm) -> tuple[SnapshotId, ...]:
    """Return the snapshots that the VM goes on from, the newest first."""
    found: list[SnapshotId] = []
    step = vm.snapshot_id
    while step is not None and step not in found:
        known = find(vm, step)
        if known is None:
            break
        found.append(step)
        step = known.parent_id
    return tuple(found)


def passed_over(vm: Vm) -> tuple[Snapshot, ...]:
    """Return the snapshots that go when a preview is committed."""
    kept = set(line(vm))
    return tuple(each for each in vm.snapshots if each.snapshot_id not in kept)


def lost(vm: Vm) -> tuple[Leaf, ...]:
    """Return the leaves that go when a preview is committed; the parent stays."""
    assert vm.preview is not None, "there is a preview"
    return _differing(vm.preview.spec, vm.spec)


def tried(vm: Vm) -> tuple[Leaf, ...]:
    """Return the leaves that go when a preview is undone; the parent stays."""
    assert vm.preview is not None, "there is a preview"
    return _differing(vm.spec, vm.preview.spec)


def as_of(vm: Vm, snapshot: Snapshot, new: Mapping[DiskId, VolumeId]) -> VmSpec:
    """Return a VM as it was at a snapshot, with new leaves of some of its disks.

    It keeps its name and where it belongs. Disks that the snapshot does not have, or
    that were not asked for, stay as they are; those that the VM has no more stay away.
    """
    then = snapshot.spec or vm.spec
    known = {disk.disk_id: disk for disk in then.disks}
    disks = tuple(
        replace(known.get(disk.disk_id, disk), storage_domain_id=disk.storage_domain_id)
        if disk.disk_id in new
        else disk
        for disk in vm.spec.disks
    )
    was = replace(
        then,
        vm_id=vm.spec.vm_id,
        name=vm.spec.name,
        pool_id=vm.spec.pool_id,
        lease_domain_id=vm.spec.lease_domain_id,
        disks=disks,
    )
    return renewed(was, new)


def check_settled(vm: Vm) -> None:
    """Refuse what a preview, or a snapshot under way, forbids."""
    if vm.preview is not None:
        raise InPreview(
            f"VM {vm.spec.name} previews snapshot {vm.preview.snapshot_id}",
            snapshot_id=vm.preview.snapshot_id,
        )


def check_complete(vm: Vm, but: SnapshotId | None = None) -> None:
    """Refuse what has to wait for a snapshot that is being taken; SnapshotLocked.

    Until it is complete the guest may write below what the definition names.
    """
    for each in vm.snapshots:
        if each.state is SnapshotState.LOCKED and each.snapshot_id != but:
            raise SnapshotLocked(
                f"snapshot {each.snapshot_id} of VM {vm.spec.name} is being taken",
                snapshot_id=each.snapshot_id,
            )


def renewed(spec: VmSpec, new: Mapping[DiskId, VolumeId]) -> VmSpec:
    """Return a definition with other leaves of its disks."""
    return replace(spec, disks=tuple(_with_leaf(disk, new) for disk in spec.disks))


def left(disk_id: DiskId, leaf_id: VolumeId, parent_id: str) -> Leaf:
    """Return a leaf and what its guest writes to instead."""
    return Leaf(disk_id, leaf_id, VolumeId(parent_id))


def _take(vm: Vm, change: Change) -> Vm:
    assert change.snapshot is not None, "there is a snapshot to take"
    taken = replace(change.snapshot, parent_id=vm.snapshot_id)
    return replace(
        vm,
        memory=None if taken.memory is not None else vm.memory,
        spec=renewed(vm.spec, _new(change)),
        snapshots=(*vm.snapshots, taken),
        snapshot_id=taken.snapshot_id,
    )


def _finish(vm: Vm, change: Change) -> Vm:
    known, memory = get(vm, change.snapshot_id), None
    if change.has_memory and known.memory is not None:
        memory = replace(known.memory, is_saved=True)
    frozen = change.is_consistent
    done = replace(known, state=SnapshotState.OK, is_consistent=frozen, memory=memory)
    rest = tuple(done if each is known else each for each in vm.snapshots)
    return replace(vm, snapshots=rest)


def _retract(vm: Vm, change: Change) -> Vm:
    back = {each.disk_id: each.parent_id for each in change.leaves}
    return _drop(replace(vm, spec=renewed(vm.spec, back)), change)


def _preview(vm: Vm, change: Change) -> Vm:
    assert change.spec is not None, "there is a definition to preview"
    seen = _marked(vm, change, SnapshotState.IN_PREVIEW)
    return replace(
        seen,
        spec=change.spec,
        addresses=change.addresses,
        snapshot_id=change.snapshot_id,
        preview=Preview(change.snapshot_id, vm.spec, vm.snapshot_id),
    )


def _undo(vm: Vm, change: Change) -> Vm:
    assert vm.preview is not None, "there is a preview"
    back = _marked(vm, change, SnapshotState.OK)
    return replace(
        back,
        spec=vm.preview.spec,
        snapshot_id=vm.preview.parent_id,
        preview=None,
    )


def _commit(vm: Vm, change: Change) -> Vm:
    gone = passed_over(vm)
    rest = tuple(each for each in vm.snapshots if each not in gone)
    return _marked(replace(vm, snapshots=rest, preview=None), change, SnapshotState.OK)


def _break(vm: Vm, change: Change) -> Vm:
    return _marked(vm, change, SnapshotState.BROKEN)


def _fold(vm: Vm, change: Change) -> Vm:
    moved = {(each.disk_id, each.volume_id): each.parent_id for each in change.leaves}

    def follow(each: SnapshotDisk) -> SnapshotDisk:
        key = (each.disk_id, each.volume_id)
        return replace(each, volume_id=moved.get(key, each.volume_id))

    def rest(each: Snapshot) -> tuple[SnapshotDisk, ...]:
        if each.snapshot_id != change.snapshot_id:
            return tuple(map(follow, each.disks))
        gone = {leaf.disk_id for leaf in change.leaves}
        return tuple(disk for disk in each.disks if disk.disk_id not in gone)

    disks = tuple(
        replace(disk, volume_id=moved.get((disk.disk_id, volume_id), volume_id))
        if (volume_id := disk.volume_id) is not None
        else disk
        for disk in vm.spec.disks
    )
    return replace(
        vm,
        spec=replace(vm.spec, disks=disks),
        snapshots=tuple(replace(each, disks=rest(each)) for each in vm.snapshots),
    )


def _drop(vm: Vm, change: Change) -> Vm:
    gone = get(vm, change.snapshot_id)

    def over(parent_id: SnapshotId | None) -> SnapshotId | None:
        return gone.parent_id if parent_id == gone.snapshot_id else parent_id

    return replace(
        vm,
        snapshots=tuple(
            replace(each, parent_id=over(each.parent_id))
            for each in vm.snapshots
            if each is not gone
        ),
        snapshot_id=over(vm.snapshot_id),
    )


_DEEDS: Final = {
    Act.TAKE: _take,
    Act.FINISH: _finish,
    Act.RETRACT: _retract,
    Act.PREVIEW: _preview,
    Act.UNDO: _undo,
    Act.COMMIT: _commit,
    Act.BREAK: _break,
    Act.FOLD: _fold,
    Act.DROP: _drop,
}


def _marked(vm: Vm, change: Change, state: SnapshotState) -> Vm:
    """Return the definition with its snapshot in another state."""

    def marked(each: Snapshot) -> Snapshot:
        is_its = each.snapshot_id == change.snapshot_id
        return replace(each, state=state) if is_its else each

    return replace(vm, snapshots=tuple(map(marked, vm.snapshots)))


def _differing(spec: VmSpec, other: VmSpec) -> tuple[Leaf, ...]:
    """Return the leaves of disks that the other definition has otherwise.

    Their `parent_id` is the other one's leaf: what a disk becomes.
    """
    kept = dict(_named(other))
    return tuple(
        Leaf(disk_id, volume_id, kept[disk_id])
        for disk_id, volume_id in _named(spec)
        if disk_id in kept and kept[disk_id] != volume_id
    )


def _named(spec: VmSpec) -> tuple[tuple[DiskId, VolumeId], ...]:
    return tuple(
        (disk.disk_id, disk.volume_id)
        for disk in spec.disks
        if disk.volume_id is not None
    )


def _new(change: Change) -> Mapping[DiskId, VolumeId]:
    return {each.disk_id: each.volume_id for each in change.leaves}


def _with_leaf(disk: Disk, new: Mapping[DiskId, VolumeId]) -> Disk:
    if disk.disk_id not in new:
        return disk
    # A snapshot's disk is qcow2 from its first leaf on, whatever it was before.
    return replace(disk, volume_id=new[disk.disk_id], disk_format=None)
