"""The file of a VM's definition: what is believed, and which copy wins."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.errors import Error
from node.model.ids import VmId
from node.model.vm import Vm, VmSpec
from node.storage.formats import vm_file
from node.storage.formats.vm_file import VmFile, VmFilesDiffer
from node.units import GiB
from tests.contract.disks import code_of
from tests.unit.node.storage.examples import IMAGE, OTHER_SD, SD, attempt

VM = VmId(IMAGE)
AT = "2026-11-22T08:00:00.000Z"


def vm(generation: int = 3, name: str = "web") -> Vm:
    return Vm(VmSpec(VM, name, GiB), generation, AT)


def file(generation: int = 3, name: str = "web") -> VmFile:
    return VmFile(1, VM, generation, AT, vm(generation, name))


def tombstone(generation: int = 3) -> VmFile:
    return VmFile(1, VM, generation, AT)


def signed(body: bytes) -> bytes:
    return b"%b\nsha256=%b\n" % (body, hashlib.sha256(body).hexdigest().encode())


GOOD = vm_file.write(file()).partition(b"\n")[0]


@pytest.mark.parametrize("each", [file(), tombstone()], ids=["vm", "tombstone"])
def test_parse_reads_what_write_wrote(each: VmFile) -> None:
    assert vm_file.parse(vm_file.write(each), VM) == each


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "vm_file_damaged", id="empty"),
        pytest.param(GOOD, "vm_file_damaged", id="cut"),
        pytest.param(
            vm_file.write(file()).replace(b"web", b"wEb"), "vm_file_damaged", id="bit"
        ),
        pytest.param(signed(b'{"schema":2,"x":1}'), "newer_vm_file", id="newer"),
        pytest.param(signed(b'{"schema":1}'), "vm_file_damaged", id="fields-gone"),
        pytest.param(
            signed(GOOD.replace(b'"schema":1,', b'"schema":1,"x":1,', 1)),
            "vm_file_damaged",
            id="unknown-field",
        ),
        pytest.param(
            signed(GOOD.replace(b'"generation":3', b'"generation":4', 1)),
            "vm_file_damaged",
            id="generations-differ",
        ),
        pytest.param(
            signed(GOOD.replace(AT.encode(), b"yesterday", 1)),
            "vm_file_damaged",
            id="no-moment",
        ),
        pytest.param(
            signed(GOOD.replace(IMAGE.encode(), SD.encode())),
            "vm_file_damaged",
            id="another-vm",
        ),
        pytest.param(bytes(vm_file.SIZE_MAX + 1), "vm_file_damaged", id="large"),
    ],
)
def test_parse_refuses(data: bytes, code: str) -> None:
    assert code_of(lambda: vm_file.parse(data, VM)) == code


@given(some.binary(max_size=200).map(signed) | some.binary(max_size=200))
def test_parse_survives_anything(data: bytes) -> None:
    found = attempt(lambda each: vm_file.parse(each, VM), data)
    assert isinstance(found, Error)


def test_write_refuses_what_parse_would() -> None:
    assert code_of(lambda: vm_file.write(replace(file(), generation=4))) == (
        "bad_vm_file"
    )
    long = replace(vm(), spec=replace(vm().spec, description="x" * vm_file.SIZE_MAX))
    assert code_of(lambda: vm_file.write(replace(file(), vm=long))) == "bad_vm_file"


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        pytest.param(file(3), file(4), OTHER_SD, id="newer"),
        pytest.param(file(4), file(3), SD, id="older"),
        pytest.param(file(3), file(3), SD, id="equal"),
        pytest.param(file(3), tombstone(4), OTHER_SD, id="deleted"),
        pytest.param(tombstone(3), file(3), SD, id="deleted-at-one-generation"),
        pytest.param(tombstone(3), file(4), OTHER_SD, id="older-tombstone"),
    ],
)
def test_newest_is_the_highest_generation(
    first: VmFile, second: VmFile, winner: str
) -> None:
    assert vm_file.newest({SD: first, OTHER_SD: second}) == winner
    assert vm_file.newest({}) is None


def test_newest_never_chooses_between_two_that_differ() -> None:
    with pytest.raises(VmFilesDiffer) as caught:
        vm_file.newest({SD: file(3), OTHER_SD: file(3, "other")})
    assert (caught.value.fields["first"], caught.value.fields["second"]) == (
        SD,
        OTHER_SD,
    )
    assert vm_file.newest({SD: file(3), "a": file(3, "x"), "b": file(4)}) == "b"
