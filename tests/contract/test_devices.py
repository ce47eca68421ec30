"""What the devices door promises: on the fake, and on this machine."""

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.system.devices import Devices, KernelDevices
from tests.fakes.devices import FakeDevices

_LONG_S = 30.0


@pytest.fixture(params=["fake", "real"])
def devices(request: pytest.FixtureRequest) -> Iterator[Devices]:
    devices: Devices = (
        FakeDevices() if request.param == "fake" else KernelDevices("kernel")
    )
    yield devices
    devices.close()


def test_disks_have_a_name_and_a_size(devices: Devices) -> None:
    for disk in devices.disks():
        assert disk.name
        assert disk.size_bytes >= 0


def test_disks_are_no_software(devices: Devices) -> None:
    names = {disk.name for disk in devices.disks()}
    assert not {name for name in names if name.startswith(("loop", "ram", "zram"))}


def test_pci_devices_have_an_address_and_a_maker(devices: Devices) -> None:
    for device in devices.pci():
        assert re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.\d", device.address)
        assert device.vendor


def test_watch_tells_of_a_change_on_the_fake() -> None:
    devices = FakeDevices()
    told = threading.Event()
    devices.watch(told.set)
    devices.announce()
    assert told.is_set()


@pytest.mark.real
def test_watch_hears_the_kernel() -> None:
    uevent = Path("/sys/class/net/lo/uevent")
    if not os.access(uevent, os.W_OK):
        pytest.skip("only root can make the kernel announce a device")
    devices = KernelDevices("kernel")
    told = threading.Event()
    devices.watch(told.set)
    uevent.write_text("change")
    assert told.wait(_LONG_S)
    devices.close()


@pytest.mark.parametrize("source", ["udev", "kernel"])
def test_source_is_what_was_asked_for(source: str) -> None:
    assert KernelDevices(source).source == source


def test_source_is_udev_only_where_it_runs() -> None:
    expected = "udev" if Path("/run/udev/control").exists() else "kernel"
    assert KernelDevices().source == expected
