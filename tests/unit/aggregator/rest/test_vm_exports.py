"""Tests of the export of VMs and templates."""

import pytest

from node.model.exports import ExportTemplate, ExportVm
from tests.fakes.fleet_storage import APP, DATA2
from tests.unit.aggregator.rest.client import Client

PLACE = f"<storage_domain id='{DATA2}'/>"
EXCLUSIVE = f"{PLACE}<exclusive>true</exclusive>"


@pytest.mark.parametrize(
    "inside",
    [
        PLACE,
        "<storage_domain><name>data2</name></storage_domain>",
        f"{PLACE}<discard_snapshots>true</discard_snapshots>",
        f"{PLACE}<exclusive>false</exclusive>",
    ],
    ids=["id", "name", "discard", "not-exclusive"],
)
def test_export_is_ordered(stored: Client, inside: str) -> None:
    reply = stored.ask("POST", f"/vms/{APP}/export", f"<action>{inside}</action>")
    assert reply.status_code == 200, reply.text
    ((verb, vm_id, request, _),) = stored.fleet.orders.storage.asked
    assert (verb, vm_id, request) == ("vm_export", APP, ExportVm(DATA2))


def test_exclusive_export_replaces(stored: Client) -> None:
    body = f"<action>{EXCLUSIVE}</action>"
    reply = stored.ask("POST", f"/vms/{APP}/export", body)
    assert reply.status_code == 200, reply.text
    ((_, _, request, _),) = stored.fleet.orders.storage.asked
    assert request == ExportVm(DATA2, is_replacing=True)


@pytest.mark.parametrize(
    "inside",
    ["", "<storage_domain id='none'/>", f"{PLACE}<exclusive>perhaps</exclusive>"],
    ids=["nowhere", "unknown", "unclear"],
)
def test_export_is_refused(stored: Client, inside: str) -> None:
    reply = stored.ask("POST", f"/vms/{APP}/export", f"<action>{inside}</action>")
    assert reply.status_code == 400, reply.text
    assert stored.fleet.orders.storage.asked == []


BODY = f'<template><name>tpl</name><vm id="{APP}"/></template>'


@pytest.fixture
def template(stored: Client) -> str:
    """Return the address of a template."""
    reply = stored.ask("POST", "/templates", BODY)
    assert reply.status_code == 202, reply.text
    (template_id,) = stored.fleet.mirror.view.templates
    return f"/templates/{template_id}"


def test_export_of_a_template_is_ordered(stored: Client, template: str) -> None:
    body = f"<action>{PLACE}</action>"
    reply = stored.ask("POST", f"{template}/export", body)
    assert reply.status_code == 200, reply.text
    verb, template_id, request, _ = stored.fleet.orders.storage.asked[-1]
    assert (verb, f"/templates/{template_id}") == ("template_export", template)
    assert request == ExportTemplate(DATA2)


def test_exclusive_export_of_a_template_replaces(stored: Client, template: str) -> None:
    reply = stored.ask("POST", f"{template}/export", f"<action>{EXCLUSIVE}</action>")
    assert reply.status_code == 200, reply.text
    request = stored.fleet.orders.storage.asked[-1][2]
    assert request == ExportTemplate(DATA2, is_replacing=True)


def test_export_of_a_template_is_refused(stored: Client, template: str) -> None:
    before = len(stored.fleet.orders.storage.asked)
    assert stored.ask("POST", f"{template}/export", "<action/>").status_code == 400
    assert len(stored.fleet.orders.storage.asked) == before


def test_blank_is_not_exported(stored: Client) -> None:
    blank = "/templates/00000000-0000-0000-0000-000000000000"
    reply = stored.ask("POST", f"{blank}/export", f"<action>{PLACE}</action>")
    assert reply.status_code == 409, reply.text
    assert stored.fleet.orders.storage.asked == []
