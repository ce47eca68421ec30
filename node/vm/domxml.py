"""Describe a VM to libvirt, and read what libvirt tells: Vm ↔ domain XML.

Pure. The result depends on nothing but its arguments: the machine type and
all PCI addresses are in the definition, so a guest finds the same hardware at
every start. Source: https://libvirt.org/formatdomain.html
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

from node.contract.volumes import OpenVolume, VmLease
from node.model.ids import DiskId, NicId
from node.model.storage import DiskQos
from node.model.vm import Disk, DiskInterface, Vm, VmSpec
from node.units import KiB
from node.vm.devices import (
    balloon,
    channel,
    cpu,
    disk,
    drive,
    element,
    firmware,
    graphics,
    lease,
    metadata,
    nic,
    pci,
    rng,
    serial,
)

_DOMAIN_NAME_MAX = 180  # bytes: with the id and what libvirt adds, 255 are kept


@dataclass(frozen=True, slots=True)
class Host:
    """What the XML needs to know of the host."""

    is_emulated: bool  # TCG: KVM cannot be used, or must not
    serial_log: Path
    opened: Mapping[DiskId, OpenVolume] = field(default_factory=dict)
    lease: VmLease | None = None
    variables: Path | None = None  # of UEFI; None: it starts by BIOS


@dataclass(frozen=True, slots=True)
class Running:
    """What the XML of a running domain tells."""

    mark: metadata.Mark | None  # None: not made by us
    is_emulated: bool
    vnc_port: int | None


def domain_names(spec: VmSpec) -> tuple[str, str]:
    """Return the two names a VM may have in libvirt: its own, or one with its id.

    libvirt makes names of files of it: a long one is cut, and then needs the id.
    """
    cut = spec.name.encode()[:_DOMAIN_NAME_MAX].decode(errors="ignore")
    unique = f"{cut}-{spec.vm_id[:8]}"
    return (spec.name if cut == spec.name else unique), unique


def rename(xml: str, name: str) -> str:
    """Return a domain under another name."""
    root = etree.fromstring(xml)
    found = root.find("name")
    assert found is not None, "a domain has a name"
    found.text = name
    return etree.tostring(root, encoding="unicode")


def assign_addresses(
    spec: VmSpec, assigned: tuple[tuple[str, int], ...] = ()
) -> tuple[tuple[str, int], ...]:
    """Return the place of every device on its bus, those known before unchanged."""
    keys = tuple(map(disk.key, spec.disks))
    has_scsi = any(each.interface is DiskInterface.VIRTIO_SCSI for each in spec.disks)
    on_pci = (
        graphics.USB_ALIAS,
        channel.ALIAS,
        balloon.ALIAS,
        rng.ALIAS,
        *filter(drive.is_on_pci, keys),
        *(nic.alias(each.nic_id) for each in spec.nics),
        *((drive.ALIAS,) if has_scsi else ()),
    )
    slots = tuple(each for each in assigned if drive.is_on_pci(each[0]))
    return (
        *pci.assign(on_pci, slots, spec.machine),
        *drive.assign(keys, assigned),
    )


def build(vm: Vm, name: str, host: Host) -> str:
    """Return the XML of a transient domain with this libvirt name."""
    spec = vm.spec
    assert spec.machine is not None, "the machine type is pinned at creation"
    memory = element.make("memory", text=str(spec.memory_bytes // KiB), unit="KiB")
    domain = element.make(
        "domain",
        element.make("name", text=name),
        element.make("uuid", text=spec.vm_id),
        metadata.build(metadata.Mark(vm.generation, vm.wanted, spec.pool_id)),
        memory,
        element.make("vcpu", text=str(spec.cpu.count), placement="static"),
        firmware.build(spec.firmware, spec.machine, host.variables),
        element.make("features", element.make("acpi"), element.make("apic")),
        cpu.build(spec.cpu, is_emulated=host.is_emulated),
        _clock(),
        element.make("on_poweroff", text="destroy"),
        element.make("on_reboot", text="restart"),
        # A crash ends the run, so that its cause is told; who restarts decides.
        element.make("on_crash", text="destroy"),
        _no_sleep(),
        _devices(vm, host),
        type="qemu" if host.is_emulated else "kvm",
    )
    etree.indent(domain)
    return etree.tostring(domain, encoding="unicode")


def read(xml: str) -> Running:
    """Return what we want to know of a domain that runs."""
    domain = etree.fromstring(xml)
    screen = domain.find("devices/graphics[@type='vnc']")
    port = -1 if screen is None else int(screen.get("port", "-1"))
    return Running(
        metadata.find(domain), domain.get("type") == "qemu", port if port > 0 else None
    )


def disk_limits(xml: str, alias: str) -> DiskQos | None:
    """Return the limits of a disk that a domain has; None: it has no such disk."""
    for each in etree.fromstring(xml).iterfind("devices/disk"):
        named = each.find("alias")
        if named is not None and named.get("name") == f"ua-{alias}":
            return disk.read_tuning(each)
    return None


def disk_aliases(xml: str) -> frozenset[str]:
    """Return the names, as we know them, of the disks that a running domain has."""
    found = etree.fromstring(xml).iterfind("devices/disk/alias")
    return frozenset(each.get("name", "").removeprefix("ua-") for each in found)


def plug(vm: Vm, new: Disk, opened: OpenVolume, running: str) -> tuple[str, ...]:
    """Return the XML of what is to be plugged into a running domain, in this order.

    That is the disk, after the controller that it needs if that is not there yet.
    """
    assert new.interface.is_hot, "a disk of the chip set is there from the start on"
    devices = etree.fromstring(running).find("devices")
    assert devices is not None, "libvirt tells of a domain with its devices"
    taken = {str(each.get("dev")) for each in devices.iterfind("disk/target")}
    free = next(n for n in itertools.count() if disk.target(new, n) not in taken)
    made = [disk.build(new, opened, free, _disk_address(vm, new), None)]
    is_scsi = new.interface is DiskInterface.VIRTIO_SCSI
    if is_scsi and devices.find("controller[@type='scsi']") is None:
        made.insert(0, drive.controller(_place(vm, drive.ALIAS)))
    return tuple(etree.tostring(each, encoding="unicode") for each in made)


def _clock() -> etree._Element:
    return element.make(
        "clock",
        element.make("timer", name="rtc", tickpolicy="catchup"),
        element.make("timer", name="pit", tickpolicy="delay"),
        element.make("timer", name="hpet", present="no"),
        offset="utc",
    )


def _no_sleep() -> etree._Element:
    """Forbid sleep: a guest that sleeps cannot be told from one that hangs."""
    return element.make(
        "pm",
        element.make("suspend-to-mem", enabled="no"),
        element.make("suspend-to-disk", enabled="no"),
    )


def _devices(vm: Vm, host: Host) -> etree._Element:
    spec, slots = vm.spec, dict(vm.addresses)
    disk_order, nic_order = _boot_orders(spec)
    ports = max(slots[each] for each in slots if drive.is_on_pci(each))
    machine = spec.machine or ""
    devices = element.make("devices", *pci.buses(machine, ports + pci.SPARE_PORTS))
    if drive.ALIAS in slots:
        devices.append(drive.controller(_place(vm, drive.ALIAS)))
    if host.lease is not None:
        devices.append(lease.build(host.lease))
    for position, each in enumerate(spec.disks):
        devices.append(
            disk.build(
                each,
                host.opened[each.disk_id],
                position,
                _disk_address(vm, each),
                disk_order.get(each.disk_id),
            )
        )
    for card in spec.nics:
        place = _place(vm, nic.alias(card.nic_id))
        devices.append(nic.build(card, place, nic_order.get(card.nic_id)))
    devices.extend(serial.build(host.serial_log))
    devices.extend(channel.build(_place(vm, channel.ALIAS)))
    usb = _place(vm, graphics.USB_ALIAS)
    devices.extend(graphics.build(usb, pci.video(machine)))
    devices.append(balloon.build(_place(vm, balloon.ALIAS)))
    devices.append(rng.build(_place(vm, rng.ALIAS)))
    devices.append(element.make("panic", model="isa"))
    return devices


def _place(vm: Vm, alias: str) -> pci.Place:
    return pci.place(vm.spec.machine or "", dict(vm.addresses)[alias])


def _disk_address(vm: Vm, each: Disk) -> etree._Element:
    kept = disk.key(each)
    if drive.is_on_pci(kept):
        return pci.address(_place(vm, kept))
    return drive.address(each, dict(vm.addresses)[kept])


def _boot_orders(spec: VmSpec) -> tuple[dict[DiskId, int], dict[NicId, int]]:
    """Bootable disks come first; without any, all disks and then the network."""
    bootable = [each.disk_id for each in spec.disks if each.is_bootable]
    disks = bootable or [each.disk_id for each in spec.disks]
    nics = [] if bootable else [each.nic_id for each in spec.nics]
    return (
        {disk_id: order for order, disk_id in enumerate(disks, 1)},
        {nic_id: order for order, nic_id in enumerate(nics, len(disks) + 1)},
    )
