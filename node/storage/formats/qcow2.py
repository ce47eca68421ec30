"""Read the header of a qcow2 file, and draw one that holds no data.

Pure: the caller hands in the first bytes. What the header names is not opened, and
nothing else of the file is looked at. A new file is what `qemu-img create` makes:

    0 header, name of what it is built on   2 counts of the clusters' users
    1 table of those counts                 3 first table (L1): nothing is allocated

Each begins at a cluster; only the last takes several. Sizes are bytes.
Source: docs/interop/qcow2.txt of QEMU.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# magic, version, backing file's offset and length, cluster bits, virtual size
_HEADER: Final = struct.Struct(">4sIQIIQ")
# In version 3: incompatible features, and how long the header is.
_FEATURES: Final = struct.Struct(">72xQ")
_LENGTH: Final = struct.Struct(">100xI")
_LENGTH_2: Final = 72  # of version 2
_LENGTH_3: Final = 104  # of version 3, at least
_EXTENSION: Final = struct.Struct(">II")  # type, length; padded to 8
_MAGIC: Final = b"QFI\xfb"
_EXTERNAL_DATA: Final = 1 << 2
_END: Final = 0
_BACKING_FORMAT: Final = 0xE2792ACA
_NAME_MAX: Final = 1023  # bytes of a backing file's name
# Header, extensions and the name lie in the first cluster, which may be so large;
# what qemu-img writes is within the first 4 KiB.
START_BYTES: Final = 4096
START_MAX: Final = 2 * 1024 * 1024

# Of a new file: clusters of 64 KiB, as qemu-img's, each counted in 16 bits.
_CLUSTER_BITS: Final = 16
_CLUSTER: Final = 1 << _CLUSTER_BITS
_COUNT_ORDER: Final = 4
_COUNT: Final = struct.Struct(">H")
_ENTRY: Final = struct.Struct(">Q")
_L1_AT: Final = 3 * _CLUSTER
# An entry of the first table leads to a cluster of entries that lead to data.
_PER_ENTRY: Final = _CLUSTER // _ENTRY.size * _CLUSTER
# QEMU opens no larger first table than 32 MiB. One cluster counts for all this.
SIZE_MAX: Final = 32 * 1024 * 1024 // _ENTRY.size * _PER_ENTRY
_NEW: Final = struct.Struct(">4sIQIIQIIQQIIQQQQIIQ")
_BITS_NAMED: Final = 0x6803F857
# What QEMU tells users of a file whose features it does not know: kind, bit, name.
_BIT_NAMES: Final = (
    (0, 0, b"dirty bit"),
    (0, 1, b"corrupt bit"),
    (0, 2, b"external data file"),
    (0, 3, b"compression type"),
    (0, 4, b"extended L2 entries"),
    (1, 0, b"lazy refcounts"),
    (2, 0, b"bitmaps"),
    (2, 1, b"raw external data"),
)
_BIT_NAME: Final = struct.Struct(">BB46s")


@dataclass(frozen=True, slots=True)
class Header:
    size_bytes: int  # what a guest sees
    backing: str | None = None  # the file it is built on, as it is named there
    backing_format: str | None = None  # None: QEMU would have to guess it
    has_data_file: bool = False  # its data lie in yet another file


def read(start: bytes) -> Header | None:
    """Return the header in a file's first bytes; None if there is none.

    A file that is cut off, or refers past what was handed in, has none: hand in
    `needed` bytes.
    """
    if len(start) < _LENGTH_2:
        return None
    magic, version, at, length, cluster_bits, size = _HEADER.unpack_from(start)
    if magic != _MAGIC or version not in (2, 3) or not 9 <= cluster_bits <= 21:
        return None
    has_data_file, begin = False, _LENGTH_2
    if version == 3:
        if len(start) < _LENGTH_3:
            return None
        has_data_file = bool(_FEATURES.unpack_from(start)[0] & _EXTERNAL_DATA)
        begin = _LENGTH.unpack_from(start)[0]
    if at == 0:
        return Header(size, has_data_file=has_data_file)
    name = start[at : at + length]
    if len(name) < length or not 0 < length <= _NAME_MAX:
        return None
    text = name.decode("utf-8", "backslashreplace")
    return Header(size, text, _backing_format(start, begin, at), has_data_file)


def needed(start: bytes) -> int:
    """Return how many of its first bytes `read` needs, if they start like these."""
    if len(start) < _HEADER.size or not start.startswith(_MAGIC):
        return START_BYTES
    _, _, at, length, _, _ = _HEADER.unpack_from(start)
    end = -(-(at + length) // START_BYTES) * START_BYTES
    return int(end) if START_BYTES < end <= START_MAX else START_BYTES


@dataclass(frozen=True, slots=True)
class Empty:
    """A file that holds no data: zeros but for these pieces, by their offsets."""

    size_bytes: int
    pieces: tuple[tuple[int, bytes], ...]


def empty(size_bytes: int, backing: str = "", backing_format: str = "") -> Empty:
    """Return a new file for a guest's disk of a size; `backing`: it is built on that.

    A name of up to 1023 bytes and its format, or neither.
    """
    assert 0 < size_bytes <= SIZE_MAX
    assert bool(backing) == bool(backing_format)
    name = backing.encode()
    assert len(name) <= _NAME_MAX
    extensions = b"".join(_extensions(backing_format))
    entries = -(-size_bytes // _PER_ENTRY)
    clusters = _L1_AT // _CLUSTER + -(-entries * _ENTRY.size // _CLUSTER)
    header = _NEW.pack(
        _MAGIC,
        3,  # version
        _NEW.size + len(extensions) if name else 0,
        len(name),
        _CLUSTER_BITS,
        size_bytes,
        0,  # not encrypted
        entries,
        _L1_AT,
        _CLUSTER,  # where the table of counts is, and its clusters
        1,
        0,  # no snapshots, which lie nowhere
        0,
        *(0, 0, 0),  # no features
        _COUNT_ORDER,
        _NEW.size,
        0,  # how data are compressed
    )
    return Empty(
        clusters * _CLUSTER,
        (
            (0, header + extensions + name),
            (_CLUSTER, _ENTRY.pack(2 * _CLUSTER)),
            (2 * _CLUSTER, _COUNT.pack(1) * clusters),
        ),
    )


def _extensions(backing_format: str) -> Iterator[bytes]:
    """Yield what follows a new header, each piece a multiple of 8 bytes."""
    if backing_format:
        yield _extension(_BACKING_FORMAT, backing_format.encode())
    names = b"".join(_BIT_NAME.pack(*each) for each in _BIT_NAMES)
    yield _extension(_BITS_NAMED, names)
    yield _extension(_END, b"")


def _extension(kind: int, value: bytes) -> bytes:
    return _EXTENSION.pack(kind, len(value)) + value + bytes(-len(value) % 8)


def _backing_format(start: bytes, begin: int, end: int) -> str | None:
    """Return what the extensions between two places say of the backing file."""
    while begin + _EXTENSION.size <= min(end, len(start)):
        kind, length = _EXTENSION.unpack_from(start, begin)
        begin += _EXTENSION.size
        if kind == _END or begin + length > end:
            return None
        if kind == _BACKING_FORMAT:
            return start[begin : begin + length].decode("ascii", "replace")
        begin += -(-length // 8) * 8
    return None
