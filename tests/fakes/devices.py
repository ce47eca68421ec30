"""Disks and PCI devices, as the test sets them."""

from collections.abc import Callable
from dataclasses import dataclass

from node.system.devices import Devices, Disk, PciDevice
from node.units import GiB


@dataclass(slots=True)
class FakeDevices:
    all_disks: tuple[Disk, ...] = (
        Disk("vda", "0x1af4", "", "virtio_blk", 20 * GiB, True),
    )
    all_pci: tuple[PciDevice, ...] = (
        PciDevice("0000:00:1f.2", "0x8086", "0x2922", "ahci"),
    )
    on_change: Callable[[], None] | None = None

    def disks(self) -> tuple[Disk, ...]:
        return self.all_disks

    def pci(self) -> tuple[PciDevice, ...]:
        return self.all_pci

    def watch(self, on_change: Callable[[], None]) -> None:
        self.on_change = on_change

    def announce(self) -> None:
        """Behave as if a device had come or gone."""
        if self.on_change is not None:
            self.on_change()

    def close(self) -> None:
        self.on_change = None


_typed: Devices = FakeDevices()
