"""Tests of aggregator.dashboard.rows."""

from dataclasses import replace

import pytest

from aggregator.control import actions
from aggregator.control.orders import Order
from aggregator.dashboard import alarms, rows
from aggregator.dashboard.rows import Bar, Tally
from aggregator.federation.events import LoggedEvent
from aggregator.federation.view import NodeState
from aggregator.registry import Candidate
from aggregator.scheduling.place import Verdict
from node.model.ids import Fingerprint, JobId, NodeId, VmId
from node.model.job import JobState
from node.model.stats import NodeStats, VmStats
from node.model.vm import VmState
from node.units import GiB
from tests.unit.aggregator.dashboard import examples
from tests.unit.aggregator.dashboard.examples import AT, reason


def test_vm_row_shows_the_figures_of_a_running_vm() -> None:
    vm = examples.vm()
    stats = VmStats(vm.vm_id, cpu_percent=25.0, memory_used_bytes=GiB, uptime_s=3600)
    node = examples.node(vm_stats={vm.vm_id: stats})
    row = rows.vm_row(examples.view(vm, nodes=(node,)), vm, str)
    assert (row.cpu, row.memory_use, row.uptime, row.node_name) == (
        Bar("CPU", 25, "25 %"),
        Bar("Memory", 50, "1 GiB of 2 GiB"),
        "1 h",
        "oak",
    )


def test_vm_row_shows_no_old_figures_when_down() -> None:
    vm = examples.vm(state=VmState.DOWN)
    stats = VmStats(vm.vm_id, cpu_percent=25.0, uptime_s=3600)
    node = examples.node(vm_stats={vm.vm_id: stats})
    row = rows.vm_row(examples.view(vm, nodes=(node,)), vm, str)
    assert (row.cpu, row.memory_use, row.uptime) == (None, None, "")


def test_vm_row_names_the_id_of_a_node_that_is_gone() -> None:
    row = rows.vm_row(examples.view(nodes=()), examples.vm(), str)
    assert row.node_name == "n1"


def test_vm_row_translates_its_reason() -> None:
    vm = examples.vm(state=VmState.DOWN, reason=reason("vm_lost_with_host"))
    row = rows.vm_row(examples.view(vm), vm, str.upper)
    assert row.why.startswith("VM ")
    assert row.why.isupper()


def test_whys_follow_the_causes() -> None:
    first = reason("vm_node_silent", cause=reason("node_suspect"))
    assert [each.sign.text for each in rows.whys(first, str)] == ["Warning", "Warning"]


def test_node_row_shows_no_figures_of_a_node_out_of_reach() -> None:
    node = examples.node(
        state=NodeState.UNREACHABLE, facts=examples.facts(), vms_running=3
    )
    row = rows.node_row(node, str)
    assert (row.cpu, row.memory, row.vms_running) == (None, None, 0)


def test_node_row_shows_use_and_version() -> None:
    row = rows.node_row(examples.node(facts=examples.facts()), str)
    assert (row.cpu, row.memory, row.storage, row.version) == (
        Bar("CPU", 50, "50 %"),
        Bar("Memory", 25, "8 GiB of 32 GiB"),
        None,
        "0.1.0",
    )


@pytest.mark.parametrize(
    ("percent", "tone"),
    [
        pytest.param(84, "good", id="room"),
        pytest.param(85, "warn", id="little-room"),
        pytest.param(95, "bad", id="full"),
    ],
)
def test_bar_warns_when_little_is_left(percent: int, tone: str) -> None:
    assert Bar("CPU", percent, "").tone == tone


def test_capacity_adds_up_only_nodes_that_are_up() -> None:
    stats = NodeStats(
        cpu_percent=25.0,
        memory_used_bytes=8 * GiB,
        storage_size_bytes=100 * GiB,
        storage_used_bytes=50 * GiB,
    )
    up = examples.node(facts=examples.facts(), stats=stats)
    gone = replace(up, node_id=NodeId("n2"), state=NodeState.UNREACHABLE)
    assert rows.capacity([up, gone]) == (
        Bar("CPU", 25, "4.0 of 16 threads"),
        Bar("Memory", 25, "8 GiB of 32 GiB"),
        Bar("Nodes' disks", 50, "50 GiB of 100 GiB"),
    )


def test_capacity_of_nothing_is_empty() -> None:
    assert [bar.percent for bar in rows.capacity([])] == [0, 0, 0]


def test_tallies_count_each_thing_once() -> None:
    silent = {"state": NodeState.UNREACHABLE, "reason": reason("node_unreachable")}
    view = examples.view(
        examples.vm("v1", "a"),
        examples.vm("v2", "b", state=VmState.DOWN),
        examples.vm("v3", "c", node_id=NodeId("n2"), state=VmState.UNKNOWN,
                    reason=reason("vm_node_silent")),
        nodes=(examples.node(), examples.node("n2", "elm", **silent)),
    )  # fmt: skip
    found = alarms.alarms(view)
    assert (
        rows.node_tally(view.nodes.values(), found),
        rows.vm_tally(view.vms.values(), found),
    ) == (Tally(2, up=1, alert=1, down=1), Tally(3, up=1, alert=1, down=1))


ORDER = Order(
    JobId("o1"),
    "vm_start",
    VmId("v1"),
    NodeId("n1"),
    "web",
    JobState.RUNNING,
    AT,
    progress_percent=40,
)


def test_task_row_says_what_was_asked() -> None:
    row = rows.task_row(ORDER, examples.view(), str)
    assert (row.text, row.percent, row.is_ended, row.node_name) == (
        "Start VM web",
        40,
        False,
        "oak",
    )


def test_task_row_of_an_unknown_verb_shows_the_verb() -> None:
    row = rows.task_row(replace(ORDER, verb="vm_dance"), examples.view(), str)
    assert row.text == "vm_dance web"


def test_task_row_is_full_when_done() -> None:
    row = rows.task_row(replace(ORDER, state=JobState.DONE), examples.view(), str)
    assert (row.percent, row.is_ended) == (100, True)


def test_event_row_names_its_user() -> None:
    user = "admin@internal"
    event = LoggedEvent(
        7, AT, "user_logged_out", {"user": user}, None, None, user, None
    )
    row = rows.event_row(event, str)
    assert (row.text, row.user) == (f"User {user} logged out.", user)


def test_candidate_row_groups_the_fingerprint() -> None:
    candidate = Candidate(
        node_id=NodeId("n9"),
        name="fir",
        address="192.0.2.4",
        admission_port=7441,
        version="0.1.0",
        fingerprint=Fingerprint("0123" * 16),
        first_seen=AT,
        last_seen=AT,
        problem=None,
    )
    assert rows.candidate_row(candidate, str).groups == ("0123",) * 16


def test_verdict_rows_put_those_that_could_first() -> None:
    verdicts = (
        Verdict(NodeId("n1"), "oak", False, (reason("kvm_unusable"),), 0.0),
        Verdict(NodeId("n2"), "elm", True, (), 0.5),
    )
    assert [row.name for row in rows.verdict_rows(verdicts, str)] == ["elm", "oak"]


def test_task_row_says_the_steps_of_an_order_in_words() -> None:
    order = replace(
        ORDER,
        verb="storage_domain_create",
        vm_id=None,
        object_id="d1",
        step="storage_domain_attach",
    )
    row = rows.task_row(order, examples.view(), str)
    assert (row.step, row.page) == ("attaching it to the pool", "/ui/storage/d1")


@pytest.mark.parametrize(
    "verb", sorted(actions.STORAGE_VERBS.keys() - {"storage_domain_look"})
)
def test_task_row_names_every_verb_of_storage(verb: str) -> None:
    row = rows.task_row(replace(ORDER, verb=verb), examples.view(), str)
    assert verb not in row.text


def test_task_row_names_who_moves_the_data() -> None:
    order = replace(ORDER, data_node_id=NodeId("n2"))
    view = examples.view(nodes=(examples.node(), examples.node("n2", "elm")))
    assert rows.task_row(order, view, str).data_node_name == "elm"
