"""How custom properties are asked for at a terminal, and shown."""

from dataclasses import replace

import click
import pytest

from node.commands import property_options
from node.commands.property_options import NoSuchDevice
from node.model.properties import CustomProperty
from tests.unit.node.vm.examples import DISK, NIC, SPEC

_PINCPU = CustomProperty("pincpu", "1-4")
_SMBIOS = CustomProperty("smbios", "{'a':'b'}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pincpu=1-4", _PINCPU),
        ("pincpu=", CustomProperty("pincpu", "")),
        ("qemu=a=b", CustomProperty("qemu", "a=b")),
    ],
)
def test_property_reads(text: str, expected: CustomProperty) -> None:
    assert property_options.Property().convert(text, None, None) == expected


@pytest.mark.parametrize("text", ["pincpu", "=1-4", ""])
def test_property_refuses(text: str) -> None:
    with pytest.raises(click.BadParameter, match="pincpu=1-4"):
        property_options.Property().convert(text, None, None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, None),
        (NIC.name, NIC.nic_id),
        (DISK.name, DISK.disk_id),
        (DISK.disk_id, DISK.disk_id),
    ],
)
def test_device_id_finds(name: str | None, expected: str | None) -> None:
    assert property_options.device_id(SPEC, name) == expected


def test_device_id_says_that_there_is_none() -> None:
    with pytest.raises(NoSuchDevice, match="web"):
        property_options.device_id(SPEC, "none")


def test_rows_show_all_holders() -> None:
    nic = replace(NIC, custom_properties=(_PINCPU,))
    spec = replace(SPEC, custom_properties=(_PINCPU, _SMBIOS), nics=(nic,))
    assert list(property_options.rows(spec)) == [
        ("custom properties", "pincpu=1-4"),
        ("", "smbios={'a':'b'}"),
        ("custom properties of lan", "pincpu=1-4"),
    ]
