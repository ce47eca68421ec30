"""Tell from a node's silence whether it is there.

Pure; times are seconds of a monotonic clock. An aggregator that was itself
late (stopped, swapped out, moved) has heard nobody meanwhile, which says
nothing about the nodes: then every silence starts anew. If it is only a little
late, or pushes wait for it, that time counts as nobody's silence. DESIGN section 4.

    connecting ──heard──► up ──12 s──► suspect ──25 s──► unreachable
         │                ▲               │                   │
         │                └──── heard ────┴───────────────────┘
         └──────────── 25 s without a word ────────► unreachable
"""

from dataclasses import dataclass, field, replace
from typing import Final

from immutables import Map

from aggregator.federation.view import NodeState
from node.model.ids import NodeId


@dataclass(frozen=True, slots=True)
class Times:
    heartbeat_s: float = 5.0  # a node says something this often
    suspect_s: float = 12.0  # two heartbeats and the way
    unreachable_s: float = 25.0  # five heartbeats
    look_s: float = 1.0  # we look this often
    waiting_s: float = 1.0  # pushes that wait longer wait for us, not for news


TIMES: Final = Times()


@dataclass(frozen=True, slots=True)
class Pulse:
    """When each node was heard last, and how well we listened."""

    looked_at: float
    heard_at: Map[NodeId, float] = field(default_factory=Map)  # less `deaf_s` then
    deaf_s: float = 0.0  # of all the time, how much nobody could be heard in
    heard_count: int = 0  # pushes since we looked last
    is_swamped: bool = False  # pushes waited too long when we looked last


def hear(pulse: Pulse, node_id: NodeId, now: float) -> Pulse:
    """Return the pulse after a node said something."""
    heard_at = pulse.heard_at.set(node_id, now - pulse.deaf_s)
    return replace(pulse, heard_at=heard_at, heard_count=pulse.heard_count + 1)


def forget(pulse: Pulse, node_id: NodeId) -> Pulse:
    """Return the pulse without a node."""
    if node_id not in pulse.heard_at:
        return pulse
    return replace(pulse, heard_at=pulse.heard_at.delete(node_id))


def look(pulse: Pulse, now: float, waiting: int = 0, times: Times = TIMES) -> Pulse:
    """Return the pulse for judging at `now`; `waiting` pushes are not yet heard."""
    elapsed_s = now - pulse.looked_at
    heard = max(pulse.heard_count, 1)
    is_swamped = waiting * elapsed_s > heard * times.waiting_s
    deaf_s = elapsed_s if is_swamped else max(0.0, elapsed_s - times.look_s)
    heard_at = pulse.heard_at
    if elapsed_s > times.heartbeat_s:
        deaf_s = 0.0
        heard_at = Map(dict.fromkeys(heard_at, now - pulse.deaf_s))
    return Pulse(now, heard_at, pulse.deaf_s + deaf_s, is_swamped=is_swamped)


def silence_s(pulse: Pulse, node_id: NodeId, now: float) -> float:
    """Return how long a node was silent while we listened; 0 if it is new."""
    listened_s = now - pulse.deaf_s
    return listened_s - pulse.heard_at.get(node_id, listened_s)


def judge(state: NodeState, silence_s: float, times: Times = TIMES) -> NodeState:
    """Return the state of a node that was in a state and silent for so long."""
    if silence_s >= times.unreachable_s:
        return NodeState.UNREACHABLE
    if state is NodeState.UP and silence_s >= times.suspect_s:
        return NodeState.SUSPECT
    return state  # back to up leads only its voice
