"""The verbs of transfers: disks that come in and go out over the network.

Only the manager of a disk's pool serves it. What a client sends or fetches goes to
the transfer's own address (docs/formats/transfers.md), not through these verbs.
"""

from node.model import storage_requests as bodies
from node.model.storage import Transfer
from node.model.verb import ActionGroup, Object, Verb

_TRANSFER = "/v1/transfers/{transfer_id}"


def _act(name: str, meaning: str, request: type = bodies.ActOnTransfer) -> Verb:
    path = f"{_TRANSFER}/{name.removeprefix('transfer_')}"
    group, on = ActionGroup.EDIT_DISK, Object.NODE
    return Verb(name, "POST", path, meaning, group, on, Transfer, request)


TRANSFER_LIST = Verb(
    "transfer_list",
    "GET",
    "/v1/transfers",
    "List the transfers of this node, those that ended lately, too.",
    ActionGroup.READ,
    Object.NODE,
    bodies.TransferList,
)
TRANSFER_SHOW = Verb(
    "transfer_show",
    "GET",
    _TRANSFER,
    "Describe a transfer.",
    ActionGroup.READ,
    Object.NODE,
    Transfer,
)
TRANSFER_CREATE = Verb(
    "transfer_create",
    "POST",
    "/v1/transfers",
    "Let a client send or fetch a disk that no VM runs with.",
    ActionGroup.EDIT_DISK,
    Object.NODE,
    Transfer,
    bodies.CreateTransfer,
    status=201,
    is_slow=True,
)
TRANSFER_EXTEND = _act("transfer_extend", "Begin the time anew that nobody uses it.")
TRANSFER_PAUSE = _act("transfer_pause", "Let nothing more be sent or fetched for now.")
TRANSFER_RESUME = _act("transfer_resume", "Go on with a transfer that is paused.")
TRANSFER_FINALIZE = _act(
    "transfer_finalize",
    "End a transfer whose client is done; VMs may use the disk then.",
    bodies.FinalizeTransfer,
)
TRANSFER_CANCEL = _act(
    "transfer_cancel", "Give a transfer up; what was sent of a disk is unusable."
)

VERBS: tuple[Verb, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Verb)
)
