"""Read what the kernel's dm-log-writes has logged, and choose what a power cut leaves.

The log has one entry after the other; each begins a sector, and its data follow in
the next ones (of a discard and a mark there are none):

    sector 0    magic u64 | version u64 | entries u64 | bytes of a sector u32
    entry       sector u64 | sectors u64 | flags u64 | length of the mark u64 | mark

A write is logged when a flush covers it, in the order of completion; one that forces
itself to the disk (FUA), or a mark, at once. Sizes are bytes. Source: the kernel's
Documentation/admin-guide/device-mapper/log-writes.rst and drivers/md/dm-log-writes.c.
"""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import BinaryIO, Final

_MAGIC: Final = 0x6A736677736872
_HEAD: Final = struct.Struct("<QQQI")
_ENTRY: Final = struct.Struct("<QQQQ")


class Flag(IntFlag):
    FLUSH = 1
    FUA = 2
    DISCARD = 4
    MARK = 8
    METADATA = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened; `begin` is on the disk, `data` in the log."""

    flags: Flag
    begin: int = 0
    size: int = 0
    data: int = 0
    mark: str = ""

    @property
    def is_barrier(self) -> bool:
        """Tell whether what comes later was sent after this was on the disk."""
        return bool(self.flags & (Flag.FLUSH | Flag.FUA))


def read(path: Path) -> list[Entry]:
    """Return all entries of a log."""
    with path.open("rb") as log:
        magic, _, count, sector = _HEAD.unpack(log.read(_HEAD.size))
        assert magic == _MAGIC, "it is a log of writes"
        found, position = [], sector
        for _ in range(count):
            entry = _read(log, position, sector)
            found.append(entry)
            position = entry.data + (0 if entry.flags & Flag.DISCARD else entry.size)
        return found


def survivors(entries: Sequence[Entry], last: int, rng: random.Random) -> list[Entry]:
    """Return what is on the disk if the power fails after entry `last`.

    All until then; and some of what the disk had in its cache, for all that we know.
    """
    kept = list(entries[: last + 1])
    for each in entries[last + 1 :]:
        if each.is_barrier:
            break
        if rng.getrandbits(1):
            kept.append(each)
    return kept


def play(path: Path, entries: Sequence[Entry], disk: Path) -> None:
    """Write what was logged to a new disk, which is a file of zeros.

    What was discarded stays: a disk may keep it.
    """
    with path.open("rb") as log, disk.open("r+b") as written:
        for each in entries:
            if each.size and not each.flags & Flag.DISCARD:
                log.seek(each.data)
                written.seek(each.begin)
                written.write(log.read(each.size))


def _read(log: BinaryIO, position: int, sector: int) -> Entry:
    log.seek(position)
    head = log.read(sector)
    first, count, flags, length = _ENTRY.unpack_from(head)
    mark = head[_ENTRY.size : _ENTRY.size + length] if flags & Flag.MARK else b""
    data = position + sector
    return Entry(Flag(flags), first * sector, count * sector, data, mark.decode())
