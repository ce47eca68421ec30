"""Let a few nodes at a time tell everything; the others come back later.

Pure; times are seconds of a monotonic clock. A fresh aggregator needs the
whole state of every node: all at once would fill its memory and its time.
"""

from dataclasses import dataclass, field
from typing import Final

from immutables import Map

from node.model.ids import NodeId

SLOTS: Final = 16  # two for each ingest thread: none idles while a node prepares
LEASE_S: Final = 30.0  # a node that stops half-way blocks a slot no longer
RETRY_S: Final = 5  # a heartbeat: whoever waits pushes then anyway


@dataclass(frozen=True, slots=True)
class Slots:
    until: Map[NodeId, float] = field(default_factory=Map)
    maximum: int = SLOTS


def expire(slots: Slots, now: float) -> Slots:
    """Return the slots without those whose time is over."""
    over = [node_id for node_id, until in slots.until.items() if until <= now]
    until = slots.until
    for node_id in over:
        until = until.delete(node_id)
    return Slots(until, slots.maximum)


def grant(slots: Slots, node_id: NodeId, now: float) -> Slots | None:
    """Return the slots with one for the node; None if all are taken."""
    free = expire(slots, now)
    if node_id not in free.until and len(free.until) >= free.maximum:
        return None
    return Slots(free.until.set(node_id, now + LEASE_S), free.maximum)


def release(slots: Slots, node_id: NodeId) -> Slots:
    """Return the slots after a node has told everything."""
    if node_id not in slots.until:
        return slots
    return Slots(slots.until.delete(node_id), slots.maximum)
