"""A VM or template as an oVirt OVF document describes it.

Pure. Sizes are bytes, times RFC 3339 in UTC. Source: oVirt's OvfVmWriter and
OvfReader, docs/formats/storage-domain.md.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from node.errors import Invalid
from node.model.ids import (
    DiskId,
    NicId,
    PoolId,
    SnapshotId,
    StorageDomainId,
    TemplateId,
    VmId,
    VolumeId,
)
from node.model.properties import CustomProperty
from node.model.storage import Allocation, DiskFormat, SnapshotKind
from node.model.vm import Cpu, Firmware

# oVirt's own are some 20 KiB; snapshots carry the document of their time inside.
DOCUMENT_MAX: Final = 4 * 1024 * 1024

NOTHING: Final = "00000000-0000-0000-0000-000000000000"  # no parent, no template


class DamagedOvf(Invalid):
    """The document is not an OVF, or a value in it cannot be what it says."""

    code = "damaged_ovf"
    remedy = "Restore the document from the storage domain's other OVF_STORE."


class DiskInterface(StrEnum):
    """As oVirt spells them."""

    VIRTIO = "VirtIO"
    VIRTIO_SCSI = "VirtIO_SCSI"
    SATA = "SATA"
    IDE = "IDE"
    SPAPR_VSCSI = "SPAPR_VSCSI"


@dataclass(frozen=True, slots=True)
class OvfDisk:
    """One volume of a disk; a disk with snapshots stands there once for each."""

    disk_id: DiskId
    volume_id: VolumeId
    name: str
    size_bytes: int  # in whole GiB, rounded up: the volume's metadata is exact
    allocated_bytes: int = 0
    disk_format: DiskFormat = DiskFormat.QCOW2
    allocation: Allocation = Allocation.THIN
    interface: DiskInterface = DiskInterface.VIRTIO
    parent_id: VolumeId | None = None
    template_volume_id: VolumeId | None = None
    snapshot_id: SnapshotId | None = None
    storage_domain_id: StorageDomainId | None = None
    pool_id: PoolId | None = None
    description: str = ""
    created_at: str | None = None
    is_bootable: bool = False
    is_read_only: bool = False
    is_shared: bool = False
    is_plugged: bool = True
    wipe_after_delete: bool = False
    custom_properties: tuple[CustomProperty, ...] = ()


@dataclass(frozen=True, slots=True)
class OvfNic:
    nic_id: NicId
    name: str
    mac: str
    network: str | None = None
    profile: str = ""  # oVirt's vNIC profile
    is_linked: bool = True
    model: int = 3  # oVirt's number: 3 is virtio
    custom_properties: tuple[CustomProperty, ...] = ()


@dataclass(frozen=True, slots=True)
class OvfSnapshot:
    snapshot_id: SnapshotId
    kind: SnapshotKind
    description: str = ""
    created_at: str | None = None
    # storage domain, pool, memory's disk and volume, configuration's disk and volume
    memory: tuple[str, ...] = ()
    configuration: bytes = b""  # the document of that time


@dataclass(frozen=True, slots=True)
class OvfVm:
    vm_id: VmId
    name: str
    memory_bytes: int  # in whole MiB
    description: str = ""
    cpu: Cpu = field(default_factory=Cpu)
    firmware: Firmware = Firmware.BIOS
    has_secure_boot: bool = False
    machine: str | None = None
    disks: tuple[OvfDisk, ...] = ()
    nics: tuple[OvfNic, ...] = ()
    snapshots: tuple[OvfSnapshot, ...] = ()
    generation: int = 1
    created_at: str | None = None
    template_id: TemplateId | None = None
    template_name: str = "Blank"
    is_template: bool = False
    custom_properties: tuple[CustomProperty, ...] = ()
    unsupported_disks: tuple[str, ...] = ()  # ids of LUNs: kept, not understood
    # The document that it was read from: what is not told above stays in it.
    original: bytes = field(default=b"", compare=False, repr=False)


def active_disks(vm: OvfVm) -> tuple[OvfDisk, ...]:
    """Return the leaf of each disk: what the VM runs on.

    That is the volume of the active snapshot, else one that is nobody's parent.
    """
    active = {
        each.snapshot_id for each in vm.snapshots if each.kind is SnapshotKind.ACTIVE
    }
    leaves: dict[DiskId, OvfDisk] = {}
    for disk in vm.disks:
        parents = {each.parent_id for each in vm.disks if each.disk_id == disk.disk_id}
        is_leaf = disk.volume_id not in parents
        if disk.snapshot_id in active or (is_leaf and disk.disk_id not in leaves):
            leaves[disk.disk_id] = disk
    return tuple(leaves.values())
