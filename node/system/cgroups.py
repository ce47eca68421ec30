"""Find the cgroup hierarchies of this host, and groups of our own in them.

    v1, hybrid   one hierarchy for each controller, v2 beside them for none or some
    v2 only      one hierarchy; a controller is there if the groups above hand it down

Groups are used to know and to kill, where their controllers are in reach to limit as
well. Source: cgroups(7), proc_pid_mountinfo(5).
"""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.errors import Unsupported

# Of v1: cpuset would want processors first, and freezer is there since 2008.
_PREFERRED: Final = ("freezer", "pids", "name=systemd")
# What limits, of v1: each has a hierarchy of its own.
_LIMITING: Final = ("memory", "pids")
_PAUSE_S: Final = 0.005
_HAND_DOWN: Final = ("+memory", "+pids")


class NoGroups(Unsupported):
    code = "no_cgroups"
    remedy = "Mount a cgroup hierarchy; version 2 on /sys/fs/cgroup is best."


@dataclass(frozen=True, slots=True)
class Caps:
    """What all processes of a group may have together."""

    memory_bytes: int
    processes: int


class Group:
    """A group for one program and all that it starts, in each hierarchy it needs."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)

    @property
    def has_memory_limit(self) -> bool:
        return any(_MEMORY & _names(folder) for folder in self.folders)

    def is_out_of_memory(self) -> bool:
        """Tell whether the kernel has killed something here that wanted too much."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError):
                    words = (folder / name).read_text().split()
                    pairs = dict(zip(words[::2], words[1::2], strict=False))
                    if int(pairs.get("oom_kill", 0)):
                        return True
        return False

    def kill(self, timeout_s: float) -> bool:
        """SIGKILL all that is in it; tell whether nothing is left in time."""
        deadline = time.monotonic() + timeout_s
        while pids := self.members():
            for folder in self.folders:
                with contextlib.suppress(OSError):  # v1 and older kernels have none
                    _write(folder / "cgroup.kill", "1")
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE_S)
        return True

    def members(self) -> set[int]:
        found: set[int] = set()
        for folder in self.folders:
            with contextlib.suppress(OSError):
                found.update(map(int, (folder / "cgroup.procs").read_text().split()))
        return found

    def remove(self, timeout_s: float) -> None:
        """Remove it; one that stays busy is left for the next start."""
        deadline = time.monotonic() + timeout_s
        for folder in self.folders:
            while folder.exists():
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    break
                if time.monotonic() >= deadline:
                    return
                time.sleep(_PAUSE_S)


_MEMORY: Final = frozenset({"memory.max", "memory.limit_in_bytes"})


def make(parent: str, name: str, caps: Caps) -> Group:
    """Return a new group below one of ours, with what limits there are; NoGroups."""
    folders = []
    for hierarchy in _hierarchies():
        above = hierarchy / parent
        with contextlib.suppress(OSError):
            above.mkdir(exist_ok=True)
            for each in (hierarchy, above):
                _hand_down(each)
            folder = above / name
            folder.mkdir()
            folders.append(folder)
            _limit(folder, caps)
    if not folders:
        raise NoGroups("no cgroup can be made")
    return Group(folders)


def clear(parent: str, timeout_s: float) -> None:
    """End and remove what an earlier process of ours has left in a group."""
    for hierarchy in _hierarchies():
        above = hierarchy / parent
        with contextlib.suppress(OSError):
            for folder in [e for e in above.iterdir() if e.is_dir()]:
                left = Group((folder,))
                left.kill(timeout_s)
                left.remove(timeout_s)
            above.rmdir()


def find_hierarchy() -> Path:
    """Return where cgroup v2 is mounted, else a hierarchy of v1; NoGroups."""
    second, first = _mounted()
    if second is not None:
        return second
    for option in _PREFERRED:
        if option in first:
            return first[option]
    raise NoGroups("no cgroup hierarchy is mounted")


def _hierarchies() -> tuple[Path, ...]:
    """Return those in which a group knows, kills and limits."""
    second, first = _mounted()
    limiting = [first[each] for each in _LIMITING if each in first]
    found = [second] if second is not None else []
    return tuple(dict.fromkeys((*found, *limiting)))


def _mounted() -> tuple[Path | None, dict[str, Path]]:
    """Return where v2 is, and where each controller of v1 that we may write to."""
    second: Path | None = None
    first: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        folder = Path(before.split()[4])
        if kind == "cgroup2":
            second = folder
        if kind == "cgroup" and os.access(folder, os.W_OK):
            for option in options.split(","):
                first.setdefault(option, folder)
    return second, first


def _hand_down(group: Path) -> None:
    for controller in _HAND_DOWN:
        with contextlib.suppress(OSError):  # it is not here, or has been handed down
            _write(group / "cgroup.subtree_control", controller)


def _limit(folder: Path, caps: Caps) -> None:
    limits = {
        "memory.max": caps.memory_bytes,
        "memory.swap.max": 0,
        "memory.limit_in_bytes": caps.memory_bytes,
        "pids.max": caps.processes,
    }
    for name, value in limits.items():
        with contextlib.suppress(OSError):
            _write(folder / name, str(value))


def _names(folder: Path) -> set[str]:
    with contextlib.suppress(OSError):
        return {each.name for each in folder.iterdir()}
    return set()


def _write(path: Path, text: str) -> None:
    """Write to a file of the kernel, which must be there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
