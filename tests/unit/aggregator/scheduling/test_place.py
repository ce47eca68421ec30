"""Which node a VM gets, and what is said of the others."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aggregator.federation.view import NodeState, NodeView
from aggregator.scheduling import place
from aggregator.scheduling.filters import Contender, Promise, Rules
from node.model.stats import NodeStats
from node.units import GiB, MiB
from tests.fakes import fleet

RULES = Rules(fleet.AT)


def contender(number: int, name: str = "", **changes: Any) -> Contender:
    promise = changes.pop("promise", Promise())
    free_bytes = changes.pop("free_bytes", 12 * GiB)
    cpu_percent = changes.pop("cpu_percent", 0.0)
    vms = changes.pop("vms", 0)
    settings = {
        "node_id": fleet.node_id(number),
        "name": name or f"n{number}",
        "address": "",
        "state": NodeState.UP,
        "since": fleet.AT,
        "facts": fleet.facts(number),
        "stats": NodeStats(cpu_percent=cpu_percent, memory_free_bytes=free_bytes),
        "vm_ids": frozenset(fleet.vm_id(each) for each in range(vms)),
    }
    return Contender(NodeView(**{**settings, **changes}), promise)


def chosen(*contenders: Contender) -> str | None:
    return place.place(fleet.spec(1), contenders, RULES).node_id


def test_place_chooses_the_most_free_memory() -> None:
    few, much = contender(1, free_bytes=4 * GiB), contender(2, free_bytes=12 * GiB)
    assert chosen(few, much) == fleet.node_id(2)


def test_place_chooses_the_idlest_when_memory_is_alike() -> None:
    busy, idle = contender(1, cpu_percent=90.0), contender(2, cpu_percent=5.0)
    assert chosen(busy, idle) == fleet.node_id(2)


def test_place_chooses_the_fewest_vms_when_all_else_is_alike() -> None:
    assert chosen(contender(1, vms=3), contender(2, vms=1)) == fleet.node_id(2)


def test_place_breaks_ties_by_name() -> None:
    assert chosen(contender(1, "b"), contender(2, "a")) == fleet.node_id(2)


def test_place_sees_what_is_under_way() -> None:
    promised = contender(1, promise=Promise(1, 512 * MiB))
    assert chosen(promised, contender(2)) == fleet.node_id(2)


def test_place_finds_none_when_none_fits() -> None:
    placement = place.place(
        fleet.spec(1),
        [contender(1, state=NodeState.UNREACHABLE), contender(2, free_bytes=0)],
        RULES,
    )
    assert placement.node_id is None
    assert [(v.name, [r.code for r in v.reasons]) for v in placement.verdicts] == [
        ("n1", ["node_is_not_up"]),
        ("n2", ["node_lacks_memory"]),
    ]


def test_place_finds_none_when_there_is_no_node() -> None:
    assert place.place(fleet.spec(1), [], RULES) == place.Placement(None, ())


_CONTENDERS = st.lists(
    st.builds(
        contender,
        st.integers(1, 30),
        st.sampled_from(["a", "b", "c"]),
        state=st.sampled_from([NodeState.UP, NodeState.UP, NodeState.SUSPECT]),
        free_bytes=st.integers(0, 16 * GiB),
        cpu_percent=st.floats(-5, 105),
        vms=st.integers(0, 5),
        promise=st.builds(Promise, st.integers(0, 3), st.integers(0, 4 * GiB)),
    ),
    unique_by=lambda each: each.node.node_id,
    max_size=8,
)


@given(_CONTENDERS, st.integers(0, 99))
def test_place_is_the_same_in_any_order(found: list[Contender], seed: int) -> None:
    shuffled = random.Random(seed).sample(found, len(found))
    spec = fleet.spec(1)
    assert place.place(spec, shuffled, RULES) == place.place(spec, found, RULES)


@given(_CONTENDERS)
def test_place_chooses_the_best_and_judges_all(found: list[Contender]) -> None:
    placement = place.place(fleet.spec(1), found, RULES)
    accepted = [each for each in placement.verdicts if each.is_accepted]
    assert len(placement.verdicts) == len(found)
    assert all(each.is_accepted != bool(each.reasons) for each in placement.verdicts)
    assert all(0.0 <= each.score <= 1.0 for each in placement.verdicts)
    if accepted:
        best = max(each.score for each in accepted)
        assert placement.node_id in {v.node_id for v in accepted if v.score == best}
    else:
        assert placement.node_id is None


@given(_CONTENDERS, st.integers(1, 4 * GiB))
def test_place_never_prefers_a_node_for_being_promised_more(
    found: list[Contender], more: int
) -> None:
    placement = place.place(fleet.spec(1), found, RULES)
    heavier = [
        Contender(
            each.node, Promise(each.promise.vms + 1, each.promise.memory_bytes + more)
        )
        for each in found
    ]
    before = {each.node_id: each for each in placement.verdicts}
    for verdict in place.place(fleet.spec(1), heavier, RULES).verdicts:
        assert verdict.score <= before[verdict.node_id].score
        assert verdict.is_accepted <= before[verdict.node_id].is_accepted
