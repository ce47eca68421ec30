"""List all that an aggregator may ask of a node: a closed set.

Pure. An action carries the ids that make it safe to ask twice: the node makes
one VM of one VM id and one job of one order id.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from node import wire
from node.model import (
    export_verbs,
    property_verbs,
    register_verbs,
    snapshot_verbs,
    storage_verbs,
    template_verbs,
)
from node.model.feed import Kind
from node.model.ids import CorrelationId, DiskId, JobId, NodeId, PoolId, VmId
from node.model.requests import StopManner
from node.model.verb import Object, Verb
from node.model.vm import Disk, Vm, VmSpec
from node.wire import Json


@dataclass(frozen=True, slots=True)
class _Action:
    order_id: JobId  # becomes the id of the node's job
    node_id: NodeId
    vm_id: VmId
    correlation_id: CorrelationId


@dataclass(frozen=True, slots=True)
class CreateVm(_Action):
    spec: VmSpec


@dataclass(frozen=True, slots=True)
class StartVm(_Action):
    is_paused: bool = False
    discard_memory: bool = False
    vm: Vm | None = None  # of a VM on a pool: its node may not know it yet


@dataclass(frozen=True, slots=True)
class StopVm(_Action):
    manner: StopManner = StopManner.GRACEFUL
    deadline_s: float = 60.0


@dataclass(frozen=True, slots=True)
class PauseVm(_Action):
    pass


@dataclass(frozen=True, slots=True)
class ResumeVm(_Action):
    pass


@dataclass(frozen=True, slots=True)
class ResetVm(_Action):
    pass


@dataclass(frozen=True, slots=True)
class DeleteVm(_Action):
    may_leave_disks: bool = False  # those on storage domains that are not active


@dataclass(frozen=True, slots=True)
class AttachDisk(_Action):
    disk: Disk


@dataclass(frozen=True, slots=True)
class DetachDisk(_Action):
    disk_id: DiskId
    lease_version: int | None = None  # of the run that has let it go


@dataclass(frozen=True, slots=True)
class ResizeDisk(_Action):
    """Let a disk grow under the guest that runs with it."""

    disk_id: DiskId
    size_bytes: int
    lease_version: int | None = None  # of the run under which it has grown


@dataclass(frozen=True, slots=True)
class StorageAction:
    """One of the verbs that change storage, or snapshots, which lie there."""

    order_id: JobId  # becomes the id of the node's job
    node_id: NodeId
    object_id: str
    correlation_id: CorrelationId
    verb: str  # of STORAGE_VERBS
    request: Any  # the verb's body
    pool_id: PoolId | None = None  # only the manager of this pool may do it
    # Who moves the data was chosen here, and no person named it: see `data_nodes`.
    is_data_node_chosen: bool = False


VmAction = (
    CreateVm
    | StartVm
    | StopVm
    | PauseVm
    | ResumeVm
    | ResetVm
    | DeleteVm
    | AttachDisk
    | DetachDisk
    | ResizeDisk
)
Action = VmAction | StorageAction

# by the name of the node's verb
ACTIONS: Final[Mapping[str, type[VmAction]]] = {
    "vm_create": CreateVm,
    "vm_start": StartVm,
    "vm_stop": StopVm,
    "vm_pause": PauseVm,
    "vm_resume": ResumeVm,
    "vm_reset": ResetVm,
    "vm_delete": DeleteVm,
    "vm_attach_disk": AttachDisk,
    "vm_detach_disk": DetachDisk,
    "vm_resize_disk": ResizeDisk,
}
STORAGE_VERBS: Final[Mapping[str, Verb]] = {
    verb.name: verb
    for verb in (
        *storage_verbs.VERBS,
        *export_verbs.VERBS,
        *property_verbs.VERBS,
        *register_verbs.VERBS,
        *snapshot_verbs.VERBS,
        *template_verbs.VERBS,
    )
    if verb.request is not None
}
_VERBS: Final = {kind: verb for verb, kind in ACTIONS.items()}
_KINDS: Final = {
    "disk": Kind.DISK,
    "pool": Kind.POOL,
    "spm": Kind.POOL,
    "storage": Kind.STORAGE_DOMAIN,
    "template": Kind.TEMPLATE,
}
# What becomes part of the request when it is sent.
_IDS: Final = ("job_id", "correlation_id")


def verb_of(action: Action) -> str:
    """Return the name of the node's verb that does it."""
    return action.verb if isinstance(action, StorageAction) else _VERBS[type(action)]


def vm_of(action: Action) -> VmId | None:
    """Return the VM that an action is about; None if it is about storage."""
    if not isinstance(action, StorageAction):
        return action.vm_id
    return VmId(action.object_id) if kind_of(action.verb) is Kind.VM else None


def kind_of(verb: str) -> Kind:
    """Return what kind of thing a verb is about."""
    return _KINDS.get(verb.partition("_")[0], Kind.VM)


def object_of(action: Action) -> str:
    """Return the id of what an action is about."""
    return action.object_id if isinstance(action, StorageAction) else action.vm_id


def request_of(action: StorageAction) -> Any:
    """Return the body of a verb with the ids that make it one job."""
    names = {each.name for each in fields(action.request)}
    ids = {"job_id": action.order_id, "correlation_id": action.correlation_id}
    return replace(
        action.request, **{name: ids[name] for name in _IDS if name in names}
    )


def path_of(action: StorageAction) -> dict[str, Any]:
    """Return what the path of a verb names."""
    verb = STORAGE_VERBS[action.verb]
    if verb.object is Object.NODE:
        return {}
    return {f"{kind_of(action.verb)}_id": action.object_id}


def to_body(action: Action) -> Json:
    """Return an action as it is stored."""
    return wire.to_json(action)


def from_body(verb: str, body: Json) -> Action:
    """Return the action that was stored; KeyError if no such verb is known."""
    if verb in ACTIONS:
        return wire.from_json(ACTIONS[verb], body, strict=False)
    kind = STORAGE_VERBS[verb].request
    assert kind is not None, "a verb that changes something has a body"
    pool_id = body.get("pool_id")
    return StorageAction(
        JobId(body["order_id"]),
        NodeId(body["node_id"]),
        body["object_id"],
        CorrelationId(body["correlation_id"]),
        verb,
        wire.from_json(kind, body["request"], strict=False),
        PoolId(pool_id) if pool_id else None,
        body.get("is_data_node_chosen", False),
    )
