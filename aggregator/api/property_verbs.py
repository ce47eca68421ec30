"""The verbs of custom properties of the aggregator's own API."""

from aggregator.api import property_model as model
from aggregator.api.model import OrderLine
from aggregator.api.table import act, read
from aggregator.policies.properties import Declaration
from node.model.requests import SetProperties
from node.model.verbs import ActionGroup, Object, Verb

_PROPERTIES = "/v1/custom-properties"

PROPERTY_LIST = read(
    "property_list",
    _PROPERTIES,
    "List the custom properties that there are, with the patterns of their values.",
    model.DeclaredProperties,
)
PROPERTY_DECLARE = act(
    "property_declare",
    _PROPERTIES,
    "Declare a custom property of VMs, cards, disks or networks, or declare it anew.",
    ActionGroup.EDIT_FLEET,
    Object.FLEET,
    model.DeclareProperty,
    Declaration,
)
PROPERTY_REMOVE = act(
    "property_remove",
    f"{_PROPERTIES}/remove",
    "Remove the declaration of a custom property that no VM has.",
    ActionGroup.EDIT_FLEET,
    Object.FLEET,
    model.RemoveProperty,
    model.DeclaredProperties,
)
VM_SET_PROPERTIES = act(
    "vm_set_properties",
    "/v1/vms/{vm_id}/properties",
    "Give a VM, or a device of it, other custom properties: for its next start.",
    ActionGroup.CHANGE_CUSTOM_PROPERTIES,
    Object.VM,
    SetProperties,
    OrderLine,
    202,
)

VERBS: tuple[Verb, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Verb)
)
