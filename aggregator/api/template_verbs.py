"""The verbs of templates of the aggregator's own API.

What changes something is an order, which the pool's manager does: see `storage_verbs`.
"""

from aggregator.api import template_model as model
from aggregator.api.model import OrderLine
from aggregator.api.table import USERS, act, read
from node.model import templates as bodies
from node.model.verbs import ActionGroup, Object, Verb

_TEMPLATE = "/v1/templates/{template_id}"


def _order(
    name: str, path: str, meaning: str, group: ActionGroup, on: Object, request: type
) -> Verb:
    return act(name, path, meaning, group, on, request, OrderLine, 202)


TEMPLATE_LIST = read(
    "template_list",
    "/v1/templates",
    "List templates by name and version.",
    model.TemplateLines,
)
TEMPLATE_SHOW = Verb(
    "template_show",
    "GET",
    _TEMPLATE,
    "Describe a template, and which VMs need it.",
    ActionGroup.READ,
    Object.TEMPLATE,
    model.TemplateLine,
    callers=USERS,
)
TEMPLATE_CREATE = _order(
    "template_create",
    "/v1/templates",
    "Make a template of a VM that is down, or of one of its snapshots.",
    ActionGroup.CREATE_TEMPLATE,
    Object.FLEET,
    bodies.CreateTemplate,
)
TEMPLATE_CHANGE = _order(
    "template_change",
    f"{_TEMPLATE}/change",
    "Change what VMs of a template start with; its disks never change.",
    ActionGroup.EDIT_TEMPLATE,
    Object.TEMPLATE,
    bodies.ChangeTemplate,
)
TEMPLATE_DELETE = _order(
    "template_delete",
    f"{_TEMPLATE}/delete",
    "Delete a template that nothing needs, with its disks.",
    ActionGroup.DELETE_TEMPLATE,
    Object.TEMPLATE,
    bodies.DeleteTemplate,
)
TEMPLATE_NEW_VM = _order(
    "template_new_vm",
    f"{_TEMPLATE}/vms",
    "Make a VM of a template: it shares the template's data, or copies them.",
    ActionGroup.CREATE_VM,
    Object.TEMPLATE,
    model.NewVmOfTemplate,
)

VERBS: tuple[Verb, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Verb)
)
