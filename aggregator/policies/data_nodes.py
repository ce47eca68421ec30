"""Choose which node of a pool moves a disk's data: the View → a node.

Pure. The manager does what it can itself, which needs no lease; a node that is up, has
joined the pool, reaches all of its storage domains, and has less to move, relieves it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.federation.view import NodeState, PoolRow, View
from aggregator.policies import spm
from node.model.ids import NodeId, PoolId

VERBS: Final = frozenset(
    {
        "disk_copy",
        "disk_move",
        "disk_sparsify",
        "template_create",
        "vm_clone",
        "vm_snapshot_delete",
    }
)


@dataclass(frozen=True, slots=True)
class Move:
    """A job that moves data and has not ended."""

    manager: NodeId
    data_node_id: NodeId | None  # None: the manager, as far as anybody knows

    @property
    def node_id(self) -> NodeId:
        return self.data_node_id or self.manager


def choose(
    view: View, pool_id: PoolId, manager: NodeId, moves: Iterable[Move]
) -> NodeId | None:
    """Return the node that has least to move; None: leave it to the manager."""
    pool = view.pools.get(pool_id)
    if pool is None or pool.is_local:
        return None
    loads: dict[NodeId, int] = {}
    for move in moves:
        loads[move.node_id] = loads.get(move.node_id, 0) + 1
    able = [node_id for node_id in pool.sights if _may_move(view, pool, node_id)]
    best = min(able, key=lambda each: _rank(each, manager, loads), default=None)
    return None if best == manager else best


def _may_move(view: View, pool: PoolRow, node_id: NodeId) -> bool:
    node = view.nodes.get(node_id)
    return (
        node is not None
        and node.state is NodeState.UP
        and pool.sights[node_id].host_id is not None
        and not spm.ill_domains(view, pool, node_id)
    )


def _rank(
    node_id: NodeId, manager: NodeId, loads: Mapping[NodeId, int]
) -> tuple[int, bool, NodeId]:
    return loads.get(node_id, 0), node_id != manager, node_id
