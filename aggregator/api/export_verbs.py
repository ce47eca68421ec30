"""The verbs of export storage domains of the aggregator's own API."""

from aggregator.api.model import OrderLine
from aggregator.api.table import act
from node.model.exports import ExportTemplate, ExportVm, RemoveExported
from node.model.verbs import ActionGroup, Object, Verb

VM_EXPORT = act(
    "vm_export",
    "/v1/vms/{vm_id}/export",
    "Copy a VM that is down to an export storage domain, as oVirt has it there.",
    ActionGroup.EXPORT_VM,
    Object.VM,
    ExportVm,
    OrderLine,
    202,
)

TEMPLATE_EXPORT = act(
    "template_export",
    "/v1/templates/{template_id}/export",
    "Copy a template to an export storage domain, as oVirt has it there.",
    ActionGroup.EXPORT_VM,
    Object.TEMPLATE,
    ExportTemplate,
    OrderLine,
    202,
)
STORAGE_DOMAIN_REMOVE_EXPORTED = act(
    "storage_domain_remove_exported",
    "/v1/storage-domains/{storage_domain_id}/remove-exported",
    "Remove a VM or template that was exported, with its disks there.",
    ActionGroup.EXPORT_VM,
    Object.STORAGE_DOMAIN,
    RemoveExported,
    OrderLine,
    202,
)

VERBS: tuple[Verb, ...] = (
    VM_EXPORT,
    TEMPLATE_EXPORT,
    STORAGE_DOMAIN_REMOVE_EXPORTED,
)
