"""Send recorded orders to their nodes, and write down what comes back.

Before its first send, whoever may forbid an order is asked. Every send is counted on
disk before it happens. A refusal of a first send
means that nothing was made: then a creation may go to another node, once.
After silence it may not: the node may have acted. What is deleted was made: its
creation is not sent again, and is no longer open.

What only a pool's manager may do goes to whoever manages it by then. One that lost
the pool says so, or ends its job so: that is no failure, the next one is asked.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from aggregator.control import actions, execute, order, plans
from aggregator.control.actions import StorageAction
from aggregator.control.book import Book
from aggregator.control.execute import (
    Accepted,
    Carrier,
    Created,
    Finished,
    Outcome,
    Refused,
    TooManyActions,
)
from aggregator.control.founding import Founding
from aggregator.control.order import Entry
from aggregator.control.placing import Placing
from aggregator.federation.events import EventLog
from aggregator.federation.view import NodeView, View, Viewer
from aggregator.fleet.pools import Pools
from node import clock as clocks
from node.clock import Clock
from node.errors import Busy, Error, NotFound
from node.model.ids import JobId, NodeId
from node.model.job import Job, JobState

log = logging.getLogger(__name__)

# Between two sends to a silent node, or to one that is busy or restarts its agent;
# and until a lost answer is given up.
_AGAIN_S: Final = 5.0
_SOON_S: Final = 1.0
_LOST_S: Final = 60.0
# Kinds of refusals that come before anything is made on a node.
_MADE_NOTHING: Final = frozenset(
    {"conflict", "unavailable", "unsupported", "not_found", "busy"}
)
_PASSING: Final = frozenset({"busy", "unavailable"})
_GONE: Final = "vm_gone"  # of a node where a VM of that id was deleted
# Codes of a node that does not manage the pool, or not any more.
_LOST: Final = frozenset({"not_spm", "spm_lost"})
# A manager whose storage process ends has done nothing, and is one again in seconds.
_NOT_NOW: Final = _LOST | {"storage_process_down"}
_NO_DATA_NODE: Final = "data_node_unknown"  # who was to move data is no member
# Each is a new manager, or a new term of one: more, and the pool does not hold.
_MOVES_MAX: Final = 10
# What a second request finds gone, the first has done.
_ENDING: Final = frozenset(
    {"disk_delete", "storage_domain_detach", "storage_domain_remove"}
)


Answer = Callable[[Error | None], None]
# Asks whether an order may be sent, and answers later; False: nobody is asked. Asked
# again before the answer, it is the same question. See `aggregator.hooks.center`.
Gate = Callable[[Entry, View, Answer], bool]


def open_gate(entry: Entry, view: View, answer: Answer) -> bool:
    """Ask nobody."""
    return False


class Dispatch:
    def __init__(
        self,
        book: Book,
        viewer: Viewer,
        events: EventLog,
        executor: Carrier,
        placing: Placing,
        pools: Pools,
        clock: Clock,
        gate: Gate = open_gate,
    ) -> None:
        self._gate = gate
        self._pools = pools
        self._founding = Founding(pools, clock)
        self._book = book
        self._viewer = viewer
        self._events = events
        self._executor = executor
        self._placing = placing
        self._clock = clock
        self._busy_until: dict[JobId, float] = {}

    def open_entries(self) -> tuple[Entry, ...]:
        """Return the orders that have not ended."""
        return self._book.open_entries()

    def busy(self) -> frozenset[JobId]:
        """Return those that are being sent, or were sent a moment ago."""
        now = self._clock.monotonic()
        with self._book.changed:
            ended = [each for each, until in self._busy_until.items() if until <= now]
            for order_id in ended:
                del self._busy_until[order_id]
            return frozenset(self._busy_until)

    def send(self, order_id: JobId) -> None:
        """Send a recorded order, again if need be: its ids are the same."""
        with self._book.changed:
            entry = self._book.entry(order_id)
            node = self._viewer.view.nodes.get(entry.action.node_id)
            if node is not None and entry.order.state is JobState.QUEUED:
                self._send(entry, node)

    def ask(self, order_id: JobId) -> None:
        """Ask the node how the job of a running order is."""
        with self._book.changed:
            entry = self._book.entry(order_id)
            node = self._viewer.view.nodes.get(entry.action.node_id)
            if node is None or entry.order.state is not JobState.RUNNING:
                return
            self._be_busy(order_id, _LOST_S)
            self._executor.ask_job(
                node,
                entry.action.order_id,
                lambda outcome: self._hear(entry, outcome),
            )

    def retarget(self, order_id: JobId, node_id: NodeId) -> None:
        """Send an order to the pool's new manager."""
        with self._book.changed:
            entry = self._book.entry(order_id)
            node = self._viewer.view.nodes.get(node_id)
            if node is None or entry.is_ended or entry.is_step_done:
                return
            log.info("%s %s goes to %s now", entry.order.verb, order_id, node.name)
            self._send(self._book.put(order.retarget(entry, node_id)), node)

    def advance(self, order_id: JobId) -> None:
        """Take the next step of an order's plan, or end it after the last."""
        with self._book.changed:
            entry = self._book.entry(order_id)
            done, plan = entry.action, entry.plan
            if not entry.is_step_done or plan is None:
                return
            assert isinstance(done, StorageAction), "only storage has plans"
            view = self._viewer.view
            plan = self._founding.renewed(plan, view, self._book.open_entries())
            if plan != entry.plan:
                entry = self._book.put(replace(entry, plan=plan))
            founded_on = self._pools.founded_on(plan.pool_id)
            step = plans.after(done, plan, order_id, view, founded_on)
            if step is None:
                self._book.put(order.finish(entry, self._now()))
            elif isinstance(step, plans.Wait):
                self._be_busy(order_id, _SOON_S)
                self._book.put(order.wait_for_node(entry, step.text))
            else:
                if step.verb == "pool_create":
                    self._pools.found(plan.pool_id, step.request.master)
                entry = self._book.put(order.take_step(entry, step))
                node = view.nodes.get(step.node_id)
                if node is not None:
                    self._send(entry, node)

    def settle(self, order_id: JobId, outcome: Outcome) -> None:
        """Write down what a node said of an order, by whatever way it came."""
        with self._book.changed:
            self._busy_until.pop(order_id, None)
            entry = self._book.entry(order_id)
            if entry.is_ended:
                return
            match outcome:
                case Created() | Finished():
                    self._book.put(order.finish(entry, self._now()))
                case Accepted(job):
                    self._follow_job(entry, job)
                case Refused(error):
                    self._take_refusal(entry, error)
                case execute.Silent(error):
                    is_away = error.code in execute.AWAY
                    self._await_node(entry, _SOON_S if is_away else _AGAIN_S)

    def finish(self, order_id: JobId) -> None:
        """End an order whose effect is in the View."""
        with self._book.changed:
            entry = self._book.entry(order_id)
            if not entry.is_ended:
                self._book.put(order.finish(entry, self._now()))

    def give_up(self, order_id: JobId, error: Error) -> None:
        """End an order that nobody will answer for."""
        with self._book.changed:
            entry = self._book.entry(order_id)
            if not entry.is_ended:
                self._refuse(entry, error)

    def announce_placement(self, entry: Entry, node: NodeView) -> None:
        """Log that a VM got its node."""
        self._events.record(
            "vm_placed",
            node_id=node.node_id,
            vm_id=actions.vm_of(entry.action),
            user=entry.order.user,
            correlation_id=entry.action.correlation_id,
            name=entry.order.name,
            node=node.name,
        )

    def _hear(self, asked: Entry, outcome: Outcome) -> None:
        """Settle an order, unless it went on meanwhile: to a step, or another node."""
        order_id = asked.order.order_id
        with self._book.changed:
            action = self._book.entry(order_id).action
            if (action.order_id, action.node_id) == (
                asked.action.order_id,
                asked.action.node_id,
            ):
                self.settle(order_id, outcome)

    def _permit(self, order_id: JobId, error: Error | None) -> None:
        """Send an order that scripts were asked about; end it if they forbid it."""
        with self._book.changed:
            entry = self._book.entry(order_id)
            if entry.is_ended or entry.is_permitted:
                return
            if error is not None:
                self._refuse(entry, error)
                return
            permitted = order.permit(entry)
            node = self._viewer.view.nodes.get(entry.action.node_id)
            if node is None:
                self._book.put(permitted)
            else:
                self._send(permitted, node)

    def _send(self, entry: Entry, node: NodeView) -> None:
        order_id = entry.order.order_id
        if not entry.is_permitted:
            asked = self._gate(
                *(entry, self._viewer.view, lambda why: self._permit(order_id, why))
            )
            if asked:
                self._be_busy(order_id, _SOON_S)
                self._book.put(order.await_permission(entry))
                return
            entry = order.permit(entry)
        sent = self._book.put(order.count_send(entry))
        self._be_busy(order_id, _LOST_S)
        try:
            self._executor.send(
                node, sent.action, lambda outcome: self._hear(sent, outcome)
            )
        except TooManyActions as error:
            del self._busy_until[order_id]
            if sent.sends == 1 and sent.action.order_id == order_id:
                self._unfound(sent)
                self._refuse(sent, error)
            else:
                self._await_node(sent, _AGAIN_S)

    def _take_refusal(self, entry: Entry, error: Error) -> None:
        if self._move(entry, error) or self._leave_choice(entry, error):
            return
        if self._waits(entry, error.code, _NOT_NOW):
            self._await_manager(entry, error)
            return
        if _is_done_before(entry, error):
            self._book.put(order.finish(entry, self._now()))
            return
        is_first = entry.sends == 1 and entry.order.state is JobState.QUEUED
        if error.kind == Busy.kind or (error.kind in _PASSING and not is_first):
            self._await_node(entry, _SOON_S if error.kind == Busy.kind else _AGAIN_S)
        else:
            self._refuse(entry, error)

    def _move(self, entry: Entry, error: Error) -> bool:
        """Send a creation to the next best node, if the first made nothing."""
        action = entry.action
        if (
            not isinstance(action, actions.CreateVm)
            or entry.is_pinned
            or entry.is_moved
            or entry.sends != 1
            or error.kind not in _MADE_NOTHING
            or error.code == _GONE
        ):
            return False
        view = self._viewer.view
        placement = self._placing.place(
            action.spec,
            [node for node in view.nodes.values() if node.node_id != action.node_id],
            [each for each in self._book.under_way(view) if each != entry],
            view,
        )
        if placement.node_id is None:
            return False
        node = view.nodes[placement.node_id]
        log.warning(
            "VM %s goes to %s: its first node refused: %s",
            action.vm_id,
            node.name,
            error,
        )
        moved = self._book.put(order.move(entry, node.node_id))
        self.announce_placement(moved, node)
        self._send(moved, node)
        return True

    def _leave_choice(self, entry: Entry, error: Error) -> bool:
        """Let the manager choose who moves data, if it does not know our choice."""
        action = entry.action
        if (
            not isinstance(action, StorageAction)
            or not action.is_data_node_chosen
            or error.code != _NO_DATA_NODE
        ):
            return False
        node = self._viewer.view.nodes.get(action.node_id)
        log.info("%s %s: %s", action.verb, entry.order.order_id, error)
        again = self._book.put(order.leave_choice(entry))
        if node is not None:
            self._send(again, node)
        return True

    def _await_node(self, entry: Entry, again_s: float) -> None:
        self._be_busy(entry.order.order_id, again_s)
        node = self._viewer.view.nodes.get(entry.action.node_id)
        name = node.name if node else entry.action.node_id
        self._book.put(order.wait_for_node(entry, f"waiting for node {name}"))

    def _unfound(self, entry: Entry) -> None:
        """Let a pool be made elsewhere, after its node said that it was not made."""
        action = entry.action
        if isinstance(action, StorageAction) and action.verb == "pool_create":
            self._pools.unfound(action.request.pool_id, action.request.master)

    def _refuse(self, entry: Entry, error: Error) -> None:
        self._log_failure(self._book.put(order.refuse(entry, error, self._now())))

    def _waits(self, entry: Entry, code: str, codes: frozenset[str]) -> bool:
        """Tell whether an error says to ask again whoever manages the pool then."""
        return (
            isinstance(entry.action, StorageAction)
            and entry.action.pool_id is not None
            and code in codes
            and entry.moves < _MOVES_MAX
        )

    def _await_manager(self, entry: Entry, error: Error) -> None:
        """Ask the pool's next manager, once there is one: the loop sees it."""
        log.info("%s: %s", entry.order.verb, error)
        again = order.start_over(entry, "waiting for the next manager of the pool")
        self._book.put(again)
        self._be_busy(entry.order.order_id, _AGAIN_S)

    def _follow_job(self, entry: Entry, job: Job) -> None:
        if (
            job.state is JobState.FAILED
            and job.error is not None
            and self._waits(entry, job.error.code, _LOST)
        ):
            self._await_manager(entry, order.error_of(job.error))
            return
        followed = order.follow(entry, job, self._now())
        self._follow(followed)
        if followed.is_step_done:
            self.advance(followed.order.order_id)

    def _follow(self, entry: Entry) -> None:
        self._book.put(entry)
        if entry.order.state is JobState.FAILED:
            self._unfound(entry)
            self._log_failure(entry)
        elif entry.order.state is JobState.DONE and (
            isinstance(entry.action, actions.DeleteVm)
        ):
            for creation in self._book.open_creations(entry.action.vm_id):
                self._book.put(order.finish(creation, self._now()))

    def _log_failure(self, entry: Entry) -> None:
        node = self._viewer.view.nodes.get(entry.action.node_id)
        error = entry.order.error
        self._events.record(
            "action_failed",
            node_id=entry.action.node_id,
            vm_id=actions.vm_of(entry.action),
            user=entry.order.user,
            correlation_id=entry.action.correlation_id,
            verb=actions.verb_of(entry.action),
            node=node.name if node else entry.action.node_id,
            name=entry.order.name,
            detail=error.message if error else "",
        )

    def _be_busy(self, order_id: JobId, seconds: float) -> None:
        self._busy_until[order_id] = self._clock.monotonic() + seconds

    def _now(self) -> str:
        return clocks.rfc3339(self._clock.now())


def _is_done_before(entry: Entry, error: Error) -> bool:
    """Tell whether what a repeated request does not find was ended by the first."""
    is_repeated = entry.sends > 1 or entry.moves > 0
    verb = actions.verb_of(entry.action)
    return is_repeated and verb in _ENDING and error.kind == NotFound.kind
