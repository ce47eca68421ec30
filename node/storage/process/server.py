"""Answer what the agent asks on the storage process's socket.

A thread for each connection, so that a long wait holds up nobody else. A line that
makes no sense is answered with an error, and the next one is read as ever.
"""

import contextlib
import functools
import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from node import wire
from node.errors import Busy, Error, Failed, Invalid
from node.storage.process import protocol, threads
from node.storage.process.holdings import Check, Holdings
from node.storage.process.protocol import Answer, Nothing, Problem
from node.storage.process.sessions import Asker, Sessions
from node.storage.process.steps import Runner
from node.storage.process.workers import Workers
from node.system.leases import Leases

log = logging.getLogger(__name__)

# The agent has a connection for each thread that waits, and those that hang.
CONNECTIONS_MAX: Final = 100
_SEND_S: Final = 30.0  # a client that does not read its answers is dropped
_TURN_LOOK_S: Final = 1.0  # who waits looks whether its client is there still
_BACKLOG: Final = CONNECTIONS_MAX  # a full one refuses, and does not wait


class LineTooLong(Invalid):
    code = "line_too_long"
    remedy = f"Send at most {protocol.LINE_MAX} bytes in a line."


class VerbUnknown(Invalid):
    code = "verb_unknown"
    remedy = "Check the verb's name, and the version of the storage process."


class TooManyClients(Busy):
    code = "too_many_clients"
    remedy = "Close connections that wait for nothing."


class Broken(Failed):
    """A mistake of ours; its traceback is in the log."""

    code = "storage_process_broken"
    remedy = "Report it with the storage process's log."


class Verbs:
    """One method for each verb: calls the room that does it.

    What changes something is told who asks: it is not begun for one who is gone.
    """

    def __init__(
        self,
        door: Leases,
        holdings: Holdings,
        runner: Runner,
        workers: Workers,
        sessions: Sessions,
    ) -> None:
        self._door = door
        self._holdings = holdings
        self._runner = runner
        self._workers = workers
        self._sessions = sessions
        self._lock = threading.Lock()
        self._joins: dict[str, threading.Lock] = {}  # by lockspace
        self._methods: Mapping[str, Callable[[Any, Asker], object]] = {
            name: getattr(self, name) for name in protocol.VERBS
        }

    def answer(self, line: bytes, is_gone: Callable[[], bool]) -> Answer:
        """Do what a line asks for; `is_gone` tells whether its client hung up."""
        try:
            call = wire.decode(protocol.Call, line)
            verb = protocol.VERBS.get(call.verb)
            if verb is None:
                raise VerbUnknown(f"there is no verb {call.verb[:40]!r}")
            request: Any = wire.from_json(verb.request, call.request)
            asker = Asker(call.session, is_gone)
            self._sessions.admit(asker)
            result = self._methods[call.verb](request, asker)
            return Answer(wire.to_json(result or Nothing()))
        except Error as error:
            log.debug("refused: %s", error)
            return Answer(error=Problem.of(error))
        except Exception:
            log.exception("a request broke us")
            return Answer(error=Problem.of(Broken()))

    def join(self, request: protocol.Join, asker: Asker) -> None:
        """Join a lockspace; who asks while another joins waits for that one's end.

        sanlock refuses a second host id of this host at once, also while it has not
        got the first: that would look as if all ids were taken.
        """
        lockspace = request.lockspace.lockspace()
        with self._lock:
            turn = self._joins.setdefault(lockspace.name, threading.Lock())
        # One that hangs in sanlock must not keep a thread for each who gave up.
        while not turn.acquire(timeout=_TURN_LOOK_S):
            self._sessions.check(asker)
        try:
            self._sessions.check(asker)
            self._door.add_lockspace(lockspace, request.host_id, request.io_timeout_s)
        finally:
            turn.release()

    def leave(self, request: protocol.Leave, asker: Asker) -> None:
        lockspace = request.lockspace.lockspace()
        self._holdings.leave(lockspace, request.host_id, self._check(asker))

    def lockspaces(self, _request: Nothing, _asker: Asker) -> protocol.Lockspaces:
        return protocol.Lockspaces(
            tuple(
                protocol.JoinedAt(each.name, each.host_id, str(each.path), each.offset)
                for each in self._door.joined()
            )
        )

    def hosts(self, request: protocol.OfLockspace, _asker: Asker) -> protocol.Hosts:
        return protocol.Hosts(self._door.hosts(request.lockspace))

    def write_lockspace(self, request: protocol.WriteLockspace, asker: Asker) -> None:
        self._holdings.write_lockspace(
            request.lockspace.lockspace(),
            request.io_timeout_s,
            request.needs,
            self._check(asker),
        )

    def write_resource(self, request: protocol.WriteResource, asker: Asker) -> None:
        resource = request.resource.resource()
        self._holdings.write_resource(resource, request.needs, self._check(asker))

    def read_owner(
        self, request: protocol.OfResource, _asker: Asker
    ) -> protocol.OwnerNow:
        return protocol.OwnerNow(self._door.read_owner(request.resource.resource()))

    def acquire(self, request: protocol.Acquire, asker: Asker) -> protocol.Version:
        resource, check = request.resource.resource(), self._check(asker)
        return protocol.Version(
            self._holdings.acquire(resource, request.version, check)
        )

    def release(self, request: protocol.OfResource, asker: Asker) -> None:
        self._holdings.release(request.resource.resource(), self._check(asker))

    def leases(self, _request: Nothing, _asker: Asker) -> protocol.Leases:
        holdings = self._holdings
        return protocol.Leases(holdings.held(), holdings.lost(), holdings.unsettled())

    def run(self, request: protocol.Run, asker: Asker) -> protocol.Step:
        with self._sessions.begin(asker):
            return self._runner.run(request)

    def wait(self, request: protocol.Wait, _asker: Asker) -> protocol.Step:
        return self._runner.wait(request.step_id, request.timeout_s)

    def progress(self, request: protocol.OfStep, _asker: Asker) -> protocol.Progress:
        return protocol.Progress(self._runner.progress(request.step_id))

    def cancel(self, request: protocol.OfStep, asker: Asker) -> protocol.Step:
        self._sessions.check(asker)
        return self._runner.cancel(request.step_id)

    def steps(self, _request: Nothing, _asker: Asker) -> protocol.Steps:
        return protocol.Steps(self._runner.all())

    def forget(self, request: protocol.OfStep, asker: Asker) -> None:
        self._sessions.check(asker)
        self._runner.forget(request.step_id)

    def file(self, request: protocol.FileWork, asker: Asker) -> protocol.FileReplies:
        return self._workers.work(request, asker)

    def _check(self, asker: Asker) -> Check:
        return functools.partial(self._sessions.check, asker)


class Server:
    """The socket and its connections."""

    def __init__(
        self, path: Path, answer: Callable[[bytes, Callable[[], bool]], Answer]
    ) -> None:
        """Listen; only the one who may be us can connect.

        `answer` is given a line, and how to know whether its client has hung up.
        """
        self._answer = answer
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._connections = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        mask = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(mask)
        self._listener.listen(_BACKLOG)

    def start(self) -> None:
        """Accept connections in a thread of its own, until `close`."""
        threads.start("accept", self._accept)

    def close(self) -> None:
        """Accept nobody any more; who is served is served on."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            with threads.surviving():
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    if self._closed.is_set():
                        return
                    raise
                self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> None:
        """Serve a client in a thread of its own; hang up if there can be none."""
        client = threading.Thread(
            target=self._serve, args=(connection,), name="client", daemon=True
        )
        try:
            client.start()
        except RuntimeError as error:  # as Python tells that there is no room
            connection.close()
            raise TooManyClients(f"no thread for a client: {error}") from error

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections += 1
            is_full = self._connections > CONNECTIONS_MAX
        try:
            with connection, contextlib.suppress(OSError):
                if is_full:
                    error = TooManyClients(f"more than {CONNECTIONS_MAX} connections")
                    _send(connection, Answer(error=Problem.of(error)))
                    return
                with connection.makefile("rb") as stream:
                    self._converse(connection, stream)
        finally:
            with self._lock:
                self._connections -= 1

    def _converse(self, connection: socket.socket, stream: BinaryIO) -> None:
        poll = select.poll()
        poll.register(connection, select.POLLHUP)

        def is_gone() -> bool:
            return bool(poll.poll(0))

        while line := stream.readline(protocol.LINE_MAX):
            if line.endswith(b"\n"):
                _send(connection, self._answer(line, is_gone))
                continue
            if not _skip(stream):
                return
            error = LineTooLong(f"a line has more than {protocol.LINE_MAX} bytes")
            _send(connection, Answer(error=Problem.of(error)))


def _skip(stream: BinaryIO) -> bool:
    """Pass over the rest of a line; False: the stream ended in it."""
    while piece := stream.readline(protocol.LINE_MAX):
        if piece.endswith(b"\n"):
            return True
    return False


def _send(connection: socket.socket, answer: Answer) -> None:
    connection.settimeout(_SEND_S)
    try:
        connection.sendall(protocol.line(answer))
    finally:
        connection.settimeout(None)
