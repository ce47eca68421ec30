"""Run a program of ours in the background, and end it: by its pid, in time."""

import contextlib
import logging
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Self, TypeVar

from node.errors import Failed
from tests.scale import processes
from tests.scale.connection import NoAnswer

T = TypeVar("T")

log = logging.getLogger(__name__)

STOP_S = 30.0
_POLL_S = 0.05


class StepFailed(Failed):
    """A step of the bench did not do what it is for."""

    code = "step_failed"
    remedy = "Read the log that the message names."


class Died(StepFailed):
    """A program that should run has ended."""

    code = "died"


class Daemon:
    """A program; what it logs is in a file."""

    def __init__(
        self, argv: Sequence[str], log_file: Path, *, has_pipes: bool = False
    ) -> None:
        self.log_file = log_file
        with log_file.open("ab") as log_stream:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if has_pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if has_pipes else log_stream,
                stderr=log_stream,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def input(self) -> IO[bytes]:
        assert self._process.stdin is not None, "made with has_pipes"
        return self._process.stdin

    @property
    def output(self) -> IO[bytes]:
        assert self._process.stdout is not None, "made with has_pipes"
        return self._process.stdout

    def usage(self) -> processes.Usage:
        """Return what it used so far; Died if it has ended."""
        self.check()
        return processes.usage(self.pid)

    def check(self) -> None:
        """Raise Died if it has ended."""
        if (code := self._process.poll()) is not None:
            raise Died(f"{self._process.args!r} ended ({code}): {self._tail()}")

    def stop(self) -> float:
        """Ask it to end, by force after a while; return how long that took."""
        begin = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("pid %d does not end, killing it", self.pid)
            self._process.kill()
            self._process.wait(STOP_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return time.monotonic() - begin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _tail(self) -> str:
        lines = self.log_file.read_text(errors="replace").splitlines()
        return "\n".join(["", *lines[-20:]])


def run(argv: Sequence[str], *, given: str = "", timeout_s: float = 60.0) -> str:
    """Return what a command prints; StepFailed if it fails."""
    result = subprocess.run(
        argv, input=given, capture_output=True, text=True, timeout=timeout_s
    )
    if result.returncode != 0:
        raise StepFailed(f"{' '.join(argv)} failed: {result.stderr.strip()[-2000:]}")
    return result.stdout


def wait(what: str, look: Callable[[], T | None], timeout_s: float) -> T:
    """Return the first true answer of `look`; no answer at all is "not yet"."""
    deadline = time.monotonic() + timeout_s
    last = ""
    while True:
        try:
            if found := look():
                return found
        except NoAnswer as error:
            last = f" ({error})"
        if time.monotonic() > deadline:
            raise StepFailed(f"{what}: not after {timeout_s:.0f} s{last}")
        time.sleep(_POLL_S)
