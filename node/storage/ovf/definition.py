"""Turn a VM's definition into an OVF document's contents, and back.

Pure. Where the document knows more than the definition, the document keeps it;
where it is coarser (sizes of disks), the volumes' metadata is what counts. So it is
with leaves: a document may be older than its disks.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from node.model.ids import DiskId, PoolId, SnapshotId, StorageDomainId, VolumeId
from node.model.storage import ActualVolume, SnapshotKind, SnapshotState
from node.model.vm import Disk, DiskInterface, Nic, Snapshot, SnapshotDisk, Vm, VmSpec
from node.storage.ovf import document, reading
from node.storage.ovf.document import OvfDisk, OvfNic, OvfSnapshot, OvfVm

_INTERFACES: Final[Mapping[document.DiskInterface, DiskInterface]] = {
    document.DiskInterface.VIRTIO: DiskInterface.VIRTIO,
    document.DiskInterface.VIRTIO_SCSI: DiskInterface.VIRTIO_SCSI,
    document.DiskInterface.SATA: DiskInterface.SATA,
    document.DiskInterface.IDE: DiskInterface.IDE,
    # SCSI of another architecture; it stays so in its document
    document.DiskInterface.SPAPR_VSCSI: DiskInterface.VIRTIO_SCSI,
}

# A disk's volumes, each after its parent.
Volumes = Mapping[DiskId, tuple[ActualVolume, ...]]

_NO_DATE = "1970-01-01T00:00:00.000Z"


def missing(ovf: OvfVm, volumes: Volumes) -> tuple[DiskId, ...]:
    """Return the disks of a VM that are not among the volumes, LUNs included."""
    images = (
        each.disk_id
        for each in document.active_disks(ovf)
        if each.is_plugged and not volumes.get(each.disk_id)
    )
    return (*images, *map(DiskId, ovf.unsupported_disks))


def vm_of(ovf: OvfVm, volumes: Volumes, pool_id: PoolId, home: StorageDomainId) -> Vm:
    """Return the VM that a document describes, without the disks that are missing."""
    spec = replace(spec_of(ovf, volumes), pool_id=pool_id)
    kept = _snapshots_of(ovf, volumes)
    return Vm(
        spec,
        ovf.generation,
        ovf.created_at or _NO_DATE,
        home=home,
        snapshots=kept,
        snapshot_id=kept[-1].snapshot_id if kept else None,
    )


def spec_of(ovf: OvfVm, volumes: Volumes) -> VmSpec:
    """Return the definition of a VM, with those of its disks that are there.

    Disks that are not plugged in are left out, as the guest does not see them.
    """
    return VmSpec(
        vm_id=ovf.vm_id,
        name=ovf.name,
        memory_bytes=ovf.memory_bytes,
        cpu=ovf.cpu,
        firmware=ovf.firmware,
        disks=tuple(
            _disk(each, volumes[each.disk_id])
            for each in document.active_disks(ovf)
            if each.is_plugged and volumes.get(each.disk_id)
        ),
        nics=tuple(
            Nic(
                *(each.nic_id, each.name, each.mac, each.network or ""),
                each.is_linked,
                each.custom_properties,
            )
            for each in ovf.nics
        ),
        description=ovf.description,
        machine=ovf.machine,
        custom_properties=ovf.custom_properties,
    )


def document_of(vm: Vm, volumes: Volumes, original: bytes = b"") -> OvfVm:
    """Return what a document says of a VM.

    `original` is the document as it was: what only oVirt knows of the VM is taken
    from there.
    """
    before = reading.read(original) if original else None
    spec = vm.spec
    known_disks = {each.volume_id: each for each in before.disks} if before else {}
    known_nics = {each.nic_id: each for each in before.nics} if before else {}
    fresh = before or OvfVm(spec.vm_id, spec.name, spec.memory_bytes)
    snapshots = _ovf_snapshots(vm, fresh)
    owners = _owners(vm, volumes, snapshots[0].snapshot_id)
    return replace(
        fresh,
        vm_id=spec.vm_id,
        name=spec.name,
        memory_bytes=spec.memory_bytes,
        description=spec.description,
        cpu=spec.cpu,
        firmware=spec.firmware,
        has_secure_boot=fresh.has_secure_boot and spec.firmware is fresh.firmware,
        machine=spec.machine,
        disks=(
            *(
                replace(
                    _ovf_disk(disk, volume, known_disks.get(volume.volume_id), owners),
                    pool_id=spec.pool_id,
                )
                for disk in spec.disks
                for volume in volumes.get(disk.disk_id, ())
            ),
            *_unplugged(fresh, spec),
        ),
        nics=tuple(_ovf_nic(each, known_nics.get(each.nic_id)) for each in spec.nics),
        snapshots=snapshots,
        is_template=vm.template is not None,
        custom_properties=spec.custom_properties,
        generation=vm.generation,
        created_at=vm.created_at,
    )


def _disk(disk: OvfDisk, volumes: tuple[ActualVolume, ...]) -> Disk:
    leaf = _leaf(disk, volumes)
    return Disk(
        disk.disk_id,
        disk.name or disk.disk_id,
        leaf.size_bytes,
        None,
        disk.is_bootable,
        leaf.storage_domain_id,
        leaf.volume_id if len(volumes) > 1 else None,
        leaf.disk_format if disk.is_shared else None,
        disk.is_read_only,
        disk.is_shared,
        interface=_INTERFACES[disk.interface],
        custom_properties=disk.custom_properties,
    )


def _leaf(disk: OvfDisk, volumes: tuple[ActualVolume, ...]) -> ActualVolume:
    """Return what the VM writes to: as the document says, if nothing is built on it.

    Else the document is older than the disk, and the newest volume is meant.
    """
    parents = {each.parent_id for each in volumes}
    leaves = [each for each in volumes if each.volume_id not in parents]
    return next(
        (each for each in leaves if each.volume_id == disk.volume_id), leaves[-1]
    )


def _snapshots_of(ovf: OvfVm, volumes: Volumes) -> tuple[Snapshot, ...]:
    """Return the snapshots of which a disk's state is there, the older first."""
    below = {(key, each.parent_id) for key, chain in volumes.items() for each in chain}
    found: list[Snapshot] = []
    for each in sorted(ovf.snapshots, key=lambda each: each.created_at or ""):
        disks = tuple(
            SnapshotDisk(disk.disk_id, disk.volume_id)
            for disk in ovf.disks
            if disk.snapshot_id == each.snapshot_id
            and (disk.disk_id, disk.volume_id) in below
        )
        if each.kind is SnapshotKind.ACTIVE or not disks:
            continue
        snapshot = Snapshot(
            each.snapshot_id,
            ovf.vm_id,
            SnapshotKind.REGULAR,
            SnapshotState.OK,
            each.created_at or _NO_DATE,
            each.description,
            found[-1].snapshot_id if found else None,
            disks,
        )
        found.append(snapshot)
    return tuple(found)


def _ovf_snapshots(vm: Vm, before: OvfVm) -> tuple[OvfSnapshot, ...]:
    """Return a VM's snapshots as oVirt has them: the active one, and all others."""
    known = {each.snapshot_id: each for each in before.snapshots}
    active = next(
        (each for each in before.snapshots if each.kind is SnapshotKind.ACTIVE),
        OvfSnapshot(_active_id(vm), SnapshotKind.ACTIVE, "Active VM", vm.created_at),
    )
    return (
        active,
        *(
            replace(
                known.get(each.snapshot_id)
                or OvfSnapshot(each.snapshot_id, SnapshotKind.REGULAR),
                description=each.description,
                created_at=each.created_at,
            )
            for each in vm.snapshots
        ),
    )


def _active_id(vm: Vm) -> SnapshotId:
    """Return the id of what the VM runs on: the same each time."""
    return SnapshotId(str(uuid.uuid5(uuid.UUID(vm.spec.vm_id), "active")))


def _owners(
    vm: Vm, volumes: Volumes, active_id: SnapshotId
) -> Mapping[VolumeId, SnapshotId]:
    """Return which snapshot each volume is of."""
    leaves = {
        disk.disk_id: disk.volume_id or volumes[disk.disk_id][-1].volume_id
        for disk in vm.spec.disks
        if volumes.get(disk.disk_id)
    }
    of_snapshots = {
        disk.volume_id: each.snapshot_id for each in vm.snapshots for disk in each.disks
    }
    return {**of_snapshots, **dict.fromkeys(leaves.values(), active_id)}


def _unplugged(ovf: OvfVm, spec: VmSpec) -> tuple[OvfDisk, ...]:
    """Return the disks that the definition leaves out for that reason."""
    present = {each.disk_id for each in spec.disks}
    idle = {
        each.disk_id
        for each in document.active_disks(ovf)
        if not each.is_plugged and each.disk_id not in present
    }
    return tuple(each for each in ovf.disks if each.disk_id in idle)


def _ovf_disk(
    disk: Disk,
    volume: ActualVolume,
    known: OvfDisk | None,
    owners: Mapping[VolumeId, SnapshotId],
) -> OvfDisk:
    fresh = known or OvfDisk(
        disk.disk_id, volume.volume_id, disk.name, volume.size_bytes
    )
    return replace(
        fresh,
        name=disk.name,
        size_bytes=volume.size_bytes,
        allocated_bytes=volume.allocated_bytes,
        disk_format=volume.disk_format,
        allocation=volume.allocation,
        parent_id=volume.parent_id,
        snapshot_id=owners.get(volume.volume_id, fresh.snapshot_id),
        storage_domain_id=volume.storage_domain_id,
        created_at=volume.created_at,
        is_bootable=disk.is_bootable,
        is_read_only=disk.is_read_only,
        is_shared=disk.is_shared,
        interface=_ovf_interface(disk.interface, fresh.interface),
        custom_properties=disk.custom_properties,
    )


def _ovf_interface(
    now: DiskInterface, before: document.DiskInterface
) -> document.DiskInterface:
    """Return oVirt's name of a bus; what stood there stays if it means the same."""
    if _INTERFACES[before] is now:
        return before
    return next(name for name, each in _INTERFACES.items() if each is now)


def _ovf_nic(nic: Nic, known: OvfNic | None) -> OvfNic:
    fresh = known or OvfNic(nic.nic_id, nic.name, nic.mac)
    return replace(
        fresh,
        name=nic.name,
        mac=nic.mac,
        network=nic.network or None,
        is_linked=nic.is_linked,
        custom_properties=nic.custom_properties,
    )
