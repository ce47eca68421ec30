"""Names of block devices."""

from dataclasses import replace

import pytest

from node.model.ids import DiskId
from node.model.vm import Disk, DiskInterface
from node.units import GiB
from node.vm.devices import disk

_DISK = Disk(DiskId("d"), "", GiB)


@pytest.mark.parametrize(
    ("position", "name"),
    [
        pytest.param(0, "vda", id="first"),
        pytest.param(25, "vdz", id="last-letter"),
        pytest.param(26, "vdaa", id="two-letters"),
        pytest.param(701, "vdzz", id="last-pair"),
        pytest.param(702, "vdaaa", id="three-letters"),
    ],
)
def test_target_counts_like_the_kernel(position: int, name: str) -> None:
    assert disk.target(_DISK, position) == name


@pytest.mark.parametrize(
    ("interface", "name"),
    [
        pytest.param(DiskInterface.VIRTIO_SCSI, "sdb", id="scsi"),
        pytest.param(DiskInterface.SATA, "sdb", id="sata"),
        pytest.param(DiskInterface.IDE, "hdb", id="ide"),
    ],
)
def test_target_begins_as_its_bus_has_it(interface: DiskInterface, name: str) -> None:
    assert disk.target(replace(_DISK, interface=interface), 1) == name
