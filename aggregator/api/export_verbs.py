"""The verbs of export storage domains of the aggregator's own API."""

from aggregator.api.model import OrderLine
from aggregator.api.table import act
from node.model.exports import ExportVm
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

VERBS: tuple[Verb, ...] = (VM_EXPORT,)
