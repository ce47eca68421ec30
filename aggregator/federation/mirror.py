"""Hold the View, and change it by what nodes push and by their silence.

Nothing else writes it. A push is committed before it is answered; pushes that
arrive together share one transaction. Figures are not stored: after a restart
the View shows the documents as they were, until each node is heard again.
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, Protocol

from aggregator import db
from aggregator.federation import apply, liveness, positions, reading, slots
from aggregator.federation.apply import Rivalry, Said, Trouble
from aggregator.federation.events import EventLog
from aggregator.federation.liveness import Pulse
from aggregator.federation.positions import Gathering, Position, Verdict
from aggregator.federation.slots import Slots
from aggregator.federation.view import NodeState, NodeView, View
from node import clock as clocks
from node.clock import Clock
from node.errors import Denied, Error, Invalid, Unavailable
from node.model import messages
from node.model.event import Event
from node.model.feed import Delta, DeltaOutcome, DeltaReply
from node.model.ids import NodeId
from node.model.reason import Reason, Scalar
from node.model.stats import Stats

log = logging.getLogger(__name__)

# A push waits for the commit before its own; a healthy disk takes milliseconds.
_TURN_S: Final = 10.0
# A resync of 64 MiB: thousands of VMs on one node.
_PARTS_MAX: Final = 64
# A sample may be 15 s old when it is sent, and 5 s on its way.
_SKEW_MAX_S: Final = 30.0


class NotAMember(Denied):
    code = "not_a_member"
    remedy = "Admit the node to this fleet first."


class SpeaksForAnother(Denied):
    """A document or an event names another node than the certificate does."""

    code = "speaks_for_another"
    remedy = "Find out which node this is: its certificate and its store disagree."


class BadPart(Invalid):
    code = "bad_part"
    remedy = "Number the parts from 1 to at most 64."


class TooManyResyncs(Unavailable):
    code = "too_many_resyncs"
    remedy = "Push again after the time in Retry-After."


class MirrorBusy(Unavailable):
    code = "mirror_busy"
    remedy = "Check the aggregator's database and the disk it is on."


class Member(Protocol):
    """What the registry says of a node."""

    @property
    def node_id(self) -> NodeId: ...
    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Push:
    node_id: NodeId
    delta: Delta
    reply: "Future[DeltaReply]" = field(default_factory=Future)


@dataclass(slots=True)
class _Turn:
    """What a batch of pushes comes to, before it is committed."""

    view: View
    positions: dict[NodeId, Position] = field(default_factory=dict)
    changes: list[db.FeedChange] = field(default_factory=list)
    replies: list[tuple[_Push, DeltaReply]] = field(default_factory=list)


class Mirror:
    """Thread-safe: readers take `view` without a lock."""

    def __init__(self, database: db.Database, events: EventLog, clock: Clock) -> None:
        """Load what nodes said before; they are connecting until heard."""
        self._waiting: Callable[[], int] = lambda: 0
        self._database = database
        self._events = events
        self._clock = clock
        self._changing = threading.Lock()
        self._queue: deque[_Push] = deque()  # bounded by the threads that wait
        self._news = threading.Condition()
        self._hearing = threading.Lock()
        self._pulse = Pulse(clock.monotonic())
        self._slots = Slots()
        self._gatherings: dict[NodeId, Gathering] = {}
        self._positions = {
            NodeId(row.node_id): Position(
                row.epoch, row.rev, row.boot_id, row.events_acknowledged
            )
            for row in database.feeds()
        }
        self._view = self._load()
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="liveness")

    @property
    def view(self) -> View:
        return self._view

    def wait(self, since_revision: int, timeout_s: float) -> View:
        """Return the View once its revision is higher, or when the time is over."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while self._view.revision <= since_revision:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or self._is_stopping.is_set():
                    break
                self._news.wait(left_s)
        return self._view

    def start(self) -> None:
        """Look for silent nodes from now on."""
        self._thread.start()

    def stop(self, deadline_s: float = 5.0) -> None:
        """Stop looking, and let go of those who wait."""
        self._is_stopping.set()
        with self._news:
            self._news.notify_all()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def watch(self, waiting: Callable[[], int]) -> None:
        """Ask this from now on how many pushes wait for a thread of ours."""
        self._waiting = waiting

    def set_members(self, members: Iterable[Member]) -> None:
        """Show exactly these nodes; what a removed one said is deleted."""
        now = clocks.rfc3339(self._clock.now())
        wanted = {member.node_id: member for member in members}
        with self._changing:
            view = self._view
            for node_id in [each for each in view.nodes if each not in wanted]:
                self._database.forget_node(node_id)
                view = apply.remove_node(view, node_id)
                self._positions.pop(node_id, None)
                self._gatherings.pop(node_id, None)
                with self._hearing:
                    self._pulse = liveness.forget(self._pulse, node_id)
            for node_id, member in wanted.items():
                if node_id not in view.nodes:
                    view = self._with_node(
                        view, node_id, member.name, member.address, now
                    )
                elif view.nodes[node_id].facts is None:
                    view = apply.rename_node(view, node_id, member.name, member.address)
            self._publish(view)

    def push(self, node_id: NodeId, delta: Delta) -> DeltaReply:
        """Take what a node says; when this returns, it is committed.

        Errors: NotAMember, SpeaksForAnother, BadPart, TooManyResyncs,
        MirrorBusy, DatabaseDown; then nothing has changed.
        """
        if node_id not in self._view.nodes:
            raise NotAMember(f"{node_id} is not a member", node_id=node_id)
        self._hear(node_id)
        _check_owner(node_id, delta)
        if not 1 <= delta.part <= delta.parts <= _PARTS_MAX:
            raise BadPart(f"part {delta.part} of {delta.parts}")
        push = _Push(node_id, delta)
        self._queue.append(push)
        with self._turn():
            # Whoever has the lock takes the pushes of all who wait for it.
            if not push.reply.done():
                self._take(self._drain())
        return push.reply.result(timeout=0)

    def make_room(self, node_id: NodeId) -> None:
        """Keep a slot for a node that is about to tell everything.

        So that one who must come later is told before its documents are read.
        Errors: TooManyResyncs, MirrorBusy.
        """
        self._hear(node_id)
        with self._turn():
            self._claim_slot(node_id)

    def look(self) -> None:
        """Judge every node's silence once."""
        with self._changing:
            now = self._clock.monotonic()
            pulse = self._feel(now)
            self._slots = slots.expire(self._slots, now)
            for node_id in self._gatherings.keys() - set(self._slots.until):
                del self._gatherings[node_id]
            view = self._view
            events: list[db.NewEvent] = []
            for node_id, node in self._view.nodes.items():
                silence_s = liveness.silence_s(pulse, node_id, now)
                state = liveness.judge(node.state, silence_s)
                if state is not node.state:
                    view = self._silenced(view, node, state, silence_s)
                    events.append(_silence(view.nodes[node_id], silence_s))
            self._publish(view)
        if events:
            self._events.record_all(events)

    def _feel(self, now: float) -> Pulse:
        """Return the pulse for judging; say when it tells nothing of the nodes."""
        waiting = self._waiting()
        with self._hearing:
            before = self._pulse
            self._pulse = pulse = liveness.look(before, now, waiting)
        if pulse.is_swamped != before.is_swamped:
            if pulse.is_swamped:
                log.warning("%d pushes wait: nobody is called silent now", waiting)
            else:
                log.info("pushes are taken in time again")
        return pulse

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._changing.acquire(timeout=_TURN_S):
            raise MirrorBusy(f"no commit within {_TURN_S:.0f} s")
        try:
            yield
        finally:
            self._changing.release()

    def _run(self) -> None:
        while not self._is_stopping.wait(liveness.TIMES.look_s):
            try:
                self.look()
            except Error as error:
                log.warning("silence was judged, but not logged: %s", error)

    def _load(self) -> View:
        started = time.monotonic()
        now = clocks.rfc3339(self._clock.now())
        view = View()
        rows = groupby(self._database.documents(), lambda row: row.node_id)
        for node_id, documents in rows:
            node = NodeId(node_id)
            view = self._with_node(view, node, node_id, "", now)
            said = [Said(row.kind, row.id, row.body.encode()) for row in documents]
            view, _ = apply.set_documents(view, node, said)
        log.info(
            "the View has %d nodes and %d VMs, loaded in %.2f s",
            len(view.nodes),
            len(view.vms),
            time.monotonic() - started,
        )
        return view

    def _with_node(
        self, view: View, node_id: NodeId, name: str, address: str, now: str
    ) -> View:
        self._hear(node_id)
        reason = Reason("node_never_heard", now, {"node": name})
        return apply.add_node(view, node_id, name, address, now, reason)

    def _hear(self, node_id: NodeId) -> None:
        with self._hearing:
            now = self._clock.monotonic()
            self._pulse = liveness.hear(self._pulse, node_id, now)

    def _silenced(
        self, view: View, node: NodeView, state: NodeState, silence_s: float
    ) -> View:
        now = clocks.rfc3339(self._clock.now())
        if node.state is NodeState.CONNECTING:
            reason = Reason("node_never_heard", now, {"node": node.name})
        else:
            fields: dict[str, Scalar] = {
                "node": node.name,
                "silence_s": round(silence_s),
            }
            reason = Reason(f"node_{state.value}", now, fields)
        return apply.set_state(view, node.node_id, state, reason, now)

    def _drain(self) -> list[_Push]:
        batch = []
        while self._queue:
            batch.append(self._queue.popleft())
        return batch

    def _take(self, batch: Sequence[_Push]) -> None:
        """Commit a batch and answer it; one that fails does not spoil the others."""
        turn = _Turn(self._view)
        for push in batch:
            try:
                turn.replies.append((push, self._consider(turn, push)))
            except Exception as error:  # noqa: BLE001  # push() raises it
                push.reply.set_exception(error)
        try:
            if turn.changes:
                self._database.save_feeds(turn.changes)
        except Exception as error:  # noqa: BLE001  # push() raises it
            if len(turn.replies) == 1:
                turn.replies[0][0].reply.set_exception(error)
                return
            for push, _ in turn.replies:
                self._take([push])
            return
        self._positions.update(turn.positions)
        self._publish(turn.view)
        if any(change.events for change in turn.changes):
            self._events.announce()
        for push, reply in turn.replies:
            push.reply.set_result(reply)

    def _consider(self, turn: _Turn, push: _Push) -> DeltaReply:
        """Add a push to the turn, and return its reply."""
        node_id, delta = push.node_id, push.delta
        if node_id not in turn.view.nodes:
            raise NotAMember(f"{node_id} is not a member", node_id=node_id)
        position = turn.positions.get(node_id, self._positions.get(node_id))
        if delta.parts > 1:
            gathering = positions.gather(self._gatherings.get(node_id), delta)
            if gathering is None:
                return self._resync(node_id, position, delta)
            self._claim_slot(node_id)
            self._gatherings[node_id] = gathering
            if not positions.is_whole(gathering):
                return _reply(DeltaOutcome.OK, position, delta)
            delta = gathering.whole
        verdict = positions.judge(position, delta)
        if verdict is Verdict.RESYNC:
            return self._resync(node_id, position, delta)
        if verdict is Verdict.REPLACE:
            self._claim_slot(node_id)
        advanced = positions.advance(position, delta)
        known_rev = 0 if verdict is Verdict.REPLACE or not position else position.rev
        said = tuple(_said(delta, known_rev))
        self._add(turn, node_id, delta, said, verdict, advanced, position)
        turn.positions[node_id] = advanced
        self._gatherings.pop(node_id, None)
        self._slots = slots.release(self._slots, node_id)
        return _reply(DeltaOutcome.OK, advanced, delta)

    def _add(
        self,
        turn: _Turn,
        node_id: NodeId,
        delta: Delta,
        said: tuple[Said, ...],
        verdict: Verdict,
        advanced: Position,
        position: Position | None,
    ) -> None:
        before = turn.view.nodes[node_id]
        now = clocks.rfc3339(self._clock.now())
        view, events = turn.view, [_new_event(each) for each in delta.events]
        if before.state is not NodeState.UP:
            view = apply.set_state(view, node_id, NodeState.UP, None, now)
        is_complete = verdict is Verdict.REPLACE
        if said or is_complete:
            view, troubles = apply.set_documents(
                view, node_id, said, is_complete=is_complete
            )
            events += [_conflict(view, each, now) for each in troubles]
        if delta.stats is not None:
            view = self._with_stats(view, node_id, delta.stats)
        node = view.nodes[node_id]
        if before.state in (NodeState.SUSPECT, NodeState.UNREACHABLE) or (
            before.facts is None and node.facts is not None
        ):
            events.append(_own_event("node_up", now, node, {}))
        if abs(node.skew_s) > _SKEW_MAX_S >= abs(before.skew_s):
            skew = {"skew_s": round(node.skew_s)}
            events.append(_own_event("clock_skew", now, node, skew))
        turn.view = view
        if said or is_complete or events or advanced != position:
            turn.changes.append(_change(node_id, said, is_complete, events, advanced))

    def _with_stats(self, view: View, node_id: NodeId, stats: Stats) -> View:
        try:
            at = clocks.parse_rfc3339(stats.at)
            skew_s = (at - self._clock.now()).total_seconds()
        except ValueError:
            skew_s = 0.0
        vm_stats = {each.vm_id: each for each in stats.vms}
        return apply.set_stats(view, node_id, stats.node, vm_stats, skew_s)

    def _resync(
        self, node_id: NodeId, position: Position | None, delta: Delta
    ) -> DeltaReply:
        """Ask for everything, if there is a slot to take it in."""
        self._gatherings.pop(node_id, None)
        self._claim_slot(node_id)
        return _reply(DeltaOutcome.RESYNC, position, delta)

    def _claim_slot(self, node_id: NodeId) -> None:
        granted = slots.grant(self._slots, node_id, self._clock.monotonic())
        if granted is None:
            raise TooManyResyncs(
                f"{self._slots.maximum} nodes are telling everything",
                retry_after_s=slots.RETRY_S,
            )
        self._slots = granted

    def _publish(self, view: View) -> None:
        with self._news:
            is_news = view.revision != self._view.revision
            self._view = view
            if is_news:
                self._news.notify_all()


def _check_owner(node_id: NodeId, delta: Delta) -> None:
    """Refuse a push that says anything of another node: SpeaksForAnother."""
    claimed = {
        document.body.get("node_id", node_id)
        for document in delta.changed
        if isinstance(document.body, dict)
    }
    claimed.update(event.node_id for event in delta.events)
    others = sorted(str(each) for each in claimed if each != node_id)
    if others:
        raise SpeaksForAnother(
            f"{node_id} speaks for {others[0]}", node_id=node_id, other=others[0]
        )


def _said(delta: Delta, known_rev: int) -> Iterator[Said]:
    for gone in delta.gone:
        if gone.rev > known_rev:
            yield Said(gone.kind, gone.id, None)
    for document in delta.changed:
        if document.rev > known_rev:
            body = reading.encode_body(document.body)
            yield Said(document.kind, document.id, body)


def _change(
    node_id: NodeId,
    said: Iterable[Said],
    is_complete: bool,
    events: Sequence[db.NewEvent],
    position: Position,
) -> db.FeedChange:
    feed = db.FeedRow(
        node_id,
        position.epoch,
        position.rev,
        position.boot_id,
        position.events_acknowledged,
    )
    documents = {
        (each.kind, each.id): db.DocumentRow(
            node_id, each.kind, each.id, position.rev, each.body.decode()
        )
        for each in said
        if each.body is not None
    }
    gone = tuple((each.kind, each.id) for each in said if each.body is None)
    return db.FeedChange(
        feed, is_complete, tuple(documents.values()), gone, tuple(events)
    )


def _reply(
    outcome: DeltaOutcome, position: Position | None, delta: Delta
) -> DeltaReply:
    if position is None:
        return DeltaReply(outcome, 0)
    acknowledged = positions.acknowledged(position, delta)
    return DeltaReply(outcome, position.rev, events_acknowledged=acknowledged)


def _new_event(event: Event) -> db.NewEvent:
    return db.NewEvent(
        event.at,
        event.code,
        event.fields,
        event.node_id,
        event.vm_id,
        None,
        event.correlation_id,
        event.boot_id,
        event.number,
    )


def _own_event(
    code: str, now: str, node: NodeView, fields: Mapping[str, Scalar]
) -> db.NewEvent:
    told = {"node": node.name, **fields}
    log.info("%s", messages.text(code, told))
    return db.NewEvent(now, code, told, node.node_id)


def _silence(node: NodeView, silence_s: float) -> db.NewEvent:
    assert node.reason is not None, "a silent node has a reason"
    told = {"node": node.name, "silence_s": round(silence_s)}
    return db.NewEvent(node.since, node.reason.code, told, node.node_id)


def _conflict(view: View, trouble: Trouble, now: str) -> db.NewEvent:
    if isinstance(trouble, Rivalry):
        kind, believed, vm_id = "VM", trouble.believed, trouble.vm_id
    else:
        kind, believed, vm_id = trouble.kind.replace("_", " "), trouble.node_id, None
    names = [view.nodes[node_id].name for node_id in (believed, trouble.other)]
    fields = {"kind": kind, "id": trouble.name, "node": names[0], "other": names[1]}
    log.error("%s %s is claimed by %s and by %s", kind, trouble.name, *names)
    return db.NewEvent(now, "documents_conflict", fields, believed, vm_id)
