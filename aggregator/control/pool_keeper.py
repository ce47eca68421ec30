"""Look after the pools: who manages each, who is to join, which one is whose.

One thread; the policies are pure, and what they want is ordered like what people
want: recorded first, then sent. Only an aggregator that leads does so. What a cycle
decided is one sentence in the log, when it is a new one.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from aggregator.control.book import Book
from aggregator.control.order import Entry, Origin
from aggregator.control.plans import Goal
from aggregator.control.storage_orders import STAND_BACK_S, StorageOrders
from aggregator.federation.events import EventLog
from aggregator.federation.view import View, Viewer
from aggregator.fleet.pools import Pools
from aggregator.policies import members, spm
from aggregator.policies.members import Joining
from aggregator.policies.spm import Asked, Choice, Clock
from node import clock as clocks
from node.errors import Error
from node.model import messages, storage_verbs
from node.model.ids import CorrelationId, NodeId, PoolId
from node.model.job import JobState
from node.policy.spm import Election, Timing

log = logging.getLogger(__name__)

# Policies look at what is seconds old; an election takes ten times as long.
_PERIOD_S: Final = 2.0
# Joining takes a node 30 s; whoever failed is not asked all the time.
_REST_S: Final = 120.0
_ELECTIONS: Final = frozenset({"spm_become", "spm_leave"})
_JOININGS: Final = frozenset({"pool_connect", "pool_disconnect"})
_ORIGIN: Final = Origin("", "", CorrelationId("policy"))


class PoolKeeper:
    def __init__(
        self,
        book: Book,
        orders: StorageOrders,
        pools: Pools,
        viewer: Viewer,
        events: EventLog,
        clock: clocks.Clock,
        is_leading: Callable[[], bool],
    ) -> None:
        self._book = book
        self._orders = orders
        self._pools = pools
        self._viewer = viewer
        self._events = events
        self._clock = clock
        self._is_leading = is_leading
        self._said = ""
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pools")

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float = 5.0) -> None:
        """Stop after the turn under way."""
        self._is_stopping.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def cycle(self) -> None:
        """Observe, decide and order once."""
        if not self._is_leading():
            self._say("another aggregator looks after the pools")
            return
        view, now = self._viewer.view, self._now()
        self._adopt(view)
        pools = self._pools.list()
        # Also those of no data center: nobody else elects while nodes hear us.
        shared = [each.pool_id for each in view.pools.values() if not each.is_local]
        joining_orders = self._book.entries(_JOININGS)
        asked = elections(self._book.entries(_ELECTIONS), now)
        choices = spm.choose(view, sorted(shared), asked, now)
        joinings = [
            joining
            for pool in pools
            for joining in members.join(
                view,
                pool.pool_id,
                self._is_in(pool.data_center_id),
                resting(joining_orders, pool.pool_id, now),
            )
        ]
        said = [spm.sentence(view, each) for each in choices]
        said += [f"{view.nodes[each.node_id].name} joins" for each in joinings]
        self._say("; ".join(said) or "there is no shared pool")
        for choice in choices:
            self._elect(view, choice)
        for joining in joinings:
            self._join(view, joining)

    def _elect(self, view: View, choice: Choice) -> None:
        node_id, reason = choice.elects, choice.decision.reason
        if node_id is None:
            return
        try:
            self._orders.elect(
                choice.pool_id,
                node_id,
                _ORIGIN,
                asks=choice.asks_holder,
                is_awaited=False,
            )
        except Error as error:
            log.warning("%s cannot be elected: %s", view.nodes[node_id].name, error)
            return
        detail = "" if reason is None else messages.text(reason.code, reason.fields)
        self._events.record(
            "spm_elected",
            node_id=node_id,
            node=view.nodes[node_id].name,
            pool=choice.name,
            detail=detail,
        )

    def _is_in(self, data_center_id: str) -> Callable[[NodeId], bool]:
        """Return what tells whether a node is in a data center."""
        return lambda node_id: self._pools.data_center_of(node_id) == data_center_id

    def _join(self, view: View, joining: Joining) -> None:
        try:
            self._orders.act(
                storage_verbs.POOL_CONNECT,
                joining.pool_id,
                joining.request,
                _ORIGIN,
                joining.node_id,
                is_awaited=False,
            )
        except Error as error:
            log.warning("%s cannot join: %s", view.nodes[joining.node_id].name, error)

    def _adopt(self, view: View) -> None:
        """Make a pool that nodes brought with them that of their data center."""
        known = {each.pool_id for each in self._pools.list()}
        for pool_id, row in sorted(view.pools.items()):
            if row.is_local or pool_id in known:
                continue
            data_center_id = self._pools.data_center_of(row.node_id)
            own = self._pools.of(data_center_id)
            if own is None or (
                own.founded_on is None and own.pool_id not in view.pools
            ):
                self._pools.adopt(pool_id, row.name, data_center_id)
                self._events.record("pool_adopted", pool=row.name)

    def _now(self) -> Clock:
        at = self._clock.now()
        return Clock(at, clocks.rfc3339(at), self._clock.monotonic())

    def _run(self) -> None:
        while not self._is_stopping.wait(_PERIOD_S):
            try:
                self.cycle()
            except Error as error:
                self._say(f"pools wait: {error}")

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            log.info("pools: %s", sentence)


def resting(entries: Iterable[Entry], pool_id: PoolId, now: Clock) -> set[NodeId]:
    """Return the nodes that are not asked to join now. Pure.

    Those that are being asked, those that were a moment ago, and those that somebody
    let leave: they stay away until somebody lets them join.
    """
    last = {
        entry.action.node_id: entry
        for entry in sorted(entries, key=lambda each: each.order.created_at)
        if entry.order.object_id == pool_id
    }
    return {
        node_id
        for node_id, entry in last.items()
        if not entry.is_ended or _age_s(entry, now) < _REST_S or _has_left(entry)
    }


def elections(entries: Iterable[Entry], now: Clock) -> dict[PoolId, Asked]:
    """Return what became of the elections that were ordered. Pure."""
    found: dict[PoolId, Asked] = {}
    for entry in sorted(entries, key=lambda each: each.order.created_at):
        node_id = _chosen(entry)
        if node_id is not None:
            pool_id = PoolId(entry.order.object_id)
            found[pool_id] = _add(found.get(pool_id, Asked()), entry, node_id, now)
    return found


def _add(known: Asked, entry: Entry, node_id: NodeId, now: Clock) -> Asked:
    """Return what is known with a later election."""
    when = now.monotonic - _age_s(entry, now)
    leaver = entry.plan.leaver if entry.plan is not None else None
    if leaver is not None:
        until = {**known.stands_back_until, leaver: when + STAND_BACK_S}
        known = replace(known, stands_back_until=until)
    if not entry.is_ended:
        return replace(known, election=Election(node_id, when))
    has_failed = entry.order.state is not JobState.DONE
    if has_failed and now.monotonic - when < Timing().retry_s:
        return replace(known, failed_at={**known.failed_at, node_id: when})
    return known


def _has_left(entry: Entry) -> bool:
    left = storage_verbs.POOL_DISCONNECT.name
    return entry.order.verb == left and entry.order.state is JobState.DONE


def _chosen(entry: Entry) -> NodeId | None:
    """Return who is to manage the pool by an order; None: somebody is to leave."""
    if entry.plan is not None and entry.plan.goal is Goal.HAND_OVER:
        return entry.plan.node_id
    return entry.action.node_id if entry.order.verb == "spm_become" else None


def _age_s(entry: Entry, now: Clock) -> float:
    """Return since when an order has been open, or ended."""
    told = entry.order.ended_at or entry.order.created_at
    return max((now.at - clocks.parse_rfc3339(told)).total_seconds(), 0.0)
