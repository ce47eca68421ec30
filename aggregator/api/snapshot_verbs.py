"""The verbs of VMs' snapshots of the aggregator's own API.

What changes something is an order for the manager of the VM's pool; ids that the
caller chooses make it one, however often it is asked.
"""

from aggregator.api.model import CloneSnapshot, OrderLine
from aggregator.api.table import USERS, act
from node.model import storage_requests as bodies
from node.model.verbs import ActionGroup, Object, Verb

_SNAPSHOTS = "/v1/vms/{vm_id}/snapshots"
_GROUP = ActionGroup.MANIPULATE_SNAPSHOTS


def _order(name: str, path: str, meaning: str, request: type) -> Verb:
    where = f"{_SNAPSHOTS}{path}"
    return act(name, where, meaning, _GROUP, Object.VM, request, OrderLine, 202)


VM_SNAPSHOT_LIST = Verb(
    "vm_snapshot_list",
    "GET",
    _SNAPSHOTS,
    "List the snapshots of a VM, the older first.",
    ActionGroup.READ,
    Object.VM,
    bodies.SnapshotList,
    callers=USERS,
)
VM_SNAPSHOT_CREATE = _order(
    "vm_snapshot_create",
    "",
    "Keep all disks of a VM, and its memory if asked, as they are at one moment.",
    bodies.CreateSnapshot,
)
VM_SNAPSHOT_DELETE = _order(
    "vm_snapshot_delete",
    "/delete",
    "Merge a snapshot into what came after it; the VM keeps its data.",
    bodies.DeleteSnapshot,
)
VM_SNAPSHOT_PREVIEW = _order(
    "vm_snapshot_preview",
    "/preview",
    "Let a VM that is down go back to a snapshot, to look at it.",
    bodies.PreviewSnapshot,
)
VM_SNAPSHOT_COMMIT = _order(
    "vm_snapshot_commit",
    "/commit",
    "Stay with the snapshot that is previewed; what came after it is lost.",
    bodies.ActOnSnapshot,
)
VM_SNAPSHOT_UNDO = _order(
    "vm_snapshot_undo",
    "/undo",
    "End a preview: the VM is as it was before; what it did meanwhile is lost.",
    bodies.ActOnSnapshot,
)
VM_SNAPSHOT_RESTORE = _order(
    "vm_snapshot_restore",
    "/restore",
    "Let a VM that is down go back to a snapshot for good.",
    bodies.PreviewSnapshot,
)

VM_SNAPSHOT_CLONE = act(
    "vm_snapshot_clone",
    f"{_SNAPSHOTS}/clone",
    "Make a new VM with full copies of what a VM was at a snapshot.",
    ActionGroup.CREATE_VM,
    Object.VM,
    CloneSnapshot,
    OrderLine,
    202,
)
VERBS: tuple[Verb, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Verb)
)
