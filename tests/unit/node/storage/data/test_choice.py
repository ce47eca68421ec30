"""Who moves data, when nobody says so."""

from collections.abc import Mapping, Sequence

import pytest

from node.model.ids import NodeId
from node.model.storage import Liveness, PoolMember
from node.storage.data import choice

OWN, TWO, THREE = (NodeId(f"node-{n}") for n in (1, 2, 3))
FULL = choice.NODE_MAX


def members(
    two: Liveness = Liveness.LIVE, silence_s: float = 1.0
) -> tuple[PoolMember, ...]:
    return (
        PoolMember(OWN, 1, Liveness.LIVE),
        PoolMember(TWO, 2, two, silence_s=silence_s),
        PoolMember(THREE, 3, Liveness.LIVE),
    )


@pytest.mark.parametrize(
    ("loads", "tried", "chosen"),
    [
        pytest.param({}, (), None, id="idle"),
        pytest.param({OWN: FULL - 1}, (), None, id="room-for-one"),
        pytest.param({OWN: FULL}, (), TWO, id="manager-full"),
        pytest.param({OWN: FULL, TWO: 1}, (), THREE, id="fewest"),
        pytest.param({OWN: FULL}, (TWO,), THREE, id="tried"),
        pytest.param({OWN: FULL}, (TWO, THREE), None, id="all-tried"),
        pytest.param({OWN: FULL, TWO: FULL, THREE: FULL}, (), None, id="all-full"),
    ],
)
def test_relieving_names_who_has_least_to_do(
    loads: Mapping[NodeId, int], tried: Sequence[str], chosen: NodeId | None
) -> None:
    found = choice.relieving(OWN, members(), loads, tried)
    assert (found.node_id if found is not None else None) == chosen


@pytest.mark.parametrize(
    ("liveness", "silence_s", "is_chosen"),
    [
        pytest.param(Liveness.LIVE, 1.0, True, id="there"),
        pytest.param(Liveness.LIVE, 31.0, False, id="its-agent-is-silent"),
        pytest.param(Liveness.DEAD, 1.0, False, id="dead"),
        pytest.param(Liveness.UNKNOWN, 1.0, False, id="unknown"),
    ],
)
def test_named_is_chosen_only_if_it_would_see_the_order(
    liveness: Liveness, silence_s: float, is_chosen: bool
) -> None:
    found = choice.named(TWO, members(liveness, silence_s), ())
    assert (found is not None) is is_chosen
    assert choice.named(TWO, members(), (TWO,)) is None
    assert choice.named(NodeId("x"), members(), ()) is None
