"""The smallest files that are read as qcow2."""

import struct

_HEADER = struct.Struct(">4sIQIIQ")


def header(size_bytes: int, *, backing_offset: int = 0, features: int = 0) -> bytes:
    """Return the header of a qcow2 file of version 3."""
    start = _HEADER.pack(b"QFI\xfb", 3, backing_offset, 0, 16, size_bytes)
    return start.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(24)
