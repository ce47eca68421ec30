"""What libvirt's documents and records say."""

from typing import Any

import pytest
from lxml import etree

from node.system import hypervisor_reading
from node.system.hypervisor import DeviceMissing, HypervisorFacts, Sample

_CAPABILITIES = """
<capabilities>
  <host><cpu><arch>x86_64</arch><model>EPYC-Rome</model></cpu></host>
  <guest><os_type>hvm</os_type><arch name='i686'>
    <machine>pc-q35-99.0</machine>
  </arch></guest>
  <guest><os_type>hvm</os_type><arch name='x86_64'>
    <machine maxCpus='288' canonical='pc-q35-10.0'>q35</machine>
    <machine maxCpus='255'>pc-i440fx-10.0</machine>
    <machine maxCpus='288'>pc-q35-9.2</machine>
    <machine maxCpus='288'>pc-q35-4.0.1</machine>
    <machine maxCpus='1'>microvm</machine>
  </arch></guest>
</capabilities>
"""
_DOMAIN_CAPABILITIES = """
<domainCapabilities><cpu>
  <mode name='host-model' supported='yes'><model>EPYC-Milan</model></mode>
  <mode name='custom' supported='yes'>
    <model usable='yes'>qemu64</model><model usable='no'>Denverton</model>
    <model usable='yes'>Nehalem</model>
  </mode>
</cpu></domainCapabilities>
"""


def test_read_facts_sorts_machines_and_keeps_usable_models() -> None:
    told = hypervisor_reading.facts(
        _CAPABILITIES, _DOMAIN_CAPABILITIES, 11_003_000, 10_000_002
    )
    assert told == HypervisorFacts(
        "11.3.0",
        "10.0.2",
        ("pc-q35-10.0", "pc-q35-9.2", "pc-q35-4.0.1", "pc-i440fx-10.0"),
        ("Nehalem", "qemu64"),
        "EPYC-Milan",
    )


def test_read_facts_falls_back_to_the_host_model_of_libvirt() -> None:
    told = hypervisor_reading.facts(_CAPABILITIES, "<x/>", 0, 0)
    assert (told.host_model, told.usable_models) == ("EPYC-Rome", ())


@pytest.mark.parametrize(
    ("figures", "sample"),
    [
        pytest.param({}, Sample(7), id="nothing-told"),
        pytest.param(
            {
                "net.count": 2,
                "net.0.rx.bytes": 1,
                "net.0.tx.bytes": 2,
                "net.1.rx.bytes": 10,
                "net.1.tx.bytes": 20,
            },
            Sample(7, 11, 22),
            id="cards-are-added-up",
        ),
        pytest.param(
            {
                "block.count": 2,
                "block.0.rd.bytes": 1,
                "block.0.wr.bytes": 2,
                "block.1.rd.bytes": 10,
                "block.1.wr.bytes": 20,
                "balloon.rss": 3,
                "balloon.available": 9,
                "balloon.unused": 4,
            },
            Sample(7, None, None, 11, 22, 3072, 9216, 4096, True),
            id="by-the-monitor",
        ),
        pytest.param(
            {"block.count": 1, "block.0.name": "vda"},
            Sample(7, None, None, 0, 0),
            id="the-monitor-was-busy",
        ),
    ],
)
def test_read_sample_takes_what_is_there(
    figures: dict[str, Any], sample: Sample
) -> None:
    assert hypervisor_reading.sample(figures, 7) == sample


_DISKS = """<domain><devices>
  <disk><target dev='vda'/><alias name='ua-one'/></disk>
  <disk><target dev='vdc'/><alias name='ua-two'/></disk>
</devices></domain>"""


def test_target_finds_the_disk_by_its_alias() -> None:
    assert hypervisor_reading.target(_DISKS, "ua-two") == "vdc"


def test_target_refuses_a_disk_that_is_not_there() -> None:
    with pytest.raises(DeviceMissing):
        hypervisor_reading.target(_DISKS, "ua-three")


_CHAIN = """<domain><devices>
  <disk type='file'><source file='/p/leaf'/>
    <backingStore type='file'><source file='/p/base'/><backingStore/></backingStore>
    <mirror type='file' ready='yes'><source file='/p/base'/></mirror>
    <target dev='vda'/><alias name='ua-one'/></disk>
  <disk type='file'><source file='/p/other'/><target dev='vdb'/>
    <alias name='ua-two'/></disk>
</devices></domain>"""


def test_disk_names_all_files_from_the_top() -> None:
    found = hypervisor_reading.disk(_CHAIN, "ua-one")
    assert (found.target, found.files) == ("vda", ("/p/leaf", "/p/base"))
    assert found.is_merge_ready
    assert not hypervisor_reading.disk(_CHAIN, "ua-two").is_merge_ready


def test_snapshot_leaves_out_the_disks_that_are_not_named() -> None:
    xml = hypervisor_reading.snapshot(_CHAIN, {"ua-two": "/p/new"})
    one, two = etree.fromstring(xml).iterfind("disks/disk")
    assert (one.get("name"), one.get("snapshot")) == ("vda", "no")
    source, driver = two.find("source"), two.find("driver")
    assert source is not None
    assert driver is not None
    assert (source.get("file"), driver.get("type")) == ("/p/new", "qcow2")
