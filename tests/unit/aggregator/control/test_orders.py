"""What people order, and what they are answered."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aggregator.control.book import OrderNotFound
from aggregator.control.orders import (
    Order,
    Orders,
    VmGone,
    VmIdTaken,
    VmNotFound,
)
from aggregator.control.placing import NameTaken, NoNodeFits
from aggregator.control.routes import NodeNotFound, NodeSilent
from aggregator.federation import apply
from node.errors import (
    Busy,
    Conflict,
    Error,
    Failed,
    Invalid,
    Unavailable,
    revive,
)
from node.model.host import KvmFacts
from node.model.ids import DiskId, VmId
from node.model.job import JobState
from node.model.requests import StopManner
from node.model.vm import Disk
from node.units import GiB
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, TWO, Parts, silence

WEB = fleet.vm_id(1)
DISK = Disk(DiskId("d"), "d", 1)
Ask = Callable[[Orders, VmId], Order]


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = Parts(tmp_path)
    yield made
    made.database.close()


def test_create_vm_makes_it_on_the_best_node(parts: Parts) -> None:
    order = parts.orders.create_vm(fleet.spec(2), ORIGIN)
    assert (order.state, order.node_id, order.name) == (JobState.DONE, TWO, "vm2")
    assert parts.did() == {f"vm_create {fleet.vm_id(2)}": 1}
    assert (order.user, order.correlation_id) == ("admin@internal", "c-1")
    assert "vm_placed" in parts.codes()


def test_create_vm_makes_it_on_the_node_that_is_named(parts: Parts) -> None:
    assert parts.orders.create_vm(fleet.spec(2), ORIGIN, ONE).node_id == ONE


def test_create_vm_spreads_what_the_view_does_not_show_yet(parts: Parts) -> None:
    placed = [
        parts.orders.create_vm(fleet.spec(number), ORIGIN).node_id
        for number in range(2, 6)
    ]
    assert placed.count(ONE) == placed.count(TWO) == 2


def test_create_vm_does_not_promise_memory_twice(parts: Parts) -> None:
    for number in (2, 3):
        parts.orders.create_vm(fleet.spec(number, memory_bytes=10 * GiB), ORIGIN)
    with pytest.raises(NoNodeFits, match="MiB are needed"):
        parts.orders.create_vm(fleet.spec(4, memory_bytes=10 * GiB), ORIGIN)


def test_create_vm_asked_twice_is_one_vm(parts: Parts) -> None:
    first = parts.orders.create_vm(fleet.spec(2), ORIGIN)
    assert parts.orders.create_vm(fleet.spec(2), ORIGIN) == first
    parts.say(2, fleet.vm(2))
    again = parts.orders.create_vm(fleet.spec(2), ORIGIN)
    assert (again.state, again.node_id) == (JobState.DONE, TWO)
    assert parts.did() == {f"vm_create {fleet.vm_id(2)}": 1}


def test_create_vm_refuses_an_id_that_is_being_used(parts: Parts) -> None:
    parts.orders.create_vm(fleet.spec(2), ORIGIN)
    with pytest.raises(VmIdTaken):
        parts.orders.create_vm(fleet.spec(2, memory_bytes=GiB), ORIGIN)


@pytest.mark.parametrize("name", ["web", "vm2"], ids=["in-the-view", "under-way"])
def test_create_vm_refuses_a_name_that_is_taken(parts: Parts, name: str) -> None:
    parts.orders.create_vm(fleet.spec(2, "vm2"), ORIGIN)
    with pytest.raises(NameTaken):
        parts.orders.create_vm(fleet.spec(3, name), ORIGIN)
    assert parts.codes()[-1] == "vm_not_placed"


def test_create_vm_says_why_no_node_fits(parts: Parts) -> None:
    with pytest.raises(NoNodeFits, match="machine type pc-old") as caught:
        parts.orders.create_vm(fleet.spec(2, machine="pc-old"), ORIGIN)
    assert caught.value.code == "vm_not_placed"
    assert not parts.orders.list()


def test_create_vm_refuses_a_node_that_is_not_there(parts: Parts) -> None:
    with pytest.raises(NodeNotFound):
        parts.orders.create_vm(fleet.spec(2), ORIGIN, fleet.node_id(9))


def test_create_vm_follows_the_fleet_in_whether_to_emulate(parts: Parts) -> None:
    for number in (1, 2):
        parts.say(number, fleet.facts(number, kvm=KvmFacts(False, "no /dev/kvm")))
    assert parts.orders.explain(fleet.spec(2)).node_id is not None
    parts.database.records("setting").put("allows_emulation", False)
    assert parts.orders.explain(fleet.spec(2)).node_id is None


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(Unavailable("libvirt is down"), id="unavailable"),
        pytest.param(Conflict("no"), id="conflict"),
        pytest.param(Busy("later"), id="busy"),
    ],
)
def test_create_vm_goes_to_the_next_node_when_nothing_was_made(
    parts: Parts, refusal: Error
) -> None:
    parts.nodes[TWO].refusal = refusal
    order = parts.orders.create_vm(fleet.spec(2), ORIGIN)
    assert (order.state, order.node_id) == (JobState.DONE, ONE)
    assert parts.did() == {f"vm_create {fleet.vm_id(2)}": 1}


def test_create_vm_tries_one_other_node_only(parts: Parts) -> None:
    parts.nodes[TWO].refusal = Unavailable("libvirt is down")
    parts.nodes[ONE].refusal = Unavailable("libvirt is down here too")
    with pytest.raises(Unavailable, match="here too"):
        parts.orders.create_vm(fleet.spec(2), ORIGIN)
    assert parts.codes()[-1] == "action_failed"


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(Failed("half a disk was written"), id="something-was-made"),
        pytest.param(Invalid("no such field"), id="invalid-everywhere"),
    ],
)
def test_create_vm_stays_when_another_node_would_not_help(
    parts: Parts, refusal: Error
) -> None:
    parts.nodes[TWO].refusal = refusal
    with pytest.raises(type(refusal)):
        parts.orders.create_vm(fleet.spec(2), ORIGIN)
    assert parts.nodes[ONE].asked == []


def test_create_vm_stays_on_the_node_that_was_named(parts: Parts) -> None:
    parts.nodes[TWO].refusal = Unavailable("libvirt is down")
    with pytest.raises(Unavailable):
        parts.orders.create_vm(fleet.spec(2), ORIGIN, TWO)
    assert parts.nodes[ONE].asked == []


@pytest.mark.parametrize("kind", ["is_deaf", "is_mute"])
def test_create_vm_waits_for_a_silent_node_and_no_other(
    parts: Parts, kind: str
) -> None:
    setattr(parts.nodes[TWO], kind, True)
    order = parts.orders.create_vm(fleet.spec(2), ORIGIN)
    assert (order.state, order.step) == (JobState.QUEUED, "waiting for node n2")
    assert parts.nodes[ONE].asked == []
    setattr(parts.nodes[TWO], kind, False)
    parts.pass_time(3600.0)
    assert parts.orders.get(order.order_id).state is JobState.DONE
    assert parts.did() == {f"vm_create {fleet.vm_id(2)}": 1}
    assert parts.nodes[ONE].asked == []


def test_create_vm_stays_when_a_silent_node_refuses_later(parts: Parts) -> None:
    parts.nodes[TWO].is_mute = True
    order = parts.orders.create_vm(fleet.spec(2), ORIGIN)
    parts.nodes[TWO].is_mute = False
    parts.nodes[TWO].refusal = Conflict("it is there already")
    parts.pass_time(6.0)
    assert parts.orders.get(order.order_id).state is JobState.FAILED
    assert parts.nodes[ONE].asked == []


def test_create_vm_keeps_trying_when_a_silent_node_is_busy_later(parts: Parts) -> None:
    parts.nodes[TWO].is_mute = True
    order = parts.orders.create_vm(fleet.spec(2), ORIGIN)
    parts.nodes[TWO].is_mute = False
    parts.nodes[TWO].refusal = Busy("the first request is still at work")
    parts.pass_time(6.0)
    assert parts.orders.get(order.order_id).state is JobState.QUEUED
    parts.nodes[TWO].refusal = None
    parts.pass_time(6.0)
    assert parts.orders.get(order.order_id).state is JobState.DONE


def test_create_vm_never_brings_back_what_was_deleted_meanwhile(parts: Parts) -> None:
    parts.nodes[TWO].is_mute = True
    order = parts.orders.create_vm(fleet.spec(2), ORIGIN)
    parts.nodes[TWO].delete(fleet.vm_id(2))
    parts.nodes[TWO].is_mute = False
    parts.pass_time(6.0)
    found = parts.orders.get(order.order_id)
    assert (found.state, found.error and found.error.code) == (
        JobState.FAILED,
        "vm_gone",
    )
    assert parts.did() == {f"vm_create {fleet.vm_id(2)}": 1}


def test_create_vm_goes_to_no_other_node_when_it_was_deleted(parts: Parts) -> None:
    parts.nodes[TWO].gone.add(fleet.vm_id(2))
    with pytest.raises(Conflict) as caught:
        parts.orders.create_vm(fleet.spec(2), ORIGIN)
    assert caught.value.code == "vm_gone"
    assert parts.did() == {}


def test_create_vm_is_over_when_the_vm_was_deleted_by_an_order(parts: Parts) -> None:
    parts.nodes[TWO].is_mute = True
    creation = parts.orders.create_vm(fleet.spec(2), ORIGIN)
    parts.nodes[TWO].is_mute = False
    parts.nodes[TWO].job_state = JobState.DONE
    deletion = parts.orders.delete_vm(fleet.vm_id(2), ORIGIN)
    assert deletion.state is JobState.DONE
    assert parts.orders.get(creation.order_id).state is JobState.DONE
    parts.pass_time(60.0)
    assert parts.nodes[TWO].asked == ["vm_create", "vm_delete"]


@pytest.mark.parametrize("leaves", [True, False])
def test_delete_says_whether_disks_may_stay(parts: Parts, leaves: bool) -> None:
    parts.orders.delete_vm(WEB, ORIGIN, may_leave_disks=leaves)
    assert parts.nodes[ONE].leaving == [leaves]


def test_create_vm_refuses_the_id_of_a_vm_that_was_deleted(parts: Parts) -> None:
    parts.nodes[ONE].job_state = JobState.DONE
    parts.orders.delete_vm(WEB, ORIGIN)
    parts.viewer.view = apply.remove_node(parts.viewer.view, ONE)
    with pytest.raises(VmGone):
        parts.orders.create_vm(fleet.spec(1, "web"), ORIGIN)
    assert parts.nodes[TWO].asked == []


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(revive("unavailable", "agent_stopping", "", ""), id="stopping"),
        pytest.param(revive("unavailable", "service_down", "", ""), id="restarting"),
        pytest.param(Busy("too many jobs"), id="busy"),
    ],
)
def test_act_waits_for_a_node_that_has_not_acted_yet(
    parts: Parts, refusal: Error
) -> None:
    parts.nodes[ONE].refusal = refusal
    order = parts.orders.start_vm(WEB, ORIGIN)
    assert (order.state, order.step) == (JobState.QUEUED, "waiting for node n1")
    parts.nodes[ONE].refusal = None
    parts.pass_time(1.0)
    assert parts.orders.get(order.order_id).state is JobState.RUNNING
    assert parts.did() == {f"vm_start {WEB}": 1}


def test_act_fails_at_once_when_waiting_would_not_help(parts: Parts) -> None:
    parts.nodes[ONE].refusal = Unavailable("the disk is full")
    with pytest.raises(Unavailable):
        parts.orders.start_vm(WEB, ORIGIN)


_ACTIONS: list[tuple[str, Ask]] = [
    ("vm_start", lambda orders, vm_id: orders.start_vm(vm_id, ORIGIN)),
    (
        "vm_stop force",
        lambda orders, vm_id: orders.stop_vm(vm_id, ORIGIN, manner=StopManner.FORCE),
    ),
    ("vm_pause", lambda orders, vm_id: orders.pause_vm(vm_id, ORIGIN)),
    ("vm_resume", lambda orders, vm_id: orders.resume_vm(vm_id, ORIGIN)),
    ("vm_reset", lambda orders, vm_id: orders.reset_vm(vm_id, ORIGIN)),
    ("vm_delete", lambda orders, vm_id: orders.delete_vm(vm_id, ORIGIN)),
    (
        "vm_attach_disk d",
        lambda orders, vm_id: orders.attach_disk(vm_id, DISK, ORIGIN),
    ),
    (
        "vm_detach_disk d",
        lambda orders, vm_id: orders.detach_disk(vm_id, DISK.disk_id, ORIGIN),
    ),
    (
        "vm_resize_disk d 7",
        lambda orders, vm_id: orders.resize_disk(vm_id, DISK.disk_id, 7, ORIGIN),
    ),
]


@pytest.mark.parametrize(("verb", "ask"), _ACTIONS, ids=[verb for verb, _ in _ACTIONS])
def test_act_asks_the_node_of_the_vm(parts: Parts, verb: str, ask: Ask) -> None:
    order = ask(parts.orders, WEB)
    assert (order.state, order.node_id, order.name) == (JobState.RUNNING, ONE, "web")
    assert order.verb == verb.split()[0]
    assert set(parts.nodes[ONE].jobs) == {order.order_id}
    assert parts.did() == {f"{verb} {WEB}": 1}


def test_attach_asks_another_node_if_one_is_named(parts: Parts) -> None:
    order = parts.orders.attach_disk(WEB, DISK, ORIGIN, TWO)
    assert order.node_id == TWO
    order = parts.orders.detach_disk(WEB, DISK.disk_id, ORIGIN, TWO)
    assert order.node_id == TWO
    assert parts.nodes[ONE].jobs == {}


def test_act_raises_what_the_node_refuses_with(parts: Parts) -> None:
    refusal = Conflict("web runs already", vm=WEB)
    refusal.code, refusal.remedy = "vm_runs", "Stop it first."
    parts.nodes[ONE].refusal = refusal
    with pytest.raises(Conflict) as caught:
        parts.orders.start_vm(WEB, ORIGIN)
    found = caught.value
    assert (found.code, found.remedy, found.fields) == (
        "vm_runs",
        "Stop it first.",
        {"vm": WEB},
    )
    (order,) = parts.orders.list()
    assert order.state is JobState.FAILED
    assert order.error is not None
    assert order.error.code == "vm_runs"
    assert parts.codes()[-1] == "action_failed"


def test_act_finds_a_vm_that_the_view_does_not_show_yet(parts: Parts) -> None:
    parts.orders.create_vm(fleet.spec(2), ORIGIN)
    assert parts.orders.start_vm(fleet.vm_id(2), ORIGIN).node_id == TWO


def test_act_refuses_a_vm_that_is_not_there(parts: Parts) -> None:
    with pytest.raises(VmNotFound):
        parts.orders.start_vm(fleet.vm_id(9), ORIGIN)


def test_act_refuses_when_the_node_is_unreachable(parts: Parts) -> None:
    parts.viewer.view = silence(parts.viewer.view, 1)
    with pytest.raises(NodeSilent, match="n1"):
        parts.orders.start_vm(WEB, ORIGIN)
    assert parts.nodes[ONE].asked == []


def test_list_gives_the_newest_first(parts: Parts) -> None:
    for _ in range(3):
        parts.orders.start_vm(WEB, ORIGIN)
        parts.clock.advance(1.0)
    found = parts.orders.list(maximum=2)
    assert [each.created_at for each in found] == [
        "2026-11-22T08:00:02.000Z",
        "2026-11-22T08:00:01.000Z",
    ]


def test_wait_returns_at_once_when_it_has_ended(parts: Parts) -> None:
    order = parts.orders.create_vm(fleet.spec(2), ORIGIN)
    assert parts.orders.wait(order.order_id, 10.0) == order


def test_wait_returns_what_there_is_when_the_time_is_over(parts: Parts) -> None:
    order = parts.orders.start_vm(WEB, ORIGIN)
    assert parts.orders.wait(order.order_id, 0.01).state is JobState.RUNNING


def test_get_refuses_an_order_that_is_not_there(parts: Parts) -> None:
    with pytest.raises(OrderNotFound):
        parts.orders.get(fleet.job_id(9))


def test_explain_says_of_every_node_why(parts: Parts) -> None:
    parts.viewer.view = silence(parts.viewer.view, 2)
    placement = parts.orders.explain(fleet.spec(2))
    assert placement.node_id == ONE
    assert [(each.name, each.is_accepted) for each in placement.verdicts] == [
        ("n1", True),
        ("n2", False),
    ]
