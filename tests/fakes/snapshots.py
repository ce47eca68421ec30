"""Snapshots of the fleet's VMs, as a pool's manager would make and change them.

What a verb does to a definition is what `node.contract.snapshots` says.
"""

import uuid
from collections.abc import Callable
from typing import Any, Final

from node.contract import snapshots
from node.contract.snapshots import Act, Change, Leaf
from node.model.ids import DiskId, SnapshotId, StorageDomainId, VolumeId
from node.model.storage import SnapshotKind, SnapshotState
from node.model.vm import Snapshot, SnapshotDisk, Vm, VmMemory

AT: Final = "2026-11-22T09:00:00.000Z"


def create(vm: Vm, request: Any) -> Vm:
    """Return a VM with one more snapshot."""
    if snapshots.find(vm, request.snapshot_id) is not None:
        return vm
    disks = [each for each in vm.spec.disks if each.storage_domain_id is not None]
    leaves = tuple(
        Leaf(each.disk_id, _new(request.snapshot_id, each.disk_id), _leaf(each))
        for each in disks
        if request.disk_ids is None or each.disk_id in request.disk_ids
    )
    snapshot = Snapshot(
        request.snapshot_id,
        vm.spec.vm_id,
        SnapshotKind.REGULAR,
        SnapshotState.OK,
        AT,
        request.description,
        disks=tuple(SnapshotDisk(each.disk_id, each.parent_id) for each in leaves),
        memory=_memory(request) if request.has_memory else None,
        spec=vm.spec,
    )
    where = (Act.TAKE, vm.spec.vm_id, request.snapshot_id)
    return snapshots.apply(vm, Change(*where, leaves, snapshot=snapshot))


def delete(vm: Vm, request: Any) -> Vm:
    """Return a VM without a snapshot."""
    known = snapshots.get(vm, request.snapshot_id)
    for each in known.disks:
        top = snapshots.above(vm, known, each.disk_id)
        assert top is not None
        leaf = Leaf(each.disk_id, top, each.volume_id)
        where = (Act.FOLD, vm.spec.vm_id, known.snapshot_id)
        vm = snapshots.apply(vm, Change(*where, (leaf,)))
    return snapshots.apply(
        vm, Change(Act.DROP, vm.spec.vm_id, SnapshotId(request.snapshot_id))
    )


def preview(vm: Vm, request: Any) -> Vm:
    """Return a VM that looks at a snapshot."""
    snapshots.check_settled(vm)
    known = snapshots.get(vm, request.snapshot_id)
    leaves = tuple(
        Leaf(each.disk_id, _new(known.snapshot_id, "preview"), each.volume_id)
        for each in known.disks
    )
    spec = snapshots.as_of(vm, known, {e.disk_id: e.volume_id for e in leaves})
    where = (Act.PREVIEW, vm.spec.vm_id, known.snapshot_id)
    return snapshots.apply(vm, Change(*where, leaves, spec=spec))


def commit(vm: Vm, request: Any) -> Vm:
    """Return a VM that stays with what it looks at."""
    return _left(vm, Act.COMMIT)


def undo(vm: Vm, request: Any) -> Vm:
    """Return a VM that goes on with what it was."""
    return _left(vm, Act.UNDO)


def _left(vm: Vm, act: Act) -> Vm:
    if vm.preview is None:
        return vm
    return snapshots.apply(vm, Change(act, vm.spec.vm_id, vm.preview.snapshot_id))


def _memory(request: Any) -> VmMemory:
    disk_id = DiskId(_new(request.snapshot_id, "memory"))
    return VmMemory(StorageDomainId("sd"), disk_id, is_saved=True)


def _new(*parts: str) -> VolumeId:
    return VolumeId(str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(parts))))


def _leaf(disk: Any) -> VolumeId:
    return disk.volume_id or _new(disk.disk_id)


Deed = Callable[[Vm, Any], Vm]
DEEDS: Final[dict[str, Deed]] = {
    "vm_snapshot_create": create,
    "vm_snapshot_delete": delete,
    "vm_snapshot_preview": preview,
    "vm_snapshot_commit": commit,
    "vm_snapshot_undo": undo,
}
