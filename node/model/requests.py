"""The bodies of the verbs that change something."""

from dataclasses import dataclass
from enum import StrEnum

from node.model.event import Event
from node.model.feed import Document, Tombstone
from node.model.host import Device, Image
from node.model.ids import CorrelationId, DiskId, JobId
from node.model.job import Job
from node.model.properties import CustomProperty
from node.model.vm import Disk, Vm, VmEntry, VmSpec


class StopManner(StrEnum):
    """How hard: each tries the ones before it first, until its deadline."""

    SHUTDOWN = "shutdown"  # guest agent, then ACPI; never by force
    GRACEFUL = "graceful"  # the same, then by force after the deadline
    FORCE = "force"  # at once


@dataclass(frozen=True, slots=True)
class CreateVm:
    spec: VmSpec
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class StartVm:
    job_id: JobId | None = None  # None: the node chooses; asked twice: one job
    generation: int | None = None  # the definition that the caller saw
    is_paused: bool = False
    discard_memory: bool = False  # of a suspended VM: it boots
    correlation_id: CorrelationId | None = None
    # of a VM on a pool, as the caller saw it; None: whatever its storage says
    vm: Vm | None = None


@dataclass(frozen=True, slots=True)
class StopVm:
    job_id: JobId | None = None
    manner: StopManner = StopManner.GRACEFUL
    deadline_s: float = 60.0
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class ActOnVm:
    """Pause, resume, reset."""

    job_id: JobId | None = None
    generation: int | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class DeleteVm:
    """Delete a VM with its disks."""

    job_id: JobId | None = None
    generation: int | None = None
    correlation_id: CorrelationId | None = None
    # Those on storage domains that are not active; an event tells which.
    may_leave_disks: bool = False


@dataclass(frozen=True, slots=True)
class AttachDisk:
    """Give a VM a disk of its pool that exists; at once if it runs."""

    disk: Disk
    job_id: JobId | None = None
    generation: int | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class DetachDisk:
    """Take a disk away from a VM; its data stay."""

    disk_id: DiskId
    job_id: JobId | None = None
    generation: int | None = None
    correlation_id: CorrelationId | None = None
    # For the pool's manager: of the run on another node that has let the disk go.
    lease_version: int | None = None


@dataclass(frozen=True, slots=True)
class ResizeVmDisk:
    """Let a disk grow under the guest that runs with it."""

    disk_id: DiskId
    size_bytes: int
    job_id: JobId | None = None
    generation: int | None = None
    correlation_id: CorrelationId | None = None
    # For the manager: of the run on another node under which the disk has grown.
    lease_version: int | None = None


@dataclass(frozen=True, slots=True)
class SetProperties:
    """Give a VM, or one of its devices, these custom properties, and no others."""

    custom_properties: tuple[CustomProperty, ...]
    device_id: str | None = None  # of a card or a disk; None: the VM's own
    job_id: JobId | None = None
    generation: int | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class VmList:
    vms: tuple[VmEntry, ...]


@dataclass(frozen=True, slots=True)
class JobList:
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class ImageList:
    images: tuple[Image, ...]


@dataclass(frozen=True, slots=True)
class DeviceList:
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class EventList:
    events: tuple[Event, ...]
    boot_id: str
    last: int  # number of the newest event there is


@dataclass(frozen=True, slots=True)
class Changes:
    """Documents that changed after a revision, for whoever polls."""

    epoch: str
    rev: int
    changed: tuple[Document, ...]
    gone: tuple[Tombstone, ...]
