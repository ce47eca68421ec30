"""Custom properties in OVF documents, as oVirt's engine spells them."""

import pytest
from lxml import etree

from node.model.properties import CustomProperty
from node.storage.ovf import properties, reading, writing, xml
from node.storage.ovf.document import OvfVm
from tests.unit.node.storage.ovf import samples

AT = "2026-11-22T08:00:00.000Z"
SAMPLE = samples.DOCUMENT.encode()


def _content(users: str) -> xml.Element:
    text = f"<Content><UserDefinedProperties>{users}</UserDefinedProperties></Content>"
    return etree.fromstring(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (";;", {}),
        ("a=1", {"a": "1"}),
        ("b=2;a=1;", {"a": "1", "b": "2"}),
        ("a=x=y", {"a": "x=y"}),
        ("a=1;a=2", {"a": "2"}),
        ("a;b=2", {"b": "2"}),
        ("LD_PRELOAD=/x;a-b=1;a=1", {"a": "1"}),
        ("\n  a=1;\n  b=2\n", {"a": "1", "b": "2"}),
    ],
)
def test_read_all_understands(text: str, expected: dict[str, str]) -> None:
    found = properties.read_all(_content(text))
    assert {each.name: each.value for each in found} == expected


def test_read_all_takes_no_more_than_a_vm_may_have() -> None:
    text = ";".join(f"p{number}=1" for number in range(100))
    assert len(properties.read_all(_content(text))) == 64


def test_write_keeps_predefined_ones_and_users_own_apart() -> None:
    held = (
        CustomProperty("hugepages", "2048"),
        CustomProperty("pincpu", "1"),
        CustomProperty("sndbuf", "0"),
        CustomProperty("smbios", "<&"),
    )
    vm = OvfVm(reading.read(SAMPLE).vm_id, "web", 1 << 30, custom_properties=held)
    text = writing.write(vm, AT).decode()
    predefined, own = "hugepages=2048;sndbuf=0", "pincpu=1;smbios=&lt;&amp;"
    assert f"<PredefinedProperties>{predefined}</PredefinedProperties>" in text
    assert f"<UserDefinedProperties>{own}</UserDefinedProperties>" in text


def test_write_takes_away_what_a_device_has_no_more() -> None:
    vm = reading.read(SAMPLE)
    assert writing.write(vm, AT).count(b"<CustomProperties>") == 2
    (item,) = [
        each
        for each in xml.parse(SAMPLE).iter()
        if xml.child(each, "CustomProperties") is not None
        and xml.text(each, "Type") == "interface"
    ]
    properties.write_device(item, ())
    assert properties.read_device(item) == ()
    assert xml.child(item, "CustomProperties") is None
