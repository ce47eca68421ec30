"""Write cpio archives in the format that the kernel unpacks as initial RAM disk.

Pure. Source: cpio(5) "New ASCII Format"; the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst.

    magic "070701" │ 13 fields of 8 hex digits │ name NUL │ pad 4 │ data │ pad 4 │ …
"""

import itertools
import stat
from collections import abc
from dataclasses import dataclass

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive; a link's data is its target."""

    path: str  # relative, without a leading slash
    mode: int  # type and permissions, as in stat(2)
    data: bytes = b""


def file(path: str, data: bytes, permissions: int = 0o644) -> Entry:
    """Return a regular file."""
    return Entry(path, stat.S_IFREG | permissions, data)


def link(path: str, target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def archive(entries: abc.Iterable[Entry]) -> bytes:
    """Return the archive of these entries and of every directory they lie in.

    The same entries make the same bytes: no time and no owner is recorded.
    """
    named = {entry.path: entry for entry in entries}
    for parent in {p for path in named for p in _parents(path)}:
        named.setdefault(parent, Entry(parent, stat.S_IFDIR | 0o755))
    # Sorted, a directory comes before what is in it.
    numbered = enumerate(sorted(named), 1)
    whole = [_record(named[path], number) for number, path in numbered]
    return b"".join([*whole, _record(Entry(_TRAILER, 0), 0)])


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return list(itertools.accumulate(parts, "{}/{}".format))


def _record(entry: Entry, number: int) -> bytes:
    name = entry.path.encode() + b"\0"
    fields = {
        "ino": number,
        "mode": entry.mode,
        "uid": 0,
        "gid": 0,
        "nlink": 1,
        "mtime": 0,
        "filesize": len(entry.data),
        "devmajor": 0,
        "devminor": 0,
        "rdevmajor": 0,
        "rdevminor": 0,
        "namesize": len(name),
        "check": 0,
    }
    header = _MAGIC + b"".join(b"%08x" % value for value in fields.values())
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
