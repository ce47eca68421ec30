"""Tests of disks: each fact is shown, each search finds, each change is ordered."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from lxml import etree

from node.model import storage_requests as requests
from node.model.ids import DiskId
from node.model.storage import (
    Allocation,
    ChainSummary,
    ContentType,
    DiskDocument,
    DiskFormat,
    DiskState,
)
from node.model.vm import Vm, VmState
from node.units import GiB
from tests.fakes import fleet_storage, services
from tests.fakes.fleet_storage import (
    APP,
    CD,
    DATA1,
    DATA2,
    LEAF,
    LOOSE,
    OAK_LOCAL,
    OAK_POOL,
    SCRATCH,
    SYSTEM,
)
from tests.fakes.services import AT, OAK, WEB1
from tests.fakes.storage_orders import say
from tests.unit.aggregator.rest.client import Client

UNTOLD = "dddddddd-0000-4000-8000-000000000001"  # of web1; no manager tells of it
NEW = "12345678-1234-4234-8234-123456789abc"
Change = Callable[[DiskDocument], DiskDocument]


def _disk(**fields: Any) -> Change:
    return lambda document: replace(document, **fields)


@pytest.mark.parametrize(
    ("path", "change", "expected"),
    [
        ("name", _disk(name="other"), "other"),
        ("alias", _disk(name="other"), "other"),
        ("description", _disk(description="other"), "other"),
        ("provisioned_size", _disk(size_bytes=5), "5"),
        ("actual_size", _disk(allocated_bytes=5), "5"),
        ("total_size", _disk(allocated_bytes=5), "5"),
        ("total_size", _disk(allocated_bytes=0), str(10 * GiB)),
        ("status", _disk(state=DiskState.LOCKED), "locked"),
        ("status", _disk(state=DiskState.ILLEGAL), "illegal"),
        ("format", _disk(disk_format=DiskFormat.RAW), "raw"),
        ("sparse", _disk(allocation=Allocation.PREALLOCATED), "false"),
        ("content_type", _disk(content=ContentType.OVF_STORE), "ovf_store"),
        (
            "content_type",
            _disk(content=ContentType.MEMORY_DUMP),
            "memory_dump_volume",
        ),
        ("image_id", _disk(chain=ChainSummary()), SYSTEM),
        ("shareable", _disk(is_shared=True), "true"),
        ("wipe_after_delete", _disk(wipe_after_delete=True), "true"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_changed_fact_changes_the_reply(
    stored: Client, path: str, change: Change, expected: str
) -> None:
    before = stored.tree(f"/disks/{SYSTEM}").findtext(path)
    document = fleet_storage.disk(SYSTEM, "system", chain=ChainSummary((LEAF,)))
    say(stored.fleet.mirror, OAK, change(document))
    assert stored.tree(f"/disks/{SYSTEM}").findtext(path) == expected != before


@pytest.mark.parametrize("state", DiskState)
def test_every_state_has_a_status(stored: Client, state: DiskState) -> None:
    say(stored.fleet.mirror, OAK, fleet_storage.disk(SYSTEM, "system", state=state))
    assert stored.get(f"/disks/{SYSTEM}")["status"] in ("ok", "locked", "illegal")


def test_a_disk_says_where_it_is_and_whose(stored: Client) -> None:
    disk = stored.get(f"/disks/{SYSTEM}?follow=disk_profile.storage_domain")
    assert disk["image_id"] == LEAF
    (place,) = disk["storage_domains"]["storage_domain"]
    (vm,) = disk["vms"]["vm"]
    assert (place["id"], vm["id"]) == (DATA1, APP)
    assert disk["disk_profile"]["storage_domain"]["name"] == "data1"
    assert "vms" not in stored.get(f"/disks/{LOOSE}")


def test_a_disk_that_no_manager_tells_of_is_not_there(stored: Client) -> None:
    assert stored.ask("GET", f"/disks/{UNTOLD}").status_code == 404


@pytest.mark.parametrize(
    ("search", "ids"),
    [
        ("?search=id=" + SYSTEM, [SYSTEM]),
        ("?search=name=loose", [LOOSE]),
        ("?search=alias=LOO*", [LOOSE]),
        ('?search=name="system" and Storage.name="data1" and vm_names="app"', [SYSTEM]),
        ("?search=name=system and vm.name=web1", []),
        ("?search=Storage.name=elm-local", [SCRATCH]),
        ("?search=disk_content_type=iso", [CD]),
        ("?search=allocation_policy=preallocated", [LOOSE]),
        ("?search=number_of_vms=0 and provisioned_size<2000000000", [CD]),
        ("?search=actual_size>1 and shareable=true", []),
        ("?search=quota=x", []),
        ("?max=2", [CD, LOOSE]),
        ("?max=2&search=page 2", [SCRATCH, SYSTEM]),
    ],
)
def test_they_are_searched(stored: Client, search: str, ids: list[str]) -> None:
    found = stored.tree(f"/disks{search}")
    assert [each.get("id") for each in found] == ids


def test_rates_are_those_of_a_vm_with_one_disk(stored: Client) -> None:
    plain = services.spec(WEB1, "web1")
    here = replace(plain.disks[0], storage_domain_id=OAK_LOCAL)
    alone = replace(plain, disks=(here,), pool_id=OAK_POOL)
    told = fleet_storage.disk(here.disk_id, "system", pool_id=OAK_POOL)
    say(stored.fleet.mirror, OAK, told, Vm(alone, 2, AT))
    found = stored.get(f"/disks/{here.disk_id}/statistics")["statistic"]
    names = {each["name"] for each in found}
    assert names == {"data.current.read", "data.current.write"}
    assert stored.get(f"/disks/{LOOSE}/statistics") == {}


# making


def _body(inside: str) -> str:
    return f"<disk>{inside}</disk>"


PLACE = f'<storage_domains><storage_domain id="{DATA1}"/></storage_domains>'
BASIC = f"<provisioned_size>1024</provisioned_size><format>raw</format>{PLACE}"


@pytest.mark.parametrize(
    ("inside", "changes"),
    [
        (BASIC, {"disk_format": DiskFormat.RAW}),
        (
            BASIC.replace("raw", "cow") + "<alias>a</alias><name>b</name>",
            {"name": "a"},
        ),
        (BASIC.replace(f'id="{DATA1}"/', "><name>data1</name></storage_domain"), {}),
        (BASIC + "<sparse>false</sparse>", {"allocation": Allocation.PREALLOCATED}),
        (BASIC + "<sparse>true</sparse>", {"allocation": Allocation.THIN}),
        (BASIC + "<content_type>iso</content_type>", {"content": ContentType.ISO}),
        (BASIC + "<shareable>1</shareable>", {"is_shared": True}),
        (
            BASIC + "<wipe_after_delete>false</wipe_after_delete>",
            {"wipe_after_delete": False},
        ),
        (BASIC + "<description>d</description>", {"description": "d"}),
    ],
    ids=[
        "basic",
        "alias",
        "by-name",
        "preallocated",
        "thin",
        "iso",
        "shareable",
        "wipe",
        "description",
    ],
)
def test_a_new_disk_is_ordered_as_described(
    stored: Client, inside: str, changes: dict[str, object]
) -> None:
    reply = stored.ask("POST", "/disks", f'<disk id="{NEW}">{inside}</disk>')
    assert reply.status_code == 202, reply.text
    ((verb, object_id, request, node_id),) = stored.fleet.orders.storage.asked
    expected = requests.CreateDisk(
        DiskId(NEW), f"disk-{NEW[:8]}", DATA1, 1024, DiskFormat.RAW
    )
    is_cow = "cow" in inside
    disk_format = DiskFormat.QCOW2 if is_cow else DiskFormat.RAW
    changed = {"disk_format": disk_format, **changes}
    assert (verb, object_id, node_id) == ("disk_create", NEW, None)
    assert request == replace(expected, **changed)  # type: ignore[arg-type]  # each of its own type


def test_a_new_disk_is_locked_until_its_manager_tells_of_it(stored: Client) -> None:
    stored.fleet.orders.is_held = True
    reply = stored.ask("POST", "/disks", _body(BASIC))
    disk = etree.fromstring(reply.data)
    assert disk.findtext("status") == "locked"
    assert stored.ask("GET", f"/disks/{disk.get('id')}").status_code == 404
    order = stored.fleet.orders.list()[0]
    stored.fleet.orders.finish(order.order_id)
    assert stored.get(f"/disks/{disk.get('id')}")["status"] == "ok"


@pytest.mark.parametrize(
    ("inside", "status", "text"),
    [
        (BASIC.replace("1024", "x"), 400, "provisioned_size must be an integer"),
        (BASIC.replace("1024", "0"), 400, "greater than 0"),
        (f"<format>raw</format>{PLACE}", 400, "Disk [provisioned_size] required"),
        (BASIC.replace("raw", "vmdk"), 400, "cow or raw"),
        (BASIC.replace("<format>raw</format>", ""), 400, "Disk [format] required"),
        (BASIC.replace(PLACE, ""), 400, "Disk [storageDomain.id|name] required"),
        (BASIC.replace(DATA1, "1"), 400, "there is no storage domain 1"),
        (BASIC + "<content_type>x</content_type>", 400, "cannot be made for"),
        (BASIC + f"<name>{'n' * 256}</name>", 400, "longer than 255"),
        (
            BASIC.replace("</storage_domains>", "<storage_domain/></storage_domains>"),
            400,
            "one storage domain",
        ),
        ("<lun_storage><type>iscsi</type></lun_storage>", 501, "LUN"),
    ],
    ids=[
        "size-text",
        "size-zero",
        "no-size",
        "format",
        "no-format",
        "no-place",
        "unknown-place",
        "content",
        "long-name",
        "two-places",
        "lun",
    ],
)
def test_a_new_disk_is_refused(
    stored: Client, inside: str, status: int, text: str
) -> None:
    reply = stored.ask("POST", "/disks", _body(inside))
    assert (reply.status_code, text in reply.text) == (status, True), reply.text
    assert stored.fleet.orders.storage.asked == []


def test_an_id_that_is_none_is_refused(stored: Client) -> None:
    reply = stored.ask("POST", "/disks", f'<disk id="../x">{BASIC}</disk>')
    assert (reply.status_code, "is no UUID" in reply.text) == (400, True)


# changing


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<name>system</name>", []),
        ("<alias>new</alias>", [("disk_change", requests.ChangeDisk(name="new"))]),
        (
            "<alias>system</alias><description>x</description><shareable>true"
            "</shareable><wipe_after_delete>true</wipe_after_delete>",
            [
                (
                    "disk_change",
                    requests.ChangeDisk(
                        description="x", is_shared=True, wipe_after_delete=True
                    ),
                )
            ],
        ),
        (
            f"<provisioned_size>{20 * GiB}</provisioned_size><name>n</name>",
            [
                ("disk_resize", requests.ResizeDisk(20 * GiB)),
                ("disk_change", requests.ChangeDisk(name="n")),
            ],
        ),
        (f"<provisioned_size>{10 * GiB}</provisioned_size>", []),
    ],
    ids=["same", "name", "flags", "larger", "same-size"],
)
def test_only_what_differs_is_ordered(
    stored: Client, inside: str, expected: list[tuple[str, object]]
) -> None:
    reply = stored.ask("PUT", f"/disks/{SYSTEM}", _body(inside))
    assert reply.status_code == 200, reply.text
    asked = stored.fleet.orders.storage.asked
    assert [(verb, request) for verb, _, request, _ in asked] == expected


def test_a_change_is_in_the_reply(stored: Client) -> None:
    size = _body(f"<provisioned_size>{20 * GiB}</provisioned_size>")
    reply = stored.ask("PUT", f"/disks/{SYSTEM}", size)
    shown = etree.fromstring(reply.data).findtext("provisioned_size")
    assert shown == str(20 * GiB)


@pytest.mark.parametrize(
    ("disk_id", "inside", "status", "text"),
    [
        (SYSTEM, "<provisioned_size>1</provisioned_size>", 409, "must be larger"),
        (UNTOLD, "<name>x</name>", 404, "there is no disk"),
        (NEW, "<name>x</name>", 404, "there is no disk"),
    ],
    ids=["smaller", "untold", "unknown"],
)
def test_a_change_is_refused(
    stored: Client, disk_id: str, inside: str, status: int, text: str
) -> None:
    reply = stored.ask("PUT", f"/disks/{disk_id}", _body(inside))
    assert (reply.status_code, text in reply.text) == (status, True), reply.text


# acting


def test_a_copy_gets_an_id_and_a_name_of_its_own(stored: Client) -> None:
    body = (
        f'<action><disk id="{NEW}"><alias>twin</alias><format>raw</format></disk>'
        "<storage_domain><name>data2</name></storage_domain></action>"
    )
    reply = stored.ask("POST", f"/disks/{SYSTEM}/copy", body)
    assert etree.fromstring(reply.data).findtext("status") == "complete"
    ((verb, object_id, request, _),) = stored.fleet.orders.storage.asked
    expected = requests.CopyDisk(DiskId(NEW), DATA2, "twin", DiskFormat.RAW)
    assert (verb, object_id, request) == ("disk_copy", SYSTEM, expected)
    assert stored.get(f"/disks/{NEW}")["alias"] == "twin"


def test_a_copy_without_a_name_has_the_same(stored: Client) -> None:
    body = f'<action><storage_domain id="{DATA2}"/></action>'
    stored.ask("POST", f"/disks/{SYSTEM}/copy", body)
    ((_, _, request, _),) = stored.fleet.orders.storage.asked
    assert (request.name, request.disk_id == SYSTEM) == ("system", False)


@pytest.mark.parametrize(("query", "count"), [("", 1), ("?async=true", 0)])
def test_an_act_is_waited_for_unless_the_client_does_not(
    stored: Client, query: str, count: int
) -> None:
    stored.ask("POST", f"/disks/{LOOSE}/sparsify{query}")
    assert len(stored.fleet.orders.waits) == count


def test_a_disk_moves(stored: Client) -> None:
    body = f'<action><storage_domain id="{DATA2}"/></action>'
    assert stored.ask("POST", f"/disks/{LOOSE}/move", body).status_code == 200
    (place,) = stored.get(f"/disks/{LOOSE}")["storage_domains"]["storage_domain"]
    assert place["id"] == DATA2


def test_sparsify_is_ordered(stored: Client) -> None:
    assert stored.ask("POST", f"/disks/{LOOSE}/sparsify").status_code == 200
    ((verb, object_id, _, _),) = stored.fleet.orders.storage.asked
    assert (verb, object_id) == ("disk_sparsify", LOOSE)


@pytest.mark.parametrize(
    ("disk_id", "act", "body", "status", "text"),
    [
        (SYSTEM, "move", f'<storage_domain id="{DATA1}"/>', 409, "already"),
        (SYSTEM, "move", "", 400, "storageDomain.id|name"),
        (UNTOLD, "sparsify", "", 404, "there is no disk"),
        (SYSTEM, "reduce", "", 501, "reduce of a disk is not supported"),
        (SYSTEM, "convert", "", 501, "not supported"),
        (SYSTEM, "export", "", 501, "not supported"),
        (SYSTEM, "refreshlun", "", 501, "not supported"),
    ],
)
def test_an_act_is_refused(
    stored: Client, disk_id: str, act: str, body: str, status: int, text: str
) -> None:
    reply = stored.ask("POST", f"/disks/{disk_id}/{act}", f"<action>{body}</action>")
    assert (reply.status_code, text in reply.text) == (status, True), reply.text
    assert stored.fleet.orders.storage.asked == []


def test_a_removed_disk_is_gone(stored: Client) -> None:
    reply = stored.ask("DELETE", f"/disks/{LOOSE}")
    assert reply.status_code == 200
    assert etree.fromstring(reply.data).findtext("status") == "complete"
    assert stored.ask("GET", f"/disks/{LOOSE}").status_code == 404


def test_a_removed_disk_is_taken_from_a_vm_that_is_down(stored: Client) -> None:
    assert stored.ask("DELETE", f"/disks/{SYSTEM}").status_code == 200
    asked = stored.fleet.orders.storage.asked
    assert [verb for verb, *_ in asked] == ["vm_detach_disk", "disk_delete"]
    assert stored.get(f"/vms/{APP}/diskattachments") == {}


def test_a_disk_of_a_running_vm_is_not_removed(stored: Client) -> None:
    vm = stored.fleet.mirror.view.vms[APP]
    running = replace(vm, state=VmState.UP)
    stored.fleet.mirror.change(vms=stored.fleet.mirror.view.vms.set(APP, running))
    reply = stored.ask("DELETE", f"/disks/{SYSTEM}")
    assert (reply.status_code, "VM app runs with it" in reply.text) == (409, True)
    assert stored.fleet.orders.storage.asked == []


def test_what_the_manager_refuses_reaches_the_client(stored: Client) -> None:
    stored.fleet.orders.storage.refusal = services.VmRuns("the disk is being moved")
    reply = stored.ask("DELETE", f"/disks/{LOOSE}")
    assert (reply.status_code, "is being moved" in reply.text) == (409, True)


def test_ovf_store_is_shown_as_ovirt_shows_it(stored: Client) -> None:
    content = ContentType.OVF_STORE
    document = fleet_storage.disk(DiskId(NEW), "OVF_STORE", content=content)
    say(stored.fleet.mirror, OAK, document)
    for path in (
        "/disks",
        "/disks?search=name=OVF_STORE",
        "/disks?search=disk_content_type=ovf_store",
        f"/storagedomains/{DATA1}/disks",
    ):
        found = {each["id"]: each["content_type"] for each in stored.get(path)["disk"]}
        assert found[NEW] == "ovf_store", path
    found = stored.get("/disks?search=name=lo*")
    assert NEW not in {each["id"] for each in found["disk"]}
