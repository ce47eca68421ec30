"""Turn what the View holds of pools and storage domains into rows of a page.

Pure. A reason that outlives a page is told with all that caused it; documents are
read once for each of their versions, since every page asks for alarms.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aggregator.dashboard import figures, rows, storage_signs
from aggregator.dashboard.alarms import Alarm
from aggregator.dashboard.rows import Bar, Tally, Translate, Why
from aggregator.dashboard.signs import NODE_SIGNS, Sign
from aggregator.dashboard.storage_signs import DomainAction
from aggregator.federation import view as views
from aggregator.federation.view import (
    DomainSight,
    NodeState,
    PoolRow,
    PoolSight,
    StorageDomainRow,
    View,
)
from node import wire
from node.model.ids import NodeId, PoolId, StorageDomainId
from node.model.reason import Reason
from node.model.storage import (
    DomainClass,
    DomainRole,
    DomainState,
    DomainType,
    PoolDocument,
    PoolMember,
    SpmState,
    StorageDomainDocument,
)

# As many as nodes in the largest fleet, each with its local storage, and some more.
_DOCUMENTS_KEPT = 4096


@dataclass(frozen=True, slots=True)
class DomainLine:
    """A storage domain as a row of a list."""

    storage_domain_id: StorageDomainId
    name: str
    description: str
    what: str  # data on NFS
    is_master: bool
    sign: Sign
    why: str
    since: str
    pool_id: PoolId | None
    pool_name: str
    node_name: str  # of its only node, if it is a local one
    nodes_well: int
    nodes: int
    latency: str
    space: Bar | None
    free: str
    promised: str
    is_over_committed: bool
    actions: tuple[DomainAction, ...]


@dataclass(frozen=True, slots=True)
class SightLine:
    """What one node says of a storage domain."""

    node_id: NodeId
    node_name: str
    sign: Sign
    since: str
    latency: str
    host_id: int | None
    whys: tuple[Why, ...]


@dataclass(frozen=True, slots=True)
class PoolLine:
    pool_id: PoolId
    name: str
    is_local: bool
    sign: Sign
    whys: tuple[tuple[Why, ...], ...]
    since: str
    manager_id: NodeId | None
    manager_name: str
    master_id: StorageDomainId | None
    master_name: str
    nodes: int


@dataclass(frozen=True, slots=True)
class MemberLine:
    """A node of a pool: what it says itself, and what the manager reads of it."""

    node_id: NodeId
    node_name: str
    sign: Sign  # how the pool is there
    role: Sign
    liveness: Sign | None
    host_id: int | None
    priority: int
    priority_text: str
    whys: tuple[Why, ...]
    may_be_elected: bool


@functools.lru_cache(_DOCUMENTS_KEPT)
def document(body: bytes) -> StorageDomainDocument:
    """Return a document of a storage domain."""
    return wire.decode(StorageDomainDocument, body, strict=False)


def domain_line(view: View, row: StorageDomainRow, translate: Translate) -> DomainLine:
    """Return a storage domain as a row of a list."""
    pool = view.pools.get(row.pool_id) if row.pool_id is not None else None
    heard = [each for each in row.sights.values() if not each.is_silent]
    first = next(iter(domain_reasons(view, row)), None)
    is_local = row.kind is DomainType.LOCALFS
    return DomainLine(
        row.storage_domain_id,
        row.name,
        row.description,
        f"{storage_signs.CLASSES[row.domain_class]}, {storage_signs.KINDS[row.kind]}",
        row.role is DomainRole.MASTER,
        storage_signs.domain_sign(row),
        rows.why(first, translate).text if first else "",
        row.since,
        row.pool_id,
        pool.name if pool is not None else "",
        node_name(view, row.speaker) if is_local else "",
        sum(each.state is not DomainState.UNREACHABLE for each in heard),
        len(row.sights),
        latency(row.latency_s),
        space_bar("Space", row) if row.total_bytes else None,
        figures.size(row.free_bytes) if row.total_bytes else "",
        figures.size(row.committed_bytes) if row.total_bytes else "",
        row.committed_bytes > row.free_bytes,
        storage_signs.domain_actions(row),
    )


def sight_lines(
    view: View, row: StorageDomainRow, translate: Translate
) -> list[SightLine]:
    """Return what each node says of a storage domain, by name."""
    found = [_sight_line(view, each, translate) for each in row.sights.values()]
    return sorted(found, key=lambda each: each.node_name.casefold())


def _sight_line(view: View, sight: DomainSight, translate: Translate) -> SightLine:
    sign = storage_signs.DOMAIN_SIGNS[sight.state]
    cause = sight.reason
    if sight.is_silent:
        sign, cause = NODE_SIGNS[NodeState.UNREACHABLE], _silence(view, sight.node_id)
    return SightLine(
        sight.node_id,
        node_name(view, sight.node_id),
        sign,
        sight.since,
        "" if sight.is_silent else latency(sight.latency_s),
        sight.host_id,
        rows.whys(cause, translate),
    )


def domain_reasons(view: View, row: StorageDomainRow) -> tuple[Reason, ...]:
    """Return why a storage domain is not as wanted, or may not be as it is shown."""
    return each_once((*domain_troubles(view, row), views.staleness(view, row)))


def domain_troubles(view: View, row: StorageDomainRow) -> tuple[Reason, ...]:
    """Return why a storage domain is not as wanted, each thing once.

    Of many nodes that cannot use it, one speaks for all.
    """
    problems = document(row.document).problems if row.document else ()
    lost = row.reason or next(
        (
            each.reason
            for each in row.sights.values()
            if each.state is DomainState.UNREACHABLE and not each.is_silent
        ),
        None,
    )
    claims = [each.node_id for each in row.sights.values() if each.mark == row.mark]
    found = (
        _dispute(view, "storage domain", row, claims),
        lost,
        *problems,
    )
    return each_once(found)


def pool_reasons(view: View, row: PoolRow) -> tuple[Reason, ...]:
    """Return why a pool is not as wanted, or may not be as it is shown."""
    return each_once((*pool_troubles(view, row), views.staleness(view, row)))


def pool_troubles(view: View, row: PoolRow) -> tuple[Reason, ...]:
    """Return why a pool is not as wanted."""
    claims = [each.node_id for each in row.sights.values() if each.mark == row.mark]
    return each_once((_dispute(view, "pool", row, claims), row.reason))


def has_manager(view: View, row: PoolRow) -> bool:
    """Say whether somebody can change the pool now."""
    return views.manager_of(view, row.pool_id) is not None


def pool_line(view: View, row: PoolRow, translate: Translate) -> PoolLine:
    """Return a pool as it is shown above its storage domains."""
    master = view.storage_domains.get(row.master) if row.master else None
    return PoolLine(
        row.pool_id,
        row.name,
        row.is_local,
        storage_signs.pool_sign(row, has_manager=has_manager(view, row)),
        tuple(rows.whys(each, translate) for each in pool_reasons(view, row)),
        row.since,
        row.manager,
        node_name(view, row.manager) if row.manager else "",
        row.master,
        master.name if master is not None else row.master or "",
        len(row.sights),
    )


def member_lines(view: View, row: PoolRow, translate: Translate) -> list[MemberLine]:
    """Return the nodes of a pool, by name."""
    told = wire.decode(PoolDocument, row.document, strict=False)
    members = {each.node_id: each for each in told.members}
    found = [
        _member_line(view, row, each, members.get(each.node_id), translate)
        for each in row.sights.values()
    ]
    return sorted(found, key=lambda each: each.node_name.casefold())


def _member_line(
    view: View,
    row: PoolRow,
    sight: PoolSight,
    member: PoolMember | None,
    translate: Translate,
) -> MemberLine:
    sign = storage_signs.POOL_SIGNS[sight.state]
    cause = sight.reason
    if sight.is_silent:
        sign, cause = NODE_SIGNS[NodeState.UNREACHABLE], _silence(view, sight.node_id)
    priority = sight.priority
    return MemberLine(
        sight.node_id,
        node_name(view, sight.node_id),
        sign,
        storage_signs.SPM_SIGNS[sight.spm_state],
        storage_signs.LIVENESS_SIGNS[member.liveness] if member else None,
        sight.host_id,
        priority,
        storage_signs.PRIORITIES.get(priority, str(priority)),
        rows.whys(cause, translate),
        not sight.is_silent
        and not row.is_local
        and sight.spm_state in (SpmState.FREE, SpmState.CONTENDING),
    )


def domains_of(view: View, pool_id: PoolId | None) -> list[StorageDomainRow]:
    """Return the storage domains of a pool, or those of none, by name."""
    named = (view.storage_domains[each] for _, each in view.storage_domain_order)
    return [each for each in named if each.pool_id == pool_id]


def is_shared(row: StorageDomainRow) -> bool:
    """Say whether it is storage that several nodes may share."""
    return row.kind is not DomainType.LOCALFS


def space_bar(label: str, row: StorageDomainRow) -> Bar:
    """Return how full a storage domain is."""
    used_bytes = row.total_bytes - row.free_bytes
    return rows.size_bar(label, used_bytes, row.total_bytes)


def shared_space(view: View) -> Bar | None:
    """Return how full the shared storage is, each of it counted once."""
    found = [
        each
        for each in view.storage_domains.values()
        if is_shared(each)
        and each.pool_id is not None
        and each.domain_class is DomainClass.DATA
    ]
    total = sum(each.total_bytes for each in found)
    used = total - sum(each.free_bytes for each in found)
    return rows.size_bar("Shared storage", used, total) if total else None


def domain_tally(domains: Iterable[StorageDomainRow], alarms: Iterable[Alarm]) -> Tally:
    """Count storage domains that are active, have an alarm, are unreachable."""
    states = Counter(each.state for each in domains)
    alarming = {each.storage_domain_id for each in alarms if each.storage_domain_id}
    return Tally(
        states.total(),
        states[DomainState.ACTIVE],
        len(alarming),
        states[DomainState.UNREACHABLE],
    )


def latency(latency_s: float | None) -> str:
    """Return how long the last check took; empty if there was no answer."""
    if latency_s is None:
        return ""
    if latency_s < 1:
        return f"{max(1, round(latency_s * 1000))} ms"
    return f"{latency_s:.1f} s"


def node_name(view: View, node_id: NodeId) -> str:
    """Return the name of a node; its id if it is not known any more."""
    node = view.nodes.get(node_id)
    return node.name if node is not None else node_id


def _silence(view: View, node_id: NodeId) -> Reason | None:
    node = view.nodes.get(node_id)
    return None if node is None else node.reason


def _dispute(
    view: View, kind: str, row: PoolRow | StorageDomainRow, claims: list[NodeId]
) -> Reason | None:
    if not row.is_disputed:
        return None
    names = sorted(node_name(view, each) for each in claims)
    fields = {
        "kind": kind,
        "id": row.name,
        "node": names[0],
        "other": ", ".join(names[1:]),
    }
    return Reason("documents_conflict", row.since, fields)


def each_once(found: Iterable[Reason | None]) -> tuple[Reason, ...]:
    """Return the reasons that there are, the first of those that say the same."""
    return tuple(_distinct(each for each in found if each is not None))


def _distinct(reasons: Iterable[Reason]) -> Iterator[Reason]:
    seen = set()
    for each in reasons:
        key = each.code, tuple(sorted(each.fields.items()))
        if key not in seen:
            seen.add(key)
            yield each
