"""Tests of aggregator.dashboard.signs."""

import pytest

from aggregator.dashboard import signs
from aggregator.dashboard.signs import Sign
from aggregator.federation.view import NodeState
from node.model.host import NodeHealth
from node.model.job import JobState
from node.model.messages import Severity
from node.model.vm import VmState
from tests.unit.aggregator.dashboard import examples


@pytest.mark.parametrize(
    ("states", "table"),
    [
        pytest.param(VmState, signs.VM_SIGNS, id="vm"),
        pytest.param(NodeState, signs.NODE_SIGNS, id="node"),
        pytest.param(JobState, signs.JOB_SIGNS, id="job"),
        pytest.param(Severity, signs.SEVERITY_SIGNS, id="severity"),
    ],
)
def test_every_state_has_a_sign(
    states: type[VmState], table: dict[VmState, Sign]
) -> None:
    assert set(table) == set(states)


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(signs.VM_SIGNS, id="vm"),
        pytest.param(signs.NODE_SIGNS, id="node"),
        pytest.param(signs.JOB_SIGNS, id="job"),
    ],
)
def test_signs_differ_without_colour(table: dict[VmState, Sign]) -> None:
    shown = {(sign.glyph, sign.text) for sign in table.values()}
    assert len(shown) == len(table)


@pytest.mark.parametrize(
    ("state", "names"),
    [
        pytest.param(VmState.DOWN, ["start", "delete"], id="down"),
        pytest.param(
            VmState.UP, ["shutdown", "pause", "suspend", "reset", "stop"], id="up"
        ),
        pytest.param(
            VmState.PAUSED, ["resume", "suspend", "reset", "stop"], id="paused"
        ),
        pytest.param(VmState.STARTING, ["stop"], id="starting"),
        pytest.param(VmState.NOT_RESPONDING, ["reset", "stop"], id="silent"),
        pytest.param(VmState.UNKNOWN, [], id="unknown"),
    ],
)
def test_possible_actions_follow_the_state(state: VmState, names: list[str]) -> None:
    assert [action.name for action in signs.possible_actions(state)] == names


def test_actions_that_lose_data_are_asked_for_again() -> None:
    warned = {action.name for action in signs.ACTIONS if action.warning}
    assert warned == {"stop", "reset", "discard", "delete"}


def test_memory_of_a_suspended_vm_may_be_discarded() -> None:
    possible = signs.possible_actions(VmState.DOWN, is_suspended=True)
    assert [action.name for action in possible] == ["start", "discard", "delete"]


def test_node_sign_shows_problems_when_up() -> None:
    node = examples.node(facts=examples.facts(health=NodeHealth.DEGRADED))
    assert signs.node_sign(node) is signs.NODE_DEGRADED


def test_node_sign_shows_silence_before_problems() -> None:
    facts = examples.facts(health=NodeHealth.DEGRADED)
    node = examples.node(state=NodeState.UNREACHABLE, facts=facts)
    assert signs.node_sign(node) is signs.NODE_SIGNS[NodeState.UNREACHABLE]
