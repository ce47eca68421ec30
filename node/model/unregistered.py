"""What lies on a storage domain and belongs to no VM here: it came with the storage.

A storage domain that was another pool's, or oVirt's, brings definitions of VMs. They
are shown, and become VMs when they are registered. So is what lies on an export
storage domain, whether or not it is a VM here, too. Sizes are bytes.
"""

from dataclasses import dataclass
from enum import StrEnum

from node.model.ids import (
    CorrelationId,
    DiskId,
    JobId,
    NicId,
    StorageDomainId,
    VmId,
)
from node.model.reason import Reason
from node.model.vm import VmSpec


class Source(StrEnum):
    """Where a definition was found."""

    DEFINITION = "definition"  # our own file
    OVF_STORE = "ovf_store"
    EXPORT = "export"  # a VM that was exported


@dataclass(frozen=True, slots=True)
class UnregisteredVm:
    spec: VmSpec  # as it would be, without the disks that are missing
    source: Source
    generation: int
    is_template: bool = False
    # It did, somewhere, when this was written; or its lease is not here to say so.
    may_run: bool = False
    snapshots: int = 0
    missing_disks: tuple[DiskId, ...] = ()


@dataclass(frozen=True, slots=True)
class Unregistered:
    """By name; `problems` say what could not be read."""

    vms: tuple[UnregisteredVm, ...] = ()
    problems: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkChange:
    network: str  # as the definition has it
    to: str  # the network here; empty: the VM loses the card


@dataclass(frozen=True, slots=True)
class MacChange:
    nic_id: NicId
    mac: str


@dataclass(frozen=True, slots=True)
class RegisterVm:
    """Make a VM, or template, of a definition that lies on a storage domain."""

    vm_id: VmId  # as it lies there
    name: str | None = None  # None: as it has
    as_vm_id: VmId | None = None  # another id: what lies there stays unregistered
    networks: tuple[NetworkChange, ...] = ()
    macs: tuple[MacChange, ...] = ()
    may_lose_disks: bool = False  # those that are missing
    may_lose_nics: bool = False  # those whose network is not here
    is_forced: bool = False  # although it may run somewhere
    # Where its disks are copied to, and its definition lies: of what was exported.
    to_storage_domain_id: StorageDomainId | None = None
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None
