"""A node's storage process in a pool: what sanlock would write into `ids`, as well.

Nodes that share one `storage` and one folder are in one pool.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from node.storage.domains import host_ids
from node.storage.process.local_leases import PREFIX
from node.storage.process.protocol import LockspaceAt, Need
from node.system.leases import IO_TIMEOUT_S
from tests.fakes.guard import FakeGuard

_RECORD = struct.Struct("<IIIIQQQQQ48s48sQQ")


def sector(
    lockspace: str,
    host_id: int = 0,
    generation: int = 0,
    name: str = "",
    timestamp: int = 0,
    size_bytes: int = 512,
) -> bytes:
    """Return a sector of `ids` as sanlock 3.8 writes it."""
    record = _RECORD.pack(
        *(0x12212010, 0x00030004, 16, size_bytes, 0, 1, host_id, generation, 0),
        *(lockspace.encode(), name.encode(), timestamp, 0),
    )
    checksum = host_ids.checksum(record).to_bytes(4, "little")
    return (record + checksum).ljust(size_bytes, b"\0")


@dataclass(slots=True)
class PoolGuard(FakeGuard):
    """`machine` is the node's id."""

    def write_lockspace(
        self,
        lockspace: LockspaceAt,
        io_timeout_s: int = IO_TIMEOUT_S,
        needs: Sequence[Need] = (),
    ) -> None:
        FakeGuard.write_lockspace(self, lockspace, io_timeout_s, needs)
        if not lockspace.name.startswith(PREFIX):
            sectors = 2000 * sector(lockspace.name, size_bytes=lockspace.sector_bytes)
            with Path(lockspace.path).open("r+b") as file:  # it keeps its size
                file.write(sectors)

    def join(
        self, lockspace: LockspaceAt, host_id: int, io_timeout_s: int = IO_TIMEOUT_S
    ) -> None:
        FakeGuard.join(self, lockspace, host_id, io_timeout_s)
        if lockspace.name.startswith(PREFIX):
            return
        (host,) = (h for h in self._door.hosts(lockspace.name) if h.host_id == host_id)
        with Path(lockspace.path).open("r+b") as file:
            file.seek((host_id - 1) * lockspace.sector_bytes)
            file.write(
                sector(
                    lockspace.name,
                    host_id,
                    host.generation,
                    self.machine,
                    1,
                    lockspace.sector_bytes,
                )
            )
