"""What a VM may be, field by field."""

import unicodedata
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.model.ids import DiskId, NicId, PoolId, VmId
from node.model.properties import CustomProperty
from node.model.vm import Cpu, CpuMode, DiskInterface, Firmware, Vm, VmSpec
from node.policy import properties
from node.policy.properties import BadProperty, NoSuchDevice
from node.units import GiB, MiB
from node.vm import definition
from node.vm.definition import BadVm, MacTaken, NameTaken, NoMachine
from tests.fakes.volumes import POOL_ID, SD_ID, of_pool
from tests.unit.node.vm.examples import (
    AT,
    DISK,
    HOST,
    IMAGES,
    NIC,
    OTHER_ID,
    SPEC,
)


def _disk(**fields: Any) -> dict[str, Any]:
    return {"disks": (replace(DISK, **fields),)}


def _nic(**fields: Any) -> dict[str, Any]:
    return {"nics": (replace(NIC, **fields),)}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="plain"),
        pytest.param({"name": "müller & söhne <1>"}, id="any-letters"),
        pytest.param({"memory_bytes": 16 * MiB}, id="least-memory"),
        pytest.param({"memory_bytes": 8 * GiB}, id="all-memory"),
        pytest.param({"cpu": Cpu(CpuMode.NAMED, "Nehalem")}, id="named-cpu"),
        pytest.param({"disks": (), "nics": ()}, id="bare"),
        pytest.param(_disk(image="of-another-node"), id="made-of-an-image"),
    ],
)
def test_check_alone_accepts(fields: dict[str, Any]) -> None:
    definition.check_alone(replace(SPEC, **fields), HOST)


def test_check_images_accepts_a_disk_as_large_as_its_image() -> None:
    definition.check_images(replace(SPEC, **_disk(image="debian")), IMAGES)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        pytest.param("image", {"image": "../x"}, id="unknown"),
        pytest.param("size_bytes", {"image": "debian", "size_bytes": 512}, id="larger"),
        pytest.param(
            "image", {"image": "debian", "is_read_only": True}, id="read-only"
        ),
        pytest.param(
            "image", {"image": "debian", "from_disk_id": OTHER_ID}, id="a-clone-too"
        ),
    ],
)
def test_check_images_names_the_field(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BadVm) as caught:
        definition.check_images(replace(SPEC, **_disk(**fields)), IMAGES)
    assert caught.value.fields["field"] == f"disks[0].{field}"


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        pytest.param("vm_id", {"vm_id": "../../etc"}, id="path-as-id"),
        pytest.param("vm_id", {"vm_id": SPEC.vm_id.upper()}, id="upper-case-id"),
        pytest.param("name", {"name": ""}, id="no-name"),
        pytest.param("name", {"name": " web"}, id="space-before"),
        pytest.param("name", {"name": "a" * 256}, id="long-name"),
        pytest.param("name", {"name": "a\nb"}, id="control"),
        pytest.param("name", {"name": "a/b"}, id="slash"),
        pytest.param("name", {"name": "a\ufffe"}, id="not-in-xml"),
        pytest.param(
            "name", {"name": unicodedata.normalize("NFD", "ä")}, id="not-composed"
        ),
        pytest.param("description", {"description": "a" * 4097}, id="long-text"),
        pytest.param("memory_bytes", {"memory_bytes": 16 * MiB - 1024}, id="no-memory"),
        pytest.param("memory_bytes", {"memory_bytes": 8 * GiB + 1024}, id="too-much"),
        pytest.param("memory_bytes", {"memory_bytes": GiB + 1}, id="crooked-memory"),
        pytest.param("cpu.cores", {"cpu": Cpu(cores=0)}, id="no-cores"),
        pytest.param("cpu", {"cpu": Cpu(sockets=16, cores=16)}, id="many-cores"),
        pytest.param("cpu.model", {"cpu": Cpu(CpuMode.NAMED)}, id="nameless-cpu"),
        pytest.param("cpu.model", {"cpu": Cpu(model="Nehalem")}, id="needless-model"),
        pytest.param(
            "cpu.model", {"cpu": Cpu(CpuMode.NAMED, "EPYC-Genoa")}, id="unusable-cpu"
        ),
        pytest.param("machine", {"machine": "pc-q35-99.0"}, id="unknown-machine"),
        pytest.param("machine", {"machine": "pc-i440fx-99.0"}, id="unknown-i440fx"),
        pytest.param("machine", {"machine": "isapc"}, id="no-pci"),
        pytest.param(
            "firmware",
            {"machine": "pc-i440fx-10.0", "firmware": Firmware.UEFI},
            id="uefi-on-i440fx",
        ),
        pytest.param(
            "disks[0].interface", _disk(interface=DiskInterface.IDE), id="ide-on-q35"
        ),
        pytest.param(
            "disks[0].interface",
            {**_disk(interface=DiskInterface.SATA), "machine": "pc-i440fx-10.0"},
            id="sata-on-i440fx",
        ),
        pytest.param(
            "disks[0].interface",
            _disk(interface=DiskInterface.SATA, is_read_only=True),
            id="read-only-sata",
        ),
        pytest.param(
            "disks[0].interface",
            {"disks": (replace(DISK, interface=DiskInterface.SATA),) * 7},
            id="seventh-sata",
        ),
        pytest.param("disks", {"disks": (DISK,) * 17}, id="many-disks"),
        pytest.param("nics", {"nics": (NIC,) * 9}, id="many-nics"),
        pytest.param("disks[0].disk_id", _disk(disk_id="x"), id="bad-disk-id"),
        pytest.param("disks[1].disk_id", {"disks": (DISK, DISK)}, id="disk-twice"),
        pytest.param("disks[0].size_bytes", _disk(size_bytes=0), id="no-size"),
        pytest.param(
            "disks[0].size_bytes", _disk(size_bytes=GiB + 1), id="half-a-byte"
        ),
        pytest.param("disks[0].size_bytes", _disk(size_bytes=1 << 51), id="huge"),
        pytest.param("nics[0].nic_id", _nic(nic_id=""), id="bad-nic-id"),
        pytest.param("nics[0].mac", _nic(mac="52:54:00:00:00"), id="short-mac"),
        pytest.param("nics[0].mac", _nic(mac="52-54-00-00-00-01"), id="dashed-mac"),
        pytest.param("nics[0].mac", _nic(mac="53:54:00:00:00:01"), id="group-mac"),
        pytest.param("nics[0].mac", _nic(mac="00:00:00:00:00:00"), id="zero-mac"),
        pytest.param("nics[0].network", _nic(network="nowhere"), id="unknown-network"),
        pytest.param(
            "nics[1].mac",
            {"nics": (NIC, replace(NIC, nic_id=NicId(OTHER_ID)))},
            id="mac-twice",
        ),
    ],
)
def test_check_alone_names_the_field(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BadVm) as caught:
        definition.check_alone(replace(SPEC, **fields), HOST)
    assert caught.value.fields["field"] == field


@given(st.text())
def test_check_alone_lets_no_id_pass_that_is_no_file_name(text: str) -> None:
    spec = replace(SPEC, disks=(replace(DISK, disk_id=DiskId(text)),))
    with pytest.raises(BadVm):
        definition.check_alone(spec, HOST)


def _other(**fields: Any) -> Vm:
    spec = replace(SPEC, vm_id=OTHER_ID, **fields)
    return Vm(spec, 1, AT)


def test_check_beside_refuses_a_name_that_is_taken() -> None:
    with pytest.raises(NameTaken):
        definition.check_beside(SPEC, [_other(nics=())])


def test_check_beside_refuses_a_mac_that_is_taken() -> None:
    with pytest.raises(MacTaken):
        definition.check_beside(SPEC, [_other(name="db")])


def test_check_beside_does_not_mind_the_vm_itself() -> None:
    definition.check_beside(SPEC, [Vm(SPEC, 1, AT)])


def test_pin_chooses_the_newest_q35() -> None:
    pinned = definition.pin(replace(SPEC, machine=None), HOST, {})
    assert pinned.machine == "pc-q35-10.0"


def test_pin_chooses_the_newest_i440fx_for_a_disk_on_ide() -> None:
    spec = replace(SPEC, machine=None, **_disk(interface=DiskInterface.IDE))
    pinned = definition.pin(spec, HOST, {})
    assert pinned.machine == "pc-i440fx-10.0"
    definition.check_alone(pinned, HOST)


@pytest.mark.parametrize(
    ("interface", "machine"),
    [
        pytest.param(DiskInterface.VIRTIO_SCSI, "pc-q35-10.0", id="scsi"),
        pytest.param(DiskInterface.VIRTIO_SCSI, "pc-i440fx-10.0", id="scsi-i440fx"),
        pytest.param(DiskInterface.SATA, "pc-q35-10.0", id="sata"),
    ],
)
def test_check_alone_takes_disks_on_each_bus(
    interface: DiskInterface, machine: str
) -> None:
    spec = replace(SPEC, machine=machine, **_disk(interface=interface))
    definition.check_alone(spec, HOST)


def test_pin_keeps_what_was_chosen() -> None:
    assert definition.pin(SPEC, replace(HOST, machines=()), {}) == SPEC


def test_pin_complains_when_no_machine_is_known() -> None:
    with pytest.raises(NoMachine):
        definition.pin(replace(SPEC, machine=None), replace(HOST, machines=()), {})


@pytest.mark.parametrize(
    ("fields", "is_same"),
    [
        pytest.param({}, True, id="equal"),
        pytest.param({"machine": None}, True, id="machine-left-open"),
        pytest.param({"machine": "pc-q35-9.2"}, False, id="other-machine"),
        pytest.param({"name": "db"}, False, id="other-name"),
        pytest.param({"vm_id": VmId("x")}, False, id="other-id"),
    ],
)
def test_is_same_compares_what_was_asked(fields: dict[str, Any], is_same: bool) -> None:
    assert definition.is_same(replace(SPEC, **fields), SPEC) is is_same


@pytest.mark.parametrize(
    ("asked", "there", "is_same"),
    [
        pytest.param(SPEC, of_pool(SPEC), True, id="no-place-is-any-place"),
        pytest.param(of_pool(SPEC), SPEC, False, id="a-place-is-that-place"),
        pytest.param(replace(SPEC, name="db"), of_pool(SPEC), False, id="other-name"),
        pytest.param(
            of_pool(SPEC),
            replace(of_pool(SPEC), pool_id=PoolId("other")),
            False,
            id="other-pool",
        ),
    ],
)
def test_is_same_takes_a_vm_that_names_no_place_wherever_it_lies(
    asked: VmSpec, there: VmSpec, is_same: bool
) -> None:
    assert definition.is_same(asked, there) is is_same


def test_placed_gives_all_disks_their_place() -> None:
    assert definition.placed(SPEC, POOL_ID, [SD_ID]) == of_pool(SPEC)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(of_pool(SPEC), id="whole"),
        pytest.param(
            replace(SPEC, disks=of_pool(SPEC).disks), id="disk-without-its-pool"
        ),
    ],
)
def test_placed_leaves_alone_what_names_a_place(spec: VmSpec) -> None:
    assert definition.placed(spec, PoolId("other"), [SD_ID]) is spec


def test_check_alone_refuses_a_property_that_would_harm_a_hook() -> None:
    bad = (CustomProperty("LD_PRELOAD", "/tmp/x.so"),)
    with pytest.raises(BadProperty):
        definition.check_alone(replace(SPEC, **_nic(custom_properties=bad)), HOST)


@pytest.mark.parametrize("device_id", [None, NIC.nic_id, DISK.disk_id])
def test_with_properties_changes_one_holder(device_id: str | None) -> None:
    given = (CustomProperty("b", "2"), CustomProperty("a", "1"))
    made = definition.with_properties(SPEC, device_id, given)
    holders = (None, NIC.nic_id, DISK.disk_id)
    assert {each: properties.of(made, each) for each in holders} == {
        each: given[::-1] if each == device_id else () for each in holders
    }


def test_with_properties_says_that_there_is_no_such_device() -> None:
    with pytest.raises(NoSuchDevice):
        definition.with_properties(SPEC, OTHER_ID, ())
