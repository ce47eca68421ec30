"""Break members of the lab for a while, and mend them again."""

import os
import signal
from collections.abc import Callable
from typing import Final

from tests.lab import mirror, processes, running

Pause = Callable[[float], object]  # waits for so many seconds


def kill(pid: int) -> str:
    """End a process at once; say what became of it."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return "does not run"
    return "killed"


def freeze(member: running.Member, service: str, seconds: float, pause: Pause) -> str:
    """Stop a service for a while, and let it go on."""
    identity = processes.identify(member.service_pid(service))
    if identity is None or not processes.send(identity, signal.SIGSTOP):
        return "does not run"
    try:
        pause(seconds)
    finally:
        was_there = processes.send(identity, signal.SIGCONT)
    return "goes on" if was_there else "was killed meanwhile"


def power(member: running.Member, seconds: float, pause: Pause) -> str:
    """Cut a member's power, and switch it on again."""
    member.kill()
    pause(seconds)
    member.boot()
    return "on again"


def cut(member: running.Member, seconds: float, pause: Pause) -> str:
    """Pull a member's network cables, and put them back."""
    member.cut()
    pause(seconds)
    member.heal()
    return "plugged in again"


def hang(member: running.Member, seconds: float, pause: Pause) -> str:
    """Let a host's storage hang; its watchdog may cut its power meanwhile."""
    member.hang_storage()
    pause(seconds)
    if not member.is_alive():
        return "lost its power meanwhile"
    member.resume_storage()
    return "goes on"


def fail(
    member: running.Member,
    fault: mirror.Fault,
    seconds: float,
    pause: Pause,
    pattern: str = "",
) -> str:
    """Let requests of a host fail for a while, for paths of a pattern; "": all."""
    member.set_fault(fault, pattern)
    pause(seconds)
    member.set_fault(mirror.Fault.NONE)
    return "is well again"


DISKS: Final = "*/images/*"  # of faults that spare leases and maps
