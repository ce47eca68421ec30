"""Say how a program is started so that it cannot outlive the storage process.

Two shells and setpriv lead to the program, in this order, since each needs what is
before it:

    root    join the program's own cgroup: from now on it is found and killed
    root    become the storage user; then PR_SET_PDEATHSIG, which setuid would undo
    36:36   end if the parent died before that; umask, folder; become the program

A worker gives up root by itself (`give_up_root`), once it has loaded its code: the
storage user need not be able to read the folder that we are installed in.

The signal comes when the parent's *thread* ends, so only the main thread may start
programs. A lifeline (see node/system/leases.py) keeps the leases until even a
program that ignores all of this is gone. posix_spawn, since forking a process with
threads is not safe. Source: prctl(2), setpriv(1), dash(1), posix_spawn(3).
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# vdsm and kvm: who owns the files of every domain of oVirt.
STORAGE_ID: Final = 36
# What our shells say when they give up before the program has begun.
NOT_BEGUN: Final = 125

_AS_ROOT: Final = f'echo 0 >"$1" || exit {NOT_BEGUN}; shift; exec "$@"'
_AS_USER: Final = (
    f'[ "$PPID" = "$1" ] || exit {NOT_BEGUN}; umask 007; '
    f'cd "$2" || exit {NOT_BEGUN}; shift 2; exec "$@"'
)
_PR_SET_PDEATHSIG: Final = 1
_ENVIRONMENT: Final = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
}
# Python ignores these, and what is ignored would stay so in the program.
_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True)
class User:
    """Whom programs run as; None: as we do."""

    uid: int = STORAGE_ID
    gid: int = STORAGE_ID


def words(
    argv: tuple[str, ...], group: Path, folder: str, user: User | None, parent: int
) -> list[str]:
    """Return the command that leads to a program. Pure."""
    identity = []
    if user is not None:
        identity = [f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups"]
    return [
        *("/bin/sh", "-c", _AS_ROOT, "sh", f"{group}/cgroup.procs"),
        *("setpriv", *identity, "--pdeathsig=KILL", "--"),
        *("/bin/sh", "-c", _AS_USER, "sh", str(parent), folder),
        *argv,
    ]


def give_up_root(uid: int, gid: int, parent: int) -> None:
    """Become another user for good, and still die with the parent; or end."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None)
    is_set = libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0
    if not is_set or os.getppid() != parent:
        sys.exit(NOT_BEGUN)


def spawn(
    command: list[str], descriptors: Mapping[int, int], lifelines: tuple[int, ...]
) -> int:
    """Start a command from `words` and return its pid; call it in the main thread.

    `descriptors` maps the program's to ours; what it does not name is closed.
    """
    actions: list[tuple[int, int, int]] = [
        (os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in descriptors.items()
    ]
    # On itself: that only lets it through.
    actions += [(os.POSIX_SPAWN_DUP2, each, each) for each in lifelines]
    return os.posix_spawnp(
        command[0],
        command,
        _ENVIRONMENT,
        file_actions=actions,
        setsid=True,
        setsigdef=_SIGNALS,
    )


def send(pidfd: int, number: signal.Signals) -> None:
    """Send a program a signal; it may have ended."""
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(pidfd, number)
