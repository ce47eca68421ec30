"""Places of disks on SCSI, SATA and IDE."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.model.ids import DiskId
from node.model.vm import Disk, DiskInterface
from node.units import GiB
from node.vm.devices import disk, drive

_DISK = Disk(DiskId("d"), "", GiB)
_ON_PCI = disk.key(_DISK)


def _on(interface: DiskInterface, name: str = "d") -> Disk:
    return replace(_DISK, disk_id=DiskId(name), interface=interface)


@pytest.mark.parametrize("interface", DiskInterface)
def test_key_ends_with_the_alias_of_the_disk(interface: DiskInterface) -> None:
    kept = disk.key(_on(interface))
    assert kept.endswith(disk.alias(_DISK.disk_id))
    assert drive.is_on_pci(kept) is (interface is DiskInterface.VIRTIO)


def test_assign_counts_on_each_bus_for_itself() -> None:
    keys = tuple(
        disk.key(_on(interface, name))
        for name, interface in (
            ("a", DiskInterface.SATA),
            ("b", DiskInterface.VIRTIO),
            ("c", DiskInterface.SATA),
            ("d", DiskInterface.VIRTIO_SCSI),
        )
    )
    assert drive.assign(keys, ()) == (
        ("sata-disk-a", 0),
        ("sata-disk-c", 1),
        ("virtio_scsi-disk-d", 0),
    )


def test_assign_keeps_places_and_fills_what_others_left() -> None:
    before = (("balloon", 0), ("sata-disk-b", 1), ("sata-disk-c", 3))
    keys = ("sata-disk-c", "sata-disk-b", "sata-disk-new", "sata-disk-newer")
    assert drive.assign(keys, before) == (
        *before[1:],
        ("sata-disk-new", 0),
        ("sata-disk-newer", 2),
    )


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_assign_gives_each_disk_a_place_of_its_own(
    before: set[int], after: set[int]
) -> None:
    known = drive.assign(tuple(f"ide-disk-{each}" for each in before), ())
    told = dict(drive.assign(tuple(f"ide-disk-{each}" for each in after), known))
    assert len(set(told.values())) == len(told) == len(before | after)
    assert {each: told[each] for each, _ in known} == dict(known)


@pytest.mark.parametrize(
    ("interface", "place", "expected"),
    [
        pytest.param(DiskInterface.VIRTIO_SCSI, 0, ("0", "0", "0"), id="scsi-first"),
        pytest.param(DiskInterface.VIRTIO_SCSI, 9, ("0", "9", "0"), id="scsi-tenth"),
        pytest.param(DiskInterface.SATA, 5, ("0", "0", "5"), id="sata-last"),
        pytest.param(DiskInterface.IDE, 1, ("0", "0", "1"), id="ide-slave"),
        pytest.param(DiskInterface.IDE, 2, ("1", "0", "0"), id="ide-second-channel"),
    ],
)
def test_address_spells_a_place_as_its_bus_does(
    interface: DiskInterface, place: int, expected: tuple[str, str, str]
) -> None:
    told = drive.address(_on(interface), place)
    assert tuple(told.get(part) for part in ("bus", "target", "unit")) == expected
