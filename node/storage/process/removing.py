"""Remove folders, also where an NFS client keeps what somebody has open.

It renames such a file to `.nfs…` instead of removing it, whoever opened it on this
machine, even to look; until it is closed its folder cannot go. That is waited for. The
standard library, and what is pure of ours.
Source: the Linux NFS FAQ, D2 ("silly rename"); fs/nfs/dir.c of the kernel.
"""

import errno
import os
import shutil
import time
from collections.abc import Callable
from typing import Final

from node.errors import Unavailable

HELD_S: Final = 10.0  # who only looks closes at once, who was killed within seconds
_LOOK_S: Final = 0.05
_KEPT: Final = ".nfs"


class FileHeld(Unavailable):
    """Files in a folder that is removed are still open on this node."""

    code = "file_held"
    remedy = (
        "Nothing has to be done: what is left is removed when they are closed. "
        "`fuser` on this node tells who has them open."
    )


def remove_folder(folder: int, name: str) -> None:
    """Remove an empty folder."""
    _when_let_go(folder, name, lambda: os.rmdir(name, dir_fd=folder), _names)


def remove_tree(folder: int, name: str) -> None:
    """Remove a folder and all in it."""
    _when_let_go(folder, name, lambda: shutil.rmtree(name, dir_fd=folder), _files)


def _when_let_go(
    folder: int,
    name: str,
    remove: Callable[[], None],
    left: Callable[[int, str], list[str]],
) -> None:
    """Remove, again and again while only what an NFS client keeps is `left`."""
    deadline = time.monotonic() + HELD_S
    while True:
        try:
            remove()
            return
        except FileNotFoundError:
            # A file that was kept went by itself, unless all did.
            if not _is_there(folder, name):
                return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EBUSY):
                raise
            names = left(folder, name)
            if not all(each.startswith(_KEPT) for each in names):
                raise
            if time.monotonic() > deadline:
                raise FileHeld(
                    f"{name}: files are open on this node still, as "
                    f"{', '.join(sorted(names))}",
                    path=name,
                ) from error
        time.sleep(_LOOK_S)


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _names(folder: int, name: str) -> list[str]:
    """Return what is in a folder."""
    handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    try:
        return os.listdir(handle)
    finally:
        os.close(handle)


def _files(folder: int, name: str) -> list[str]:
    """Return the names of the files below a folder."""
    levels = os.fwalk(name, dir_fd=folder)
    return [each for _, _, files, _ in levels for each in files]
