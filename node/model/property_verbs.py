"""The verb of custom properties: the pool's manager writes them down."""

from node.model.job import Job
from node.model.requests import SetProperties
from node.model.verb import ActionGroup, Object, Verb

VM_SET_PROPERTIES = Verb(
    "vm_set_properties",
    "POST",
    "/v1/vms/{vm_id}/properties",
    "Give a VM, or a device of it, other custom properties: for its next start.",
    ActionGroup.CHANGE_CUSTOM_PROPERTIES,
    Object.VM,
    Job,
    SetProperties,
    status=202,
)

VERBS: tuple[Verb, ...] = (VM_SET_PROPERTIES,)
