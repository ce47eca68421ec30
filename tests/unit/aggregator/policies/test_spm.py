"""Whom the aggregator elects, by what nodes say."""

from datetime import timedelta
from typing import Any

import pytest

from aggregator.federation import apply
from aggregator.federation.view import NodeState, View
from aggregator.policies import spm
from aggregator.policies.spm import Asked, Clock
from node import clock as clocks
from node.model.ids import NodeId
from node.model.reason import Reason
from node.model.storage import DomainState, Liveness, PoolMark, PoolState
from node.policy.spm import Election, Manner, Move
from tests.fakes import fleet
from tests.unit.aggregator.federation.test_apply import SILENT, hear, view_of

POOL = fleet.pool_id()
ONE, TWO, THREE = (fleet.node_id(number) for number in (1, 2, 3))
MARK = PoolMark(5, 1)
AT = clocks.parse_rfc3339(fleet.AT) + timedelta(hours=1)
NOW = Clock(AT, clocks.rfc3339(AT), 10_000.0)


def pool(
    manager: int | None = 1,
    *,
    holder: int | None = None,
    liveness: Liveness = Liveness.LIVE,
    priorities: dict[int, int] | None = None,
) -> View:
    """Return three nodes of a pool; `holder`: who has the lease by the storage."""
    holder = holder or manager
    view = view_of(1, 2, 3)
    for number in (1, 2, 3):
        members = [
            fleet.member(
                each,
                liveness=liveness if each == holder else Liveness.LIVE,
                priority=(priorities or {}).get(each, 5),
            )
            for each in (1, 2, 3)
        ]
        sight = fleet.pool(
            number,
            holder=holder,
            mark=MARK if number == manager else None,
            members=members,
            lease_version=5,
        )
        view = hear(view, number, sight, fleet.storage_domain(number))
    return view


def hush(view: View, number: int, state: NodeState = NodeState.UNREACHABLE) -> View:
    return apply.set_state(view, fleet.node_id(number), state, SILENT, fleet.AT)


def ill(view: View, number: int, since: str = fleet.AT) -> View:
    domain = fleet.storage_domain(
        number,
        state=DomainState.UNREACHABLE,
        since=since,
        reason=Reason("storage_domain_unreachable", since),
    )
    return hear(view, number, domain)


def decide(view: View, **asked: Any) -> tuple[Move, NodeId | None, bool]:
    choices = spm.choose(view, [POOL], {POOL: Asked(**asked)}, NOW)
    (choice,) = choices
    return choice.decision.move, choice.elects, choice.asks_holder


_STAY = (Move.STAY, None, False)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(pool(1), _STAY, id="well"),
        pytest.param(
            pool(1, priorities={2: 9}), _STAY, id="stays-whatever-priority-says"
        ),
        pytest.param(hush(pool(1), 1, NodeState.SUSPECT), _STAY, id="a-little-silent"),
        pytest.param(
            hush(pool(1), 1, NodeState.CONNECTING), _STAY, id="not-heard-since-we-began"
        ),
        pytest.param(
            pool(None), (Move.ELECT, ONE, False), id="free-lease-lowest-host-id"
        ),
        pytest.param(
            pool(None, priorities={3: 9}), (Move.ELECT, THREE, False), id="by-priority"
        ),
        pytest.param(
            pool(None, priorities={1: -1, 2: -1}),
            (Move.ELECT, THREE, False),
            id="never-is-never",
        ),
        pytest.param(
            pool(None, priorities={1: -1, 2: -1, 3: -1}),
            (Move.NOTHING, None, False),
            id="nobody-may",
        ),
        pytest.param(
            pool(1, priorities={1: -1}), (Move.ELECT, TWO, False), id="manager-is-never"
        ),
        pytest.param(
            hush(pool(1), 1), (Move.ELECT, TWO, True), id="silent-and-live-is-asked"
        ),
        pytest.param(
            hush(pool(1, liveness=Liveness.FAIL), 1),
            (Move.NOTHING, None, False),
            id="silent-and-late-is-waited-for",
        ),
        pytest.param(
            hush(pool(1, liveness=Liveness.DEAD), 1),
            (Move.ELECT, TWO, False),
            id="dead-is-replaced",
        ),
        pytest.param(
            pool(None, holder=3, liveness=Liveness.LIVE),
            (Move.ELECT, THREE, False),
            id="holder-that-does-not-serve-is-elected-again",
        ),
        pytest.param(
            ill(pool(1), 1), (Move.ELECT, TWO, False), id="ill-for-long-hands-over"
        ),
        pytest.param(ill(pool(1), 1, NOW.text), _STAY, id="ill-for-a-moment-stays"),
        pytest.param(
            ill(ill(ill(pool(1), 1), 2), 3), _STAY, id="all-are-ill-nobody-is-better"
        ),
    ],
)
def test_choose_follows_the_table(
    view: View, expected: tuple[Move, NodeId | None, bool]
) -> None:
    assert decide(view) == expected


def test_choose_waits_for_an_election_under_way() -> None:
    election = Election(TWO, NOW.monotonic - 10)
    assert decide(pool(None), election=election) == (Move.NOTHING, None, False)


def test_choose_takes_another_when_an_election_is_late() -> None:
    election = Election(ONE, NOW.monotonic - 61)
    assert decide(pool(None), election=election) == (Move.ELECT, TWO, False)


def test_choose_takes_another_than_who_failed() -> None:
    failed = {ONE: NOW.monotonic - 10}
    assert decide(pool(None), failed_at=failed) == (Move.ELECT, TWO, False)


def test_choose_does_not_elect_who_lacks_a_watchdog() -> None:
    reason = Reason(spm.NO_WATCHDOG, fleet.AT)
    lacking = fleet.pool(1, state=PoolState.UNREACHABLE, reason=reason)
    assert decide(hear(pool(None), 1, lacking)) == (Move.ELECT, TWO, False)


def test_choose_never_decides_between_two_of_one_mark() -> None:
    view = hear(pool(1), 2, fleet.pool(2, mark=MARK))
    assert decide(view) == (Move.NOTHING, None, False)


def test_choose_believes_what_others_read_when_the_manager_is_silent() -> None:
    """The second node took the lease, and has not said yet that it serves."""
    view = hush(pool(1), 1)
    for number in (2, 3):
        view = hear(view, number, fleet.pool(number, holder=2, lease_version=6))
    assert decide(view) == (Move.ELECT, TWO, False)


def test_choose_asks_only_those_that_are_heard_whether_the_holder_lives() -> None:
    view = hush(hush(pool(1), 1), 3)
    dead = fleet.member(1, liveness=Liveness.DEAD)
    sight = fleet.pool(2, holder=1, members=(dead, fleet.member(2)), lease_version=5)
    assert decide(hear(view, 2, sight)) == (Move.ELECT, TWO, False)


def test_choose_leaves_local_pools_alone() -> None:
    view = hear(view_of(1), 1, fleet.pool(1, is_local=True))
    assert spm.choose(view, [POOL], {}, NOW) == ()


def test_choose_hands_over_in_order() -> None:
    (choice,) = spm.choose(pool(1, priorities={1: -1}), [POOL], {}, NOW)
    assert choice.decision.manner is Manner.HAND_OVER
    assert spm.sentence(pool(1), choice) == "pool1: elect n2, spm_node_never"


def test_choose_believes_the_time_of_an_illness_by_our_clock() -> None:
    view = pool(1)
    stats = fleet.stats().node
    # The node's clock is an hour ahead: what began "now" there began an hour ago.
    view = apply.set_stats(view, ONE, stats, {}, 3600.0)
    assert decide(ill(view, 1, NOW.text)) == (Move.ELECT, TWO, False)


def test_reason_calls_the_holder_by_its_name() -> None:
    view = hush(pool(manager=None, holder=1, liveness=Liveness.UNKNOWN), 1)
    (choice,) = spm.choose(view, [POOL], {}, NOW)
    assert choice.decision.reason is not None
    assert choice.decision.reason.code == "spm_holder_may_live"
    assert choice.decision.reason.fields == {"node": view.nodes[ONE].name}


def test_dispute_names_the_pool_and_both_nodes() -> None:
    sight = fleet.pool(2, holder=2, mark=MARK, lease_version=5)
    view = hear(pool(), 2, sight)
    (choice,) = spm.choose(view, [POOL], {}, NOW)
    assert choice.decision.reason is not None
    assert choice.decision.reason.fields == {
        "kind": "pool",
        "id": view.pools[POOL].name,
        "node": view.nodes[ONE].name,
        "other": view.nodes[TWO].name,
    }
