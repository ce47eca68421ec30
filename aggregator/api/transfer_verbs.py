"""The verbs of transfers of the aggregator's own API.

The data go straight to the node that serves them: `Transfer.url`, which is a secret.
So who may not move data does not see a transfer, either.
"""

from aggregator.api.table import USERS, act
from node.model import storage_requests as bodies
from node.model.storage import Transfer
from node.model.verbs import ActionGroup, Object, Verb

_TRANSFER = "/v1/transfers/{transfer_id}"


def _read(name: str, path: str, meaning: str, reply: type) -> Verb:
    group, on = ActionGroup.EDIT_DISK, Object.FLEET
    return Verb(name, "GET", path, meaning, group, on, reply, callers=USERS)


def _act(name: str, meaning: str, request: type = bodies.ActOnTransfer) -> Verb:
    path = f"{_TRANSFER}/{name.removeprefix('transfer_')}"
    group, on = ActionGroup.EDIT_DISK, Object.FLEET
    return act(name, path, meaning, group, on, request, Transfer)


TRANSFER_LIST = _read(
    "transfer_list",
    "/v1/transfers",
    "List transfers, those that ended lately, too.",
    bodies.TransferList,
)
TRANSFER_SHOW = _read("transfer_show", _TRANSFER, "Describe a transfer.", Transfer)
TRANSFER_CREATE = act(
    "transfer_create",
    "/v1/transfers",
    "Let a client send or fetch a disk that no VM runs with.",
    ActionGroup.EDIT_DISK,
    Object.FLEET,
    bodies.CreateTransfer,
    Transfer,
    201,
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
