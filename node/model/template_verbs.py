"""The verbs of templates, and the one that makes a VM by copying.

A VM that shares a template's disks is made by `vm_create`. What writes is done by the
manager of the pool. A template's disk is copied to one more storage domain by
`disk_copy`, with its own id.
"""

from node.model import templates as bodies
from node.model.job import Job
from node.model.verb import ActionGroup, Object, Verb

_TEMPLATE = "/v1/templates/{template_id}"

TEMPLATE_LIST = Verb(
    "template_list",
    "GET",
    "/v1/templates",
    "List the templates on this node's pools.",
    ActionGroup.READ,
    Object.TEMPLATE,
    bodies.TemplateList,
    is_slow=True,
)
TEMPLATE_SHOW = Verb(
    "template_show",
    "GET",
    _TEMPLATE,
    "Describe a template.",
    ActionGroup.READ,
    Object.TEMPLATE,
    bodies.Template,
    is_slow=True,
)
TEMPLATE_CREATE = Verb(
    "template_create",
    "POST",
    "/v1/templates",
    "Make a template of a VM that is down, or of one of its snapshots.",
    ActionGroup.CREATE_TEMPLATE,
    Object.NODE,
    Job,
    bodies.CreateTemplate,
    status=202,
    is_slow=True,
)
TEMPLATE_CHANGE = Verb(
    "template_change",
    "POST",
    f"{_TEMPLATE}/change",
    "Change what VMs of a template start with; its disks never change.",
    ActionGroup.EDIT_TEMPLATE,
    Object.TEMPLATE,
    bodies.Template,
    bodies.ChangeTemplate,
    is_slow=True,
)
TEMPLATE_DELETE = Verb(
    "template_delete",
    "POST",
    f"{_TEMPLATE}/delete",
    "Delete a template that nothing uses, with its disks.",
    ActionGroup.DELETE_TEMPLATE,
    Object.TEMPLATE,
    Job,
    bodies.DeleteTemplate,
    status=202,
    is_slow=True,
)
VM_CLONE = Verb(
    "vm_clone",
    "POST",
    "/v1/vms/clone",
    "Make a VM whose disks are full copies of a template's.",
    ActionGroup.CREATE_VM,
    Object.NODE,
    Job,
    bodies.CloneVm,
    status=202,
    is_slow=True,
)

VERBS: tuple[Verb, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Verb)
)
