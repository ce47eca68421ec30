"""A node's storage process that writes into VMs' leases what sanlock would."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.errors import Error
from node.storage.domains import host_ids, lease_record
from node.storage.formats.layout import Special
from node.storage.guard import FILE_DEADLINE_S
from node.storage.process.protocol import Need, ResourceAt
from tests.fakes.pool_guard import PoolGuard

_RECORD = struct.Struct("<IIIIQQQQQ48s48sQQ")


def record(
    resource: ResourceAt,
    version: int = 0,
    host_id: int = 0,
    generation: int = 0,
    timestamp: int = 0,
) -> bytes:
    """Return the first sector of a lease as sanlock 3.8 writes it."""
    data = _RECORD.pack(
        *(0x06152010, 0x00060004, 1, resource.sector_bytes, 2000, 2000),
        *(host_id, generation, version),
        *(resource.lockspace.encode(), resource.name.encode(), timestamp, 0),
    )
    checksum = host_ids.checksum(data).to_bytes(4, "little")
    return (data + checksum).ljust(resource.sector_bytes, b"\0")


class Stopped(BaseException):
    """The node is gone: no handler of errors sees it."""


@dataclass(slots=True)
class LeasingGuard(PoolGuard):
    """`stop_before`: the operation that it stops at, after so many that pass."""

    stop_before: str = ""
    passes: int = 0
    asked: list[str] = field(default_factory=list)  # leases, of sanlock
    refusal: Error | None = None  # of each acquisition
    on_write_resource: Callable[[], None] = lambda: None
    on_release: Callable[[], None] = lambda: None

    def file(
        self,
        domain: str,
        root: str,
        operations: Sequence[Mapping[str, Any]],
        deadline_s: float = FILE_DEADLINE_S,
        needs: Sequence[Need] = (),
    ) -> tuple[Any, ...]:
        for each in operations:
            self._pass(str(each["name"]))
        return PoolGuard.file(self, domain, root, operations, deadline_s, needs)

    def write_resource(self, resource: ResourceAt, needs: Sequence[Need] = ()) -> None:
        self._pass("write_resource")
        self.on_write_resource()
        PoolGuard.write_resource(self, resource, needs)
        write(resource, record(resource))

    def acquire(self, resource: ResourceAt, version: int | None = None) -> int:
        self.asked.append(resource.name)
        if self.refusal is not None:
            raise self.refusal
        acquired = PoolGuard.acquire(self, resource, version)
        owner = self.read_owner(resource)
        assert owner is not None
        data = record(resource, acquired, owner.host_id, owner.generation, timestamp=1)
        write(resource, data)
        return acquired

    def release(self, resource: ResourceAt) -> None:
        self.on_release()
        PoolGuard.release(self, resource)
        if Path(resource.path).name == Special.XLEASES:
            with Path(resource.path).open("rb") as file:
                file.seek(resource.offset)
                was = lease_record.parse(file.read(resource.sector_bytes))
            write(resource, record(resource, was.version, was.host_id, was.generation))

    def _pass(self, name: str) -> None:
        if name == self.stop_before and self.passes <= 0:
            raise Stopped(name)
        self.passes -= name == self.stop_before


def write(resource: ResourceAt, data: bytes) -> None:
    """Put the first sector of a VM's lease in place."""
    if Path(resource.path).name == Special.XLEASES:
        with Path(resource.path).open("r+b") as file:
            file.seek(resource.offset)
            file.write(data)
