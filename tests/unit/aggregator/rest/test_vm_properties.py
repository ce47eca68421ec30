"""Custom properties in representations and requests."""

from typing import Any

import pytest

from aggregator.policies.properties import Level
from aggregator.rest import body, vm_properties
from aggregator.rest.serialise import Form
from node import wire
from node.model.properties import CustomProperty
from node.model.vm import Vm
from tests.unit.aggregator.rest.client import Client

_NEW = (
    "<vm><name>new</name><cluster><name>Default</name></cluster>"
    "<template><name>Blank</name></template><custom_properties><custom_property>"
    "<name>pincpu</name><value>{value}</value></custom_property></custom_properties>"
    "</vm>"
)


def _read(inside: str) -> Any:
    return vm_properties.wanted(body.read(f"<vm>{inside}</vm>".encode(), Form.XML))


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("", None),
        ("<custom_properties/>", ()),
        (
            "<custom_properties><custom_property><name>b</name><value>2</value>"
            "</custom_property><custom_property><name>a</name><value>1</value>"
            "<regexp>ignored</regexp></custom_property></custom_properties>",
            (CustomProperty("a", "1"), CustomProperty("b", "2")),
        ),
        (
            "<custom_properties><custom_property><name>b</name></custom_property>"
            "</custom_properties>",
            (),
        ),
    ],
    ids=["absent", "empty", "two", "no-value"],
)
def test_wanted_reads(inside: str, expected: object) -> None:
    assert _read(inside) == expected


def test_vm_is_made_with_properties(client: Client) -> None:
    client.fleet.orders.properties.declare(Level.VM, "pincpu", "[0-9-]+")
    assert client.ask("POST", "/vms", _NEW.format(value="all")).status_code == 400
    assert client.ask("POST", "/vms", _NEW.format(value="1-4")).status_code == 201
    (made,) = [e for e in client.fleet.mirror.view.vms.values() if e.name == "new"]
    spec = wire.decode(Vm, made.vm_document).spec
    assert spec.custom_properties == (CustomProperty("pincpu", "1-4"),)
    tree = client.tree(f"/vms/{made.vm_id}")
    shown = tree.find("custom_properties/custom_property")
    assert shown is not None
    assert [(each.tag, each.text) for each in shown] == [
        ("name", "pincpu"),
        ("value", "1-4"),
        ("regexp", "[0-9-]+"),
    ]


def test_vm_without_properties_shows_none(client: Client) -> None:
    assert "custom_properties" not in client.ask("GET", "/vms").text
