"""Check what is asked of snapshots; say which disks and volumes it is about. Pure."""

import uuid
from collections.abc import Mapping
from typing import Final

from node.contract import snapshots
from node.contract.snapshots import Leaf
from node.errors import Conflict, Invalid
from node.model.ids import DiskId, VolumeId
from node.model.storage import SnapshotState
from node.model.vm import Disk, Snapshot, Vm

_DESCRIPTION_MAX: Final = 1024  # bytes: a definition has a limit


class BadSnapshot(Invalid):
    code = "bad_snapshot"
    remedy = "Correct the field named in the message and send it again."


class SnapshotHasNoMemory(Conflict):
    """Nobody asked for it when the snapshot was taken, or it could not be kept."""

    code = "snapshot_has_no_memory"
    remedy = "Leave the memory out: the VM boots."


class SnapshotMemoryUnfit(Conflict):
    """The VM would go on with other disks than its memory has seen."""

    code = "snapshot_memory_unfit"
    remedy = "Leave the memory out; or let the VM have the disks of then, no others."


def chosen(
    vm: Vm, disk_ids: tuple[DiskId, ...] | None, *, has_memory: bool = False
) -> tuple[Disk, ...]:
    """Return the disks that a snapshot keeps; BadSnapshot.

    `has_memory`: it must keep all that its guest writes to.
    """
    able = {
        disk.disk_id: disk
        for disk in vm.spec.disks
        if not disk.is_read_only and not disk.is_shared
    }
    wanted = tuple(able if disk_ids is None else dict.fromkeys(disk_ids))
    for disk_id in wanted:
        if disk_id not in able:
            raise bad("disk_ids", f"{disk_id[:80]!a} is no disk that has snapshots")
    for disk in vm.spec.disks if has_memory else ():
        if not disk.is_read_only and disk.disk_id not in wanted:
            raise bad("has_memory", f"needs disk {disk.disk_id} in the snapshot, too")
    return tuple(able[each] for each in wanted)


def leaves(now: Mapping[DiskId, VolumeId], seed: str) -> tuple[Leaf, ...]:
    """Return new leaves over volumes; asked twice, they have the same ids."""
    return tuple(
        Leaf(disk_id, VolumeId(str(uuid.uuid5(uuid.UUID(seed), disk_id))), volume_id)
        for disk_id, volume_id in now.items()
    )


def leaves_of(snapshot: Snapshot) -> tuple[Leaf, ...]:
    """Return the leaves that a snapshot was taken with."""
    now = {each.disk_id: each.volume_id for each in snapshot.disks}
    return leaves(now, snapshot.snapshot_id)


def check_whole(snapshot: Snapshot) -> None:
    """Refuse what is no state to go back to: SnapshotBroken, SnapshotLocked."""
    if snapshot.state is SnapshotState.BROKEN:
        raise snapshots.SnapshotBroken(
            f"snapshot {snapshot.snapshot_id} is being deleted",
            snapshot_id=snapshot.snapshot_id,
        )
    if snapshot.state is SnapshotState.LOCKED:
        raise snapshots.SnapshotLocked(
            f"snapshot {snapshot.snapshot_id} is being taken"
        )


def check_memory(
    vm: Vm, snapshot: Snapshot, disk_ids: tuple[DiskId, ...] | None
) -> None:
    """Refuse to go on with a memory that is not there, or over other disks.

    SnapshotHasNoMemory, SnapshotMemoryUnfit.
    """
    if snapshot.memory is None or not snapshot.memory.is_saved:
        raise SnapshotHasNoMemory(
            f"snapshot {snapshot.snapshot_id} has no memory",
            snapshot_id=snapshot.snapshot_id,
        )
    assert snapshot.spec is not None, "it was taken with one"
    kept = {each.disk_id for each in snapshot.disks}
    then = {each.disk_id for each in snapshot.spec.disks}
    now = {each.disk_id for each in vm.spec.disks}
    if then != now or not kept <= set(disk_ids or kept):
        raise SnapshotMemoryUnfit(
            f"the memory of snapshot {snapshot.snapshot_id} has seen other disks",
            snapshot_id=snapshot.snapshot_id,
        )


def check_id(value: str) -> None:
    """Refuse all but lower-case UUIDs: BadSnapshot."""
    try:
        is_good = str(uuid.UUID(value)) == value
    except ValueError:
        is_good = False
    if not is_good:
        raise bad("snapshot_id", "must be a lower-case UUID")


def check_description(text: str) -> None:
    """Refuse what a definition has no room for: BadSnapshot."""
    if len(text.encode()) > _DESCRIPTION_MAX:
        raise bad("description", f"must have at most {_DESCRIPTION_MAX} bytes")


def bad(field: str, complaint: str) -> BadSnapshot:
    """Return the complaint about a field."""
    return BadSnapshot(f"{field} {complaint}", field=field)
