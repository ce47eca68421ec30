"""Kill every process of a cgroup: what sanlock runs when a lockspace is lost.

    python3 -I -S kill.py GROUP PID START TAG

kills all that needs leases of one lockspace, then sends SIGUSR1 to the storage process
PID if it is still the one that began at START, so that it gives up what it has lost.
TAG stands for the lockspace: it is in the names of those groups below GROUP that are
to die (see cgroup.py). It imports nothing of ours: it must run on a node where all
else is broken.
Source: sanlock(8), cgroups(7), pidfd_open(2), proc_pid_stat(5).
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

# In the name of a group that needs more lockspaces than its name has room for.
ANY_TAG: Final = "any"
# sanlock goes on to SIGKILL and the watchdog by itself: we only have to be quick.
DEADLINE_S: Final = 5.0
_PAUSE_S: Final = 0.01


def main(argv: list[str]) -> int:
    """Return 0 if nothing with the tag is left, 1 if something does not die."""
    group, pid, began, tag = argv
    is_empty = kill_tagged(group, tag, DEADLINE_S)
    tell(int(pid), began)
    return 0 if is_empty else 1


def kill_all(group: str, timeout_s: float) -> bool:
    """SIGKILL all processes below a group; tell whether none is left in time."""
    return _kill_below(lambda: [group], timeout_s)


def kill_tagged(group: str, tag: str, timeout_s: float) -> bool:
    """SIGKILL all in those groups below that bear the tag; as `kill_all`."""
    return _kill_below(lambda: tagged(group, tag), timeout_s)


def tagged(group: str, tag: str) -> list[str]:
    """Return the groups just below that bear a tag, or have no room for theirs."""
    try:
        names = os.listdir(group)
    except OSError:
        return []
    wanted = {tag, ANY_TAG}
    return [f"{group}/{name}" for name in names if wanted & set(name.split(".")[1:])]


def members(group: str) -> set[int]:
    """Return the processes below a group; one that is gone has none."""
    found: set[int] = set()
    for folder, _, _ in os.walk(group):
        # A group may go while we look, and its processes are then gone, too.
        with contextlib.suppress(OSError), open(f"{folder}/cgroup.procs") as file:
            found.update(int(line) for line in file)
    return found


def start_time(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; empty: there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # The name may hold blanks and brackets; the fields follow its end.
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def tell(pid: int, began: str) -> None:
    """Send SIGUSR1 to this very process, if it is still there."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if start_time(pid) == began:
                signal.pidfd_send_signal(descriptor, signal.SIGUSR1)
        finally:
            os.close(descriptor)


def write(path: str, text: str) -> None:
    """Write to a file of the kernel, which must be there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _kill_below(find: Callable[[], list[str]], timeout_s: float) -> bool:
    """Kill until nothing is left, or time is up.

    A process may fork while we look, or a group be made: the next round finds it.
    """
    deadline = time.monotonic() + timeout_s
    while found := [(pid, group) for group in find() for pid in members(group)]:
        for group in {group for _, group in found}:
            with contextlib.suppress(OSError):  # older kernels and v1 have no such file
                write(os.path.join(group, "cgroup.kill"), "1")
        for pid, group in found:
            _kill(pid, group)
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


def _kill(pid: int, group: str) -> None:
    """Kill one that is in the group still: its number may be another's by now."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if pid in members(group):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
