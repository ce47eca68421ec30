"""Mount file systems, and say what is mounted where: the door to mount(8).

A path's file system decides whether its leases may be granted by this host alone.
Times are seconds. Source: mount(8), umount(8), nfs(5), proc(5) on mountinfo.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from node.errors import Busy, Error, Failed
from node.system.command import CommandFailed, Run

# A server that does not answer is given up by mount.nfs after two minutes.
MOUNT_S: Final = 150.0
UNMOUNT_S: Final = 60.0
# A path that crosses a server that hangs has no answer.
RESOLVE_S: Final = 10.0
_BUSY: Final = "busy"  # umount's own word, in the C locale
_SLASHES: Final = re.compile(r"//+")
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_MOUNTINFO: Final = Path("/proc/self/mountinfo")


class MountFailed(Failed):
    code = "mount_failed"
    remedy = "Check the server, the export and the options that the message names."


class MountBusy(Busy):
    """A program still uses a file there."""

    code = "mount_busy"
    remedy = "End what uses it, then try again."


class MountOther(Failed):
    """Something else is mounted there."""

    code = "mount_point_taken"
    remedy = "Unmount what is there, if it is not needed."


@dataclass(frozen=True, slots=True)
class Mount:
    source: str
    target: str
    file_system: str  # as the kernel names it: nfs4, ext4, fuse.glusterfs
    options: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Tell whether this host alone reaches the files, and keeps them."""
        return self.file_system in _LOCAL

    @property
    def is_scratch(self) -> bool:
        """Tell whether this host alone reaches the files, but may not keep them."""
        return self.file_system in _SCRATCH


class Mounts(Protocol):
    def mount(
        self, source: str, target: Path, file_system: str, options: tuple[str, ...]
    ) -> None:
        """Mount; the same source there already is no error.

        Raises MountFailed, MountOther, and what `command.run` raises.
        """

    def unmount(self, target: Path) -> None:
        """Unmount; nothing there is no error. MountBusy, MountFailed."""

    def find(self, path: Path) -> Mount:
        """Return the mount that a path lies on, all links followed.

        What is missing at its end does not matter. Raises what `command.run` raises.
        """


class SystemMounts:
    """The mounts of this process's own namespace."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def mount(
        self, source: str, target: Path, file_system: str, options: tuple[str, ...]
    ) -> None:
        present = self._at(target)
        if present is not None and is_same(present.source, source):
            return
        if present is not None:
            raise MountOther(f"{target} has {present.source}", source=present.source)
        target.mkdir(parents=True, exist_ok=True)
        words = ["mount", "-t", file_system]
        if options:
            words += ["-o", ",".join(options)]
        try:
            self._run([*words, "--", source, str(target)], timeout_s=MOUNT_S)
        except CommandFailed as error:
            raise MountFailed(f"{source}: {error}", source=source) from error

    def unmount(self, target: Path) -> None:
        if self._at(target) is None:
            return
        try:
            self._run(["umount", "--", str(target)], timeout_s=UNMOUNT_S)
        except CommandFailed as error:
            kind: type[Error] = MountBusy if _BUSY in str(error) else MountFailed
            raise kind(f"{target}: {error}", target=str(target)) from error

    def find(self, path: Path) -> Mount:
        # By a program: a link into a dead server must not hang us.
        words = ["realpath", "-m", "-z", "--", str(path)]
        found = os.fsdecode(self._run(words, timeout_s=RESOLVE_S).stdout)
        return lying_on(parse(_MOUNTINFO.read_text()), Path(found.removesuffix("\0")))

    def _at(self, target: Path) -> Mount | None:
        found = parse(_MOUNTINFO.read_text())
        return next((m for m in reversed(found) if m.target == str(target)), None)


def parse(mountinfo: str) -> tuple[Mount, ...]:
    """Return what /proc/self/mountinfo says, in the order of mounting. Pure."""
    found = []
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        words, facts = fields.split(" "), rest.split(" ")
        options = tuple(words[5].split(","))
        found.append(Mount(_plain(facts[1]), _plain(words[4]), facts[0], options))
    return tuple(found)


def is_same(told: str, asked: str) -> bool:
    """Tell whether the source that the kernel tells of a mount is the one asked for.

    It tells exports without slashes that mean nothing, and disks by a name of its own.
    """
    if asked.startswith("/dev/"):
        return os.path.realpath(told) == os.path.realpath(asked)
    return _plain_slashes(told) == _plain_slashes(asked)


def lying_on(mounts: tuple[Mount, ...], path: Path) -> Mount:
    """Return the mount that a path lies on: the deepest, the newest of these. Pure."""
    assert path.is_absolute(), f"{path} is relative"
    above = {str(path), *map(str, path.parents)}
    fitting = [each for each in mounts if each.target in above]
    assert fitting, "something is mounted on /"
    deepest = max(len(each.target) for each in fitting)
    return [each for each in fitting if len(each.target) == deepest][-1]


def _plain_slashes(source: str) -> str:
    return _SLASHES.sub("/", source).removesuffix("/")


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)


# Those that one host mounts from its own disks. Whatever is not known here may be
# shared: new network and cluster file systems, all of fuse, what stacks on others.
_LOCAL: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs"})
_SCRATCH: Final = frozenset({"tmpfs", "overlay"})

_typed: type[Mounts] = SystemMounts
