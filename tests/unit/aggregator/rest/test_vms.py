"""Tests of VMs: each fact is shown, each action acts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from lxml import etree

from aggregator.federation.view import VmView
from node import wire
from node.model.reason import Reason
from node.model.stats import VmStats
from node.model.vm import (
    Cpu,
    EndCause,
    Firmware,
    GuestFacts,
    Vm,
    VmEnd,
    VmRun,
    VmState,
)
from tests.fakes.services import AT, BUILD, DB, ELM, OAK, OLD, WEB1, WEB2
from tests.unit.aggregator.rest.client import Client

LATER = "2026-11-22T07:30:00.000Z"
NEW = (
    "<vm><name>{name}</name><cluster><name>Default</name></cluster>"
    "<template><name>{template}</name></template>{more}</vm>"
)

Change = Callable[[VmView], VmView]


def _run(**fields: Any) -> Change:
    def change(vm: VmView) -> VmView:
        run = replace(wire.decode(VmRun, vm.run_document), **fields)
        return replace(vm, run_document=wire.encode(run))

    return change


def _spec(**fields: Any) -> Change:
    def change(vm: VmView) -> VmView:
        definition = wire.decode(Vm, vm.vm_document)
        definition = replace(definition, spec=replace(definition.spec, **fields))
        return replace(vm, vm_document=wire.encode(definition))

    return change


def _row(**fields: Any) -> Change:
    return lambda vm: replace(vm, **fields)


def _generation(vm: VmView) -> VmView:
    definition = replace(wire.decode(Vm, vm.vm_document), generation=2)
    return replace(vm, generation=2, vm_document=wire.encode(definition))


@pytest.mark.parametrize(
    ("path", "change", "expected"),
    [
        ("name", _row(name="other"), "other"),
        ("description", _row(description="other"), "other"),
        ("status", _row(state=VmState.POWERING_DOWN), "powering_down"),
        ("status", _row(state=VmState.DOWN, keeps_memory=True), "suspended"),
        ("status", _row(state=VmState.POWERING_UP, keeps_memory=True), "powering_up"),
        (
            "status_detail",
            _row(reason=Reason("vm_never_started", AT)),
            "It has not been started yet.",
        ),
        ("memory", _row(memory_bytes=5), "5"),
        ("memory_policy/guaranteed", _row(memory_bytes=5), "5"),
        ("memory_policy/max", _row(memory_bytes=5), "5"),
        ("cpu/topology/sockets", _spec(cpu=Cpu(sockets=3)), "3"),
        ("cpu/topology/cores", _spec(cpu=Cpu(cores=3)), "3"),
        ("cpu/topology/threads", _spec(cpu=Cpu(threads=3)), "3"),
        ("custom_cpu_model", _spec(cpu=Cpu(model="Nehalem")), "Nehalem"),
        ("bios/type", _spec(firmware=Firmware.UEFI), "q35_ovmf"),
        ("bios/type", _spec(machine="pc-i440fx-9.0"), "i440fx_sea_bios"),
        ("custom_emulated_machine", _spec(machine="pc-q35-9.0"), "pc-q35-9.0"),
        ("display/port", _run(vnc_port=5977), "5977"),
        ("creation_time", _row(created_at=LATER), LATER),
        ("start_time", _run(started_at=LATER), LATER),
        ("stop_time", _run(end=VmEnd(EndCause.GUEST, LATER)), LATER),
        ("fqdn", _run(guest=GuestFacts(AT, host_name="other.test")), "other.test"),
        (
            "guest_operating_system/distribution",
            _run(guest=GuestFacts(AT, os="Plan 9")),
            "Plan 9",
        ),
        ("next_run_configuration_exists", _generation, "true"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_changed_fact_changes_the_reply(
    client: Client, path: str, change: Change, expected: str
) -> None:
    before = client.tree(f"/vms/{WEB1}").findtext(path)
    vm = change(client.fleet.mirror.view.vms[WEB1])
    client.fleet.mirror.put_vm(vm)
    assert client.tree(f"/vms/{WEB1}").findtext(path) == expected != before


@pytest.mark.parametrize("state", VmState)
def test_every_state_has_a_status(client: Client, state: VmState) -> None:
    vm = client.fleet.mirror.view.vms[WEB1]
    client.fleet.mirror.put_vm(replace(vm, state=state))
    assert client.tree(f"/vms/{WEB1}").findtext("status")


def test_the_host_follows_the_vm_and_is_gone_when_it_is_down(client: Client) -> None:
    vm = client.fleet.mirror.view.vms[WEB1]
    for changed, expected in (
        (vm, OAK),
        (replace(vm, node_id=ELM), ELM),
        (replace(vm, state=VmState.DOWN), None),
    ):
        client.fleet.mirror.put_vm(changed)
        assert client.get(f"/vms/{WEB1}").get("host", {}).get("id") == expected


def test_a_vm_that_ended_says_why(client: Client) -> None:
    assert client.get(f"/vms/{BUILD}")["stop_reason"] == "qemu: killed by signal 11"
    assert "stop_reason" not in client.get(f"/vms/{WEB1}")


def test_a_vm_without_documents_is_shown_as_far_as_it_is_known(client: Client) -> None:
    vm = client.fleet.mirror.view.vms[WEB1]
    client.fleet.mirror.put_vm(replace(vm, vm_document=b"", run_document=b""))
    assert client.get(f"/vms/{WEB1}")["name"] == "web1"
    assert client.get(f"/vms/{WEB1}/nics") == {}


def test_statistics_are_those_of_the_view(client: Client) -> None:
    node = client.fleet.mirror.view.nodes[OAK]
    stats = VmStats(WEB1, cpu_percent=77.5, uptime_s=42, net_rx_bps=9)
    client.fleet.mirror.put_node(replace(node, vm_stats={WEB1: stats}))
    figures = {
        each["name"]: each["values"]["value"][0]["datum"]
        for each in client.get(f"/vms/{WEB1}/statistics")["statistic"]
    }
    assert figures["cpu.current.total"] == "77.50"
    assert figures["elapsed.time"] == "42"
    assert figures["data.current.rx"] == "9.00"


def test_a_vm_that_is_down_has_only_its_size(client: Client) -> None:
    found = client.get(f"/vms/{WEB2}/statistics")["statistic"]
    assert [each["name"] for each in found] == ["memory.installed"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["build", "db", "old", "web1", "web2"]),
        ("?max=2", ["build", "db"]),
        ("?max=2&search=page 2", ["old", "web1"]),
        ("?max=2&search=page 3", ["web2"]),
        ("?max=2&search=page 4", []),
        ("?max=0", []),
        ("?search=name=WEB1", ["web1"]),
        ("?search=name=WEB1&case_sensitive=true", []),
        (f"?search=id={DB}", ["db"]),
        ("?search=sortby name desc&max=2", ["web2", "web1"]),
        ("?search=name=web* sortby memory", ["web1", "web2"]),
        ("?search=status=paused or status=unknown", ["db", "old"]),
        ("?search=host=oak", ["db", "web1"]),
        ("?search=vcpus=4", ["db"]),
        ("?search=ip=10.0.0.11", ["web1"]),
        ("?search=fd00::11", ["web1"]),
        ("?search=template.name=debian-12", ["web1", "web2"]),
        ("?search=cpu_usage>10", ["db", "web1"]),
        ("?search=tag=x", []),
        ("?search=pool=x", []),
    ],
)
def test_vms_are_listed_by_search_and_page(
    client: Client, query: str, names: list[str]
) -> None:
    assert client.names(f"/vms{query}") == names


def test_follow_puts_objects_in_the_place_of_links(client: Client) -> None:
    vm = client.get(f"/vms/{WEB1}?follow=nics.vnic_profile.network,host")
    assert vm["host"]["name"] == "oak"
    (nic,) = vm["nics"]["nic"]
    assert nic["vnic_profile"]["network"]["name"] == "skerry"


@pytest.mark.parametrize(
    ("vm_id", "action", "body", "state"),
    [
        (WEB2, "start", "", VmState.UP),
        (WEB2, "start", "<action/>", VmState.UP),
        (WEB2, "start", "<action><pause>true</pause></action>", VmState.PAUSED),
        (DB, "start", "<action/>", VmState.UP),
        (WEB1, "stop", "<action/>", VmState.DOWN),
        (WEB1, "shutdown", "<action/>", VmState.DOWN),
        (WEB1, "reboot", "<action/>", VmState.UP),
        (WEB1, "reset", "<action/>", VmState.UP),
        (WEB2, "stop", "<action/>", VmState.DOWN),
        (WEB2, "shutdown", "", VmState.DOWN),
    ],
)
def test_actions_act(
    client: Client, vm_id: str, action: str, body: str, state: VmState
) -> None:
    reply = client.ask("POST", f"/vms/{vm_id}/{action}", body)
    assert reply.status_code == 200
    assert etree.fromstring(reply.data).findtext("status") == "complete"
    assert {vm.vm_id: vm for vm in client.fleet.mirror.view.vms.values()}[
        vm_id  # type: ignore[index]  # a literal of the fakes
    ].state is state


@pytest.mark.parametrize(
    ("vm_id", "action", "text"),
    [
        (WEB1, "start", "VM web1 is running"),
        (WEB2, "reset", "is not running"),
    ],
)
def test_actions_that_the_state_forbids_are_conflicts(
    client: Client, vm_id: str, action: str, text: str
) -> None:
    reply = client.ask("POST", f"/vms/{vm_id}/{action}")
    assert reply.status_code == 409
    assert text in reply.text


def test_start_needs_something_to_boot_from(client: Client) -> None:
    vm = client.fleet.mirror.view.vms[WEB2]
    client.fleet.mirror.put_vm(_spec(disks=(), nics=())(vm))
    reply = client.ask("POST", f"/vms/{WEB2}/start")
    assert reply.status_code == 409
    assert "Cannot run VM without at least one bootable disk." in reply.text


def test_an_action_under_way_is_told_so_with_its_job(client: Client) -> None:
    client.fleet.orders.is_held = True
    reply = client.ask("POST", f"/vms/{WEB2}/start?async=true")
    action = etree.fromstring(reply.data)
    job = action.find("job")
    assert action.findtext("status") == "in_progress"
    assert job is not None
    assert client.get(f"/jobs/{job.get('id')}")["status"] == "started"


def test_add_answers_with_the_vm_and_where_it_is(client: Client) -> None:
    body = NEW.format(name="new", template="debian-12", more="")
    reply = client.ask("POST", "/vms", body)
    vm = etree.fromstring(reply.data)
    assert reply.status_code == 201
    assert reply.headers["Location"] == vm.get("href")
    assert vm.findtext("status") == "down"
    assert len(client.tree(f"/vms/{vm.get('id')}/diskattachments")) == 1


def test_add_that_is_under_way_is_accepted(client: Client) -> None:
    client.fleet.orders.is_held = True
    body = NEW.format(name="new", template="Blank", more="")
    reply = client.ask("POST", "/vms", body)
    assert reply.status_code == 202
    assert etree.fromstring(reply.data).findtext("status") == "image_locked"


def test_remove_ends_with_200_and_the_vm_gone(client: Client) -> None:
    reply = client.ask("DELETE", f"/vms/{WEB2}")
    assert reply.status_code == 200
    assert etree.fromstring(reply.data).findtext("status") == "complete"
    assert client.ask("GET", f"/vms/{WEB2}").status_code == 404


@pytest.mark.parametrize(
    ("query", "status"), [("", 409), ("?force=true", 200)], ids=["plain", "forced"]
)
def test_remove_leaves_disks_only_by_force(
    client: Client, query: str, status: int
) -> None:
    client.fleet.orders.away.add(WEB2)
    assert client.ask("DELETE", f"/vms/{WEB2}{query}").status_code == status


@pytest.mark.parametrize(
    ("path", "status"),
    [(f"/vms/{WEB1}", 409), ("/vms/x", 404)],
    ids=["running", "unknown"],
)
def test_remove_is_refused(client: Client, path: str, status: int) -> None:
    assert client.ask("DELETE", path).status_code == status
    assert len(client.fleet.mirror.view.vms) == 5


def test_a_silent_node_makes_its_vms_unknown(client: Client) -> None:
    vm = client.get(f"/vms/{OLD}")
    assert vm["status"] == "unknown"
    assert vm["status_detail"] == ("Its node ash is silent, so its state is not known.")
