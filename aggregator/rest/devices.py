"""Show what a VM has: cards, disks, consoles, addresses."""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from aggregator.federation.view import VmView
from aggregator.rest import (
    compatibility,
    element,
    fleet,
    networks,
    statistics,
    templates,
)
from aggregator.rest.element import Element
from aggregator.rest.resource import Below, Context, Field, Reference, Resource
from node import wire
from node.model.ids import VmId
from node.model.vm import Disk, Nic, Vm, VmRun, VmSpec


@dataclass(frozen=True, slots=True)
class VmRow:
    """A VM with its documents read; None for those that have not come."""

    vm: VmView
    definition: Vm | None
    run: VmRun | None
    is_locked: bool = False  # its disks are being copied

    @property
    def spec(self) -> VmSpec | None:
        return self.definition.spec if self.definition is not None else None

    @property
    def image(self) -> str | None:
        """Return the image that it was made from."""
        return templates.first_image(self.spec) if self.spec is not None else None


def row_of(vm: VmView) -> VmRow:
    """Read the documents of a VM."""
    definition = (
        wire.decode(Vm, vm.vm_document, strict=False) if vm.vm_document else None
    )
    run = wire.decode(VmRun, vm.run_document, strict=False) if vm.run_document else None
    return VmRow(vm, definition, run)


@dataclass(frozen=True, slots=True)
class VmNic:
    vm_id: VmId
    nic: Nic


@dataclass(frozen=True, slots=True)
class VmDisk:
    vm: VmView
    disk: Disk


@dataclass(frozen=True, slots=True)
class Console:
    vm_id: VmId
    port: int | None


@dataclass(frozen=True, slots=True)
class GuestDevice:
    vm_id: VmId
    mac: str | None
    addresses: tuple[str, ...]


def nics(context: Context, row: VmRow) -> Iterable[VmNic]:
    """Yield the cards of a VM."""
    found = row.definition.spec.nics if row.definition else ()
    return (VmNic(row.vm.vm_id, nic) for nic in found)


def disks(context: Context, row: VmRow) -> Iterable[VmDisk]:
    """Yield the disks of a VM."""
    found = row.definition.spec.disks if row.definition else ()
    return (VmDisk(row.vm, disk) for disk in found)


def consoles(context: Context, row: VmRow) -> Iterable[Console]:
    """Yield the one screen; its port is known while the VM runs."""
    port = row.run.vnc_port if row.run is not None else None
    return (Console(row.vm.vm_id, port),)


def guest_devices(context: Context, row: VmRow) -> Iterable[GuestDevice]:
    """Yield what the guest says of its network; which card has what it does not."""
    if not row.vm.addresses:
        return ()
    cards = row.definition.spec.nics if row.definition else ()
    mac = cards[0].mac if len(cards) == 1 else None
    return (GuestDevice(row.vm.vm_id, mac, row.vm.addresses),)


def _vm(row: VmNic | Console | GuestDevice) -> str:
    return f"vms/{row.vm_id}"


def _addresses(context: Context, row: GuestDevice) -> Element:
    return element.listed("ips", map(_address, row.addresses))


def _address(text: str) -> Element:
    version = f"v{ipaddress.ip_address(text.partition('/')[0]).version}"
    children = (Element("address", text), Element("version", version))
    return Element("ip", children=children)


GUEST_DEVICE: Final[Resource[GuestDevice]] = Resource(
    "reported_device",
    "reported_devices",
    lambda row: fleet.derived_id(row.vm_id, "guest"),
    (
        Field("name", lambda context, row: "guest"),
        Field("type", lambda context, row: "network"),
        Field(
            "mac",
            lambda context, row: (
                Element("mac", children=(Element("address", row.mac),))
                if row.mac
                else None
            ),
        ),
        Field("ips", _addresses),
    ),
    (Reference("vm", lambda context, row: _vm(row)),),
)


def _nic_statistics(context: Context, row: VmNic) -> Iterator[statistics.Statistic]:
    """Yield the rates of a VM's only card: they are measured for all together."""
    vm = context.view.vms.get(row.vm_id)
    definition = row_of(vm).definition if vm is not None else None
    if vm is None or definition is None or len(definition.spec.nics) != 1:
        return
    for statistic in statistics.of_vm(context.view, vm):
        if statistic.figure in (statistics.RECEIVED, statistics.SENT):
            yield statistic


def _reported(context: Context, row: VmNic) -> Iterable[GuestDevice]:
    vm = context.view.vms.get(row.vm_id)
    return guest_devices(context, row_of(vm)) if vm is not None else ()


NIC: Final[Resource[VmNic]] = Resource(
    "nic",
    "nics",
    lambda row: row.nic.nic_id,
    (
        Field("name", lambda context, row: row.nic.name),
        Field("mac/address", lambda context, row: row.nic.mac),
        Field("interface", lambda context, row: "virtio"),
        Field("linked", lambda context, row: row.nic.is_linked),
        Field("plugged", lambda context, row: True),
        Field("synced", lambda context, row: True),
    ),
    (
        Reference("vm", lambda context, row: _vm(row)),
        Reference(
            "vnic_profile",
            lambda context, row: f"vnicprofiles/{networks.profile_id(row.nic.network)}",
        ),
    ),
    (
        Below("statistics", statistics.RESOURCE, _nic_statistics),
        Below("reporteddevices", GUEST_DEVICE, _reported),
    ),
)

ATTACHMENT: Final[Resource[VmDisk]] = Resource(
    "disk_attachment",
    "disk_attachments",
    lambda row: row.disk.disk_id,
    (
        Field("active", lambda context, row: True),
        Field("bootable", lambda context, row: row.disk.is_bootable),
        Field("interface", lambda context, row: row.disk.interface.value),
        Field("pass_discard", lambda context, row: False),
        Field("read_only", lambda context, row: row.disk.is_read_only),
        Field("uses_scsi_reservation", lambda context, row: False),
    ),
    (
        Reference("disk", lambda context, row: f"disks/{row.disk.disk_id}"),
        Reference("vm", lambda context, row: f"vms/{row.vm.vm_id}"),
    ),
)

CONSOLE: Final[Resource[Console]] = Resource(
    "graphics_console",
    "graphics_consoles",
    lambda row: compatibility.VNC_ID,
    (
        Field("protocol", lambda context, row: "vnc"),
        Field("port", lambda context, row: row.port),
    ),
    (Reference("vm", lambda context, row: _vm(row)),),
)
