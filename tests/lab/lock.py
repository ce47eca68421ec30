"""Let one command at a time change a lab, even after one was killed half-way.

Every program that the holder starts meanwhile inherits the lock's descriptor: the
lock of a holder that was killed is free only when those have ended too, so that no
orphan of it changes what the next holder builds. Source: flock(2).
"""

import contextlib
import fcntl
import os
from collections import abc
from pathlib import Path

from tests.lab import command, errors, polling

NAME = "lock"
_TIMEOUT_S = 120.0  # as long as the slowest holder, an `up`, may take
_INTERVAL_S = 0.05


@contextlib.contextmanager
def held(directory: Path) -> abc.Iterator[None]:
    """Hold the lab's lock, which its `down` removes with its directory."""
    taken: list[int] = []

    def take() -> bool:
        taken.extend(_try(directory))
        return bool(taken)

    if not polling.until(take, _TIMEOUT_S, _INTERVAL_S):
        raise errors.TimedOut(
            "lock",
            f"another command has held {directory / NAME} for {_TIMEOUT_S:.0f} s",
            remedy="wait for it or end it",
        )
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, taken[0])
        stack.enter_context(command.inheriting(taken[0]))
        yield


def _try(directory: Path) -> list[int]:
    """Return the descriptor that holds the lock, or nothing."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / NAME
    with contextlib.ExitStack() as stack:
        # A `down` that ends just now takes the file away under our hands.
        stack.enter_context(contextlib.suppress(BlockingIOError, FileNotFoundError))
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            stack.pop_all()
            return [descriptor]
    return []
