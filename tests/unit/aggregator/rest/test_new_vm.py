"""Tests of reading the VM that a client asks for."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from aggregator import macs
from aggregator.rest import body, fleet, new_vm, templates
from aggregator.rest.resource import Context
from aggregator.rest.serialise import Form
from node.errors import Error
from node.model.vm import CpuMode, DiskInterface, Firmware, VmSpec
from node.units import GiB
from tests.fakes import fleet_storage
from tests.fakes.services import make_fleet

FLEET = make_fleet()
CONTEXT = Context(
    "/api",
    FLEET.mirror.view,
    fleet.read(FLEET.database.records("fleet").list()),
    lambda path: None,
)
HEAD = "<name>new</name><cluster><name>Default</name></cluster>"
BLANK = HEAD + "<template><name>Blank</name></template>"
DEBIAN = HEAD + "<template><name>debian-12</name></template>"


def _ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"00000000-0000-4000-8000-{next(numbers):012d}"


def _spec(inside: str, context: Context = CONTEXT) -> VmSpec:
    return new_vm.spec(
        context, body.read(f"<vm>{inside}</vm>".encode(), Form.XML), _ids()
    )


def test_blank_makes_a_vm_without_devices() -> None:
    spec = _spec(BLANK)
    assert (spec.name, spec.memory_bytes) == ("new", templates.MEMORY_BYTES)
    assert (spec.disks, spec.nics) == ((), ())


def test_a_template_gives_its_disk_and_a_card() -> None:
    spec = _spec(DEBIAN)
    (disk,) = spec.disks
    (nic,) = spec.nics
    assert (disk.image, disk.is_bootable, disk.size_bytes) == ("debian-12", True, 0)
    assert nic.network == "skerry"
    assert nic.mac.startswith(macs.PREFIX)


def test_templates_are_found_by_id_and_blank_has_a_fixed_one() -> None:
    blank_id = "00000000-0000-0000-0000-000000000000"
    assert not _spec(HEAD + f'<template id="{blank_id}"/>').disks
    debian_id = templates.of_image("debian-12").template_id
    assert _spec(HEAD + f'<template id="{debian_id}"/>').disks


def test_sizes_and_counts_are_read() -> None:
    spec = _spec(
        BLANK + "<memory>2147483648</memory><description>d</description>"
        "<cpu><topology><cores>2</cores><sockets>3</sockets></topology></cpu>"
        "<bios><type>q35_ovmf</type></bios>"
        "<custom_cpu_model>Nehalem</custom_cpu_model>"
    )
    assert (spec.memory_bytes, spec.description) == (2 * GiB, "d")
    assert (spec.cpu.sockets, spec.cpu.cores, spec.cpu.threads) == (3, 2, 1)
    assert (spec.cpu.mode, spec.cpu.model) == (CpuMode.NAMED, "Nehalem")
    assert spec.firmware is Firmware.UEFI


def test_new_disks_are_made_beside_the_templates_own() -> None:
    attachments = (
        "<disk_attachments><disk_attachment>"
        '<disk id="of-the-template"/></disk_attachment><disk_attachment>'
        "<bootable>true</bootable><disk><name>data</name>"
        "<provisioned_size>1073741824</provisioned_size></disk>"
        "</disk_attachment></disk_attachments>"
    )
    spec = _spec(DEBIAN + attachments)
    assert [(disk.name, disk.is_bootable) for disk in spec.disks] == [
        ("disk1", True),
        ("data", False),
    ]


def test_new_disks_are_on_the_bus_that_is_asked_for() -> None:
    attachments = "".join(
        f"<disk_attachment>{bus}<disk><provisioned_size>1024</provisioned_size></disk>"
        "</disk_attachment>"
        for bus in ("<interface>ide</interface>", "")
    )
    spec = _spec(BLANK + f"<disk_attachments>{attachments}</disk_attachments>")
    assert [disk.interface for disk in spec.disks] == [
        DiskInterface.IDE,
        DiskInterface.VIRTIO,
    ]


def test_disk_of_an_image_goes_where_an_attachment_says() -> None:
    attachments = (
        "<disk_attachments><disk_attachment>"
        '<disk id="of-the-template"><storage_domains>'
        f'<storage_domain id="{fleet_storage.DATA2}"/></storage_domains></disk>'
        "</disk_attachment></disk_attachments>"
    )
    view = fleet_storage.add_storage(CONTEXT.view)
    spec = _spec(DEBIAN + attachments, replace(CONTEXT, view=view))
    (disk,) = spec.disks
    assert (disk.image, disk.storage_domain_id) == ("debian-12", fleet_storage.DATA2)
    assert spec.pool_id == fleet_storage.SHARED


def test_cards_are_those_that_are_described() -> None:
    spec = _spec(
        DEBIAN + "<nics><nic><name>a</name><linked>false</linked>"
        "<mac><address>56:6F:00:00:01:00</address></mac>"
        "<network><name>skerry</name></network></nic></nics>"
    )
    (nic,) = spec.nics
    assert (nic.name, nic.is_linked, nic.mac) == ("a", False, "56:6f:00:00:01:00")


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ("<name>a</name>", "cluster.id"),
        ("<cluster><name>Default</name></cluster>", "Vm [name]"),
        (HEAD, "template.id"),
        ("<name>a</name><cluster><name>x</name></cluster>", "no cluster x"),
        (HEAD + "<template><name>x</name></template>", "no template x"),
        (BLANK + "<memory>much</memory>", "memory must be an integer"),
        (BLANK + "<memory>0</memory>", "memory must be greater"),
        (BLANK + "<cpu><topology><cores>0</cores></topology></cpu>", "cores"),
        (BLANK.replace("new", "x" * 256), "longer than 255"),
        (
            BLANK + "<disk_attachments><disk_attachment><disk><name>d</name></disk>"
            "</disk_attachment></disk_attachments>",
            "provisioned_size",
        ),
        (
            BLANK + "<disk_attachments><disk_attachment><interface>floppy</interface>"
            "<disk><provisioned_size>1024</provisioned_size></disk>"
            "</disk_attachment></disk_attachments>",
            "cannot be on 'floppy'",
        ),
        (
            BLANK + '<disk_attachments><disk_attachment><disk id="1"/>'
            "</disk_attachment></disk_attachments>",
            "there is no disk",
        ),
        (BLANK + "<nics><nic><name>a</name></nic></nics>", "vnic_profile"),
        (
            BLANK + '<nics><nic><vnic_profile id="x"/></nic></nics>',
            "no vnic_profile x",
        ),
        (
            BLANK + "<nics><nic><mac><address>56:6f:00:00:00:01</address></mac>"
            "<network><name>skerry</name></network></nic></nics>",
            "already",
        ),
        (
            BLANK + "<nics><nic><mac><address>zz</address></mac>"
            "<network><name>skerry</name></network></nic></nics>",
            "no MAC address",
        ),
    ],
    ids=[
        "no-cluster",
        "no-name",
        "no-template",
        "unknown-cluster",
        "unknown-template",
        "memory-text",
        "memory-zero",
        "no-cores",
        "long-name",
        "disk-without-size",
        "unknown-bus",
        "foreign-disk",
        "card-without-network",
        "unknown-profile",
        "mac-taken",
        "mac-malformed",
    ],
)
def test_spec_refuses(inside: str, text: str) -> None:
    with pytest.raises(Error) as raised:
        _spec(inside)
    assert text in str(raised.value)
    assert raised.value.status == 400
