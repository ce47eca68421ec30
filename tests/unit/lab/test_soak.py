"""Test what a soak plans, and what it calls wrong."""

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.model.ids import VmId
from node.model.vm import VmState, Wanted
from tests.lab import soak_act, soak_checks, soak_plan
from tests.lab.soak_checks import Ledger, Observation, SeenEvent, ToldVm
from tests.lab.soak_plan import Fault, Kind, Order, PlannedVm, Round, Verb, Way

HOSTS = ("h1", "h2", "h3")
ONE = PlannedVm(VmId("11111111-0000-4000-8000-000000000001"), "vm1")


def _plan(seed: int, count: int = 12) -> list[Round]:
    return list(itertools.islice(soak_plan.rounds(seed, HOSTS), count))


@given(some.integers())
def test_rounds_are_the_same_for_a_seed(seed: int) -> None:
    assert _plan(seed, 4) == _plan(seed, 4)


def test_rounds_differ_for_another_seed() -> None:
    assert _plan(1) != _plan(2)


@given(some.integers())
def test_rounds_keep_their_bounds(seed: int) -> None:
    for each in _plan(seed):
        faults = [step for step in each.steps if isinstance(step, Fault)]
        assert 1 <= len(faults) <= soak_plan.FAULTS[1]
        assert len(each.kept) <= soak_plan.SLOTS
        assert len(each.kept) - len(each.idle) <= soak_plan.RUNNING_MAX
        assert [step.at_s for step in each.steps] == sorted(
            step.at_s for step in each.steps
        )


@given(some.integers())
def test_rounds_order_only_what_exists(seed: int) -> None:
    existing: set[PlannedVm] = set()
    for each in _plan(seed):
        orders = [step for step in each.steps if isinstance(step, Order)]
        made = {order.vm for order in orders if order.verb is Verb.CREATE}
        assert not made & existing
        assert {order.vm for order in orders} - made <= existing
        existing = existing | made
        assert set(each.retired) <= existing - made
        existing -= set(each.retired)
        assert set(each.kept) == existing


@given(some.integers())
def test_rounds_delete_no_vm_that_another_order_uses(seed: int) -> None:
    for each in _plan(seed):
        for vm in each.retired:
            orders = [
                step for step in each.steps if isinstance(step, Order) and step.vm == vm
            ]
            assert [order.verb for order in orders] == [Verb.FORCE, Verb.DELETE]


def test_rounds_use_every_verb_and_every_fault() -> None:
    steps = [step for each in _plan(7, 200) for step in each.steps]
    verbs = {step.verb for step in steps if isinstance(step, Order)}
    faults = {
        (step.kind, step.service, step.member[:1])
        for step in steps
        if isinstance(step, Fault)
    }
    assert verbs == set(Verb)
    assert {kind for kind, _, _ in faults} == set(Kind)
    assert {
        (Kind.KILL, "nginx", "a"),
        (Kind.KILL, "nginx", "h"),
        (Kind.KILL, "aggregator", "a"),
        (Kind.FREEZE, "aggregator", "a"),
    } <= faults


def test_silenced_are_hosts_without_power_or_network() -> None:
    steps = (
        Fault(1.0, Kind.POWER, "h1", duration_s=1.0),
        Fault(1.0, Kind.CUT, "h2", duration_s=5.0),
        Fault(1.0, Kind.KILL, "h3", "agent"),
    )
    assert Round(1, steps, (), (), ()).silenced == {"h1", "h2"}


@pytest.mark.parametrize(
    ("step", "text"),
    [
        pytest.param(
            Order(1.0, Verb.CREATE, ONE, Way.NODE, "h2"),
            "create vm1 on h2, by the node",
            id="order",
        ),
        pytest.param(
            Fault(1.0, Kind.KILL, "h1", "agent"), "kill agent of h1", id="kill"
        ),
        pytest.param(Fault(1.0, Kind.CRASH, vm=ONE), "kill QEMU of vm1", id="crash"),
        pytest.param(
            Fault(1.0, Kind.FREEZE, "a1", "aggregator", 120.0),
            "freeze aggregator of a1 for 120 s",
            id="freeze",
        ),
        pytest.param(
            Fault(1.0, Kind.CUT, "h1", duration_s=5.0), "cut h1 for 5 s", id="cut"
        ),
    ],
)
def test_describe_names_all_that_matters(step: soak_plan.Step, text: str) -> None:
    assert soak_plan.describe(step) == text


@pytest.mark.parametrize(
    ("lists", "exists", "runs", "verbs"),
    [
        pytest.param({"kept": (ONE,)}, True, True, [], id="as-believed"),
        pytest.param({"kept": (ONE,)}, False, False, [Verb.CREATE], id="missing"),
        pytest.param(
            {"kept": (ONE,), "idle": (ONE,)}, True, True, [Verb.FORCE], id="runs-still"
        ),
        pytest.param({"retired": (ONE,)}, True, False, [Verb.DELETE], id="left-over"),
        pytest.param(
            {"retired": (ONE,)}, True, True, [Verb.FORCE, Verb.DELETE], id="both"
        ),
        pytest.param({"retired": (ONE,)}, False, False, [], id="gone"),
    ],
)
def test_amends_make_the_beliefs_true(
    lists: dict[str, Any], exists: bool, runs: bool, verbs: list[Verb]
) -> None:
    done = dataclasses.replace(Round(1, (), (), (), ()), **lists)
    existing = {ONE.vm_id} if exists else set()
    running = {ONE.vm_id} if runs else set()
    orders = soak_plan.amends(done, existing, running)
    assert [order.verb for order in orders] == verbs


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        pytest.param(Verb.START, ("start", "vm1"), id="start"),
        pytest.param(Verb.DELETE, ("delete", "vm1", "--yes"), id="delete"),
        pytest.param(Verb.FORCE, ("stop", "vm1", "--manner", "force"), id="force"),
    ],
)
def test_shell_words_say_the_same_as_the_order(
    verb: Verb, words: tuple[str, ...]
) -> None:
    assert soak_act.shell_words(Order(0.0, verb, ONE, Way.NODE)) == words


UP = ToldVm(ONE.vm_id, "vm1", "h1", VmState.UP, Wanted.UP)
WELL = Observation(
    view=(UP,),
    told={"h1": (UP,), "h2": ()},
    processes={"h1": (ONE.vm_id,)},
    folders={"h1": (ONE.vm_id,), "h2": ()},
    node_states={"h1": "up", "h2": "up"},
)
DOWN = dataclasses.replace(UP, state=VmState.DOWN)
STARTING = dataclasses.replace(UP, state=VmState.STARTING, reason="vm_is_starting")


def test_violations_are_none_when_all_is_well() -> None:
    assert soak_checks.violations(WELL, Ledger(created={ONE.vm_id})) == []


@pytest.mark.parametrize(
    ("changes", "ledger", "words"),
    [
        pytest.param(
            {"processes": {"h1": (ONE.vm_id,), "h2": (ONE.vm_id,)}},
            Ledger(),
            ("runs 2 times: on h1, h2", "does not say so"),
            id="runs-twice",
        ),
        pytest.param(
            {"processes": {"h1": (ONE.vm_id, ONE.vm_id)}},
            Ledger(),
            ("runs 2 times: on h1",),
            id="runs-twice-on-one-host",
        ),
        pytest.param(
            {"processes": {}}, Ledger(), ("there is no QEMU",), id="does-not-run"
        ),
        pytest.param(
            {"view": ()},
            Ledger(),
            ("the aggregator believes None",),
            id="not-in-the-view",
        ),
        pytest.param(
            {"view": (DOWN,)}, Ledger(), ("the node says",), id="view-is-stale"
        ),
        pytest.param(
            {"view": (DOWN,), "told": {"h1": (DOWN,)}, "processes": {}},
            Ledger(),
            ("for no reason",),
            id="no-reason",
        ),
        pytest.param(
            {"view": (STARTING,), "told": {"h1": (STARTING,)}},
            Ledger(),
            ("is still starting",),
            id="never-settles",
        ),
        pytest.param(
            {"node_states": {"h1": "up", "h2": "unreachable"}},
            Ledger(),
            ("h2 is up, the aggregator calls it unreachable",),
            id="node-not-up",
        ),
        pytest.param(
            {"problems": {"h1": ("libvirt_down",)}},
            Ledger(),
            ("h1 has the problem libvirt_down",),
            id="problem",
        ),
        pytest.param(
            {"folders": {"h1": (ONE.vm_id, "other.new"), "h2": ()}},
            Ledger(),
            ("the disks other.new on h1",),
            id="left-over-disks",
        ),
        pytest.param(
            {"folders": {"h1": (), "h2": ()}}, Ledger(), ("no disks",), id="no-disks"
        ),
        pytest.param(
            {"open_orders": ("vm_start vm1",)},
            Ledger(),
            ("vm_start vm1 is still open",),
            id="open-order",
        ),
        pytest.param(
            {},
            Ledger(created={VmId("lost")}),
            ("VM lost was acknowledged as created",),
            id="lost-vm",
        ),
        pytest.param(
            {},
            Ledger(created={ONE.vm_id}, deleted={ONE.vm_id}),
            ("was acknowledged as deleted",),
            id="returned-vm",
        ),
    ],
)
def test_violations_tell_what_must_not_be(
    changes: dict[str, Any], ledger: Ledger, words: tuple[str, ...]
) -> None:
    found = soak_checks.violations(dataclasses.replace(WELL, **changes), ledger)
    assert len(found) == len(words)
    for sentence, part in zip(found, words, strict=True):
        assert part in sentence


def test_violations_allow_a_deletion_that_was_asked_for() -> None:
    nothing = dataclasses.replace(
        WELL, view=(), told={"h1": ()}, processes={}, folders={}
    )
    asked = Ledger(created={ONE.vm_id}, delete_asked={ONE.vm_id})
    assert soak_checks.violations(nothing, asked) == []


EVENT = SeenEvent(1, "2026-01-01T00:00:00.000Z", "vm_started", ONE.vm_id)
ALARM = SeenEvent(2, "2026-01-01T00:00:00.000Z", "node_unreachable", "", "h1")


@pytest.mark.parametrize(
    ("other", "count"),
    [
        pytest.param(dataclasses.replace(EVENT, number=2, at="later"), 0, id="another"),
        pytest.param(dataclasses.replace(EVENT, number=2), 1, id="taken-twice"),
        pytest.param(dataclasses.replace(EVENT, at="later"), 1, id="number-twice"),
    ],
)
def test_repeated_events_are_found(other: SeenEvent, count: int) -> None:
    assert len(soak_checks.repeated_events([EVENT, other])) == count


def test_lost_events_are_those_that_only_a_node_has() -> None:
    kept = dataclasses.replace(EVENT, number=77)
    assert soak_checks.lost_events([EVENT], [kept]) == []
    assert len(soak_checks.lost_events([EVENT], [ALARM])) == 1


@pytest.mark.parametrize(
    ("silenced", "count"),
    [
        pytest.param({"h1"}, 0, id="was-cut-off"),
        pytest.param({"h2"}, 1, id="was-up"),
    ],
)
def test_false_alarms_are_those_of_nodes_that_were_up(
    silenced: set[str], count: int
) -> None:
    assert len(soak_checks.false_alarms([EVENT, ALARM], silenced)) == count


@pytest.mark.parametrize(
    ("line", "is_bad"),
    [
        pytest.param("t INFO    MainThread node.app: up", False, id="info"),
        pytest.param("t ERROR   job-1 node.jobs: job 1 met a bug", True, id="error"),
        pytest.param("Traceback (most recent call last):", True, id="traceback"),
        pytest.param("KeyError: 'x'", True, id="exception"),
        pytest.param("t [emerg] 7#7: still could not bind()", True, id="nginx-cannot"),
        pytest.param("t [error] 7#7: connect() failed", False, id="nginx-tells"),
        pytest.param("sqlite3.OperationalError: locked", True, id="named-exception"),
        pytest.param(
            "t ERROR   x aggregator.federation.events: node_unreachable: Node h1 …",
            False,
            id="expected",
        ),
    ],
)
def test_bad_lines_are_those_that_nothing_explains(line: str, is_bad: bool) -> None:
    assert soak_checks.bad_lines(line) == ([line] if is_bad else [])
