"""A virtual machine: what it is, what it should do, what it does.

`Vm` is the definition with the wanted state; only administrators change it.
`VmRun` is what a node observes of it. Sizes are bytes.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from node.model.ids import (
    DiskId,
    NicId,
    NodeId,
    PoolId,
    SnapshotId,
    StorageDomainId,
    TemplateId,
    VmId,
    VolumeId,
)
from node.model.properties import CustomProperty
from node.model.reason import Reason
from node.model.storage import DiskFormat, DiskQos, SnapshotKind, SnapshotState


class VmState(StrEnum):
    DOWN = "down"
    STARTING = "starting"  # asked of libvirt, no QEMU yet
    POWERING_UP = "powering_up"  # QEMU runs, the guest has not answered yet
    UP = "up"
    PAUSED = "paused"
    REBOOTING = "rebooting"
    POWERING_DOWN = "powering_down"
    NOT_RESPONDING = "not_responding"  # QEMU's monitor is silent
    UNKNOWN = "unknown"  # said by an aggregator only: its node is silent


class Wanted(StrEnum):
    UP = "up"
    PAUSED = "paused"
    DOWN = "down"


class Firmware(StrEnum):
    BIOS = "bios"
    UEFI = "uefi"


class CpuMode(StrEnum):
    HOST_PASSTHROUGH = "host_passthrough"
    HOST_MODEL = "host_model"
    NAMED = "named"


class DiskInterface(StrEnum):
    """The bus that a VM finds a disk on."""

    VIRTIO = "virtio"
    VIRTIO_SCSI = "virtio_scsi"
    SATA = "sata"  # of the chip set of q35 machines
    IDE = "ide"  # of the chip set of i440fx machines

    @property
    def is_hot(self) -> bool:
        """Tell whether a running VM can be given such a disk, or lose it."""
        return self in (DiskInterface.VIRTIO, DiskInterface.VIRTIO_SCSI)


@dataclass(frozen=True, slots=True)
class Cpu:
    mode: CpuMode = CpuMode.HOST_MODEL
    model: str | None = None  # libvirt's name of it; with NAMED only
    sockets: int = 1
    cores: int = 1
    threads: int = 1

    @property
    def count(self) -> int:
        return self.sockets * self.cores * self.threads


@dataclass(frozen=True, slots=True)
class Disk:
    disk_id: DiskId
    name: str
    size_bytes: int  # 0: as large as its image, or a pool's disk that is there
    image: str | None = None  # name of the base image it starts from; None: blank
    is_bootable: bool = False
    # None only when a VM is asked for: its node places it on the local pool.
    storage_domain_id: StorageDomainId | None = None
    volume_id: VolumeId | None = None  # its leaf; None: found when the VM starts
    disk_format: DiskFormat | None = None  # None: as the disk is, or qcow2
    is_read_only: bool = False
    is_shared: bool = False  # several VMs may run with it at once
    qos: DiskQos = field(default_factory=DiskQos)
    from_disk_id: DiskId | None = None  # the template's disk that it starts as
    interface: DiskInterface = DiskInterface.VIRTIO
    custom_properties: tuple[CustomProperty, ...] = ()


@dataclass(frozen=True, slots=True)
class Nic:
    nic_id: NicId
    name: str
    mac: str  # six lower-case hex pairs with colons
    network: str  # name of the logical network, and of the node's bridge
    is_linked: bool = True
    custom_properties: tuple[CustomProperty, ...] = ()


class ResumeBehavior(StrEnum):
    """What becomes of a VM that is paused by an error of its disk."""

    AUTO_RESUME = "auto_resume"  # it goes on when the storage is back
    LEAVE_PAUSED = "leave_paused"
    KILL = "kill"  # if the error lasts, so that it can start elsewhere


@dataclass(frozen=True, slots=True)
class VmSpec:
    """What a caller asks for: the node fills in the rest and pins it."""

    vm_id: VmId
    name: str
    memory_bytes: int
    cpu: Cpu = field(default_factory=Cpu)
    firmware: Firmware = Firmware.BIOS
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    description: str = ""
    # versioned machine type, such as pc-q35-7.2; None: the newest q35 that the node
    # has, or the newest i440fx if a disk is on IDE
    machine: str | None = None
    pool_id: PoolId | None = None  # None: see `Disk.storage_domain_id`
    # its lease lies there; None: on its home, if other nodes reach that
    lease_domain_id: StorageDomainId | None = None
    resume_behavior: ResumeBehavior = ResumeBehavior.AUTO_RESUME
    template_id: TemplateId | None = None  # what it was made from; None: Blank
    is_clone: bool = False  # its disks are full copies: it needs no template
    custom_properties: tuple[CustomProperty, ...] = ()  # by name


@dataclass(frozen=True, slots=True)
class SnapshotDisk:
    disk_id: DiskId
    volume_id: VolumeId  # what the disk was when the snapshot was taken


@dataclass(frozen=True, slots=True)
class VmMemory:
    """The disk in which a guest's memory is kept: a suspended VM's, or a snapshot's."""

    storage_domain_id: StorageDomainId
    disk_id: DiskId
    is_saved: bool = False  # it is whole; else it may be about to be


@dataclass(frozen=True, slots=True)
class Snapshot:
    snapshot_id: SnapshotId
    vm_id: VmId
    kind: SnapshotKind
    state: SnapshotState
    created_at: str
    description: str = ""
    parent_id: SnapshotId | None = None
    disks: tuple[SnapshotDisk, ...] = ()
    memory: VmMemory | None = None
    is_consistent: bool = False  # the guest's file systems were frozen
    spec: VmSpec | None = None  # the definition at that time
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a VM was before it went back to a snapshot to look at it."""

    snapshot_id: SnapshotId  # that it looks at
    spec: VmSpec
    parent_id: SnapshotId | None = None  # what it went on from


@dataclass(frozen=True, slots=True)
class TemplateMark:
    """What makes a definition that of a template, which never runs."""

    base_id: TemplateId | None = None  # the first of its versions; None: this one
    version: int = 1
    version_name: str = ""


@dataclass(frozen=True, slots=True)
class Vm:
    """A defined VM; `generation` grows with every change of the definition."""

    spec: VmSpec  # its machine type is pinned
    generation: int
    created_at: str  # RFC 3339
    wanted: Wanted = Wanted.DOWN
    # PCI slot of each device by alias, of some disks the place on another bus: fixed
    # when the device first appears
    addresses: tuple[tuple[str, int], ...] = ()
    home: StorageDomainId | None = None  # bears the definition; None: this node
    snapshots: tuple[Snapshot, ...] = ()  # the older first
    snapshot_id: SnapshotId | None = None  # what its disks go on from
    preview: Preview | None = None
    template: TemplateMark | None = None  # None: it is a VM
    memory: VmMemory | None = None
    schema: int = 1


class EndCause(StrEnum):
    """Why a run of a VM ended."""

    GUEST = "guest"  # the guest shut itself down
    ADMINISTRATOR = "administrator"  # stopped through us
    CRASHED = "crashed"  # QEMU died or the guest panicked
    KILLED = "killed"  # ended by force, through us
    HOST_LOST = "host_lost"  # the host went down beneath it
    START_FAILED = "start_failed"
    SUSPENDED = "suspended"  # its memory is kept
    LEASE_LOST = "lease_lost"  # its storage was away for longer than its lease lasts
    LEASE_MOVED = "lease_moved"  # while it was paused, it ran on another host
    UNKNOWN = "unknown"  # it ended while nobody looked, and no trace says how


@dataclass(frozen=True, slots=True)
class VmEnd:
    cause: EndCause
    at: str  # RFC 3339
    detail: str = ""  # the line of evidence: libvirt's event, QEMU's log


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """What the guest agent says; `at` is when it said so."""

    at: str
    host_name: str = ""
    os: str = ""
    addresses: tuple[str, ...] = ()  # without loopback and link-local ones


@dataclass(frozen=True, slots=True)
class VmRun:
    vm_id: VmId
    node_id: NodeId
    state: VmState
    since: str  # RFC 3339: when this state began
    reason: Reason | None = None  # why the state is not the wanted one
    started_at: str | None = None
    generation: int = 0  # of the definition that it was started with
    is_emulated: bool = False  # runs by TCG, not KVM
    vnc_port: int | None = None  # on the node's loopback
    guest: GuestFacts | None = None
    end: VmEnd | None = None  # how the last run ended
    # Of the VM's lease, when this run held it last: who finds another one there when
    # it goes on must not, since the VM has run elsewhere. None: it has no lease.
    lease_version: int | None = None
    schema: int = 1


@dataclass(frozen=True, slots=True)
class VmEntry:
    vm: Vm
    run: VmRun


@dataclass(frozen=True, slots=True)
class ForeignVm:
    """A domain on this host that we did not make: shown, never touched."""

    uuid: str
    name: str
    state: VmState
