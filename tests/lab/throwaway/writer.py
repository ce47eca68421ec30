"""The guest that is only a boot sector, and what it writes. See writer.s.

It is as small as that because it runs on an emulated processor that is itself
emulated: a Linux takes minutes there until it writes its first byte.
"""

import re
import struct
from pathlib import Path
from typing import Final

from tests.lab import command

SECTOR: Final = 512
FIRST: Final = 8  # as in writer.s
_SOURCE: Final = Path(__file__).with_suffix(".s")
_START: Final = "0x7c00"  # where firmware puts a boot sector
_WORDS: Final = SECTOR // 4
_TOLD: Final = re.compile(rb"([HAF])([0-9a-f]{8})\n")


def build(folder: Path) -> Path:
    """Return the file of the boot sector, made in a folder."""
    made, built = folder / "writer.o", folder / "writer"
    command.check(["as", "--32", "-o", str(made), str(_SOURCE)])
    place = ("-Ttext", _START, "-e", _START)
    words = ("-m", "elf_i386", "--oformat", "binary", *place)
    command.check(["ld", *words, "-o", str(built), str(made)])
    return built


def stamp(number: int) -> bytes:
    """Return the sector that is stamp `number`."""
    words, word = [], number
    for _ in range(_WORDS):
        word = (word * 1664525 + 1013904223) & 0xFFFFFFFF
        words.append(word)
    return struct.pack(f"<{_WORDS}I", *words)


def stamps(disk: bytes) -> int:
    """Return how many stamps are on a disk before the first that is not."""
    number = 0
    while True:
        begin = (FIRST + number) * SECTOR
        if disk[begin : begin + SECTOR] != stamp(number):
            return number
        number += 1


def told(serial: bytes) -> list[tuple[str, int]]:
    """Return what the guest has said: letter and number, the oldest first."""
    return [(m[1].decode(), int(m[2], 16)) for m in _TOLD.finditer(serial)]
