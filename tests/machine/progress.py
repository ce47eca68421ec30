"""Tell how the preparation gets on: one line a step, with its time.

What the commands print goes to a log file. A failure names the step, the log
file and the remedy.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from node.errors import Error, Failed

# No step takes longer than this on two slow cores with a slow mirror.
STEP_TIMEOUT_S = 1800.0


class StepFailed(Failed):
    """A command of a step failed: its log says why, the remedy what to do."""

    code = "step_failed"

    def __init__(self, message: str, *, log: Path, remedy: str) -> None:
        super().__init__(message, log=str(log))
        self.log = log
        self.remedy = remedy


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Print the title now, and how it ended and its time when it ends."""
    print(f"{title:<58} ", end="", flush=True)
    begin = time.monotonic()
    outcome = "failed"
    try:
        yield
        outcome = "ok"
    finally:
        print(f"{outcome:>6} {time.monotonic() - begin:7.1f} s", flush=True)


def run(
    argv: Sequence[str],
    *,
    log: Path,
    remedy: str,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> None:
    """Run a command with its output appended to a log; raise StepFailed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as output:
        output.write(f"\n$ {' '.join(argv)}\n")
        output.flush()
        try:
            subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=directory,
                close_fds=False,  # quiet.py's lock is to be inherited
                timeout=STEP_TIMEOUT_S,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            message = f"{argv[0]} ended with status {error.returncode}"
            raise StepFailed(message, log=log, remedy=remedy) from error
        except subprocess.TimeoutExpired as error:
            message = f"{argv[0]} took more than {STEP_TIMEOUT_S:.0f} s"
            raise StepFailed(message, log=log, remedy=remedy) from error
        except OSError as error:
            message = f"{argv[0]} could not be started: {error.strerror}"
            raise StepFailed(message, log=log, remedy=remedy) from error


def explain(error: Error) -> str:
    """Return what a person needs after a failure: what, where, what now."""
    lines = [f"error: {error}"]
    if isinstance(error, StepFailed):
        lines.append(f"  log:    {error.log}")
        lines += [f"          | {line}" for line in _last_lines(error.log)]
    if error.remedy:
        lines.append(f"  remedy: {error.remedy}")
    return "\n".join(lines)


def fail(error: Error) -> int:
    """Print the explanation of a failure; return the exit status for it."""
    print(explain(error), file=sys.stderr, flush=True)
    return 1


def _last_lines(log: Path, count: int = 8) -> list[str]:
    """Return the last lines of a log that say something."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
