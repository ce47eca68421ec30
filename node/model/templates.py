"""Templates: what VMs are made from; the bodies of their verbs.

A template is a definition that bears a mark (`node.model.vm.TemplateMark`), on its home
storage domain as those of VMs. What is told of one bears the mark of the manager that
read it, as disks do. `job_id` None lets the node choose. Sizes are bytes.
"""

from dataclasses import dataclass

from node.model.ids import (
    CorrelationId,
    DiskId,
    JobId,
    NodeId,
    PoolId,
    SnapshotId,
    StorageDomainId,
    TemplateId,
    VmId,
)
from node.model.storage import PoolMark
from node.model.vm import VmSpec


@dataclass(frozen=True, slots=True)
class Template:
    """What a VM of it starts as: its cards have no addresses yet."""

    template_id: TemplateId
    spec: VmSpec
    generation: int
    created_at: str  # RFC 3339
    home: StorageDomainId | None = None
    base_id: TemplateId | None = None  # the first of its versions; None: this one
    version: int = 1
    version_name: str = ""
    mark: PoolMark | None = None
    schema: int = 1

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pool_id(self) -> PoolId | None:
        return self.spec.pool_id


@dataclass(frozen=True, slots=True)
class CreateTemplate:
    """Copy the disks of a VM that is down, or of one of its snapshots."""

    template_id: TemplateId
    name: str  # a version has the name of its base
    vm_id: VmId
    description: str = ""
    storage_domain_id: StorageDomainId | None = None  # None: where each disk lies
    snapshot_id: SnapshotId | None = None  # None: as the VM is now
    base_id: TemplateId | None = None  # None: a template of its own
    version_name: str = ""
    generation: int | None = None  # of the VM's definition that the caller saw
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None
    data_node_id: NodeId | None = None  # copies the disks; None: the pool chooses


@dataclass(frozen=True, slots=True)
class ChangeTemplate:
    """None leaves a field as it is."""

    name: str | None = None  # of all its versions
    description: str | None = None
    version_name: str | None = None
    memory_bytes: int | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class DeleteTemplate:
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class SnapshotCopied:
    """The state of a VM that another one is made of."""

    vm_id: VmId
    snapshot_id: SnapshotId
    # of each new disk: its id, and that of the one whose state it is a copy of
    disks: tuple[tuple[DiskId, DiskId], ...]


@dataclass(frozen=True, slots=True)
class CloneVm:
    """Make a VM whose disks are full copies of a template's, or of a snapshot's."""

    spec: VmSpec
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None
    snapshot: SnapshotCopied | None = None  # None: of its template
    data_node_id: NodeId | None = None


@dataclass(frozen=True, slots=True)
class TemplateList:
    templates: tuple[Template, ...]
