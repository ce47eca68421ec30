"""See to it that what file operations made is on disk: at once, or all together.

Files and the folders that name them are synced. Of operations that are done together
that is so at their end; before that, what was made is on disk before a name changes,
and a new name before anything is removed. The standard library only.
Source: fsync(2), rename(2).
"""

import contextlib
import contextvars
import os
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Final

# What may become durable in any order, and anew before each name that changes.
_MAKING: Final = ("make_folder", "make_file", "make_qcow2", "write_whole", "link")
_REMOVING: Final = ("remove", "remove_tree")


@dataclass(slots=True)
class _Batch:
    """What is still to be synced of operations that are done together."""

    sync: Callable[[int], None]
    names: tuple[str, ...] = ()  # of the operations whose order does not count
    files: set[int] = field(default_factory=set)
    folders: dict[tuple[int, int], int] = field(default_factory=dict)
    made: set[tuple[int, int]] = field(default_factory=set)

    def turn(self, name: str) -> None:
        """Sync what came before an operation that must come after it."""
        if name in self.names:
            return
        self.settle()
        groups = (each for each in (_MAKING, _REMOVING) if name in each)
        self.names = next(groups, ())

    def settle(self) -> None:
        """Sync everything: files before the folders that name them."""
        handles = [*sorted(self.files), *self.folders.values()]
        self.files, self.folders, self.made = set(), {}, set()
        try:
            for handle in handles:
                self.sync(handle)
        finally:
            for handle in handles:
                os.close(handle)


_batch: contextvars.ContextVar[_Batch | None] = contextvars.ContextVar(
    "batch", default=None
)


@contextlib.contextmanager
def together(sync: Callable[[int], None] = os.fsync) -> Iterator[None]:
    """Let what is made within be on disk at the end; OSError if the disk refuses."""
    batch = _Batch(sync)
    token = _batch.set(batch)
    try:
        yield
        batch.settle()
    except BaseException:
        with contextlib.suppress(OSError):  # the first error counts
            batch.settle()
        raise
    finally:
        _batch.reset(token)


def turn(name: str, reading: Container[str]) -> None:
    """Sync what came before an operation that must come after it, if it writes."""
    batch = _batch.get()
    if batch is not None and name not in reading:
        batch.turn(name)


def sync_folder(folder: int) -> None:
    """Make sure that names made or removed in a folder are on disk."""
    handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    batch, key = _batch.get(), _identity(handle)
    if batch is not None and key not in batch.folders:
        batch.folders[key] = handle
        return
    try:
        if batch is None:
            os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(file: int, folder: int) -> None:
    """Make sure that a new file is on disk before it takes the place of an old one.

    In a folder that was made just now there is none, so it may wait.
    """
    batch = _batch.get()
    if batch is not None and _identity(folder) in batch.made:
        batch.files.add(os.dup(file))
    else:
        (batch.sync if batch is not None else os.fsync)(file)


def note_made(folder: int) -> None:
    """Remember that nobody knows what is in a folder yet."""
    if (batch := _batch.get()) is not None:
        batch.made.add(_identity(folder))


def _identity(handle: int) -> tuple[int, int]:
    found = os.fstat(handle)
    return found.st_dev, found.st_ino
