"""The verbs of export storage domains; the pool's manager does them."""

from node.model.exports import ExportVm
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

VERBS: tuple[Verb, ...] = (VM_EXPORT,)
