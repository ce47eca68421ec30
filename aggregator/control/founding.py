"""Tell when a pool that was begun is no more, and let another one take its place.

A pool is made once. If no node is in it any more, what waits to be attached to it would
wait for ever: it founds the next one. A node that is not heard may be in the pool.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from aggregator.control.order import Entry
from aggregator.control.plans import Goal, Plan
from aggregator.federation.view import NodeState, View
from aggregator.fleet.pools import Pools, StoragePoolDocument
from node.clock import Clock
from node.model.ids import PoolId

# The answer that a pool is made may come before the pool is seen: pushes come each 5 s.
_GONE_AFTER_S: Final = 60.0


def is_gone(pool: StoragePoolDocument, view: View) -> bool:
    """Tell whether all nodes are heard, and none is in a pool that was begun."""
    if pool.founded_on is None or pool.pool_id in view.pools:
        return False
    return {each.state for each in view.nodes.values()} <= {NodeState.UP}


class Founding:
    """The pools that orders wait for."""

    def __init__(self, pools: Pools, clock: Clock) -> None:
        self._pools = pools
        self._clock = clock
        self._gone_since: dict[PoolId, float] = {}

    def renewed(self, plan: Plan, view: View, entries: Iterable[Entry]) -> Plan:
        """Return a plan that joins the pool there is, if its own is no more."""
        if plan.goal is not Goal.JOIN_POOL or plan.pool_id in view.pools:
            return plan
        pool = self._pools.named(plan.pool_name)
        if pool is None:
            return plan
        founders = (each for each in entries if _founds(each, pool))
        if is_gone(pool, view) and next(founders, None) is None:
            now = self._clock.monotonic()
            if now - self._gone_since.setdefault(pool.pool_id, now) >= _GONE_AFTER_S:
                del self._gone_since[pool.pool_id]
                pool = self._pools.renew(pool)
        else:
            self._gone_since.pop(pool.pool_id, None)
        return replace(plan, pool_id=pool.pool_id)


def _founds(entry: Entry, pool: StoragePoolDocument) -> bool:
    """Tell whether an order makes a pool, and does not just wait for it."""
    if entry.order.object_id == pool.pool_id:
        return True
    plan = entry.plan
    return (
        plan is not None
        and plan.pool_id == pool.pool_id
        and plan.storage_domain_id == pool.founded_on
    )
