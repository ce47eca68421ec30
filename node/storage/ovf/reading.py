"""Read a VM or template from an oVirt OVF document.

Pure. Whatever is damaged or hostile raises DamagedOvf and names the place. Disks
that are no images (LUNs, Cinder) are named and left in the document.
"""

import base64
import binascii
import re
from dataclasses import replace
from typing import Final

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
from node.model.storage import Allocation, DiskFormat, SnapshotKind
from node.model.vm import Cpu, CpuMode, Firmware
from node.storage.ovf import properties, xml
from node.storage.ovf.document import (
    NOTHING,
    DamagedOvf,
    DiskInterface,
    OvfDisk,
    OvfNic,
    OvfSnapshot,
    OvfVm,
)
from node.storage.ovf.xml import Element
from node.units import GiB, MiB

# Kinds of hardware items: CIM's numbers.
CPU: Final = "3"
MEMORY: Final = "4"
NIC: Final = "10"
DISK: Final = "17"

_FORMATS: Final = {"RAW": DiskFormat.RAW, "COW": DiskFormat.QCOW2}
_ALLOCATIONS: Final = {
    "Sparse": Allocation.THIN,
    "Preallocated": Allocation.PREALLOCATED,
}
_INTERFACES: Final = {each.value: each for each in DiskInterface}
_SNAPSHOT_KINDS: Final = {each.value.upper(): each for each in SnapshotKind}
# Firmware and secure boot by oVirt's BiosType, counted from engine 4.4 on; older
# engines count from 0, and have no 0 for the cluster's default.
FIRMWARES: Final = {
    1: (Firmware.BIOS, False),  # i440fx
    2: (Firmware.BIOS, False),
    3: (Firmware.UEFI, False),
    4: (Firmware.UEFI, True),
}
VOLUMES_MAX: Final = 2_000  # of all disks and snapshots; oVirt allows some hundred
_NAME_MAX: Final = 1_024  # letters; oVirt's own have 255
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def read(data: bytes) -> OvfVm:
    """Return what a document says; DamagedOvf if it is none."""
    root = xml.parse(data)
    content = content_of(root)
    hardware = hardware_of(content)
    vm_id = VmId(xml.uuid_of(_id(content), "the VM's id"))
    firmware, has_secure_boot = firmware_of(root, content)
    template = _uuid_or_none(xml.text(content, "TemplateId"), "TemplateId")
    disks, unsupported = _disks(root, hardware)
    name = xml.prose(content, "Name")
    if len(name) > _NAME_MAX:
        raise DamagedOvf(f"a VM's name cannot have {len(name)} letters", field="Name")
    is_template = bool(xml.text(content, "TemplateType")) or template == vm_id
    return OvfVm(
        vm_id=vm_id,
        name=name,
        memory_bytes=_memory(hardware),
        description=xml.prose(content, "Description"),
        cpu=_cpu(content, hardware),
        firmware=firmware,
        has_secure_boot=has_secure_boot,
        machine=xml.text(content, "CustomEmulatedMachine") or None,
        disks=disks,
        nics=tuple(map(_nic, items(hardware, NIC))),
        snapshots=tuple(
            map(_snapshot, xml.children(snapshots_of(content), "Snapshot"))
        ),
        generation=_number_or(xml.text(content, "Generation"), "Generation", 1),
        created_at=xml.date_of(xml.text(content, "CreationDate")),
        template_id=None if template is None else TemplateId(template),
        template_name=xml.prose(content, "TemplateName"),
        is_template=is_template,
        custom_properties=properties.read_all(content),
        unsupported_disks=unsupported,
        original=data,
    )


def content_of(root: Element) -> Element:
    """Return the element that describes the VM."""
    content = xml.child(root, "Content")
    if content is None:
        content = xml.child(root, "VirtualSystem")
    if content is None:
        raise DamagedOvf("the document has no content")
    return content


def hardware_of(content: Element) -> Element:
    """Return the section whose items are the VM's devices."""
    hardware = xml.section(content, "VirtualHardwareSection")
    if hardware is None:
        raise DamagedOvf("the document has no hardware section")
    return hardware


def snapshots_of(content: Element) -> Element | None:
    """Return the section of snapshots, if there is one."""
    return xml.section(content, "SnapshotsSection")


def items(hardware: Element, kind: str) -> list[Element]:
    """Return the hardware items of a kind."""
    return [
        each
        for each in xml.children(hardware, "Item")
        if xml.text(each, "ResourceType") == kind
    ]


def instance_id(item: Element) -> str:
    """Return what an item is called by, as oVirt or the standard spells it."""
    return xml.text(item, "InstanceId") or xml.text(item, "InstanceID")


def snapshot_kind_of(name: str) -> SnapshotKind:
    """Return the kind of a snapshot; kinds that only oVirt has are regular."""
    return _SNAPSHOT_KINDS.get(name, SnapshotKind.REGULAR)


def is_image(file: Element) -> bool:
    """Tell whether a file is an image, as it is if nothing else is said."""
    return xml.attribute(file, "disk_storage_type") in ("", "IMAGE")


def firmware_of(root: Element, content: Element) -> tuple[Firmware, bool]:
    """Return the firmware and whether secure boot is on."""
    number = _number_or(xml.text(content, "BiosType"), "BiosType", 0)
    return FIRMWARES.get(number + 1 - first_bios(root), (Firmware.BIOS, False))


def first_bios(root: Element) -> int:
    """Return the number that i440fx has among the BiosTypes of its engine."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})", xml.attribute(root, "version"))
    is_old = match is not None and (int(match[1]), int(match[2])) < (4, 4)
    return 0 if is_old else 1


def _id(content: Element) -> str:
    system = xml.section(content, "OperatingSystemSection")
    return "" if system is None else xml.attribute(system, "id")


def _memory(hardware: Element) -> int:
    found = items(hardware, MEMORY)
    if not found:
        raise DamagedOvf("the document does not say how much memory the VM has")
    return MiB * xml.number_of(xml.text(found[0], "VirtualQuantity"), "memory")


def _cpu(content: Element, hardware: Element) -> Cpu:
    model = xml.text(content, "CustomCpuName") or None
    mode = CpuMode.HOST_MODEL
    if xml.truth_of(xml.text(content, "UseHostCpu")):
        mode, model = CpuMode.HOST_PASSTHROUGH, None
    elif model is not None:
        mode = CpuMode.NAMED
    found = items(hardware, CPU)
    if not found:
        raise DamagedOvf("the document does not say how many processors the VM has")
    sockets, cores, threads = (
        _number_or(xml.text(found[0], name), name, 1)
        for name in ("num_of_sockets", "cpu_per_socket", "threads_per_cpu")
    )
    return Cpu(mode, model, sockets, cores, threads)


def _disks(
    root: Element, hardware: Element
) -> tuple[tuple[OvfDisk, ...], tuple[str, ...]]:
    """Return the disks that are images, and the ids of those that are not."""
    files = {
        xml.attribute(each, "id"): each
        for each in xml.children(xml.child(root, "References"), "File")
    }
    drives = {instance_id(each): each for each in items(hardware, DISK)}
    disks: list[OvfDisk] = []
    unsupported: list[str] = []
    listed = xml.children(xml.section(root, "DiskSection"), "Disk")
    if len(listed) > VOLUMES_MAX:
        raise DamagedOvf(f"a VM cannot have {len(listed)} volumes", field="Disk")
    for each in listed:
        volume = xml.attribute(each, "diskId")
        file = files.get(volume)
        if file is None:
            raise DamagedOvf(f"disk {volume[:80]!r} has no file", field="diskId")
        if is_image(file):
            disks.append(_disk(each, file, drives.get(volume)))
        else:
            unsupported.append(volume)
    _refuse_twins([each.volume_id for each in disks])
    return tuple(disks), tuple(unsupported)


def _disk(disk: Element, file: Element, drive: Element | None) -> OvfDisk:
    disk_id, slash, volume_id = xml.attribute(file, "href").partition("/")
    volume_id = xml.uuid_of(volume_id, "the file's volume")
    if not slash or volume_id != xml.attribute(disk, "diskId").lower():
        raise DamagedOvf(f"disk and file disagree about volume {volume_id}")
    found = OvfDisk(
        disk_id=DiskId(xml.uuid_of(disk_id, "the file's disk")),
        volume_id=VolumeId(volume_id),
        name=xml.attribute(disk, "disk-alias"),
        size_bytes=GiB * _number_or(xml.attribute(disk, "size"), "size", 0),
        allocated_bytes=_number_or(xml.attribute(file, "size"), "file size", 0),
        disk_format=_FORMATS.get(xml.attribute(disk, "volume-format"), DiskFormat.RAW),
        allocation=_ALLOCATIONS.get(
            xml.attribute(disk, "volume-type"), Allocation.THIN
        ),
        interface=_INTERFACES.get(
            xml.attribute(disk, "disk-interface"), DiskInterface.VIRTIO
        ),
        description=xml.attribute(disk, "disk-description"),
        is_bootable=xml.truth_of(xml.attribute(disk, "boot")),
        is_read_only=xml.truth_of(xml.attribute(disk, "read-only")),
        is_shared=xml.truth_of(xml.attribute(disk, "shareable")),
        wipe_after_delete=xml.truth_of(xml.attribute(disk, "wipe-after-delete")),
        snapshot_id=_snapshot_id(xml.attribute(disk, "vm_snapshot_id")),
    )
    if drive is None:
        return found
    parent = _uuid_or_none(xml.text(drive, "Parent"), "Parent")
    template = _uuid_or_none(xml.text(drive, "Template"), "Template")
    storage_domain = _uuid_or_none(xml.text(drive, "StorageId"), "StorageId")
    pool = _uuid_or_none(xml.text(drive, "StoragePoolId"), "StoragePoolId")
    return replace(
        found,
        name=found.name or xml.text(drive, "Caption"),
        parent_id=VolumeId(parent) if parent else None,
        template_volume_id=VolumeId(template) if template else None,
        storage_domain_id=StorageDomainId(storage_domain) if storage_domain else None,
        pool_id=PoolId(pool) if pool else None,
        created_at=xml.date_of(xml.text(drive, "CreationDate")),
        is_plugged=xml.truth_of(xml.text(drive, "IsPlugged"), default=True),
        custom_properties=properties.read_device(drive),
    )


def _nic(item: Element) -> OvfNic:
    mac = xml.text(item, "MACAddress").lower()
    if mac and not _MAC.fullmatch(mac):
        raise DamagedOvf(f"{mac[:80]!r} is no MAC address", field="MACAddress")
    return OvfNic(
        nic_id=NicId(xml.uuid_of(instance_id(item), "the card's id")),
        name=xml.prose(item, "Name"),
        mac=mac,
        network=xml.prose(item, "Connection") or None,
        profile=xml.prose(item, "OtherResourceType"),
        is_linked=xml.truth_of(xml.text(item, "Linked"), default=True),
        model=_number_or(xml.text(item, "ResourceSubType"), "ResourceSubType", 3),
        custom_properties=properties.read_device(item),
    )


def _snapshot(element: Element) -> OvfSnapshot:
    try:
        configuration = base64.b64decode(
            "".join(xml.text(element, "VmConfiguration").split()), validate=True
        )
    except (binascii.Error, ValueError) as error:
        raise DamagedOvf(f"a snapshot's configuration is damaged: {error}") from error
    memory = xml.text(element, "Memory")
    return OvfSnapshot(
        SnapshotId(xml.uuid_of(xml.attribute(element, "id"), "a snapshot's id")),
        snapshot_kind_of(xml.text(element, "Type")),
        xml.prose(element, "Description"),
        xml.date_of(xml.text(element, "CreationDate")),
        tuple(xml.uuid_of(each, "Memory") for each in memory.split(",") if each),
        configuration,
    )


def _snapshot_id(value: str) -> SnapshotId | None:
    found = _uuid_or_none(value, "vm_snapshot_id")
    return None if found is None else SnapshotId(found)


def _uuid_or_none(value: str, what: str) -> str | None:
    return None if value in ("", NOTHING) else xml.uuid_of(value, what)


def _number_or(value: str, what: str, default: int) -> int:
    return xml.number_of(value, what) if value else default


def _refuse_twins(volumes: list[VolumeId]) -> None:
    for each in volumes:
        if volumes.count(each) > 1:
            raise DamagedOvf(f"volume {each} stands there twice", field="diskId")
