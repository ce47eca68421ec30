"""How many nodes may tell everything at a time."""

from hypothesis import given
from hypothesis import strategies as st

from aggregator.federation import slots
from aggregator.federation.slots import Slots
from node.model.ids import NodeId
from tests.fakes import fleet

ONE, TWO, THREE = fleet.node_id(1), fleet.node_id(2), fleet.node_id(3)


def granted(*node_ids: str, maximum: int = 2) -> Slots:
    found = Slots(maximum=maximum)
    for node_id in node_ids:
        after = slots.grant(found, NodeId(node_id), 0.0)
        assert after is not None
        found = after
    return found


def test_grant_refuses_when_all_are_taken() -> None:
    assert slots.grant(granted(ONE, TWO), THREE, 1.0) is None


def test_grant_lets_a_holder_go_on() -> None:
    assert slots.grant(granted(ONE, TWO), ONE, 1.0) is not None


def test_grant_gives_a_slot_that_was_released() -> None:
    free = slots.release(granted(ONE, TWO), ONE)
    assert slots.grant(free, THREE, 1.0) is not None


def test_grant_gives_a_slot_whose_time_is_over() -> None:
    assert slots.grant(granted(ONE, TWO), THREE, slots.LEASE_S) is not None


def test_release_passes_over_who_holds_none() -> None:
    assert slots.release(granted(ONE), TWO) == granted(ONE)


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 40), st.booleans())))
def test_grant_never_gives_more_than_there_are(
    steps: list[tuple[int, float, bool]],
) -> None:
    found, now = Slots(maximum=3), 0.0
    for number, gap, is_release in steps:
        now += gap
        node_id = fleet.node_id(number)
        if is_release:
            found = slots.release(found, node_id)
        else:
            found = slots.grant(found, node_id, now) or found
        assert len(found.until) <= 3
