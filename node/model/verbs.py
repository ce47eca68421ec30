"""List every verb of a node's API, once; `storage_verbs` and others have more.

The routes, the client, the permissions and the OpenAPI document are made from it.
"""

from node.model import (
    export_verbs,
    fleet,
    hook_verbs,
    host,
    job,
    property_verbs,
    register_verbs,
    requests,
    snapshot_verbs,
    stats,
    storage_verbs,
    template_verbs,
    transfer_verbs,
    vm,
)
from node.model.verb import ActionGroup, Caller, Object, Query, Verb

__all__ = ["VERBS", "ActionGroup", "Caller", "Object", "Query", "Verb"]

LOCAL_ONLY = frozenset({Caller.LOCAL})
AGGREGATOR_ONLY = frozenset({Caller.AGGREGATOR})
ANYONE = frozenset({Caller.LOCAL, Caller.ANYONE})

_SINCE = Query("since", int, "only what is newer than this revision or number")
_WAIT = Query("wait_s", float, "wait up to this long (20 at most) for something new")

STATUS = Verb(
    "status",
    "GET",
    "/v1/status",
    "Say how this node is, in a sentence and in figures.",
    ActionGroup.READ,
    Object.NODE,
    host.NodeStatus,
)
NODE = Verb(
    "node",
    "GET",
    "/v1/node",
    "Describe this node: capacity, versions, problems.",
    ActionGroup.READ,
    Object.NODE,
    host.NodeFacts,
)
DEVICES = Verb(
    "devices",
    "GET",
    "/v1/devices",
    "List network cards, disks and PCI devices.",
    ActionGroup.READ,
    Object.NODE,
    requests.DeviceList,
)
IMAGES = Verb(
    "images",
    "GET",
    "/v1/images",
    "List the base images that disks can start from.",
    ActionGroup.READ,
    Object.NODE,
    requests.ImageList,
)
STATS = Verb(
    "stats",
    "GET",
    "/v1/stats",
    "Report the newest figures of the node and its VMs.",
    ActionGroup.READ,
    Object.NODE,
    stats.Stats,
)
CHANGES = Verb(
    "changes",
    "GET",
    "/v1/changes",
    "List the documents that changed since a revision.",
    ActionGroup.READ,
    Object.NODE,
    requests.Changes,
    query=(_SINCE, _WAIT),
)
EVENTS = Verb(
    "events",
    "GET",
    "/v1/events",
    "List what happened on this node since its boot.",
    ActionGroup.READ,
    Object.NODE,
    requests.EventList,
    query=(_SINCE, _WAIT),
)
VM_LIST = Verb(
    "vm_list",
    "GET",
    "/v1/vms",
    "List the VMs that are defined here.",
    ActionGroup.READ,
    Object.VM,
    requests.VmList,
)
VM_SHOW = Verb(
    "vm_show",
    "GET",
    "/v1/vms/{vm_id}",
    "Describe a VM: its definition and its run.",
    ActionGroup.READ,
    Object.VM,
    vm.VmEntry,
)
VM_CREATE = Verb(
    "vm_create",
    "POST",
    "/v1/vms",
    "Define a VM and make its disks; asked twice with one id, it is one VM.",
    ActionGroup.CREATE_VM,
    Object.NODE,
    vm.VmEntry,
    requests.CreateVm,
    status=201,
    is_slow=True,
)
VM_DELETE = Verb(
    "vm_delete",
    "POST",
    "/v1/vms/{vm_id}/delete",
    "Delete a VM that is down, with its disks.",
    ActionGroup.DELETE_VM,
    Object.VM,
    job.Job,
    requests.DeleteVm,
    status=202,
)
VM_START = Verb(
    "vm_start",
    "POST",
    "/v1/vms/{vm_id}/start",
    "Start a VM; one that runs already is left as it is.",
    ActionGroup.RUN_VM,
    Object.VM,
    job.Job,
    requests.StartVm,
    status=202,
    is_slow=True,
)
VM_STOP = Verb(
    "vm_stop",
    "POST",
    "/v1/vms/{vm_id}/stop",
    "Shut a VM down: guest agent, then ACPI, then by force after the deadline.",
    ActionGroup.STOP_VM,
    Object.VM,
    job.Job,
    requests.StopVm,
    status=202,
)
VM_PAUSE = Verb(
    "vm_pause",
    "POST",
    "/v1/vms/{vm_id}/pause",
    "Pause a running VM.",
    ActionGroup.STOP_VM,
    Object.VM,
    job.Job,
    requests.ActOnVm,
    status=202,
)
VM_RESUME = Verb(
    "vm_resume",
    "POST",
    "/v1/vms/{vm_id}/resume",
    "Resume a paused VM.",
    ActionGroup.RUN_VM,
    Object.VM,
    job.Job,
    requests.ActOnVm,
    status=202,
)
VM_RESET = Verb(
    "vm_reset",
    "POST",
    "/v1/vms/{vm_id}/reset",
    "Reset a VM, as its reset button would.",
    ActionGroup.RESET_VM,
    Object.VM,
    job.Job,
    requests.ActOnVm,
    status=202,
)
VM_ATTACH_DISK = Verb(
    "vm_attach_disk",
    "POST",
    "/v1/vms/{vm_id}/attach-disk",
    "Give a VM a disk of its pool, at once if it runs here.",
    ActionGroup.ATTACH_DISK,
    Object.VM,
    job.Job,
    requests.AttachDisk,
    status=202,
)
VM_DETACH_DISK = Verb(
    "vm_detach_disk",
    "POST",
    "/v1/vms/{vm_id}/detach-disk",
    "Take a disk of a pool away from a VM; its data stay.",
    ActionGroup.ATTACH_DISK,
    Object.VM,
    job.Job,
    requests.DetachDisk,
    status=202,
)
VM_RESIZE_DISK = Verb(
    "vm_resize_disk",
    "POST",
    "/v1/vms/{vm_id}/resize-disk",
    "Let a disk of a pool grow under the guest that runs with it.",
    ActionGroup.EDIT_DISK,
    Object.VM,
    job.Job,
    requests.ResizeVmDisk,
    status=202,
)
VM_SCREENSHOT = Verb(
    "vm_screenshot",
    "GET",
    "/v1/vms/{vm_id}/screenshot",
    "Take a picture of a VM's screen.",
    ActionGroup.CONNECT_TO_VM,
    Object.VM,
    None,
    media_type="image/png",
    is_slow=True,
)
VM_SERIAL = Verb(
    "vm_serial",
    "GET",
    "/v1/vms/{vm_id}/serial",
    "Read the end of what a VM wrote on its serial line.",
    ActionGroup.CONNECT_TO_VM,
    Object.VM,
    None,
    query=(Query("tail_bytes", int, "how much of the end; 65536 unless told"),),
    media_type="text/plain",
)
JOB_LIST = Verb(
    "job_list",
    "GET",
    "/v1/jobs",
    "List the jobs that run and those that ended lately.",
    ActionGroup.READ,
    Object.NODE,
    requests.JobList,
)
JOB_SHOW = Verb(
    "job_show",
    "GET",
    "/v1/jobs/{job_id}",
    "Describe a job, waiting for its end if asked.",
    ActionGroup.READ,
    Object.NODE,
    job.Job,
    query=(_WAIT,),
)
JOB_CANCEL = Verb(
    "job_cancel",
    "POST",
    "/v1/jobs/{job_id}/cancel",
    "Ask a job to stop where it safely can.",
    ActionGroup.MANIPULATE_HOST,
    Object.NODE,
    job.Job,
    status=202,
)
OPENAPI = Verb(
    "openapi",
    "GET",
    "/v1/openapi.json",
    "Describe this API.",
    ActionGroup.READ,
    Object.NODE,
    dict,
)
ADMISSION_SHOW = Verb(
    "admission_show",
    "GET",
    "/v1/admission",
    "Show the request of a waiting node, or whom it belongs to.",
    ActionGroup.READ,
    Object.FLEET,
    fleet.AdmissionRequest,
    callers=ANYONE,
)
ADMIT = Verb(
    "admit",
    "PUT",
    "/v1/admission",
    "Make a waiting node a member; the first to ask is accepted.",
    ActionGroup.EDIT_FLEET,
    Object.FLEET,
    fleet.Membership,
    fleet.Admission,
    callers=ANYONE,
)
SEALED_SHOW = Verb(
    "sealed_show",
    "GET",
    "/v1/fleet/sealed",
    "Give out the sealed copy of the fleet's documents.",
    ActionGroup.READ,
    Object.FLEET,
    fleet.SealedFleet,
    callers=frozenset({Caller.LOCAL, Caller.AGGREGATOR, Caller.ANYONE}),
)
SEALED_PUT = Verb(
    "sealed_put",
    "PUT",
    "/v1/fleet/sealed",
    "Keep a newer sealed copy of the fleet's documents.",
    ActionGroup.EDIT_FLEET,
    Object.FLEET,
    fleet.SealedFleet,
    fleet.SealedFleet,
    callers=AGGREGATOR_ONLY,
)
RULES_SHOW = Verb(
    "rules_show",
    "GET",
    "/v1/fleet/rules",
    "Say what the fleet has decided for its members.",
    ActionGroup.READ,
    Object.FLEET,
    fleet.FleetRules,
)
AGGREGATORS_PUT = Verb(
    "aggregators_put",
    "PUT",
    "/v1/fleet/membership",
    "Say whom to push to, which term leads, and what the fleet has decided.",
    ActionGroup.EDIT_FLEET,
    Object.FLEET,
    fleet.Membership,
    fleet.Membership,
    callers=AGGREGATOR_ONLY,
)
LEAVE = Verb(
    "leave",
    "POST",
    "/v1/fleet/leave",
    "Leave the fleet: wait for a new admission; guests are untouched.",
    ActionGroup.EDIT_FLEET,
    Object.FLEET,
    host.NodeStatus,
)

VERBS: tuple[Verb, ...] = (
    *(value for value in list(globals().values()) if isinstance(value, Verb)),
    *export_verbs.VERBS,
    *hook_verbs.VERBS,
    *property_verbs.VERBS,
    *register_verbs.VERBS,
    *snapshot_verbs.VERBS,
    *storage_verbs.VERBS,
    *template_verbs.VERBS,
    *transfer_verbs.VERBS,
)
