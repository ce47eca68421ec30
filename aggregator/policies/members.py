"""Let the nodes of a data center join its pool: the View → who is to be asked.

Pure. A node that is up and does not speak of the pool is asked to connect, with all
that the pool's map says about how to reach its storage domains.
"""

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from aggregator.federation.view import NodeState, PoolRow, View
from node.model.host import Feature
from node.model.ids import NodeId, PoolId
from node.model.storage import Connection, DomainRole, StorageDomain
from node.model.storage_requests import ConnectPool

NODES_MAX: Final = 250  # host ids of a lockspace
AT_ONCE_MAX: Final = 10  # in one look: each of them mounts, and joins lockspaces


@dataclass(frozen=True, slots=True)
class Joining:
    pool_id: PoolId
    node_id: NodeId
    request: ConnectPool


def join(
    view: View,
    pool_id: PoolId,
    is_wanted: Callable[[NodeId], bool],
    resting: Collection[NodeId],
) -> tuple[Joining, ...]:
    """Return who is to join a pool; `resting` were asked lately."""
    pool = view.pools.get(pool_id)
    request = None if pool is None else connect(pool)
    if pool is None or request is None:
        return ()
    room = NODES_MAX - len(pool.sights) - len(set(resting) - set(pool.sights))
    able = (
        Joining(pool_id, node_id, request)
        for node_id, node in sorted(view.nodes.items())
        if node.state is NodeState.UP
        and node.facts is not None
        and Feature.STORAGE in node.facts.features
        and node_id not in pool.sights
        and node_id not in resting
        and is_wanted(node_id)
    )
    return tuple(itertools.islice(able, min(max(room, 0), AT_ONCE_MAX)))


def connect(pool: PoolRow) -> ConnectPool | None:
    """Return how a node joins a pool; None: nobody told how to reach it."""
    domains = tuple(
        StorageDomain(
            each.storage_domain_id,
            each.name,
            each.domain_class,
            _connection(each.connection),
            DomainRole.MASTER
            if each.storage_domain_id == pool.master
            else DomainRole.REGULAR,
            pool.pool_id,
        )
        for each in pool.domains
        if each.connection is not None
    )
    return ConnectPool(pool.name, domains) if domains else None


def _connection(connection: Connection | None) -> Connection:
    assert connection is not None, "those without one were left out"
    return connection
