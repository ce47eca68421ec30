"""Who manages a pool: tables of cases, and what must hold in all of them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.model.ids import NodeId, PoolId
from node.model.messages import MESSAGES
from node.model.reason import chain
from node.model.storage import Liveness, PoolMember, SpmPriority
from node.policy import spm
from node.policy.spm import (
    Candidate,
    Decision,
    Election,
    Holder,
    Manner,
    Move,
    Now,
    PoolView,
    Timing,
)

AT = "2026-11-22T08:00:00.000Z"
NOW = Now(AT, 1000.0)
TIMING = Timing()
A, B, C = (NodeId(name) for name in "abc")
NODES = (A, B, C)


def candidate(node_id: NodeId, **changes: Any) -> Candidate:
    settings: dict[str, Any] = {
        "node_id": node_id,
        "name": node_id.upper(),
        "host_id": NODES.index(node_id) + 1,
        "is_up": True,
    }
    return Candidate(**{**settings, **changes})


def view(**changes: Any) -> PoolView:
    return PoolView(**{"pool_id": PoolId("p"), "master": "m", **changes})


def holder(
    node_id: NodeId = A, liveness: Liveness = Liveness.LIVE, is_serving: bool = True
) -> Holder:
    return Holder(node_id, liveness, is_serving)


def ill(*names: str, since: float = 0.0) -> dict[str, Any]:
    return {"ill_domains": frozenset(names), "ill_since": since}


def outcome(decision: Decision) -> tuple[Move, NodeId | None, Manner | None, str]:
    code = decision.reason.code if decision.reason else ""
    return decision.move, decision.node_id, decision.manner, code


def stay(node_id: NodeId, code: str = "") -> tuple[Move, NodeId, None, str]:
    return Move.STAY, node_id, None, code


def elect(
    node_id: NodeId, code: str, manner: Manner = Manner.TAKE
) -> tuple[Move, NodeId, Manner, str]:
    return Move.ELECT, node_id, manner, code


def nothing(
    code: str, node_id: NodeId | None = None
) -> tuple[Move, NodeId | None, None, str]:
    return Move.NOTHING, node_id, None, code


HIGH = {"priority": SpmPriority.HIGH}
NEVER = {"priority": SpmPriority.NEVER}

# name: view, changes of a, b and c, what is decided
CASES: dict[str, tuple[PoolView, dict[NodeId, dict[str, Any]], Any]] = {
    "nobody-yet": (view(), {}, elect(A, "spm_lease_free")),
    "priority-decides": (view(), {B: HIGH}, elect(B, "spm_lease_free")),
    "load-decides-among-equals": (
        view(),
        {A: {"load": 0.9}, B: {"load": 0.5}, C: {"load": 0.1}},
        elect(C, "spm_lease_free"),
    ),
    "load-is-compared-coarsely": (
        view(),
        {A: {"load": 0.19}, B: {"load": 0.01}},
        elect(A, "spm_lease_free"),
    ),
    "priority-beats-load": (
        view(),
        {B: {**HIGH, "load": 1.0}},
        elect(B, "spm_lease_free"),
    ),
    "health-beats-priority": (
        view(),
        {A: {**HIGH, **ill("d")}, C: NEVER},
        elect(B, "spm_lease_free"),
    ),
    "ill-is-better-than-none": (
        view(),
        {A: ill("d", "e"), B: ill("d"), C: NEVER},
        elect(B, "spm_lease_free"),
    ),
    "never-is-not-elected": (
        view(),
        {A: NEVER, B: NEVER, C: NEVER},
        nothing("spm_no_candidate"),
    ),
    "down-is-not-elected": (
        view(),
        {A: {"is_up": False}},
        elect(B, "spm_lease_free"),
    ),
    "maintenance-is-not-elected": (
        view(),
        {A: {"is_in_maintenance": True}},
        elect(B, "spm_lease_free"),
    ),
    "not-joined-is-not-elected": (
        view(),
        {A: {"host_id": None}},
        elect(B, "spm_lease_free"),
    ),
    "no-watchdog-is-not-elected": (
        view(),
        {A: {"has_watchdog": False}},
        elect(B, "spm_lease_free"),
    ),
    "without-master-is-not-elected": (
        view(),
        {A: ill("m")},
        elect(B, "spm_lease_free"),
    ),
    "stands-back": (
        view(),
        {A: {"stands_back_until": NOW.monotonic + 1}},
        elect(B, "spm_lease_free"),
    ),
    "stood-back": (
        view(),
        {A: {"stands_back_until": NOW.monotonic}},
        elect(A, "spm_lease_free"),
    ),
    "failed-lately": (
        view(),
        {A: {"failed_at": NOW.monotonic - TIMING.retry_s + 1}},
        elect(B, "spm_lease_free"),
    ),
    "failed-long-ago": (
        view(),
        {A: {"failed_at": NOW.monotonic - TIMING.retry_s}},
        elect(A, "spm_lease_free"),
    ),
    "master-lost": (
        view(),
        {A: ill("m"), B: ill("m"), C: {"is_up": False}},
        nothing("spm_master_lost"),
    ),
    "serves-and-is-well": (view(holder=holder(B)), {A: HIGH}, stay(B)),
    "serves-under-load": (view(holder=holder(B)), {B: {"load": 1.0}}, stay(B)),
    "serves-but-never": (
        view(holder=holder(A)),
        {A: NEVER},
        elect(B, "spm_node_never", Manner.HAND_OVER),
    ),
    "serves-in-maintenance": (
        view(holder=holder(A)),
        {A: {"is_in_maintenance": True}},
        elect(B, "spm_node_in_maintenance", Manner.HAND_OVER),
    ),
    "never-but-nobody-else": (
        view(holder=holder(A)),
        {A: NEVER, B: NEVER, C: {"is_up": False}},
        stay(A, "spm_nobody_else"),
    ),
    "ill-for-long": (
        view(holder=holder(A)),
        {A: ill("d", since=NOW.monotonic - TIMING.illness_s)},
        elect(B, "spm_node_lacks_domains", Manner.HAND_OVER),
    ),
    "ill-for-a-moment": (
        view(holder=holder(A)),
        {A: ill("d", since=NOW.monotonic - TIMING.illness_s + 1)},
        stay(A, "spm_node_lacks_domains"),
    ),
    "others-are-as-ill": (
        view(holder=holder(A)),
        {A: ill("d"), B: ill("e"), C: ill("d")},
        stay(A, "spm_node_lacks_domains"),
    ),
    "without-master-counts-most": (
        view(holder=holder(A)),
        {A: ill("m"), B: ill("d", "e"), C: NEVER},
        elect(B, "spm_node_lacks_domains", Manner.HAND_OVER),
    ),
    "moved-by-hand": (
        view(holder=holder(A), wanted=C),
        {A: HIGH},
        elect(C, "spm_moved_by_hand", Manner.HAND_OVER),
    ),
    "moved-by-hand-and-there": (view(holder=holder(C), wanted=C), {}, stay(C)),
    "moved-by-hand-to-never": (view(holder=holder(A), wanted=C), {C: NEVER}, stay(A)),
    "moved-by-hand-to-ill": (view(holder=holder(A), wanted=C), {C: ill("d")}, stay(A)),
    "moved-by-hand-with-no-holder": (
        view(wanted=C),
        {A: HIGH},
        elect(C, "spm_moved_by_hand"),
    ),
    "in-reach-but-idle": (
        view(holder=holder(B, is_serving=False)),
        {},
        elect(B, "spm_holder_lost"),
    ),
    "in-reach-idle-and-unable": (
        view(holder=holder(B, is_serving=False)),
        {B: NEVER},
        elect(A, "spm_holder_lost", Manner.HAND_OVER),
    ),
    "out-of-reach-alive": (
        view(holder=holder(A)),
        {A: {"is_up": False}},
        elect(B, "spm_holder_lost", Manner.ASK),
    ),
    "out-of-reach-late": (
        view(holder=holder(A, Liveness.FAIL)),
        {A: {"is_up": False}},
        nothing("spm_holder_may_live", B),
    ),
    "out-of-reach-unknown": (
        view(holder=holder(A, Liveness.UNKNOWN)),
        {A: {"is_up": False}},
        nothing("spm_holder_may_live", B),
    ),
    "dead": (
        view(holder=holder(A, Liveness.DEAD)),
        {A: {"is_up": False}},
        elect(B, "spm_holder_lost"),
    ),
    "holder-of-no-member": (
        view(holder=holder(NodeId("z"))),
        {},
        elect(A, "spm_holder_lost", Manner.ASK),
    ),
    "left": (
        view(holder=holder(A, Liveness.FREE, False)),
        {},
        elect(A, "spm_holder_lost"),
    ),
    "election-runs": (
        view(election=Election(C, NOW.monotonic - TIMING.election_s + 1)),
        {},
        nothing("spm_election_runs", C),
    ),
    "election-is-late": (
        view(election=Election(A, NOW.monotonic - TIMING.election_s)),
        {},
        elect(B, "spm_lease_free"),
    ),
    "elected-node-went-down": (
        view(election=Election(A, NOW.monotonic)),
        {A: {"is_up": False}},
        elect(B, "spm_lease_free"),
    ),
    "elected-node-serves": (
        view(holder=holder(C), election=Election(C, NOW.monotonic)),
        {},
        stay(C),
    ),
    "local-pool": (view(is_local=True, holder=holder(A)), {A: NEVER}, stay(A)),
}


@pytest.mark.parametrize(
    ("of_pool", "changes", "expected"),
    [pytest.param(*case, id=name) for name, case in CASES.items()],
)
def test_decide_says(
    of_pool: PoolView, changes: dict[NodeId, dict[str, Any]], expected: Any
) -> None:
    candidates = [candidate(each, **changes.get(each, {})) for each in NODES]
    assert outcome(spm.decide(of_pool, candidates, NOW)) == expected


def test_decide_elects_the_only_node_of_a_local_pool_whatever_it_lacks() -> None:
    own = candidate(
        A,
        priority=SpmPriority.NEVER,
        host_id=None,
        has_watchdog=False,
        is_in_maintenance=True,
    )
    decision = spm.decide(view(is_local=True), [own], NOW)
    assert outcome(decision) == elect(A, "spm_lease_free")


def test_decide_tells_of_every_node_all_that_speaks_against_it() -> None:
    candidates = [
        candidate(A, is_up=False, priority=SpmPriority.NEVER),
        candidate(B, **ill("d", "e")),
        candidate(C),
    ]
    decision = spm.decide(view(), candidates, NOW)
    assert [
        (each.node_id, each.is_able, [reason.code for reason in each.reasons])
        for each in decision.verdicts
    ] == [
        (C, True, []),
        (B, True, ["spm_node_lacks_domains"]),
        (A, False, ["spm_node_not_up", "spm_node_never"]),
    ]
    assert decision.verdicts[1].reasons[0].fields["storage_domains"] == "d, e"


def test_decide_says_nothing_when_there_are_no_nodes() -> None:
    assert outcome(spm.decide(view(), [], NOW)) == nothing("spm_no_candidate")


_times = some.floats(0, 2000)
_rare_times = some.sampled_from([None, None, None, 0.0, 990.0, 1010.0])
_mostly = some.sampled_from([True, True, True, False])
_domains = some.sampled_from(
    [frozenset[str](), frozenset[str](), *map(frozenset, ("m", "d", "e", "de"))]
)


def _candidates_at(node_id: NodeId) -> some.SearchStrategy[Candidate]:
    return some.builds(
        candidate,
        some.just(node_id),
        is_up=_mostly,
        priority=some.integers(-1, 10),
        is_in_maintenance=_mostly.map(lambda each: not each),
        has_watchdog=_mostly,
        ill_domains=_domains,
        ill_since=_rare_times,
        load=some.floats(0, 1),
        stands_back_until=_rare_times,
        failed_at=_rare_times,
    )


_candidates = some.tuples(*map(_candidates_at, NODES)).map(list)
_holders = some.builds(
    Holder, some.sampled_from(NODES), some.sampled_from(Liveness), some.booleans()
)
_views = some.builds(
    view,
    holder=some.none() | _holders,
    wanted=some.none() | some.sampled_from(NODES),
)
_elections = some.builds(Election, some.sampled_from(NODES), _times)
# with an election that runs or is late, and without
pools = some.tuples(_views, _candidates)
shared_pools = pools | some.tuples(
    some.builds(
        lambda of_pool, each: replace(of_pool, election=each), _views, _elections
    ),
    _candidates,
)


@given(pool=shared_pools, data=some.data())
def test_decide_says_the_same_again_whatever_the_order(
    pool: tuple[PoolView, list[Candidate]], data: some.DataObject
) -> None:
    of_pool, candidates = pool
    shuffled = data.draw(some.permutations(candidates))
    first = spm.decide(of_pool, candidates, NOW)
    assert spm.decide(of_pool, shuffled, NOW) == first


@given(pool=pools)
def test_decide_elects_only_nodes_that_are_able(
    pool: tuple[PoolView, list[Candidate]],
) -> None:
    of_pool, candidates = pool
    decision = spm.decide(of_pool, candidates, NOW)
    if decision.move is not Move.ELECT:
        return
    chosen = next(each for each in candidates if each.node_id == decision.node_id)
    assert chosen.is_up
    assert chosen.priority >= 0
    assert not chosen.is_in_maintenance
    assert chosen.has_watchdog
    assert of_pool.master not in chosen.ill_domains


@given(pool=shared_pools, loads=some.lists(some.floats(0, 1), min_size=3, max_size=3))
def test_decide_moves_no_serving_manager_for_load(
    pool: tuple[PoolView, list[Candidate]], loads: list[float]
) -> None:
    of_pool, candidates = pool
    before = spm.decide(of_pool, candidates, NOW)
    if before.move is not Move.STAY:
        return
    loaded = [
        replace(each, load=load) for each, load in zip(candidates, loads, strict=False)
    ]
    after = spm.decide(of_pool, loaded, NOW)
    assert (after.move, after.node_id) == (before.move, before.node_id)


@given(pool=pools, later_s=some.floats(0, TIMING.election_s - 1), data=some.data())
def test_decide_elects_nobody_else_while_an_election_runs(
    pool: tuple[PoolView, list[Candidate]], later_s: float, data: some.DataObject
) -> None:
    of_pool, candidates = pool
    first = spm.decide(of_pool, candidates, NOW)
    if first.move is not Move.ELECT or first.node_id is None:
        return
    asked = replace(of_pool, election=Election(first.node_id, NOW.monotonic))
    changed = [
        replace(
            each,
            load=data.draw(some.floats(0, 1)),
            priority=data.draw(some.integers(-1, 10)),
        )
        for each in candidates
    ]
    again = spm.decide(asked, changed, Now(AT, NOW.monotonic + later_s))
    assert outcome(again) == nothing("spm_election_runs", first.node_id)


@given(pool=pools)
def test_decide_keeps_whom_it_elected(
    pool: tuple[PoolView, list[Candidate]],
) -> None:
    of_pool, candidates = pool
    first = spm.decide(of_pool, candidates, NOW)
    if first.move is not Move.ELECT or first.node_id is None:
        return
    served = replace(
        of_pool,
        holder=holder(first.node_id),
        election=Election(first.node_id, NOW.monotonic),
        wanted=None,
    )
    again = spm.decide(served, candidates, NOW)
    assert (again.move, again.node_id) == (Move.STAY, first.node_id)


@given(pool=pools)
def test_decide_takes_no_lease_whose_holder_may_live(
    pool: tuple[PoolView, list[Candidate]],
) -> None:
    of_pool, candidates = pool
    decision = spm.decide(of_pool, candidates, NOW)
    if decision.manner is not Manner.TAKE or of_pool.holder is None:
        return
    assert (
        of_pool.holder.liveness in (Liveness.DEAD, Liveness.FREE)
        or of_pool.holder.node_id == decision.node_id
    )


@given(pool=shared_pools)
def test_decide_gives_reasons_that_have_a_text(
    pool: tuple[PoolView, list[Candidate]],
) -> None:
    decision = spm.decide(*pool, NOW)
    told = [
        decision.reason,
        *(why for each in decision.verdicts for why in each.reasons),
    ]
    assert {each.code for reason in told for each in chain(reason)} <= MESSAGES.keys()


# without an aggregator


def member(node_id: NodeId, **changes: Any) -> PoolMember:
    settings: dict[str, Any] = {
        "node_id": node_id,
        "host_id": NODES.index(node_id) + 1,
        "liveness": Liveness.LIVE,
    }
    return PoolMember(**{**settings, **changes})


def turn(number: int) -> Now:
    """Return a moment in the turn of a number; the silence began at 0."""
    return Now(AT, TIMING.turn_s * (number + 0.5))


ALL = tuple(member(each) for each in NODES)
TAKEN = ("spm_nominated", Manner.TAKE)

# name: who asks, what is published, the lease's holder, whose turn, what is said
NOMINATIONS: dict[
    str, tuple[Candidate, tuple[PoolMember, ...], Holder | None, int, Any]
] = {
    "too-early": (candidate(A), ALL, None, 0, ("spm_not_my_turn", None)),
    "first-turn": (candidate(A), ALL, None, 1, TAKEN),
    "not-its-turn": (candidate(B), ALL, None, 1, ("spm_not_my_turn", None)),
    "second-turn": (candidate(B), ALL, None, 2, TAKEN),
    "turns-go-round": (candidate(A), ALL, None, 4, TAKEN),
    "dead-hosts-have-no-turn": (
        candidate(B),
        (member(A, liveness=Liveness.DEAD), *ALL[1:]),
        None,
        1,
        TAKEN,
    ),
    "hosts-that-are-never-have-no-turn": (
        candidate(B),
        (member(A, priority=-1), *ALL[1:]),
        None,
        1,
        TAKEN,
    ),
    "silent-hosts-have-no-turn": (
        candidate(B),
        (member(A, silence_s=TIMING.publication_s), *ALL[1:]),
        None,
        1,
        TAKEN,
    ),
    "somebody-hears-a-leader": (
        candidate(A),
        (*ALL[:2], member(C, hears_leader=True)),
        None,
        1,
        ("spm_leader_heard", None),
    ),
    "a-late-host-hears-a-leader": (
        candidate(A),
        (*ALL[:2], member(C, hears_leader=True, liveness=Liveness.FAIL)),
        None,
        1,
        ("spm_leader_heard", None),
    ),
    "a-dead-host-heard-a-leader": (
        candidate(A),
        (*ALL[:2], member(C, hears_leader=True, liveness=Liveness.DEAD)),
        None,
        1,
        TAKEN,
    ),
    "a-dead-agent-heard-a-leader": (
        candidate(A),
        (*ALL[:2], member(C, hears_leader=True, silence_s=TIMING.publication_s)),
        None,
        1,
        TAKEN,
    ),
    "the-holder-serves": (
        candidate(A),
        ALL,
        holder(B),
        1,
        ("spm_holder_serves", None),
    ),
    "the-holder-lives-and-is-silent": (
        candidate(A),
        ALL,
        holder(B, is_serving=False),
        1,
        ("spm_nominated", Manner.ASK),
    ),
    "the-holder-is-late": (
        candidate(A),
        ALL,
        holder(B, Liveness.FAIL, is_serving=False),
        1,
        ("spm_holder_may_live", None),
    ),
    "the-holder-is-dead": (candidate(A), ALL, holder(B, Liveness.DEAD), 1, TAKEN),
    "the-holder-is-itself": (
        candidate(A),
        ALL,
        holder(A, is_serving=False),
        1,
        TAKEN,
    ),
    "never": (
        candidate(A, **NEVER),
        ALL,
        None,
        1,
        ("spm_node_never", None),
    ),
    "ill": (candidate(A, **ill("d")), ALL, None, 1, ("spm_node_lacks_domains", None)),
    "stands-back": (
        candidate(A, stands_back_until=1e9),
        ALL,
        None,
        1,
        ("spm_node_stands_back", None),
    ),
    "alone-and-unseen": (candidate(A), (), None, 1, ("spm_not_my_turn", None)),
}


@pytest.mark.parametrize(
    ("own", "members", "of_lease", "number", "expected"),
    [pytest.param(*case, id=name) for name, case in NOMINATIONS.items()],
)
def test_nominate_says(
    own: Candidate,
    members: tuple[PoolMember, ...],
    of_lease: Holder | None,
    number: int,
    expected: Any,
) -> None:
    said = spm.nominate(own, members, of_lease, 0.0, turn(number))
    assert (said.reason.code, said.manner) == expected


def test_turns_are_longer_than_an_election() -> None:
    assert TIMING.turn_s > TIMING.election_s


_members = some.tuples(
    *(
        some.builds(
            member,
            some.just(each),
            liveness=some.sampled_from(Liveness),
            priority=some.integers(-1, 10),
            hears_leader=some.sampled_from([False, False, True]),
            silence_s=some.floats(0, 100),
        )
        for each in NODES
    )
)


@given(members=_members, after_s=some.floats(0, 5000))
def test_nominate_never_calls_two_nodes_at_once(
    members: tuple[PoolMember, ...], after_s: float
) -> None:
    said = [
        spm.nominate(candidate(each), members, None, 0.0, Now(AT, after_s))
        for each in NODES
    ]
    assert sum(each.manner is not None for each in said) <= 1


@given(members=_members)
def test_nominate_calls_every_live_node_in_time(
    members: tuple[PoolMember, ...],
) -> None:
    quiet = [replace(each, hears_leader=False) for each in members]
    called = {
        each
        for each in NODES
        for number in range(1, len(NODES) + 1)
        if spm.nominate(candidate(each), quiet, None, 0.0, turn(number)).manner
    }
    assert called == {
        each.node_id
        for each in quiet
        if each.liveness is Liveness.LIVE
        and each.priority >= 0
        and each.silence_s < TIMING.publication_s
    }


@given(members=_members, after_s=some.floats(0, 5000))
def test_nominate_calls_nobody_while_a_live_host_hears_a_leader(
    members: tuple[PoolMember, ...], after_s: float
) -> None:
    heard = (replace(ALL[0], hears_leader=True), *members[1:])
    for each in NODES:
        said = spm.nominate(candidate(each), heard, None, 0.0, Now(AT, after_s))
        assert said.manner is None
