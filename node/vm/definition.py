"""Check what a caller asks a VM to be, and pin what it leaves open.

Pure. Every complaint names the field. Sizes are bytes.
"""

import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace

from node.errors import Conflict, Invalid, Unsupported
from node.model.host import Image, NodeFacts
from node.model.ids import PoolId, StorageDomainId
from node.model.properties import CustomProperty
from node.model.storage import DiskFormat
from node.model.vm import (
    Cpu,
    CpuMode,
    Disk,
    DiskInterface,
    Firmware,
    Nic,
    Vm,
    VmSpec,
)
from node.policy import properties
from node.units import KiB, MiB
from node.vm.devices import drive

MEMORY_MIN = 16 * MiB  # below it no firmware starts
VCPUS_MAX = 240  # of a q35 machine without an interrupt remapper, rounded down
DISKS_MAX = 16  # what 28 root ports leave beside the cards and our own devices
NICS_MAX = 8
NAME_MAX = 255  # bytes of UTF-8
DESCRIPTION_MAX = 4096  # bytes of UTF-8
DISK_MIN = MiB
DISK_MAX = 1 << 50  # 1 PiB: above it, a qcow2's tables take too much memory
_DISK_STEP = 512  # a sector

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MACHINE = re.compile(r"pc-(q35|i440fx)-[0-9.]+")
# The machines whose chip set has the bus.
_MACHINES_WITH = {
    DiskInterface.SATA: "pc-q35-",
    DiskInterface.IDE: "pc-i440fx-",
}


class BadVm(Invalid):
    """A field of the VM cannot be as it is asked for."""

    code = "bad_vm"
    remedy = "Correct the field named in the message and send it again."


class NoMachine(Unsupported):
    """The hypervisor offers no such machine, or is not known yet."""

    code = "no_machine"
    remedy = "Check that libvirt and QEMU run on the node, then try again."


class NameTaken(Conflict):
    """Another VM on this node bears the name."""

    code = "vm_name_taken"
    remedy = "Choose another name."


class MacTaken(Conflict):
    """Another VM on this node has the MAC address."""

    code = "mac_taken"
    remedy = "Choose another MAC address."


class VmDiffers(Conflict):
    """The id belongs to a VM that is something else."""

    code = "vm_differs"
    remedy = "Choose a new id, or ask for exactly what the VM already is."


def pin(spec: VmSpec, host: NodeFacts, images: Mapping[str, Image]) -> VmSpec:
    """Return the definition with what never changes again.

    That is the machine type, and for disks of size 0 the size of their image.
    """
    spec = replace(spec, disks=tuple(_sized(disk, images) for disk in spec.disks))
    if spec.machine is not None:
        return spec
    has_ide = any(each.interface is DiskInterface.IDE for each in spec.disks)
    kind = "i440fx" if has_ide else "q35"
    found = (each for each in host.machines if each.startswith(f"pc-{kind}-"))
    machine = next(filter(_MACHINE.fullmatch, found), None)
    if machine is None:
        raise NoMachine(f"node {host.name} has no {kind} machine")
    return replace(spec, machine=machine)


def with_properties(
    spec: VmSpec, device_id: str | None, given: tuple[CustomProperty, ...]
) -> VmSpec:
    """Return a VM with custom properties, or its device with them; NoSuchDevice."""
    own = properties.edited((), given)
    if device_id is None:
        return replace(spec, custom_properties=own)
    properties.of(spec, device_id)
    nics = tuple(
        replace(nic, custom_properties=own) if nic.nic_id == device_id else nic
        for nic in spec.nics
    )
    disks = tuple(
        replace(disk, custom_properties=own) if disk.disk_id == device_id else disk
        for disk in spec.disks
    )
    return replace(spec, nics=nics, disks=disks)


def placed(
    spec: VmSpec, pool_id: PoolId, storage_domain_ids: Iterable[StorageDomainId | None]
) -> VmSpec:
    """Return a VM that names no place with its disks in these; others as they are."""
    if spec.pool_id is not None or any(disk.storage_domain_id for disk in spec.disks):
        return spec
    places = zip(spec.disks, storage_domain_ids, strict=False)
    disks = tuple(replace(disk, storage_domain_id=place) for disk, place in places)
    return replace(spec, pool_id=pool_id, disks=disks)


def is_same(asked: VmSpec, pinned: VmSpec) -> bool:
    """Tell whether a caller asks for the VM that is there already.

    Who named no place means the VM wherever its disks lie.
    """
    if len(asked.disks) != len(pinned.disks):
        return False
    if pinned.pool_id is not None:
        places = [disk.storage_domain_id for disk in pinned.disks]
        asked = placed(asked, pinned.pool_id, places)
    disks = tuple(
        replace(disk, size_bytes=disk.size_bytes or there.size_bytes)
        for disk, there in zip(asked.disks, pinned.disks, strict=True)
    )
    machine = asked.machine or pinned.machine
    return replace(asked, machine=machine, disks=disks) == pinned


def check_images(spec: VmSpec, images: Mapping[str, Image]) -> None:
    """Check what the disks of a new VM start from; BadVm.

    Later nobody needs the image of a disk on a pool: that holds a copy.
    """
    for index, disk in enumerate(spec.disks):
        if disk.image is not None:
            _check_image(disk, f"disks[{index}]", images.get(disk.image))


def check_alone(spec: VmSpec, host: NodeFacts) -> None:
    """Check a pinned definition against the node; BadVm, NoMachine."""
    _check_id(spec.vm_id, "vm_id")
    check_name(spec.name)
    check_description(spec.description)
    check_memory(spec, host)
    _check_cpu(spec.cpu, host)
    if not host.machines:
        raise NoMachine(f"node {host.name} has no machine types")
    machine = spec.machine or ""
    if machine not in host.machines or not _MACHINE.fullmatch(machine):
        raise _bad("machine", f"{machine[:80]} is no PC of this node")
    if len(spec.disks) > DISKS_MAX:
        raise _bad("disks", f"may be at most {DISKS_MAX}")
    if len(spec.nics) > NICS_MAX:
        raise _bad("nics", f"may be at most {NICS_MAX}")
    check_buses(spec)
    for index, disk in enumerate(spec.disks):
        _check_disk(disk, f"disks[{index}]")
        if (disk.storage_domain_id is None) is not (spec.pool_id is None):
            field = f"disks[{index}].storage_domain_id"
            raise _bad(field, "goes with pool_id, and all disks have it or none")
    _check_template(spec)
    properties.check_all(spec)
    for index, nic in enumerate(spec.nics):
        _check_nic(nic, f"nics[{index}]", host)
    _check_unique("disks", "disk_id", (disk.disk_id for disk in spec.disks))
    _check_unique("nics", "nic_id", (nic.nic_id for nic in spec.nics))
    _check_unique("nics", "mac", (nic.mac for nic in spec.nics))


def check_buses(spec: VmSpec) -> None:
    """Refuse disks on buses that the VM does not have, or no more of; BadVm."""
    machine = spec.machine or ""
    is_old = machine.startswith(_MACHINES_WITH[DiskInterface.IDE])
    if is_old and spec.firmware is not Firmware.BIOS:
        raise _bad("firmware", f"must be bios on {machine}, which IDE disks need")
    for index, disk in enumerate(spec.disks):
        field, bus = f"disks[{index}].interface", disk.interface.value
        family = _MACHINES_WITH.get(disk.interface)
        if family is None:
            continue
        if not machine.startswith(family):
            raise _bad(field, f"{bus} needs a {family[:-1]} machine, not {machine}")
        if disk.is_read_only:
            raise _bad(field, f"{bus} has no read-only disks: use virtio_scsi")
        places = drive.PLACES[disk.interface]
        if sum(each.interface is disk.interface for each in spec.disks) > places:
            raise _bad(field, f"{bus} takes at most {places} disks")


def check_description(text: str) -> None:
    """Refuse what is too long; BadVm."""
    if len(text.encode()) > DESCRIPTION_MAX:
        raise _bad("description", f"must have at most {DESCRIPTION_MAX} bytes")


def check_memory(spec: VmSpec, host: NodeFacts) -> None:
    """Refuse what no VM of this node can have; BadVm."""
    if not MEMORY_MIN <= spec.memory_bytes <= host.memory_bytes:
        raise _bad("memory_bytes", f"must be from {MEMORY_MIN} to {host.memory_bytes}")
    if spec.memory_bytes % KiB:
        raise _bad("memory_bytes", f"must be a multiple of {KiB}")


def check_pool_disk(disk: Disk) -> None:
    """Check a disk of a pool that is to be attached; BadVm."""
    _check_disk(disk, "disk")
    properties.check(disk.custom_properties)
    if disk.storage_domain_id is None:
        raise _bad("disk.storage_domain_id", "must name where the disk lies")


def check_beside(spec: VmSpec, others: Iterable[Vm]) -> None:
    """Check that name and MAC addresses are free; NameTaken, MacTaken."""
    macs = {nic.mac for nic in spec.nics}
    for other in others:
        if other.spec.vm_id == spec.vm_id:
            continue
        if other.spec.name == spec.name:
            raise NameTaken(
                f"there is a VM {spec.name} on this node already", name=spec.name
            )
        for nic in other.spec.nics:
            if nic.mac in macs:
                raise MacTaken(
                    f"VM {other.spec.name} has the MAC address {nic.mac}", mac=nic.mac
                )


def _sized(disk: Disk, images: Mapping[str, Image]) -> Disk:
    image = images.get(disk.image or "")
    if disk.size_bytes or image is None:
        return disk
    return replace(disk, size_bytes=image.size_bytes)


def _bad(field: str, complaint: str) -> BadVm:
    return BadVm(f"{field} {complaint}", field=field)


def _check_id(value: str, field: str) -> None:
    """Refuse all but lower-case UUIDs: ids are names of files."""
    try:
        is_good = str(uuid.UUID(value)) == value
    except ValueError:
        is_good = False
    if not is_good:
        raise _bad(field, "must be a lower-case UUID")


def check_name(name: str) -> None:
    """Refuse what is no name of a VM or a template; BadVm."""
    if not name or name != name.strip():
        raise _bad("name", "must not be empty, nor begin or end with a space")
    if len(name.encode()) > NAME_MAX:
        raise _bad("name", f"must have at most {NAME_MAX} bytes")
    if not unicodedata.is_normalized("NFC", name):
        raise _bad("name", "must be in Unicode's normal form C")
    if any(unicodedata.category(letter) in _UNNAMEABLE for letter in name):
        raise _bad("name", "must not have control characters")
    if "/" in name:
        raise _bad("name", "must not have a slash")


# control, surrogate, unassigned (XML has no U+FFFE), line and paragraph separators
_UNNAMEABLE = frozenset({"Cc", "Cs", "Cn", "Zl", "Zp"})


def _check_cpu(cpu: Cpu, host: NodeFacts) -> None:
    for field in ("sockets", "cores", "threads"):
        if getattr(cpu, field) < 1:
            raise _bad(f"cpu.{field}", "must be at least 1")
    if cpu.count > VCPUS_MAX:
        raise _bad("cpu", f"must have at most {VCPUS_MAX} threads together")
    if (cpu.mode is CpuMode.NAMED) is (cpu.model is None):
        raise _bad("cpu.model", "goes with the mode named, and with it only")
    if cpu.model is not None and cpu.model not in host.cpu.usable_models:
        raise _bad("cpu.model", f"{cpu.model[:80]} cannot be used on this node")


def _check_template(spec: VmSpec) -> None:
    if spec.template_id is not None:
        _check_id(spec.template_id, "template_id")
    elif spec.is_clone:
        raise _bad("is_clone", "goes with template_id")
    for index, disk in enumerate(spec.disks):
        if disk.from_disk_id is None:
            continue
        if spec.template_id is None:
            raise _bad(f"disks[{index}].from_disk_id", "goes with template_id")
        _check_id(disk.from_disk_id, f"disks[{index}].from_disk_id")


def _check_disk(disk: Disk, field: str) -> None:
    _check_id(disk.disk_id, f"{field}.disk_id")
    is_there = disk.storage_domain_id is not None and disk.size_bytes == 0
    if not is_there and not DISK_MIN <= disk.size_bytes <= DISK_MAX:
        raise _bad(f"{field}.size_bytes", f"must be from {DISK_MIN} to {DISK_MAX}")
    if disk.size_bytes % _DISK_STEP:
        raise _bad(f"{field}.size_bytes", f"must be a multiple of {_DISK_STEP}")
    if disk.storage_domain_id is not None:
        _check_pool_disk(disk, field)


def _check_image(disk: Disk, field: str, image: Image | None) -> None:
    if image is None:
        raise _bad(f"{field}.image", f"{disk.image!r:.80} is no image of this node")
    if disk.from_disk_id is not None or disk.is_read_only:
        raise _bad(f"{field}.image", "is for a disk of its own, which is written to")
    if disk.size_bytes < image.size_bytes:
        raise _bad(
            f"{field}.size_bytes",
            f"must be at least {image.size_bytes}, the size of its image",
        )


def _check_pool_disk(disk: Disk, field: str) -> None:
    _check_id(disk.storage_domain_id or "", f"{field}.storage_domain_id")
    if disk.volume_id is not None:
        _check_id(disk.volume_id, f"{field}.volume_id")
    if disk.is_shared and disk.disk_format is not DiskFormat.RAW:
        raise _bad(f"{field}.disk_format", "must be raw: several VMs write to the disk")
    limits = [getattr(disk.qos, each.name) for each in fields(disk.qos)]
    if min(limits) < 0:
        raise _bad(f"{field}.qos", "must not be negative")
    for total, parts in _QOS_TOTALS.items():
        if getattr(disk.qos, total) and any(getattr(disk.qos, p) for p in parts):
            raise _bad(f"{field}.qos.{total}", "excludes the limits of read and write")


_QOS_TOTALS = {
    "total_iops": ("read_iops", "write_iops"),
    "total_bytes_s": ("read_bytes_s", "write_bytes_s"),
}


def _check_nic(nic: Nic, field: str, host: NodeFacts) -> None:
    _check_id(nic.nic_id, f"{field}.nic_id")
    if not _MAC.fullmatch(nic.mac):
        raise _bad(f"{field}.mac", "must be six lower-case hex pairs with colons")
    if int(nic.mac[:2], 16) & 1:
        raise _bad(f"{field}.mac", "must be the address of one card, not of a group")
    if nic.mac == "00:00:00:00:00:00":
        raise _bad(f"{field}.mac", "must not be all zeros")
    if nic.network not in host.networks:
        raise _bad(f"{field}.network", f"{nic.network!r} is no network of this node")


def _check_unique(group: str, field: str, values: Iterator[str]) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise _bad(f"{group}[{index}].{field}", f"{value} stands there twice")
        seen.add(value)
