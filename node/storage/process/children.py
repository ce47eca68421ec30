"""Start programs, read what they say and see them end: the main thread's loop.

A child is started only here, since it is killed when the thread that started it
ends. It has ended when its process is reaped, its cgroup is empty and removed, and
its output read: only then is what it wrote under free to be released. Other threads
hand in commands and wait for events; nothing here waits for storage.
"""

import contextlib
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from node.errors import Failed
from node.storage.process import cgroup, kill, launch, threads

log = logging.getLogger(__name__)

TAIL_BYTES: Final = 8 * 1024  # of a program's output: the error is at its end
_READ_BYTES: Final = 64 * 1024
# How soon a group is looked at again whose last process is dying.
_LINGER_S: Final = 0.002
_IDLE_S: Final = 1.0
# Starting needs no storage; longer than this the machine is out of everything.
_START_S: Final = 30.0
# How a start is refused, by the kernel or (words with a zero byte) by Python.
_REFUSED: Final = (OSError, ValueError)


class NotStarted(Failed):
    """The program could not be started."""

    code = "program_not_started"
    remedy = "Read the message: memory, processes or the program are missing."


@dataclass(frozen=True, slots=True)
class Command:
    argv: tuple[str, ...]
    folder: str = "/"
    lifelines: tuple[int, ...] = ()
    lockspaces: tuple[str, ...] = ()  # with any of which it is to be killed
    conversation: int | None = None  # a socket that becomes its input and output
    gives_up_root: bool = False  # by itself, once it has loaded its code


class Child:
    """One program. Its fields belong to the loop; `ended` and `tail` are for all."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.ended = threading.Event()
        self.status: int | None = None  # of the program; minus a signal's number
        self.group: Path | None = None
        self.pid = 0
        self.pidfd = -1
        self.pipes: dict[int, bytearray] = {}  # descriptor → tail
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._lock = threading.Lock()
        self._then: list[Callable[[], None]] = []
        self._is_doomed = False

    def kill(self) -> None:
        """End it and all that it started, at once; also one that is yet to start."""
        with self._lock:
            self._is_doomed = True
            if self.pidfd >= 0:  # it may not have joined its group yet
                launch.send(self.pidfd, signal.SIGKILL)
        if self.group is not None:
            kill.kill_all(str(self.group), 0.0)

    @property
    def is_doomed(self) -> bool:
        return self._is_doomed

    def terminate(self) -> None:
        """Ask it to end."""
        with self._lock:
            if self.pidfd >= 0:
                launch.send(self.pidfd, signal.SIGTERM)

    def then(self, act: Callable[[], None]) -> None:
        """Do something once it has ended; at once if it has."""
        with self._lock:
            if not self.ended.is_set():
                self._then.append(act)
                return
        act()

    def finish(self) -> None:
        """Tell everybody that it has ended."""
        with self._lock:
            if self.pidfd >= 0:
                os.close(self.pidfd)
                self.pidfd = -1
            self.ended.set()
            acts, self._then = self._then, []
        for act in acts:
            act()


@dataclass(slots=True)
class _Order:
    """A program to be started: either the loop takes it, or who asked drops it."""

    child: Child
    done: threading.Event = field(default_factory=threading.Event)
    error: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_settled: bool = False

    def settle(self) -> bool:
        """Take it or drop it; False: the other one was first."""
        with self._lock:
            was_settled, self._is_settled = self._is_settled, True
        return not was_settled


class Children:
    """All programs of this process; `run` is its main thread."""

    def __init__(
        self,
        group: cgroup.Group,
        user: launch.User | None,
        start_s: float = _START_S,
    ) -> None:
        """Start nothing yet; a program waits `start_s` for its start, not longer."""
        self._group = group
        self.user = user
        self._start_s = start_s
        self._orders: deque[_Order] = deque()
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._wakened.setblocking(False)
        self._selector.register(self._wakened, selectors.EVENT_READ)
        self._alive: list[Child] = []
        self._is_over = False
        self.on_tick: list[Callable[[], None]] = []  # once in a while; may not block

    @property
    def wake_descriptor(self) -> int:
        """Where signals are to be noted, so that the loop hears of them."""
        return self._waker.fileno()

    def start(self, command: Command) -> Child:
        """Start a program and return it; NotStarted. Not for the loop's thread."""
        order = _Order(Child(command))
        self._orders.append(order)
        self.wake()
        if not order.done.wait(self._start_s):
            if order.settle():
                raise NotStarted(
                    f"{command.argv[0]} had no turn in {self._start_s:g} s"
                )
            # It is being started now; a loop that stays there is broken.
            with threads.vital():
                assert order.done.wait(_START_S), "the loop hangs in a start"
        if order.error:
            raise NotStarted(f"{command.argv[0]} cannot be started: {order.error}")
        return order.child

    def stop(self) -> None:
        """Let `run` return soon; may be called from a signal's handler."""
        self._is_over = True
        self.wake()

    def wake(self) -> None:
        """Let the loop look at what has changed."""
        with contextlib.suppress(OSError):  # it has enough to wake up for, or is over
            self._waker.send(b"\0")

    def run(self) -> None:
        """Serve until `stop`, then kill what is left and wait for its end."""
        while not self._is_over:
            with threads.surviving():
                self._turn()
        for child in self._alive:
            child.kill()
        deadline = time.monotonic() + _START_S
        while self._alive and time.monotonic() < deadline:
            with threads.surviving():
                self._turn()

    def close(self) -> None:
        """Close what the loop listened to, when it has returned."""
        self._selector.close()
        self._waker.close()
        self._wakened.close()

    def _turn(self) -> None:
        is_lingering = any(child.status is not None for child in self._alive)
        for key, _ in self._selector.select(_LINGER_S if is_lingering else _IDLE_S):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._wakened.recv(4096)
            else:
                self._hear(key.data, key.fd)
        while self._orders and not self._is_over:
            self._obey(self._orders.popleft())
        for child in list(self._alive):
            if child.status is not None:
                self._bury(child)
        for act in self.on_tick:
            act()

    def _obey(self, order: _Order) -> None:
        child = order.child
        if not order.settle():
            return
        try:
            self._start(child)
        except _REFUSED as error:
            order.error = str(error)
            if child.group is not None:
                cgroup.is_removed(child.group)
        order.done.set()

    def _start(self, child: Child) -> None:
        command = child.command
        child.group = self._group.make_child(command.lockspaces)
        user = None if command.gives_up_root else self.user
        words = launch.words(
            command.argv, child.group, command.folder, user, os.getpid()
        )
        theirs: list[int] = []
        descriptors: dict[int, int] = {}
        try:
            if command.conversation is not None:
                descriptors = {0: command.conversation, 1: command.conversation}
            else:
                theirs.append(os.open(os.devnull, os.O_RDONLY))
                descriptors[0] = theirs[-1]
                descriptors[1] = self._pipe(child, child.stdout, theirs)
            descriptors[2] = self._pipe(child, child.stderr, theirs)
            child.pid = launch.spawn(words, descriptors, command.lifelines)
            child.pidfd = _watched(child.pid)
        except _REFUSED:
            for pipe in list(child.pipes):
                self._close(child, pipe)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        self._alive.append(child)
        if child.is_doomed:
            child.kill()

    def _pipe(self, child: Child, tail: bytearray, theirs: list[int]) -> int:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        theirs.append(writer)
        child.pipes[reader] = tail
        self._selector.register(reader, selectors.EVENT_READ, child)
        return writer

    def _hear(self, child: Child, descriptor: int) -> None:
        if descriptor == child.pidfd:
            self._selector.unregister(descriptor)
            _, status = os.waitpid(child.pid, 0)
            child.status = os.waitstatus_to_exitcode(status)
        elif descriptor in child.pipes:
            self._read(child, descriptor)

    def _read(self, child: Child, pipe: int) -> None:
        try:
            piece = os.read(pipe, _READ_BYTES)
        except BlockingIOError:
            return
        if piece:
            tail = child.pipes[pipe]
            tail += piece
            del tail[:-TAIL_BYTES]
        else:
            self._close(child, pipe)

    def _close(self, child: Child, pipe: int) -> None:
        self._selector.unregister(pipe)
        os.close(pipe)
        del child.pipes[pipe]

    def _bury(self, child: Child) -> None:
        """End what a program left behind; once nothing is left, say so."""
        assert child.group is not None
        if not cgroup.is_removed(child.group):
            return
        for pipe in list(child.pipes):
            self._read(child, pipe)
        for pipe in list(child.pipes):  # all who could write there are gone
            self._close(child, pipe)
        self._alive.remove(child)
        log.debug("program %d ended: status %s", child.pid, child.status)
        child.finish()


def _watched(pid: int) -> int:
    """Return the descriptor of a program; without one it does not run."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)  # nobody but us may reap it: it is still this one
        os.waitpid(pid, 0)
        raise
