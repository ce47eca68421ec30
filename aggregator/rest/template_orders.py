"""Make, change and delete templates, as oVirt's clients ask for it."""

import unicodedata
from typing import Final

from aggregator.control import templating
from aggregator.federation.view import VmView
from aggregator.rest import parents, replies, storage, templates, vm_exports
from aggregator.rest.body import BadValue, Body, Incomplete
from aggregator.rest.call import (
    PARAMETER,
    Act,
    Call,
    Collection,
    Deed,
    NoSuchObject,
    Reply,
    Write,
)
from aggregator.rest.new_vm import random_id
from aggregator.rest.resource import Entity
from aggregator.rest.templates import Template
from node.errors import Conflict
from node.model import storage_verbs
from node.model import template_verbs as verbs
from node.model.ids import DiskId, SnapshotId, StorageDomainId, TemplateId
from node.model.job import JobState
from node.model.storage_requests import ActOnDisk
from node.model.templates import ChangeTemplate, CreateTemplate, DeleteTemplate
from node.model.verbs import ActionGroup, Object
from node.model.vm import VmState

# Removing takes as long as renaming folders does: clients expect it to be gone.
_REMOVE_S: Final = 10.0


class NotOnPool(Conflict):
    """Blank, and the base images of nodes."""

    code = "template_of_nodes"
    remedy = "Remove the image from the nodes; Blank is always there."


class VmRuns(Conflict):
    code = "template_vm_runs"
    remedy = "Stop the VM first, or name one of its snapshots."


class TemplateInUse(Conflict):
    code = "template_used"
    remedy = "Remove the VMs first; full clones need no template."


def _add(call: Call, path: tuple[str, ...]) -> Reply:
    request = _request(call)
    verb, template_id = verbs.TEMPLATE_CREATE, request.template_id
    order = replies.storage_order(call, verb, template_id, request)
    replies.raise_failure(order)
    location = f"{call.context.base}/templates/{template_id}"
    row = call.services.mirror.view.templates.get(template_id)
    made = Template(template_id, order.name, is_locked=True)
    if row is not None:
        made = templates.of_row(row)
    entity = Entity(templates.RESOURCE, made, f"templates/{template_id}")
    return Reply(entity, 202, {"Location": location})


def _request(call: Call) -> CreateTemplate:
    body, version = call.body, call.body.child("version")
    base_id = version.child("base_template").object_id()
    name = unicodedata.normalize("NFC", (body.string("name") or "").strip())
    if not name and not base_id:
        raise Incomplete("Template [name] required for add")
    vm = _vm(call, body.child("vm"))
    snapshots = list(body.all("vm/snapshots/snapshot"))
    snapshot_id = snapshots[0].object_id() if snapshots else None
    if snapshot_id is None and vm.state is not VmState.DOWN:
        raise VmRuns(f"Cannot create Template. VM {vm.name} is running.", name=vm.name)
    place = parents.storage_domain(call.context, body.child("storage_domain"))
    return CreateTemplate(
        TemplateId(random_id()),
        name,
        vm.vm_id,
        body.string("description") or "",
        _place(call, body) or (place.storage_domain_id if place else None),
        SnapshotId(snapshot_id) if snapshot_id is not None else None,
        TemplateId(base_id) if base_id is not None else None,
        version.string("version_name") or "",
    )


def _vm(call: Call, wanted: Body) -> VmView:
    vm_id, name = wanted.object_id(), wanted.string("name")
    if not vm_id and not name:
        raise Incomplete("Template [vm.id|name] required for add")
    view = call.context.view
    for vm in view.vms.values():
        if vm.vm_id == vm_id if vm_id else vm.name == name:
            return vm
    raise parents.NoSuchParent(f"there is no VM {vm_id or name}")


def _place(call: Call, body: Body) -> StorageDomainId | None:
    """Return where the VM's disks are said to go: one place for all of them."""
    found = set()
    for attachment in body.all("vm/disk_attachments/disk_attachment"):
        for each in attachment.all("disk/storage_domains/storage_domain"):
            row = parents.storage_domain(call.context, each)
            if row is not None:
                found.add(row.storage_domain_id)
    if len(found) > 1:
        text = "the disks of a template go to one storage domain"
        raise BadValue(text, field="disk_attachments")
    return found.pop() if found else None


def _update(call: Call, path: tuple[str, ...]) -> Reply:
    row, body = _kept(call, path[0]), call.body
    request = ChangeTemplate(
        body.string("name"),
        body.string("description"),
        body.child("version").string("version_name"),
        body.integer("memory"),
    )
    if request != ChangeTemplate():
        verb, before = verbs.TEMPLATE_CHANGE, row.kept
        order = replies.storage_order(call, verb, row.template_id, request)
        replies.wait(call, order, is_needed=True)
        replies.see(
            call,
            lambda view: (
                (now := view.templates.get(TemplateId(row.template_id))) is None
                or templating.template_of(now) != before
            ),
        )
    newest = call.services.mirror.view.templates.get(TemplateId(row.template_id))
    shown = templates.of_row(newest) if newest is not None else row
    return Reply(Entity(templates.RESOURCE, shown, f"templates/{path[0]}"))


def _remove(call: Call, path: tuple[str, ...]) -> Reply:
    row = _kept(call, path[0])
    template_id = TemplateId(row.template_id)
    users = templating.users(call.context.view, template_id)
    if users:
        names = ", ".join(vm.name for vm in users)
        raise TemplateInUse(
            "Cannot delete Template. Template is being used by the following VMs: "
            f"{names}.",
            users=names,
        )
    verb = verbs.TEMPLATE_DELETE
    order = replies.storage_order(call, verb, template_id, DeleteTemplate())
    order = replies.wait(call, order, _REMOVE_S)
    if order.state is JobState.DONE:
        replies.see(call, lambda view: template_id not in view.templates)
    return Reply(replies.action(call, order))


def _remove_disk(call: Call, row: Template, ids: tuple[str, ...]) -> Reply:
    """Remove the copy of a disk on one storage domain; the template stays."""
    _check_kept(row)
    disk = call.context.view.disks.get(DiskId(ids[0]))
    if disk is None or storage.disk_document(disk).template_id != row.template_id:
        text = f"template {row.name} has no disk {ids[0]}"
        raise NoSuchObject(text, disk_id=ids[0])
    where = StorageDomainId(call.parameters.text("storage_domain"))
    if not where:
        raise Incomplete("DiskAttachment [storageDomain] required for remove")
    if where not in disk.storage_domain_ids:
        text = f"disk {disk.name} has no copy on storage domain {where}"
        raise NoSuchObject(text, storage_domain_id=where)
    request = ActOnDisk(storage_domain_id=where)
    verb = storage_verbs.DISK_DELETE
    order = replies.storage_order(call, verb, disk.disk_id, request)
    order = replies.wait(call, order, _REMOVE_S)
    return Reply(replies.action(call, order))


def _kept(call: Call, object_id: str) -> Template:
    row = templates.find(call.services, call.context, object_id)
    if row is None:
        raise NoSuchObject(f"there is no template {object_id}", id=object_id)
    _check_kept(row)
    return row


def _check_kept(row: Template) -> None:
    if row.kept is None:
        raise NotOnPool(f"template {row.name} does not lie on a pool", name=row.name)


def _export(call: Call, row: Template) -> Reply:
    _check_kept(row)
    return vm_exports.export_template(call, row)


COLLECTION: Final = Collection(
    "templates",
    templates.RESOURCE,
    Object.TEMPLATE,
    templates.find,
    templates.select_rows,
    acts=(Act("export", ActionGroup.EXPORT_VM, _export),),
    add=Write(ActionGroup.CREATE_TEMPLATE, _add),
    update=Write(ActionGroup.EDIT_TEMPLATE, _update),
    remove=Write(ActionGroup.DELETE_TEMPLATE, _remove),
    deeds=(
        Deed(
            "DELETE",
            ("diskattachments", PARAMETER),
            ActionGroup.DELETE_TEMPLATE,
            _remove_disk,
        ),
    ),
)
