"""Tests of hosts: each fact of a node is shown."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from lxml import etree

from aggregator.federation.view import NodeState, NodeView
from node.model.host import CpuFacts, FirmwareFacts, NodeFacts, Versions
from node.model.reason import Reason
from node.model.stats import NodeStats
from node.model.storage import PoolState, SpmState, SpmView
from tests.fakes import fleet_storage
from tests.fakes.services import ASH, AT, ELM, OAK
from tests.fakes.storage_orders import say
from tests.unit.aggregator.rest.client import Client

Change = Callable[[NodeView], NodeView]
CPU = CpuFacts("VIA Nano", "VIA", "Nano", (), 3, 5, 7, 2, 1234)
FIRMWARE = FirmwareFacts("v", "1", "Product", "Maker", "Serial", False)
VERSIONS = Versions("9.9", "7.0", "Debian 99", "99.1", "98.1")


def _row(**fields: Any) -> Change:
    return lambda node: replace(node, **fields)


def _facts(**fields: Any) -> Change:
    def change(node: NodeView) -> NodeView:
        assert isinstance(node.facts, NodeFacts)
        return replace(node, facts=replace(node.facts, **fields))

    return change


@pytest.mark.parametrize(
    ("path", "change", "expected"),
    [
        ("name", _row(name="other"), "other"),
        ("address", _row(address="192.0.2.77"), "192.0.2.77"),
        ("status", _row(state=NodeState.UNREACHABLE), "non_responsive"),
        (
            "status_detail",
            _row(reason=Reason("node_suspect", AT, {"node": "oak", "silence_s": 13})),
            "Node oak has said nothing for 13 s.",
        ),
        ("external_status", _facts(problems=(Reason("kvm_unusable", AT),)), "warning"),
        ("memory", _facts(memory_bytes=5), "5"),
        ("max_scheduling_memory", _row(memory_promised_bytes=0), str(32 * 2**30)),
        ("cpu/name", _facts(cpu=CPU), "VIA Nano"),
        ("cpu/type", _facts(cpu=CPU), "Nano"),
        ("cpu/speed", _facts(cpu=CPU), "1234.0"),
        ("cpu/topology/sockets", _facts(cpu=CPU), "3"),
        ("cpu/topology/cores", _facts(cpu=CPU), "5"),
        ("cpu/topology/threads", _facts(cpu=CPU), "7"),
        ("numa_supported", _facts(cpu=CPU), "true"),
        ("summary/total", _row(vm_ids=frozenset()), "0"),
        ("summary/active", _row(vms_running=9), "9"),
        ("os/type", _facts(versions=VERSIONS), "Debian 99"),
        ("os/version/full_version", _facts(versions=VERSIONS), "7.0"),
        ("version/full_version", _facts(versions=VERSIONS), "9.9"),
        ("libvirt_version/full_version", _facts(versions=VERSIONS), "99.1"),
        ("hardware_information/manufacturer", _facts(firmware=FIRMWARE), "Maker"),
        ("hardware_information/product_name", _facts(firmware=FIRMWARE), "Product"),
        ("hardware_information/serial_number", _facts(firmware=FIRMWARE), "Serial"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_changed_fact_changes_the_reply(
    client: Client, path: str, change: Change, expected: str
) -> None:
    before = client.tree(f"/hosts/{OAK}").findtext(path)
    client.fleet.mirror.put_node(change(client.fleet.mirror.view.nodes[OAK]))
    assert client.tree(f"/hosts/{OAK}").findtext(path) == expected != before


@pytest.mark.parametrize("state", NodeState)
def test_every_state_has_a_status(client: Client, state: NodeState) -> None:
    node = client.fleet.mirror.view.nodes[OAK]
    client.fleet.mirror.put_node(replace(node, state=state))
    assert client.tree(f"/hosts/{OAK}").findtext("status")


def test_a_node_that_never_spoke_is_shown_as_far_as_it_is_known(client: Client) -> None:
    node = client.fleet.mirror.view.nodes[OAK]
    silent = replace(node, facts=None, stats=None, state=NodeState.CONNECTING)
    client.fleet.mirror.put_node(silent)
    host = client.get(f"/hosts/{OAK}")
    assert (host["name"], host["status"]) == ("oak", "connecting")
    assert "memory" not in host
    assert client.get(f"/hosts/{OAK}/statistics") == {}


def test_statistics_are_those_of_the_view(client: Client) -> None:
    node = client.fleet.mirror.view.nodes[OAK]
    stats = NodeStats(cpu_percent=25.0, memory_used_bytes=7, swap_used_bytes=8)
    client.fleet.mirror.put_node(replace(node, stats=stats))
    figures = {
        each["name"]: each["values"]["value"][0]["datum"]
        for each in client.get(f"/hosts/{OAK}/statistics")["statistic"]
    }
    assert figures["cpu.current.idle"] == "75.00"
    assert figures["memory.used"] == "7"
    assert figures["swap.used"] == "8"


def test_nics_and_devices_are_the_nodes_own(client: Client) -> None:
    nics = client.get(f"/hosts/{OAK}/nics")["host_nic"]
    assert [(nic["name"], nic["status"]) for nic in nics] == [
        ("eth0", "up"),
        ("eth1", "down"),
    ]
    devices = client.get(f"/hosts/{OAK}/devices")["host_device"]
    assert {each["capability"] for each in devices} == {"net", "storage", "pci"}
    assert client.get(f"/hosts/{ELM}/nics") == {}


def test_hooks_are_those_that_run(client: Client) -> None:
    (hook,) = client.get(f"/hosts/{OAK}/hooks")["hook"]
    assert (hook["name"], hook["event_name"]) == ("50_smbios", "before_vm_start")
    assert hook["md5"] == "cd" * 16
    assert hook["host"]["id"] == OAK
    assert client.get(f"/hosts/{ASH}/hooks") == {}


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ("status=up", ["elm", "oak"]),
        ("status=NonResponsive", ["ash"]),
        ("vm.name=web1", ["oak"]),
        ("Vms.status=paused", ["oak"]),
        ("datacenter=Default AND status=up", ["elm", "oak"]),
        (f"hw_id={OAK} and datacenter=Default and status=Up", ["oak"]),
        ("cpu_usage>10", ["oak"]),
        ("memory>1 sortby name desc", ["oak", "elm", "ash"]),
        ("192.0.2.2", ["elm"]),
    ],
)
def test_hosts_are_searched(client: Client, search: str, names: list[str]) -> None:
    assert client.names(f"/hosts?search={search}") == names


def test_a_data_center_is_up_while_a_node_of_it_is(client: Client) -> None:
    def status() -> str:
        (found,) = client.get("/datacenters")["data_center"]
        return str(found["status"])

    assert status() == "up"
    for node in client.fleet.mirror.view.nodes.values():
        client.fleet.mirror.put_node(replace(node, state=NodeState.UNREACHABLE))
    assert status() == "not_operational"


def test_a_cluster_has_a_cpu_type_only_if_its_nodes_agree(client: Client) -> None:
    def kind() -> object:
        (found,) = client.get("/clusters")["cluster"]
        return found["cpu"].get("type")

    assert kind() == "EPYC-Milan"
    node = client.fleet.mirror.view.nodes[OAK]
    client.fleet.mirror.put_node(_facts(cpu=CPU)(node))
    assert kind() is None


def test_templates_and_networks_follow_the_nodes(client: Client) -> None:
    assert client.names("/templates") == ["Blank", "debian-12", "fedora-43"]
    assert client.names("/networks") == ["skerry"]
    node = client.fleet.mirror.view.nodes[OAK]
    node = _facts(networks=("blue",))(node)
    images = node.image_names.set("image-new", "alpine")
    client.fleet.mirror.put_node(replace(node, image_names=images))
    assert "alpine" in client.names("/templates")
    assert client.names("/networks") == ["blue", "skerry"]


def test_the_manager_of_the_shared_pool_is_shown(stored: Client) -> None:
    def shown(node_id: str) -> dict[str, str]:
        spm: dict[str, str] = stored.get(f"/hosts/{node_id}")["spm"]
        return spm

    assert shown(OAK) == {"priority": "5", "status": "spm"}
    assert shown(ELM) == {"priority": "7", "status": "none"}
    sight = fleet_storage.pool(ELM, spm=SpmView(SpmState.CONTENDING))
    say(stored.fleet.mirror, ELM, sight)
    assert shown(ELM)["status"] == "contending"


def test_a_host_is_made_the_manager(stored: Client) -> None:
    reply = stored.ask("POST", f"/hosts/{ELM}/forceselectspm")
    assert reply.status_code == 200, reply.text
    ((verb, pool_id, _, node_id),) = stored.fleet.orders.storage.asked
    assert (verb, pool_id, node_id) == ("spm_become", fleet_storage.SHARED, ELM)
    assert stored.get(f"/hosts/{ELM}")["spm"]["status"] == "spm"
    assert stored.get(f"/hosts/{OAK}")["spm"]["status"] == "none"


def test_the_manager_is_left_as_it_is(stored: Client) -> None:
    assert stored.ask("POST", f"/hosts/{OAK}/forceselectspm").status_code == 200
    assert stored.fleet.orders.storage.asked == []


def test_a_host_outside_the_pool_cannot_manage_it(stored: Client) -> None:
    reply = stored.ask("POST", f"/hosts/{ASH}/forceselectspm")
    assert (reply.status_code, "in no storage pool" in reply.text) == (409, True)


@pytest.mark.parametrize(
    ("inside", "status", "count"),
    [
        ("<spm><priority>-1</priority></spm>", 200, 1),
        ("<spm><priority>7</priority></spm>", 200, 0),
        ("<name>elm</name><comment></comment>", 200, 0),
        ("<spm><priority>11</priority></spm>", 400, 0),
        ("<spm><priority>x</priority></spm>", 400, 0),
        ("<name>other</name>", 501, 0),
    ],
)
def test_only_the_priority_of_a_host_is_changed(
    stored: Client, inside: str, status: int, count: int
) -> None:
    reply = stored.ask("PUT", f"/hosts/{ELM}", f"<host>{inside}</host>")
    assert reply.status_code == status, reply.text
    assert len(stored.fleet.orders.storage.asked) == count
    if count:
        assert etree.fromstring(reply.data).findtext("spm/priority") == "-1"


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (PoolState.UP, "up"),
        (PoolState.CONTENDING, "contend"),
        (PoolState.MASTER_LOST, "problematic"),
        (PoolState.MAINTENANCE, "maintenance"),
        (PoolState.UNREACHABLE, "not_operational"),
    ],
)
def test_a_data_center_is_as_its_pool_is(
    stored: Client, state: PoolState, status: str
) -> None:
    pools = stored.fleet.mirror.view.pools
    row = replace(pools[fleet_storage.SHARED], state=state)
    stored.fleet.mirror.change(pools=pools.set(row.pool_id, row))
    (found,) = stored.get("/datacenters")["data_center"]
    assert (found["status"], found["local"]) == (status, "false")


def test_a_pool_whose_hosts_are_all_silent_is_not_operational(stored: Client) -> None:
    for node in stored.fleet.mirror.view.nodes.values():
        stored.fleet.mirror.put_node(replace(node, state=NodeState.UNREACHABLE))
    (found,) = stored.get("/datacenters")["data_center"]
    assert found["status"] == "not_operational"


def test_a_data_center_without_a_shared_pool_is_local(client: Client) -> None:
    (found,) = client.get("/datacenters")["data_center"]
    assert (found["status"], found["local"]) == ("up", "true")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/hosts?search=storage=data1", ["elm", "oak"]),
        ("/hosts?search=Storage.name=spare", ["oak"]),
        ('/datacenters?search=storage="data1"', ["Default"]),
        ("/datacenters?search=storage=spare", []),
        ("/vms?search=Storage.name=data1", ["app"]),
    ],
)
def test_others_are_searched_by_their_storage(
    stored: Client, path: str, names: list[str]
) -> None:
    assert stored.names(path) == names
