"""Keep all that writes to storage in one cgroup, a child group for each program.

    <hierarchy>/skerry-storage                all of ours
    <hierarchy>/skerry-storage/<n>            a program that needs no lease
    <hierarchy>/skerry-storage/<n>.<tag>...   one that needs leases of lockspaces

A tag is a lockspace's name, hashed to fit. sanlock's killpath kills the groups that
bear the tag of the lockspace that was lost, and nobody else's writers.

They lie in one hierarchy (`node.system.cgroups`).
Groups are only used to know and to kill: no controller is needed.
Source: cgroups(7).
"""

import contextlib
import hashlib
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from node.errors import Unavailable
from node.storage.process import kill

NAME: Final = "skerry-storage"
# A killed process is gone at once, unless it waits in the kernel for a dead storage.
_KILL_S: Final = 10.0
_PAUSE_S: Final = 0.002
# Eight of 32 bits: two lockspaces that met would only die together.
_TAG_LETTERS: Final = 8
# A folder's name has 255 bytes; a step needs the leases of two or three lockspaces.
_TAGS_MAX: Final = 20


class LeftoverWriters(Unavailable):
    """Writers of the storage process before us do not die: we may not start."""

    code = "leftover_writers"
    remedy = "They wait for a dead storage: bring it back, or reset the node."


class Group:
    """The cgroup of the storage process's children."""

    def __init__(self, path: Path) -> None:
        """Make the group, and end all that is left of an earlier process's."""
        self.path = path
        self._numbers = itertools.count(1)
        path.mkdir(parents=True, exist_ok=True)
        if not kill.kill_all(str(path), _KILL_S):
            raise LeftoverWriters(f"processes {sorted(kill.members(str(path)))} stay")
        self._remove_children()

    def make_child(self, lockspaces: Sequence[str] = ()) -> Path:
        """Return a new, empty group for a program that needs these lockspaces."""
        tags = [tag(each) for each in lockspaces]
        if len(tags) > _TAGS_MAX:
            tags = [kill.ANY_TAG]
        child = self.path / ".".join((str(next(self._numbers)), *tags))
        child.mkdir()
        return child

    def _remove_children(self) -> None:
        """Remove what an earlier process made, busy for an instant as it may be."""
        deadline = time.monotonic() + _KILL_S
        for folder in [each for each in self.path.iterdir() if each.is_dir()]:
            while not is_removed(folder):
                if time.monotonic() >= deadline:
                    raise LeftoverWriters(f"{folder} stays busy")
                time.sleep(_PAUSE_S)

    def close(self) -> None:
        """Remove the group, unless something is in it still."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


def tag(lockspace: str) -> str:
    """Return what stands for a lockspace in groups' names."""
    return hashlib.sha256(lockspace.encode()).hexdigest()[:_TAG_LETTERS]


def is_removed(group: Path) -> bool:
    """Kill what is in a program's group and remove it; tell whether it is gone."""
    if not kill.kill_all(str(group), 0.0):
        return False
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # busy for an instant after its last process
        return False
    return True
