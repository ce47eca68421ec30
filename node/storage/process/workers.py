"""Have file operations done by worker processes, so that none of us can hang.

A domain has a worker of its own, and one more for what needs leases, since it
inherits their lifelines. One that misses a deadline is killed; one that even then
does not die (it waits in the kernel for a dead storage) is abandoned, a few at most,
and another is started after a pause that doubles. What an abandoned one was writing
may still land, over what was written after it: while it lives nothing is written to
that domain (holdings.py). Reading goes on, since a worker writes only if it is told.
"""

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from node import wire
from node.errors import Busy, Invalid, Unavailable
from node.storage.process import file_operations, protocol
from node.storage.process.children import Child, Children, Command
from node.storage.process.holdings import Holdings, Use
from node.storage.process.protocol import FileReplies, FileWork
from node.storage.process.sessions import Asker, Sessions

log = logging.getLogger(__name__)

PAUSE_FIRST_S: Final = 1.0
PAUSE_LAST_S: Final = 30.0
# Those of one domain that do not die. More would only be more of the same.
ABANDONED_MAX: Final = 4
# Longer than the health checks are apart, so that they keep theirs.
IDLE_S: Final = 60.0
# Two for each of as many domains as a pool may have.
WORKERS_MAX: Final = 200
# A killed worker that is not gone by then waits for the storage.
_DIE_S: Final = 1.0
_OPERATIONS_MAX: Final = 1000

# -I and -S: nothing of the environment, no site. The folder is the product's own.
_PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from node.storage.process import worker; worker.main()"
)
_PRODUCT: Final = Path(__file__).parents[3]


class StorageHangs(Unavailable):
    """The storage did not answer by the deadline."""

    code = "storage_hangs"
    remedy = "Check the server and the network to it; it is tried again by itself."


class WorkerEnded(Unavailable):
    """The worker ended in the middle: what it had done is not known."""

    code = "storage_worker_ended"
    remedy = "Look at the storage for what was done, then ask again."


class TooManyWorkers(Busy):
    code = "too_many_workers"
    remedy = "Try again when fewer domains are in use."


class WorkMalformed(Invalid):
    code = "file_work_malformed"
    remedy = "Name a domain, an absolute root, some operations and a deadline."


Key = tuple[str, str, tuple[str, ...]]  # domain, root, lockspaces


@dataclass(slots=True)
class _Worker:
    child: Child
    socket: socket.socket
    lifelines: tuple[int, ...]
    received: bytearray = field(default_factory=bytearray)

    def interrupt(self) -> None:
        """Kill it, and let nobody wait for its answer: it may be slow to die."""
        self.child.kill()
        with contextlib.suppress(OSError):  # it is closed
            self.socket.shutdown(socket.SHUT_RDWR)


@dataclass(slots=True)
class _Place:
    """Where the worker of a key is, or will be."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    worker: _Worker | None = None
    used_at: float = 0.0
    pause_s: float = 0.0
    not_before: float = 0.0
    abandoned: list[Child] = field(default_factory=list)


class Workers:
    """The workers of all domains."""

    def __init__(
        self,
        holdings: Holdings,
        children: Children,
        sessions: Sessions,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._holdings = holdings
        self._children = children
        self._sessions = sessions
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._places: dict[Key, _Place] = {}

    def work(self, request: FileWork, asker: Asker) -> FileReplies:
        """Do file operations; StaleLease, StorageHangs, WorkerEnded, WriterHangs."""
        _check(request)
        deadline = self._monotonic() + request.deadline_s
        spaces = protocol.lockspaces(request.needs)
        place = self._place((request.domain, request.root, spaces))
        if not place.lock.acquire(timeout=request.deadline_s):
            raise _hangs(request, "what was asked before does not end")
        try:
            with self._sessions.begin(asker) as begun:
                use = self._holdings.use(
                    request.needs, request.domain, is_reading=_is_reading(request)
                )
                try:
                    worker = self._worker(place, request)
                except BaseException:
                    use.end()
                    raise
                use.bind(worker.interrupt)
                begun.bind(worker.interrupt)
                with self._supervised(place, worker, request, use):
                    return _converse(worker, request, deadline - self._monotonic())
        finally:
            place.used_at = self._monotonic()
            place.lock.release()

    def retire(self) -> None:
        """End the workers that had nothing to do for long. Never waits."""
        now = self._monotonic()
        with self._lock:
            places = tuple(self._places.items())
        for key, place in places:
            if now - place.used_at < IDLE_S or not place.lock.acquire(blocking=False):
                continue
            try:
                if place.worker is not None:
                    _dismiss(place.worker)
                    place.worker = None
                place.abandoned = _alive(place.abandoned)
                if not place.abandoned:
                    with self._lock:
                        self._places.pop(key, None)
            finally:
                place.lock.release()

    @contextlib.contextmanager
    def _supervised(
        self,
        place: _Place,
        worker: _Worker,
        request: FileWork,
        use: Use,
    ) -> Iterator[None]:
        """Keep a worker that answers; kill one that does not, and pause."""
        try:
            yield
        except BaseException as error:
            place.worker = None
            _dismiss(worker)
            # It writes until it is gone, and that may be long.
            worker.child.then(use.end)
            if not worker.child.ended.wait(_DIE_S):
                log.warning("worker %d of %s hangs", worker.child.pid, request.domain)
                place.abandoned.append(worker.child)
                use.hang()
            if not isinstance(error, TimeoutError):
                raise
            place.pause_s = min(max(PAUSE_FIRST_S, 2 * place.pause_s), PAUSE_LAST_S)
            place.not_before = self._monotonic() + place.pause_s
            raise _hangs(request, f"no answer in {request.deadline_s:g} s") from error
        else:
            place.pause_s = 0.0
            use.end()

    def _place(self, key: Key) -> _Place:
        with self._lock:
            if key not in self._places and len(self._places) >= WORKERS_MAX:
                raise TooManyWorkers(f"{len(self._places)} workers")
            return self._places.setdefault(key, _Place(used_at=self._monotonic()))

    def _worker(self, place: _Place, request: FileWork) -> _Worker:
        lifelines = self._holdings.lifelines(request.needs)
        worker = place.worker
        if worker is not None:
            if worker.child.status is None and worker.lifelines == lifelines:
                return worker
            _dismiss(worker)  # it was killed, or sanlock is another one now
            place.worker = None
        place.abandoned = _alive(place.abandoned)
        if len(place.abandoned) >= ABANDONED_MAX:
            raise _hangs(request, f"{len(place.abandoned)} workers wait for it")
        if self._monotonic() < place.not_before:
            raise _hangs(request, "it did not answer a moment ago")
        place.worker = self._start(request, lifelines)
        return place.worker

    def _start(self, request: FileWork, lifelines: tuple[int, ...]) -> _Worker:
        ours, theirs = socket.socketpair()
        python = os.path.realpath(sys.executable)
        user = self._children.user
        identity = () if user is None else (user.uid, user.gid, os.getpid())
        words = (str(_PRODUCT), request.root, *map(str, identity))
        command = Command(
            (python, "-I", "-S", "-c", _PROGRAM, *words),
            lifelines=lifelines,
            # Its domain's as well: it dies with it even if it needs no lease.
            lockspaces=tuple({request.domain, *protocol.lockspaces(request.needs)}),
            conversation=theirs.fileno(),
            gives_up_root=True,
        )
        with theirs:
            try:
                child = self._children.start(command)
            except BaseException:
                ours.close()
                raise
        return _Worker(child, ours, lifelines)


def _converse(worker: _Worker, request: FileWork, timeout_s: float) -> FileReplies:
    """Send operations to a worker and return its answer; TimeoutError."""
    deadline = time.monotonic() + timeout_s
    try:
        worker.socket.settimeout(_left(deadline))
        worker.socket.sendall(wire.encode(list(request.operations)) + b"\n")
        while b"\n" not in worker.received:
            worker.socket.settimeout(_left(deadline))
            piece = worker.socket.recv(protocol.DATA_MAX)
            if not piece:
                raise WorkerEnded(f"the worker of {request.domain} ended")
            worker.received += piece
    except ConnectionError as error:
        raise WorkerEnded(f"the worker of {request.domain} ended") from error
    line, _, rest = bytes(worker.received).partition(b"\n")
    worker.received[:] = rest
    answer: dict[str, Any] = wire.parse(line)
    return wire.from_json(FileReplies, answer)


def _left(deadline: float) -> float:
    """Return the seconds until a deadline; TimeoutError if there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _dismiss(worker: _Worker) -> None:
    worker.interrupt()
    worker.socket.close()


def _is_reading(request: FileWork) -> bool:
    return all(
        each.get("name") in file_operations.READING for each in request.operations
    )


def _alive(children: list[Child]) -> list[Child]:
    return [child for child in children if not child.ended.is_set()]


def _hangs(request: FileWork, why: str) -> StorageHangs:
    return StorageHangs(
        f"the storage of {request.domain} hangs: {why}",
        domain=request.domain,
        root=request.root,
    )


def _check(request: FileWork) -> None:
    if not request.domain or not request.root.startswith("/"):
        raise WorkMalformed("a domain's key and an absolute root are needed")
    if not 0 < len(request.operations) <= _OPERATIONS_MAX:
        raise WorkMalformed(f"1 to {_OPERATIONS_MAX} operations are needed")
    if not 0 < request.deadline_s <= protocol.TIMEOUT_MAX_S:
        raise WorkMalformed(f"deadline_s must be up to {protocol.TIMEOUT_MAX_S:g}")
