"""Find the scripts of a hook point: in order, and which of them must not run.

A folder of hooks has a folder for each point. A script counts if it is a regular file
that may be executed. What anybody could have written does not run, nor what only points
elsewhere: both are told, with the reason.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.model.hooks import HookScript

_ANYBODY: Final = stat.S_IWOTH
_EXECUTABLE: Final = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_PIECE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """An entry in the folder of a point."""

    point: str
    path: Path
    refused: str = ""  # why it must not run; empty: it may

    @property
    def name(self) -> str:
        return self.path.name


def find(roots: Sequence[Path], point: str) -> tuple[Found, ...]:
    """Return a point's scripts in the order in which they run, whichever their root.

    By name; of the same name, those of the earlier root first.
    """
    entries = [each for root in roots for each in _entries(root, point)]
    return tuple(sorted(entries, key=lambda each: os.fsencode(each.name)))


def find_all(roots: Sequence[Path], points: Iterable[str]) -> tuple[Found, ...]:
    """Return the scripts of these points, by point."""
    return tuple(each for point in points for each in find(roots, point))


def describe(found: Found) -> HookScript:
    """Return what a script is; one that cannot be read is refused."""
    sha256, md5, size_bytes = hashlib.sha256(), _md5(), 0
    refused = found.refused
    try:
        # One that points elsewhere, or is no file, is not followed and not waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(found.path, flags), "rb") as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                while piece := file.read(_PIECE):
                    sha256.update(piece)
                    md5.update(piece)
                    size_bytes += len(piece)
    except OSError as error:
        refused = refused or f"it cannot be read: {error.strerror}"
    return HookScript(
        str(found.point),
        found.name,
        str(found.path),
        size_bytes,
        sha256.hexdigest(),
        md5.hexdigest(),
        refused,
    )


def _md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)


def _entries(root: Path, point: str) -> Iterator[Found]:
    folder = root / point
    try:
        is_open = bool(folder.stat().st_mode & _ANYBODY)
        paths = list(folder.iterdir())
    except OSError:  # there is none
        return
    for path in paths:
        try:
            mode = path.lstat().st_mode
        except OSError:  # it went meanwhile
            continue
        refused = _why_refused(mode, is_open=is_open)
        if refused is not None:
            yield Found(point, path, refused)


def _why_refused(mode: int, *, is_open: bool) -> str | None:
    """Return why an entry does not run; empty: it does; None: it is no script."""
    if stat.S_ISLNK(mode):
        return "it is a symbolic link: put the script itself here"
    if not stat.S_ISREG(mode) or not mode & _EXECUTABLE:
        return None
    if mode & _ANYBODY:
        return "anybody may write to it: chmod o-w"
    if is_open:
        return "anybody may write to its folder: chmod o-w"
    return ""
