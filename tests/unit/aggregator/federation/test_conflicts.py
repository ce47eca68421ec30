"""Whom we believe when two nodes claim one VM."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.federation import conflicts, reading
from aggregator.federation.view import VmView
from node import wire
from node.model.ids import PoolId
from node.model.reason import Reason
from node.model.vm import Vm, VmState, Wanted
from tests.fakes import fleet

_SILENCE = Reason("vm_node_silent", fleet.AT)
_EARLY = "2026-01-01T00:00:00.000Z"


def claim(
    of_node: int,
    state: VmState = VmState.DOWN,
    generation: int = 1,
    created_at: str = fleet.AT,
    silence: Reason | None = None,
) -> VmView:
    vm = fleet.vm(1, generation=generation, created_at=created_at)
    run = fleet.run(1, of_node, state)
    return reading.read_vm(
        fleet.vm_id(1),
        fleet.node_id(of_node),
        wire.encode(vm),
        wire.encode(run),
        silence,
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            claim(2, VmState.UP), claim(1, VmState.DOWN, 9), id="running-beats-all"
        ),
        pytest.param(
            claim(2, VmState.PAUSED), claim(1, VmState.DOWN), id="paused-is-running"
        ),
        pytest.param(
            claim(2, VmState.UP, silence=_SILENCE),
            claim(1),
            id="running-when-last-heard-beats-not-running",
        ),
        pytest.param(
            claim(2, VmState.UP),
            claim(1, VmState.UP, 9, silence=_SILENCE),
            id="heard-beats-silent",
        ),
        pytest.param(
            claim(2, generation=3), claim(1, generation=2), id="higher-generation"
        ),
        pytest.param(claim(2, created_at=_EARLY), claim(1), id="earlier-claim"),
        pytest.param(claim(1), claim(2), id="else-the-first-id"),
    ],
)
def test_believed_chooses_the_first(first: VmView, second: VmView) -> None:
    assert conflicts.believed([first, second]) is first
    assert conflicts.believed([second, first]) is first


def of_pool(
    of_node: int,
    state: VmState | None = None,
    generation: int = 0,
    silence: Reason | None = None,
    wanted: Wanted = Wanted.DOWN,
    pool_id: PoolId | None = None,
) -> VmView:
    """Return a claim of a pool's VM; generation 0: no definition, None: no run."""
    spec = fleet.spec(1, f"g{generation}", pool_id=pool_id or fleet.pool_id())
    vm = fleet.vm(1, spec=spec, generation=generation, wanted=wanted)
    run = None if state is None else fleet.run(1, of_node, state)
    return reading.read_vm(
        fleet.vm_id(1),
        fleet.node_id(of_node),
        wire.encode(vm) if generation else b"",
        wire.encode(run) if run else b"",
        silence,
    )


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        pytest.param([of_pool(1, None, 3)], (1, "g3", VmState.DOWN), id="never-run"),
        pytest.param(
            [of_pool(1, None, 3), of_pool(2, VmState.UP)],
            (2, "g3", VmState.UP),
            id="defined-here-runs-there",
        ),
        pytest.param(
            [of_pool(1, None, 4), of_pool(2, VmState.UP, 3)],
            (2, "g4", VmState.UP),
            id="highest-generation-and-the-run",
        ),
        pytest.param(
            [of_pool(1, VmState.DOWN, 4), of_pool(2, VmState.UP, 3)],
            (2, "g4", VmState.UP),
            id="the-run-that-is-on",
        ),
        pytest.param(
            [of_pool(1, None, 4), of_pool(2, VmState.UP, 0, _SILENCE)],
            (2, "g4", VmState.UNKNOWN),
            id="runs-on-a-silent-node",
        ),
    ],
)
def test_believed_puts_a_vm_of_a_pool_together(
    claims: list[VmView], expected: tuple[int, str, VmState]
) -> None:
    number, name, state = expected
    for ordered in (claims, claims[::-1]):
        shown = conflicts.believed(ordered)
        assert (shown.node_id, shown.name, shown.state) == (
            fleet.node_id(number),
            name,
            state,
        )


def on_own_disk(of_node: int, state: VmState, generation: int) -> VmView:
    pool_id = fleet.local_pool_id(of_node)
    return of_pool(of_node, state, generation, pool_id=pool_id)


def test_believed_mixes_nothing_of_vms_on_the_disks_of_two_nodes() -> None:
    runs, newer = on_own_disk(2, VmState.UP, 1), on_own_disk(1, VmState.DOWN, 9)
    assert conflicts.believed([runs, newer]) is runs
    assert conflicts.believed([newer, runs]) is runs


@pytest.mark.parametrize("generation", [2, 3])
def test_believed_takes_what_is_wanted_from_where_it_runs(generation: int) -> None:
    manager = of_pool(1, None, 3)
    runner = of_pool(2, VmState.UP, generation, wanted=Wanted.UP)
    for ordered in ([manager, runner], [runner, manager]):
        shown = conflicts.believed(ordered)
        assert (shown.wanted, shown.name) == (Wanted.UP, "g3")
        document = wire.decode(Vm, shown.vm_document)
        assert document.wanted is (Wanted.UP if generation == 3 else Wanted.DOWN)


@pytest.mark.parametrize(
    ("claims", "count"),
    [
        pytest.param([claim(1), claim(2)], 2, id="two-nodes-claim"),
        pytest.param([of_pool(1, None, 1), of_pool(2, VmState.UP)], 1, id="one-runs"),
        pytest.param([of_pool(1, VmState.UP, 1), of_pool(2, VmState.UP)], 2, id="two"),
        pytest.param([of_pool(1, None, 1), of_pool(2, VmState.DOWN)], 0, id="none"),
        pytest.param(
            [on_own_disk(1, VmState.DOWN, 1), on_own_disk(2, VmState.DOWN, 1)],
            2,
            id="two-nodes-have-it-on-their-own-disks",
        ),
    ],
)
def test_rivals_are_claims_that_cannot_be_true_at_once(
    claims: list[VmView], count: int
) -> None:
    assert len(conflicts.rivals(claims)) == count


_CLAIMS = st.lists(
    st.builds(
        claim,
        st.integers(1, 9),
        st.sampled_from([VmState.DOWN, VmState.UP]),
        st.integers(1, 2),
        st.sampled_from([fleet.AT, _EARLY]),
        st.sampled_from([None, _SILENCE]),
    ),
    min_size=1,
    unique_by=lambda each: each.node_id,
)


@given(_CLAIMS, st.randoms(use_true_random=False))
def test_believed_is_the_same_in_any_order(
    claims: list[VmView], random: Random
) -> None:
    shuffled = list(claims)
    random.shuffle(shuffled)
    assert conflicts.believed(shuffled) == conflicts.believed(claims)
