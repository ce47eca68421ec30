"""What travels on /v1 of an aggregator about pools, storage domains and disks.

A line is what a list shows. Sizes are bytes. `stale` says who told it last and is
silent now; None: it is what is told at this moment.
"""

from dataclasses import dataclass, field

from node.model.ids import DiskId, NodeId, PoolId, StorageDomainId, VmId
from node.model.reason import Reason
from node.model.storage import (
    Allocation,
    Connection,
    ContentType,
    DiskDocument,
    DiskFormat,
    DiskQos,
    DiskState,
    DomainClass,
    DomainRole,
    DomainState,
    DomainType,
    PoolState,
    SpmPriority,
    StorageDomain,
)


@dataclass(frozen=True, slots=True)
class StorageDomainLine:
    storage_domain_id: StorageDomainId
    name: str
    domain_class: DomainClass
    kind: DomainType
    role: DomainRole
    state: DomainState
    since: str
    pool: str = ""  # name
    pool_id: PoolId | None = None
    total_bytes: int = 0
    free_bytes: int = 0
    committed_bytes: int = 0
    latency_s: float | None = None
    nodes: int = 0  # which speak of it
    nodes_well: int = 0
    reason: Reason | None = None
    stale: Reason | None = None


@dataclass(frozen=True, slots=True)
class StorageDomainLines:
    storage_domains: tuple[StorageDomainLine, ...]


@dataclass(frozen=True, slots=True)
class SightLine:
    """What one node says of a storage domain."""

    node: str
    state: DomainState
    since: str
    latency_s: float | None = None
    host_id: int | None = None
    reason: Reason | None = None
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class StorageDomainDetail:
    line: StorageDomainLine
    storage_domain: StorageDomain
    sights: tuple[SightLine, ...] = ()
    problems: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class NewStorageDomain:
    """A storage domain as a person asks for it: it joins a data center's pool."""

    name: str
    connection: Connection
    storage_domain_id: StorageDomainId | None = None  # asked twice, it is one
    domain_class: DomainClass = DomainClass.DATA
    description: str = ""
    sector_bytes: int | None = None  # None: as the storage tells
    wipe_after_delete: bool = False
    data_center_id: str | None = None  # None: that of the node
    node_id: NodeId | None = None  # None: one that is in the pool, or is up


@dataclass(frozen=True, slots=True)
class ChangeStorage:
    """What a storage domain is from now on; None: as it was."""

    name: str | None = None
    description: str | None = None
    wipe_after_delete: bool | None = None  # of new disks
    connection: Connection | None = None  # only in maintenance


@dataclass(frozen=True, slots=True)
class LookForStorage:
    connection: Connection
    node_id: NodeId | None = None


@dataclass(frozen=True, slots=True)
class ImportStorage:
    """Take a storage domain that exists, with its disks and VMs."""

    connection: Connection
    storage_domain_id: StorageDomainId | None = None  # None: the only one there
    is_forced: bool = False  # although its metadata name another pool
    data_center_id: str | None = None
    node_id: NodeId | None = None


@dataclass(frozen=True, slots=True)
class AttachStorage:
    data_center_id: str | None = None  # None: that of the node which sees it


@dataclass(frozen=True, slots=True)
class ActOnStorage:
    """Activate, maintenance, detach."""

    is_forced: bool = False  # detach although it cannot be written


@dataclass(frozen=True, slots=True)
class RemoveStorage:
    is_formatted: bool = False  # destroy what is on it; else forget it only
    node_id: NodeId | None = None


@dataclass(frozen=True, slots=True)
class RepairDisks:
    disk_id: DiskId | None = None  # None: of all disks


@dataclass(frozen=True, slots=True)
class PoolLine:
    pool_id: PoolId
    name: str
    is_local: bool
    state: PoolState
    since: str
    manager: str = ""  # name of the node; empty: none
    master: str = ""  # name of the storage domain
    storage_domains: int = 0
    nodes: int = 0
    data_center_id: str | None = None
    reason: Reason | None = None
    stale: Reason | None = None


@dataclass(frozen=True, slots=True)
class PoolLines:
    pools: tuple[PoolLine, ...]


@dataclass(frozen=True, slots=True)
class PoolDomainLine:
    name: str
    domain_class: DomainClass
    wanted: DomainState


@dataclass(frozen=True, slots=True)
class MemberLine:
    """What one node says of a pool."""

    node: str
    node_id: NodeId
    state: PoolState
    spm: str  # of SpmState
    host_id: int | None = None
    priority: int = SpmPriority.NORMAL
    reason: Reason | None = None
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class PoolDetail:
    line: PoolLine
    generation: int
    master_version: int
    storage_domains: tuple[PoolDomainLine, ...] = ()
    members: tuple[MemberLine, ...] = ()


@dataclass(frozen=True, slots=True)
class MovePoolMaster:
    storage_domain_id: StorageDomainId
    is_reconstruction: bool = False  # the old master is dead


@dataclass(frozen=True, slots=True)
class PoolNode:
    """Which node is to be manager, to join, or to leave."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class NodePriority:
    node_id: NodeId
    priority: int  # -1 (never) to 10


@dataclass(frozen=True, slots=True)
class DiskLine:
    disk_id: DiskId
    name: str
    state: DiskState
    size_bytes: int
    allocated_bytes: int
    storage_domains: tuple[str, ...] = ()  # names
    pool: str = ""
    vms: tuple[str, ...] = ()  # names; none: it floats
    stale: Reason | None = None
    content: ContentType = ContentType.DATA


@dataclass(frozen=True, slots=True)
class DiskLines:
    disks: tuple[DiskLine, ...]
    total: int


@dataclass(frozen=True, slots=True)
class DiskDetail:
    line: DiskLine
    disk: DiskDocument
    vm_ids: tuple[VmId, ...] = ()
    disk_profile: str = ""  # name
    profile_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewDisk:
    name: str
    storage_domain_id: StorageDomainId
    size_bytes: int
    disk_id: DiskId | None = None  # chosen by the caller: asked twice, it is one
    disk_format: DiskFormat = DiskFormat.QCOW2
    allocation: Allocation = Allocation.THIN
    description: str = ""
    content: ContentType = ContentType.DATA
    is_shared: bool = False
    wipe_after_delete: bool | None = None  # None: as the storage domain says
    qos: DiskQos = field(default_factory=DiskQos)
    profile_id: str | None = None  # None: the storage domain's default
