"""List disks and PCI devices, and hear when they change: the door to pyudev.

udev announces a device when its rules have run; where no udev runs, the kernel
does so itself, and names of makers are then missing. Sizes are bytes.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pyudev

log = logging.getLogger(__name__)

_UDEV: Final = Path("/run/udev/control")
_SECTOR: Final = 512  # the unit of a block device's `size`, whatever its sectors are
_POLL_S: Final = 0.5  # how soon the monitor notices that it is to stop


@dataclass(frozen=True, slots=True)
class Disk:
    name: str  # vda, nvme0n1
    vendor: str
    model: str
    driver: str
    size_bytes: int
    is_rotational: bool


@dataclass(frozen=True, slots=True)
class PciDevice:
    address: str  # 0000:00:1f.2
    vendor: str  # its name if udev knows it, else 0x8086
    model: str
    driver: str


class Devices(Protocol):
    def disks(self) -> tuple[Disk, ...]:
        """Return the disks of the machine, without those made of software."""

    def pci(self) -> tuple[PciDevice, ...]: ...

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call after each change of disks, cards or PCI devices, until close."""

    def close(self) -> None: ...


class KernelDevices:
    """The machine we run on; `source` is udev, kernel, or auto."""

    def __init__(self, source: str = "auto") -> None:
        if source == "auto":
            source = "udev" if _UDEV.exists() else "kernel"
        self.source = source
        self._context = pyudev.Context()
        self._is_closed = threading.Event()
        self._thread: threading.Thread | None = None

    def disks(self) -> tuple[Disk, ...]:
        found = self._context.list_devices(subsystem="block", DEVTYPE="disk")
        return tuple(
            _disk(each)
            for each in sorted(found, key=lambda each: each.sys_name)
            if "/virtual/" not in each.sys_path
        )

    def pci(self) -> tuple[PciDevice, ...]:
        found = self._context.list_devices(subsystem="pci")
        return tuple(
            _pci(each) for each in sorted(found, key=lambda each: each.sys_name)
        )

    def watch(self, on_change: Callable[[], None]) -> None:
        monitor = pyudev.Monitor.from_netlink(self._context, source=self.source)
        for subsystem in ("block", "net", "pci"):
            monitor.filter_by(subsystem)
        monitor.start()
        self._thread = threading.Thread(
            target=self._hear, args=(monitor, on_change), name="devices", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._is_closed.set()
        if self._thread is not None:
            self._thread.join(10 * _POLL_S)

    def _hear(self, monitor: Any, on_change: Callable[[], None]) -> None:
        while not self._is_closed.is_set():
            device = monitor.poll(timeout=_POLL_S)
            if device is not None:
                log.debug("%s %s", device.action, device.sys_path)
                on_change()


def _disk(device: Any) -> Disk:
    return Disk(
        device.sys_name,
        device.properties.get("ID_VENDOR") or _attribute(device, "device/vendor"),
        device.properties.get("ID_MODEL") or _attribute(device, "device/model"),
        _driver(device),
        int(_attribute(device, "size") or 0) * _SECTOR,
        _attribute(device, "queue/rotational") == "1",
    )


def _pci(device: Any) -> PciDevice:
    return PciDevice(
        device.sys_name,
        device.properties.get("ID_VENDOR_FROM_DATABASE")
        or _attribute(device, "vendor"),
        device.properties.get("ID_MODEL_FROM_DATABASE") or _attribute(device, "device"),
        device.driver or "",
    )


def _driver(device: Any) -> str:
    """Return the driver of the nearest ancestor that has one."""
    return next((each.driver for each in device.ancestors if each.driver), "")


def _attribute(device: Any, name: str) -> str:
    try:
        return str(device.attributes.asstring(name)).strip()
    except (KeyError, OSError, UnicodeDecodeError):
        return ""
