"""See orders through: observe, decide, act, once in a while.

What was recorded and not answered is sent again, what runs is followed by the
job documents in the View, or by asking, and what nobody will answer ends: so a node
that is removed, and admitted again, is given nothing that was meant for it before.
`decide` is pure; a cycle logs one sentence, when it is a new one.
"""

import logging
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aggregator.control import actions
from aggregator.control.actions import StorageAction
from aggregator.control.dispatch import Dispatch
from aggregator.control.execute import Accepted, TooManyActions
from aggregator.control.order import Entry
from aggregator.federation import view as views
from aggregator.federation.view import NodeState, View, Viewer
from node import clock as clocks
from node import wire
from node.clock import Clock
from node.errors import Conflict, Error, Invalid, Unavailable
from node.model.ids import JobId, NodeId, PoolId
from node.model.job import Job, JobState

log = logging.getLogger(__name__)

# A person still waits for it; later, a stop or a reset would surprise them.
EXPIRY_S: Final = 600.0
# A job's document comes with the next push (5 s at most): then we ask.
_ASK_AFTER_S: Final = 10.0
_PERIOD_S: Final = 0.25


class OrderExpired(Unavailable):
    """The node was silent for too long; whether it acted is not known."""

    code = "order_expired"
    remedy = "Look at it when its node is back, then order it again."


class NodeRemoved(Conflict):
    """The node has left the fleet; what it had begun it may have done."""

    code = "order_node_removed"
    remedy = "Look at the node itself, then order it again from another one."


@dataclass(frozen=True, slots=True)
class Send:
    order_id: JobId


@dataclass(frozen=True, slots=True)
class Follow:
    order_id: JobId
    job: Job


@dataclass(frozen=True, slots=True)
class Ask:
    order_id: JobId


@dataclass(frozen=True, slots=True)
class Finish:
    order_id: JobId


@dataclass(frozen=True, slots=True)
class GiveUp:
    order_id: JobId
    error: Error


@dataclass(frozen=True, slots=True)
class Retarget:
    """The pool has another manager now."""

    order_id: JobId
    node_id: NodeId


@dataclass(frozen=True, slots=True)
class Advance:
    order_id: JobId


Step = Send | Follow | Ask | Finish | GiveUp | Retarget | Advance


def decide(
    entries: Iterable[Entry], view: View, now: datetime, busy: Collection[JobId]
) -> tuple[Step, ...]:
    """Return what to do for open orders; nothing for those that are busy."""
    steps = (_step(entry, view, now, entry.order.order_id in busy) for entry in entries)
    return tuple(step for step in steps if step is not None)


def _step(entry: Entry, view: View, now: datetime, is_busy: bool) -> Step | None:
    order_id = entry.order.order_id
    manager = _new_manager(entry, view)
    if manager is not None:
        return None if is_busy else Retarget(order_id, manager)
    job = None if entry.is_step_done else _job(view, entry)
    if job is not None:
        return Follow(order_id, job) if _is_news(entry, job) else None
    if _is_made(entry, view):
        return Finish(order_id)
    node = view.nodes.get(entry.action.node_id)
    if node is None and not entry.is_step_done and _managed_pool(entry) is None:
        node_id = entry.action.node_id
        why = f"node {node_id} was removed from the fleet"
        return GiveUp(order_id, NodeRemoved(why, node_id=node_id))
    age_s = (now - clocks.parse_rfc3339(entry.order.created_at)).total_seconds()
    # A VM to be made waits for its node: nobody else may make it meanwhile. What a
    # manager began, the next one goes on with.
    does_wait = node is not None and (
        isinstance(entry.action, actions.CreateVm)
        or entry.order.state is JobState.RUNNING
        or entry.moves > 0
    )
    # A step that just ended, however long it took, is followed by the next.
    is_fresh = entry.is_step_done and not entry.order.step
    if age_s > EXPIRY_S and not does_wait and not is_fresh:
        name = node.name if node else entry.action.node_id
        what = entry.order.step or f"node {name} did not answer"
        return GiveUp(order_id, OrderExpired(what, node=name))
    if is_busy:
        return None
    if entry.is_step_done:
        return Advance(order_id)
    if node is None or node.state is not NodeState.UP:
        return None
    if entry.order.state is JobState.QUEUED and not _has_manager(entry, view):
        return None
    if entry.order.state is JobState.QUEUED:
        return Send(order_id)
    return Ask(order_id) if age_s > _ASK_AFTER_S else None


def _new_manager(entry: Entry, view: View) -> NodeId | None:
    """Return the pool's manager if the order is with another node, and may move.

    One that is heard and accepted it says itself how its job there ends.
    """
    pool_id, node_id = _managed_pool(entry), entry.action.node_id
    if pool_id is None or entry.is_step_done:
        return None
    manager = views.manager_of(view, pool_id)
    if manager is None or manager == node_id:
        return None
    old = view.nodes.get(node_id)
    is_silent = old is None or old.state is NodeState.UNREACHABLE
    return manager if is_silent or entry.order.state is JobState.QUEUED else None


def _managed_pool(entry: Entry) -> PoolId | None:
    """Return the pool whose manager is to do it; None: it is for that node alone."""
    action = entry.action
    return action.pool_id if isinstance(action, StorageAction) else None


def _has_manager(entry: Entry, view: View) -> bool:
    """Tell whether somebody can be asked for what only a pool's manager may do."""
    pool_id = _managed_pool(entry)
    return pool_id is None or views.manager_of(view, pool_id) is not None


def _job(view: View, entry: Entry) -> Job | None:
    body = views.job_of(view, entry.action.node_id, entry.action.order_id)
    if body is None:
        return None
    try:
        return wire.decode(Job, body, strict=False)
    except Invalid:
        return None  # a newer node's: it is asked in the form that we know


def _is_news(entry: Entry, job: Job) -> bool:
    known = entry.order
    state = JobState.RUNNING if job.state is JobState.QUEUED else job.state
    told = (known.state, known.progress_percent, known.step, known.data_node_id)
    return told != (state, job.progress_percent, job.step, job.data_node_id)


def _is_made(entry: Entry, view: View) -> bool:
    if not isinstance(entry.action, actions.CreateVm):
        return False
    vm = view.vms.get(entry.action.vm_id)
    if vm is None:
        return False
    return vm.node_id == entry.action.node_id or not vm.is_tied


class Loop:
    """One thread; `cycle` is one turn of it."""

    def __init__(self, dispatch: Dispatch, viewer: Viewer, clock: Clock) -> None:
        self._dispatch = dispatch
        self._viewer = viewer
        self._clock = clock
        self._said = ""
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="orders")

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float = 5.0) -> None:
        """Stop after the turn under way."""
        self._is_stopping.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def cycle(self) -> tuple[Step, ...]:
        """Observe, decide and act once; return what was decided."""
        entries = self._dispatch.open_entries()
        if not entries:
            self._say("no order is open")
            return ()
        busy = self._dispatch.busy()
        steps = decide(entries, self._viewer.view, self._clock.now(), busy)
        for step in steps:
            self._act(step)
        self._say(_sentence(entries, steps))
        return steps

    def _act(self, step: Step) -> None:
        match step:
            case Send(order_id):
                self._dispatch.send(order_id)
            case Follow(order_id, job):
                self._dispatch.settle(order_id, Accepted(job))
            case Ask(order_id):
                self._dispatch.ask(order_id)
            case Finish(order_id):
                self._dispatch.finish(order_id)
            case GiveUp(order_id, error):
                self._dispatch.give_up(order_id, error)
            case Retarget(order_id, node_id):
                self._dispatch.retarget(order_id, node_id)
            case Advance(order_id):
                self._dispatch.advance(order_id)

    def _run(self) -> None:
        while not self._is_stopping.wait(_PERIOD_S):
            try:
                self.cycle()
            except (Unavailable, TooManyActions) as error:
                self._say(f"orders wait: {error}")

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            log.info("%s", sentence)


def _sentence(entries: tuple[Entry, ...], steps: tuple[Step, ...]) -> str:
    states = Counter(entry.order.state for entry in entries)
    taken = Counter(type(step).__name__.lower() for step in steps)
    parts = [f"{count} {state}" for state, count in sorted(states.items())]
    parts += [f"{count} to {verb}" for verb, count in sorted(taken.items())]
    return "orders: " + ", ".join(parts)
