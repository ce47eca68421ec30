"""Tests that lists of a large fleet touch only the rows they show."""

from dataclasses import replace

import pytest
from immutables import Map

from node.model.ids import DiskId, VmId
from tests.fakes import fleet_storage
from tests.fakes.fleet_storage import APP, LOOSE
from tests.fakes.services import WEB1, make_fleet, order_of
from tests.unit.aggregator.rest.client import Client, make_client

COUNT = 3000
READABLE = range(100, 200)  # all others would fail to be read


@pytest.fixture
def large() -> Client:
    fleet = make_fleet()
    row = fleet.mirror.view.vms[WEB1]
    vms = {}
    for number in range(COUNT):
        vm_id = VmId(f"aaaaaaaa-0000-4000-8000-{number:012d}")
        vm = replace(row, vm_id=vm_id, name=f"vm{number:05d}")
        if number not in READABLE:
            vm = replace(vm, vm_document=b"broken", run_document=b"broken")
        vms[vm_id] = vm
    by_id = Map(vms)
    fleet.mirror.change(vms=by_id, vm_order=order_of(by_id))
    return make_client(fleet)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("?max=100&search=page 2", 100),
        ("?search=name=vm00150", 1),
        ("?search=name=vm001* and status=up", 100),
        ("?max=5&search=name=vm001* sortby name desc", 5),
    ],
    ids=["page", "name", "prefix", "sorted"],
)
def test_a_list_reads_only_what_it_shows(large: Client, query: str, count: int) -> None:
    assert len(large.names(f"/vms{query}")) == count


def test_a_reply_larger_than_memory_should_hold_is_streamed(large: Client) -> None:
    reply = large.ask("GET", "/vms?search=name=vm001*&follow=nics,statistics")
    assert reply.is_streamed
    assert reply.headers.get("Content-Length") is None
    assert reply.data.endswith(b"</vms>")
    assert reply.data.count(b"</vm>") == 100


@pytest.fixture
def stored_large() -> Client:
    """Return a client of a fleet of whose disks only some can be read."""
    fleet = fleet_storage.make_fleet()
    view = fleet.mirror.view
    row, vm = view.disks[LOOSE], view.vms[APP]
    disks = {}
    for number in range(COUNT):
        disk_id = DiskId(f"66666666-0000-4000-8000-{number:012d}")
        disk = replace(row, disk_id=disk_id, name=f"disk{number:05d}")
        if number not in READABLE:
            disk = replace(disk, document=b"broken")
        disks[disk_id] = disk
    fleet.mirror.change(
        disks=Map(disks),
        disk_order=tuple(sorted((each.name, each.disk_id) for each in disks.values())),
        # a pool's VM names no disk that the pool does not know
        vms=Map({APP: replace(vm, vm_document=b"broken")}),
        vm_order=((vm.name, APP),),
    )
    return make_client(fleet)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("?max=100&search=page 2", 100),
        ("?search=name=disk00150", 1),
        ("?search=name=disk001* and shareable=false", 100),
        ("?search=id=66666666-0000-4000-8000-000000000123 and sparse", 0),
    ],
    ids=["page", "name", "prefix", "id"],
)
def test_a_list_of_disks_reads_only_what_it_shows(
    stored_large: Client, query: str, count: int
) -> None:
    found = stored_large.tree(f"/disks{query}")
    assert len(found) == count
