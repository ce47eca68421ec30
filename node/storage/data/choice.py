"""Choose the node that moves data for a step of the manager's. Pure."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from node.model.ids import NodeId
from node.model.storage import Liveness, PoolMember

# Each program keeps a path to the storage busy by itself; more of them share it.
NODE_MAX: Final = 4
# Nodes publish each 10 s: after three of them an agent is away, or was just started.
SILENCE_MAX_S: Final = 30.0


def is_there(member: PoolMember) -> bool:
    """Tell whether a node would see an order."""
    return member.liveness is Liveness.LIVE and member.silence_s < SILENCE_MAX_S


def named(
    node_id: NodeId, members: Iterable[PoolMember], tried: Collection[str]
) -> PoolMember | None:
    """Return the node that was asked for; None: it is away, or failed before."""
    found = (each for each in members if each.node_id == node_id and is_there(each))
    return next((each for each in found if each.node_id not in tried), None)


def relieving(
    own_id: NodeId,
    members: Iterable[PoolMember],
    loads: Mapping[NodeId, int],
    tried: Collection[str],
) -> PoolMember | None:
    """Return the node that has least to do; None: the manager does it.

    `loads` are programs that move data, by node; the manager does what it can itself,
    which needs no lease.
    """
    if loads.get(own_id, 0) < NODE_MAX:
        return None
    left = [
        each
        for each in members
        if each.node_id not in (own_id, *tried)
        and is_there(each)
        and loads.get(each.node_id, 0) < NODE_MAX
    ]
    return min(
        left, key=lambda each: (loads.get(each.node_id, 0), each.host_id), default=None
    )
