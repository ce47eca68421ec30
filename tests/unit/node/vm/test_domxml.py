"""Domain XML against golden files, and what libvirt's XML tells.

`python -m tests.unit.node.vm.test_domxml` writes the golden files anew.
"""

from dataclasses import replace
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from node.contract.volumes import Layer, OpenVolume, VmLease
from node.model.ids import DiskId, NicId
from node.model.storage import DiskFormat, DiskQos
from node.model.vm import (
    Cpu,
    CpuMode,
    Disk,
    DiskInterface,
    Firmware,
    Vm,
    VmSpec,
    Wanted,
)
from node.units import GiB
from node.vm import domxml
from node.vm.devices import metadata
from tests.fakes import volumes
from tests.unit.node.vm import examples

_GOLDEN = Path(__file__).parent / "golden"
_KVM = examples.HERE
_TOOLS = examples.TOOLS_ID
_EMULATED = replace(_KVM, is_emulated=True)


def _vm(spec: VmSpec) -> Vm:
    return Vm(spec, 3, examples.AT, Wanted.UP, domxml.assign_addresses(spec))


_SPEC = examples.SPEC
_POOLED = volumes.of_pool(
    replace(
        _SPEC,
        disks=(
            replace(
                examples.DISK,
                qos=DiskQos(total_iops=500, read_bytes_s=1000, write_bytes_s=9),
            ),
            replace(examples.DATA, is_shared=True),
            replace(examples.DATA, disk_id=_TOOLS, is_read_only=True),
        ),
    )
)
_OPENED = {
    examples.DISK.disk_id: OpenVolume(
        (
            Layer(PurePath("/pool/leaf"), DiskFormat.QCOW2),
            Layer(PurePath("/pool/middle"), DiskFormat.QCOW2),
            Layer(PurePath("/pool/base"), DiskFormat.RAW),
        )
    ),
    examples.DATA.disk_id: OpenVolume(
        (Layer(PurePath("/pool/shared"), DiskFormat.RAW),)
    ),
    _TOOLS: OpenVolume((Layer(PurePath("/pool/<tools>"), DiskFormat.RAW),)),
}
_LEASE = VmLease("space", examples.VM_ID, PurePath("/pool/xleases"), 3145728)


def _on(interface: DiskInterface, machine: str) -> VmSpec:
    """Return a VM with two disks on a bus, and one on virtio."""
    return replace(
        _SPEC,
        machine=machine,
        disks=(
            replace(examples.DISK, interface=interface),
            examples.DATA,
            Disk(_TOOLS, "tools", GiB, interface=interface),
        ),
    )


_OLD_MACHINE = "pc-i440fx-10.0"
_SCSI = _on(DiskInterface.VIRTIO_SCSI, "pc-q35-10.0")
_CASES: dict[str, tuple[VmSpec, domxml.Host]] = {
    "kvm": (_SPEC, _KVM),
    "emulated": (_SPEC, _EMULATED),
    "uefi": (replace(_SPEC, firmware=Firmware.UEFI), _KVM),
    "passthrough": (
        replace(_SPEC, cpu=Cpu(CpuMode.HOST_PASSTHROUGH, None, 2, 4, 2)),
        _KVM,
    ),
    "named-emulated": (
        replace(_SPEC, cpu=Cpu(CpuMode.NAMED, "Nehalem")),
        _EMULATED,
    ),
    "network-boot": (
        replace(
            _SPEC,
            disks=(examples.DATA,),
            nics=(
                examples.NIC,
                replace(examples.NIC, nic_id=NicId("n2"), is_linked=False),
            ),
        ),
        _KVM,
    ),
    "bare": (replace(_SPEC, disks=(), nics=()), _KVM),
    "scsi": (_SCSI, _KVM),
    "sata": (_on(DiskInterface.SATA, "pc-q35-10.0"), _KVM),
    "ide": (_on(DiskInterface.IDE, _OLD_MACHINE), _KVM),
    "scsi-i440fx": (_on(DiskInterface.VIRTIO_SCSI, _OLD_MACHINE), _KVM),
    "pool": (_POOLED, replace(_KVM, opened=_OPENED, lease=_LEASE)),
}


@pytest.mark.parametrize("case", _CASES)
def test_build_writes_the_golden_file(case: str) -> None:
    spec, host = _CASES[case]
    golden = (_GOLDEN / f"{case}.xml").read_text()
    assert domxml.build(_vm(spec), "web", host) + "\n" == golden


@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), min_size=1))
def test_build_escapes_any_name(name: str) -> None:
    vm = _vm(replace(_SPEC, name=name))
    xml = domxml.build(vm, domxml.domain_names(vm.spec)[0], _KVM)
    told = etree.fromstring(xml).findtext("name")
    assert told == domxml.domain_names(vm.spec)[0]


@given(st.integers(0, 16), st.integers(0, 16))
def test_assign_addresses_keeps_those_of_devices_that_were_there(
    before: int, added: int
) -> None:
    disks = tuple(
        Disk(DiskId(f"d{number}"), "", GiB) for number in range(before + added)
    )
    old = domxml.assign_addresses(replace(_SPEC, disks=disks[:before]))
    new = dict(domxml.assign_addresses(replace(_SPEC, disks=disks), old))
    assert old == tuple((alias, new[alias]) for alias, _ in old)
    assert len(set(new.values())) == len(new)


@pytest.mark.parametrize("case", _CASES)
def test_build_gives_every_device_a_pci_address_of_its_own(case: str) -> None:
    spec, host = _CASES[case]
    root = etree.fromstring(domxml.build(_vm(spec), "web", host))
    places = [
        tuple(address.get(part) for part in ("bus", "slot", "function"))
        for address in root.iterfind(".//address[@type='pci']")
    ]
    assert len(places) == len(set(places))


def test_domain_names_cuts_a_long_name_and_adds_the_id() -> None:
    plain, unique = domxml.domain_names(replace(_SPEC, name="ä" * 127))
    assert plain == unique == "ä" * 90 + "-aaaaaaaa"


def test_domain_names_keeps_a_short_name() -> None:
    assert domxml.domain_names(_SPEC) == ("web", "web-aaaaaaaa")


def test_read_finds_what_build_wrote() -> None:
    xml = domxml.build(_vm(_SPEC), "web", _EMULATED)
    told = xml.replace('port="-1"', 'port="5907"')
    mark = metadata.Mark(3, Wanted.UP)
    assert domxml.read(told) == domxml.Running(mark, True, 5907)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        pytest.param(None, "500", id="not-known"),
        pytest.param(DiskQos(total_iops=900), "900", id="others"),
        pytest.param(DiskQos(), None, id="none-any-more"),
    ],
)
def test_disk_has_the_limits_of_its_own(
    own: DiskQos | None, expected: str | None
) -> None:
    vm, host = _vm(_POOLED), _CASES["pool"][1]
    disk_id = examples.DISK.disk_id
    opened = {**host.opened, disk_id: replace(host.opened[disk_id], qos=own)}
    domain = etree.fromstring(domxml.build(vm, "web", replace(host, opened=opened)))
    assert domain.findtext("devices/disk/iotune/total_iops_sec") == expected


def test_plug_takes_a_free_name_and_the_slot_of_the_definition() -> None:
    vm = _vm(_POOLED)
    running = domxml.build(vm, "web", _CASES["pool"][1])
    new = replace(examples.DATA, disk_id=DiskId("new"), storage_domain_id=volumes.SD_ID)
    grown = _vm(replace(_POOLED, disks=(*_POOLED.disks, new)))
    opened = OpenVolume((Layer(PurePath("/pool/new"), DiskFormat.RAW),))
    (xml,) = domxml.plug(grown, new, opened, running)
    plugged = etree.fromstring(xml)
    target, place = plugged.find("target"), plugged.find("address")
    assert target is not None
    assert target.get("dev") == "vdd"
    assert place is not None
    assert place.get("bus") == f"0x{dict(grown.addresses)['disk-new']:02x}"
    assert plugged.find("boot") is None


def test_plug_brings_the_scsi_controller_that_a_guest_lacks() -> None:
    bare = _vm(_SPEC)
    running = domxml.build(bare, "web", _KVM)
    new = replace(
        examples.DATA,
        interface=DiskInterface.VIRTIO_SCSI,
        storage_domain_id=volumes.SD_ID,
    )
    spec = replace(_SPEC, disks=(*_SPEC.disks, new))
    grown = replace(
        bare, spec=spec, addresses=domxml.assign_addresses(spec, bare.addresses)
    )
    opened = OpenVolume((Layer(PurePath("/pool/new"), DiskFormat.RAW),))
    controller, plugged = domxml.plug(grown, new, opened, running)
    assert etree.fromstring(controller).get("model") == "virtio-scsi"
    with_it = running.replace("<devices>", f"<devices>{controller}", 1)
    assert domxml.plug(grown, new, opened, with_it) == (plugged,)


def test_build_keeps_the_scsi_controller_when_its_last_disk_is_gone() -> None:
    vm = _vm(_SCSI)
    spec = replace(_SCSI, disks=())
    left = replace(vm, spec=spec, addresses=domxml.assign_addresses(spec, vm.addresses))
    told = etree.fromstring(domxml.build(left, "web", _KVM))
    assert told.find("devices/controller[@type='scsi']") is not None


def test_assign_addresses_gives_a_disk_that_changes_its_bus_a_place_there() -> None:
    before = domxml.assign_addresses(_SPEC)
    disks = (replace(examples.DISK, interface=DiskInterface.SATA),)
    after = dict(domxml.assign_addresses(replace(_SPEC, disks=disks), before))
    assert after[f"sata-disk-{examples.DISK.disk_id}"] == 0


def test_disk_aliases_finds_what_build_wrote() -> None:
    running = domxml.build(_vm(_POOLED), "web", _CASES["pool"][1])
    ids = {disk.disk_id for disk in _POOLED.disks}
    assert domxml.disk_aliases(running) == {f"disk-{each}" for each in ids}


def test_read_finds_no_mark_in_a_domain_of_others() -> None:
    assert domxml.read("<domain type='kvm'/>") == domxml.Running(None, False, None)


if __name__ == "__main__":
    for name, (each, where) in _CASES.items():
        (_GOLDEN / f"{name}.xml").write_text(
            domxml.build(_vm(each), "web", where) + "\n"
        )
