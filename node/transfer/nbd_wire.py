"""Write and read what travels between an NBD client and its server. Pure.

All numbers are big-endian. After the handshake:
    request            magic 4 · flags 2 · command 2 · handle 8 · offset 8 · length 4
    simple reply       magic 4 · error 4 · handle 8
    structured reply   magic 4 · flags 2 · kind 2 · handle 8 · length 4 · payload
Source: doc/proto.md of github.com/NetworkBlockDevice/nbd.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from node.errors import Failed

GREETING: Final = struct.Struct(">8sQH")
CLIENT_FLAGS: Final = struct.Struct(">I")
OPTION: Final = struct.Struct(">QII")
OPTION_REPLY: Final = struct.Struct(">QIII")
REQUEST: Final = struct.Struct(">IHHQQI")
SIMPLE: Final = struct.Struct(">IIQ")
STRUCTURED: Final = struct.Struct(">IHHQI")
OFFSET: Final = struct.Struct(">Q")
HOLE: Final = struct.Struct(">QI")
_EXPORT: Final = struct.Struct(">HQH")
_NUMBER: Final = struct.Struct(">I")
_ERROR: Final = struct.Struct(">IH")

MAGIC: Final = b"NBDMAGIC"
OPTION_MAGIC: Final = 0x49484156454F5054
OPTION_REPLY_MAGIC: Final = 0x3E889045565A9
REQUEST_MAGIC: Final = 0x25609513
SIMPLE_MAGIC: Final = 0x67446698
STRUCTURED_MAGIC: Final = 0x668E33EF

FIXED_NEWSTYLE: Final = 1
# Set in the kind of an option's reply that is an error.
OPTION_ERROR: Final = 1 << 31
# Likewise of a structured reply.
CHUNK_ERROR: Final = 1 << 15
CHUNK_DONE: Final = 1
_INFO_EXPORT: Final = 0
# An answer to an option is short; more is no NBD server.
OPTION_BYTES_MAX: Final = 65_536
# 1 GiB in pieces of 4 KiB, 8 bytes each.
STATUS_BYTES_MAX: Final = 2 * 1024 * 1024 + 4
ERROR_BYTES_MAX: Final = 8_192


class Option(IntEnum):
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class OptionReply(IntEnum):
    ACK = 1
    INFO = 3
    META_CONTEXT = 4


class Export(IntFlag):
    READ_ONLY = 1 << 1
    FLUSH = 1 << 2
    WRITE_ZEROES = 1 << 6
    MULTI = 1 << 8  # a flush covers what other connections wrote


class Command(IntEnum):
    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class Chunk(IntEnum):
    NONE = 0
    DATA = 1
    HOLE = 2
    BLOCK_STATUS = 5


NO_HOLE: Final = 2  # flag of WRITE_ZEROES: keep the space


class NotNbd(Failed):
    """The other side breaks the protocol; the connection cannot go on."""

    code = "nbd_broken"
    remedy = "Read the log of the qemu-nbd that serves this image."


@dataclass(frozen=True, slots=True)
class Info:
    size_bytes: int
    flags: Export


def option(kind: Option, payload: bytes = b"") -> bytes:
    """Return an option as it travels."""
    return OPTION.pack(OPTION_MAGIC, kind, len(payload)) + payload


def go(export: str) -> bytes:
    """Return the payload of GO: begin with this export, no information wanted."""
    return _text(export) + b"\0\0"


def meta_contexts(export: str, queries: Sequence[str]) -> bytes:
    """Return the payload of LIST_META_CONTEXT and SET_META_CONTEXT."""
    return b"".join(
        (_text(export), _NUMBER.pack(len(queries)), *(_text(each) for each in queries))
    )


def read_meta_context(payload: bytes) -> tuple[int, str]:
    """Return number and name of a context that the server offers."""
    if len(payload) <= _NUMBER.size:
        raise NotNbd("a context without a name")
    (number,) = _NUMBER.unpack_from(payload)
    return number, payload[_NUMBER.size :].decode(errors="replace")


def read_info(payload: bytes) -> Info | None:
    """Return what an answer to GO says of the export; None: something else."""
    if payload[:2] != _INFO_EXPORT.to_bytes(2, "big"):
        return None
    if len(payload) != _EXPORT.size:
        raise NotNbd("the export's description has another length")
    _, size_bytes, flags = _EXPORT.unpack(payload)
    return Info(size_bytes, Export(flags))


def read_status(payload: bytes) -> tuple[int, list[tuple[int, int]]]:
    """Return a context's number and its (length, value) pairs."""
    if len(payload) < 12 or len(payload) % 8 != 4:
        raise NotNbd("a block status of an impossible length")
    number, *values = struct.unpack(f">{len(payload) // 4}I", payload)
    pairs = list(zip(values[::2], values[1::2], strict=True))
    if not all(length for length, _ in pairs):
        raise NotNbd("a block status of no length")
    return number, pairs


def read_error(payload: bytes) -> tuple[int, str]:
    """Return the number and the text of an error."""
    if len(payload) < _ERROR.size:
        raise NotNbd("an error without a number")
    number, length = _ERROR.unpack_from(payload)
    text = payload[_ERROR.size : _ERROR.size + length]
    return number, text.decode(errors="replace")


def _text(value: str) -> bytes:
    data = value.encode()
    return _NUMBER.pack(len(data)) + data
