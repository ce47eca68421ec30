"""Say what any kind of storage domain can do with files, and what it tells of them.

Sizes and offsets are bytes, times seconds. Paths are absolute and lie below the
domain's root; a symbolic link on the way is refused. Every operation may be asked
for twice: what is done already is no error.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class FileKind(StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder, and what bears it."""

    name: str
    kind: FileKind
    size_bytes: int
    allocated_bytes: int
    modified_at: float  # seconds since 1970, by the storage's clock
    links: int


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A name in a folder, and what its file holds if that was read."""

    entry: Entry
    whole: bytes | None = None  # of a small file
    start: bytes | None = None  # of a large one: its first sectors


@dataclass(frozen=True, slots=True)
class Space:
    total_bytes: int
    free_bytes: int  # for others than root


@dataclass(frozen=True, slots=True)
class Done:
    is_done_before: bool = False  # it was so already


class DomainFiles(Protocol):
    """The files of one domain.

    Each call may raise FileMissing, PathRefused, StorageFull, StorageDown and
    FileFailed of node.storage.process.file_operations as their kinds and codes,
    and, when a process in between fails, what node.storage.guard says.
    """

    def read(self, path: str, size_max: int) -> bytes:
        """Return a whole file, which is at most so large: FileTooLarge."""

    def write_whole(self, path: str, data: bytes, mode: int) -> Done:
        """Put a file in the place of another at once; it is on disk afterwards."""

    def make_folder(self, path: str, mode: int) -> Done: ...

    def make_file(
        self, path: str, size_bytes: int, mode: int, is_preallocated: bool
    ) -> Done:
        """Make a file of zeros; FileExists unless one of that size is there."""

    def rename(self, old: str, new: str) -> Done:
        """Rename; FileExists: it never replaces."""

    def remove(self, path: str) -> Done:
        """Remove a file, a link or an empty folder; FileExists: it is not empty."""

    def remove_tree(self, path: str) -> Done:
        """Remove a folder whose name or parent's begins with `_remove_me_`."""

    def link(self, old: str, new: str) -> Done:
        """Give a file a second name."""

    def list(self, path: str) -> tuple[Entry, ...]:
        """Return what is in a folder, by name."""

    def survey(
        self, path: str, suffix: str, size_max: int, start_bytes: int
    ) -> tuple[Surveyed, ...]:
        """List a folder, and read the files in it at once, for as many as are few.

        Those of that suffix are read whole, unless they are larger; of those without
        any the first sectors, past all caches.
        """

    def stat(self, path: str) -> Entry: ...

    def space(self, path: str) -> Space: ...

    def probe(self, path: str) -> float:
        """Read the first 4 KiB past all caches and return how long it took."""

    def probe_written(self, path: str) -> float:
        """As `probe`, and refuse what is not open to writing; nothing is written."""

    def read_at(self, path: str, offset: int, size_bytes: int) -> bytes:
        """Read whole sectors past all caches; less only at the end of the file."""

    def write_at(self, path: str, offset: int, data: bytes) -> Done:
        """Write whole sectors past all caches; they are on disk afterwards."""
