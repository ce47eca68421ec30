"""What verbs of templates do to a fleet's View, as a pool's manager would tell."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from node import wire
from node.contract import templates
from node.model import template_verbs as verbs
from node.model.ids import NodeId, TemplateId
from node.model.storage import Allocation, DiskDocument, DiskFormat, DiskState
from node.model.templates import (
    ChangeTemplate,
    CloneVm,
    CreateTemplate,
    DeleteTemplate,
    Template,
)
from node.model.verb import Verb
from node.model.vm import Vm, VmRun, VmState

Documents = tuple[NodeId, tuple[object, ...], tuple[object, ...]]  # said, and gone


def create(view: Any, _id: str, request: CreateTemplate) -> Documents:
    """Return the template with its disks."""
    row = view.vms[request.vm_id]
    vm = wire.decode(Vm, row.vm_document, strict=False)
    known = [wire.decode(Template, each.document) for each in view.templates.values()]
    pool = view.pools[row.pool_id]
    made = templates.of(templates.define(request, vm, known, vm.created_at))
    disks = tuple(
        DiskDocument(
            disk.disk_id,
            disk.name,
            disk.size_bytes,
            0,
            disk.disk_format or DiskFormat.QCOW2,
            Allocation.THIN,
            (disk.storage_domain_id,) if disk.storage_domain_id else (),
            DiskState.OK,
            vm.created_at,
            template_id=made.template_id,
            mark=pool.mark,
            pool_id=row.pool_id,
        )
        for disk in made.spec.disks
    )
    return pool.node_id, (replace(made, mark=pool.mark), *disks), ()


def change(view: Any, template_id: str, request: ChangeTemplate) -> Documents:
    """Return the template as it is then."""
    row = view.templates[TemplateId(template_id)]
    before = wire.decode(Template, row.document)
    named = {
        name: value
        for name in ("name", "description", "memory_bytes")
        if (value := getattr(request, name)) is not None
    }
    after = replace(
        before,
        spec=replace(before.spec, **named),
        generation=before.generation + 1,
        version_name=request.version_name or before.version_name,
    )
    return row.node_id, (after,), ()


def delete(view: Any, template_id: str, _request: DeleteTemplate) -> Documents:
    """Return that the template is gone."""
    row = view.templates[TemplateId(template_id)]
    return row.node_id, (), (wire.decode(Template, row.document),)


def clone(view: Any, _id: str, request: CloneVm) -> Documents:
    """Return the new VM."""
    spec = request.spec
    assert spec.pool_id is not None, "a clone lies on a pool"
    node_id = view.pools[spec.pool_id].node_id
    vm = Vm(spec, 1, "2026-11-22T09:00:00.000Z")
    run = VmRun(spec.vm_id, node_id, VmState.DOWN, vm.created_at)
    return node_id, (vm, run), ()


EFFECTS: Mapping[Verb, Any] = {
    verbs.TEMPLATE_CREATE: create,
    verbs.TEMPLATE_CHANGE: change,
    verbs.TEMPLATE_DELETE: delete,
    verbs.VM_CLONE: clone,
}
