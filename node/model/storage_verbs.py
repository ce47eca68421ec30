"""The verbs of storage: storage domains, pools and who manages them, disks.

All but those that look are jobs. A pool's structure, its storage domains and its
disks are changed by its manager; any other node refuses and names it.
"""

from node.model import storage_requests as bodies
from node.model.job import Job
from node.model.storage import DiskDocument, PoolDocument, StorageDomainDocument
from node.model.verb import ActionGroup, Object, Verb

_DOMAIN = "/v1/storage-domains/{storage_domain_id}"
_POOL = "/v1/pools/{pool_id}"
_DISK = "/v1/disks/{disk_id}"


def _read(name: str, path: str, meaning: str, on: Object, reply: type) -> Verb:
    return Verb(name, "GET", path, meaning, ActionGroup.READ, on, reply)


def _job(
    name: str, path: str, meaning: str, group: ActionGroup, on: Object, request: type
) -> Verb:
    # What is asked of a disk is planned before it is answered: that reads storage.
    is_slow = on is Object.DISK or name == "disk_create"
    return Verb(
        *(name, "POST", path, meaning, group, on, Job, request),
        status=202,
        is_slow=is_slow,
    )


STORAGE_DOMAIN_LIST = _read(
    "storage_domain_list",
    "/v1/storage-domains",
    "List the storage domains that this node knows.",
    Object.STORAGE_DOMAIN,
    bodies.StorageDomainList,
)
STORAGE_DOMAIN_SHOW = _read(
    "storage_domain_show",
    _DOMAIN,
    "Describe a storage domain as this node sees it.",
    Object.STORAGE_DOMAIN,
    StorageDomainDocument,
)
STORAGE_DOMAIN_CREATE = _job(
    "storage_domain_create",
    "/v1/storage-domains",
    "Make an empty storage domain, which belongs to no pool yet.",
    ActionGroup.CREATE_STORAGE_DOMAIN,
    Object.NODE,
    bodies.CreateStorageDomain,
)
STORAGE_DOMAIN_LOOK = Verb(
    "storage_domain_look",
    "POST",
    "/v1/storage-domains/look",
    "Look which storage domains lie at a place; changes nothing there.",
    ActionGroup.CREATE_STORAGE_DOMAIN,
    Object.NODE,
    bodies.FoundStorageDomains,
    bodies.LookForStorageDomains,
    is_slow=True,
)
STORAGE_DOMAIN_IMPORT = _job(
    "storage_domain_import",
    "/v1/storage-domains/import",
    "Take a storage domain that exists, with its disks and VMs.",
    ActionGroup.CREATE_STORAGE_DOMAIN,
    Object.NODE,
    bodies.ImportStorageDomain,
)
STORAGE_DOMAIN_ATTACH = _job(
    "storage_domain_attach",
    f"{_DOMAIN}/attach",
    "Make a storage domain part of a pool; it is in maintenance at first.",
    ActionGroup.MANIPULATE_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    bodies.AttachStorageDomain,
)
STORAGE_DOMAIN_CHANGE = _job(
    "storage_domain_change",
    f"{_DOMAIN}/change",
    "Change a storage domain's name, what is said of it, or how it is reached.",
    ActionGroup.EDIT_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    bodies.ChangeStorageDomain,
)
STORAGE_DOMAIN_ACTIVATE = _job(
    "storage_domain_activate",
    f"{_DOMAIN}/activate",
    "Let the nodes of the pool use a storage domain.",
    ActionGroup.MANIPULATE_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    bodies.ActOnStorageDomain,
)
STORAGE_DOMAIN_MAINTAIN = _job(
    "storage_domain_maintain",
    f"{_DOMAIN}/maintain",
    "Put a storage domain into maintenance: no node uses it any more.",
    ActionGroup.MANIPULATE_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    bodies.ActOnStorageDomain,
)
STORAGE_DOMAIN_DETACH = _job(
    "storage_domain_detach",
    f"{_DOMAIN}/detach",
    "Take a storage domain in maintenance out of its pool; its disks stay on it.",
    ActionGroup.MANIPULATE_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    bodies.ActOnStorageDomain,
)
STORAGE_DOMAIN_REMOVE = _job(
    "storage_domain_remove",
    f"{_DOMAIN}/remove",
    "Forget a storage domain of no pool; destroy what is on it if asked to.",
    ActionGroup.DELETE_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    bodies.RemoveStorageDomain,
)
STORAGE_DOMAIN_CHECK = Verb(
    "storage_domain_check",
    "GET",
    f"{_DOMAIN}/check",
    "Read all disks of a storage domain anew, and say what is wrong with them.",
    ActionGroup.READ,
    Object.STORAGE_DOMAIN,
    bodies.StorageProblems,
    is_slow=True,
)
STORAGE_DOMAIN_REPAIR = _job(
    "storage_domain_repair",
    f"{_DOMAIN}/repair",
    "Mend what a check found and offered to repair, one problem after the other.",
    ActionGroup.EDIT_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    bodies.RepairStorage,
)

POOL_LIST = _read(
    "pool_list",
    "/v1/pools",
    "List the pools that this node is in.",
    Object.POOL,
    bodies.PoolList,
)
POOL_SHOW = _read(
    "pool_show",
    _POOL,
    "Describe a pool as this node sees it.",
    Object.POOL,
    PoolDocument,
)
POOL_CREATE = _job(
    "pool_create",
    "/v1/pools",
    "Make a pool of one data storage domain, its master; this node joins it.",
    ActionGroup.CREATE_POOL,
    Object.NODE,
    bodies.CreatePool,
)
POOL_CONNECT = _job(
    "pool_connect",
    f"{_POOL}/connect",
    "Join a pool: reach one of its storage domains, and by its map all others.",
    ActionGroup.MANIPULATE_HOST,
    Object.POOL,
    bodies.ConnectPool,
)
POOL_DISCONNECT = _job(
    "pool_disconnect",
    f"{_POOL}/disconnect",
    "Leave a pool that no VM here uses and that this node does not manage.",
    ActionGroup.MANIPULATE_HOST,
    Object.POOL,
    bodies.ActOnPool,
)
POOL_MOVE_MASTER = _job(
    "pool_move_master",
    f"{_POOL}/move-master",
    "Make another storage domain the master, also when the old one is dead.",
    ActionGroup.EDIT_POOL,
    Object.POOL,
    bodies.MoveMaster,
)
SPM_BECOME = _job(
    "spm_become",
    f"{_POOL}/become-manager",
    "Become the manager (SPM) of a pool, if its lease can be had.",
    ActionGroup.MANIPULATE_HOST,
    Object.POOL,
    bodies.BecomeSpm,
)
SPM_LEAVE = _job(
    "spm_leave",
    f"{_POOL}/leave-manager",
    "Finish what is under way, then manage the pool no more.",
    ActionGroup.MANIPULATE_HOST,
    Object.POOL,
    bodies.LeaveSpm,
)
SPM_PRIORITY = Verb(
    "spm_priority",
    "PUT",
    f"{_POOL}/priority",
    "Say how much this node is to be preferred as manager; -1: never.",
    ActionGroup.MANIPULATE_HOST,
    Object.POOL,
    PoolDocument,
    bodies.SetSpmPriority,
)

DISK_LIST = _read(
    "disk_list",
    "/v1/disks",
    "List the disks of the pools that this node manages.",
    Object.DISK,
    bodies.DiskList,
)
DISK_SHOW = _read("disk_show", _DISK, "Describe a disk.", Object.DISK, DiskDocument)
DISK_CREATE = _job(
    "disk_create",
    "/v1/disks",
    "Make a blank disk, or a thin clone of a template's.",
    ActionGroup.CREATE_DISK,
    Object.NODE,
    bodies.CreateDisk,
)
DISK_DELETE = _job(
    "disk_delete",
    f"{_DISK}/delete",
    "Delete a disk that no VM runs with, or one copy of a template's.",
    ActionGroup.DELETE_DISK,
    Object.DISK,
    bodies.ActOnDisk,
)
DISK_RESIZE = _job(
    "disk_resize",
    f"{_DISK}/resize",
    "Let a disk grow.",
    ActionGroup.EDIT_DISK,
    Object.DISK,
    bodies.ResizeDisk,
)
DISK_CHANGE = _job(
    "disk_change",
    f"{_DISK}/change",
    "Change what a disk is called, and how it may be used.",
    ActionGroup.EDIT_DISK,
    Object.DISK,
    bodies.ChangeDisk,
)
DISK_COPY = _job(
    "disk_copy",
    f"{_DISK}/copy",
    "Copy a disk to a new one, or a template's disk to one more storage domain.",
    ActionGroup.CONFIGURE_DISK_STORAGE,
    Object.DISK,
    bodies.CopyDisk,
)
DISK_MOVE = _job(
    "disk_move",
    f"{_DISK}/move",
    "Move a disk with its snapshots to another storage domain of its pool.",
    ActionGroup.CONFIGURE_DISK_STORAGE,
    Object.DISK,
    bodies.MoveDisk,
)
DISK_SPARSIFY = _job(
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
