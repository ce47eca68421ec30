"""Run programs: the door to every process that we start and wait for.

A program gets no terminal, a session of its own and the C locale; at its
deadline it is killed with all that it started.
"""

import contextlib
import logging
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from node.errors import Failed, Unavailable, Unsupported

log = logging.getLogger(__name__)

# A killed process is gone at once, unless it hangs in the kernel; then we leave it.
_REAP_S: Final = 5.0
# How much of what a program wrote fits into an error message.
_SHOWN: Final = 400
# Of what a program said last, in pieces of 64 KiB: a pipe holds one or two.
_DRAINED_MAX: Final = 4
# A program that is only asked for its first line may write no more than this.
_FIRST_LINE_MAX: Final = 64 * 1024


class CommandMissing(Unsupported):
    """The program is not installed, or may not be run."""

    code = "command_missing"
    remedy = "Install the program that the message names."


class CommandTimedOut(Unavailable):
    """The program did not end by its deadline and was killed."""

    code = "command_timed_out"
    remedy = "Check what the program waits for (storage, network), then try again."


class CommandFailed(Failed):
    """The program ended with another status than zero."""

    code = "command_failed"
    remedy = "Correct what the program complains about, then try again."


@dataclass(frozen=True, slots=True)
class Result:
    argv: tuple[str, ...]
    status: int  # below zero: minus the signal that ended it
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")

    @property
    def complaint(self) -> str:
        """The last line it wrote on standard error, else on standard output."""
        written = self.stderr.strip() or self.stdout.strip()
        return written.decode(errors="replace").rpartition("\n")[2][:_SHOWN]


@dataclass(frozen=True, slots=True)
class Bounded:
    """How a program ended whose time and words were bounded."""

    status: int  # below zero: minus the signal that ended it
    stderr: bytes  # the first of it
    lost_bytes: int  # the rest of it
    took_s: float
    is_late: bool  # it was killed at its deadline


class Run(Protocol):
    """What `run` is to those who are handed it."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        may_fail: bool = False,
    ) -> Result: ...


class FirstLine(Protocol):
    """What `first_line` is to those who are handed it."""

    def __call__(self, argv: Sequence[str], *, timeout_s: float) -> Result: ...


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    may_fail: bool = False,
) -> Result:
    """Run a program to its end and return what it wrote.

    `env` is added to our environment. Raises CommandMissing, CommandTimedOut
    and, unless it may fail, CommandFailed.
    """
    started = time.monotonic()
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    with _process(argv, env, stdin) as process:
        try:
            stdout, stderr = process.communicate(input, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise _timed_out(argv, timeout_s) from error
    result = Result(tuple(argv), process.returncode, stdout, stderr)
    elapsed_s = time.monotonic() - started
    log.debug("%s: status %d, %.3f s", shlex.join(argv), result.status, elapsed_s)
    if result.status != 0 and not may_fail:
        raise CommandFailed(
            f"{argv[0]} ended with status {result.status}: {result.complaint}",
            command=shlex.join(argv),
            status=result.status,
        )
    return result


def first_line(argv: Sequence[str], *, timeout_s: float) -> Result:
    """Run a program until its standard output has a line, then kill it.

    Status is 0 if there was a line, which is all of stdout; else it is the
    program's own. Raises CommandMissing and CommandTimedOut.
    """
    deadline = time.monotonic() + timeout_s
    with _process(argv, None, subprocess.DEVNULL) as process:
        line = _read_line(process, argv, deadline, timeout_s)
        if line is not None:
            return Result(tuple(argv), 0, line, b"")
        try:
            stdout, stderr = process.communicate(
                timeout=max(0.1, deadline - time.monotonic())
            )
        except subprocess.TimeoutExpired as error:
            raise _timed_out(argv, timeout_s) from error
    return Result(tuple(argv), process.returncode or 1, stdout, stderr)


def bounded(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    folder: str,
    timeout_s: float,
    output_bytes: int,
) -> Bounded:
    """Run a program to its end, or to its deadline: then its session is killed.

    It has just the environment that is given; what it says on standard output goes
    nowhere. Processes that it leaves behind are not waited for. CommandMissing.
    """
    began = time.monotonic()
    process = _start(argv, env, subprocess.DEVNULL, folder, subprocess.DEVNULL)
    with _watched(process):
        said = _Said(output_bytes)
        is_late = not _listen(process, said, began + timeout_s)
        took_s = time.monotonic() - began
        _kill(process)  # with what it has left of its session
        said.drain(process)
    status = -signal.SIGKILL if process.returncode is None else process.returncode
    log.debug("%s: status %d, %.3f s", shlex.join(argv), status, took_s)
    return Bounded(status, bytes(said.kept), said.lost_bytes, took_s, is_late)


class _Said:
    """The beginning of what a program says."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self.kept = bytearray()
        self.lost_bytes = 0

    def take(self, process: subprocess.Popen[bytes]) -> bool:
        """Read what is there; False: nobody can write any more."""
        assert process.stderr is not None
        try:
            piece = os.read(process.stderr.fileno(), 64 * 1024)
        except BlockingIOError:
            return False
        room = self._maximum - len(self.kept)
        self.kept += piece[:room]
        self.lost_bytes += max(len(piece) - room, 0)
        return bool(piece)

    def drain(self, process: subprocess.Popen[bytes]) -> None:
        """Read what a program said last, though others may hold its pipe."""
        assert process.stderr is not None
        os.set_blocking(process.stderr.fileno(), False)
        for _ in range(_DRAINED_MAX):
            if not self.take(process):
                return


def _listen(process: subprocess.Popen[bytes], said: _Said, deadline: float) -> bool:
    """Hear a program until it ends; False: it did not by its deadline."""
    assert process.stderr is not None
    pidfd = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(pidfd, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            while True:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if any(key.fd == pidfd for key, _ in ready):
                    return True
                if time.monotonic() >= deadline:
                    return False
                if ready and not said.take(process):
                    selector.unregister(process.stderr)
    finally:
        os.close(pidfd)


def _read_line(
    process: subprocess.Popen[bytes],
    argv: Sequence[str],
    deadline: float,
    timeout_s: float,
) -> bytes | None:
    """Return the first line that is not blank, or None if the output ends."""
    assert process.stdout is not None
    written = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(written) < _FIRST_LINE_MAX:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise _timed_out(argv, timeout_s)
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                return None
            written = (written + piece).lstrip()
            if b"\n" in written:
                break
    return written.partition(b"\n")[0].rstrip()


@contextlib.contextmanager
def _process(
    argv: Sequence[str], env: Mapping[str, str] | None, stdin: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program; leave nothing of its session behind if it is cut short."""
    whole = {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
    process = _start(argv, whole, stdin, None, subprocess.PIPE)
    with _watched(process):
        yield process


def _start(
    argv: Sequence[str],
    env: Mapping[str, str],
    stdin: int,
    folder: str | None,
    stdout: int,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=env,
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandMissing(
            f"{argv[0]} cannot be run: {error.strerror}", command=argv[0]
        ) from error


@contextlib.contextmanager
def _watched(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a program that runs when the block ends; close its streams."""
    try:
        yield
    finally:
        if process.returncode is None:
            _kill(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(_REAP_S)
    except subprocess.TimeoutExpired:
        log.warning("process %d does not die: it hangs in the kernel", process.pid)


def _timed_out(argv: Sequence[str], timeout_s: float) -> CommandTimedOut:
    return CommandTimedOut(
        f"{argv[0]} did not end within {timeout_s:g} s",
        command=shlex.join(argv),
        timeout_s=timeout_s,
    )
