"""Push what changes here to each aggregator, and hear what they reply.

A push carries all that changed after the revision that the aggregator has. It
leaves 200 ms after a change, so that changes close together travel as one, and
every few seconds if nothing changed: silence means that this node is in
trouble. Source: DESIGN section 4.

    from = the revision it has ──► push ──► ok: it has `to` now
            ▲ 0: everything ◄──── resync ◄──┤
            └── wait, longer each time ◄────┘ error, or no reply
"""

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from node import wire
from node.clock import Clock, rfc3339
from node.errors import Denied, Error, Unavailable
from node.model.event import Event
from node.model.feed import Delta, DeltaOutcome, DeltaReply, Document, Tombstone
from node.model.fleet import AggregatorAddress
from node.model.host import AggregatorLink
from node.model.reason import Reason
from node.model.requests import Changes
from node.model.stats import Stats
from node.store import RevisionUnknown, Store
from node.units import MINUTE_S, MiB

log = logging.getLogger(__name__)

# Small enough for any proxy's buffer, large enough for a node of 500 VMs.
PART_MAX: Final = MiB
# Room for the numbers of the part in an envelope that was measured without.
_NUMBERS: Final = 64
# Changes within this time travel together: a start of a VM makes several.
COALESCE_S: Final = 0.2
# The first wait after a failure, doubled each time up to the longest.
_BACK_OFF_S: Final = 0.25
_BACK_OFF_MAX_S: Final = 5.0
# An aggregator may ask for patience, but not for more than this.
_RETRY_AFTER_MAX_S: Final = MINUTE_S
# A node that is being admitted pushes before the aggregator has written it down.
_ADMISSION_S: Final = 5.0
_NOT_YET: Final = "not_a_member"  # the aggregator's code for that
# About 150 kB: what was missed in a long silence follows in several pushes.
_EVENTS_MAX: Final = 500


class ResyncRefused(Unavailable):
    """The aggregator asks for everything, and then does not take it."""

    code = "resync_refused"
    remedy = "Read the aggregator's log."


def delta_parts(delta: Delta, maximum: int = PART_MAX) -> tuple[bytes, ...]:
    """Return a delta as the texts to send, each about `maximum` long at most.

    Only a single document that is larger makes a larger part. Events and
    statistics go with the last one. Pure.
    """
    whole = wire.encode(delta)
    if len(whole) <= maximum:
        return (whole,)
    last = replace(delta, changed=(), gone=())
    room = max(maximum - len(wire.encode(last)) - _NUMBERS, maximum // 2)
    parts = list(_chunks((*delta.changed, *delta.gone), room)) or [()]
    texts = []
    for number, items in enumerate(parts, start=1):
        envelope = (
            last if number == len(parts) else replace(last, stats=None, events=())
        )
        part = replace(
            envelope,
            changed=tuple(each for each in items if isinstance(each, Document)),
            gone=tuple(each for each in items if isinstance(each, Tombstone)),
            part=number,
            parts=len(parts),
        )
        texts.append(wire.encode(part))
    return tuple(texts)


def back_off_s(failures: int, jitter: float, retry_after_s: float = 0.0) -> float:
    """Return how long to wait after so many failures in a row.

    `jitter` is from 0 to 1; it spreads nodes that failed together. Pure.
    """
    longest = min(_BACK_OFF_S * 2.0 ** min(failures, 16), _BACK_OFF_MAX_S)
    patience = min(retry_after_s, _RETRY_AFTER_MAX_S)
    return max(longest * (0.5 + jitter / 2), patience * (1 + jitter / 2))


class Sender(Protocol):
    """The way to one aggregator; one thread uses it."""

    def send(self, body: bytes) -> DeltaReply: ...

    def close(self) -> None: ...


Connect = Callable[[AggregatorAddress], Sender]
OnReply = Callable[[AggregatorAddress, DeltaReply], None]


@dataclass(frozen=True, slots=True)
class _Means:
    """What every pusher needs."""

    store: Store
    clock: Clock
    connect: Connect
    stats: Callable[[], Stats | None]
    on_reply: OnReply
    push_interval_s: float
    jitter: Callable[[], float]


class Feed:
    """A pusher for each aggregator; they may come and go."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        links: Callable[[], tuple[AggregatorAddress, ...]],
        connect: Connect,
        stats: Callable[[], Stats | None],
        on_reply: OnReply,
        push_interval_s: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._links = links
        self._lock = threading.Lock()
        self._pushers: dict[AggregatorAddress, _Pusher] = {}
        self._is_running = False
        self._means = _Means(
            store, clock, connect, stats, on_reply, push_interval_s, jitter
        )

    def start(self) -> None:
        """Start to push to those who are to hear of us."""
        self._is_running = True
        self._store.listen(self._tell)
        self.poke()

    def poke(self) -> None:
        """Look at the list of aggregators anew, and push to each at once."""
        with self._lock:
            if not self._is_running:
                return
            before, wanted = self._pushers, self._links()
            self._pushers = {
                address: before.get(address) or _Pusher(address, self._means)
                for address in wanted
            }
            for address in wanted:
                if address in before:
                    before[address].poke()
                else:
                    self._pushers[address].start()
        for address in before.keys() - set(wanted):
            before[address].stop()
        for name in {each.name for each in before} - {each.name for each in wanted}:
            self._store.forget_aggregator(name)

    def stop(self, deadline_s: float) -> None:
        """Stop pushing; wait a while for pushes that are under way."""
        with self._lock:
            self._is_running = False
            pushers = tuple(self._pushers.values())
            self._pushers = {}
        for pusher in pushers:
            pusher.stop()
        for pusher in pushers:
            pusher.join(deadline_s)

    def status(self) -> tuple[AggregatorLink, ...]:
        """Return each aggregator, and how pushing to it goes."""
        with self._lock:
            return tuple(pusher.link for pusher in self._pushers.values())

    def _tell(self) -> None:
        for pusher in self._pushers.values():  # never changed in place
            pusher.tell()


@dataclass(slots=True)
class _Memory:
    """What a pusher knows of the aggregator's side."""

    rev: int = 0  # the aggregator has this revision; 0: it may have nothing
    events: int = 0  # it has the events of this boot up to this number
    stats_at: str = ""  # it has the figures of this moment
    failures: int = 0  # pushes that failed in a row


@dataclass(slots=True)
class _Wake:
    """Why a pusher that waits should look up."""

    event: threading.Event = field(default_factory=threading.Event)
    is_poked: bool = False
    is_stopped: bool = False


class _Pusher:
    """Pushes to one aggregator, in a thread of its own."""

    def __init__(self, address: AggregatorAddress, means: _Means) -> None:
        self._address = address
        self._means = means
        self._store = means.store
        self._clock = means.clock
        self._begun_s = means.clock.monotonic()
        self._wake = _Wake()
        self._memory = _Memory(events=means.store.acknowledged(address.name))
        self.link = AggregatorLink(
            address.name, address.address, address.feed_port, address.admission_port
        )
        self._thread = threading.Thread(
            target=self._run, name=f"feed-{address.name}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def tell(self) -> None:
        """Say that there is news."""
        self._wake.event.set()

    def poke(self) -> None:
        """Ask for a push at once."""
        self._wake.is_poked = True
        self._wake.event.set()

    def stop(self) -> None:
        self._wake.is_stopped = True
        self._wake.event.set()

    def join(self, deadline_s: float) -> None:
        self._thread.join(deadline_s)

    def _run(self) -> None:
        with contextlib.closing(self._means.connect(self._address)) as sender:
            self._run_with(sender)

    def _run_with(self, sender: Sender) -> None:
        due_s = self._clock.monotonic()
        while not self._wake.is_stopped:
            now_s = self._clock.monotonic()
            if not self._wake.event.wait(max(0.0, due_s - now_s)):
                due_s = self._clock.monotonic() + self._push(sender)
                continue
            self._wake.event.clear()
            if self._wake.is_poked:
                self._wake.is_poked = False
                due_s = self._clock.monotonic()
            elif not self._memory.failures:
                due_s = min(due_s, self._clock.monotonic() + COALESCE_S)

    def _push(self, sender: Sender) -> float:
        """Push once, and return how long to wait before the next time."""
        try:
            wait_s = self._exchange(sender)
        except Error as error:
            return self._note_failure(error, _patience_s(error))
        except Exception as bug:
            log.exception("the push to aggregator %s met a bug", self._address.name)
            return self._note_failure(bug, 0.0)
        self._memory.failures = 0
        self._note_success()
        return wait_s

    def _exchange(self, sender: Sender) -> float:
        changes = self._changes()
        events = self._store.pending_events(self._address.name, _EVENTS_MAX)
        stats = self._means.stats()
        if stats is not None and stats.at == self._memory.stats_at:
            stats = None
        delta = Delta(
            changes.epoch,
            self._memory.rev,
            changes.rev,
            self._store.boot_id,
            changes.changed,
            changes.gone,
            stats,
            events,
        )
        reply = None
        for text in delta_parts(delta):
            reply = sender.send(text)
            if reply.outcome is DeltaOutcome.RESYNC:
                break
        assert reply is not None, "a delta has at least one part"
        self._note_events(events, reply)
        self._means.on_reply(self._address, reply)
        if reply.outcome is DeltaOutcome.RESYNC:
            self._memory.rev = 0
            self._memory.stats_at = ""
            if delta.from_rev == 0:
                raise ResyncRefused("it asks for everything, and does not take it")
            log.info("aggregator %s asks for everything", self._address.name)
            return 0.0
        self._memory.rev = changes.rev
        if stats is not None:
            self._memory.stats_at = stats.at
        return self._means.push_interval_s if len(events) < _EVENTS_MAX else 0.0

    def _changes(self) -> Changes:
        """Return what the aggregator does not have; everything if nobody knows."""
        try:
            return self._store.changes(self._memory.rev)
        except RevisionUnknown:
            self._memory.rev = 0
            return self._store.changes(0)

    def _note_events(self, sent: tuple[Event, ...], reply: DeltaReply) -> None:
        """Mark what is committed there; forget the marks if it has forgotten."""
        name = self._address.name
        if reply.events_acknowledged < self._memory.events:
            log.info("aggregator %s has lost events: they are sent again", name)
            self._store.rewind_events(name)
            self._memory.events = 0
            return
        if reply.outcome is DeltaOutcome.OK:
            earlier = [each for each in sent if each.boot_id != self._store.boot_id]
            if earlier:
                last = earlier[-1]
                self._store.acknowledge_events(name, last.number, last.boot_id)
        if reply.events_acknowledged > self._memory.events:
            self._store.acknowledge_events(name, reply.events_acknowledged)
            self._memory.events = reply.events_acknowledged

    def _note_success(self) -> None:
        if not self.link.is_reached:
            address = self._address
            log.info("aggregator %s at %s is reached", address.name, address.address)
        now = rfc3339(self._clock.now())
        self.link = replace(self.link, is_reached=True, last_push_at=now, reason=None)

    def _note_failure(self, error: Exception, patience_s: float) -> float:
        """Remember the reason, and return how long to wait."""
        self._memory.failures += 1
        if self._is_too_early(error):
            log.debug("aggregator %s does not know us yet", self._address.name)
        elif not patience_s:
            self._note_unreached(str(error))
        return back_off_s(self._memory.failures - 1, self._means.jitter(), patience_s)

    def _is_too_early(self, error: Exception) -> bool:
        age_s = self._clock.monotonic() - self._begun_s
        is_refusal = isinstance(error, Denied) and error.code == _NOT_YET
        return is_refusal and age_s < _ADMISSION_S

    def _note_unreached(self, detail: str) -> None:
        name = self._address.name
        before = self.link.reason
        if before is None:
            log.warning("aggregator %s cannot be reached: %s", name, detail)
        since = before.since if before is not None else rfc3339(self._clock.now())
        reason = Reason(
            "aggregator_unreachable", since, {"aggregator": name, "detail": detail}
        )
        self.link = replace(self.link, is_reached=False, reason=reason)


def _patience_s(error: Error) -> float:
    """Return how long the aggregator asked us to wait; 0 if it did not."""
    value = error.fields.get("retry_after_s")
    return float(value) if isinstance(value, int | float) else 0.0


def _chunks(
    items: Iterable[Document | Tombstone], room: int
) -> Iterator[tuple[Document | Tombstone, ...]]:
    """Yield the items in groups whose texts fit into the room."""
    group: list[Document | Tombstone] = []
    used = 0
    for item in items:
        size = len(wire.encode(item)) + 1  # and a comma
        if group and used + size > room:
            yield tuple(group)
            group, used = [], 0
        group.append(item)
        used += size
    if group:
        yield tuple(group)
