"""How actions get to nodes: in turn, few at a time, with an outcome."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from aggregator.control import actions, execute
from aggregator.control.execute import (
    Accepted,
    Created,
    Executor,
    Outcome,
    Refused,
    Silent,
    TooManyActions,
)
from aggregator.federation.view import NodeView
from node.errors import Conflict, Error, NotFound, Unavailable, Unsupported, revive
from node.http.client import BadReply, NodeUnreachable
from node.model.ids import DiskId, NodeId
from node.model.job import JobState
from node.model.vm import Disk, Firmware
from tests.fakes import fleet
from tests.fakes.nodes import FakeNode
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, TWO, view_of

WEB = fleet.vm_id(1)
VIEW = view_of(1, 2)
WAIT_S = 10.0


def start(number: int, node_id: str = ONE) -> actions.StartVm:
    return actions.StartVm(
        fleet.job_id(number), NodeId(node_id), WEB, ORIGIN.correlation_id
    )


def test_send_hands_on_the_ids_that_make_it_safe_to_ask_twice() -> None:
    node = FakeNode(ONE)
    for _ in range(2):
        assert isinstance(execute.send(node, VIEW.nodes[ONE], start(1)), Accepted)
    assert node.did == {f"vm_start {WEB}": 1}


@pytest.mark.parametrize("verb", list(actions.ACTIONS))
def test_send_knows_every_action(verb: str) -> None:
    node = FakeNode(ONE)
    kind: Any = actions.ACTIONS[verb]
    details: dict[str, tuple[object, ...]] = {
        "vm_create": (fleet.spec(1),),
        "vm_attach_disk": (Disk(DiskId("d"), "d", 1),),
        "vm_detach_disk": (DiskId("d"),),
        "vm_resize_disk": (DiskId("d"), 7),
    }
    ids = (fleet.job_id(1), ONE, WEB, ORIGIN.correlation_id)
    action = kind(*ids, *details.get(verb, ()))
    assert isinstance(execute.send(node, VIEW.nodes[ONE], action), Created | Accepted)
    assert node.asked[0].split()[0] == verb


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(Conflict("it runs"), Refused, id="refused"),
        pytest.param(Unavailable("libvirt is down"), Refused, id="unavailable-there"),
        pytest.param(NodeUnreachable("no route"), Silent, id="no-answer"),
        pytest.param(BadReply("HTTP 502"), Silent, id="answer-of-somebody-else"),
        pytest.param(
            revive("unavailable", "service_down", "nginx says so", ""),
            Silent,
            id="answer-of-its-nginx",
        ),
    ],
)
def test_send_tells_a_refusal_from_silence(error: Error, expected: type) -> None:
    node = FakeNode(ONE)
    node.refusal = error
    assert isinstance(execute.send(node, VIEW.nodes[ONE], start(1)), expected)


@pytest.mark.parametrize(
    ("firmware", "features", "missing"),
    [
        pytest.param(Firmware.BIOS, ("vm",), None, id="has-all"),
        pytest.param(Firmware.UEFI, ("vm", "uefi"), None, id="has-uefi"),
        pytest.param(Firmware.UEFI, ("vm",), "uefi", id="no-uefi"),
        pytest.param(Firmware.BIOS, ("feed",), "vm", id="runs-no-vms"),
    ],
)
def test_send_asks_no_node_for_what_it_cannot_do(
    firmware: Firmware, features: tuple[str, ...], missing: str | None
) -> None:
    client = FakeNode(ONE)
    node = replace(VIEW.nodes[ONE], facts=fleet.facts(1, features=features))
    spec = fleet.spec(1, firmware=firmware)
    action = actions.CreateVm(fleet.job_id(1), ONE, WEB, ORIGIN.correlation_id, spec)
    outcome = execute.send(client, node, action)
    if missing is None:
        assert isinstance(outcome, Created)
        return
    assert client.asked == []
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, Unsupported)
    assert f"lacks the feature {missing}" in str(outcome.error)
    assert outcome.error.remedy


def test_send_asks_a_node_that_has_not_spoken() -> None:
    node = replace(VIEW.nodes[ONE], facts=None)
    assert isinstance(execute.send(FakeNode(ONE), node, start(1)), Accepted)


def test_ask_job_returns_the_job() -> None:
    node = FakeNode(ONE)
    node.jobs[fleet.job_id(1)] = fleet.job(1, JobState.DONE)
    assert execute.ask_job(node, fleet.job_id(1)) == Accepted(
        fleet.job(1, JobState.DONE)
    )


class SlowNode(FakeNode):
    """Answers when it is let; says how many asked at the same time."""

    def __init__(self, node_id: NodeId) -> None:
        super().__init__(node_id)
        self.entered: queue.Queue[None] = queue.Queue()
        self.may_answer = threading.Event()

    def _hear(self, verb: str) -> None:
        self.entered.put(None)
        assert self.may_answer.wait(WAIT_S)


class Parts:
    def __init__(self) -> None:
        self.nodes = {ONE: SlowNode(ONE), TWO: SlowNode(TWO)}
        self.executor = Executor(
            lambda node: self.nodes[node.node_id], workers=4, per_node=2
        )
        self.outcomes: queue.Queue[Outcome] = queue.Queue()

    def send(self, number: int, node_id: str = ONE) -> None:
        action = start(number, node_id)
        self.executor.send(VIEW.nodes[action.node_id], action, self.outcomes.put)


@pytest.fixture
def parts() -> Iterator[Parts]:
    made = Parts()
    yield made
    for node in made.nodes.values():
        node.may_answer.set()
    made.executor.close()


def test_executor_asks_one_node_only_so_much_at_a_time(parts: Parts) -> None:
    for number in range(4):
        parts.send(number)
    parts.send(9, TWO)
    parts.nodes[TWO].entered.get(timeout=WAIT_S)
    for _ in range(2):
        parts.nodes[ONE].entered.get(timeout=WAIT_S)
    assert parts.nodes[ONE].entered.empty()
    for node in parts.nodes.values():
        node.may_answer.set()
    for _ in range(5):
        assert isinstance(parts.outcomes.get(timeout=WAIT_S), Accepted)
    assert len(parts.nodes[ONE].jobs) == 4


def test_executor_reports_a_node_that_nobody_knows_as_a_refusal() -> None:
    def connect(_node: NodeView) -> FakeNode:
        raise NotFound("it is no member any more")

    executor = Executor(connect)
    outcomes: queue.Queue[Outcome] = queue.Queue()
    executor.send(VIEW.nodes[ONE], start(1), outcomes.put)
    assert isinstance(outcomes.get(timeout=WAIT_S), Refused)
    executor.close()


def test_executor_refuses_when_too_much_waits(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "QUEUE_MAX", 3)
    for number in range(5):
        parts.send(number)
    with pytest.raises(TooManyActions):
        parts.send(5)


def test_executor_refuses_when_it_is_closed(parts: Parts) -> None:
    for node in parts.nodes.values():
        node.may_answer.set()
    parts.executor.close()
    with pytest.raises(TooManyActions):
        parts.send(1)
