"""Test that libvirt's test driver takes what is made for QEMU."""

from pathlib import Path

import libvirt
import pytest
from lxml import etree

from node.contract.volumes import open_all
from node.model.ids import DiskId, NicId, VmId
from node.model.vm import Disk, Nic, Vm, VmSpec
from node.system import hypervisor_reading
from node.units import MiB
from node.vm import domxml
from tests.scale import simulated_hypervisor, start_cost
from tests.scale.simulated_hypervisor import MACHINE, URI, for_test_driver

VM_ID = VmId("5ca1ab1e-0002-4000-8000-0000000000ff")
SPEC = VmSpec(
    VM_ID,
    "unit",
    64 * MiB,
    disks=(Disk(DiskId("5ca1ab1e-0006-4000-8000-0000000000ff"), "disk1", MiB),),
    nics=(
        Nic(
            NicId("5ca1ab1e-0007-4000-8000-0000000000ff"),
            "nic1",
            "56:6f:1a:00:00:ff",
            "ovirtmgmt",
        ),
    ),
    machine=MACHINE,
)


@pytest.fixture
def xml() -> str:
    vm = Vm(
        SPEC,
        1,
        "2026-11-22T08:00:00.000Z",
        addresses=domxml.assign_addresses(SPEC),
    )
    opened = open_all(simulated_hypervisor.pool(), SPEC)
    host = domxml.Host(True, Path("/serial.log"), opened)
    return domxml.build(vm, SPEC.name, host)


def test_test_driver_takes_our_xml(xml: str) -> None:
    connection = libvirt.open(URI)
    domain = connection.createXML(for_test_driver(xml), 0)
    try:
        assert domain.UUIDString() == VM_ID
        assert domain.isActive()
    finally:
        domain.destroy()
        connection.close()


def test_for_test_driver_keeps_our_metadata(xml: str) -> None:
    kept = domxml.read(for_test_driver(xml))
    assert kept.mark == domxml.read(xml).mark
    assert kept.mark is not None


def test_renamed_is_a_foreign_domain(xml: str) -> None:
    domain = etree.fromstring(start_cost.renamed(xml))
    assert domain.findtext("name") == "start-cost-raw"
    assert domain.findtext("uuid") != VM_ID
    assert domain.find("metadata") is None
    assert domain.find("devices/disk") is not None


def test_counters_are_those_of_a_qemu_that_answers() -> None:
    sample = hypervisor_reading.sample(simulated_hypervisor.COUNTERS)
    assert sample.has_monitor
    assert None not in (sample.disk_read_bytes, sample.net_rx_bytes)
    assert sample.memory_total_bytes is not None
