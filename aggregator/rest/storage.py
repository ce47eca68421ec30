"""Say which storage belongs to which data center. Pure.

A data center has one pool that its nodes share, and each node's own: a storage
domain of a node alone is one of the data center that the node is in.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from aggregator.federation.view import DiskRow, PoolRow, StorageDomainRow
from aggregator.rest.resource import Context
from node import wire
from node.model.ids import NodeId, PoolId
from node.model.storage import DiskDocument, StorageDomainDocument


@dataclass(frozen=True, slots=True)
class Domain:
    """A storage domain with its document read."""

    row: StorageDomainRow
    document: StorageDomainDocument


def domain_of(row: StorageDomainRow) -> Domain:
    """Read the document of a storage domain."""
    document = wire.decode(StorageDomainDocument, row.document, strict=False)
    return Domain(row, document)


def disk_document(row: DiskRow) -> DiskDocument:
    """Read the document of a disk."""
    return wire.decode(DiskDocument, row.document, strict=False)


def domain_rows(context: Context) -> Iterator[StorageDomainRow]:
    """Yield all storage domains by name."""
    view = context.view
    return (view.storage_domains[each] for _, each in view.storage_domain_order)


def shared_pool(context: Context, data_center_id: str) -> PoolRow | None:
    """Return the pool that the nodes of a data center share, if it has one."""
    for pool in context.fleet.pools:
        if pool.data_center_id == data_center_id:
            return context.view.pools.get(PoolId(pool.pool_id))
    return None


def local_pool(context: Context, node_id: NodeId) -> PoolRow | None:
    """Return the pool that is a node's own."""
    for pool in context.view.pools.values():
        if pool.is_local and pool.node_id == node_id:
            return pool
    return None


def data_center_of_pool(context: Context, pool_id: PoolId | None) -> str | None:
    """Return the data center of a pool; None if it has none, or is not known."""
    for pool in context.fleet.pools:
        if pool.pool_id == pool_id:
            return pool.data_center_id
    row = context.view.pools.get(pool_id) if pool_id is not None else None
    if row is None or not row.is_local:
        return None
    return context.fleet.cluster_of(row.node_id).data_center_id


def domains_of(context: Context, data_center_id: str) -> Iterator[StorageDomainRow]:
    """Yield the storage domains that are attached to a data center, by name."""
    for row in domain_rows(context):
        if data_center_of_pool(context, row.pool_id) == data_center_id:
            yield row


def is_local(context: Context, row: StorageDomainRow) -> bool:
    """Tell whether a storage domain is of one node alone."""
    pool = context.view.pools.get(row.pool_id) if row.pool_id is not None else None
    return pool is not None and pool.is_local
