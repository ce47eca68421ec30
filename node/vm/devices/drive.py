"""Place disks on the buses that have a controller: SCSI, SATA, IDE. Pure.

A disk's place on its bus is fixed when it first appears there, as PCI slots are:

    virtio_scsi   target = place                       a PCI device of its own
    sata          unit = place, 0 … 5                  part of a q35 machine
    ide           bus = place // 2, unit = place % 2   part of an i440fx machine
"""

import itertools
from collections.abc import Mapping
from typing import Final

from lxml import etree

from node.model.vm import Disk, DiskInterface
from node.vm.devices import element, pci

ALIAS: Final = "scsi"  # the SCSI controller's; the others are part of the chip set
_CHANNELS: Final = 2  # of IDE, with as many drives each
# What a bus takes; virtio disks are PCI devices, and SCSI has room for all of them.
PLACES: Final[Mapping[DiskInterface, int]] = {
    DiskInterface.SATA: 6,
    DiskInterface.IDE: 4,
}
# libvirt's name of the bus, and how names of devices begin there.
BUSES: Final[Mapping[DiskInterface, tuple[str, str]]] = {
    DiskInterface.VIRTIO: ("virtio", "vd"),
    DiskInterface.VIRTIO_SCSI: ("scsi", "sd"),
    DiskInterface.SATA: ("sata", "sd"),
    DiskInterface.IDE: ("ide", "hd"),
}


def key(disk: Disk, alias: str) -> str:
    """Return what a disk's place is kept under; it ends with the disk's alias."""
    return alias if _is_on_pci(disk) else f"{disk.interface.value}-{alias}"


def is_on_pci(kept: str) -> bool:
    """Tell whether what is kept under that key is a PCI slot."""
    return not kept.startswith(_PREFIXES)


def assign(
    keys: tuple[str, ...], assigned: tuple[tuple[str, int], ...]
) -> tuple[tuple[str, int], ...]:
    """Return the places of all keys that are not PCI's; those of before stay."""
    places = {each: place for each, place in assigned if not is_on_pci(each)}
    for each in itertools.filterfalse(is_on_pci, keys):
        bus = each.partition("-")[0]
        taken = {places[other] for other in places if other.startswith(f"{bus}-")}
        free = next(place for place in itertools.count() if place not in taken)
        places.setdefault(each, free)
    return tuple(places.items())


def address(disk: Disk, place: int) -> etree._Element:
    """Return the address of a disk on its bus."""
    bus, target, unit = 0, 0, place
    if disk.interface is DiskInterface.VIRTIO_SCSI:
        target, unit = place, 0
    elif disk.interface is DiskInterface.IDE:
        bus, unit = divmod(place, _CHANNELS)
    return element.make(
        "address", type="drive", controller=0, bus=bus, target=target, unit=unit
    )


def controller(place: pci.Place) -> etree._Element:
    """Return the SCSI controller."""
    return element.make(
        "controller", pci.address(place), type="scsi", index=0, model="virtio-scsi"
    )


def _is_on_pci(disk: Disk) -> bool:
    return disk.interface is DiskInterface.VIRTIO


_PREFIXES: Final = tuple(
    f"{each.value}-" for each in BUSES if each is not DiskInterface.VIRTIO
)
