"""The verbs of export storage domains; the pool's manager does them."""

from node.model.exports import ExportTemplate, ExportVm, RemoveExported
from node.model.job import Job
from node.model.verb import ActionGroup, Object, Verb

VM_EXPORT = Verb(
    "vm_export",
    "POST",
    "/v1/vms/{vm_id}/export",
    "Copy a VM that is down to an export storage domain, as oVirt has it there.",
    ActionGroup.EXPORT_VM,
    Object.VM,
    Job,
    ExportVm,
    status=202,
    is_slow=True,
)

TEMPLATE_EXPORT = Verb(
    "template_export",
    "POST",
    "/v1/templates/{template_id}/export",
    "Copy a template to an export storage domain, as oVirt has it there.",
    ActionGroup.EXPORT_VM,
    Object.TEMPLATE,
    Job,
    ExportTemplate,
    status=202,
    is_slow=True,
)
STORAGE_DOMAIN_REMOVE_EXPORTED = Verb(
    "storage_domain_remove_exported",
    "POST",
    "/v1/storage-domains/{storage_domain_id}/remove-exported",
    "Remove a VM or template that was exported, with its disks there.",
    ActionGroup.EXPORT_VM,
    Object.STORAGE_DOMAIN,
    Job,
    RemoveExported,
    status=202,
    is_slow=True,
)

VERBS: tuple[Verb, ...] = (
    VM_EXPORT,
    TEMPLATE_EXPORT,
    STORAGE_DOMAIN_REMOVE_EXPORTED,
)
