"""Grant leases of local storage domains ourselves; ask sanlock for all others.

Only this host reaches a local disk, and only one storage process runs here, which
kills what an earlier one left: so a table in memory decides as well as sanlock does,
and a node that boots manages its own disk at once. What must outlive us is the
version: it grows with each acquisition, also over restarts, so that whoever comes
with an old one is refused. Why: docs/decisions/0004-leases-of-local-disks.md.

A lockspace is local by its name, `local:<storage domain id>`; its path is a file
with one line of JSON, {"schema":1,"granted":17}: 17 is the version granted last. The
folder belongs to the storage user, who may put anything there: so a worker reads and
writes it, as that user. A disk may hang: whatever waits for it has only the turn of
its own lockspace, and nothing else waits for that.
"""

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from node.storage.process.file_operations import FileMissing
from node.storage.process.protocol import FileReplies, FileWork
from node.system.leases import (
    Host,
    HostIdHeld,
    Joined,
    LeaseBusy,
    LeaseInUse,
    LeaseMoved,
    Leases,
    LeasesDown,
    Liveness,
    Lockspace,
    NotALease,
    NotHeld,
    Owner,
    Resource,
)

PREFIX: Final = "local:"
HOST_ID: Final = 1  # there is no other host
_SCHEMA: Final = 1
_MODE: Final = 0o660
_SIZE_MAX: Final = 1000
# Of reading and writing one sector; a disk that takes longer is as good as dead.
_DEADLINE_S: Final = 20.0

Work = Callable[[FileWork], FileReplies]  # has file operations done by a worker


@dataclass(slots=True)
class _Space:
    """A local lockspace that was joined."""

    lockspace: Lockspace
    held: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)  # since we joined


class LocalLeases:
    """Leases that this process grants to itself."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lock = threading.Lock()  # guards the tables; nobody waits with it
        self._spaces: dict[str, _Space] = {}
        self._turns: dict[str, threading.Lock] = {}

    def write_lockspace(self, lockspace: Lockspace, io_timeout_s: int) -> None:
        """Format it; one that is there keeps its number, which must only grow."""
        with self._turn(lockspace.name):
            if self._read(lockspace) is None:
                self._write(lockspace, 0)

    def add_lockspace(
        self, lockspace: Lockspace, host_id: int, io_timeout_s: int
    ) -> None:
        if host_id != HOST_ID:
            raise HostIdHeld(f"in {lockspace.name} there is only host {HOST_ID}")
        with self._turn(lockspace.name):
            known = self._spaces.get(lockspace.name)
            if known is not None and known.lockspace.path == lockspace.path:
                return
            if known is not None:
                raise HostIdHeld(f"{lockspace.name} was joined at another path")
            _granted(lockspace, self._read(lockspace))
            with self._lock:
                self._spaces[lockspace.name] = _Space(lockspace)

    def remove_lockspace(self, lockspace: Lockspace, host_id: int) -> None:
        with self._turn(lockspace.name), self._lock:
            if self._space(lockspace.name).held:
                raise LeaseInUse(f"a lease in {lockspace.name} is held")
            del self._spaces[lockspace.name]

    def is_joined(self, lockspace: Lockspace, host_id: int) -> bool:
        return lockspace.name in self._spaces and host_id == HOST_ID

    def joined(self) -> tuple[Joined, ...]:
        with self._lock:
            return tuple(
                Joined(name, HOST_ID, each.lockspace.path, each.lockspace.offset)
                for name, each in self._spaces.items()
            )

    def write_resource(self, resource: Resource) -> None:
        """Do nothing: a lease is there as soon as somebody wants it."""

    def acquire(self, resource: Resource, version: int | None = None) -> int:
        with self._turn(resource.lockspace):
            space = self._space(resource.lockspace)
            if resource.name in space.held:
                return space.held[resource.name]
            last = space.last.get(resource.name)
            if version is not None and version != last:
                raise LeaseMoved(f"{resource.name} has version {last}, not {version}")
            granted = _granted(space.lockspace, self._read(space.lockspace)) + 1
            self._write(space.lockspace, granted)
            with self._lock:
                space.held[resource.name] = space.last[resource.name] = granted
            return granted

    def release(self, resource: Resource) -> None:
        with self._lock:
            space = self._spaces.get(resource.lockspace)
            if space is not None:
                space.held.pop(resource.name, None)

    def is_lost(self, resource: Resource) -> bool:
        with self._lock:
            space = self._spaces.get(resource.lockspace)
            return space is None or resource.name not in space.held

    def lifeline(self, lockspace: str) -> int | None:
        return None  # children die with us: PR_SET_PDEATHSIG, and our successor

    def read_owner(self, resource: Resource) -> Owner | None:
        with self._lock:
            space = self._spaces.get(resource.lockspace)
            version = space.held.get(resource.name) if space is not None else None
        return None if version is None else Owner(HOST_ID, 1, version)

    def hosts(self, lockspace: str) -> tuple[Host, ...]:
        with self._lock:
            self._space(lockspace)
        return (Host(HOST_ID, 1, Liveness.LIVE, 1),)

    def _space(self, name: str) -> _Space:
        space = self._spaces.get(name)
        if space is None:
            raise NotHeld(f"{name} was not joined")
        return space

    def _read(self, lockspace: Lockspace) -> bytes | None:
        """Return what the file says; None: there is none."""
        try:
            found = self._do(lockspace, "read", size_max=_SIZE_MAX)
        except FileMissing:
            return None
        return base64.b64decode(found)

    def _write(self, lockspace: Lockspace, granted: int) -> None:
        """Put the number on disk before anybody hears it."""
        text = json.dumps({"schema": _SCHEMA, "granted": granted}) + "\n"
        data = base64.b64encode(text.encode()).decode()
        self._do(lockspace, "write_whole", data=data, mode=_MODE)

    def _do(self, lockspace: Lockspace, name: str, **arguments: object) -> Any:
        path = lockspace.path
        operation = {"name": name, "path": str(path), **arguments}
        done = self._work(
            FileWork(lockspace.name, str(path.parent), (operation,), _DEADLINE_S)
        )
        if done.problem is None:
            return done.replies[0]
        if done.problem.code == FileMissing.code:
            raise FileMissing(done.problem.message)
        raise done.problem.revive()

    @contextlib.contextmanager
    def _turn(self, lockspace: str) -> Iterator[None]:
        """Wait until nobody else is at the lockspace's file; LeaseBusy."""
        with self._lock:
            turn = self._turns.setdefault(lockspace, threading.Lock())
        if not turn.acquire(timeout=_DEADLINE_S):
            raise LeaseBusy(f"{lockspace} is busy for {_DEADLINE_S:g} s")
        try:
            yield
        finally:
            turn.release()


class LeasesByName:
    """Local leases by us, all others by sanlock."""

    def __init__(self, local: Leases, shared: Leases) -> None:
        self._local = local
        self._shared = shared

    def write_lockspace(self, lockspace: Lockspace, io_timeout_s: int) -> None:
        self._of(lockspace.name).write_lockspace(lockspace, io_timeout_s)

    def add_lockspace(
        self, lockspace: Lockspace, host_id: int, io_timeout_s: int
    ) -> None:
        self._of(lockspace.name).add_lockspace(lockspace, host_id, io_timeout_s)

    def remove_lockspace(self, lockspace: Lockspace, host_id: int) -> None:
        self._of(lockspace.name).remove_lockspace(lockspace, host_id)

    def is_joined(self, lockspace: Lockspace, host_id: int) -> bool:
        return self._of(lockspace.name).is_joined(lockspace, host_id)

    def joined(self) -> tuple[Joined, ...]:
        # Without a daemon we are in none of its lockspaces.
        with contextlib.suppress(LeasesDown):
            return (*self._local.joined(), *self._shared.joined())
        return self._local.joined()

    def write_resource(self, resource: Resource) -> None:
        self._of(resource.lockspace).write_resource(resource)

    def acquire(self, resource: Resource, version: int | None = None) -> int:
        return self._of(resource.lockspace).acquire(resource, version)

    def release(self, resource: Resource) -> None:
        self._of(resource.lockspace).release(resource)

    def is_lost(self, resource: Resource) -> bool:
        return self._of(resource.lockspace).is_lost(resource)

    def lifeline(self, lockspace: str) -> int | None:
        return self._of(lockspace).lifeline(lockspace)

    def read_owner(self, resource: Resource) -> Owner | None:
        return self._of(resource.lockspace).read_owner(resource)

    def hosts(self, lockspace: str) -> tuple[Host, ...]:
        return self._of(lockspace).hosts(lockspace)

    def _of(self, lockspace: str) -> Leases:
        return self._local if lockspace.startswith(PREFIX) else self._shared


def _granted(lockspace: Lockspace, data: bytes | None) -> int:
    """Return the version granted last; NotALease if a file does not say."""
    path = lockspace.path
    if data is None:
        raise NotALease(f"{path} is not there")
    try:
        said = json.loads(data)
        granted = said["granted"] if said["schema"] == _SCHEMA else None
    except (ValueError, TypeError, KeyError) as error:
        raise NotALease(f"{path} is no table of local leases") from error
    if type(granted) is not int or granted < 0:
        raise NotALease(f"{path} does not say which version was granted")
    return granted


_typed: tuple[type[Leases], ...] = (LocalLeases, LeasesByName)
