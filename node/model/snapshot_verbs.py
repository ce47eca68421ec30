"""The verbs of VMs' snapshots, and of what is kept of a VM's memory.

All but the list are jobs of the VM. The pool's manager does them, as it writes the
definition; a VM that runs has to run there.
"""

from node.model import storage_requests as bodies
from node.model.job import Job
from node.model.verb import ActionGroup, Object, Verb

_SNAPSHOTS = "/v1/vms/{vm_id}/snapshots"


def _job(name: str, path: str, meaning: str, request: type) -> Verb:
    return Verb(
        *(name, "POST", f"{_SNAPSHOTS}{path}", meaning),
        *(ActionGroup.MANIPULATE_SNAPSHOTS, Object.VM, Job, request),
        status=202,
        is_slow=True,
    )


VM_SNAPSHOT_LIST = Verb(
    "vm_snapshot_list",
    "GET",
    _SNAPSHOTS,
    "List the snapshots of a VM, the older first.",
    ActionGroup.READ,
    Object.VM,
    bodies.SnapshotList,
)
VM_SNAPSHOT_CREATE = _job(
    "vm_snapshot_create",
    "",
    "Keep all disks of a VM, and its memory if asked, as they are at one moment.",
    bodies.CreateSnapshot,
)
VM_SNAPSHOT_DELETE = _job(
    "vm_snapshot_delete",
    "/delete",
    "Merge a snapshot into what came after it; the VM keeps its data.",
    bodies.DeleteSnapshot,
)
VM_SNAPSHOT_PREVIEW = _job(
    "vm_snapshot_preview",
    "/preview",
    "Let a VM that is down go back to a snapshot, to look at it.",
    bodies.PreviewSnapshot,
)
VM_SNAPSHOT_COMMIT = _job(
    "vm_snapshot_commit",
    "/commit",
    "Stay with the snapshot that is previewed; what came after it is lost.",
    bodies.ActOnSnapshot,
)
VM_SNAPSHOT_UNDO = _job(
    "vm_snapshot_undo",
    "/undo",
    "End a preview: the VM is as it was before; what it did meanwhile is lost.",
    bodies.ActOnSnapshot,
)
VM_SUSPEND = Verb(
    "vm_suspend",
    "POST",
    "/v1/vms/{vm_id}/suspend",
    "End a running VM and keep its memory: the next start goes on there.",
    ActionGroup.STOP_VM,
    Object.VM,
    Job,
    bodies.SuspendVm,
    status=202,
    is_slow=True,
)

VERBS: tuple[Verb, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Verb)
)
