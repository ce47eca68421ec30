"""Lay out the PCI bus of a machine, the same at every start of a VM.

Pure. On q35 each device sits alone behind a root port, so that it can be unplugged;
its slot is the number of that port, from 1. Eight ports share a slot of the
root complex:

    port     1 … 8    9 … 16   17 … 24
    pcie.0   02.0-7   03.0-7   04.0-7

The video card is at 00:01.0 and the chip set at 00:1f.

On i440fx, the older machine, devices share the one bus, slot 1 of ours at 00:03.0;
the chip set is at 00:01, the video card at 00:02.0.
"""

import itertools
from dataclasses import dataclass
from typing import Final

from lxml import etree

from node.vm.devices import element

SPARE_PORTS = 4  # empty ones, for devices that are plugged in later
_FIRST_SLOT = 2
_PORTS_PER_SLOT = 8
_ROOT_COMPLEX_PORTS = 0x10  # chassis port numbers start where libvirt starts them
_OLD_MACHINES: Final = "pc-i440fx-"
_OLD_OFFSET: Final = 2  # of our slots on the one bus: chip set and video card
_OLD_SLOTS: Final = 29  # what is left of the bus's 32


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device is: function 0 of a slot."""

    bus: int
    slot: int


def is_old(machine: str | None) -> bool:
    """Tell whether a machine is an i440fx, which has one PCI bus, and IDE."""
    return (machine or "").startswith(_OLD_MACHINES)


def assign(
    aliases: tuple[str, ...],
    assigned: tuple[tuple[str, int], ...] = (),
    machine: str | None = None,
) -> tuple[tuple[str, int], ...]:
    """Return the slots of all aliases; those assigned before never change.

    On a bus that is used up, a new device takes a slot that another one left.
    """
    slots = dict(assigned)
    for alias in aliases:
        if alias not in slots:
            slots[alias] = _free(frozenset(slots.values()), machine)
    return tuple(slots.items())


def _free(taken: frozenset[int], machine: str | None) -> int:
    following = max(taken, default=0) + 1
    if not is_old(machine) or following <= _OLD_SLOTS:
        return following
    return next(slot for slot in itertools.count(1) if slot not in taken)


def place(machine: str, slot: int) -> Place:
    """Return where a slot of ours is."""
    return Place(0, slot + _OLD_OFFSET) if is_old(machine) else Place(slot, 0)


def video(machine: str) -> Place:
    """Return where firmware looks for the screen."""
    return Place(0, 2 if is_old(machine) else 1)


def buses(machine: str, slots: int) -> list[etree._Element]:
    """Return the buses that have so many slots."""
    if is_old(machine):
        return [element.make("controller", type="pci", index=0, model="pci-root")]
    return root_ports(slots)


def root_ports(slots: int) -> list[etree._Element]:
    """Return the root complex, and a port for each slot up to this one."""
    root = element.make("controller", type="pci", index=0, model="pcie-root")
    return [root, *(_root_port(slot) for slot in range(1, slots + 1))]


def _root_port(slot: int) -> etree._Element:
    row, function = divmod(slot - 1, _PORTS_PER_SLOT)
    address = element.make(
        "address",
        type="pci",
        domain="0x0000",
        bus="0x00",
        slot=f"0x{_FIRST_SLOT + row:02x}",
        function=f"0x{function:x}",
    )
    if function == 0:
        address.set("multifunction", "on")
    port = f"0x{_ROOT_COMPLEX_PORTS + slot - 1:x}"
    return element.make(
        "controller",
        element.make("target", chassis=slot, port=port),
        address,
        type="pci",
        index=slot,
        model="pcie-root-port",
    )


def address(where: Place) -> etree._Element:
    """Return the address of a device."""
    return element.make(
        "address",
        type="pci",
        domain="0x0000",
        bus=f"0x{where.bus:02x}",
        slot=f"0x{where.slot:02x}",
        function="0x0",
    )
