"""What storage tells of VMs that came with it.

The contract between two siblings: `node.storage` finds, `node.vm` registers.
"""

from dataclasses import dataclass
from typing import Protocol

from node.errors import NotFound
from node.model.ids import DiskId, StorageDomainId, VmId
from node.model.unregistered import Source
from node.model.vm import Vm


class NotUnregistered(NotFound):
    """No definition of that id waits to be registered there."""

    code = "vm_not_unregistered"
    remedy = "List what came with the storage domain; it may be registered already."


@dataclass(frozen=True, slots=True)
class Found:
    """A definition that is no VM here, as it would be in the pool."""

    vm: Vm  # its pool is where it lies now; without the disks that are missing
    source: Source
    # It did, somewhere, when this was written; or its lease is not here to say so.
    may_run: bool = False
    missing_disks: tuple[DiskId, ...] = ()


class Newcomers(Protocol):
    """What came with storage domains."""

    def find(self, storage_domain_id: StorageDomainId, vm_id: VmId) -> Found:
        """Return a definition there; NotUnregistered, NotSpm, what reading raises."""

    def check_name(self, storage_domain_id: StorageDomainId, vm: Vm) -> None:
        """Refuse a template's name that another of the pool has; TemplateNameTaken."""
