"""The verbs of storage of the aggregator's own API.

What changes something is an order: the pool's manager does it, whoever that is by
then; the aggregator finds it, and goes on with another if it falls silent.
"""

from aggregator.api import storage_model as model
from aggregator.api.model import OrderLine
from aggregator.api.table import USERS, act, read
from node.model import storage_requests as bodies
from node.model.verbs import ActionGroup, Object, Query, Verb

_DOMAIN = "/v1/storage-domains/{storage_domain_id}"
_POOL = "/v1/pools/{pool_id}"
_DISK = "/v1/disks/{disk_id}"


def _order(
    name: str, path: str, meaning: str, group: ActionGroup, on: Object, request: type
) -> Verb:
    return act(name, path, meaning, group, on, request, OrderLine, 202)


def _show(name: str, path: str, meaning: str, on: Object, reply: type) -> Verb:
    group = ActionGroup.READ
    return Verb(name, "GET", path, meaning, group, on, reply, callers=USERS)


STORAGE_DOMAIN_LIST = read(
    "storage_domain_list",
    "/v1/storage-domains",
    "List storage domains by name.",
    model.StorageDomainLines,
)
STORAGE_DOMAIN_SHOW = _show(
    "storage_domain_show",
    _DOMAIN,
    "Describe a storage domain, and how each node sees it.",
    Object.STORAGE_DOMAIN,
    model.StorageDomainDetail,
)
STORAGE_DOMAIN_CREATE = _order(
    "storage_domain_create",
    "/v1/storage-domains",
    "Make a storage domain and attach it to a data center's pool.",
    ActionGroup.CREATE_STORAGE_DOMAIN,
    Object.FLEET,
    model.NewStorageDomain,
)
STORAGE_DOMAIN_LOOK = Verb(
    "storage_domain_look",
    "POST",
    "/v1/storage-domains/look",
    "Look which storage domains lie at a place; changes nothing there.",
    ActionGroup.CREATE_STORAGE_DOMAIN,
    Object.FLEET,
    bodies.FoundStorageDomains,
    model.LookForStorage,
    callers=USERS,
    is_slow=True,
)
STORAGE_DOMAIN_IMPORT = Verb(
    "storage_domain_import",
    "POST",
    "/v1/storage-domains/import",
    "Take a storage domain that exists, with its disks and VMs.",
    ActionGroup.CREATE_STORAGE_DOMAIN,
    Object.FLEET,
    OrderLine,
    model.ImportStorage,
    202,
    callers=USERS,
    is_slow=True,  # a node looks what lies there first
)
STORAGE_DOMAIN_ATTACH = _order(
    "storage_domain_attach",
    f"{_DOMAIN}/attach",
    "Attach a storage domain to a data center's pool, and activate it.",
    ActionGroup.MANIPULATE_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    model.AttachStorage,
)
STORAGE_DOMAIN_CHANGE = _order(
    "storage_domain_change",
    f"{_DOMAIN}/change",
    "Change a storage domain's name, what is said of it, or how it is reached.",
    ActionGroup.EDIT_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    model.ChangeStorage,
)
STORAGE_DOMAIN_ACTIVATE = _order(
    "storage_domain_activate",
    f"{_DOMAIN}/activate",
    "Let the nodes of the pool use a storage domain.",
    ActionGroup.MANIPULATE_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    model.ActOnStorage,
)
STORAGE_DOMAIN_MAINTAIN = _order(
    "storage_domain_maintain",
    f"{_DOMAIN}/maintain",
    "Put a storage domain into maintenance: no node uses it any more.",
    ActionGroup.MANIPULATE_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    model.ActOnStorage,
)
STORAGE_DOMAIN_DETACH = _order(
    "storage_domain_detach",
    f"{_DOMAIN}/detach",
    "Take a storage domain in maintenance out of its pool; its disks stay on it.",
    ActionGroup.MANIPULATE_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    model.ActOnStorage,
)
STORAGE_DOMAIN_REMOVE = _order(
    "storage_domain_remove",
    f"{_DOMAIN}/remove",
    "Forget a storage domain of no pool; destroy what is on it if asked to.",
    ActionGroup.DELETE_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    model.RemoveStorage,
)
STORAGE_DOMAIN_CHECK = Verb(
    "storage_domain_check",
    "GET",
    f"{_DOMAIN}/check",
    "Read all disks of a storage domain anew, and say what is wrong with them.",
    ActionGroup.READ,
    Object.STORAGE_DOMAIN,
    bodies.StorageProblems,
    callers=USERS,
    is_slow=True,
)
STORAGE_DOMAIN_REPAIR = _order(
    "storage_domain_repair",
    f"{_DOMAIN}/repair",
    "Mend what a check found and offered to repair.",
    ActionGroup.EDIT_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    model.RepairDisks,
)

POOL_LIST = read("pool_list", "/v1/pools", "List pools by name.", model.PoolLines)
POOL_SHOW = _show(
    "pool_show",
    _POOL,
    "Describe a pool, who manages it, and how each node sees it.",
    Object.POOL,
    model.PoolDetail,
)
POOL_MOVE_MASTER = _order(
    "pool_move_master",
    f"{_POOL}/move-master",
    "Make another storage domain the master, also when the old one is dead.",
    ActionGroup.EDIT_POOL,
    Object.POOL,
    model.MovePoolMaster,
)
POOL_ELECT = _order(
    "pool_elect",
    f"{_POOL}/elect",
    "Let a node manage the pool; the manager of now finishes and leaves first.",
    ActionGroup.MANIPULATE_HOST,
    Object.POOL,
    model.PoolNode,
)
POOL_PRIORITY = _order(
    "pool_priority",
    f"{_POOL}/priority",
    "Say how much a node is to be preferred as manager; -1: never.",
    ActionGroup.MANIPULATE_HOST,
    Object.POOL,
    model.NodePriority,
)
POOL_CONNECT = _order(
    "pool_connect",
    f"{_POOL}/connect",
    "Let a node join the pool; those of its data center do so by themselves.",
    ActionGroup.MANIPULATE_HOST,
    Object.POOL,
    model.PoolNode,
)
POOL_DISCONNECT = _order(
    "pool_disconnect",
    f"{_POOL}/disconnect",
    "Let a node leave a pool that no VM there uses and that it does not manage.",
    ActionGroup.MANIPULATE_HOST,
    Object.POOL,
    model.PoolNode,
)

DISK_LIST = read(
    "disk_list",
    "/v1/disks",
    "List the disks of all pools by name.",
    model.DiskLines,
    Query("search", str, "part of a name, a state, or a storage domain's name"),
    Query("max", int, "how many; 1000 unless told"),
)
DISK_SHOW = _show("disk_show", _DISK, "Describe a disk.", Object.DISK, model.DiskDetail)
DISK_CREATE = _order(
    "disk_create",
    "/v1/disks",
    "Make a blank disk.",
    ActionGroup.CREATE_DISK,
    Object.FLEET,
    model.NewDisk,
)
DISK_DELETE = _order(
    "disk_delete",
    f"{_DISK}/delete",
    "Delete a disk that no VM runs with, or one copy of a template's.",
    ActionGroup.DELETE_DISK,
    Object.DISK,
    bodies.ActOnDisk,
)
DISK_RESIZE = act(
    "disk_resize",
    f"{_DISK}/resize",
    "Let a disk grow, also under the guest that runs with it.",
    ActionGroup.EDIT_DISK,
    Object.DISK,
    bodies.ResizeDisk,
    OrderLine,
    202,
    is_slow=True,  # a guest's node and the manager, one after the other
)
DISK_CHANGE = _order(
    "disk_change",
    f"{_DISK}/change",
    "Change what a disk is called, and how it may be used.",
    ActionGroup.EDIT_DISK,
    Object.DISK,
    bodies.ChangeDisk,
)
DISK_COPY = _order(
    "disk_copy",
    f"{_DISK}/copy",
    "Copy a disk to a new one, or a template's disk to one more storage domain.",
    ActionGroup.CONFIGURE_DISK_STORAGE,
    Object.DISK,
    bodies.CopyDisk,
)
DISK_MOVE = _order(
    "disk_move",
    f"{_DISK}/move",
    "Move a disk with its snapshots to another storage domain of its pool.",
    ActionGroup.CONFIGURE_DISK_STORAGE,
    Object.DISK,
    bodies.MoveDisk,
)
DISK_SPARSIFY = _order(
    "disk_sparsify",
    f"{_DISK}/sparsify",
    "Give the space back that a thin disk fills with zeros.",
    ActionGroup.SPARSIFY_DISK,
    Object.DISK,
    bodies.SparsifyDisk,
)

VERBS: tuple[Verb, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Verb)
)
