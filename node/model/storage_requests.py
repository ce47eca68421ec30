"""The bodies of the verbs of storage, and the lists that they reply with.

`job_id` None lets the node choose, and asked twice with one id it is one job.
`generation` is of what the caller saw; None: whatever is there. Sizes are bytes.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from node.model.ids import (
    CorrelationId,
    DiskId,
    JobId,
    NodeId,
    PoolId,
    SnapshotId,
    StorageDomainId,
    TransferId,
    VolumeId,
)
from node.model.reason import Reason
from node.model.storage import (
    Allocation,
    Connection,
    ContentType,
    DiskDocument,
    DiskFormat,
    DiskQos,
    DomainClass,
    PoolDocument,
    StorageDomain,
    StorageDomainDocument,
    TimeoutPolicy,
    Transfer,
    TransferDirection,
)
from node.model.vm import Snapshot


@dataclass(frozen=True, slots=True)
class CreateStorageDomain:
    storage_domain_id: StorageDomainId
    name: str
    connection: Connection
    domain_class: DomainClass = DomainClass.DATA
    description: str = ""
    sector_bytes: int | None = None  # None: as the storage tells
    wipe_after_delete: bool = False
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class ChangeStorageDomain:
    """What a storage domain of a pool is from now on; None: as it was."""

    name: str | None = None
    description: str | None = None
    wipe_after_delete: bool | None = None  # of new disks
    # how it is reached: only in maintenance, and it must lie there already
    connection: Connection | None = None
    generation: int | None = None
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class LookForStorageDomains:
    connection: Connection


@dataclass(frozen=True, slots=True)
class FoundStorageDomains:
    storage_domains: tuple[StorageDomain, ...]
    problems: tuple[Reason, ...] = ()  # what lies there and cannot be read


@dataclass(frozen=True, slots=True)
class ImportStorageDomain:
    """Take a storage domain that exists, with its disks and VMs."""

    connection: Connection
    # which, if the place has several; None: the only one
    storage_domain_id: StorageDomainId | None = None
    pool_id: PoolId | None = None  # to attach it to; None: look only
    is_forced: bool = False  # although its metadata names another pool
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class CreatePool:
    pool_id: PoolId
    name: str
    master: StorageDomainId  # a data domain of no pool
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class ConnectPool:
    """Join a pool by any of its storage domains that can be reached."""

    name: str
    domains: tuple[StorageDomain, ...]
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class ActOnPool:
    """Disconnect."""

    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class AttachStorageDomain:
    pool_id: PoolId
    # how the manager reaches it; None: it has been told before
    connection: Connection | None = None
    generation: int | None = None
    # what else is to be known of it, if the manager has not been told before
    description: str = ""
    wipe_after_delete: bool = False
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class ActOnStorageDomain:
    """Activate, maintenance, detach; reach it from one more node."""

    generation: int | None = None  # of the pool's map
    is_forced: bool = False  # detach although it cannot be written
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class RemoveStorageDomain:
    is_formatted: bool = False  # destroy what is on it; else forget it only
    generation: int | None = None
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class RepairStorage:
    """Mend all that `StorageProblems` offers to repair, and nothing else."""

    disk_id: DiskId | None = None  # None: of all disks
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class StorageProblem:
    """Something wrong with one disk, in words for whoever has to decide."""

    disk_id: DiskId
    kind: str
    explanation: str  # what is the matter, and why the repair is safe or not offered
    disk_name: str = ""
    volume_id: VolumeId | None = None  # None: the disk as a whole
    repair: tuple[str, ...] = ()  # what it would do, in order; none: for a person


@dataclass(frozen=True, slots=True)
class StorageProblems:
    problems: tuple[StorageProblem, ...]  # of each disk in the order to mend them
    disks_read: int
    disks_passed_over: int = 0  # more than a node keeps in mind
    foreign_names: int = 0  # of what lies among the disks and is none


@dataclass(frozen=True, slots=True)
class MoveMaster:
    storage_domain_id: StorageDomainId  # the new master
    generation: int | None = None
    is_reconstruction: bool = False  # the old master is dead
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class BecomeSpm:
    """Take the SDM lease; refused if the lease moved since the caller looked."""

    lease_version: int | None = None  # what the caller saw
    ask_holder: bool = False  # let the holder, alive and out of reach, know it
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class LeaveSpm:
    lease_version: int | None = None
    stand_back_s: float = 0.0  # do not take it again before
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class SetSpmPriority:
    priority: int  # -1 (never) to 10


@dataclass(frozen=True, slots=True)
class CreateDisk:
    disk_id: DiskId
    name: str
    storage_domain_id: StorageDomainId
    size_bytes: int
    disk_format: DiskFormat = DiskFormat.QCOW2
    allocation: Allocation = Allocation.THIN
    description: str = ""
    content: ContentType = ContentType.DATA
    is_shared: bool = False
    wipe_after_delete: bool | None = None  # None: as the storage domain says
    qos: DiskQos = field(default_factory=DiskQos)
    from_disk_id: DiskId | None = None  # thin clone of this template's disk
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class ChangeDisk:
    """None leaves a field as it is."""

    name: str | None = None
    description: str | None = None
    is_shared: bool | None = None
    wipe_after_delete: bool | None = None
    qos: DiskQos | None = None
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class ResizeDisk:
    size_bytes: int  # disks only grow
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class CopyDisk:
    """Copy to a new disk, or (the same id) a template's disk to one more place."""

    disk_id: DiskId  # of the copy
    storage_domain_id: StorageDomainId
    name: str | None = None
    disk_format: DiskFormat | None = None  # None: as the original
    allocation: Allocation | None = None
    snapshot_id: SnapshotId | None = None  # copy that state; None: the newest
    data_node_id: NodeId | None = None  # moves the data; None: the pool chooses
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class MoveDisk:
    storage_domain_id: StorageDomainId
    data_node_id: NodeId | None = None
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class SparsifyDisk:
    data_node_id: NodeId | None = None
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class ActOnDisk:
    """Delete a disk; of a template's that lies in several places, one copy."""

    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None
    storage_domain_id: StorageDomainId | None = None  # where a copy goes; None: all


class SnapshotPart(StrEnum):
    """Who does what of it, if the VM runs on another node than the manager.

    The same goes for a VM that is suspended.
    """

    WHOLE = "whole"  # the manager, which runs the VM if that runs
    BEGIN = "begin"  # the manager: what the guest will need
    GUEST = "guest"  # the node that runs the VM
    FINISH = "finish"  # the manager, after that node


@dataclass(frozen=True, slots=True)
class CreateSnapshot:
    snapshot_id: SnapshotId
    description: str = ""
    has_memory: bool = False
    disk_ids: tuple[DiskId, ...] | None = None  # None: all disks of the VM
    generation: int | None = None
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None
    part: SnapshotPart = SnapshotPart.WHOLE
    is_consistent: bool = False  # to finish it: its guest was frozen


@dataclass(frozen=True, slots=True)
class SuspendVm:
    generation: int | None = None
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None
    part: SnapshotPart = SnapshotPart.WHOLE


@dataclass(frozen=True, slots=True)
class PreviewSnapshot:
    snapshot_id: SnapshotId
    has_memory: bool = False
    disk_ids: tuple[DiskId, ...] | None = None  # None: all that it has
    generation: int | None = None
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class DeleteSnapshot:
    snapshot_id: SnapshotId
    generation: int | None = None
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None
    part: SnapshotPart = SnapshotPart.WHOLE
    data_node_id: NodeId | None = None  # merges, if the VM is down


@dataclass(frozen=True, slots=True)
class ActOnSnapshot:
    """Commit, undo."""

    generation: int | None = None  # of the VM's definition
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class CreateTransfer:
    transfer_id: TransferId
    disk_id: DiskId
    direction: TransferDirection
    disk_format: DiskFormat = DiskFormat.RAW
    snapshot_id: SnapshotId | None = None
    inactivity_s: float = 60.0  # 0: however long nobody uses it
    is_shallow: bool = False  # the top volume only, not what lies under it
    correlation_id: CorrelationId | None = None
    timeout_policy: TimeoutPolicy = TimeoutPolicy.LEGACY
    size_bytes: int | None = None  # of a qcow2 file that comes; None: not known
    removes_disk: bool = False  # an upload that does not end well takes the disk along


@dataclass(frozen=True, slots=True)
class ActOnTransfer:
    """Extend, pause, resume, cancel."""

    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class FinalizeTransfer:
    # What must lie there, see Transfer.sha256; empty: it is not read again.
    sha256: str = ""
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class StorageDomainList:
    storage_domains: tuple[StorageDomainDocument, ...]


@dataclass(frozen=True, slots=True)
class PoolList:
    pools: tuple[PoolDocument, ...]


@dataclass(frozen=True, slots=True)
class DiskList:
    disks: tuple[DiskDocument, ...]


@dataclass(frozen=True, slots=True)
class SnapshotList:
    snapshots: tuple[Snapshot, ...]


@dataclass(frozen=True, slots=True)
class TransferList:
    transfers: tuple[Transfer, ...]
