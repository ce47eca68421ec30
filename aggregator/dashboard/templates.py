"""Serve templates: the list, each of them, what may be done to it and made of it."""

import functools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import flask

from aggregator.control import templating
from aggregator.dashboard import (
    data_nodes,
    disk_rows,
    drafts,
    figures,
    listing,
    queries,
    questions,
    rows,
    storage,
    storage_rows,
    template_rows,
    vms,
)
from aggregator.dashboard import routes as routing
from aggregator.dashboard.disk_rows import VmDiskLine
from aggregator.dashboard.drafts import BadDraft
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.questions import Field, Question
from aggregator.dashboard.routes import Route
from aggregator.dashboard.visits import Visit, form
from aggregator.federation.view import TemplateRow, View
from node.errors import NotFound
from node.model import template_verbs as verbs
from node.model.ids import DiskId, StorageDomainId, TemplateId, VmId
from node.model.storage import DomainClass, DomainState
from node.model.templates import (
    ChangeTemplate,
    CreateTemplate,
    DeleteTemplate,
    Template,
)
from node.model.verbs import ActionGroup, Object
from node.units import GiB

PAGE: Final = "/ui/templates"
_THIN: Final = "thin"
_FULL: Final = "full"


class NoSuchTemplate(NotFound):
    code = "no_such_template"
    remedy = "It may have been deleted: look in the list of templates."


@dataclass(frozen=True, slots=True)
class TemplateAction:
    name: str
    label: str
    group: ActionGroup
    meaning: str
    is_dangerous: bool = False


NEW_VM: Final = TemplateAction(
    "new-vm",
    "Create VM",
    ActionGroup.CREATE_VM,
    "A thin VM is there at once, shares the template's data and keeps it from being "
    "deleted. A full copy takes its time, and stands alone.",
)
EDIT: Final = TemplateAction(
    "edit",
    "Edit",
    ActionGroup.EDIT_TEMPLATE,
    "What VMs of it start with; its disks never change.",
)
DELETE: Final = TemplateAction(
    "delete",
    "Delete",
    ActionGroup.DELETE_TEMPLATE,
    "The template is deleted with its disks, unless something needs it.",
    is_dangerous=True,
)
_ACTIONS: Final = (NEW_VM, EDIT, DELETE)


def show_all(pages: Pages, visit: Visit) -> flask.Response:
    """Return the list of templates."""
    moment = pages.moments.now()
    query = queries.parse(routing.query_text())
    page = listing.template_page(moment.view, query, routing.page_number())
    return pages.show(
        visit,
        "templates.html",
        moment,
        page=page,
        query=routing.query_text(),
        templates=template_rows.lines(moment.view, page.items),
    )


def show(pages: Pages, visit: Visit, template_id: str) -> flask.Response:
    """Return the page of a template, or of the order that makes it."""
    moment = pages.moments.now()
    view = moment.view
    orders = storage.orders_about(pages, template_id)
    row = view.templates.get(TemplateId(template_id))
    if row is None and orders and orders[0].verb == verbs.TEMPLATE_CREATE.name:
        return pages.show_coming(visit, moment, PAGE, "Templates", orders)
    row = _find(view, template_id)
    template = templating.template_of(row)
    disks: list[VmDiskLine] = list(
        disk_rows.vm_disks(view, template.spec.disks, pages.translate)
    )
    family = template.base_id or template.template_id
    versions = sorted(
        (
            each
            for each in view.templates.values()
            if family in (each.template_id, each.base_id)
        ),
        key=lambda each: each.version,
    )
    return pages.show(
        visit,
        "template.html",
        moment,
        row=row,
        line=template_rows.line(view, row),
        actions=_ACTIONS,
        facts=list(_facts(view, template)),
        disks=disks,
        nics=template.spec.nics,
        created_at=template.created_at,
        versions=template_rows.lines(view, versions),
        jobs=[rows.task_row(each, view, pages.translate) for each in orders],
    )


def ask(
    action: TemplateAction, pages: Pages, visit: Visit, template_id: str
) -> flask.Response:
    """Return the page that asks what exactly is meant."""
    view = pages.services.mirror.view
    row = _find(view, template_id)
    question = Question(
        f"{pages.translate(action.label)}: {row.name}",
        action.label,
        f"{_page(row.template_id)}/{action.name}",
        _page(row.template_id),
        action.meaning,
        _fields(action, view, row),
        action.is_dangerous,
        PAGE if action.is_dangerous else "",
    )
    return pages.show(visit, "question.html", question=question)


def do(
    action: TemplateAction, pages: Pages, visit: Visit, template_id: str
) -> flask.Response:
    """Order an action."""
    row, said = _find(pages.services.mirror.view, template_id), form()
    page = _page(row.template_id)
    if action is NEW_VM:
        return _make_vm(pages, visit, row)
    if action is DELETE:
        verb, asked = verbs.TEMPLATE_DELETE, DeleteTemplate()
        return storage.order(pages, visit, verb, row.template_id, asked, PAGE)
    change = ChangeTemplate(
        said.get("name") or None,
        said.get("description"),
        said.get("version_name"),
        drafts.gib(said.get("memory_gib", ""), "memory_gib", "memory"),
    )
    verb = verbs.TEMPLATE_CHANGE
    return storage.order(pages, visit, verb, row.template_id, change, page)


def ask_to_make(pages: Pages, visit: Visit, vm_id: str) -> flask.Response:
    """Return the page that asks how a VM becomes a template."""
    view = pages.services.mirror.view
    vm = vms.find(view, vm_id)
    bases = [
        (row.template_id, pages.translate("a version of {name}").format(name=row.name))
        for row in view.templates.values()
        if row.base_id is None and row.pool_id == vm.pool_id
    ]
    question = Question(
        f"{pages.translate('Make a template')}: {vm.name}",
        "Make a template",
        f"/ui/vms/{vm.vm_id}/template",
        f"/ui/vms/{vm.vm_id}",
        "Its disks are copied; the VM stays as it is, and must be down meanwhile.",
        (
            Field("name", "Name", vm.name),
            Field("description", "What it is for", is_optional=True),
            questions.choice("base_id", "As", [("", "a template of its own"), *bases]),
            Field("version_name", "Name of the version", is_optional=True),
            *data_nodes.fields(view, vm.pool_id),
            # sent twice, it is one template
            questions.hidden("template_id", str(uuid.uuid4())),
        ),
    )
    return pages.show(visit, "question.html", question=question)


def make(pages: Pages, visit: Visit, vm_id: str) -> flask.Response:
    """Order a template of a VM."""
    vm, said = vms.find(pages.services.mirror.view, vm_id), form()
    template_id = TemplateId(drafts.given_id(said.get("template_id", "")))
    base_id = said.get("base_id", "")
    request = CreateTemplate(
        template_id,
        said.get("name", "") or vm.name,
        vm.vm_id,
        said.get("description", ""),
        base_id=TemplateId(drafts.given_id(base_id)) if base_id else None,
        version_name=said.get("version_name", ""),
        data_node_id=data_nodes.chosen(said),
    )
    verb, page = verbs.TEMPLATE_CREATE, _page(template_id)
    return storage.order(pages, visit, verb, template_id, request, page)


def _make_vm(pages: Pages, visit: Visit, row: TemplateRow) -> flask.Response:
    view, said = pages.services.mirror.view, form()
    name = said.get("name", "").strip()
    if not name:
        raise BadDraft("the VM needs a name", field="name")
    vm_id = VmId(drafts.given_id(said.get("vm_id", "")))
    is_clone = said.get("kind") == _FULL
    places = {
        disk_id: StorageDomainId(place)
        for disk_id in row.disk_ids
        if (place := said.get(_place_of(disk_id), ""))
    }
    wanted = templating.spec(
        view,
        row.template_id,
        vm_id,
        name,
        is_clone=is_clone,
        places=places,
    )
    words = (pages.services.orders, wanted, visit.origin, data_nodes.chosen(said))
    made = templating.make_vm(*words)
    return storage.answered(pages, made, f"/ui/vms/{vm_id}")


def _fields(action: TemplateAction, view: View, row: TemplateRow) -> tuple[Field, ...]:
    if action is NEW_VM:
        offered = [
            (each.storage_domain_id, each.name)
            for each in storage_rows.domains_of(view, row.pool_id)
            if each.state is DomainState.ACTIVE
            and each.domain_class is DomainClass.DATA
        ]
        kinds = ((_THIN, "thin: shares the data"), (_FULL, "a full copy"))
        choices = [("", "where the template lies"), *offered]
        return (
            Field("name", "Name"),
            questions.choice("kind", "Disks", kinds, _THIN),
            *(
                questions.choice(_place_of(disk.disk_id), f"{disk.name}: on", choices)
                for disk in templating.template_of(row).spec.disks
            ),
            *data_nodes.fields(view, row.pool_id),
            # sent twice, it is one VM
            questions.hidden("vm_id", str(uuid.uuid4())),
        )
    if action is not EDIT:
        return ()
    template = templating.template_of(row)
    memory = f"{template.spec.memory_bytes / GiB:g}"
    named = (Field("name", "Name", row.name),) if row.base_id is None else ()
    return (
        *named,
        Field(
            "description", "Description", template.spec.description, is_optional=True
        ),
        Field("version_name", "Version", template.version_name, is_optional=True),
        Field("memory_gib", "Memory, GiB", memory, questions.Kind.NUMBER),
    )


def _place_of(disk_id: DiskId) -> str:
    """Return the field that says where a VM's copy of a disk lies."""
    return f"on-{disk_id}"


def _facts(view: View, template: Template) -> Iterator[tuple[str, str]]:
    """Yield what a template is: what it is called, what it is."""
    spec = template.spec
    pool = view.pools.get(template.pool_id) if template.pool_id is not None else None
    yield "Memory", figures.size(spec.memory_bytes)
    yield "CPUs", str(spec.cpu.count)
    yield "Firmware", spec.firmware.value.upper()
    yield "Machine type", spec.machine or ""
    yield "Pool", pool.name if pool is not None else ""
    yield "Template id", template.template_id


def _find(view: View, template_id: str) -> TemplateRow:
    row = view.templates.get(TemplateId(template_id))
    if row is None:
        raise NoSuchTemplate(f"there is no template {template_id}")
    return row


def _page(template_id: TemplateId) -> str:
    return f"{PAGE}/{template_id}"


_ONE: Final = f"{PAGE}/<template_id>"
_OF_VM: Final = "/ui/vms/<vm_id>/template"
_MAKE: Final = (ActionGroup.CREATE_TEMPLATE, Object.VM)
ROUTES: Final = (
    Route("GET", PAGE, show_all, ActionGroup.READ, Object.FLEET),
    Route("GET", _ONE, show, ActionGroup.READ, Object.TEMPLATE),
    Route("GET", _OF_VM, ask_to_make, *_MAKE),
    Route("POST", _OF_VM, make, *_MAKE),
    *(
        Route(
            method,
            f"{_ONE}/{each.name}",
            functools.partial(handler, each),
            each.group,
            Object.TEMPLATE,
        )
        for method, handler in (("GET", ask), ("POST", do))
        for each in _ACTIONS
    ),
)
