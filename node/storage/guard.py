"""Ask the storage process: leases, steps and file operations, from the agent.

A connection carries one request at a time and is kept for the next one, so that
requests of many threads do not wait for each other. Nothing here waits longer than
its request allows: if the process does not answer, GuardDown is raised and what was
asked may have been done; every request may be repeated.
"""

import base64
import contextlib
import logging
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from node import wire
from node.errors import Unavailable
from node.storage.domains import DomainFiles, Done, Entry, Space, Surveyed
from node.storage.process import protocol
from node.storage.process.protocol import (
    FileWork,
    Leases,
    LockspaceAt,
    Need,
    ResourceAt,
    Step,
)
from node.system.leases import IO_TIMEOUT_S, Host, Owner

log = logging.getLogger(__name__)

T = TypeVar("T")

# Over what the process itself waits for; it answers at once else.
ANSWER_S: Final = 10.0
# sanlock takes minutes to join after a crash, and an acquisition a few of its I/Os.
SANLOCK_S: Final = 300.0
FILE_DEADLINE_S: Final = 60.0
_SPARE_MAX: Final = 8  # idle connections that are kept


class GuardDown(Unavailable):
    """The storage process does not run, or does not answer."""

    code = "storage_process_down"
    remedy = "It is started again by itself; if not, read its log."


class Guard(Protocol):
    """All raise GuardDown; StaleLease and others as their kinds and codes."""

    def join(
        self, lockspace: LockspaceAt, host_id: int, io_timeout_s: int = IO_TIMEOUT_S
    ) -> None: ...

    def leave(self, lockspace: LockspaceAt, host_id: int) -> None: ...

    def lockspaces(self) -> tuple[protocol.JoinedAt, ...]: ...

    def hosts(self, lockspace: str) -> tuple[Host, ...]: ...

    def write_lockspace(
        self,
        lockspace: LockspaceAt,
        io_timeout_s: int = IO_TIMEOUT_S,
        needs: Sequence[Need] = (),
    ) -> None:
        """Format a lockspace while leases are held: whoever was in it is not."""

    def write_resource(self, resource: ResourceAt, needs: Sequence[Need] = ()) -> None:
        """Format a lease while others are held: nobody holds it any more."""

    def read_owner(self, resource: ResourceAt) -> Owner | None: ...

    def acquire(self, resource: ResourceAt, version: int | None = None) -> int:
        """Take a lease for the storage process and return its version."""

    def release(self, resource: ResourceAt) -> None:
        """Give it back; lease_in_use while something is written under it."""

    def leases(self) -> Leases:
        """Return what is held, what was lost, and what could not be released."""

    def run(
        self,
        step_id: str,
        argv: Sequence[str],
        needs: Sequence[Need] = (),
        folder: str = "/",
    ) -> Step:
        """Start a program; with the id of a known step, return that."""

    def wait(self, step_id: str, timeout_s: float) -> Step:
        """Return the step when it has ended, or as it is after that time."""

    def progress(self, step_id: str) -> str:
        """Return the last line that it wrote on standard output."""

    def cancel(self, step_id: str) -> Step: ...

    def steps(self) -> tuple[Step, ...]: ...

    def forget(self, step_id: str) -> None: ...

    def file(
        self,
        domain: str,
        root: str,
        operations: Sequence[Mapping[str, Any]],
        deadline_s: float = FILE_DEADLINE_S,
        needs: Sequence[Need] = (),
    ) -> tuple[Any, ...]:
        """Do file operations in order; raise the error of the first that failed."""


class SocketGuard:
    """The storage process behind its socket."""

    def __init__(self, path: Path, session: int = 0) -> None:
        """`session`: which run of the agent this is, as its monotonic clock counts.

        What an earlier one asked is not begun any more (node/storage/process/
        sessions.py). 0: a client beside the agent, which orders nothing once one spoke.
        """
        self._path = path
        self._session = session
        self._lock = threading.Lock()
        self._spare: list[_Connection] = []

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            spare, self._spare = self._spare, []
        for connection in spare:
            connection.close()

    def join(
        self, lockspace: LockspaceAt, host_id: int, io_timeout_s: int = IO_TIMEOUT_S
    ) -> None:
        request = protocol.Join(lockspace, host_id, io_timeout_s)
        self._ask("join", request, protocol.Nothing, SANLOCK_S)

    def leave(self, lockspace: LockspaceAt, host_id: int) -> None:
        request = protocol.Leave(lockspace, host_id)
        self._ask("leave", request, protocol.Nothing, SANLOCK_S)

    def lockspaces(self) -> tuple[protocol.JoinedAt, ...]:
        nothing = protocol.Nothing()
        return self._ask("lockspaces", nothing, protocol.Lockspaces).lockspaces

    def hosts(self, lockspace: str) -> tuple[Host, ...]:
        request = protocol.OfLockspace(lockspace)
        return self._ask("hosts", request, protocol.Hosts).hosts

    def write_lockspace(
        self,
        lockspace: LockspaceAt,
        io_timeout_s: int = IO_TIMEOUT_S,
        needs: Sequence[Need] = (),
    ) -> None:
        request = protocol.WriteLockspace(lockspace, io_timeout_s, tuple(needs))
        self._ask("write_lockspace", request, protocol.Nothing, SANLOCK_S)

    def write_resource(self, resource: ResourceAt, needs: Sequence[Need] = ()) -> None:
        request = protocol.WriteResource(resource, tuple(needs))
        self._ask("write_resource", request, protocol.Nothing, SANLOCK_S)

    def read_owner(self, resource: ResourceAt) -> Owner | None:
        request = protocol.OfResource(resource)
        return self._ask("read_owner", request, protocol.OwnerNow, SANLOCK_S).owner

    def acquire(self, resource: ResourceAt, version: int | None = None) -> int:
        request = protocol.Acquire(resource, version)
        return self._ask("acquire", request, protocol.Version, SANLOCK_S).version

    def release(self, resource: ResourceAt) -> None:
        request = protocol.OfResource(resource)
        self._ask("release", request, protocol.Nothing, SANLOCK_S)

    def leases(self) -> Leases:
        return self._ask("leases", protocol.Nothing(), Leases)

    def run(
        self,
        step_id: str,
        argv: Sequence[str],
        needs: Sequence[Need] = (),
        folder: str = "/",
    ) -> Step:
        request = protocol.Run(step_id, tuple(argv), tuple(needs), folder)
        return self._ask("run", request, Step)

    def wait(self, step_id: str, timeout_s: float) -> Step:
        request = protocol.Wait(step_id, timeout_s)
        return self._ask("wait", request, Step, timeout_s + ANSWER_S)

    def progress(self, step_id: str) -> str:
        request = protocol.OfStep(step_id)
        return self._ask("progress", request, protocol.Progress).line

    def cancel(self, step_id: str) -> Step:
        # It is asked, then killed, and waited for each time.
        return self._ask("cancel", protocol.OfStep(step_id), Step, 4 * ANSWER_S)

    def steps(self) -> tuple[Step, ...]:
        return self._ask("steps", protocol.Nothing(), protocol.Steps).steps

    def forget(self, step_id: str) -> None:
        self._ask("forget", protocol.OfStep(step_id), protocol.Nothing)

    def file(
        self,
        domain: str,
        root: str,
        operations: Sequence[Mapping[str, Any]],
        deadline_s: float = FILE_DEADLINE_S,
        needs: Sequence[Need] = (),
    ) -> tuple[Any, ...]:
        request = FileWork(domain, root, tuple(operations), deadline_s, tuple(needs))
        done = self._ask("file", request, protocol.FileReplies, deadline_s + ANSWER_S)
        if done.problem is not None:
            raise done.problem.revive()
        return done.replies

    def _ask(
        self, verb: str, request: object, result: type[T], timeout_s: float = ANSWER_S
    ) -> T:
        connection = self._connect()
        call = {"verb": verb, "request": wire.to_json(request)}
        try:
            line = connection.ask(
                wire.encode(call | {"session": self._session}) + b"\n", timeout_s
            )
        except OSError as error:
            connection.close()
            raise GuardDown(_silence(error), verb=verb) from error
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        answer = wire.decode(protocol.Answer, line, strict=False)
        if answer.error is not None:
            raise answer.error.revive()
        return wire.from_json(result, dict(answer.result or {}), strict=False)

    def _connect(self) -> "_Connection":
        with self._lock:
            while self._spare:
                connection = self._spare.pop()
                if not connection.is_stale():
                    return connection
                connection.close()
        try:
            return _Connection(self._path)
        except OSError as error:
            raise GuardDown(_silence(error)) from error

    def _keep(self, connection: "_Connection") -> None:
        with self._lock:
            if len(self._spare) < _SPARE_MAX:
                self._spare.append(connection)
                return
        connection.close()


class _Connection:
    """One connection; whoever has it is alone with it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(ANSWER_S)
            self._socket.connect(str(path))
        except BaseException:
            self._socket.close()
            raise
        self._stream = self._socket.makefile("rb")

    def ask(self, line: bytes, timeout_s: float) -> bytes:
        """Send a line and return the answer's; OSError."""
        self._socket.settimeout(timeout_s)
        self._socket.sendall(line)
        answer = self._stream.readline()
        if not answer.endswith(b"\n"):
            raise ConnectionResetError("the storage process hung up")
        return answer

    def is_stale(self) -> bool:
        """Tell whether the process closed it, as one that ends does."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True  # its end, or words that nobody asked for

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()
        self._socket.close()


class GuardFiles:
    """The files of one domain, through the storage process."""

    def __init__(
        self,
        guard: Guard,
        domain: str,
        root: str,
        needs: Sequence[Need] = (),
        deadline_s: float = FILE_DEADLINE_S,
    ) -> None:
        """`needs`: the leases without which nothing may be written there now."""
        self._guard = guard
        self._domain = domain
        self._root = root
        self._needs = tuple(needs)
        self._deadline_s = deadline_s

    def read(self, path: str, size_max: int) -> bytes:
        return base64.b64decode(self._do("read", path=path, size_max=size_max))

    def write_whole(self, path: str, data: bytes, mode: int) -> Done:
        return self._done("write_whole", path=path, data=_text(data), mode=mode)

    def make_folder(self, path: str, mode: int) -> Done:
        return self._done("make_folder", path=path, mode=mode)

    def make_file(
        self, path: str, size_bytes: int, mode: int, is_preallocated: bool
    ) -> Done:
        return self._done(
            "make_file",
            path=path,
            size_bytes=size_bytes,
            mode=mode,
            is_preallocated=is_preallocated,
        )

    def rename(self, old: str, new: str) -> Done:
        return self._done("rename", old=old, new=new)

    def remove(self, path: str) -> Done:
        return self._done("remove", path=path)

    def remove_tree(self, path: str) -> Done:
        return self._done("remove_tree", path=path)

    def sync(self, path: str) -> Done:
        return self._done("sync", path=path)

    def link(self, old: str, new: str) -> Done:
        return self._done("link", old=old, new=new)

    def list(self, path: str) -> tuple[Entry, ...]:
        found = self._do("list", path=path)
        return tuple(wire.from_json(Entry, each) for each in found)

    def survey(
        self, path: str, suffix: str, size_max: int, start_bytes: int
    ) -> tuple[Surveyed, ...]:
        told = self._do(
            "survey",
            path=path,
            suffix=suffix,
            size_max=size_max,
            start_bytes=start_bytes,
        )
        return tuple(map(surveyed, told))

    def stat(self, path: str) -> Entry:
        return wire.from_json(Entry, self._do("stat", path=path))

    def space(self, path: str) -> Space:
        return wire.from_json(Space, self._do("space", path=path))

    def probe(self, path: str) -> float:
        return float(self._do("probe", path=path))

    def probe_written(self, path: str) -> float:
        return float(self._do("probe_written", path=path))

    def read_at(self, path: str, offset: int, size_bytes: int) -> bytes:
        found = self._do("read_at", path=path, offset=offset, size_bytes=size_bytes)
        return base64.b64decode(found)

    def write_at(self, path: str, offset: int, data: bytes) -> Done:
        return self._done("write_at", path=path, offset=offset, data=_text(data))

    def _done(self, name: str, **arguments: object) -> Done:
        return wire.from_json(Done, self._do(name, **arguments))

    def _do(self, name: str, **arguments: object) -> Any:
        operation = {"name": name, **arguments}
        (reply,) = self._guard.file(
            self._domain, self._root, [operation], self._deadline_s, self._needs
        )
        return reply


def _silence(error: OSError) -> str:
    return f"the storage process does not answer: {error}"


def surveyed(told: Mapping[str, Any]) -> Surveyed:
    """Return what a worker told of a file."""
    held = {each: base64.b64decode(told[each]) for each in told if each != "entry"}
    return Surveyed(wire.from_json(Entry, told["entry"]), **held)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


_typed_guard: type[Guard] = SocketGuard
_typed_files: type[DomainFiles] = GuardFiles
