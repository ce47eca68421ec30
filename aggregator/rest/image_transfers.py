"""Show transfers of disks, and begin and end them, as oVirt's image transfers.

The data go to the node itself: its address is both the transfer's and the proxy's.
Who may not edit disks does not see a transfer, whose address lets anybody in.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from aggregator import passage
from aggregator.control.transfers import TransferNotFound
from aggregator.federation.view import View
from aggregator.rest import replies, select
from aggregator.rest.body import BadValue, Body, Incomplete
from aggregator.rest.call import Act, Call, Collection, NoSuchObject, Reply, Write
from aggregator.rest.new_disk import FORMATS
from aggregator.rest.new_vm import random_id
from aggregator.rest.resource import Context, Entity, Field, Reference, Resource
from aggregator.rest.search import Query, SearchField
from aggregator.services import Services
from node import wire
from node.model import storage_requests as bodies
from node.model import transfer_verbs as verbs
from node.model.ids import DiskId, SnapshotId, TransferId
from node.model.storage import (
    DiskFormat,
    TimeoutPolicy,
    Transfer,
    TransferDirection,
    TransferPhase,
)
from node.model.verb import Verb
from node.model.verbs import ActionGroup, Object
from node.model.vm import Vm

PHASES: Final[Mapping[TransferPhase, str]] = {
    **{phase: phase.value for phase in TransferPhase},
    TransferPhase.CANCELLED: "cancelled_user",
}
_FORMAT_NAMES: Final = {disk_format: name for name, disk_format in FORMATS.items()}
_OPEN: Final = frozenset(
    {
        TransferPhase.TRANSFERRING,
        TransferPhase.PAUSED_USER,
        TransferPhase.PAUSED_SYSTEM,
        TransferPhase.FINALIZING_SUCCESS,
        TransferPhase.FINALIZING_FAILURE,
    }
)
_INACTIVITY_S: Final = 60
T = TypeVar("T")


def _url(context: Context, row: Transfer) -> str | None:
    return row.url if row.phase in _OPEN else None


def _proxy_url(context: Context, row: Transfer) -> str | None:
    path = passage.path(row) if row.phase in _OPEN else ""
    return f"{context.origin}{path}" if path else None


RESOURCE: Final[Resource[Transfer]] = Resource(
    "image_transfer",
    "image_transfers",
    lambda row: row.transfer_id,
    (
        Field("phase", lambda context, row: PHASES[row.phase]),
        Field("direction", lambda context, row: row.direction.value),
        Field("format", lambda context, row: _FORMAT_NAMES[row.disk_format]),
        Field("inactivity_timeout", lambda context, row: int(row.inactivity_s)),
        Field("timeout_policy", lambda context, row: row.timeout_policy.value),
        Field("active", lambda context, row: row.is_active),
        Field("transferred", lambda context, row: row.transferred_bytes),
        Field("shallow", lambda context, row: False),
        Field("transfer_url", _url),
        Field("proxy_url", _proxy_url),
    ),
    (
        Reference("disk", lambda context, row: f"disks/{row.disk_id}"),
        Reference(
            "host",
            lambda context, row: f"hosts/{row.node_id}" if row.node_id else None,
        ),
    ),
    actions=("cancel", "extend", "finalize", "pause", "resume"),
)


def request(body: Body, view: View) -> bodies.CreateTransfer:
    """Return what a client wants to begin; Incomplete or BadValue. Pure but for ids.

    An upload that does not end well takes its disk along, as in oVirt.
    """
    disk_id = body.child("disk").object_id() or body.child("image").object_id()
    snapshot_id = None
    if (kept := body.child("snapshot").object_id()) is not None:
        disk_id, snapshot_id = _disk_snapshot(view, disk_id, kept)
    if disk_id is None:
        raise Incomplete("ImageTransfer [disk.id] required for add")
    inactivity_s = body.integer("inactivity_timeout")
    way = _choice(body, "direction", TransferDirection, TransferDirection.UPLOAD)
    return bodies.CreateTransfer(
        TransferId(_uuid(body.object_id() or random_id(), "id")),
        DiskId(_uuid(disk_id, "disk.id")),
        way,
        _format(body),
        snapshot_id,
        float(_INACTIVITY_S if inactivity_s is None else inactivity_s),
        bool(body.boolean("shallow")),
        timeout_policy=_choice(
            body, "timeout_policy", TimeoutPolicy, TimeoutPolicy.LEGACY
        ),
        removes_disk=way is TransferDirection.UPLOAD,
    )


def _disk_snapshot(
    view: View, disk_id: str | None, kept: str
) -> tuple[str, SnapshotId]:
    """Return the disk and the snapshot that keeps a state of it.

    `kept` is oVirt's disk snapshot, the volume; or a VM's snapshot, with a disk.
    """
    for row in view.vms.values():
        if not row.vm_document:
            continue
        for snapshot in wire.decode(Vm, row.vm_document, strict=False).snapshots:
            for each in snapshot.disks:
                is_whole = (snapshot.snapshot_id, each.disk_id) == (kept, disk_id)
                if is_whole or (
                    each.volume_id == kept and disk_id in (None, each.disk_id)
                ):
                    return each.disk_id, snapshot.snapshot_id
    raise NoSuchObject(f"there is no disk snapshot {kept}", snapshot_id=kept)


def _format(body: Body) -> DiskFormat:
    name = body.string("format") or "raw"
    if name not in FORMATS:
        raise BadValue(f"there is no format {name!r}", field="format")
    return FORMATS[name]


def _choice(body: Body, name: str, kind: Callable[[str], T], default: T) -> T:
    text = body.string(name)
    if text is None:
        return default
    try:
        return kind(text)
    except ValueError as error:
        raise BadValue(f"there is no {name} {text!r}", field=name) from error


def _uuid(text: str, field: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise BadValue(f"{text!r} is no UUID", field=field) from error


def _find(services: Services, context: Context, object_id: str) -> Transfer | None:
    try:
        return services.transfers.show(TransferId(object_id))
    except TransferNotFound:
        return None


_FIELDS: Final[Mapping[str, SearchField[Transfer]]] = {
    "id": SearchField(lambda row: row.transfer_id)
}


def _select(call: Call, query: Query, maximum: int | None) -> Iterable[Transfer]:
    return select.rows(call.services.transfers.list(), query, maximum, _FIELDS)


def _add(call: Call, path: tuple[str, ...]) -> Reply:
    made = call.services.transfers.create(request(call.body, call.context.view))
    where = f"imagetransfers/{made.transfer_id}"
    location = f"{call.context.base}/{where}"
    return Reply(Entity(RESOURCE, made, where), 201, {"Location": location})


def _act(name: str, verb: Verb) -> Act[Transfer]:
    def run(call: Call, row: Transfer) -> Reply:
        asked = bodies.ActOnTransfer(correlation_id=call.origin.correlation_id)
        if verb is verbs.TRANSFER_FINALIZE:
            call.services.transfers.act(
                verb, row.transfer_id, bodies.FinalizeTransfer()
            )
        else:
            call.services.transfers.act(verb, row.transfer_id, asked)
        return Reply(replies.action(call, None))

    return Act(name, ActionGroup.EDIT_DISK, run)


COLLECTION: Final = Collection(
    "imagetransfers",
    RESOURCE,
    Object.FLEET,
    _find,
    _select,
    acts=(
        _act("cancel", verbs.TRANSFER_CANCEL),
        _act("extend", verbs.TRANSFER_EXTEND),
        _act("finalize", verbs.TRANSFER_FINALIZE),
        _act("pause", verbs.TRANSFER_PAUSE),
        _act("resume", verbs.TRANSFER_RESUME),
    ),
    add=Write(ActionGroup.EDIT_DISK, _add),
    is_searchable=False,
    read=ActionGroup.EDIT_DISK,
)
