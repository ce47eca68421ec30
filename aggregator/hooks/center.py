"""Have scripts asked before what the aggregator does, and told after. Threads.

    kept ──► asked ──► (it is done, or is not) ──► told ──► forgotten

What is about to be done is written down before its scripts are asked, and forgotten
when they were told how it ended: so whoever was asked is told, also after a crash, and
then perhaps twice. Scripts of orders are asked on threads of their action's own; they
are told on a few others, those of one object one after the other.
"""

import contextlib
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Final

from aggregator import db
from aggregator.control import order
from aggregator.control.order import Entry
from aggregator.federation.events import EventLog
from aggregator.federation.view import View
from aggregator.fleet.members import Member
from aggregator.hooks import deeds, points
from aggregator.hooks.deeds import Deed, Ending, Object
from node import clock as clocks
from node import wire
from node.clock import Clock
from node.errors import Busy, Error, Invalid, Unavailable
from node.hooks.runner import Occasion, Outcome, Runner
from node.model.feed import Kind
from node.model.hooks import HookList
from node.model.ids import CorrelationId

log = logging.getLogger(__name__)

COLLECTION: Final = "center_hook"
# Scripts of one action that are asked at once, and of all that are told.
_ASKING: Final = 2
_TELLING: Final = 4
# Far beyond what people order while one script takes its minute.
KEPT_MAX: Final = 1000
_PERIOD_S: Final = 0.25
_STOP_S: Final = 5.0
_SAID_MAX: Final = 2000  # of one script, in an event


class HooksBusy(Busy):
    """As many people wait for scripts as may, of those that hold a connection."""

    code = "center_hooks_busy"
    remedy = "Ask again in a moment; `skerry hook center` lists the scripts."


class HooksStopping(Unavailable):
    code = "center_hooks_stopping"
    remedy = "Ask again when the aggregator is back."


class HooksBroken(Unavailable):
    """The aggregator's own machine does not let scripts be run."""

    code = "center_hooks_broken"
    remedy = "See what its disk and its run folder lack, then ask again."


# Called once scripts have answered, on a thread of ours: with why not, or None.
Answer = Callable[[Error | None], None]


class CenterHooks:
    """The aggregator's own hooks. Any thread may call."""

    def __init__(
        self,
        runner: Runner,
        records: db.Records,
        events: EventLog,
        how_ended: Callable[[Deed], Ending | None],
        clock: Clock,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """`how_ended` returns None while something is under way."""
        self._clock = clock
        self._new_id = new_id
        self._runner = runner
        self._records = records
        self._events = events
        self._how_ended = how_ended
        self._lock = threading.Lock()  # guards the six below
        self._kept = _read(records)  # by id, the oldest first
        self._asking: set[str] = set()  # deeds whose scripts are asked
        self._held: set[str] = set()  # deeds that a thread of a caller does
        self._endings: dict[str, Ending] = {}  # of those that it could not do
        self._telling: set[str] = set()  # objects of which scripts are told
        self._lanes: dict[str, futures.ThreadPoolExecutor] = {}
        self._people = threading.BoundedSemaphore(_ASKING)
        self._tellers = futures.ThreadPoolExecutor(_TELLING, "center-hooks-told")
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="center-hooks")

    def start(self) -> None:
        """End what an earlier process has left, and tell what it has not."""
        self._runner.clear()
        self._thread.start()

    def stop(self) -> None:
        """End scripts that run: they are asked, or told, again after the start."""
        self._is_stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        with self._lock:
            pools = (*self._lanes.values(), self._tellers)
        self._runner.clear()
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)

    def list(self) -> HookList:
        """Return the scripts, and what those of each point may do."""
        return self._runner.list()

    def ask(self, entry: Entry, view: View, answer: Answer) -> bool:
        """Have scripts say whether an order may be sent; False: none is asked.

        Asked again before they have answered, it is the same question.
        """
        action = points.action_of(entry.order.verb)
        if action is None or not self._has_scripts(action):
            return False
        deed = deeds.of_order(entry, action, view)
        with self._lock:
            if deed.deed_id in self._asking:
                return True
        self._keep(deed)
        if not self._runner.has_scripts(points.before(deed.action)):
            return False
        with self._lock:
            if self._is_stopping.is_set():
                return True
            self._asking.add(deed.deed_id)
            lane = self._lanes.get(deed.action)
            if lane is None:
                lane = futures.ThreadPoolExecutor(_ASKING, f"before-{deed.action}")
                self._lanes[deed.action] = lane
            lane.submit(self._answer, deed, answer)
        return True

    @contextlib.contextmanager
    def around(
        self,
        action: str,
        member: Member,
        user: str,
        correlation_id: CorrelationId | None,
    ) -> Iterator[None]:
        """Have scripts asked before what a caller does with a node, and told after.

        HookFailed, HooksBusy.
        """
        node = Object(Kind.NODE, member.node_id, member.name, member.address)
        now = clocks.rfc3339(self._clock.now())
        deed = Deed(
            *(self._new_id(), action, action, node, None, user, correlation_id, now),
            is_order=False,
        )
        if not self._has_scripts(action):
            yield
            return
        with self._lock:
            self._held.add(deed.deed_id)
        ending = None
        try:
            with self._turn():
                self._keep(deed)
                self._check(deed)
            yield
        except Error as error:
            ending = Ending(False, order.report(error))
            raise
        finally:
            with self._lock:
                self._held.discard(deed.deed_id)
                if ending is not None and deed.deed_id in self._kept:
                    self._endings[deed.deed_id] = ending

    def cycle(self) -> None:
        """Begin to tell scripts of what has ended."""
        with self._lock:
            kept = [each for key, each in self._kept.items() if key not in self._held]
        for deed in kept:
            with self._lock:
                is_turn = deed.object.id not in self._telling
                ending = self._endings.get(deed.deed_id)
            ending = ending or (self._how_ended(deed) if is_turn else None)
            if is_turn and ending is not None and not self._is_stopping.is_set():
                with self._lock:
                    self._telling.add(deed.object.id)
                self._tellers.submit(self._tell, deed, ending)

    def _run(self) -> None:
        while not self._is_stopping.wait(_PERIOD_S):
            try:
                self.cycle()
            except Unavailable as error:
                log.warning("scripts are told later: %s", error)

    def _has_scripts(self, action: str) -> bool:
        return any(map(self._runner.has_scripts, points.all_of(action)))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Let few callers wait for scripts: they hold what others need as well."""
        if not self._people.acquire(blocking=False):
            raise HooksBusy("others wait for scripts already")
        try:
            yield
        finally:
            self._people.release()

    def _answer(self, deed: Deed, answer: Answer) -> None:
        error = None
        try:
            self._check(deed)
        except Error as why_not:
            error = why_not
        try:
            if not self._is_stopping.is_set():
                answer(error)
        except Error as failed:  # the order is as it was: the loop comes by again
            log.warning("what scripts said of %s is lost: %s", deed.deed_id, failed)
        finally:
            with self._lock:
                self._asking.discard(deed.deed_id)

    def _check(self, deed: Deed) -> None:
        """Run the scripts before a deed; HookFailed, HooksBroken, HooksStopping."""
        point = points.before(deed.action)
        if self._runner.has_scripts(point):
            self._runner.check(point, self._attempt(deed, point))

    def _tell(self, deed: Deed, ending: Ending) -> None:
        point = points.after(deed.action, is_done=ending.is_done)
        try:
            self._attempt(deed, point, ending)
        except HooksStopping:
            return
        except Error as error:
            log.error("%s of %s is not told: %s", point, deed.object.name, error)
        else:
            log.debug("%s of %s was told", point, deed.object.name)
        self._forget(deed)

    def _attempt(self, deed: Deed, point: str, ending: Ending | None = None) -> Outcome:
        """Run the scripts of a point; HooksBroken, HooksStopping."""
        payload = deeds.payload(deed, point, ending)
        self._check_going()
        try:
            outcome = self._runner.attempt(
                Occasion(point, payload, vm_id=deed.vm_id or "")
            )
        except OSError as error:
            raise HooksBroken(f"scripts of {point} cannot be run: {error}") from error
        self._check_going()  # or it was ended with us, and has not spoken
        self._note(deed, point, outcome)
        return outcome

    def _check_going(self) -> None:
        if self._is_stopping.is_set():
            raise HooksStopping("the aggregator stops")

    def _note(self, deed: Deed, point: str, outcome: Outcome) -> None:
        """Keep as events what scripts said, and which failed or did not run."""
        found = [
            ("center_hook_failed", run.script, run.problem)
            if run.problem
            else ("center_hook_said", run.script, run.said[-_SAID_MAX:])
            for run in outcome.runs
            if run.problem or run.said
        ]
        refused = (
            ("center_hook_refused", each.name, each.refused) for each in outcome.refused
        )
        for code, script, detail in (*found, *refused):
            self._events.record(
                code,
                vm_id=deed.vm_id,
                node_id=deed.node_id,
                user=deed.user,
                correlation_id=deed.correlation_id,
                name=deed.object.name,
                point=point,
                script=script,
                detail=detail,
            )

    def _keep(self, deed: Deed) -> None:
        """Write down what is to be told; with too much kept, it is not told."""
        with self._lock:
            if deed.deed_id in self._kept:
                return
            is_full = len(self._kept) >= KEPT_MAX
        if is_full:
            self._events.record(
                "center_hooks_full", action=deed.action, name=deed.object.name
            )
            return
        self._records.put(deed.deed_id, wire.to_json(deed))
        with self._lock:
            self._kept[deed.deed_id] = deed

    def _forget(self, deed: Deed) -> None:
        with self._lock:
            self._kept.pop(deed.deed_id, None)
            self._endings.pop(deed.deed_id, None)
            self._telling.discard(deed.object.id)
        try:
            self._records.delete(deed.deed_id)
        except Unavailable as error:
            log.warning("scripts are told of %s again: %s", deed.deed_id, error)


def _read(records: db.Records) -> dict[str, Deed]:
    found: list[Deed] = []
    for record in records.list():
        try:
            found.append(wire.from_json(Deed, record.body, strict=False))
        except Invalid as error:
            log.error("%s cannot be read, and is not told: %s", record.id, error)
    found.sort(key=lambda each: each.asked_at)
    return {each.deed_id: each for each in found}
