"""Test what a power cut leaves, with logs written by hand from the kernel's page."""

import random
import struct
from pathlib import Path

import pytest

from tests.lab.throwaway import write_log
from tests.lab.throwaway.write_log import Entry, Flag

SECTOR = 4096
A, B, C = (bytes([value]) * SECTOR for value in (1, 2, 3))


def logged(*entries: tuple[int, int, bytes]) -> bytes:
    """Return a log; an entry is flags, sector, and data or a mark."""
    head = struct.pack("<QQQI", 0x6A736677736872, 1, len(entries), SECTOR)
    sectors = [head.ljust(SECTOR, b"\0")]
    for flags, sector, data in entries:
        is_mark = bool(flags & 8)
        size = 0 if is_mark else len(data) // SECTOR
        length = len(data) if is_mark else 0
        first = struct.pack("<QQQQ", sector, size, flags, length)
        sectors.append((first + data[:length]).ljust(SECTOR, b"\0"))
        if not is_mark and not flags & 4:
            sectors.append(data)
    return b"".join(sectors)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    made = tmp_path / "log"
    made.write_bytes(
        logged(
            *((0, 1, A), (4, 3, B + C), (1, 0, b"")),
            *((8, 0, b"acked 7"), (0, 0, B), (0, 1, C), (3, 2, A)),
        )
    )
    return made


def disk(log: Path, entries: list[Entry]) -> bytes:
    made = log.with_name("disk")
    made.write_bytes(bytes(3 * SECTOR))
    write_log.play(log, entries, made)
    return made.read_bytes()


def test_read_finds_all_entries(log: Path) -> None:
    found = write_log.read(log)
    places = [(each.flags, each.begin // SECTOR, each.size) for each in found]
    assert places == [
        *((0, 1, SECTOR), (Flag.DISCARD, 3, 2 * SECTOR), (Flag.FLUSH, 0, 0)),
        *((Flag.MARK, 0, 0), (0, 0, SECTOR), (0, 1, SECTOR)),
        (Flag.FLUSH | Flag.FUA, 2, SECTOR),
    ]
    assert [each.mark for each in found if each.mark] == ["acked 7"]


def test_play_writes_what_was_written(log: Path) -> None:
    assert disk(log, write_log.read(log)) == B + C + A


def test_survivors_are_all_until_the_cut_and_some_of_the_cache(log: Path) -> None:
    entries = write_log.read(log)
    zeros = bytes(SECTOR)
    found = {
        disk(log, write_log.survivors(entries, 3, random.Random(seed)))
        for seed in range(50)
    }
    # What is before the flush is there; the FUA write was not sent yet.
    assert found == {
        *(zeros + A + zeros, B + A + zeros),
        *(zeros + C + zeros, B + C + zeros),
    }
