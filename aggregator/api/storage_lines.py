"""Say of storage what lists and descriptions show. Pure: rows of the View → lines."""

from aggregator.api.storage_model import (
    DiskDetail,
    DiskLine,
    MemberLine,
    PoolDetail,
    PoolDomainLine,
    PoolLine,
    SightLine,
    StorageDomainDetail,
    StorageDomainLine,
)
from aggregator.federation import view as views
from aggregator.federation.view import DiskRow, PoolRow, StorageDomainRow, View
from aggregator.policies.profiles import DiskProfile
from node import wire
from node.model.ids import NodeId, StorageDomainId
from node.model.storage import (
    ContentType,
    DiskDocument,
    DomainState,
    StorageDomainDocument,
)


def storage_domain(view: View, row: StorageDomainRow) -> StorageDomainLine:
    """Return what a list shows of a storage domain."""
    pool = view.pools.get(row.pool_id) if row.pool_id is not None else None
    states = [each.state for each in row.sights.values() if not each.is_silent]
    return StorageDomainLine(
        row.storage_domain_id,
        row.name,
        row.domain_class,
        row.kind,
        row.role,
        row.state,
        row.since,
        pool.name if pool is not None else row.pool_id or "",
        row.pool_id,
        row.total_bytes,
        row.free_bytes,
        row.committed_bytes,
        row.latency_s,
        len(row.sights),
        sum(state is not DomainState.UNREACHABLE for state in states),
        row.reason,
        views.staleness(view, row),
    )


def storage_domain_detail(view: View, row: StorageDomainRow) -> StorageDomainDetail:
    """Return all that is known of a storage domain."""
    document = wire.decode(StorageDomainDocument, row.document, strict=False)
    sights = [
        SightLine(
            _node(view, each.node_id),
            each.state,
            each.since,
            each.latency_s,
            each.host_id,
            each.reason,
            each.is_silent,
        )
        for each in row.sights.values()
    ]
    sights.sort(key=lambda each: each.node)
    return StorageDomainDetail(
        storage_domain(view, row),
        document.storage_domain,
        tuple(sights),
        document.problems,
    )


def pool(view: View, row: PoolRow, data_center_id: str | None) -> PoolLine:
    """Return what a list shows of a pool."""
    return PoolLine(
        row.pool_id,
        row.name,
        row.is_local,
        row.state,
        row.since,
        _node(view, row.manager) if row.manager is not None else "",
        _domain(view, row.master) if row.master is not None else "",
        len(row.domains),
        len(row.sights),
        data_center_id,
        row.reason,
        views.staleness(view, row),
    )


def pool_detail(view: View, row: PoolRow, data_center_id: str | None) -> PoolDetail:
    """Return all that is known of a pool."""
    members = [
        MemberLine(
            _node(view, each.node_id),
            each.node_id,
            each.state,
            each.spm_state.value,
            each.host_id,
            each.priority,
            each.reason,
            each.is_silent,
        )
        for each in row.sights.values()
    ]
    members.sort(key=lambda each: each.node)
    domains = tuple(
        PoolDomainLine(
            each.name or _domain(view, each.storage_domain_id),
            each.domain_class,
            each.state,
        )
        for each in row.domains
    )
    return PoolDetail(
        pool(view, row, data_center_id),
        row.generation,
        row.master_version,
        domains,
        tuple(members),
    )


def disk(view: View, row: DiskRow) -> DiskLine:
    """Return what a list shows of a disk."""
    of = view.pools.get(row.pool_id) if row.pool_id is not None else None
    users = view.disk_users.get(row.disk_id, ())
    return DiskLine(
        row.disk_id,
        row.name,
        row.state,
        row.size_bytes,
        row.allocated_bytes,
        tuple(_domain(view, each) for each in row.storage_domain_ids),
        of.name if of is not None else "",
        tuple(view.vms[each].name for each in users),
        views.staleness(view, row),
        _content(row),
    )


def _content(row: DiskRow) -> ContentType:
    """Return what a disk holds; most documents do not say: they are data."""
    if b'"content"' not in row.document:
        return ContentType.DATA
    return wire.decode(DiskDocument, row.document, strict=False).content


def disk_detail(
    view: View, row: DiskRow, profile: DiskProfile | None = None
) -> DiskDetail:
    """Return all that is known of a disk."""
    document = wire.decode(DiskDocument, row.document, strict=False)
    users = view.disk_users.get(row.disk_id, ())
    named = (profile.name, profile.profile_id) if profile is not None else ("", None)
    return DiskDetail(disk(view, row), document, users, *named)


def _node(view: View, node_id: NodeId) -> str:
    node = view.nodes.get(node_id)
    return node.name if node is not None else node_id


def _domain(view: View, storage_domain_id: StorageDomainId) -> str:
    row = view.storage_domains.get(storage_domain_id)
    return row.name if row is not None else storage_domain_id
