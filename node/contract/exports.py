"""What VMs and storage agree on about export storage domains."""

from collections.abc import Callable, Mapping
from typing import Protocol

from node.errors import Conflict, NotFound
from node.jobs import Progress
from node.model.ids import DiskId, PoolId, StorageDomainId, VmId
from node.model.vm import Vm


class NotAnExport(Conflict):
    """VMs are exported to an active export storage domain of their pool."""

    code = "storage_domain_is_no_export"
    remedy = "Make one with --class export, attach it to the pool and activate it."


class VmExported(Conflict):
    """The VM lies there already, as it was before."""

    code = "vm_exported_before"
    remedy = "Replace it (--replace), or take another export storage domain."


class NotExported(NotFound):
    """Nothing of that id lies on the export storage domain."""

    code = "vm_not_exported"
    remedy = "See `skerry storage unregistered` of the storage domain."


class Exports(Protocol):
    """Who writes VMs to export storage domains; `node.storage.pools.exports` does."""

    def check(
        self, vm: Vm, target: StorageDomainId, *, is_replacing: bool = False
    ) -> None: ...

    def is_done(self, vm: Vm, target: StorageDomainId, at: str) -> bool: ...

    def make_way(self, vm: Vm, target: StorageDomainId, progress: Progress) -> None:
        """Remove what was exported before, if the VM can be exported then."""

    def write(
        self,
        vm: Vm,
        target: StorageDomainId,
        at: str,
        progress: Progress,
        check_idle: Callable[[], None],
    ) -> None: ...

    def check_removal(self, vm_id: VmId, origin: StorageDomainId) -> PoolId:
        """Return the pool of an export domain on which a VM lies."""

    def lies(self, vm_id: VmId, origin: StorageDomainId) -> bool: ...

    def remove(
        self, vm_id: VmId, origin: StorageDomainId, progress: Progress
    ) -> None: ...

    def check_import(self, vm: Vm) -> None:
        """Refuse a new VM whose place is no data domain, or whose disks are there."""

    def bring(
        self,
        vm: Vm,
        origin: StorageDomainId,
        sources: Mapping[DiskId, DiskId],
        progress: Progress,
    ) -> None:
        """Copy the disks of a new VM or template, and define it: all, or nothing.

        `sources` are what its disks are copies of, on the export domain `origin`.
        """

    def go_on(self, pool_id: PoolId | None, progress: Progress) -> None: ...
