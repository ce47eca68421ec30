r"""Read and change the index of a storage domain's external leases (VM leases).

Pure. `dom_md/xleases` has slots as long as the storage domain's alignment:

    slot 0     1       2        3          4 …
         unused index   unused  record 0   record 1: sanlock's resources

    index, 253,952 bytes           metadata                record
      0   metadata    512            0   4  12 15 20 16      0  48  lease, ends with \0
    512   record 0     64            5   4  "0001"          49  11  offset, for people
    576   record 1     64           10  48  lockspace       61   1  "-", "u": unfinished
      …   to record 3959            59  10  seconds         62   1  "-"
                                    70   1  "-" or "u"      63   1  newline
                                   511   1  newline

What is not named is zero; numbers are ASCII, padded with zeros. A record's place
says where its lease is; its offset is never believed. Flag "u" in the metadata:
the index was being made or rebuilt and must not be used; in a record: older oVirt
did not finish, there is no lease. Source: docs/formats/storage-domain.md.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from node.errors import Conflict, Failed, Invalid

SIZE: Final = 62 * 4096  # oVirt's 4,000 records, cut to whole sectors of 4 KiB
RECORDS_MAX: Final = 3960
NAME_MAX: Final = 48  # bytes; sanlock's limit
_METADATA_SIZE: Final = 512
_RECORD_SIZE: Final = 64
_SLOTS_BEFORE: Final = 3
_INDEX_SLOT: Final = 1

_MAGIC = 0x12152016
_VERSION = b"0001"
_METADATA = struct.Struct(">I x 4s x 48s x 10s x c 440x c")
_RECORD = struct.Struct("48s x 11s x c c c")
_NEWLINE = b"\n"
_DONE, _UPDATING = b"-", b"u"
_NAME = re.compile(rb"([!-~]{0,48})\0*")
_NEW_NAME = re.compile(r"[!-~]{1,48}")
_DIGITS = re.compile(rb"[0-9]+")


class IndexDamaged(Failed):
    """The index of the external leases cannot be used."""

    code = "lease_index_damaged"
    remedy = (
        "Nothing was changed. Rebuild the index on the SPM "
        "(`skerry-node storage repair`); until then highly available VMs keep their "
        "leases, but none can be added."
    )


class BadLeaseName(Invalid):
    """sanlock cannot hold a resource of this name."""

    code = "bad_lease_name"
    remedy = f"Use 1 to {NAME_MAX} printable ASCII characters without blanks."


class IndexFull(Conflict):
    """The storage domain has no place for another lease."""

    code = "lease_index_full"
    remedy = (
        "Remove leases that no VM uses, or put the lease on another storage domain."
    )


@dataclass(frozen=True, slots=True)
class Index:
    lockspace: str  # the storage domain's id
    changed_at_s: int  # since 1970
    is_updating: bool
    records: Mapping[str, int]  # name of a lease → its record
    unfinished: Mapping[str, int]  # what an older oVirt began
    damaged: tuple[int, ...]  # records that nobody can read
    free: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """Whole sectors to write at an offset in `xleases`, in one go."""

    offset: int
    data: bytes


def index_offset(alignment: int) -> int:
    """Return where the index begins in `xleases`."""
    return _INDEX_SLOT * alignment


def lease_offset(record: int, alignment: int) -> int:
    """Return where sanlock's resource of a record begins in `xleases`."""
    assert 0 <= record < RECORDS_MAX, f"there is no record {record}"
    return (_SLOTS_BEFORE + record) * alignment


def empty(lockspace: str, now_s: int, *, is_updating: bool) -> bytes:
    """Return a new index. Write it as updating first, then its metadata as done."""
    return _metadata(lockspace, now_s, is_updating) + _EMPTY_RECORD * RECORDS_MAX


def parse(data: bytes) -> Index:
    """Return what an index says; IndexDamaged if it is none.

    Damaged records do not spoil the others: they are listed.
    """
    if len(data) != SIZE:
        raise IndexDamaged(f"the index has {len(data)} bytes, not {SIZE}")
    lockspace, changed_at_s, is_updating = _read_metadata(data[:_METADATA_SIZE])
    records: dict[str, int] = {}
    unfinished: dict[str, int] = {}
    damaged, free = [], []
    for record in range(RECORDS_MAX):
        read = data[_place(record) : _place(record) + _RECORD_SIZE]
        if read == _EMPTY_RECORD:  # most are: they are looked at no closer
            free.append(record)
            continue
        found = _read_record(read)
        if found is None or found.name in records or found.name in unfinished:
            damaged.append(record)
        elif not found.name:
            free.append(record)
        elif found.is_updating:
            unfinished[found.name] = record
        else:
            records[found.name] = record
    return Index(
        lockspace,
        changed_at_s,
        is_updating,
        records,
        unfinished,
        tuple(damaged),
        tuple(free),
    )


def find(index: Index, name: str) -> int | None:
    """Return the record of a lease; None if there is no such lease."""
    _check_usable(index)
    return index.records.get(name)


def choose(index: Index, name: str) -> int:
    """Return the record that a new lease should take; IndexFull if there is none.

    What was begun under its name is taken up again.
    """
    _check_usable(index)
    _encode_name(name)
    if name in index.records or name in index.unfinished:
        return {**index.unfinished, **index.records}[name]
    if not index.free:
        raise IndexFull(f"all {RECORDS_MAX} records are taken")
    return index.free[0]


def change(
    data: bytes, record: int, name: str, *, sector_size: int, alignment: int
) -> Write:
    """Return the one write that names a record's lease; "": there is none any more.

    `data` is the index as it was just read. A lease is added after sanlock's
    resource was written, and removed before it is cleared.
    """
    assert len(data) == SIZE, "an index was parsed before it is changed"
    offset = lease_offset(record, alignment) if name else 0
    start = _place(record)
    changed = b"".join(
        (data[:start], _encode_record(name, offset), data[start + _RECORD_SIZE :])
    )
    sector = start - start % sector_size
    return Write(
        index_offset(alignment) + sector, changed[sector : sector + sector_size]
    )


def change_metadata(
    data: bytes, now_s: int, *, is_updating: bool, sector_size: int, alignment: int
) -> Write:
    """Return the one write that marks an index as being changed, or as done."""
    lockspace, _, _ = _read_metadata(data[:_METADATA_SIZE])
    changed = _metadata(lockspace, now_s, is_updating) + data[_METADATA_SIZE:]
    return Write(index_offset(alignment), changed[:sector_size])


@dataclass(frozen=True, slots=True)
class _Record:
    name: str  # "": free
    is_updating: bool


def _check_usable(index: Index) -> None:
    if index.is_updating:
        raise IndexDamaged("the index was being rebuilt when the writer stopped")


def _place(record: int) -> int:
    return _METADATA_SIZE + record * _RECORD_SIZE


def _metadata(lockspace: str, now_s: int, is_updating: bool) -> bytes:
    return _METADATA.pack(
        _MAGIC,
        _VERSION,
        _encode_name(lockspace),
        b"%010d" % now_s,
        _UPDATING if is_updating else _DONE,
        _NEWLINE,
    )


def _read_metadata(data: bytes) -> tuple[str, int, bool]:
    magic, version, lockspace, time, flag, newline = _METADATA.unpack(data)
    name = _NAME.fullmatch(lockspace)
    if magic != _MAGIC or newline != _NEWLINE:
        raise IndexDamaged("there is no index of leases where it should be")
    if version != _VERSION:
        raise IndexDamaged(f"the index has version {version!r}, not {_VERSION!r}")
    if not name or not name[1] or not _DIGITS.fullmatch(time) or flag not in _FLAGS:
        raise IndexDamaged("the index's metadata cannot be read")
    return name[1].decode(), int(time), flag == _UPDATING


def _encode_record(name: str, offset: int) -> bytes:
    encoded = _encode_name(name) if name else b""
    return _RECORD.pack(encoded, b"%011d" % offset, _DONE, _DONE, _NEWLINE)


def _read_record(data: bytes) -> _Record | None:
    name, offset, flag, _, newline = _RECORD.unpack(data)
    found = _NAME.fullmatch(name)
    if not found or not _DIGITS.fullmatch(offset) or flag not in _FLAGS:
        return None
    if newline != _NEWLINE:
        return None
    return _Record(found[1].decode(), flag == _UPDATING)


def _encode_name(name: str) -> bytes:
    if not _NEW_NAME.fullmatch(name):
        shown = ascii(name[:80])
        raise BadLeaseName(f"{shown} cannot name a lease", name=shown)
    return name.encode()


_FLAGS: Final = (_DONE, _UPDATING)
_EMPTY_RECORD: Final = _encode_record("", 0)
