"""Tests of writing elements."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from aggregator.rest import element, serialise
from aggregator.rest.element import Element, Value
from aggregator.rest.serialise import Form

MOMENT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
SOME = Element(
    "vm",
    attributes=(("href", "/vms/1"), ("id", "1")),
    children=(
        Element("name", "a<b & c"),
        element.link("nics", "/vms/1/nics"),
        element.listed("actions", (element.link("start", "/vms/1/start"),)),
        element.texts("devices", "device", ("hd",)),
    ),
)


@pytest.mark.parametrize(
    ("value", "as_xml", "as_json"),
    [
        ("text", "text", "text"),
        (True, "true", "true"),
        (False, "false", "false"),
        (2**40, "1099511627776", "1099511627776"),
        (2.5, "2.5", 2.5),
        (MOMENT, "2026-11-22T08:00:00.000Z", 1795334400000),
    ],
    ids=["text", "true", "false", "integer", "decimal", "time"],
)
def test_values_are_written_as_ovirt_does(
    value: Value, as_xml: str, as_json: object
) -> None:
    leaf = Element("x", value)
    assert serialise.to_xml(leaf) == f"<x>{as_xml}</x>"
    assert serialise.to_json(leaf) == as_json


def test_to_xml_keeps_both_tags_of_an_empty_text() -> None:
    children = (Element("text", ""), element.listed("list", ()))
    assert serialise.to_xml(Element("x", children=children)) == (
        "<x><text></text><list/></x>"
    )


def test_to_json_makes_lists_of_lists_and_links() -> None:
    assert serialise.to_json(SOME) == {
        "href": "/vms/1",
        "id": "1",
        "name": "a<b & c",
        "link": [{"href": "/vms/1/nics", "rel": "nics"}],
        "actions": {"link": [{"href": "/vms/1/start", "rel": "start"}]},
        "devices": {"device": ["hd"]},
    }


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, {}), (1, {"vm": [{}]}), (2, {"vm": [{}, {}]})],
    ids=["none", "one", "two"],
)
def test_stream_names_items_once_in_json(count: int, expected: object) -> None:
    pieces = serialise.stream("vms", "vm", [Element("vm")] * count, Form.JSON)
    assert json.loads(b"".join(pieces)) == expected


def test_stream_wraps_items_in_xml() -> None:
    pieces = serialise.stream("vms", "vm", [Element("vm")] * 2, Form.XML)
    root = etree.fromstring(b"".join(pieces))
    assert (root.tag, [child.tag for child in root]) == ("vms", ["vm", "vm"])


@given(st.text(), st.text())
def test_document_is_well_formed_whatever_the_text(text: str, name: str) -> None:
    tree = Element("x", attributes=(("id", name),), children=(Element("y", text),))
    document = serialise.document(tree, Form.XML)
    child = etree.fromstring(document).find("y")
    assert child is not None
    if text.isprintable():
        assert (child.text or "") == text
