"""Storage: pools, storage domains, disks, transfers.

A document of a storage domain or pool is one node's sight of it; documents that
only the manager (SPM) makes carry a `PoolMark`, and the highest is believed.
The layout on disk is oVirt's format V5. Sizes are bytes, latencies seconds.
Source: DESIGN sections 4 and 5, docs/formats/storage-domain.md.
"""

from dataclasses import dataclass, field, fields
from enum import IntEnum, StrEnum
from typing import Final

from node.errors import Invalid
from node.model.ids import (
    DiskId,
    JobId,
    NodeId,
    PoolId,
    SnapshotId,
    StorageDomainId,
    TemplateId,
    TransferId,
    VmId,
    VolumeId,
)
from node.model.reason import Reason
from node.units import MiB

_RATES: Final = ("iops", "bytes_s")


class Unnamed(Invalid):
    """A storage domain has no name."""

    code = "storage_domain_unnamed"
    remedy = "Give the storage domain a name."


class BadDiskQos(Invalid):
    """The limits of a disk exclude each other, or are none."""

    code = "bad_disk_qos"
    remedy = "Limit the total, or reading and writing each; 0 is no limit."


class DomainClass(StrEnum):
    DATA = "data"
    ISO = "iso"
    EXPORT = "export"


class DomainType(StrEnum):
    LOCALFS = "localfs"
    POSIXFS = "posixfs"
    NFS = "nfs"


class DomainRole(StrEnum):
    MASTER = "master"  # exactly one of a pool
    REGULAR = "regular"


class DomainState(StrEnum):
    UNATTACHED = "unattached"  # of no pool
    ACTIVATING = "activating"
    ACTIVE = "active"
    UNREACHABLE = "unreachable"  # it should be active, and this node cannot read it
    DEACTIVATING = "deactivating"
    MAINTENANCE = "maintenance"
    DETACHING = "detaching"
    LOCKED = "locked"  # being made, formatted or removed


class PoolState(StrEnum):
    UP = "up"
    CONTENDING = "contending"  # nobody is manager yet
    MASTER_LOST = "master_lost"  # to be reconstructed on another storage domain
    MAINTENANCE = "maintenance"
    UNREACHABLE = "unreachable"


class SpmState(StrEnum):
    """What a node is in a pool; oVirt's Free, Contend and SPM, and the way out."""

    FREE = "free"
    CONTENDING = "contending"
    MANAGER = "manager"
    LEAVING = "leaving"  # finishing its step, then the lease is released


class Liveness(StrEnum):
    """What the lockspace tells of a host; the words are sanlock's."""

    UNKNOWN = "unknown"  # who looks joined too recently to tell
    FREE = "free"  # it left as it should
    LIVE = "live"
    FAIL = "fail"  # its renewals are late
    DEAD = "dead"  # its leases may be taken


class SpmPriority(IntEnum):
    """oVirt's range is -1 to 10; these are what its screens offer."""

    NEVER = -1
    LOW = 2
    NORMAL = 5
    HIGH = 7


SPM_PRIORITY_MAX = 10  # oVirt's


class DiskFormat(StrEnum):
    RAW = "raw"
    QCOW2 = "qcow2"


class Allocation(StrEnum):
    THIN = "thin"
    PREALLOCATED = "preallocated"


class ContentType(StrEnum):
    """What a disk holds; volumes spell it DATA, ISOF, MEMD, MEMM, OVFS and so on."""

    DATA = "data"
    ISO = "iso"
    MEMORY_DUMP = "memory_dump"
    MEMORY_METADATA = "memory_metadata"
    OVF_STORE = "ovf_store"
    HOSTED_ENGINE = "hosted_engine"
    HOSTED_ENGINE_SANLOCK = "hosted_engine_sanlock"
    HOSTED_ENGINE_METADATA = "hosted_engine_metadata"
    HOSTED_ENGINE_CONFIGURATION = "hosted_engine_configuration"
    BACKUP_SCRATCH = "backup_scratch"


class VolumeKind(StrEnum):
    LEAF = "leaf"
    INTERNAL = "internal"
    SHARED = "shared"  # of a template


class Legality(StrEnum):
    LEGAL = "legal"
    ILLEGAL = "illegal"
    FAKE = "fake"


class DiskState(StrEnum):
    OK = "ok"
    LOCKED = "locked"  # a job works on it
    ILLEGAL = "illegal"  # its chain has a problem: see the reason
    UNREACHABLE = "unreachable"  # none of its storage domains can be read


class SnapshotKind(StrEnum):
    ACTIVE = "active"  # what the VM runs on
    REGULAR = "regular"
    PREVIEW = "preview"  # what the VM would run on if a preview is committed
    STATELESS = "stateless"


class SnapshotState(StrEnum):
    OK = "ok"
    LOCKED = "locked"
    IN_PREVIEW = "in_preview"
    BROKEN = "broken"


class TransferDirection(StrEnum):
    UPLOAD = "upload"
    DOWNLOAD = "download"


class TransferPhase(StrEnum):
    """oVirt's words for an image transfer."""

    INITIALIZING = "initializing"
    TRANSFERRING = "transferring"
    PAUSED_USER = "paused_user"
    PAUSED_SYSTEM = "paused_system"
    FINALIZING_SUCCESS = "finalizing_success"
    FINALIZING_FAILURE = "finalizing_failure"
    FINISHED_SUCCESS = "finished_success"
    FINISHED_FAILURE = "finished_failure"
    CANCELLED = "cancelled"


class TimeoutPolicy(StrEnum):
    """What becomes of a transfer that nobody uses; the words are oVirt's."""

    LEGACY = "legacy"  # an upload pauses, a download is cancelled
    PAUSE = "pause"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class PoolMark:
    """How new a document about a pool is: compare it as a tuple, highest wins."""

    lease_version: int  # of the SDM lease that its writer held
    generation: int  # of the pool's map


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a storage domain's file system comes from."""

    kind: DomainType
    path: str  # a folder here, a device or source, or the server's export
    address: str = ""  # of the NFS server
    # with POSIX: what mount is told; empty: the path is a folder on a shared file
    # system that the administrator mounts on each host, and is used as it is
    file_system: str = ""
    nfs_version: str = ""  # 3, 4, 4.1, 4.2; empty: what both sides agree on
    options: str = ""  # more mount options, with commas


@dataclass(frozen=True, slots=True)
class StorageDomain:
    """What all nodes agree on about a storage domain."""

    storage_domain_id: StorageDomainId
    name: str
    domain_class: DomainClass
    connection: Connection
    role: DomainRole = DomainRole.REGULAR
    pool_id: PoolId | None = None
    description: str = ""
    version: int = 5
    sector_bytes: int = 512  # or 4096
    alignment_bytes: int = MiB  # between two leases
    wipe_after_delete: bool = False  # what new disks on it start with


@dataclass(frozen=True, slots=True)
class StorageDomainDocument:
    """One node's sight of a storage domain."""

    storage_domain: StorageDomain
    node_id: NodeId
    state: DomainState
    since: str  # RFC 3339: when this state began
    reason: Reason | None = None  # why the state is not the wanted one
    latency_s: float | None = None  # of the last health check; None: no answer
    checked_at: str | None = None
    total_bytes: int = 0
    free_bytes: int = 0
    committed_bytes: int = 0  # what its thin disks may still grow to
    host_id: int | None = None  # ours in its lockspace; None: not joined
    problems: tuple[Reason, ...] = ()
    mark: PoolMark | None = None
    schema: int = 1


@dataclass(frozen=True, slots=True)
class SpmView:
    """What the lease of a pool says, read from the storage."""

    state: SpmState  # of the node that tells
    holder: NodeId | None = None
    lease_version: int = 0  # grows with each new holder
    since: str | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class PoolDomain:
    storage_domain_id: StorageDomainId
    domain_class: DomainClass
    state: DomainState  # as wanted by the pool: active or maintenance, mostly
    name: str = ""
    connection: Connection | None = None  # how to reach it; None: the map is older


@dataclass(frozen=True, slots=True)
class PoolMember:
    """A host of the pool's lockspace, as another node reads it there."""

    node_id: NodeId
    host_id: int
    liveness: Liveness
    hears_leader: bool = False  # it published that an aggregator leads it
    priority: int = SpmPriority.NORMAL  # it published this one, too
    silence_s: float = 0.0  # since it published last, by the reader's clock


@dataclass(frozen=True, slots=True)
class PoolDocument:
    """One node's sight of a pool."""

    pool_id: PoolId
    name: str
    node_id: NodeId
    is_local: bool
    state: PoolState
    since: str
    master: StorageDomainId | None
    master_version: int
    generation: int
    spm: SpmView
    domains: tuple[PoolDomain, ...] = ()
    members: tuple[PoolMember, ...] = ()
    reason: Reason | None = None
    mark: PoolMark | None = None
    schema: int = 1


@dataclass(frozen=True, slots=True)
class ActualVolume:
    """A volume as it lies on the storage: its metadata and its file."""

    volume_id: VolumeId
    disk_id: DiskId
    storage_domain_id: StorageDomainId
    size_bytes: int  # virtual
    allocated_bytes: int  # of the file
    disk_format: DiskFormat
    allocation: Allocation
    kind: VolumeKind
    parent_id: VolumeId | None = None
    content: ContentType = ContentType.DATA
    legality: Legality = Legality.LEGAL
    description: str = ""
    created_at: str | None = None
    generation: int = 0  # 0 to 999, then 0 again
    sequence: int = 0  # order among the snapshots; 0: older than this field
    has_metadata: bool = True
    has_data: bool = True


@dataclass(frozen=True, slots=True)
class ChainSummary:
    """Volumes from the base to the leaf, as guests see them through each other."""

    volumes: tuple[VolumeId, ...] = ()
    template: VolumeId | None = None  # the shared volume under the base
    problems: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class DiskQos:
    """Limits of a disk; 0: none. A total excludes read and write of its kind."""

    total_iops: int = 0
    read_iops: int = 0
    write_iops: int = 0
    total_bytes_s: int = 0
    read_bytes_s: int = 0
    write_bytes_s: int = 0


@dataclass(frozen=True, slots=True)
class DiskDocument:
    disk_id: DiskId
    name: str
    size_bytes: int  # virtual
    allocated_bytes: int  # of all its volumes on one storage domain
    disk_format: DiskFormat  # of the leaf
    allocation: Allocation
    storage_domain_ids: tuple[StorageDomainId, ...]  # several: copies of a template
    state: DiskState
    since: str
    chain: ChainSummary = field(default_factory=ChainSummary)
    reason: Reason | None = None
    lock_owner: JobId | None = None  # the job that works on it
    description: str = ""
    content: ContentType = ContentType.DATA
    is_shared: bool = False  # several VMs may run with it at once
    wipe_after_delete: bool = False
    qos: DiskQos = field(default_factory=DiskQos)
    vm_ids: tuple[VmId, ...] = ()  # none: it floats
    template_id: TemplateId | None = None  # it belongs to this template
    snapshot_ids: tuple[SnapshotId, ...] = ()
    mark: PoolMark | None = None
    pool_id: PoolId | None = None
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Transfer:
    transfer_id: TransferId
    disk_id: DiskId
    direction: TransferDirection
    phase: TransferPhase
    url: str  # where the client sends or fetches; a secret while it lasts
    size_bytes: int
    transferred_bytes: int = 0
    disk_format: DiskFormat = DiskFormat.RAW  # what travels
    snapshot_id: SnapshotId | None = None  # download that state; None: the newest
    inactivity_s: float = 60.0
    # What lies there at the end, if it was asked for: the SHA-256 of those of its
    # blocks of 4 MiB.
    sha256: str = ""
    reason: Reason | None = None
    since: str = ""  # RFC 3339: when this phase began
    timeout_policy: TimeoutPolicy = TimeoutPolicy.LEGACY
    is_active: bool = False  # a client moves data just now
    node_id: NodeId | None = None  # who serves it
    name: str = ""  # the disk's


def check_named(name: str) -> None:
    """Refuse a name of a storage domain that nobody could see; Unnamed."""
    if not name.strip():
        raise Unnamed("a storage domain has a name")


def check_limits(limits: DiskQos) -> None:
    """Refuse limits of a disk that exclude each other, or are none; BadDiskQos."""
    if any(getattr(limits, each.name) < 0 for each in fields(limits)):
        raise BadDiskQos("a limit is below zero")
    for kind in _RATES:
        parts = (getattr(limits, f"{each}_{kind}") for each in ("read", "write"))
        if getattr(limits, f"total_{kind}") and any(parts):
            raise BadDiskQos(f"total_{kind} excludes limits of reading and writing")
