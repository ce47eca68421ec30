"""Elect the managers (SPM) of the fleet's pools: the View → what to do.

Pure: `node.policy.spm` decides, this says what the View knows of each node. Elections
under way and ended are those that were ordered; nothing else is remembered. Times
that nodes tell are corrected by how far their clocks are ahead of ours.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from aggregator.federation.view import (
    DomainSight,
    NodeState,
    NodeView,
    PoolRow,
    PoolSight,
    View,
)
from node.model.ids import NodeId, PoolId, StorageDomainId
from node.model.reason import Reason, Scalar
from node.model.storage import DomainState, Liveness, PoolState
from node.policy import spm
from node.policy.spm import Candidate, Decision, Election, Holder, Manner, Move, Now

NO_WATCHDOG: Final = "pool_lacks_watchdog"
# Silent since we began, or for a few seconds: no reason yet to doubt what it said.
_TRUSTED: Final = frozenset({NodeState.UP, NodeState.SUSPECT, NodeState.CONNECTING})


@dataclass(frozen=True, slots=True)
class Asked:
    """What was ordered of a pool's nodes lately."""

    election: Election | None = None  # has not ended
    failed_at: Mapping[NodeId, float] = field(default_factory=dict)
    stands_back_until: Mapping[NodeId, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clock:
    """One moment, as both kinds of clocks tell it."""

    at: datetime
    text: str  # the same, RFC 3339
    monotonic: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do about one pool; `elects` None: nothing."""

    pool_id: PoolId
    name: str
    decision: Decision
    elects: NodeId | None = None
    asks_holder: bool = False


def choose(
    view: View,
    pool_ids: Iterable[PoolId],
    asked: Mapping[PoolId, Asked],
    clock: Clock,
) -> tuple[Choice, ...]:
    """Return what to do about the managers of these pools."""
    return tuple(
        _choose(view, view.pools[pool_id], asked.get(pool_id, Asked()), clock)
        for pool_id in pool_ids
        if pool_id in view.pools and not view.pools[pool_id].is_local
    )


def sentence(view: View, choice: Choice) -> str:
    """Return what was decided, for the log."""
    node_id, reason = choice.decision.node_id, choice.decision.reason
    node = view.nodes.get(node_id) if node_id is not None else None
    whom = node.name if node is not None else "nobody"
    why = f", {reason.code}" if reason is not None else ""
    return f"{choice.name}: {choice.decision.move} {whom}{why}"


def _choose(view: View, pool: PoolRow, asked: Asked, clock: Clock) -> Choice:
    if pool.is_disputed:
        reason = Reason("documents_conflict", clock.text, _claims(view, pool))
        return Choice(
            pool.pool_id, pool.name, Decision(Move.NOTHING, pool.manager, reason)
        )
    master = view.storage_domains.get(pool.master) if pool.master is not None else None
    pool_view = spm.PoolView(
        pool.pool_id,
        master.name if master is not None else pool.master or "",
        pool.is_local,
        _holder(view, pool),
        asked.election,
    )
    candidates = [
        _candidate(view, pool, view.nodes[node_id], sight, asked, clock)
        for node_id, sight in pool.sights.items()
    ]
    decision = spm.decide(pool_view, candidates, Now(clock.text, clock.monotonic))
    decision = replace(decision, reason=_with_names(view, decision.reason))
    elects = decision.node_id if decision.move is Move.ELECT else None
    asks = decision.manner is Manner.ASK
    return Choice(pool.pool_id, pool.name, decision, elects, asks)


def _claims(view: View, pool: PoolRow) -> dict[str, Scalar]:
    """Return what tells of a pool that several nodes say they manage."""
    who = [each.node_id for each in pool.sights.values() if each.mark == pool.mark]
    first, *others = sorted(_name(view, each) for each in who)
    return {
        "kind": "pool",
        "id": pool.name,
        "node": first,
        "other": ", ".join(others),
    }


def _with_names(view: View, reason: Reason | None) -> Reason | None:
    """Return a reason that calls nodes by their names: a lease knows ids only."""
    if reason is None or "node" not in reason.fields:
        return reason
    name = _name(view, NodeId(str(reason.fields["node"])))
    return replace(reason, fields={**reason.fields, "node": name})


def _name(view: View, node_id: NodeId) -> str:
    node = view.nodes.get(node_id)
    return node.name if node is not None else node_id


def _holder(view: View, pool: PoolRow) -> Holder | None:
    """Return who has the lease: who says so itself, else what others read of it."""
    serving = pool.sights.get(pool.manager) if pool.manager is not None else None
    if serving is not None and view.nodes[serving.node_id].state in _TRUSTED:
        return Holder(serving.node_id, _liveness(pool, serving.node_id), True)
    readers = [
        each
        for each in pool.sights.values()
        if not each.is_silent
        and each.host_id is not None
        and each.state is not PoolState.UNREACHABLE
    ]
    holding = [each for each in readers if each.holder is not None]
    last = max(holding, key=_freshness, default=None)
    if last is not None and last.holder is not None:
        return Holder(last.holder, _liveness(pool, last.holder), False)
    if readers or serving is None:
        return None  # they read that the lease is free
    return Holder(serving.node_id, Liveness.UNKNOWN, False)


def _liveness(pool: PoolRow, holder: NodeId) -> Liveness:
    """Return what the lockspace tells a node that is heard of the holder's host."""
    told = [
        each
        for each in pool.sights.values()
        if each.holder == holder and each.node_id != holder and not each.is_silent
    ]
    last = max(told, key=_freshness, default=None)
    return Liveness.UNKNOWN if last is None else last.holder_liveness


def _freshness(sight: PoolSight) -> tuple[int, str]:
    return sight.lease_version, sight.node_id


def _candidate(
    view: View,
    pool: PoolRow,
    node: NodeView,
    sight: PoolSight,
    asked: Asked,
    clock: Clock,
) -> Candidate:
    ill = ill_domains(view, pool, node.node_id)
    is_manager = node.node_id == pool.manager
    is_up = node.state in _TRUSTED if is_manager else node.state is NodeState.UP
    code = None if sight.reason is None else sight.reason.code
    since = [_monotonic(each.since, node, clock) for each in ill.values() if each]
    return Candidate(
        node.node_id,
        node.name,
        sight.host_id,
        is_up,
        sight.priority,
        has_watchdog=code != NO_WATCHDOG,
        ill_domains=frozenset(ill),
        ill_since=min(since) if since else clock.monotonic if ill else None,
        load=node.stats.cpu_percent / 100 if node.stats is not None else 0.0,
        stands_back_until=asked.stands_back_until.get(node.node_id),
        failed_at=asked.failed_at.get(node.node_id),
    )


def ill_domains(
    view: View, pool: PoolRow, node_id: NodeId
) -> dict[str, DomainSight | None]:
    """Return the storage domains that a node cannot use and should, by name."""
    found: dict[str, DomainSight | None] = {}
    for each in pool.domains:
        if each.state is DomainState.ACTIVE:
            sight = _sight(view, each.storage_domain_id, node_id)
            if sight is None or sight.state is DomainState.UNREACHABLE:
                row = view.storage_domains.get(each.storage_domain_id)
                found[row.name if row is not None else each.storage_domain_id] = sight
    return found


def _sight(
    view: View, storage_domain_id: StorageDomainId, node_id: NodeId
) -> DomainSight | None:
    row = view.storage_domains.get(storage_domain_id)
    return None if row is None else row.sights.get(node_id)


def _monotonic(since: str, node: NodeView, clock: Clock) -> float:
    """Return a time that a node told as one of our monotonic clock."""
    try:
        told = datetime.fromisoformat(since.replace("Z", "+00:00"))
    except ValueError:
        return clock.monotonic
    age_s = (clock.at - told).total_seconds() + node.skew_s
    return clock.monotonic - max(age_s, 0.0)
