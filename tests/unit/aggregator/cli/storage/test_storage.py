"""`skerry storage`, `pool` and `disk`: each command, as text and as JSON."""

from dataclasses import replace

import pytest

from aggregator.api.model import OrderLine
from aggregator.api.storage_verbs import VERBS
from aggregator.cli import render
from aggregator.federation import apply
from aggregator.federation.view import NodeState
from node import wire
from node.model.ids import JobId
from node.model.job import JobState
from node.model.reason import Reason
from node.model.storage import (
    DomainClass,
    DomainState,
    StorageDomain,
    StorageDomainDocument,
)
from node.model.storage_requests import ActOnDisk
from node.model.vm import DiskInterface, Vm, VmState
from tests.fakes import fleet_storage, services, storage_orders
from tests.unit.aggregator.cli import shell
from tests.unit.aggregator.cli.shell import Desk

NFS = "--nfs nas.test:/exports/new"

# The command that calls each verb. What fails has called it, too.
COMMANDS = {
    "storage_domain_list": "storage list",
    "storage_domain_show": "storage show data1",
    "storage_domain_create": f"storage create new {NFS}",
    "storage_domain_look": f"storage look {NFS}",
    "storage_domain_import": f"storage import {NFS}",
    "storage_domain_attach": "storage attach spare",
    "storage_domain_change": "storage change data1 --name gold",
    "storage_domain_activate": "storage activate iso1",
    "storage_domain_maintain": "storage maintain data2",
    "storage_domain_detach": "storage detach iso1 --yes",
    "storage_domain_remove": "storage remove spare --yes",
    "storage_domain_check": "storage check data1",
    "storage_domain_repair": "storage repair data1 --yes",
    "pool_list": "pool list",
    "pool_show": "pool show shared",
    "pool_move_master": "pool move-master shared data2",
    "pool_elect": "pool elect shared elm",
    "pool_priority": "pool priority shared elm -1",
    "pool_connect": "pool connect shared elm",
    "pool_disconnect": "pool disconnect shared elm --yes",
    "disk_list": "disk list",
    "disk_show": "disk show loose",
    "disk_create": "disk create new data1 20G",
    "disk_delete": "disk delete loose --yes",
    "disk_resize": "disk resize loose 20G",
    "disk_change": "disk change loose --name tight --limit total_iops=500",
    "disk_copy": "disk copy loose data2",
    "disk_move": "disk move loose data2",
    "disk_sparsify": "disk sparsify loose",
    "vm_attach_disk": "vm attach-disk app loose",
    "vm_detach_disk": "vm detach-disk app system",
}
READING = [verb.name for verb in VERBS if verb.method == "GET"]


@pytest.fixture
def desk(desk: Desk) -> Desk:
    data = DomainClass.DATA
    spare = StorageDomain(fleet_storage.SPARE, "spare", data, fleet_storage.NFS)
    desk.fleet.node.found = (spare,)
    return desk


def test_command_is_there_for_every_verb() -> None:
    of_vms = {"vm_attach_disk", "vm_detach_disk"}
    assert set(COMMANDS) == {verb.name for verb in VERBS} | of_vms


@pytest.mark.parametrize("verb", COMMANDS)
def test_command_calls_its_verb_and_ends_well(desk: Desk, verb: str) -> None:
    desk.called.clear()
    ended = shell.run(*COMMANDS[verb].split())
    assert (ended.status, ended.err.count("rror")) == (0, 0), ended.err
    assert verb in desk.called


@pytest.mark.parametrize("verb", READING)
def test_command_prints_json(desk: Desk, verb: str) -> None:
    assert desk.ok("--json", *COMMANDS[verb].split()).json


def test_list_shows_storage_domains_by_name(desk: Desk) -> None:
    lines = desk.ok("storage", "list").text.splitlines()
    assert lines[0].split() == (
        [
            "STORAGE",
            "DOMAIN",
            "CLASS",
            "KIND",
            "POOL",
            "STATE",
            "SIZE",
            "FREE",
            "NODES",
            "REASON",
        ]
    )
    assert [line.split()[0] for line in lines[1:]] == [
        "data1",
        "data2",
        "elm-local",
        "iso1",
        "oak-local",
        "spare",
    ]
    data1 = " ".join(lines[1].split())
    assert data1 == "data1 data nfs shared active 100.0 GiB 60.0 GiB 2 of 2"


def test_show_says_how_each_node_sees_a_storage_domain(desk: Desk) -> None:
    fields = {"name": "data1", "node": "elm", "detail": "it hangs"}
    ill = replace(
        fleet_storage.domain(services.ELM, fleet_storage.DATA1),
        state=DomainState.UNREACHABLE,
        reason=Reason("storage_domain_unreachable", services.AT, fields),
    )
    storage_orders.say(desk.fleet.mirror, services.ELM, ill)
    text = desk.ok("storage", "show", "data1").text
    assert "nfs nas.test:/exports/data1" in text
    assert "Node elm cannot use storage domain data1: it hangs" in text
    assert "1 of 2" in desk.ok("storage", "list").text


def test_list_says_who_told_it_last_and_is_silent(desk: Desk) -> None:
    reason = Reason("node_unreachable", services.AT, {"node": "oak", "silence_s": 31})
    view = apply.set_state(
        desk.fleet.mirror.view,
        services.OAK,
        NodeState.UNREACHABLE,
        reason,
        services.AT,
    )
    storage_orders.show(desk.fleet.mirror, view)
    said = "Node oak told this last, and is silent now."
    for words in (("pool", "list"), ("disk", "list"), ("storage", "list")):
        assert said in desk.ok(*words).text
    assert "oak" in desk.ok("pool", "show", "shared").text


def test_pool_show_tells_managers_and_members(desk: Desk) -> None:
    text = desk.ok("pool", "show", "shared").text
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "manager oak" in rows
    assert "master data1, version 1" in rows
    assert "oak up manager 1 5" in rows
    assert "elm up free 2 7" in rows


def test_disk_list_searches_and_counts_the_rest(desk: Desk) -> None:
    assert "system" in desk.ok("disk", "list", "sys").text
    assert "loose" not in desk.ok("disk", "list", "sys").text
    by_place = desk.ok("--json", "disk", "list", "elm-local").json
    assert [each["name"] for each in by_place["disks"]] == ["scratch"]
    assert "app" in desk.ok("disk", "list", "system").text  # the VM that uses it


def test_create_takes_the_id_of_the_caller(desk: Desk) -> None:
    wanted = "12345678-1234-4234-8234-123456789abc"
    words = f"storage create new {NFS} --id {wanted} --class iso --node elm"
    desk.ok(*words.split())
    (verb, object_id, request, node_id) = desk.fleet.orders.storage.asked[-1]
    assert (verb, object_id) == ("storage_domain_create", wanted)
    assert (request.domain_class, node_id) == (DomainClass.ISO, services.ELM)


def test_new_vm_lies_on_the_storage_domain_that_is_named(desk: Desk) -> None:
    desk.ok("vm", "create", "new", "--storage-domain", "data2")
    vms = desk.fleet.mirror.view.vms.values()
    (made,) = [vm for vm in vms if vm.name == "new"]
    spec = wire.decode(Vm, made.vm_document).spec
    assert spec.pool_id == fleet_storage.SHARED
    assert spec.disks[0].storage_domain_id == fleet_storage.DATA2


def test_new_vm_cannot_lie_on_a_storage_domain_of_no_pool(desk: Desk) -> None:
    ended = shell.run("vm", "create", "new", "--storage-domain", "spare")
    assert ended.status == 1
    assert "is in no pool" in ended.err


def test_new_vm_on_a_pool_starts_from_an_image_of_its_manager(desk: Desk) -> None:
    words = ["vm", "create", "new", "--storage-domain", "data2", "--image"]
    desk.ok(*words, "debian-12")
    vms = desk.fleet.mirror.view.vms.values()
    (made,) = [vm for vm in vms if vm.name == "new"]
    (disk,) = wire.decode(Vm, made.vm_document).spec.disks
    assert (disk.image, disk.storage_domain_id) == ("debian-12", fleet_storage.DATA2)
    ended = shell.run(*words, "nowhere")
    assert ended.status == 1
    assert "which manages the pool, has no nowhere" in ended.err


def test_disk_is_attached_as_it_is(desk: Desk) -> None:
    desk.ok("vm", "attach-disk", "app", "loose", "--read-only", "--interface", "sata")
    (_, vm_id, disk, _) = desk.fleet.orders.storage.asked[-1]
    assert (vm_id, disk.disk_id) == (fleet_storage.APP, fleet_storage.LOOSE)
    assert (disk.storage_domain_id, disk.is_read_only) == (fleet_storage.DATA1, True)
    assert disk.interface is DiskInterface.SATA


def test_import_says_when_nothing_lies_there(desk: Desk) -> None:
    desk.fleet.node.found = ()
    ended = shell.run("storage", "import", *NFS.split())
    assert ended.status == 1
    assert "skerry storage look" in ended.err


def test_change_keeps_the_limits_that_are_not_named(desk: Desk) -> None:
    desk.ok("disk", "change", "loose", "--limit", "total_iops=500")
    (_, _, request, _) = desk.fleet.orders.storage.asked[-1]
    assert request.qos.total_iops == 500


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        pytest.param("storage show x", "skerry storage list", id="domain"),
        pytest.param("pool show x", "skerry pool list", id="pool"),
        pytest.param("disk show x", "skerry disk list", id="disk"),
        pytest.param("pool elect shared x", "skerry node list", id="node"),
    ],
)
def test_name_of_nothing_says_where_to_look(
    desk: Desk, words: str, remedy: str
) -> None:
    ended = shell.run(*words.split())
    assert ended.status == 1
    assert remedy in ended.err


@pytest.mark.parametrize(
    "words",
    ["storage detach iso1", "storage remove spare", "disk delete loose"],
    ids=["detach", "remove", "delete"],
)
def test_command_asks_before_it_destroys(desk: Desk, words: str) -> None:
    ended = shell.run(*words.split(), typed="n\n")
    assert ended.status == 1
    assert not desk.fleet.orders.storage.asked


def test_documents_of_the_fakes_are_whole(desk: Desk) -> None:
    row = desk.fleet.mirror.view.storage_domains[fleet_storage.DATA1]
    assert wire.decode(StorageDomainDocument, row.document).storage_domain.name == (
        "data1"
    )


def test_a_copy_of_a_disk_is_deleted_where_it_is_named(desk: Desk) -> None:
    desk.ok("disk", "delete", "loose", "--storage-domain", "data2", "--yes")
    asked = desk.fleet.orders.storage.asked[-1]
    assert asked[2] == ActOnDisk(storage_domain_id=fleet_storage.DATA2)


def test_disk_grows_under_the_guest_that_runs_with_it(desk: Desk) -> None:
    mirror, up = desk.fleet.mirror, VmState.UP
    vm = mirror.view.vms[fleet_storage.APP]
    mirror.put_vm(replace(vm, state=up, last_state=up, node_id=services.ELM))
    desk.ok("disk", "resize", "system", "20G")
    asked = [(verb, node) for verb, _, _, node in desk.fleet.orders.storage.asked]
    assert asked == [
        ("vm_resize_disk", services.ELM),
        ("vm_resize_disk", services.OAK),
    ]


@pytest.mark.parametrize(
    "words", ["copy loose data2", "move loose data2", "sparsify loose"]
)
def test_the_node_that_is_named_moves_the_data(desk: Desk, words: str) -> None:
    desk.ok("disk", *words.split(), "--data-node", "elm")
    _, _, request, _ = desk.fleet.orders.storage.asked[-1]
    assert request.data_node_id == services.ELM


def test_order_says_which_other_node_moves_its_data() -> None:
    line = OrderLine(
        *(JobId("1"), "disk_copy", "loose", JobState.RUNNING, services.AT),
        *(40, "copy: copy"),
        node="oak",
        data_node="elm",
    )
    text = "disk_copy loose on oak: running 40 % copy: copy, data moved by elm"
    assert render.order(line) == text
