"""Tests of the disks of VMs: attached, made, changed, detached."""

from dataclasses import replace

import pytest
from lxml import etree

from node import wire
from node.model import storage_requests as requests
from node.model.ids import NodeId, VmId
from node.model.storage import Allocation, ContentType, DiskFormat
from node.model.vm import Disk, DiskInterface, Vm, VmRun, VmState
from node.units import GiB
from tests.fakes import fleet_storage
from tests.fakes.fleet_storage import APP, DATA1, DATA2, LOOSE, SCRATCH, SHARED, SYSTEM
from tests.fakes.services import AT, ELM, OAK, WEB1
from tests.fakes.storage_orders import say
from tests.unit.aggregator.rest.client import Client

UNTOLD = "dddddddd-0000-4000-8000-000000000001"  # of web1; no manager tells of it
PLACE = f"/vms/{APP}/diskattachments"
NEW = (
    "<disk><name>d</name><format>raw</format><provisioned_size>1024</provisioned_size>"
    f'<storage_domains><storage_domain id="{DATA2}"/></storage_domains></disk>'
)


def _body(inside: str) -> str:
    return f"<disk_attachment>{inside}</disk_attachment>"


def test_a_disk_is_attached_by_its_id(stored: Client) -> None:
    body = _body(
        f'<bootable>true</bootable><read_only>true</read_only><disk id="{LOOSE}">'
        "<provisioned_size>7</provisioned_size></disk>"
    )
    reply = stored.ask("POST", PLACE, body)
    assert reply.status_code == 201, reply.text
    assert reply.headers["Location"].endswith(f"{PLACE}/{LOOSE}")
    ((_, vm_id, disk, node_id),) = stored.fleet.orders.storage.asked
    assert (vm_id, node_id) == (APP, OAK)
    assert disk == Disk(
        LOOSE,
        "loose",
        10 * GiB,
        is_bootable=True,
        storage_domain_id=DATA1,
        disk_format=DiskFormat.QCOW2,
        is_read_only=True,
    )
    shown = stored.get(f"{PLACE}/{LOOSE}?follow=disk")
    assert (shown["read_only"], shown["active"]) == ("true", "true")
    assert shown["disk"]["vms"]["vm"][0]["id"] == APP


@pytest.mark.parametrize("interface", DiskInterface)
def test_a_disk_is_attached_to_the_bus_that_is_asked_for(
    stored: Client, interface: DiskInterface
) -> None:
    body = _body(f'<interface>{interface.value}</interface><disk id="{LOOSE}"/>')
    assert stored.ask("POST", PLACE, body).status_code == 201
    ((_, _, disk, _),) = stored.fleet.orders.storage.asked
    assert isinstance(disk, Disk)
    assert disk.interface is interface
    assert stored.get(f"{PLACE}/{LOOSE}")["interface"] == interface.value


@pytest.mark.parametrize(
    ("method", "place"),
    [
        pytest.param("POST", PLACE, id="new"),
        pytest.param("PUT", f"{PLACE}/{SYSTEM}", id="changed"),
    ],
)
def test_a_bus_is_refused_that_cannot_be(
    stored: Client, method: str, place: str
) -> None:
    body = _body(f'<interface>spapr_vscsi</interface><disk id="{LOOSE}"/>')
    assert stored.ask(method, place, body).status_code == 400
    assert stored.fleet.orders.storage.asked == []


def test_a_disk_changes_its_bus(stored: Client) -> None:
    body = _body("<interface>sata</interface>")
    reply = stored.ask("PUT", f"{PLACE}/{SYSTEM}", body)
    assert (reply.status_code, "<interface>sata<" in reply.text) == (200, True)
    ((verb, vm_id, disk, _),) = stored.fleet.orders.storage.asked
    assert (verb, vm_id) == ("vm_attach_disk", APP)
    before = fleet_storage.definition().spec.disks[0]
    assert disk == replace(before, interface=DiskInterface.SATA)


def test_a_disk_stays_on_its_bus_while_its_vm_runs(stored: Client) -> None:
    _run(stored, ELM)
    body = _body("<interface>sata</interface>")
    reply = stored.ask("PUT", f"{PLACE}/{SYSTEM}", body)
    assert (reply.status_code, "app runs with it" in reply.text) == (409, True)
    assert stored.fleet.orders.storage.asked == []


def _run(client: Client, node_id: str) -> None:
    """Let the VM `app` run on a node."""
    say(client.fleet.mirror, NodeId(node_id), VmRun(APP, ELM, VmState.UP, AT))
    assert client.fleet.mirror.view.vms[APP].node_id == node_id


def test_a_running_vm_gets_a_disk_when_it_is_written_down(stored: Client) -> None:
    _run(stored, ELM)
    body = _body(f'<disk id="{LOOSE}"/>')
    assert stored.ask("POST", PLACE, body).status_code == 201
    asked = stored.fleet.orders.storage.asked
    assert [(verb, node_id) for verb, _, _, node_id in asked] == [
        ("vm_attach_disk", OAK),
        ("vm_attach_disk", ELM),
    ]


def test_a_running_vm_gets_no_disk_that_is_not_written_down_yet(
    stored: Client,
) -> None:
    _run(stored, ELM)
    stored.fleet.orders.is_held = True
    body = _body(f'<disk id="{LOOSE}"/>')
    assert stored.ask("POST", PLACE, body).status_code == 202
    asked = stored.fleet.orders.storage.asked
    assert [node_id for _, _, _, node_id in asked] == [OAK]


@pytest.mark.parametrize(("method", "disk_id"), [("POST", LOOSE), ("DELETE", SYSTEM)])
def test_what_needs_two_steps_is_waited_for_although_nobody_wants_to(
    stored: Client, method: str, disk_id: str
) -> None:
    _run(stored, ELM)
    place = PLACE if method == "POST" else f"{PLACE}/{disk_id}"
    body = _body(f'<disk id="{disk_id}"/>')
    stored.ask(method, f"{place}?async=true", body)
    assert len(stored.fleet.orders.waits) == 2


def test_a_running_vm_lets_a_disk_go_before_it_is_written_down(stored: Client) -> None:
    _run(stored, ELM)
    assert stored.ask("DELETE", f"{PLACE}/{SYSTEM}").status_code == 200
    asked = stored.fleet.orders.storage.asked
    assert [(verb, node_id) for verb, _, _, node_id in asked] == [
        ("vm_detach_disk", ELM),
        ("vm_detach_disk", OAK),
    ]


def test_a_disk_grows_under_the_guest_that_runs_with_it(stored: Client) -> None:
    _run(stored, ELM)
    size = f"<disk><provisioned_size>{20 * GiB}</provisioned_size></disk>"
    assert stored.ask("PUT", f"{PLACE}/{SYSTEM}", _body(size)).status_code == 200
    asked = stored.fleet.orders.storage.asked
    assert {(verb, at, each.size_bytes) for verb, at, each, _ in asked} == {
        ("vm_resize_disk", APP, 20 * GiB)
    }
    assert [node_id for *_, node_id in asked] == [ELM, OAK]


def test_a_disk_without_an_id_is_made_first(stored: Client) -> None:
    reply = stored.ask("POST", PLACE, _body(NEW))
    assert reply.status_code == 201, reply.text
    made, attached = stored.fleet.orders.storage.asked
    assert (made[0], made[2].storage_domain_id) == ("disk_create", DATA2)
    assert attached[2].disk_id == made[2].disk_id
    assert etree.fromstring(reply.data).get("id") == made[2].disk_id


def test_a_disk_that_takes_long_is_not_attached_yet(stored: Client) -> None:
    stored.fleet.orders.is_held = True
    reply = stored.ask("POST", PLACE, _body(NEW))
    assert (reply.status_code, "still being made" in reply.text) == (500, True)
    assert len(stored.fleet.orders.storage.asked) == 1


@pytest.mark.parametrize(
    ("vm_id", "disk_id", "status", "text"),
    [
        (WEB1, SYSTEM, 409, "is attached to VM app"),
        (WEB1, UNTOLD, 404, "there is no disk"),
        (APP, WEB1, 404, "there is no disk"),
        ("x", SYSTEM, 404, "there is no vm"),
    ],
    ids=["taken", "untold", "unknown", "unknown-vm"],
)
def test_attaching_is_refused(
    stored: Client, vm_id: str, disk_id: str, status: int, text: str
) -> None:
    body = _body(f'<disk id="{disk_id}"/>')
    reply = stored.ask("POST", f"/vms/{vm_id}/diskattachments", body)
    assert (reply.status_code, text in reply.text) == (status, True), reply.text
    assert stored.fleet.orders.storage.asked == []


def test_a_shareable_disk_is_attached_to_a_second_vm(stored: Client) -> None:
    shared = fleet_storage.disk(SYSTEM, "system", is_shared=True)
    say(stored.fleet.mirror, OAK, shared)
    body = _body(f'<disk id="{SYSTEM}"/>')
    reply = stored.ask("POST", f"/vms/{WEB1}/diskattachments", body)
    assert reply.status_code == 201, reply.text


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<bootable>true</bootable>", []),
        (
            f"<disk><provisioned_size>{20 * GiB}</provisioned_size></disk>",
            [requests.ResizeDisk(20 * GiB)],
        ),
    ],
    ids=["same", "larger"],
)
def test_an_update_changes_the_disk(
    stored: Client, inside: str, expected: list[object]
) -> None:
    reply = stored.ask("PUT", f"{PLACE}/{SYSTEM}", _body(inside))
    assert reply.status_code == 200, reply.text
    asked = stored.fleet.orders.storage.asked
    assert [request for _, _, request, _ in asked] == expected


@pytest.mark.parametrize(
    "inside",
    [
        "<bootable>false</bootable>",
        "<read_only>true</read_only>",
        "<active>false</active>",
    ],
)
def test_how_a_disk_is_attached_stays(stored: Client, inside: str) -> None:
    reply = stored.ask("PUT", f"{PLACE}/{SYSTEM}", _body(inside))
    assert (reply.status_code, "cannot be changed" in reply.text) == (501, True)


@pytest.mark.parametrize(
    ("query", "is_kept"),
    [("", True), ("?detach_only=true", True), ("?detach_only=false", False)],
    ids=["plain", "detach", "delete"],
)
def test_a_detached_disk_is_kept_unless_the_request_denies_it(
    stored: Client, query: str, is_kept: bool
) -> None:
    reply = stored.ask("DELETE", f"{PLACE}/{SYSTEM}{query}")
    assert reply.status_code == 200, reply.text
    assert stored.get(PLACE) == {}
    assert (SYSTEM in stored.fleet.mirror.view.disks) is is_kept


@pytest.mark.parametrize(
    ("path", "status"),
    [(f"{PLACE}/{LOOSE}", 404), (f"/vms/{WEB1}/diskattachments/{UNTOLD}", 404)],
    ids=["not-attached", "untold"],
)
def test_detaching_is_refused(stored: Client, path: str, status: int) -> None:
    assert stored.ask("DELETE", path).status_code == status
    assert stored.fleet.orders.storage.asked == []


def test_a_vm_is_removed_without_its_disks(stored: Client) -> None:
    reply = stored.ask("DELETE", f"/vms/{APP}?detach_only=true")
    assert reply.status_code == 200, reply.text
    assert APP not in stored.fleet.mirror.view.vms
    assert stored.get(f"/disks/{SYSTEM}")["status"] == "ok"
    ((verb, _, disk_id, node_id),) = stored.fleet.orders.storage.asked
    assert (verb, disk_id, node_id) == ("vm_detach_disk", SYSTEM, OAK)


def test_a_vm_keeps_its_disks_as_long_as_they_are_not_detached(stored: Client) -> None:
    stored.fleet.orders.is_held = True
    reply = stored.ask("DELETE", f"/vms/{APP}?detach_only=true")
    assert (reply.status_code, "still being detached" in reply.text) == (409, True)
    assert [each.verb for each in stored.fleet.orders.list()] == ["vm_detach_disk"]


def test_a_new_vm_takes_disks_of_a_pool(stored: Client) -> None:
    shared = fleet_storage.disk(
        LOOSE,
        "loose",
        is_shared=True,
        disk_format=DiskFormat.RAW,
        allocation=Allocation.PREALLOCATED,
        content=ContentType.DATA,
    )
    say(stored.fleet.mirror, OAK, shared)
    body = (
        "<vm><name>new</name><cluster><name>Default</name></cluster>"
        "<template><name>Blank</name></template>"
        f'<lease><storage_domain id="{DATA2}"/></lease>'
        "<storage_error_resume_behaviour>kill</storage_error_resume_behaviour>"
        f'<disk_attachments><disk_attachment><disk id="{LOOSE}"/><bootable>1</bootable>'
        f"</disk_attachment>{_body(NEW)}</disk_attachments></vm>"
    )
    reply = stored.ask("POST", "/vms", body)
    assert reply.status_code == 201, reply.text
    vm = etree.fromstring(reply.data)
    assert vm.find("lease/storage_domain").get("id") == DATA2  # type: ignore[union-attr]  # it is there
    assert vm.findtext("storage_error_resume_behaviour") == "kill"
    attached = stored.get(f"/vms/{vm.get('id')}/diskattachments?follow=disk")
    first, second = attached["disk_attachment"]
    assert (first["id"], first["bootable"]) == (LOOSE, "true")
    assert second["bootable"] == "false"
    row = stored.fleet.mirror.view.vms[VmId(vm.get("id", ""))]
    assert wire.decode(Vm, row.vm_document).spec.pool_id == SHARED


@pytest.mark.parametrize(
    ("template", "pool_id"), [("Blank", SHARED), ("debian-12", None)]
)
def test_a_vm_without_disks_belongs_to_the_shared_pool(
    stored: Client, template: str, pool_id: str | None
) -> None:
    body = (
        "<vm><name>new</name><cluster><name>Default</name></cluster>"
        f"<template><name>{template}</name></template></vm>"
    )
    vm = etree.fromstring(stored.ask("POST", "/vms", body).data)
    row = stored.fleet.mirror.view.vms[VmId(vm.get("id", ""))]
    assert wire.decode(Vm, row.vm_document).spec.pool_id == pool_id


def test_a_vm_lies_on_one_pool(stored: Client) -> None:
    body = (
        "<vm><name>new</name><cluster><name>Default</name></cluster>"
        "<template><name>Blank</name></template><disk_attachments>"
        f'<disk_attachment><disk id="{LOOSE}"/></disk_attachment>'
        f'<disk_attachment><disk id="{SCRATCH}"/></disk_attachment>'
        "</disk_attachments></vm>"
    )
    reply = stored.ask("POST", "/vms", body)
    assert (reply.status_code, "of one pool" in reply.text) == (400, True)
