"""What is asked of export storage domains."""

from dataclasses import dataclass

from node.model.ids import CorrelationId, JobId, StorageDomainId, VmId


@dataclass(frozen=True, slots=True)
class ExportVm:
    """Copy a VM that is down, as it is now, to an export storage domain."""

    storage_domain_id: StorageDomainId
    job_id: JobId | None = None
    generation: int | None = None
    correlation_id: CorrelationId | None = None
    is_replacing: bool = False  # what was exported of it before is removed first


@dataclass(frozen=True, slots=True)
class RemoveExported:
    """Remove a VM or template that lies on an export storage domain, for good."""

    vm_id: VmId  # as it lies there
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class ExportTemplate:
    """Copy a template to an export storage domain."""

    storage_domain_id: StorageDomainId
    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None
    is_replacing: bool = False
