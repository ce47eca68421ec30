r"""Find and take this node's host id in a storage domain's lockspace.

No aggregator gives host ids away: the `ids` area itself says whose each is. A node's
sector is the one that bears its name; sanlock's host name is the node id. Else it
takes the lowest that nobody ever had; at last one that was given back. Two nodes
that choose the same are sanlock's matter: the loser tries the next.

A sector of `ids`, little endian (host id N has sector N - 1):

      0  u32 magic 0x12212010       40  u64 generation: grows with each join
      4  u32 version, major 3      56  48  lockspace, ends with \0
     12  u32 sector size          104  48  host name; empty: never taken
     32  u64 host id              152  u64 time of the last renewal; 0: given back
                                  168  u32 CRC-32C of bytes 0 to 167, seed ~1

Source: leader.h, ondisk.c and delta_lease.c of sanlock 3.8; docs/formats/spm.md.
"""

import functools
import logging
import struct
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from node.errors import Conflict, Failed
from node.storage.domains import DomainFiles
from node.storage.guard import Guard
from node.storage.process.protocol import LockspaceAt
from node.system.leases import IO_TIMEOUT_S, HostIdHeld

log = logging.getLogger(__name__)

HOST_ID_MAX: Final = 250  # oVirt's; all that fits on 4 KiB sectors in one MiB
# As many as nodes that begin at the same moment may take from each other.
TRIES_MAX: Final = 16

_RECORD: Final = struct.Struct("<II4xI16xQQ8x48s48sQ8xI")
_MAGIC: Final = 0x12212010
_MAJOR: Final = 0x0003_0000
_MAJOR_MASK: Final = 0xFFFF_0000
_SUMMED: Final = 168  # bytes that the checksum covers
_SEED: Final = 0xFFFF_FFFE
_POLYNOMIAL: Final = 0x82F6_3B78  # CRC-32C, reflected


class LockspaceDamaged(Failed):
    """What lies in `ids` is not the lockspace of this storage domain."""

    code = "lockspace_damaged"
    remedy = (
        "Put the storage domain into maintenance everywhere, then have its "
        "lockspace formatted again."
    )


class HostIdsUsedUp(Conflict):
    """Every host id of the lockspace belongs to some node."""

    code = "host_ids_used_up"
    remedy = f"A pool has at most {HOST_ID_MAX} nodes: take one out of it first."


class LockspaceElsewhere(Conflict):
    """This host is in the lockspace of the same name in another place: a copy's."""

    code = "lockspace_elsewhere"
    remedy = (
        "Two storage domains have one id. Put the one that the message names into "
        "maintenance, and never use a copy beside the original."
    )


@dataclass(frozen=True, slots=True)
class HostRecord:
    """What one sector says of its host id."""

    host_id: int
    host_name: str  # empty: nobody ever had it
    generation: int
    timestamp: int  # by that host's clock, in seconds; 0: it left as it should
    is_damaged: bool = False  # not to be touched: somebody may be in it


def read(
    files: DomainFiles, path: str, lockspace: str, sector_bytes: int
) -> tuple[HostRecord, ...]:
    """Read who has which host id, past all caches."""
    data = files.read_at(path, 0, HOST_ID_MAX * sector_bytes)
    return parse(data, lockspace, sector_bytes)


def parse(data: bytes, lockspace: str, sector_bytes: int) -> tuple[HostRecord, ...]:
    """Return what the sectors of `ids` say, by host id; LockspaceDamaged."""
    records = tuple(
        _parse_sector(data[start : start + sector_bytes], number, lockspace)
        for number, start in enumerate(range(0, len(data), sector_bytes), start=1)
    )
    if len(records) < HOST_ID_MAX or all(each.is_damaged for each in records):
        raise LockspaceDamaged(
            f"there is no lockspace {lockspace} in ids", lockspace=lockspace
        )
    return records


def choose(
    records: Sequence[HostRecord], host_name: str, refused: Collection[int] = ()
) -> int:
    """Return the host id to try; `refused`: another host was quicker there."""
    usable = [
        each for each in records if each.host_id not in refused and not each.is_damaged
    ]
    tables = (
        [each for each in usable if each.host_name == host_name],
        [each for each in usable if not each.host_name],
        [each for each in usable if not each.timestamp],
    )
    for fitting in tables:
        if fitting:
            return min(each.host_id for each in fitting)
    raise HostIdsUsedUp(f"none of {len(records)} host ids can be taken")


def join(
    guard: Guard,
    files: DomainFiles,
    lockspace: LockspaceAt,
    host_name: str,
    io_timeout_s: int = IO_TIMEOUT_S,
) -> int:
    """Join a lockspace under our host id and return that. Idempotent.

    Takes 20 to 30 s, or minutes after a crash. Raises HostIdsUsedUp,
    LockspaceDamaged, LockspaceElsewhere, and what files and leases raise.
    """
    joined = find(guard, lockspace)
    if joined is not None:
        return joined
    began = time.monotonic()
    refused: set[int] = set()
    while True:
        records = read(files, lockspace.path, lockspace.name, lockspace.sector_bytes)
        host_id = choose(records, host_name, refused)
        try:
            guard.join(lockspace, host_id, io_timeout_s)
        except Conflict as error:
            # The error may have travelled: its code says what it is.
            if error.code != HostIdHeld.code or len(refused) >= TRIES_MAX:
                raise
            log.info("host id %d of %s is taken: %s", host_id, lockspace.name, error)
            refused.add(host_id)
        else:
            elapsed_s = time.monotonic() - began
            log.info("host %d of %s after %.1f s", host_id, lockspace.name, elapsed_s)
            return host_id


def find(guard: Guard, lockspace: LockspaceAt) -> int | None:
    """Return our host id; None: we are not in the lockspace. LockspaceElsewhere."""
    for each in guard.lockspaces():
        if each.name != lockspace.name:
            continue
        if each.path != lockspace.path:
            raise LockspaceElsewhere(
                f"lockspace {lockspace.name} is joined at {each.path}, not at "
                f"{lockspace.path}",
                lockspace=lockspace.name,
                path=each.path,
            )
        return each.host_id
    return None


@functools.lru_cache(maxsize=HOST_ID_MAX)  # sectors that nobody had are all the same
def checksum(data: bytes) -> int:
    """Return sanlock's checksum: CRC-32C with its own seed, not inverted."""
    value = _SEED
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value


def _parse_sector(data: bytes, host_id: int, lockspace: str) -> HostRecord:
    if len(data) < _RECORD.size:
        return HostRecord(host_id, "", 0, 0, is_damaged=True)
    magic, version, _, _, generation, space, name, timestamp, declared = (
        _RECORD.unpack_from(data)
    )
    is_ours = (
        magic == _MAGIC
        and version & _MAJOR_MASK == _MAJOR
        and _text(space) == lockspace
        and declared == checksum(data[:_SUMMED])
    )
    if not is_ours:
        return HostRecord(host_id, "", 0, 0, is_damaged=True)
    return HostRecord(host_id, _text(name), generation, timestamp)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("ascii", "replace")


def _table_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE: Final = tuple(map(_table_entry, range(256)))
