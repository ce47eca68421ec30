"""Show the snapshots of VMs, and do to them what oVirt's clients ask.

oVirt counts the VM as it is now as a snapshot, its first; while another one is looked
at, what the VM was before is one as well, its last.
"""

import dataclasses
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aggregator.control import cloning
from aggregator.control.orders import Order
from aggregator.federation.view import View
from aggregator.rest import devices, disks, element, fleet, replies
from aggregator.rest.body import BadValue, Body, Incomplete
from aggregator.rest.call import PARAMETER, Act, Call, Deed, NoSuchObject, Reply
from aggregator.rest.devices import VmNic, VmRow
from aggregator.rest.new_vm import random_id
from aggregator.rest.resource import (
    Below,
    Context,
    Entity,
    Field,
    Reference,
    Resource,
    empty,
)
from node.errors import Conflict
from node.model import snapshot_verbs as verbs
from node.model.ids import DiskId, SnapshotId, VmId
from node.model.job import JobState
from node.model.storage import DiskFormat, SnapshotKind, SnapshotState
from node.model.storage_requests import (
    ActOnSnapshot,
    CreateSnapshot,
    DeleteSnapshot,
    PreviewSnapshot,
)
from node.model.verb import ActionGroup, Verb
from node.model.vm import Disk, Snapshot, SnapshotDisk, VmSpec, VmState

_REL: Final = "snapshots"
_GROUP: Final = ActionGroup.MANIPULATE_SNAPSHOTS
# A guest is asked to freeze its file systems, which takes some seconds.
_TAKE_S: Final = 20.0

STATUS: Final[Mapping[SnapshotState, str]] = {
    SnapshotState.OK: "ok",
    SnapshotState.LOCKED: "locked",
    SnapshotState.IN_PREVIEW: "in_preview",
    # oVirt has no word for it; like one that is locked it cannot be gone back to.
    SnapshotState.BROKEN: "locked",
}


class VmMustBeDown(Conflict):
    code = "vm_must_be_down"
    remedy = "Stop it first."


@dataclass(frozen=True, slots=True)
class _Row:
    vm: VmRow
    snapshot_id: str
    description: str
    kind: SnapshotKind
    status: str
    created_at: str
    snapshot: Snapshot | None = None  # None: what the VM is, or was


@dataclass(frozen=True, slots=True)
class _KeptDisk:
    """A disk as a snapshot has it."""

    row: _Row
    kept: SnapshotDisk
    disk: Disk | None  # None: of a VM that was told of without it


# representation


def of_vm(context: Context, vm: VmRow) -> Iterator[_Row]:
    """Yield the VM as it is now, its snapshots from the oldest on, what it was."""
    vm_id, since = vm.vm.vm_id, vm.vm.created_at
    active = fleet.derived_id(vm_id, "active")
    yield _Row(vm, active, "Active VM", SnapshotKind.ACTIVE, "ok", since)
    if vm.definition is None:
        return
    for each in vm.definition.snapshots:
        yield _row(vm, each)
    if vm.definition.preview is not None:
        before = fleet.derived_id(vm_id, "before the preview")
        text, kind = "Active VM before the preview", SnapshotKind.PREVIEW
        yield _Row(vm, before, text, kind, "locked", since)


def _row(vm: VmRow, snapshot: Snapshot) -> _Row:
    return _Row(
        vm,
        snapshot.snapshot_id,
        snapshot.description,
        snapshot.kind,
        STATUS[snapshot.state],
        snapshot.created_at,
        snapshot,
    )


def _disks(context: Context, row: _Row) -> Iterator[_KeptDisk]:
    if row.snapshot is None:
        return
    spec = row.snapshot.spec
    known = {each.disk_id: each for each in spec.disks} if spec is not None else {}
    for each in row.snapshot.disks:
        yield _KeptDisk(row, each, known.get(each.disk_id))


def _nics(context: Context, row: _Row) -> Iterable[VmNic]:
    spec = row.snapshot.spec if row.snapshot is not None else None
    found = spec.nics if spec is not None else ()
    return (VmNic(row.vm.vm.vm_id, nic) for nic in found)


def _has_memory(context: Context, row: _Row) -> bool:
    memory = row.snapshot.memory if row.snapshot is not None else None
    return memory is not None and memory.is_saved


def _format(context: Context, row: _KeptDisk) -> str:
    told = row.disk.disk_format if row.disk is not None else None
    return disks.FORMAT[told or DiskFormat.QCOW2]


def _name(context: Context, row: _KeptDisk) -> str:
    return row.disk.name if row.disk is not None else row.kept.disk_id


_DISK: Final[Resource[_KeptDisk]] = Resource(
    "disk",
    "disks",
    lambda row: row.kept.disk_id,
    (
        Field("name", _name),
        Field("alias", _name),
        Field("image_id", lambda context, row: row.kept.volume_id),
        Field("format", _format),
        Field(
            "provisioned_size",
            lambda context, row: row.disk.size_bytes if row.disk is not None else None,
        ),
        Field("status", lambda context, row: "ok"),
        Field("storage_type", lambda context, row: "image"),
    ),
    (
        Reference(
            "snapshot",
            lambda context, row: (
                f"vms/{row.row.vm.vm.vm_id}/{_REL}/{row.row.snapshot_id}"
            ),
        ),
    ),
)

RESOURCE: Final[Resource[_Row]] = Resource(
    "snapshot",
    _REL,
    lambda row: row.snapshot_id,
    (
        Field("description", lambda context, row: row.description),
        Field("snapshot_type", lambda context, row: row.kind.value),
        Field("snapshot_status", lambda context, row: row.status),
        Field("persist_memorystate", _has_memory),
        Field("date", lambda context, row: element.moment(row.created_at)),
    ),
    (Reference("vm", lambda context, row: f"vms/{row.vm.vm.vm_id}"),),
    (
        Below("disks", _DISK, _disks),
        Below("nics", devices.NIC, _nics),
        empty("cdroms", "cdroms", "cdrom"),
    ),
    ("restore",),
)


# doing


def clone(call: Call) -> tuple[VmSpec, Order] | None:
    """Order a VM that is what another was at a snapshot; None: that is not asked."""
    asked = next(call.body.all("snapshots/snapshot"), None)
    snapshot_id = asked.object_id() if asked is not None else None
    if snapshot_id is None:
        return None
    name = (call.body.string("name") or "").strip()
    if not name:
        raise Incomplete("Vm [name] required for add")
    source = _owner(call.context.view, SnapshotId(snapshot_id))
    new_id = VmId(random_id())
    spec, copied = cloning.of_snapshot(
        call.context.view, source, SnapshotId(snapshot_id), new_id, name
    )
    description = call.body.string("description")
    if description is not None:
        spec = dataclasses.replace(spec, description=description)
    return spec, call.services.orders.clone_vm(spec, call.origin, copied)


def _owner(view: View, snapshot_id: SnapshotId) -> VmId:
    """Return the VM that a snapshot is of; NoSuchObject."""
    needle = snapshot_id.encode()
    for vm in view.vms.values():
        if needle in vm.vm_document and snapshot_id in _known(view, vm.vm_id):
            return vm.vm_id
    text = f"there is no snapshot {snapshot_id[:80]!r}"
    raise NoSuchObject(text, snapshot_id=snapshot_id[:80])


def _add(call: Call, row: VmRow, ids: tuple[str, ...]) -> Reply:
    """Take a snapshot, and answer when the VM names it."""
    if call.body.string("description") is None:
        raise Incomplete("Snapshot [description] required for add")
    vm_id, snapshot_id = row.vm.vm_id, SnapshotId(random_id())
    wanted = _wanted(call.body, "disk_attachments/disk_attachment", "disk")
    has_memory = call.body.boolean("persist_memorystate")
    if has_memory is None:
        has_memory = wanted is None and _may_keep_memory(row)
    request = CreateSnapshot(
        snapshot_id, call.body.string("description") or "", has_memory, wanted
    )
    order = _order(call, verbs.VM_SNAPSHOT_CREATE, row, request)
    replies.wait(call, order, _TAKE_S, is_needed=True)
    view = replies.see(call, lambda view: snapshot_id in _known(view, vm_id))
    snapshot = _known(view, vm_id).get(snapshot_id)
    shown = _coming(row, request, order)
    if snapshot is not None:
        shown = _row(row, snapshot)
    path = f"vms/{vm_id}/{_REL}/{snapshot_id}"
    location = {"Location": f"{call.context.base}/{path}"}
    return Reply(Entity(RESOURCE, shown, path), 201, location)


def _remove(call: Call, row: VmRow, ids: tuple[str, ...]) -> Reply:
    request = DeleteSnapshot(_find(row, ids[0]).snapshot_id)
    order = _order(call, verbs.VM_SNAPSHOT_DELETE, row, request)
    order = replies.wait(call, order)
    if order.state is JobState.DONE:
        gone = (row.vm.vm_id, request.snapshot_id)
        replies.see(call, lambda view: gone[1] not in _known(view, gone[0]))
    return Reply(replies.action(call, order))


def _restore(call: Call, row: VmRow, ids: tuple[str, ...]) -> Reply:
    _check_down(row, "restore Snapshot")
    request = PreviewSnapshot(
        _find(row, ids[0]).snapshot_id, bool(call.body.boolean("restore_memory"))
    )
    orders, vm_id = call.services.orders, row.vm.vm_id
    order = orders.storage.restore(vm_id, request, call.origin)
    return _settled(call, row, order)


def _preview(call: Call, row: VmRow) -> Reply:
    wanted = call.body.child("snapshot").object_id()
    if not wanted:
        raise Incomplete("Action [snapshot.id] required for previewSnapshot")
    _check_down(row, "preview Snapshot")
    request = PreviewSnapshot(
        _find(row, wanted).snapshot_id,
        bool(call.body.boolean("restore_memory")),
        _wanted(call.body, "disks/disk"),
    )
    order = _order(call, verbs.VM_SNAPSHOT_PREVIEW, row, request)
    return _settled(call, row, order)


def _commit(call: Call, row: VmRow) -> Reply:
    order = _order(call, verbs.VM_SNAPSHOT_COMMIT, row, ActOnSnapshot())
    return _settled(call, row, order)


def _undo(call: Call, row: VmRow) -> Reply:
    order = _order(call, verbs.VM_SNAPSHOT_UNDO, row, ActOnSnapshot())
    return _settled(call, row, order)


def _settled(call: Call, row: VmRow, order: Order) -> Reply:
    """Answer an action when the VM shows it, or while it is under way."""
    order = replies.wait(call, order)
    if order.state is JobState.DONE:
        before = row.vm.generation
        replies.see(call, lambda view: _generation(view, row.vm.vm_id) != before)
    return Reply(replies.action(call, order))


def _order(call: Call, verb: Verb, row: VmRow, request: object) -> Order:
    return replies.storage_order(call, verb, row.vm.vm_id, request)


def _coming(row: VmRow, request: CreateSnapshot, order: Order) -> _Row:
    """Return a snapshot that is ordered, and not told of yet."""
    kind, snapshot_id = SnapshotKind.REGULAR, request.snapshot_id
    at = order.created_at
    return _Row(row, snapshot_id, request.description, kind, "locked", at)


def _check_down(row: VmRow, what: str) -> None:
    if row.vm.state is not VmState.DOWN:
        name = row.vm.name
        text = f"Cannot {what}. The VM {name} must be down."
        raise VmMustBeDown(text, name=name)


def _find(row: VmRow, snapshot_id: str) -> Snapshot:
    """Return a snapshot that is kept; NoSuchObject, also of the active one."""
    for each in row.definition.snapshots if row.definition is not None else ():
        if each.snapshot_id == snapshot_id:
            return each
    text = f"VM {row.vm.name} has no snapshot {snapshot_id}"
    raise NoSuchObject(text, snapshot_id=snapshot_id)


def _wanted(body: Body, path: str, below: str = "") -> tuple[DiskId, ...] | None:
    """Return the disks that are named; None: all that there are."""
    found = []
    for each in body.all(path):
        named = (each.child(below) if below else each).object_id()
        named = named or each.object_id()
        if named is None:
            raise Incomplete(f"{path} needs an id")
        try:
            found.append(DiskId(str(uuid.UUID(named))))
        except ValueError as error:
            raise BadValue(f"{named[:80]!r} is no UUID", field=path) from error
    return tuple(found) or None


def _known(view: View, vm_id: VmId) -> Mapping[SnapshotId, Snapshot]:
    vm = view.vms.get(vm_id)
    definition = devices.row_of(vm).definition if vm is not None else None
    found = definition.snapshots if definition is not None else ()
    return {each.snapshot_id: each for each in found}


def _may_keep_memory(row: VmRow) -> bool:
    """Tell whether all that a guest writes to would be kept; oVirt's default is yes."""
    spec = row.definition.spec if row.definition is not None else None
    return spec is not None and not any(each.is_shared for each in spec.disks)


def _generation(view: View, vm_id: VmId) -> int:
    vm = view.vms.get(vm_id)
    return vm.generation if vm is not None else 0


DEEDS: Final[tuple[Deed[VmRow], ...]] = (
    Deed("POST", (_REL,), _GROUP, _add),
    Deed("DELETE", (_REL, PARAMETER), _GROUP, _remove),
    Deed("POST", (_REL, PARAMETER, "restore"), _GROUP, _restore),
)
ACTS: Final[tuple[Act[Any], ...]] = (
    Act("previewsnapshot", _GROUP, _preview),
    Act("commitsnapshot", _GROUP, _commit),
    Act("undosnapshot", _GROUP, _undo),
)
