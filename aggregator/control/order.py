"""Follow what was asked from recorded to ended: a pure table of steps.

    queued ──► running ──► done
       │          ├──────► failed
       └──────────┴──────► cancelled

A queued order is recorded, and may have been sent; a running one was
accepted by its node, where the job of its action does it. An order with a plan has
several actions, one after the other: it is queued again between two of them.
"""

from dataclasses import dataclass, replace
from typing import Final

from aggregator.control import actions, plans
from aggregator.control.actions import Action, StorageAction
from aggregator.control.plans import Plan
from node import errors, wire
from node.errors import Error
from node.model.ids import CorrelationId, JobId, NodeId, VmId
from node.model.job import ENDED, ErrorReport, Job, JobState
from node.wire import Json

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asked, from where."""

    user: str
    address: str
    correlation_id: CorrelationId


@dataclass(frozen=True, slots=True)
class Order:
    order_id: JobId
    verb: str  # of node.model.verbs
    vm_id: VmId | None
    node_id: NodeId | None
    name: str  # of what it is about
    state: JobState
    created_at: str  # RFC 3339
    ended_at: str | None = None
    progress_percent: int = 0
    step: str = ""
    error: ErrorReport | None = None
    user: str = ""
    correlation_id: CorrelationId | None = None
    object_id: str = ""  # of what it is about; older ones: a VM
    data_node_id: NodeId | None = None  # who moves data for its node, while it does


@dataclass(frozen=True, slots=True)
class Entry:
    """An order with what it takes to send it again."""

    order: Order
    action: Action  # its order id is that of its job, and the order's if it is first
    sends: int = 0  # to this node, counted before each; 2: the first may have acted
    is_pinned: bool = False  # the node was named by who asked
    is_moved: bool = False  # another node refused it before
    is_refused: bool = False  # failed before it was a job
    plan: Plan | None = None  # None: one action is all
    is_step_done: bool = False  # its action is done, and the next not chosen yet
    moves: int = 0  # how often another manager, or a new term of it, was asked
    is_permitted: bool = False  # nothing forbids it: it may be sent

    @property
    def is_ended(self) -> bool:
        return self.order.state in ENDED


def record(
    action: Action,
    name: str,
    origin: Origin,
    now: str,
    *,
    is_pinned: bool = False,
    plan: Plan | None = None,
) -> Entry:
    """Return a new entry, as it is before anything is sent."""
    order = Order(
        order_id=action.order_id,
        verb=actions.verb_of(action),
        vm_id=actions.vm_of(action),
        node_id=action.node_id,
        name=name,
        state=JobState.QUEUED,
        created_at=now,
        user=origin.user,
        correlation_id=origin.correlation_id,
        object_id=actions.object_of(action),
    )
    return Entry(order, action, is_pinned=is_pinned, plan=plan)


def await_permission(entry: Entry) -> Entry:
    """Return the entry while scripts are asked whether it may be sent."""
    return wait_for_node(entry, "scripts are asked")


def permit(entry: Entry) -> Entry:
    """Return the entry once nothing forbids it."""
    return replace(entry, order=replace(entry.order, step=""), is_permitted=True)


def count_send(entry: Entry) -> Entry:
    """Return the entry as it is recorded before it is sent."""
    return replace(entry, sends=entry.sends + 1)


def move(entry: Entry, node_id: NodeId) -> Entry:
    """Return the entry for another node, after the first made nothing."""
    return replace(
        entry,
        order=replace(entry.order, node_id=node_id),
        action=replace(entry.action, node_id=node_id),
        sends=0,
        is_moved=True,
    )


def wait_for_node(entry: Entry, step: str) -> Entry:
    """Return the entry after its node was silent: it is asked again later."""
    return replace(entry, order=replace(entry.order, step=step))


def retarget(entry: Entry, node_id: NodeId) -> Entry:
    """Return the entry for the pool's new manager, with the same job id.

    Whether the old one acted is not known, and need not be: it has lost the lease
    that every step of it needed, the new one has ended what its journals name, and
    what the verb asks for is named by ids: what is done already is not done twice.
    """
    return replace(
        entry,
        order=replace(
            entry.order, node_id=node_id, state=JobState.QUEUED, progress_percent=0
        ),
        action=replace(entry.action, node_id=node_id),
        moves=entry.moves + 1,
    )


def leave_choice(entry: Entry) -> Entry:
    """Return the entry that lets the pool choose who moves the data.

    The send that was refused made nothing; those before it may have.
    """
    action = entry.action
    assert isinstance(action, StorageAction), "only disks have their data moved"
    left = replace(action.request, data_node_id=None)
    return replace(
        entry,
        action=replace(action, request=left, is_data_node_chosen=False),
        sends=entry.sends - 1,
    )


def start_over(entry: Entry, step: str) -> Entry:
    """Return the entry after its manager lost the pool: its job there has ended.

    The next one to be asked, perhaps the same node, is given another job id: a node
    answers for a job that has ended with how it ended.
    """
    assert isinstance(entry.action, StorageAction), "only pools have managers"
    moves = entry.moves + 1
    job_id = plans.job_id(entry.order.order_id, f"{entry.action.verb} {moves}")
    return replace(
        entry,
        order=replace(
            entry.order, state=JobState.QUEUED, progress_percent=0, step=step
        ),
        action=replace(entry.action, order_id=job_id),
        sends=0,
        moves=moves,
    )


def take_step(entry: Entry, action: StorageAction) -> Entry:
    """Return the entry with the next action of its plan, which is not sent yet."""
    return replace(
        entry,
        order=replace(
            entry.order, node_id=action.node_id, step=action.verb, progress_percent=0
        ),
        action=action,
        sends=0,
        moves=0,
        is_step_done=False,
    )


def follow(entry: Entry, job: Job, now: str) -> Entry:
    """Return the entry as its job on the node is."""
    state = JobState.RUNNING if job.state is JobState.QUEUED else job.state
    if state is JobState.DONE and entry.plan is not None:
        between = replace(entry.order, state=JobState.QUEUED, step="")
        plan = replace(entry.plan, result=job.result)
        return replace(entry, order=between, plan=plan, is_step_done=True)
    order = replace(
        entry.order,
        state=state,
        progress_percent=job.progress_percent,
        step=job.step,
        data_node_id=job.data_node_id,
        error=job.error,
        ended_at=(job.ended_at or now) if state in ENDED else None,
    )
    return replace(entry, order=order)


def finish(entry: Entry, now: str) -> Entry:
    """Return the entry after its node said that all is done."""
    order = replace(
        entry.order, state=JobState.DONE, progress_percent=100, step="", ended_at=now
    )
    return replace(entry, order=order)


def refuse(entry: Entry, error: Error, now: str) -> Entry:
    """Return the entry after its node refused it, or after it was given up."""
    order = replace(
        entry.order, state=JobState.FAILED, step="", error=report(error), ended_at=now
    )
    return replace(entry, order=order, is_refused=True)


def report(error: Error) -> ErrorReport:
    """Return an error as data."""
    return ErrorReport(
        error.kind, error.code, str(error), error.remedy, dict(error.fields)
    )


def to_body(entry: Entry) -> Json:
    """Return the entry as it is stored."""
    return {
        "schema": SCHEMA,
        "order": wire.to_json(entry.order),
        "verb": actions.verb_of(entry.action),
        "action": actions.to_body(entry.action),
        "sends": entry.sends,
        "is_pinned": entry.is_pinned,
        "is_moved": entry.is_moved,
        "is_refused": entry.is_refused,
        "plan": wire.to_json(entry.plan),
        "is_step_done": entry.is_step_done,
        "moves": entry.moves,
        "is_permitted": entry.is_permitted,
    }


def from_body(body: Json) -> Entry:
    """Return the entry that was stored."""
    order = wire.from_json(Order, body["order"], strict=False)
    plan = body.get("plan")
    return Entry(
        order,
        actions.from_body(body.get("verb", order.verb), body["action"]),
        body["sends"],
        body["is_pinned"],
        body["is_moved"],
        body["is_refused"],
        None if plan is None else wire.from_json(Plan, plan, strict=False),
        body.get("is_step_done", False),
        body.get("moves", 0),
        body.get("is_permitted", True),  # of an older one, which asked nobody
    )


def error_of(given: ErrorReport) -> Error:
    """Return the error that was reported, to be raised again."""
    fields = {
        name: value
        for name, value in given.fields.items()
        if name not in ("kind", "code", "message", "remedy")
    }
    return errors.revive(given.kind, given.code, given.message, given.remedy, **fields)
