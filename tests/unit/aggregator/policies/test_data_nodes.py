"""Who moves a disk's data."""

from collections.abc import Sequence

import pytest

from aggregator.federation.view import NodeState
from aggregator.policies.data_nodes import Move, choose
from node.model.ids import NodeId
from tests.fakes import fleet
from tests.unit.aggregator.federation.test_apply import hear
from tests.unit.aggregator.policies.test_spm import (
    ONE,
    POOL,
    THREE,
    TWO,
    hush,
    ill,
    pool,
)


@pytest.mark.parametrize(
    ("moves", "chosen"),
    [
        pytest.param((), None, id="nothing-to-do"),
        pytest.param((Move(ONE, None),), TWO, id="manager-works"),
        pytest.param((Move(ONE, TWO),), None, id="other-works"),
        pytest.param((Move(ONE, None), Move(ONE, TWO)), THREE, id="two-work"),
        pytest.param(
            (Move(ONE, None), Move(ONE, TWO), Move(ONE, THREE)), None, id="all-work"
        ),
    ],
)
def test_choose_takes_who_has_least_to_move(
    moves: Sequence[Move], chosen: NodeId | None
) -> None:
    assert choose(pool(), POOL, ONE, moves) == chosen


@pytest.mark.parametrize("state", [NodeState.UNREACHABLE, NodeState.SUSPECT])
def test_choose_passes_over_who_is_not_heard(state: NodeState) -> None:
    view = hush(pool(), 2, state)
    assert choose(view, POOL, ONE, [Move(ONE, None)]) == THREE


def test_choose_passes_over_who_does_not_reach_a_storage_domain() -> None:
    assert choose(ill(pool(), 2), POOL, ONE, [Move(ONE, None)]) == THREE


def test_choose_passes_over_who_has_not_joined() -> None:
    joining = fleet.pool(2, holder=1, members=(1, 3))
    assert choose(hear(pool(), 2, joining), POOL, ONE, [Move(ONE, None)]) == THREE


def test_choose_knows_no_other_pool() -> None:
    assert choose(pool(), fleet.pool_id(9), ONE, [Move(ONE, None)]) is None
