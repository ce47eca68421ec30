"""Be a pool's manager (SPM): take the leases, hold them, give them back, or lose them.

A manager holds the SDM lease of the master and that of every other active data
storage domain; whatever writes to one needs both. So no two nodes change the same
storage domain, not even while they differ about which is the master. The storage
process checks the leases; this only knows what to ask it.
Source: docs/formats/spm.md; the states: `spm_states`.
"""

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from node.clock import Clock, rfc3339
from node.errors import Busy, Conflict, Error, Unavailable
from node.model.ids import NodeId
from node.model.reason import Reason
from node.model.storage import PoolMark, SpmView
from node.storage import aside
from node.storage.domains.access import LOOK_S, Access
from node.storage.formats.layout import SPM_RESOURCE, Special
from node.storage.formats.pool_map import PoolMap
from node.storage.guard import Guard
from node.storage.process.holdings import StaleLease
from node.storage.process.protocol import Need
from node.storage.spm import structure_lease
from node.storage.spm.states import TOLD, TRANSITIONS, Event, State
from node.system.leases import IO_TIMEOUT_S

log = logging.getLogger(__name__)

# A step that cannot be interrupted: the longest is a purge, or one qemu-img.
FINISH_S: Final = 60.0
_POLL_S: Final = 0.1
# Joining takes 30 s. Who needs longer is taken on later, by `Pool.mend`.
OTHERS_S: Final = 60.0
# Who tidies, or moves the master, is done in a moment, mostly.
TURN_S: Final = 5.0
# Changes of a VM's definition take a moment, jobs on disks may take hours.
QUIET_S: Final = 10.0
# The master may move while we ask for its lease; then again, but not for ever.
_MASTERS_MAX: Final = 3
# Room for the leases of one master; see `Term.mark`.
_VERSIONS: Final = 1 << 32


class SpmLost(Conflict):
    """This node was the manager until its lease was lost."""

    code = "spm_lost"
    remedy = "Nothing: another node is elected, finishes or undoes, and can be asked."


class NotSpm(Conflict):
    """Only the manager of the pool may do this."""

    code = "not_spm"
    remedy = "Ask the node that manages the pool."


class SpmStandsBack(Conflict):
    """The node gave the lease away a moment ago, for another one to take."""

    code = "spm_stands_back"
    remedy = "Ask another node, or wait until the time that the message names."


class SpmChanging(Busy):
    """The node is becoming manager, or leaving."""

    code = "spm_changing"
    remedy = "Try again in a moment."


class WorkUnderWay(Busy):
    """Jobs of the manager have begun and not ended."""

    code = "pool_work_under_way"
    remedy = "Wait until the pool's jobs have ended, or cancel them, then try again."


class StorageDomainNotHeld(Unavailable):
    """The manager does not hold the lease of that storage domain."""

    code = "storage_domain_not_held"
    remedy = (
        "Activate the storage domain. If it is active, it did not answer for a while: "
        "the manager takes its lease again as soon as it does."
    )


@dataclass(frozen=True, slots=True)
class Term:
    """By what right the manager writes."""

    node_id: NodeId
    master_id: str
    master_version: int
    held: Mapping[str, Need] = field(default_factory=dict)  # by storage domain

    @property
    def lease_version(self) -> int:
        return self.held[self.master_id].version

    @property
    def number(self) -> int:
        """Grows with each manager, also when another storage domain is master.

        The leases of two masters count on their own, so the master's version leads.
        """
        return self.master_version * _VERSIONS + self.lease_version

    def is_overtaken(self, pool_map: PoolMap) -> bool:
        """Tell whether a newer map names another master, or this one anew."""
        ours = (self.master_id, self.master_version)
        return (pool_map.master_id, pool_map.master_version) != ours

    def mark(self, generation: int) -> PoolMark:
        return PoolMark(self.number, generation)

    def needs(self, storage_domain_id: str) -> tuple[Need, ...]:
        """Return what a step must name to write there; StorageDomainNotHeld."""
        need = self.held.get(storage_domain_id)
        if need is None:
            raise StorageDomainNotHeld(
                f"the lease of storage domain {storage_domain_id} is not held",
                storage_domain_id=storage_domain_id,
            )
        return tuple(dict.fromkeys((self.held[self.master_id], need)))


class Ground(Protocol):
    """What the manager must know of its pool."""

    def master(self) -> Access:
        """Return the master as this node knows it now."""

    def refresh(self) -> PoolMap:
        """Read the newest map that is within reach."""

    def others(self) -> Sequence[Access]:
        """Return the active data storage domains but the master."""

    def reached(self) -> Sequence[Access]:
        """Return all storage domains that this node reaches, in use or not."""


class Spm:
    """One node's part in the management of one pool."""

    def __init__(
        self,
        guard: Guard,
        ground: Ground,
        node_id: NodeId,
        clock: Clock,
        recover: Callable[[Term], None],
        *,
        io_timeout_s: int = IO_TIMEOUT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`recover` finishes or undoes what earlier managers left in journals."""
        self._guard = guard
        self._ground = ground
        self._node_id = node_id
        self._clock = clock
        self._recover = recover
        self._io_timeout_s = io_timeout_s
        self._sleep = sleep
        self._turn = threading.RLock()  # who becomes or leaves
        self._lock = threading.Lock()  # guards what follows
        self._idle = threading.Condition(self._lock)
        self._state = State.FREE
        self._since = rfc3339(clock.now())
        self._reason: Reason | None = None
        self._term: Term | None = None
        self._was_lost = False
        self._workers = 0
        self._is_quiet = False
        self._stands_back_until = 0.0
        self.on_stale: Callable[[], None] = lambda: None  # work met a lost lease

    @property
    def state(self) -> State:
        return self._state

    @property
    def stands_back_until(self) -> float:
        """By the monotonic clock; in the past: it does not."""
        return self._stands_back_until

    def view(self) -> SpmView:
        """Return what this node is, and under which lease."""
        with self._lock:
            term = self._term
            return SpmView(
                TOLD[self._state],
                self._node_id if term is not None else None,
                term.lease_version if term is not None else 0,
                self._since,
                self._reason,
            )

    def term(self) -> Term:
        """Return the right to write; SpmLost, or NotSpm."""
        with self._lock:
            return self._require()

    @contextlib.contextmanager
    def work(self) -> Iterator[Term]:
        """Do the manager's work; who leaves waits for its end.

        Raises NotSpm, SpmChanging, and SpmLost also in the middle, when a lease is
        gone.
        """
        with self._idle:
            if not self._idle.wait_for(lambda: not self._is_quiet, TURN_S):
                raise SpmChanging("the master of the pool is being moved")
            term = self._require()
            self._workers += 1
        try:
            yield term
        except Conflict as error:
            # It may have travelled: its code says what it is.
            if error.code == StaleLease.code:
                is_ours = self._stands(term)
                self.on_stale()
                if not is_ours:
                    raise SpmLost(f"the lease was lost: {error}") from error
            raise
        finally:
            with self._idle:
                self._workers -= 1
                self._idle.notify_all()

    @contextlib.contextmanager
    def quiet(self, timeout_s: float = QUIET_S) -> Iterator[None]:
        """Within one's own `work`, be the only one; WorkUnderWay."""
        with self._idle:
            if self._is_quiet:
                raise SpmChanging("the master of the pool is being moved")
            self._is_quiet = True
        try:
            with self._idle:
                if not self._idle.wait_for(lambda: self._workers <= 1, timeout_s):
                    raise WorkUnderWay(f"{self._workers - 1} jobs are under way")
            yield
        finally:
            with self._idle:
                self._is_quiet = False
                self._idle.notify_all()

    @contextlib.contextmanager
    def alone(self, timeout_s: float = 0.0) -> Iterator[None]:
        """Let nobody else become manager, leave or tidy; SpmChanging. Reentrant."""
        if not self._turn.acquire(timeout=timeout_s):
            raise SpmChanging(f"this node is {self._state} just now")
        try:
            yield
        finally:
            self._turn.release()

    def become(self, lease_version: int | None = None) -> Term:
        """Take the leases and recover; asked again, the same.

        `lease_version` is what the caller saw. Raises SpmHeld, SpmMoved,
        SpmStandsBack, SpmChanging, and what leases, files and `recover` raise.
        """
        with self.alone(TURN_S):
            if self._state is State.SERVING and self.check():
                return self.term()
            wait_s = self._stands_back_until - self._clock.monotonic()
            if wait_s > 0:
                raise SpmStandsBack(f"it stands back for {wait_s:.0f} s more")
            began = time.monotonic()
            log.info("becoming manager")
            self._step(Event.ASKED)
            try:
                term = self._take(lease_version)
                self._recover(term)
                started = Reason("spm_started", self._now())
                if not (self.check() and self._step(Event.RECOVERED, started)):
                    raise SpmLost("the lease was lost before the work began")
            except BaseException:
                self._fail()
                raise
            elapsed_s = time.monotonic() - began
            log.info("manager under %d after %.1f s", term.number, elapsed_s)
            return self.term()

    def leave(self, stand_back_s: float = 0.0, finish_s: float = FINISH_S) -> None:
        """Finish what is under way, and give the leases back. Idempotent.

        From now on no work begins; what began before may end. Raises SpmChanging if
        it does not in time: then this node serves on.
        """
        with self.alone(TURN_S):
            if self._state is State.SERVING and self._step(Event.LEAVE):
                log.info("leaving the management")
                try:
                    self._wait_idle(finish_s)
                except BaseException:
                    self._step(Event.FAILED)
                    raise
                self._give_back()
                self._step(Event.RELEASED, Reason("spm_stopped", self._now()))
                log.info("manager no more")
            self._stands_back_until = self._clock.monotonic() + stand_back_s

    def check(self) -> bool:
        """Tell whether the master's lease is still held; note if it was lost."""
        while True:
            term = self._term
            if term is None:
                return False
            if term.held[term.master_id] in self._held():
                return True
            if self._lose(term):
                return False

    def is_left_over(self) -> bool:
        """Tell whether the storage process manages for us from before a restart."""
        lease = self._ground.master().spm_lease
        held = self._guard.leases().held
        return self._term is None and any(
            (each.lockspace, each.resource) == (lease.lockspace, lease.name)
            for each in held
        )

    def is_coming(self) -> bool:
        """Tell whether this node will manage in a moment, or stop to."""
        # In this order: who manages again has no lease left over, and then serves.
        is_left_over = self.is_left_over()
        return is_left_over or self._state not in (State.FREE, State.SERVING)

    def tidy(self) -> None:
        """Give back leases that a lost or failed management left behind.

        Also those of storage domains that are not in use: nobody else could ever
        take one.
        """
        with self.alone():
            if self._state is not State.FREE:
                return
            left = self._left()
            for access in self._ground.reached():
                if access.lockspace.name in left:
                    structure_lease.release(self._guard, access)

    def tidy_resting(self, resting: Sequence[Access]) -> None:
        """As manager, give back the leases of storage domains that are not in use."""
        names = {each.storage_domain_id for each in resting}
        with self._lock:
            term = self._require()
            held = {key: need for key, need in term.held.items() if key not in names}
            assert term.master_id in held, "the master is in use"
            self._term = replace(term, held=held)
        left = self._left()
        for access in resting:
            if access.lockspace.name in left:
                structure_lease.release(self._guard, access)

    def drop_lost(self) -> Term:
        """Forget the leases of other storage domains than the master that were lost.

        What works there is refused until `hold` has taken the lease anew. Returns
        what is left; raises NotSpm and SpmLost.
        """
        before = self.term()
        there = self._held()
        lost = {
            key: need
            for key, need in before.held.items()
            if key != before.master_id and need not in there
        }
        with self._lock:
            term = self._require()
            # One that was taken meanwhile bears another version.
            kept = {k: v for k, v in term.held.items() if lost.get(k) != v}
            for key in sorted(set(term.held) - set(kept)):
                log.warning("the lease of storage domain %s was lost", key)
            self._term = replace(term, held=kept)
            return self._term

    def hold(self, access: Access, term: Term) -> Term:
        """Take the lease of one more storage domain; return the term with it.

        Raises SpmHeld, and SpmLost if `term` ended meanwhile.
        """
        structure_lease.join(self._guard, access, self._node_id, self._io_timeout_s)
        need = access.need(structure_lease.acquire(self._guard, access))
        storage_domain_id = access.storage_domain_id
        with self._lock:
            now = self._term
            if now is not None and _is_same(now, term):
                self._term = replace(now, held={**now.held, storage_domain_id: need})
                return self._term
            is_used = now is not None and storage_domain_id in now.held
        if not is_used:
            structure_lease.release(self._guard, access)
        raise SpmLost("the management in which the lease was wanted has ended")

    def let_go(self, access: Access, term: Term) -> Term:
        """Give back the lease of a storage domain that is not the master."""
        gone = access.storage_domain_id
        with self._lock:
            now = self._require_same(term)
            assert gone != now.master_id, "the master's is ours"
            held = {key: need for key, need in now.held.items() if key != gone}
            self._term = term = replace(now, held=held)
        structure_lease.release(self._guard, access)
        return term

    def follow(self, pool_map: PoolMap, term: Term) -> Term:
        """Serve under another master, whose lease is held."""
        with self._lock:
            now = self._require_same(term)
            assert pool_map.master_id in now.held, "the master's lease is not held"
            self._term = replace(
                now,
                master_id=pool_map.master_id,
                master_version=pool_map.master_version,
            )
            return self._term

    def _take(self, lease_version: int | None) -> Term:
        """Take the lease of what is the master, and those of the others."""
        for _ in range(_MASTERS_MAX):
            access = self._ground.master()
            structure_lease.join(self._guard, access, self._node_id, self._io_timeout_s)
            if self._state is State.JOINING:
                self._step(Event.JOINED)
            version = structure_lease.acquire(self._guard, access, lease_version)
            try:
                pool_map = self._ground.refresh()
            except BaseException:
                structure_lease.release(self._guard, access)
                raise
            if pool_map.master_id == access.storage_domain_id:
                return self._begin(access, version, pool_map)
            log.info("the master is %s by now", pool_map.master_id)
            structure_lease.release(self._guard, access)
            lease_version = None
        raise SpmChanging("the master of the pool keeps moving")

    def _begin(self, master: Access, version: int, pool_map: PoolMap) -> Term:
        held = {master.storage_domain_id: master.need(version)}
        term = Term(self._node_id, pool_map.master_id, pool_map.master_version, held)
        self._step(Event.ACQUIRED, term=term)
        self._hold_others(term)
        with self._lock:
            if self._term is None:
                raise SpmLost("the lease was lost before the work began")
            return self._term

    def _hold_others(self, term: Term) -> None:
        """Take the leases of the other storage domains, all at once.

        One that is out of order is left to `Pool.mend`.
        """

        def take(access: Access) -> None:
            try:
                path = str(access.layout.special(Special.METADATA))
                access.files(self._guard, deadline_s=LOOK_S).probe(path)
                self.hold(access, term)
            except Error as error:
                log.warning("without %s: %s", access.storage_domain_id, error)

        takes = [functools.partial(take, each) for each in self._ground.others()]
        for each in aside.at_once("hold", takes, OTHERS_S):
            if not each.done():
                log.warning("without a storage domain that takes long")
            else:
                each.result()  # a bug of ours shows

    def _fail(self) -> None:
        """Come back from a failed attempt with nothing held."""
        term = self._drop_term()
        if self._step(Event.FAILED) and term is not None:
            self._release_all(term)
            self._step(Event.RELEASED)

    def _lose(self, term: Term) -> bool:
        """Note that the master's lease is lost; False: `term` is not our term now."""
        with self._lock:
            now = self._term
            if now is None or not _is_same(now, term):
                return False
            if now.master_id != term.master_id:
                return False
            self._was_lost, self._term = True, None
            text = f"the storage process does not hold {term.lease_version} any more"
            self._move(Event.LOST, Reason("spm_lost", self._now(), {"detail": text}))
        log.error("the lease of the master %s was lost", term.master_id)
        self._release_all(now)
        return True

    def _give_back(self) -> None:
        term = self._drop_term()
        if term is not None:
            self._release_all(term)

    def _drop_term(self) -> Term | None:
        with self._lock:
            term, self._term = self._term, None
            return term

    def _release_all(self, term: Term) -> None:
        """Release the leases, the master's last: who gets it can get the others.

        What cannot be released now is by `tidy`, in a later round.
        """
        reached = {each.storage_domain_id: each for each in self._ground.reached()}
        last = term.master_id
        for key in sorted(term.held, key=lambda each: (each == last, each)):
            if key in reached:
                structure_lease.release(self._guard, reached[key])

    def _held(self) -> frozenset[Need]:
        """Return the leases of storage domains' structures that can be used here."""
        return frozenset(
            Need(each.lockspace, each.resource, each.version)
            for each in self._guard.leases().held
            if each.resource == SPM_RESOURCE
        )

    def _left(self) -> frozenset[str]:
        """Return the lockspaces where a lease is held, or could not be released."""
        leases = self._guard.leases()
        found = ((each.lockspace, each.resource) for each in leases.held)
        failed = ((each.lockspace, each.resource) for each in leases.unsettled)
        return frozenset(
            space for space, name in (*found, *failed) if name == SPM_RESOURCE
        )

    def _wait_idle(self, finish_s: float) -> None:
        deadline = self._clock.monotonic() + finish_s
        while self._state is State.RELEASING and (self._workers or self._users()):
            if self._clock.monotonic() >= deadline:
                raise SpmChanging(f"the work under way did not end in {finish_s:.0f} s")
            self._sleep(_POLL_S)

    def _users(self) -> int:
        """Return how many programs and file operations write under our leases."""
        term = self._term
        ours = {each.lockspace for each in term.held.values()} if term else set()
        return sum(
            each.users
            for each in self._guard.leases().held
            if each.lockspace in ours and each.resource == SPM_RESOURCE
        )

    def _require(self) -> Term:
        if self._state is State.SERVING and self._term is not None:
            return self._term
        if self._was_lost:
            raise SpmLost("the lease was lost")
        raise NotSpm(f"this node is {self._state} in the pool")

    def _stands(self, term: Term) -> bool:
        """Tell whether we still manage, and under the same lease."""
        now = self._term if self.check() else None
        return now is not None and _is_same(now, term)

    def _require_same(self, term: Term) -> Term:
        """Return the term as it is now, also while we wait to leave; SpmLost."""
        if self._term is None or not _is_same(self._term, term):
            raise SpmLost("the management that this belongs to has ended")
        return self._term

    def _step(
        self, event: Event, reason: Reason | None = None, term: Term | None = None
    ) -> bool:
        """Go on; False: the lease was lost meanwhile. `term` begins with this step."""
        with self._lock:
            if self._state is State.FREE and event is not Event.ASKED:
                return False
            if term is not None:
                self._term, self._was_lost = term, False
            self._move(event, reason)
            return True

    def _move(self, event: Event, reason: Reason | None) -> None:
        before, self._state = self._state, TRANSITIONS[self._state, event]
        self._since, self._reason = self._now(), reason
        log.debug("%s: %s to %s", event, before, self._state)

    def _now(self) -> str:
        return rfc3339(self._clock.now())


def _is_same(now: Term, term: Term) -> bool:
    """Tell whether a term still stands: with more or fewer leases, or a new master."""
    return now.held.get(term.master_id) == term.held[term.master_id]
