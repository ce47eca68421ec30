"""Hold leases on shared storage: the door to sanlock.

A host joins a lockspace under its host id and renews it; a resource is leased
to one host of the lockspace at a time, with a version that grows with each new
owner. Sizes and offsets are bytes.

This process has one connection to sanlock for each lockspace, its lifeline: sanlock
releases the leases when the last process that has the lifeline open is gone. So a
child that writes under a lease inherits it, and the lease outlives us as long as
the child lives. One for each lockspace, since sanlock serves the requests of a
connection one by one, and a storage that hangs must not delay the others.
Source: sanlock(8), sanlock.h and cmd.c of version 3.8, docs of python-sanlock.
"""

import errno
import os
import select
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

import sanlock

from node.errors import (
    Busy,
    Conflict,
    Error,
    Failed,
    NotFound,
    Unavailable,
    Unsupported,
)
from node.units import MiB

# Format V5 of a domain on 512-byte sectors: 2,000 hosts, one MiB for each lease.
# On 4 KiB sectors that is enough for 250 hosts, as many as a pool may have.
SECTOR_BYTES: Final = 512
LEASE_BYTES: Final = 1 * MiB
# What sanlock keeps of the killpath's program, and of its arguments with blanks.
KILLPATH_MAX: Final = 127
IO_TIMEOUT_S: Final = 10  # sanlock's own: a dead host's leases are free after 140 s

# Whoever asks what was lost has other lockspaces to ask of, and comes back.
_GLANCE_S: Final = 1.0

# sanlock's own errors, from sanlock_rv.h of version 3.8.
_NOT_A_LEASE: Final = frozenset(range(-229, -222))  # what lies there is another thing
_VERSION_MOVED: Final = -240
_LEASE_HELD: Final = frozenset({-243, -244, -245})
_HOST_ID_HELD: Final = frozenset({-262, -263})


class LeasesDown(Unavailable):
    """sanlock does not run, or may not be spoken to."""

    code = "leases_down"
    remedy = "Start sanlock again, and read its log."


class LeaseHeld(Conflict):
    """Another host holds the lease, or did until it was last heard of."""

    code = "lease_held"
    remedy = "Wait until its owner releases it, or is known to be dead."


class LeaseMoved(Conflict):
    """The lease had another owner since the version that was asked for."""

    code = "lease_moved"
    remedy = "Whatever the old lease protected belongs to somebody else now: end it."


class HostIdHeld(Conflict):
    """Another host has this host id, or this host has another one already."""

    code = "host_id_held"
    remedy = "Use another host id, or leave the lockspace first."


class LeaseBusy(Busy):
    """sanlock is joining, leaving, acquiring or releasing it right now."""

    code = "lease_busy"
    remedy = "Try again in a moment."


class HostsUnknown(LeaseBusy):
    """We joined, and sanlock has not read yet who else is there.

    It reads the others' sectors with its first renewal after the join, 2 io_timeouts
    later, and answers EAGAIN until then: get_hosts of sanlock's lockspace.c.
    """

    code = "hosts_unknown"
    remedy = "Wait for the next renewal: 20 s with sanlock's own times."


class LeaseInUse(Conflict):
    """Somebody on this host holds a lease in the lockspace."""

    code = "lease_in_use"
    remedy = "Wait for what the lease protects, and release the lease first."


class NotALease(NotFound):
    """There is no lockspace or resource of this name there."""

    code = "not_a_lease"
    remedy = "Check the path and the offset, or write the lease first."


class NotHeld(Conflict):
    """We hold no such lease, or are in no such lockspace."""

    code = "lease_not_held"
    remedy = "Join the lockspace and acquire the lease first."


class LeaseFailed(Failed):
    code = "lease_failed"
    remedy = "Check the storage that the lease lies on, and sanlock's log."


class KillpathTooLong(Unsupported):
    """sanlock has no room for the program's path, or for its arguments."""

    code = "killpath_too_long"
    remedy = "Install the product in a folder with a shorter path."


class Liveness(StrEnum):
    UNKNOWN = "unknown"  # we joined too recently to tell
    FREE = "free"  # it left as it should
    LIVE = "live"
    FAIL = "fail"  # its renewals are late
    DEAD = "dead"  # its leases may be taken


@dataclass(frozen=True, slots=True)
class Lockspace:
    name: str  # up to 48 bytes
    path: Path
    offset: int = 0
    sector_bytes: int = SECTOR_BYTES  # or 4 KiB
    alignment_bytes: int = LEASE_BYTES  # or 2, 4, 8 MiB


@dataclass(frozen=True, slots=True)
class Resource:
    lockspace: str
    name: str  # up to 48 bytes
    path: Path
    offset: int
    sector_bytes: int = SECTOR_BYTES
    alignment_bytes: int = LEASE_BYTES


@dataclass(frozen=True, slots=True)
class Joined:
    """A lockspace that this host is in, whoever of its processes joined it."""

    name: str
    host_id: int
    path: Path
    offset: int


@dataclass(frozen=True, slots=True)
class Killpath:
    """The program that sanlock runs when a lockspace with our leases is lost.

    Afterwards the leases must be released before the grace period ends, or
    sanlock kills this process. It is run for a graceful request of another host,
    too, and cannot tell which it is.
    """

    program: Path
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sizes = (len(str(self.program)), len(" ".join(self.arguments)))
        if max(sizes) > KILLPATH_MAX:
            raise KillpathTooLong(f"sanlock would cut {self}")


@dataclass(frozen=True, slots=True)
class Host:
    host_id: int
    generation: int  # grows each time that the host joins
    liveness: Liveness
    timestamp: int  # of its last renewal, by its own clock, in seconds


@dataclass(frozen=True, slots=True)
class Owner:
    """Who had the lease last; whether he is alive, `hosts` tells."""

    host_id: int
    generation: int
    version: int


class Leases(Protocol):
    """All raise LeasesDown, LeaseFailed; more where it is said."""

    def write_lockspace(self, lockspace: Lockspace, io_timeout_s: int) -> None:
        """Format a lockspace: whoever was in it is not any more."""

    def add_lockspace(
        self, lockspace: Lockspace, host_id: int, io_timeout_s: int
    ) -> None:
        """Join under a host id; takes two renewals, or minutes after a crash.

        Joining again is no error. Raises HostIdHeld, NotALease, LeaseBusy.
        """

    def remove_lockspace(self, lockspace: Lockspace, host_id: int) -> None:
        """Leave. Raises NotHeld; LeaseInUse: somebody here holds a lease in it."""

    def is_joined(self, lockspace: Lockspace, host_id: int) -> bool: ...

    def joined(self) -> tuple[Joined, ...]:
        """Return the lockspaces that this host is in and does not leave."""

    def write_resource(self, resource: Resource) -> None:
        """Format a lease: nobody holds it any more."""

    def acquire(self, resource: Resource, version: int | None = None) -> int:
        """Take a lease for this process and return its version.

        Taking what we have is no error. A version given must be the one that
        the lease had when it was last held: LeaseMoved. Raises LeaseHeld,
        NotALease, NotHeld (not joined).
        """

    def release(self, resource: Resource) -> None:
        """Give a lease back. Idempotent.

        Raises LeasesDown if it went with a daemon that ended: then it is not ours.
        """

    def is_lost(self, resource: Resource) -> bool:
        """Tell whether a lease that we hold went with its lockspace: release it.

        LeaseBusy: something else is asked in the lockspace, and does not end soon.
        """

    def lifeline(self, lockspace: str) -> int | None:
        """Return the descriptor that children who write under its leases inherit.

        None: we never held a lease in the lockspace, or need no lifeline.
        """

    def read_owner(self, resource: Resource) -> Owner | None:
        """Read from the storage who has the lease; None: nobody. NotALease."""

    def hosts(self, lockspace: str) -> tuple[Host, ...]:
        """Return the hosts that are or were in a lockspace; NotHeld, HostsUnknown."""


@dataclass(slots=True)
class _Connection:
    descriptor: int
    lock: threading.Lock = field(default_factory=threading.Lock)  # one request a time
    # What was acquired through it and not released. While there is some, a connection
    # whose daemon ended is not replaced: its leases have to be found lost first.
    names: set[str] = field(default_factory=set)


class SanlockLeases:
    """The sanlock daemon of this machine."""

    def __init__(self, killpath: Callable[[str], Killpath] | None = None) -> None:
        """Connect later, when a lease is acquired.

        `killpath` says what is to be run when a lockspace is lost, by its name; None:
        sanlock sends SIGTERM.
        """
        self._killpath = killpath
        self._lock = threading.Lock()  # guards the table, never a request
        self._connections: dict[str, _Connection] = {}

    def write_lockspace(self, lockspace: Lockspace, io_timeout_s: int) -> None:
        with _our_errors(lockspace.name):
            sanlock.write_lockspace(
                lockspace.name.encode(),
                str(lockspace.path),
                offset=lockspace.offset,
                iotimeout=io_timeout_s,
                align=lockspace.alignment_bytes,
                sector=lockspace.sector_bytes,
            )

    def add_lockspace(
        self, lockspace: Lockspace, host_id: int, io_timeout_s: int
    ) -> None:
        if self.is_joined(lockspace, host_id):
            return
        with _our_errors(lockspace.name, {errno.EINVAL: HostIdHeld}):
            sanlock.add_lockspace(
                lockspace.name.encode(),
                host_id,
                str(lockspace.path),
                offset=lockspace.offset,
                iotimeout=io_timeout_s,
            )

    def remove_lockspace(self, lockspace: Lockspace, host_id: int) -> None:
        special = {errno.ENOENT: NotHeld, errno.EBUSY: LeaseInUse}
        with _our_errors(lockspace.name, special):
            sanlock.rem_lockspace(
                lockspace.name.encode(),
                host_id,
                str(lockspace.path),
                offset=lockspace.offset,
                unused=True,
            )

    def is_joined(self, lockspace: Lockspace, host_id: int) -> bool:
        with _our_errors(lockspace.name):
            state = sanlock.inq_lockspace(
                lockspace.name.encode(),
                host_id,
                str(lockspace.path),
                offset=lockspace.offset,
            )
        return state is True

    def joined(self) -> tuple[Joined, ...]:
        with _our_errors("lockspaces"):
            found = sanlock.get_lockspaces()
        return tuple(
            Joined(
                each["lockspace"].decode(errors="replace"),
                each["host_id"],
                Path(each["path"]),
                each["offset"],
            )
            for each in found
            if each["flags"] == 0  # neither joining nor leaving
        )

    def write_resource(self, resource: Resource) -> None:
        with _our_errors(resource.name):
            sanlock.write_resource(
                resource.lockspace.encode(),
                resource.name.encode(),
                [(str(resource.path), resource.offset)],
                align=resource.alignment_bytes,
                sector=resource.sector_bytes,
            )

    def acquire(self, resource: Resource, version: int | None = None) -> int:
        connection = self._connect(resource.lockspace)
        with connection.lock:
            held = _held(connection, resource)
            if held is None:
                with _our_errors(resource.name):
                    _acquire(connection, resource, version)
                held = _held(connection, resource)
            if held is None:
                raise NotHeld(f"{resource.name} was lost at once")
            connection.names.add(resource.name)
            return held

    def release(self, resource: Resource) -> None:
        connection = self._connections.get(resource.lockspace)
        if connection is None:
            return
        with connection.lock:
            if _is_closed(connection.descriptor):
                connection.names.discard(resource.name)
                raise LeasesDown(f"{resource.name} went with sanlock's daemon")
            if _held(connection, resource) is not None:
                with _our_errors(resource.name):
                    sanlock.release(
                        resource.lockspace.encode(),
                        resource.name.encode(),
                        [(str(resource.path), resource.offset)],
                        slkfd=connection.descriptor,
                    )
            connection.names.discard(resource.name)

    def is_lost(self, resource: Resource) -> bool:
        connection = self._connections.get(resource.lockspace)
        if connection is None:
            return True
        with _glance(connection, resource):
            try:
                if _held(connection, resource) is None:
                    return True
                # It is held already, says sanlock, unless the lockspace is dying.
                _acquire(connection, resource, None)
            except LeasesDown:
                return True
            except sanlock.SanlockException as error:
                return bool(error.errno != errno.EEXIST)
            return False

    def lifeline(self, lockspace: str) -> int | None:
        connection = self._connections.get(lockspace)
        return connection.descriptor if connection is not None else None

    def read_owner(self, resource: Resource) -> Owner | None:
        disks = [(str(resource.path), resource.offset)]
        with _our_errors(resource.name, {errno.EINVAL: NotALease}):
            owners = sanlock.read_resource_owners(
                resource.lockspace.encode(),
                resource.name.encode(),
                disks,
                align=resource.alignment_bytes,
                sector=resource.sector_bytes,
            )
            if not owners:
                return None
            record = sanlock.read_resource(
                str(resource.path),
                offset=resource.offset,
                align=resource.alignment_bytes,
                sector=resource.sector_bytes,
            )
        owner = owners[0]
        return Owner(owner["host_id"], owner["generation"], record["version"])

    def hosts(self, lockspace: str) -> tuple[Host, ...]:
        special = {errno.ENOENT: NotHeld, errno.EAGAIN: HostsUnknown}
        with _our_errors(lockspace, special):
            found = sanlock.get_hosts(lockspace.encode())
        return tuple(
            Host(
                host["host_id"],
                host["generation"],
                _LIVENESS[host["flags"]],
                host["timestamp"],
            )
            for host in found
        )

    def _connect(self, lockspace: str) -> _Connection:
        """Return the registered connection of a lockspace; LeasesDown.

        One whose daemon ended is replaced when the leases on it were released.
        """
        with self._lock:
            connection = self._connections.get(lockspace)
            if connection is not None and not _is_closed(connection.descriptor):
                return connection
            if connection is not None and connection.names:
                lost = ", ".join(sorted(connection.names))
                raise LeasesDown(f"sanlock's daemon ended, and with it {lost}")
            with _our_errors("register"):
                descriptor: int = sanlock.register()
                os.set_inheritable(descriptor, False)
                if self._killpath is not None:
                    killpath = self._killpath(lockspace)
                    sanlock.killpath(
                        str(killpath.program),
                        list(killpath.arguments),
                        slkfd=descriptor,
                    )
            if connection is not None:  # of a daemon that is gone
                os.close(connection.descriptor)
            self._connections[lockspace] = _Connection(descriptor)
            return self._connections[lockspace]


@contextmanager
def _glance(connection: _Connection, resource: Resource) -> Iterator[None]:
    """Have a connection alone for a quick question; LeaseBusy."""
    if not connection.lock.acquire(timeout=_GLANCE_S):
        raise LeaseBusy(f"{resource.lockspace} is busy for {_GLANCE_S:g} s")
    try:
        yield
    finally:
        connection.lock.release()


def _acquire(connection: _Connection, resource: Resource, version: int | None) -> None:
    sanlock.acquire(
        resource.lockspace.encode(),
        resource.name.encode(),
        [(str(resource.path), resource.offset)],
        slkfd=connection.descriptor,
        version=version,
    )


def _held(connection: _Connection, resource: Resource) -> int | None:
    """Return the version of a lease that this process holds; None: it does not."""
    with _our_errors(resource.name):
        held = sanlock.inquire(slkfd=connection.descriptor)
    for each in held:
        name = (each["lockspace"], each["resource"])
        if name == (resource.lockspace.encode(), resource.name.encode()):
            return int(each["version"])
    return None


def _is_closed(descriptor: int) -> bool:
    """Tell whether the daemon closed its end: it says nothing that is not asked."""
    poll = select.poll()
    poll.register(descriptor, select.POLLHUP)
    return bool(poll.poll(0))


_LIVENESS: Final = {
    sanlock.HOST_UNKNOWN: Liveness.UNKNOWN,
    sanlock.HOST_FREE: Liveness.FREE,
    sanlock.HOST_LIVE: Liveness.LIVE,
    sanlock.HOST_FAIL: Liveness.FAIL,
    sanlock.HOST_DEAD: Liveness.DEAD,
}


_ERRORS: Final[Mapping[int, type[Error]]] = {
    **dict.fromkeys(_NOT_A_LEASE, NotALease),
    **dict.fromkeys(_LEASE_HELD, LeaseHeld),
    **dict.fromkeys(_HOST_ID_HELD, HostIdHeld),
    _VERSION_MOVED: LeaseMoved,
    errno.ENOENT: NotALease,
    errno.ENOSPC: NotHeld,  # sanlock knows no such lockspace
    errno.EEXIST: LeaseHeld,  # by another process of this host
    **dict.fromkeys((errno.EINPROGRESS, errno.EAGAIN, errno.EBUSY), LeaseBusy),
    **dict.fromkeys((errno.ECONNREFUSED, errno.EACCES), LeasesDown),
    **dict.fromkeys((errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET), LeasesDown),
}


@contextmanager
def _our_errors(
    name: str, special: Mapping[int, type[Error]] = MappingProxyType({})
) -> Iterator[None]:
    """Raise sanlock's errors as ours; `special` is what a number means here."""
    try:
        yield
    except sanlock.SanlockException as error:
        number = error.errno
        kind = special.get(number) or _ERRORS.get(number, LeaseFailed)
        text = ": ".join(str(each) for each in error.args[1:])
        raise kind(f"{name}: {text}", error=number) from error
