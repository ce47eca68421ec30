"""Read what programs and libraries need: the dynamic section of ELF files.

Pure but for reading the files. 64-bit, little-endian: what the image is made of.
Source: elf(5), ld.so(8).
"""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# The last one is systemd's, whose programs have loaded it for its libraries.
_FOLDERS: Final = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib",
    "/usr/lib/x86_64-linux-gnu/systemd",
)
_MAGIC: Final = b"\x7fELF\x02\x01"
_LOAD, _DYNAMIC = 1, 2  # kinds of segments
_NEEDED, _STRINGS, _RPATH, _RUNPATH = 1, 5, 15, 29  # tags of the dynamic section


@dataclass(frozen=True, slots=True)
class Needs:
    """The libraries that a file names, and where else they are looked for."""

    libraries: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


def missing(root: Path, paths: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return which files of a root need libraries that are not there, and which."""
    absent = []
    for path in paths:
        file = root / path.lstrip("/")
        if file.is_symlink() or not file.is_file() or path.endswith(".ko"):
            continue
        found = read(file)
        origin = path.rpartition("/")[0]
        folders = [each.replace("$ORIGIN", origin) for each in found.folders]
        lacks = [
            name
            for name in found.libraries
            if not any(
                os.path.lexists(root / folder.lstrip("/") / name)
                for folder in (*_FOLDERS, *folders)
            )
        ]
        if lacks:
            absent.append((path, lacks))
    return absent


def read(file: Path) -> Needs:
    """Return what a file needs; nothing if it is no ELF file, or a static one."""
    with file.open("rb") as data:
        if data.read(len(_MAGIC)) != _MAGIC:
            return Needs()
        data.seek(0)
        return parse(data.read())


def parse(data: bytes) -> Needs:
    """Return what the ELF file with these bytes needs."""
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = [
        struct.unpack_from("<IIQQQQ", data, offset + number * size)
        for number in range(count)
    ]
    entries: list[tuple[int, int]] = []
    for kind, _, at, _, _, length in segments:
        if kind == _DYNAMIC:
            entries += struct.iter_unpack("<QQ", data[at : at + length])
    strings = 0
    for address in (value for tag, value in entries if tag == _STRINGS):
        for kind, _, at, begin, _, length in segments:
            if kind == _LOAD and begin <= address < begin + length:
                strings = at + address - begin

    def texts(*tags: int) -> list[str]:
        starts = [strings + value for tag, value in entries if tag in tags]
        return [data[at : data.index(b"\0", at)].decode() for at in starts]

    folders = [each for text in texts(_RPATH, _RUNPATH) for each in text.split(":")]
    return Needs(tuple(texts(_NEEDED)), tuple(folders))
