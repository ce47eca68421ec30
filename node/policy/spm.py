"""Decide which node manages a pool (its SPM).

Pure. The lease on the storage is what keeps two managers apart; this only says
whom to ask. With an aggregator, `decide` is asked over and over with what is
known now. Without one, `nominate` lets nodes come forward by host id, each in
a turn of its own. Times are seconds of a monotonic clock.

What becomes of the holder of the lease:
    serves, is well ......................... stays, whatever load and priority say
    serves, is never/in maintenance/ill ..... hands over, if another node can
    in reach, does not serve ................ the best node is elected
    out of reach, live in the lockspace ..... is asked through the storage
    out of reach, late or not known ......... nothing yet: the lockspace will tell
    dead, or left ........................... the lease is taken
Source: DESIGN section 5, "Election".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from node.model.ids import NodeId, PoolId
from node.model.reason import Reason, Scalar
from node.model.storage import Liveness, PoolMember, SpmPriority


@dataclass(frozen=True, slots=True)
class Timing:
    # Joining a lockspace after a clean stop takes 30 s, the lease and the map 10 s.
    election_s: float = 60.0
    # Longer than an election, so that one that runs is over before the next turn.
    turn_s: float = 90.0
    # Three health checks: one late answer moves nobody.
    illness_s: float = 30.0
    # As long as another node needs to be elected and begin.
    stand_back_s: float = 120.0
    # Before a node that failed to become manager is asked again.
    retry_s: float = 120.0
    # Hosts publish every 10 s; six silences, and the agent there is dead.
    publication_s: float = 60.0


class Move(StrEnum):
    STAY = "stay"
    ELECT = "elect"
    NOTHING = "nothing"  # nothing can be done now; the reason says why


class Manner(StrEnum):
    """How the elected node gets the lease."""

    TAKE = "take"  # it is free, or its holder is dead
    HAND_OVER = "hand_over"  # the holder is in reach and told to leave first
    ASK = "ask"  # the holder is asked through the storage


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the lease, and what the lockspace says of its host."""

    node_id: NodeId
    liveness: Liveness
    is_serving: bool  # it told, lately, that it is manager


@dataclass(frozen=True, slots=True)
class Election:
    """A node that was asked to become manager and has not answered yet."""

    node_id: NodeId
    asked_at: float


@dataclass(frozen=True, slots=True)
class PoolView:
    pool_id: PoolId
    master: str  # name of the master storage domain
    is_local: bool = False
    holder: Holder | None = None
    election: Election | None = None
    # An administrator moved the manager here; cleared once it serves there.
    wanted: NodeId | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    node_id: NodeId
    name: str
    host_id: int | None  # in the master's lockspace; None: not joined
    is_up: bool  # it can be asked
    priority: int = SpmPriority.NORMAL
    is_in_maintenance: bool = False
    has_watchdog: bool = True
    ill_domains: frozenset[str] = frozenset()  # active in the pool, unusable there
    ill_since: float | None = None
    load: float = 0.0  # 0 to 1
    stands_back_until: float | None = None
    failed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Now:
    at: str  # RFC 3339, for the reasons
    monotonic: float


@dataclass(frozen=True, slots=True)
class Verdict:
    node_id: NodeId
    name: str
    is_able: bool
    reasons: tuple[Reason, ...]  # all that speaks against it


@dataclass(frozen=True, slots=True)
class Decision:
    move: Move
    node_id: NodeId | None  # who stays, is elected, or is waited for
    reason: Reason | None  # None: the manager is well
    manner: Manner | None = None  # with ELECT only
    verdicts: tuple[Verdict, ...] = ()  # the best first


@dataclass(frozen=True, slots=True)
class Nomination:
    reason: Reason  # why, or why not
    manner: Manner | None = None  # how to get the lease; None: do not come forward


_LOAD_STEPS: Final = 5  # figures that differ by less than a fifth are the same
_GONE: Final = frozenset({Liveness.FREE, Liveness.DEAD})


def decide(
    view: PoolView,
    candidates: Iterable[Candidate],
    now: Now,
    timing: Timing = Timing(),
) -> Decision:
    """Say what to do about the manager of a pool; asked again, the same."""
    ranked = sorted(candidates, key=lambda each: _rank(each, view, now, timing))
    verdicts = tuple(_judge(each, view, now, timing) for each in ranked)
    able = [
        each for each, verdict in zip(ranked, verdicts, strict=True) if verdict.is_able
    ]
    holder = _holder(view, ranked)
    if _is_under_way(view, ranked, now, timing):
        assert view.election is not None
        decision = Decision(
            Move.NOTHING, view.election.node_id, Reason("spm_election_runs", now.at)
        )
    elif wanted := _wanted(view, able):
        decision = _elect(wanted, view, holder, Reason("spm_moved_by_hand", now.at))
    elif holder is not None and _serves(view):
        decision = _keep_or_move(holder, able, view, now, timing)
    elif able:
        why = "spm_holder_lost" if view.holder else "spm_lease_free"
        decision = _elect(able[0], view, holder, Reason(why, now.at))
    else:
        decision = Decision(Move.NOTHING, None, _why_nobody(view, ranked, now))
    return replace(decision, verdicts=verdicts)


def nominate(
    own: Candidate,
    members: Sequence[PoolMember],
    holder: Holder | None,
    silent_since: float,
    now: Now,
    timing: Timing = Timing(),
) -> Nomination:
    """Say whether this node comes forward, with no aggregator that leads.

    `members` is what all hosts published through the storage, this one too.
    `silent_since`: from when on, as this node saw it, no live host heard a leader,
    no holder served, and the lease did not move. Turns go round by host id, so
    that nobody is left out and, for one `silent_since`, no two nodes come forward
    at once.
    """
    manner = _manner_alone(own, holder)
    if manner is None:
        assert holder is not None
        code = "spm_holder_serves" if holder.is_serving else "spm_holder_may_live"
        return Nomination(Reason(code, now.at, {"node": holder.node_id}))
    fresh = [
        each
        for each in members
        if each.liveness not in _GONE and each.silence_s < timing.publication_s
    ]
    hearing = sorted(each.node_id for each in fresh if each.hears_leader)
    if hearing:
        return Nomination(Reason("spm_leader_heard", now.at, {"node": hearing[0]}))
    against = (
        *_reasons_against(own, None, now, timing),
        *_illness(own, now),
    )
    if against:
        return Nomination(against[0])
    order = sorted(
        {
            (each.host_id, each.node_id)
            for each in fresh
            if each.liveness is Liveness.LIVE and each.priority >= 0
        }
    )
    mine = (own.host_id, own.node_id)
    turn = int(max(now.monotonic - silent_since, 0.0) // timing.turn_s)
    if turn == 0 or not order or order[(turn - 1) % len(order)] != mine:
        return Nomination(Reason("spm_not_my_turn", now.at, {"node": own.name}))
    return Nomination(Reason("spm_nominated", now.at, {"node": own.name}), manner)


def _manner_alone(own: Candidate, holder: Holder | None) -> Manner | None:
    """Say how a node without an aggregator may get the lease; None: it may not."""
    if holder is None or holder.liveness in _GONE:
        return Manner.TAKE
    if holder.is_serving:
        return None
    if holder.node_id == own.node_id:
        return Manner.TAKE
    return Manner.ASK if holder.liveness is Liveness.LIVE else None


def _holder(view: PoolView, candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the holder if it can be asked."""
    if view.holder is None or view.holder.liveness in _GONE:
        return None
    return next(
        (
            each
            for each in candidates
            if each.node_id == view.holder.node_id and each.is_up
        ),
        None,
    )


def _serves(view: PoolView) -> bool:
    return view.holder is not None and view.holder.is_serving


def _is_under_way(
    view: PoolView, candidates: Sequence[Candidate], now: Now, timing: Timing
) -> bool:
    election = view.election
    if election is None or now.monotonic - election.asked_at >= timing.election_s:
        return False
    if _serves(view) and view.holder and view.holder.node_id == election.node_id:
        return False
    return any(each.is_up and each.node_id == election.node_id for each in candidates)


def _wanted(view: PoolView, able: Sequence[Candidate]) -> Candidate | None:
    """Return where an administrator moved the manager, unless others are healthier."""
    if _serves(view) and view.holder and view.holder.node_id == view.wanted:
        return None
    healthiest = min((_ill(each, view) for each in able), default=None)
    return next(
        (
            each
            for each in able
            if each.node_id == view.wanted and _ill(each, view) == healthiest
        ),
        None,
    )


def _keep_or_move(
    holder: Candidate,
    able: Sequence[Candidate],
    view: PoolView,
    now: Now,
    timing: Timing,
) -> Decision:
    """Keep a manager that serves, unless it should go and another node can."""
    others = [each for each in able if each.node_id != holder.node_id]
    if cause := _must_go(holder, view, now):
        if others:
            return _elect(others[0], view, holder, cause)
        reason = Reason("spm_nobody_else", now.at, {"node": holder.name}, cause)
        return Decision(Move.STAY, holder.node_id, reason)
    illness = next(iter(_illness(holder, now)), None)
    better = [each for each in others if _ill(each, view) < _ill(holder, view)]
    since = now.monotonic if holder.ill_since is None else holder.ill_since
    if illness and better and now.monotonic - since >= timing.illness_s:
        return _elect(better[0], view, holder, illness)
    return Decision(Move.STAY, holder.node_id, illness)


def _must_go(holder: Candidate, view: PoolView, now: Now) -> Reason | None:
    if view.is_local:
        return None
    if holder.priority < 0:
        return Reason("spm_node_never", now.at, {"node": holder.name})
    if holder.is_in_maintenance:
        return Reason("spm_node_in_maintenance", now.at, {"node": holder.name})
    return None


def _elect(
    chosen: Candidate, view: PoolView, holder: Candidate | None, reason: Reason
) -> Decision:
    """Say how the chosen node gets the lease, or that the lockspace must tell."""
    lease = view.holder
    if lease is None or lease.liveness in _GONE or lease.node_id == chosen.node_id:
        manner = Manner.TAKE
    elif holder is not None:
        manner = Manner.HAND_OVER
    elif lease.liveness is Liveness.LIVE:
        manner = Manner.ASK
    else:
        late = Reason("spm_holder_may_live", reason.since, {"node": lease.node_id})
        return Decision(Move.NOTHING, chosen.node_id, late)
    return Decision(Move.ELECT, chosen.node_id, reason, manner)


def _judge(each: Candidate, view: PoolView, now: Now, timing: Timing) -> Verdict:
    against = _reasons_against(each, view, now, timing)
    reasons = (*against, *_illness(each, now))
    return Verdict(each.node_id, each.name, not against, reasons)


def _reasons_against(
    each: Candidate, view: PoolView | None, now: Now, timing: Timing
) -> tuple[Reason, ...]:
    """Return what forbids a node; of a local pool, its own node may always."""
    is_local = view is not None and view.is_local
    fields: dict[str, Scalar] = {"node": each.name}
    election = view.election if view is not None else None
    failed_at = each.failed_at
    if election is not None and election.node_id == each.node_id:
        # An election that is late has failed, whatever the node says of it later.
        failed_at = max(failed_at or 0.0, election.asked_at + timing.election_s)
    has_failed = (
        failed_at is not None and 0 <= now.monotonic - failed_at < timing.retry_s
    )
    stands_back = (
        each.stands_back_until is not None and now.monotonic < each.stands_back_until
    )
    table = (
        ("spm_node_not_up", not each.is_up),
        ("spm_node_never", each.priority < 0 and not is_local),
        ("spm_node_in_maintenance", each.is_in_maintenance and not is_local),
        ("spm_node_not_joined", each.host_id is None and not is_local),
        ("spm_node_lacks_watchdog", not each.has_watchdog and not is_local),
        ("spm_node_lacks_master", view is not None and view.master in each.ill_domains),
        ("spm_node_stands_back", stands_back and not is_local),
        ("spm_node_failed", has_failed),
    )
    return tuple(Reason(code, now.at, fields) for code, applies in table if applies)


def _illness(each: Candidate, now: Now) -> tuple[Reason, ...]:
    if not each.ill_domains:
        return ()
    names = ", ".join(sorted(each.ill_domains))
    fields: dict[str, Scalar] = {"node": each.name, "storage_domains": names}
    return (Reason("spm_node_lacks_domains", now.at, fields),)


def _ill(each: Candidate, view: PoolView) -> tuple[bool, int]:
    """Return how ill a node is: the master counts more than all others."""
    return view.master in each.ill_domains, len(each.ill_domains)


def _rank(
    each: Candidate, view: PoolView, now: Now, timing: Timing
) -> tuple[bool, tuple[bool, int], int, bool, int, int, str]:
    is_holder = view.holder is not None and view.holder.node_id == each.node_id
    return (
        bool(_reasons_against(each, view, now, timing)),
        _ill(each, view),
        -each.priority,
        not is_holder,
        int(each.load * _LOAD_STEPS),
        each.host_id or 0,
        each.node_id,
    )


def _why_nobody(view: PoolView, candidates: Sequence[Candidate], now: Now) -> Reason:
    asked = [each for each in candidates if each.is_up]
    if asked and all(view.master in each.ill_domains for each in asked):
        return Reason("spm_master_lost", now.at, {"storage_domain": view.master})
    return Reason("spm_no_candidate", now.at, {"count": len(candidates)})
