r"""Read what sanlock wrote into a lease: its name, its last owner, its version.

Pure; nothing here writes one. A lease's first sector, little endian:

      0  u32 magic 0x06152010      40  u64 generation of that host
      4  u32 version, major 6      48  u64 version of the lease: grows with each owner
     16  u64 hosts                 56  48  lockspace, ends with \0
     24  u64 hosts at most        104  48  resource, ends with \0
     32  u64 host that owns it    152  u64 time of the acquisition; 0: given back
                                  168  u32 CRC-32C of bytes 0 to 167, as in `host_ids`

Source: leader.h, ondisk.c and paxos_lease.c of sanlock 3.8.
"""

import struct
from dataclasses import dataclass
from typing import Final

from node.errors import Failed
from node.storage.domains import host_ids

SIZE: Final = 512  # of it all; a sector of 4 KiB begins with the same
_RECORD: Final = struct.Struct("<II8xQQQQQ48s48sQ8xI")
_MAGIC: Final = 0x06152010
_SUMMED: Final = 168


class LeaseDamaged(Failed):
    """What lies there is no lease of sanlock's."""

    code = "lease_damaged"
    remedy = (
        "Check the storage; then rebuild the leases of the storage domain "
        "(`skerry-node storage repair`)."
    )


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    lockspace: str
    resource: str
    version: int
    host_id: int  # who had it last; 0: nobody ever had
    generation: int  # of that host
    is_free: bool


def parse(data: bytes) -> LeaseRecord:
    """Return what a sector says; LeaseDamaged."""
    if len(data) < _RECORD.size:
        raise LeaseDamaged(f"a lease has more than {len(data)} bytes")
    magic, _, _, _, host_id, generation, version, lockspace, resource, time, summed = (
        _RECORD.unpack_from(data)
    )
    if magic != _MAGIC or summed != host_ids.checksum(data[:_SUMMED]):
        raise LeaseDamaged("there is no lease where one should be", magic=hex(magic))
    return LeaseRecord(
        _text(lockspace), _text(resource), version, host_id, generation, time == 0
    )


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode(errors="replace")
