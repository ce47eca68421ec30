"""Know which leases this process holds, and what is being written under each.

A lease is used by the programs and file operations that were started with its very
version; it is released only when the last of them is gone. A lease whose lockspace
was lost serves nobody any more: its users are killed, then sanlock gets it back.

    acquire ──► held ──release, no users──► gone
                 │ ▲ users come and go ─failed──► unsettled: asked again, sanlock says
                 └─lockspace lost──► lost ──last user gone──► told as lost

A user that was killed and does not die (it waits in the kernel) may still write, long
after: while it lives nobody else begins to write to its domain. A domain's key is the
name of its lockspace, so that programs, which name only leases, are held up as well.

Changes in one lockspace take turns. Who asked may be gone when his turn comes: `check`
is called then, and raises if nothing is to be begun for him any more (sessions.py).
"""

import contextlib
import functools
import logging
import select
import threading
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Final

from node.errors import Conflict, Error, Unavailable
from node.storage.process.local_leases import PREFIX
from node.storage.process.protocol import Held, Need, lockspaces
from node.system import leases
from node.system.leases import Leases, Lockspace, Resource

log = logging.getLogger(__name__)

Key = tuple[str, str]  # lockspace, resource
Check = Callable[[], None]  # raises if whoever asked is not served any more

# An acquisition on a slow storage takes two renewals; another one waits for it.
_TURN_S: Final = 60.0
# The watch has other lockspaces to look after: it comes back in the next round.
_GLANCE_S: Final = 1.0
# How many lost leases are told of until they are acquired again.
_LOST_MAX: Final = 256


class StaleLease(Conflict):
    """This process does not hold the lease in that version."""

    code = "stale_lease"
    remedy = "Find out who owns it now; acquire it again, and begin from what is there."


class WriterHangs(Unavailable):
    """A write to the domain was given up and cannot be ended: it may still land."""

    code = "storage_writer_hangs"
    remedy = "Bring the storage back, or reset the node; reading goes on meanwhile."


def _nothing() -> None:
    """Do nothing: kill nobody (he is killed when he is bound), or let all pass."""


class Use:
    """Something that writes under leases, until `end`."""

    def __init__(
        self,
        holdings: "Holdings",
        keys: tuple[Key, ...],
        domain: str = "",
        *,
        is_reading: bool = False,
    ) -> None:
        self.keys = keys
        self.domain = domain
        self.is_reading = is_reading
        self._holdings = holdings
        self._kill: Callable[[], None] | None = None
        self._is_lost = False
        self.has_ended = False

    def bind(self, kill: Callable[[], None]) -> None:
        """Say how to kill the user; done at once if a lease was lost meanwhile."""
        self._kill = kill
        if self._is_lost:
            kill()

    @property
    def is_lost(self) -> bool:
        """Tell whether one of the leases went with its lockspace."""
        return self._is_lost

    def mark_lost(self) -> Callable[[], None]:
        """Note the loss, and return how to kill the user."""
        self._is_lost = True
        return self._kill or _nothing

    def hang(self) -> None:
        """Say that it was killed and does not die; call it before `end`."""
        self._holdings.hang(self)

    def end(self) -> None:
        """Say that nothing is written any more. Idempotent."""
        self._holdings.end(self)


@dataclass(slots=True)
class _Lease:
    resource: Resource
    version: int
    users: set[Use] = field(default_factory=set)
    is_closing: bool = False  # being released: serves nobody any more
    has_failed: bool = False  # to be released: what sanlock thinks of it is not known
    is_lost: bool = False


class Holdings:
    """The leases of this process. All methods may raise what the door raises."""

    def __init__(self, door: Leases) -> None:
        self._door = door
        self._changed = threading.Condition()
        self._leases: dict[Key, _Lease] = {}
        self._lost: dict[Key, int] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._hanging: set[Use] = set()  # writers that were killed and do not die

    def leave(
        self, lockspace: Lockspace, host_id: int, check: Check = _nothing
    ) -> None:
        """Leave a lockspace; LeaseInUse while we or others here hold a lease in it."""
        with self._turn(lockspace.name):
            check()
            with self._changed:
                held = [name for space, name in self._leases if space == lockspace.name]
            if held:
                raise leases.LeaseInUse(
                    f"{held[0]} in {lockspace.name} is held", lease=held[0]
                )
            self._door.remove_lockspace(lockspace, host_id)

    def write_lockspace(
        self,
        lockspace: Lockspace,
        io_timeout_s: int,
        needs: tuple[Need, ...] = (),
        check: Check = _nothing,
    ) -> None:
        """Format a lockspace under leases; StaleLease."""
        with self._turn(lockspace.name), self._using(needs):
            check()
            self._door.write_lockspace(lockspace, io_timeout_s)

    def write_resource(
        self, resource: Resource, needs: tuple[Need, ...] = (), check: Check = _nothing
    ) -> None:
        """Format a lease under others; StaleLease."""
        with self._turn(resource.lockspace), self._using(needs):
            check()
            self._door.write_resource(resource)

    def acquire(
        self, resource: Resource, version: int | None, check: Check = _nothing
    ) -> int:
        """Take a lease and return its version; idempotent while it is held.

        One that could not be released is asked for again: sanlock knows what it is.
        """
        key = (resource.lockspace, resource.name)
        with self._turn(resource.lockspace):
            check()
            with self._changed:
                known = self._leases.get(key)
                if known is not None and known.is_lost:
                    raise leases.LeaseBusy(f"{resource.name} is being given up")
                if known is not None and not known.is_closing:
                    return known.version
            acquired = self._door.acquire(resource, version)
            with self._changed:
                self._leases[key] = _Lease(resource, acquired)
                self._lost.pop(key, None)
            log.info("acquired %s/%s, version %d", *key, acquired)
            try:
                check()
            except Error:
                # Nobody would know that we hold it; if it stays, that is told.
                with contextlib.suppress(Error):
                    self._release(resource)
                raise
        return acquired

    def release(self, resource: Resource, check: Check = _nothing) -> None:
        """Give a lease back; LeaseInUse while something is written under it."""
        with self._turn(resource.lockspace):
            check()
            self._release(resource)

    def held(self) -> tuple[Held, ...]:
        """Return the leases that may be used, and how many use each."""
        with self._changed:
            return tuple(
                Held(*key, lease.version, len(lease.users), str(lease.resource.path))
                for key, lease in self._leases.items()
                if not lease.is_closing and not lease.is_lost
            )

    def unsettled(self) -> tuple[Need, ...]:
        """Return the leases whose release failed: sanlock may hold them still."""
        with self._changed:
            return tuple(
                Need(*key, lease.version)
                for key, lease in self._leases.items()
                if lease.has_failed and not lease.is_lost
            )

    def lost(self) -> tuple[Need, ...]:
        """Return the leases that went with their lockspace, until acquired again."""
        with self._changed:
            return tuple(Need(*key, version) for key, version in self._lost.items())

    def use(
        self, needs: tuple[Need, ...], domain: str = "", *, is_reading: bool = False
    ) -> Use:
        """Begin to write under leases; StaleLease unless each is held as said.

        `domain`: where; empty: only the leases tell. Raises WriterHangs.
        """
        keys = tuple(dict.fromkeys((need.lockspace, need.resource) for need in needs))
        use = Use(self, keys, domain, is_reading=is_reading)
        with self._changed:
            if not is_reading:
                self._refuse_writes({domain, *lockspaces(needs)})
            for need in needs:
                lease = self._leases.get((need.lockspace, need.resource))
                is_usable = lease and not lease.is_closing and not lease.is_lost
                if lease is None or not is_usable or lease.version != need.version:
                    raise StaleLease(
                        f"{need.resource} in {need.lockspace} is not held in "
                        f"version {need.version}",
                        lockspace=need.lockspace,
                        resource=need.resource,
                        version=need.version,
                    )
            for key in keys:
                self._leases[key].users.add(use)
        return use

    def hang(self, use: Use) -> None:
        with self._changed:
            if not use.is_reading and not use.has_ended:
                self._hanging.add(use)

    def end(self, use: Use) -> None:
        with self._changed:
            use.has_ended = True
            self._hanging.discard(use)
            for key in use.keys:
                lease = self._leases.get(key)
                if lease is not None:
                    lease.users.discard(use)
            self._changed.notify_all()

    def lifelines(self, needs: tuple[Need, ...]) -> tuple[int, ...]:
        """Return what a program that writes under these leases inherits."""
        found = (self._door.lifeline(space) for space in lockspaces(needs))
        return tuple(each for each in found if each is not None)

    def forget_lost(self, only: Container[str] | None = None) -> None:
        """Find the leases that went with their lockspace, and kill their users.

        `only`: in these lockspaces; None: in all. Looks at all, then raises what the
        door said of the first that it could not tell of.
        """
        with self._changed:
            suspects = {
                key: lease
                for key, lease in self._leases.items()
                if not lease.is_lost
                and (only is None or key[0] in only)
                and (lease.has_failed or not lease.is_closing)
            }
        failed: list[Error] = []
        for key, lease in suspects.items():
            try:
                is_lost = self._door.is_lost(lease.resource)
            except Error as error:
                failed.append(error)
                continue
            if is_lost:
                self._doom(key, lease)
        if failed:
            raise failed[0]

    def judge(self, use: Use, needs: tuple[Need, ...]) -> None:
        """Mark a user that was killed as lost if one of its leases is.

        sanlock's killpath may have ended it before we knew why.
        """
        self.forget_lost({need.lockspace for need in needs})
        with self._changed:
            if any(
                self._lost.get((need.lockspace, need.resource)) == need.version
                for need in needs
            ):
                use.mark_lost()

    def give_up_lost(self, timeout_s: float) -> None:
        """Give lost leases back to sanlock, once their users are gone.

        Those whose users do not die in time stay with sanlock, which kills us or
        resets the node before anybody else may have them; call it again. So do those
        of a lockspace where something else is under way.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            doomed = [
                (key, lease) for key, lease in self._leases.items() if lease.is_lost
            ]
            for _, lease in doomed:
                self._changed.wait_for(
                    functools.partial(_is_unused, lease), deadline - time.monotonic()
                )
        for key, lease in doomed:
            if _is_unused(lease):
                with contextlib.suppress(leases.LeaseBusy):
                    self._give_up(key, lease)

    def is_severed(self) -> bool:
        """Tell whether sanlock closed a connection that we hold leases on."""
        with self._changed:
            spaces = {space for space, _ in self._leases}
        poll = select.poll()
        for space in spaces:
            descriptor = self._door.lifeline(space)
            if descriptor is not None:
                poll.register(descriptor, select.POLLHUP)
        return bool(poll.poll(0))

    def _refuse_writes(self, domains: set[str]) -> None:
        wanted = {each.removeprefix(PREFIX) for each in domains if each}
        for use in self._hanging:
            if use.domain.removeprefix(PREFIX) in wanted:
                raise WriterHangs(
                    f"a writer of {use.domain} does not end", domain=use.domain
                )

    def _doom(self, key: Key, lease: _Lease) -> None:
        with self._changed:
            if lease.is_lost:
                return
            lease.is_lost = True
            self._lost[key] = lease.version
            while len(self._lost) > _LOST_MAX:
                del self._lost[next(iter(self._lost))]
            kills = [use.mark_lost() for use in lease.users]
        log.error(
            "lost %s/%s, version %d: %d users killed", *key, lease.version, len(kills)
        )
        for kill in kills:
            kill()

    def _give_up(self, key: Key, lease: _Lease) -> None:
        with self._turn(lease.resource.lockspace, _GLANCE_S):
            if self._leases.get(key) is not lease:
                return
            try:
                self._door.release(lease.resource)
            except Error as error:
                # sanlock is gone, or did it before us: the lease is not ours.
                log.warning("cannot return %s/%s: %s", *key, error)
            with self._changed:
                del self._leases[key]

    def _release(self, resource: Resource) -> None:
        """Give a lease back in the lockspace's turn."""
        key = (resource.lockspace, resource.name)
        with self._changed:
            lease = self._leases.get(key)
            if lease is not None and lease.users:
                raise leases.LeaseInUse(
                    f"{len(lease.users)} still use {resource.name}",
                    lease=resource.name,
                )
            if lease is not None:
                lease.is_closing, lease.has_failed = True, False
        try:
            self._door.release(resource)
        except Error:
            if lease is not None:
                lease.has_failed = True
            raise
        with self._changed:
            self._leases.pop(key, None)
        log.info("released %s/%s", *key)

    @contextlib.contextmanager
    def _using(self, needs: tuple[Need, ...]) -> Iterator[None]:
        use = self.use(needs)
        try:
            yield
        finally:
            use.end()

    @contextlib.contextmanager
    def _turn(self, lockspace: str, timeout_s: float = _TURN_S) -> Iterator[None]:
        """Wait until nobody else changes a lease in the lockspace; LeaseBusy."""
        with self._changed:
            turn = self._turns.setdefault(lockspace, threading.Lock())
        started = time.monotonic()
        if not turn.acquire(timeout=timeout_s):
            elapsed_s = time.monotonic() - started
            raise leases.LeaseBusy(f"{lockspace} is busy for {elapsed_s:.0f} s")
        try:
            yield
        finally:
            turn.release()


def _is_unused(lease: _Lease) -> bool:
    return not lease.users
