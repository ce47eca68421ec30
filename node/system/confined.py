"""Run a program that may do anything: as another user, within bounds, ended whole.

    root    join groups of its own: all that it starts is in them, and dies with them
    root    limits that need no group
    user    become the user for good; become the program

When it ends, or its time is over, whatever it has started and not waited for is killed.
Where no cgroup can be made, its session is. Source: cgroups(7), prlimit(1), setpriv(1).
"""

import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from node.system import cgroups, command
from node.system.cgroups import Caps, Group, NoGroups

log = logging.getLogger(__name__)

# What our shell says when it gives up before the program has begun.
_NOT_BEGUN: Final = 125
_JOIN: Final = (
    f'for group in $1; do echo 0 >"$group/cgroup.procs" || exit {_NOT_BEGUN}; done; '
    'shift; umask 077; exec "$@"'
)
_FILES_MAX: Final = 1024
_KILL_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class User:
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Bounds:
    timeout_s: float
    memory_bytes: int  # of all its processes; of each, without cgroups
    processes: int = 256
    output_bytes: int = 16 * 1024  # what is kept of its standard error


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    status: int  # below zero: minus the signal that ended it
    said: str  # its standard error, as much as is kept
    lost_bytes: int  # of that
    took_s: float
    is_late: bool = False  # it was killed at its deadline
    is_out_of_memory: bool = False
    left: int = 0  # processes that it left behind, which were killed


class Confinement:
    """Runs programs as one user, below one cgroup. Any thread may call."""

    def __init__(self, group: str, user: User | None) -> None:
        """`group` is the name of the cgroup above; `user` None: as we are."""
        self._group = group
        self._user = user

    def clear(self) -> None:
        """End what an earlier process of ours has left; nobody else may be at work."""
        if os.geteuid() == 0:
            cgroups.clear(self._group, _KILL_S)

    def run(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        bounds: Bounds,
        folder: str = "/",
    ) -> Ended:
        """Run a program with just this environment; CommandMissing."""
        group = self._make_group(bounds)
        words = self._words(argv, group, bounds)
        try:
            ended = command.bounded(
                words,
                env=env,
                folder=folder,
                timeout_s=bounds.timeout_s,
                output_bytes=bounds.output_bytes,
            )
            left = group.members() if group is not None else set()
            is_out_of_memory = group is not None and group.is_out_of_memory()
        finally:
            if group is not None:
                if not group.kill(_KILL_S):
                    log.warning("processes of %s do not die: %s", argv[0], group)
                group.remove(_KILL_S)
        return Ended(
            ended.status,
            ended.stderr.decode(errors="replace"),
            ended.lost_bytes,
            ended.took_s,
            ended.is_late,
            is_out_of_memory,
            0 if ended.is_late else len(left),
        )

    def _make_group(self, bounds: Bounds) -> Group | None:
        if os.geteuid() != 0:
            return None  # what we may make, the program could leave
        caps = Caps(bounds.memory_bytes, bounds.processes)
        try:
            return cgroups.make(self._group, uuid.uuid4().hex, caps)
        except NoGroups as error:
            log.debug("%s: only the session is killed", error)
            return None

    def _words(
        self, argv: Sequence[str], group: Group | None, bounds: Bounds
    ) -> list[str]:
        """Return the command that leads to the program."""
        words: list[str] = []
        if group is not None:
            folders = " ".join(map(str, group.folders))
            words += ["/bin/sh", "-c", _JOIN, "sh", folders]
        words += ["prlimit", "--core=0", f"--nofile={_FILES_MAX}"]
        if group is None or not group.has_memory_limit:
            words.append(f"--as={bounds.memory_bytes}")
        words.append("--")
        if self._user is not None and os.geteuid() == 0:
            uid, gid = self._user.uid, self._user.gid
            words += ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
            words.append("--")
        return [*words, *argv]
