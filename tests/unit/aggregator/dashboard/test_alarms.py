"""Tests of aggregator.dashboard.alarms."""

import pytest

from aggregator.dashboard import alarms
from aggregator.federation.view import NodeState, VmView
from node.model.vm import VmState, Wanted
from tests.unit.aggregator.dashboard import examples
from tests.unit.aggregator.dashboard.examples import AT, LATER, reason


@pytest.mark.parametrize(
    ("vm", "is_alarming"),
    [
        pytest.param(examples.vm(), False, id="up"),
        pytest.param(
            examples.vm(state=VmState.STARTING, reason=reason("vm_is_starting")),
            False,
            id="a-mere-step",
        ),
        pytest.param(
            examples.vm(state=VmState.DOWN, reason=reason("vm_crashed")),
            True,
            id="crashed",
        ),
        pytest.param(
            examples.vm(
                state=VmState.DOWN, wanted=Wanted.DOWN, reason=reason("vm_killed")
            ),
            False,
            id="down-as-wanted",
        ),
        pytest.param(
            examples.vm(state=VmState.NOT_RESPONDING), True, id="silent-without-reason"
        ),
    ],
)
def test_is_vm_alarming_only_when_a_person_is_needed(
    vm: VmView, is_alarming: bool
) -> None:
    assert alarms.is_vm_alarming(vm) is is_alarming


def test_alarms_put_the_gravest_first_then_the_newest() -> None:
    view = examples.view(
        examples.vm("v1", "a", reason=reason("vm_not_responding", LATER)),
        examples.vm("v2", "b", reason=reason("vm_crashed", AT), state=VmState.DOWN),
        examples.vm("v3", "c", reason=reason("vm_crashed", LATER), state=VmState.DOWN),
    )
    assert [alarm.name for alarm in alarms.alarms(view)] == ["c", "b", "a"]


def test_alarms_count_the_vms_of_a_silent_node_as_one() -> None:
    silent = reason("node_unreachable")
    unknown = {"state": VmState.UNKNOWN, "reason": reason("vm_node_silent")}
    view = examples.view(
        examples.vm("v1", "a", **unknown),
        examples.vm("v2", "b", **unknown),
        nodes=(examples.node(state=NodeState.UNREACHABLE, reason=silent),),
    )
    assert [(each.name, each.vms_affected) for each in alarms.alarms(view)] == [
        ("oak", 2)
    ]


def test_alarms_name_every_problem_of_a_node() -> None:
    problems = (reason("kvm_unusable"), reason("clock_skew"))
    view = examples.view(
        nodes=(examples.node(facts=examples.facts(problems=problems)),)
    )
    assert [each.reason.code for each in alarms.alarms(view)] == [
        "kvm_unusable",
        "clock_skew",
    ]


def test_alarms_leave_out_old_problems_of_a_silent_node() -> None:
    node = examples.node(
        state=NodeState.UNREACHABLE,
        reason=reason("node_unreachable"),
        facts=examples.facts(problems=(reason("clock_skew"),)),
    )
    found = alarms.alarms(examples.view(nodes=(node,)))
    assert [each.reason.code for each in found] == ["node_unreachable"]


def test_alarms_are_none_when_all_is_well() -> None:
    assert alarms.alarms(examples.view(examples.vm())) == ()
