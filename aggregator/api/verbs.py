"""Every verb of the aggregator's own API, once; `storage_verbs` has more."""

from aggregator.api import (
    export_verbs,
    hook_verbs,
    model,
    profile_verbs,
    property_verbs,
    register_verbs,
    snapshot_verbs,
    storage_verbs,
    template_verbs,
    transfer_verbs,
)
from aggregator.api.table import USERS, act, read
from node.model.requests import ActOnVm, DeleteVm, StartVm, StopVm
from node.model.verbs import ActionGroup, Caller, Object, Query, Verb

_SINCE = Query("since", int, "only events with a greater number")
_WAIT = Query("wait_s", float, "wait up to this long (20 at most) for something new")


LOGIN = Verb(
    "login",
    "POST",
    "/v1/login",
    "Exchange a user's name and password for a token.",
    ActionGroup.READ,
    Object.FLEET,
    model.Token,
    model.Login,
    callers=frozenset({Caller.ANYONE}),
)
STATUS = read("status", "/v1/status", "Say how the fleet is.", model.AggregatorStatus)
NODE_LIST = read(
    "node_list", "/v1/nodes", "List nodes and candidates.", model.NodeLines
)
NODE_ADMIT = act(
    "node_admit",
    "/v1/nodes/admit",
    "Admit a candidate, or the node at an address.",
    ActionGroup.MANIPULATE_HOST,
    Object.FLEET,
    model.AdmitNode,
    model.NodeLine,
)
NODE_REMOVE = act(
    "node_remove",
    "/v1/nodes/{node_id}/remove",
    "Remove a node from the fleet; its guests are untouched.",
    ActionGroup.MANIPULATE_HOST,
    Object.NODE,
    model.RemoveNode,
    model.NodeLines,
)
TOKEN_MAKE = act(
    "token_make",
    "/v1/tokens",
    "Make a token with which one node may enrol by itself.",
    ActionGroup.MANIPULATE_HOST,
    Object.FLEET,
    model.MakeToken,
    model.EnrolmentToken,
    201,
)
VM_LIST = read(
    "vm_list",
    "/v1/vms",
    "List VMs by name.",
    model.VmLines,
    Query("search", str, "part of a name, an address or a state"),
    Query("max", int, "how many; 1000 unless told"),
)
VM_SHOW = Verb(
    "vm_show",
    "GET",
    "/v1/vms/{vm_id}",
    "Describe a VM.",
    ActionGroup.READ,
    Object.VM,
    model.VmDetail,
    callers=USERS,
)
VM_EXPLAIN = act(
    "vm_explain",
    "/v1/vms/explain",
    "Say where a VM would go, and why not elsewhere.",
    ActionGroup.READ,
    Object.FLEET,
    model.NewVm,
    model.PlacementLines,
)
VM_CREATE = act(
    "vm_create",
    "/v1/vms",
    "Create a VM on a node that is chosen for it.",
    ActionGroup.CREATE_VM,
    Object.FLEET,
    model.NewVm,
    model.OrderLine,
    202,
)
VM_START = act(
    "vm_start",
    "/v1/vms/{vm_id}/start",
    "Start a VM.",
    ActionGroup.RUN_VM,
    Object.VM,
    StartVm,
    model.OrderLine,
    202,
)
VM_STOP = act(
    "vm_stop",
    "/v1/vms/{vm_id}/stop",
    "Shut a VM down.",
    ActionGroup.STOP_VM,
    Object.VM,
    StopVm,
    model.OrderLine,
    202,
)
VM_PAUSE = act(
    "vm_pause",
    "/v1/vms/{vm_id}/pause",
    "Pause a VM.",
    ActionGroup.STOP_VM,
    Object.VM,
    ActOnVm,
    model.OrderLine,
    202,
)
VM_SUSPEND = act(
    "vm_suspend",
    "/v1/vms/{vm_id}/suspend",
    "End a running VM and keep its memory: the next start goes on there.",
    ActionGroup.STOP_VM,
    Object.VM,
    ActOnVm,
    model.OrderLine,
    202,
)
VM_RESUME = act(
    "vm_resume",
    "/v1/vms/{vm_id}/resume",
    "Resume a VM.",
    ActionGroup.RUN_VM,
    Object.VM,
    ActOnVm,
    model.OrderLine,
    202,
)
VM_RESET = act(
    "vm_reset",
    "/v1/vms/{vm_id}/reset",
    "Reset a VM.",
    ActionGroup.RESET_VM,
    Object.VM,
    ActOnVm,
    model.OrderLine,
    202,
)
VM_DELETE = act(
    "vm_delete",
    "/v1/vms/{vm_id}/delete",
    "Delete a VM that is down, with its disks.",
    ActionGroup.DELETE_VM,
    Object.VM,
    DeleteVm,
    model.OrderLine,
    202,
)
VM_ATTACH_DISK = act(
    "vm_attach_disk",
    "/v1/vms/{vm_id}/attach-disk",
    "Give a VM a disk of its pool, at once if it runs.",
    ActionGroup.ATTACH_DISK,
    Object.VM,
    model.AttachVmDisk,
    model.OrderLine,
    202,
    is_slow=True,
)
VM_DETACH_DISK = act(
    "vm_detach_disk",
    "/v1/vms/{vm_id}/detach-disk",
    "Take a disk of a pool away from a VM; its data stay.",
    ActionGroup.ATTACH_DISK,
    Object.VM,
    model.DetachVmDisk,
    model.OrderLine,
    202,
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
    callers=USERS,
    query=(Query("tail_bytes", int, "how much of the end; 65536 unless told"),),
    media_type="text/plain",
    is_slow=True,
)
VM_SCREENSHOT = Verb(
    "vm_screenshot",
    "GET",
    "/v1/vms/{vm_id}/screenshot",
    "Take a picture of a VM's screen.",
    ActionGroup.CONNECT_TO_VM,
    Object.VM,
    None,
    callers=USERS,
    media_type="image/png",
    is_slow=True,
)
ORDER_LIST = read(
    "order_list", "/v1/orders", "List what was asked for lately.", model.OrderLines
)
ORDER_SHOW = read(
    "order_show",
    "/v1/orders/{order_id}",
    "Describe an order, waiting for its end if asked.",
    model.OrderLine,
    _WAIT,
)
EVENT_LIST = read(
    "event_list",
    "/v1/events",
    "List what happened, newest first.",
    model.EventLines,
    _SINCE,
    _WAIT,
    Query("max", int, "how many; 100 unless told"),
)
OPENAPI = read("openapi", "/v1/openapi.json", "Describe this API.", dict)

VERBS: tuple[Verb, ...] = (
    *(value for value in list(globals().values()) if isinstance(value, Verb)),
    *export_verbs.VERBS,
    *hook_verbs.VERBS,
    *profile_verbs.VERBS,
    *property_verbs.VERBS,
    *register_verbs.VERBS,
    *snapshot_verbs.VERBS,
    *storage_verbs.VERBS,
    *template_verbs.VERBS,
    *transfer_verbs.VERBS,
)
