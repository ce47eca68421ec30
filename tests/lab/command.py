"""Run commands, each with a deadline: the lab's only door to other programs."""

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import time
from collections import abc

from tests.lab import errors, layout

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0  # every command of the lab's own ends within a second
_DRAIN_S = 2.0  # to read what a killed command left in its pipes

# Nothing of the caller's shell or virtual environment reaches a member.
# The product's commands come last: Debian's python3 stays the python3.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    f":{layout.VIRTUAL_ENVIRONMENT}/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LIBVIRT_DEFAULT_URI": "qemu:///system",
}

# Names, in a detached command's environment, the descriptors it inherits.
INHERITED = "LAB_INHERITED"
_inherited: set[int] = set()


@contextlib.contextmanager
def inheriting(descriptor: int) -> abc.Iterator[None]:
    """Let every command that starts meanwhile inherit a descriptor."""
    _inherited.add(descriptor)
    try:
        yield
    finally:
        _inherited.discard(descriptor)


def run(
    argv: abc.Sequence[str], *, input: str | None = None, timeout_s: float = TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run a command and return its output and status, whatever the status is.

    After `timeout_s` the command and all of its process group are killed and
    `TimedOut` is raised.
    """
    begin = time.monotonic()
    # A session of its own: nsenter forks, and its child must die with it.
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=ENVIRONMENT,
        start_new_session=True,
        pass_fds=tuple(_inherited),
    )
    with process:
        try:
            out, err = process.communicate(input, timeout=timeout_s)
        except BaseException as problem:
            out, err = _abandon(process)
            if not isinstance(problem, subprocess.TimeoutExpired):
                raise
            raise errors.TimedOut(
                "command",
                f"`{shlex.join(argv)}` took longer than {timeout_s} s: {out}{err}",
                remedy="see whether the member hangs: python -m tests.lab status",
            ) from problem
    log.debug(
        "%s -> %s in %.2f s",
        shlex.join(argv),
        process.returncode,
        time.monotonic() - begin,
    )
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def check(
    argv: abc.Sequence[str], *, input: str | None = None, timeout_s: float = TIMEOUT_S
) -> str:
    """Run a command that must succeed and return what it printed."""
    done = run(argv, input=input, timeout_s=timeout_s)
    if done.returncode != 0:
        raise errors.StepFailed(
            "command",
            f"`{shlex.join(argv)}` ended with {done.returncode}: "
            f"{(done.stderr or done.stdout).strip()}",
            remedy="run it by hand to see more",
        )
    return done.stdout


def detach(argv: abc.Sequence[str], *, output: int, keep: abc.Sequence[int]) -> None:
    """Start a command that outlives this process, in a session of its own.

    `output` takes what it prints; the descriptors `keep` stay open in it. Those of
    `inheriting` do too, and it must close them: INHERITED names them.
    """
    subprocess.run(
        ["setsid", "--fork", *argv],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=(*keep, *_inherited),
        env={**ENVIRONMENT, INHERITED: " ".join(map(str, _inherited))},
        cwd="/",
        check=True,
        timeout=TIMEOUT_S,
    )


def _abandon(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Kill the command's group and return what it said so far."""
    # It may have ended just now, and been waited for.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=_DRAIN_S)
    except subprocess.TimeoutExpired:
        # A daemon it started holds the pipes: closing our ends is all that is left.
        return "", ""
