"""What a custom property may be called and hold, on any node and aggregator."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.model.properties import CustomProperty
from node.policy import properties
from node.policy.properties import BadProperty, NoSuchDevice
from tests.unit.node.vm.examples import DISK, NIC, SPEC

_PINCPU = CustomProperty("pincpu", "1-4,^3")


@pytest.mark.parametrize(
    "name", ["sap_agent", "numa", "_x", "Path", "vmid", "hook_x", "A" * 64]
)
def test_check_name_accepts(name: str) -> None:
    properties.check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "1st", "a-b", "a.b", "a b", "a=b", "ä", "A" * 65, "a\n", "a\0"),
        *("PATH", "IFS", "HOME", "ENV", "LD_PRELOAD", "LD_LIBRARY_PATH", "LC_ALL"),
        *("PYTHONPATH", "PYTHONSTARTUP", "BASH_ENV", "BASH_FUNC_ls", "PERL5LIB"),
        *("PS4", "SHELLOPTS", "GCONV_PATH", "NOTIFY_SOCKET", "https_proxy", "SUDO_UID"),
        *("_hook_domxml", "_hook_json", "vmId", "FROM_SNAPSHOT", "SKERRY_X", "_"),
    ],
)
def test_check_name_refuses_what_would_harm_a_hook(name: str) -> None:
    with pytest.raises(BadProperty) as caught:
        properties.check_name(name)
    assert caught.value.fields["field"] == "custom_properties"


@given(st.text(max_size=80))
def test_check_name_lets_only_identifiers_pass(name: str) -> None:
    try:
        properties.check_name(name)
    except BadProperty:
        return
    assert name.isascii()
    assert name.isidentifier()


@pytest.mark.parametrize(
    "value",
    ["", "a b", '$(rm -rf /)`id`"&|', "{'serial':'1'}^{'a':'b'}", "müller", "x" * 4096],
)
def test_check_accepts_any_text_of_one_line(value: str) -> None:
    properties.check([CustomProperty("smbios", value)])


@pytest.mark.parametrize(
    "value", ["a\nb", "a\0b", "a\x1bb", "a;b", "x" * 4097, "\ud800"]
)
def test_check_refuses_a_value_that_cannot_be_handed_on(value: str) -> None:
    with pytest.raises(BadProperty, match="smbios"):
        properties.check([CustomProperty("smbios", value)])


def test_check_refuses_a_name_that_stands_there_twice() -> None:
    with pytest.raises(BadProperty, match="twice"):
        properties.check([_PINCPU, _PINCPU])


def test_check_refuses_too_many() -> None:
    with pytest.raises(BadProperty, match="at most 64"):
        properties.check(CustomProperty(f"p{index}", "1") for index in range(65))


@pytest.mark.parametrize("part", ["vm", "nic", "disk"])
def test_check_all_looks_at_devices_too(part: str) -> None:
    bad = (CustomProperty("PATH", "/tmp"),)
    spec = {
        "vm": replace(SPEC, custom_properties=bad),
        "nic": replace(SPEC, nics=(replace(NIC, custom_properties=bad),)),
        "disk": replace(SPEC, disks=(replace(DISK, custom_properties=bad),)),
    }[part]
    with pytest.raises(BadProperty):
        properties.check_all(spec)


def test_of_finds_the_properties_of_a_device() -> None:
    spec = replace(SPEC, disks=(replace(DISK, custom_properties=(_PINCPU,)),))
    found = [properties.of(spec, each) for each in (None, NIC.nic_id, DISK.disk_id)]
    assert found == [(), (), (_PINCPU,)]


def test_of_says_that_there_is_no_such_device() -> None:
    with pytest.raises(NoSuchDevice):
        properties.of(SPEC, SPEC.vm_id)


def test_edited_adds_changes_and_removes() -> None:
    known = [CustomProperty("b", "1"), CustomProperty("c", "1")]
    changes = [
        CustomProperty("c", ""),
        CustomProperty("b", "2"),
        CustomProperty("a", "3"),
    ]
    wanted = (CustomProperty("a", "3"), CustomProperty("b", "2"))
    assert properties.edited(known, changes) == wanted
