"""A PUT of a VM: its custom properties change, nothing else does."""

import pytest

from aggregator.policies.properties import Level
from node import wire
from node.model.properties import CustomProperty
from node.model.vm import Vm
from tests.fakes.services import WEB1
from tests.unit.aggregator.rest.client import Client

_ONE = (
    "<custom_properties><custom_property><name>{name}</name><value>{value}</value>"
    "</custom_property></custom_properties>"
)
_VM = f"/vms/{WEB1}"


@pytest.fixture
def declared(client: Client) -> Client:
    properties = client.fleet.orders.properties
    properties.declare(Level.VM, "pincpu", "[0-9-]+")
    properties.declare(Level.VM, "smbios", ".*")
    return client


def _put(client: Client, inside: str, **names: str) -> int:
    return client.ask("PUT", _VM, f"<vm>{inside.format(**names)}</vm>").status_code


def _kept(client: Client) -> tuple[CustomProperty, ...]:
    document = client.fleet.mirror.view.vms[WEB1].vm_document
    return wire.decode(Vm, document).spec.custom_properties


def test_update_takes_all_properties(declared: Client) -> None:
    assert _put(declared, _ONE, name="pincpu", value="1-4") == 200
    assert _kept(declared) == (CustomProperty("pincpu", "1-4"),)
    assert _put(declared, _ONE, name="smbios", value="x") == 200
    assert _kept(declared) == (CustomProperty("smbios", "x"),)
    assert _put(declared, "<custom_properties/>") == 200
    assert _kept(declared) == ()


def test_update_shows_the_vm_as_it_is_then(declared: Client) -> None:
    body = f"<vm>{_ONE.format(name='pincpu', value='1-4')}</vm>"
    accept = {"Accept": "application/json"}
    shown = declared.ask("PUT", _VM, body, accept).json
    assert shown is not None
    assert shown["custom_properties"] == {
        "custom_property": [{"name": "pincpu", "value": "1-4", "regexp": "[0-9-]+"}]
    }
    assert declared.get(_VM) == shown


def test_update_reads_json_too(declared: Client) -> None:
    body = '{"custom_properties":{"custom_property":[{"name":"smbios","value":"a;"}]}}'
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    for wrong, status in ((body, 400), (body.replace(";", ""), 200)):
        reply = declared.http.open(
            f"/ovirt-engine/api{_VM}",
            method="PUT",
            data=wrong,
            headers={"Authorization": f"Bearer {declared.token}", **headers},
        )
        assert reply.status_code == status, reply.text
    assert _kept(declared) == (CustomProperty("smbios", "a"),)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("pincpu", "all", "pincpu cannot be 'all': it must match [0-9-]+"),
        ("floppy", "/a", "there is no custom property floppy of a VM"),
        ("PATH", "/a", "PATH would change how hooks run"),
        ("", "x", "CustomProperty [name] required"),
    ],
)
def test_update_says_what_is_wrong(
    declared: Client, name: str, value: str, told: str
) -> None:
    body = f"<vm>{_ONE.format(name=name, value=value)}</vm>"
    reply = declared.ask("PUT", _VM, body)
    assert (reply.status_code, told in reply.text) == (400, True), reply.text
    assert _kept(declared) == ()


def test_update_lets_be_what_is_so(declared: Client) -> None:
    shown = declared.ask("GET", _VM).text
    reply = declared.ask("PUT", _VM, shown)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    "inside",
    [
        "",
        "<cluster><name>Default</name></cluster>",
        "<template><name>debian-12</name></template>",
        "<lease/><host><name>oak</name></host>",
    ],
    ids=["nothing", "cluster", "template", "host"],
)
def test_update_knows_things_by_name(declared: Client, inside: str) -> None:
    reply = declared.ask("PUT", _VM, f"<vm>{inside}</vm>")
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    ("inside", "field"),
    [
        ("<name>other</name>", "name"),
        ("<memory>5</memory>", "memory"),
        ("<cpu><topology><cores>7</cores></topology></cpu>", "cpu"),
        ("<stateless>true</stateless>", "stateless"),
        (f'<template id="{WEB1}"/>', "template"),
        ("<sounds>loud</sounds>", "sounds"),
    ],
)
def test_update_refuses_by_name_what_it_cannot_change(
    declared: Client, inside: str, field: str
) -> None:
    body = f"<vm>{inside}{_ONE.format(name='smbios', value='x')}</vm>"
    reply = declared.ask("PUT", _VM, body)
    assert (reply.status_code, f"changing {field}" in reply.text) == (501, True)
    assert _kept(declared) == ()


def test_update_of_the_same_orders_nothing(declared: Client) -> None:
    _put(declared, _ONE, name="smbios", value="x")
    asked = list(declared.fleet.orders.storage.asked)
    _put(declared, _ONE, name="smbios", value="x")
    assert declared.fleet.orders.storage.asked == asked


def test_update_of_no_vm_finds_none(declared: Client) -> None:
    path = "/vms/99999999-0000-4000-8000-000000000001"
    assert declared.ask("PUT", path, "<vm/>").status_code == 404
