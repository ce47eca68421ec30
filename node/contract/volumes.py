"""Say what VMs need of the storage where their disks and leases lie on a pool.

The contract between two siblings: `node.storage.pools.volumes` stands behind it.

A VM's lease is a resource of sanlock, for which its QEMU is registered: QEMU has it
while the guest runs. libvirt gives it back when the guest is paused; the node then
takes it for itself (it is parked), so that nobody else starts the VM meanwhile. With
each owner its version grows. libvirt would let a guest go on whatever happened to its
lease meanwhile, so we look: if another host had it, this run ends, by SIGKILL.
Sizes are bytes.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, Protocol

from node.contract.memories import (
    Memories,
    MemoryMark,
    VmSuspended,
    check_free,
)
from node.contract.snapshots import Leaf
from node.errors import Busy, Conflict, Failed, NotFound, Unavailable
from node.model.ids import DiskId, NodeId, PoolId, StorageDomainId, VmId
from node.model.job import Job
from node.model.storage import DiskFormat, DiskQos
from node.model.vm import Disk, Vm, VmSpec

# Code of what is refused since this node has not the lease that it needs.
STALE_LEASE: Final = "stale_lease"


class PoolUnknown(NotFound):
    """This node is in no such pool."""

    code = "pool_unknown"
    remedy = "Connect the node to the pool first, or ask a node that is in it."


class VmRunsElsewhere(Conflict):
    """Another node has the VM's lease: it runs there, or is paused."""

    code = "vm_runs_elsewhere"
    remedy = (
        "Stop the VM there first. If that node is dead, its leases are free after "
        "some minutes: try again then."
    )


class VmHasLease(Busy):
    """This node has the VM's lease: its own QEMU does, or a job on the VM's disks."""

    code = "vm_has_lease"
    remedy = (
        "Nothing, if the VM runs here. A QEMU that ended gives it back in a moment; "
        "else wait for the job that works on the VM or its disks."
    )


class NodeJoining(Unavailable):
    """The node is not in the lockspace of the VM's lease: not yet, or not any more."""

    code = "node_joining_storage"
    remedy = (
        "Try again in half a minute, or on another node; if it lasts, see what the "
        "storage domain's path on this node says."
    )


class DiskTaken(Conflict):
    """Another VM of the pool has the disk."""

    code = "disk_taken"
    remedy = "Detach the disk there first, or let both VMs share it."


class DisksAway(Conflict):
    """The VM has disks on storage domains that are not active: they would stay."""

    code = "vm_disks_away"
    remedy = (
        "Activate the storage domains that the message names, then delete the VM. If "
        "they are gone for good, delete it with --leave-disks (force in REST)."
    )


class DiskBusy(Busy):
    """A disk is being worked on for longer than who asked waits."""

    code = "disk_busy"
    remedy = "Wait for the job that `job_id` names, then ask again: what is done stays."


class DiskNotMade(Failed):
    """A VM's disk could not be made, or changed."""

    code = "disk_not_made"
    remedy = "Correct what the message names, then try again."


class LeaseMovedOn(Conflict):
    """Since this run of the VM had the lease last, another one had it."""

    code = "vm_lease_moved"
    remedy = "Nothing: this run of the VM must end. Start the VM where it shall run."


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of a disk's chain."""

    path: PurePath
    disk_format: DiskFormat


@dataclass(frozen=True, slots=True)
class Manner:
    """How a guest uses a disk, in libvirt's words.

    cache=none: what the guest flushed is on the host's disk. A write that fails stops
    the guest instead of telling it, so that a full file system costs time and not data.
    What it trims is free again.
    """

    cache: str = "none"
    on_error: str = "stop"
    does_discard: bool = True


@dataclass(frozen=True, slots=True)
class OpenVolume:
    """A disk that a guest may start on: what it writes to, then all beneath."""

    layers: tuple[Layer, ...]
    qos: DiskQos | None = None  # the disk's own limits; None: as the definition says
    manner: Manner = Manner()


@dataclass(frozen=True, slots=True)
class VmLease:
    """Where libvirt finds the resource."""

    lockspace: str
    key: str
    path: PurePath
    offset: int


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What lies in a VM's lease."""

    version: int
    node_id: NodeId | None  # the other node that has it; None: none, or unknown
    is_here: bool  # this node had it last, since it joined last
    is_free: bool  # it was given back
    # Somebody has it: this node, or another one that may be alive.
    is_held: bool
    is_kept: bool = False  # this node has it for itself: no QEMU of its does


@dataclass(frozen=True, slots=True)
class OwnPool:
    """The pool of this node's own disk, where VMs lie that name no pool."""

    pool_id: PoolId
    storage_domain_id: StorageDomainId | None  # of new disks; None: not managed yet
    trouble: str = ""  # why it is not managed, if that is known


@dataclass(frozen=True, slots=True)
class PoolVms:
    """The definitions on one pool, which this node manages."""

    pool_id: PoolId
    is_complete: bool  # every data storage domain was read, and nothing was damaged
    vms: tuple[Vm, ...] = ()


class Course(Protocol):
    """How a job tells how far it is, and hears that it is to end."""

    @property
    def job(self) -> Job: ...

    def check(self) -> None:
        """Raise what ends the job."""

    def step(
        self, percent: int, text: str, data_node_id: NodeId | None = None
    ) -> None: ...

    def pause(self, seconds: float) -> None:
        """Wait, then check."""


class Volumes(Protocol):
    """All raise PoolUnknown, and what the storage process and its storage do."""

    @property
    def memories(self) -> Memories:
        """Return what keeps the memory of suspended VMs."""

    def watch(self, is_active: Callable[[VmId], bool]) -> None:
        """Hear which VMs run here, or are about to: no job keeps their leases."""

    def own(self) -> OwnPool | None:
        """Return this node's own pool; None: it has no local storage."""

    def home(self, spec: VmSpec) -> StorageDomainId:
        """Say where the definition of a new VM belongs, and check that it may be made.

        Raises BadVm, NotSpm, and StorageDomainInactive.
        """

    def managed(self) -> frozenset[PoolId]:
        """Return the pools that this node manages."""

    def pool_of(self, disk_id: str) -> PoolId | None:
        """Return the pool that a disk was seen in; None: in none. Nothing is read."""

    def make(self, vm: Vm) -> None:
        """Make what a new VM lacks, as the manager: its disks and its lease.

        Idempotent. DiskTaken; Busy if that takes long: ask again.
        """

    def make_lease(self, vm: Vm) -> None:
        """Make a VM's lease where its home is, as the manager. Idempotent."""

    def check_free(self, vm: Vm, disk: Disk) -> None:
        """Refuse a disk that another VM's stored definition names; DiskTaken.

        What all share, or all only read, may be named by several. As the manager;
        Unavailable if some definitions cannot be read.
        """

    def naming(self, vm: Vm, disks: Iterable[Disk]) -> AbstractContextManager[None]:
        """Let nobody take these disks away until the VM's definition names them.

        As `check_free`; DiskMissing, DiskLocked, DiskUnfinished.
        """

    def check_manager(self, vm: Vm) -> None:
        """Refuse what only the manager of a VM's pool may do; NotSpm."""

    def holding(self, vm: Vm) -> AbstractContextManager[int | None]:
        """Let no node start a VM meanwhile; yield the version of its lease, as `park`.

        None: its pool is this node's alone. VmRunsElsewhere, VmHasLease; VmSuspended.
        """

    def holding_any(self, vm: Vm) -> AbstractContextManager[int | None]:
        """As `holding`, suspended or not; what has no lease, nobody could start."""

    def wait_for_pool(
        self, pool_id: PoolId | None, pause: Callable[[float], None]
    ) -> None:
        """Wait a while until this node, which has started again, is what it was.

        `pause` waits for so many seconds, or raises why not.
        """

    def write(self, vm: Vm, based_on: int) -> None:
        """Put the definition in place, as the manager; 0: there was none."""

    def delete(
        self, vm: Vm, progress: Course, *, may_leave_disks: bool = False
    ) -> tuple[str, ...]:
        """Delete definition, disks and lease, as the manager. Idempotent.

        Returns the disks that stay, since their storage domains are not active.
        Raises DisksAway unless they may, VmRunsElsewhere and DefinitionChanged, and
        what disks refuse.
        """

    def tidy_leases(self) -> None:
        """Remove what deletions and moves left of leases, where this node manages."""

    def find(self, vm_id: VmId, pool_id: PoolId | None = None) -> Vm | None:
        """Return a definition from the storage; None: there is none within reach.

        In one pool alone if that is named: what hangs elsewhere is not waited for.
        """

    def definitions(self) -> tuple[PoolVms, ...]:
        """Return all definitions of the pools that this node manages."""

    def open(self, disk: Disk) -> OpenVolume:
        """Return what a guest may start on; whatever forbids it is raised."""

    def limits(self, disk: Disk) -> DiskQos:
        """Return what of a disk holds now, as for a guest that starts on it."""

    def is_closed(self, vm: Vm, leaf: Leaf) -> bool:
        """Tell whether a leaf is marked as left: its guest has turned to its parent."""

    def variables(
        self, vm: Vm, version: int | None, first: Callable[[], bytes]
    ) -> PurePath:
        """Return where a VM's UEFI variables lie, and make them if they are not there.

        They start as `first`. `version` is of its lease, which this node has; None: its
        pool is this node's alone. StaleLease.
        """

    def lease(self, vm: Vm) -> VmLease | None:
        """Return the VM's lease; None: its pool is not shared, or it has none."""

    def read_lease(self, vm: Vm) -> LeaseRecord:
        """Read what lies in the VM's lease."""

    def is_given_back(self, vm: Vm) -> bool:
        """Tell whether nobody has the VM's lease, by what lies there alone."""

    def park(self, vm: Vm, version: int | None) -> int:
        """Have the lease for this node, and return its version; idempotent.

        `version` is the one it must have had. Raises VmRunsElsewhere, LeaseMovedOn,
        and VmHasLease.
        """

    def unpark(self, vm_id: VmId) -> None:
        """Give the lease back that was parked. Idempotent."""

    def parked(self) -> frozenset[VmId]:
        """Return the VMs whose leases this node has itself, for no deletion."""

    def has_lost(self, vm: Vm) -> bool:
        """Tell whether this node has lost, or loses, all leases where the VM's lies.

        The storage is not asked.
        """

    def is_well(self, vm: Vm) -> bool:
        """Tell whether the storage domains of the VM answer, here and now."""

    def record_size(self, disk: Disk, size_bytes: int) -> None:
        """Write down that a running guest's disk has grown, as the manager."""


def open_all(volumes: Volumes, spec: VmSpec) -> Mapping[DiskId, OpenVolume]:
    """Open the disks of a VM."""
    return {disk.disk_id: volumes.open(disk) for disk in spec.disks}


def check_awake(volumes: Volumes, vm: Vm) -> None:
    """Refuse to change a VM that goes on where it was; VmSuspended."""
    if volumes.memories.look(vm) is MemoryMark.SAVED:
        raise VmSuspended(f"VM {vm.spec.name} is suspended", vm_id=vm.spec.vm_id)


def check_unnamed(disk: Disk, vm: Vm, others: Iterable[Vm]) -> None:
    """Refuse a disk that another VM has and does not share. Pure.

    DiskTaken; DiskKeepsMemory, also of the VM itself.
    """
    for other in others:
        check_free(disk.disk_id, (other,))
        if other.spec.vm_id == vm.spec.vm_id:
            continue
        for each in other.spec.disks:
            is_common = (disk.is_shared and each.is_shared) or (
                disk.is_read_only and each.is_read_only
            )
            if each.disk_id == disk.disk_id and not is_common:
                raise DiskTaken(
                    f"VM {other.spec.name} has disk {disk.disk_id}",
                    disk_id=disk.disk_id,
                    vm_id=other.spec.vm_id,
                )
