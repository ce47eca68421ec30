"""Make VMs of templates, and say who needs one.

What is asked becomes an order: a thin clone is a VM like any other, whose disks the
pool's manager builds on the template's; the data of a full clone are copied there.
"""

from collections.abc import Mapping
from dataclasses import replace

from aggregator import macs
from aggregator.control import routes
from aggregator.control.order import Order, Origin
from aggregator.control.orders import Orders
from aggregator.federation.view import TemplateRow, View, VmView
from node import wire
from node.errors import Conflict
from node.model.ids import DiskId, NodeId, StorageDomainId, TemplateId, VmId
from node.model.templates import Template
from node.model.vm import Vm, VmSpec
from node.policy import made_of


class NoCopyThere(Conflict):
    """A disk is built on its template's only where that lies."""

    code = "template_lacks_copy"
    remedy = "Copy the template's disk to that storage domain, or make a full clone."


def template_of(row: TemplateRow) -> Template:
    """Return a template as it was told."""
    return wire.decode(Template, row.document, strict=False)


def users(view: View, template_id: TemplateId) -> tuple[VmView, ...]:
    """Return the VMs that need a template, by name."""
    return all_users(view).get(template_id, ())


def all_users(view: View) -> Mapping[TemplateId, tuple[VmView, ...]]:
    """Return the VMs that need each template, by name: all VMs are looked at once."""
    found: dict[TemplateId, list[VmView]] = {}
    for vm in view.vms.values():
        if vm.template_id is not None:
            found.setdefault(vm.template_id, []).append(vm)
    return {
        key: tuple(sorted(each, key=lambda vm: (vm.name, vm.vm_id)))
        for key, each in found.items()
    }


def spec(
    view: View,
    template_id: TemplateId,
    vm_id: VmId,
    name: str,
    *,
    is_clone: bool = False,
    places: Mapping[DiskId, StorageDomainId] | None = None,
) -> VmSpec:
    """Return the VM; TemplateNotFound, NoCopyThere.

    Asked again for a VM that is there, its cards have the addresses that they have.
    """
    template = template_of(routes.template(view, template_id))
    known = view.vms.get(vm_id)
    addresses: tuple[str, ...] = ()
    if known is not None and known.vm_document:
        made = wire.decode(Vm, known.vm_document, strict=False).spec
        addresses = tuple(nic.mac for nic in made.nics)
    if len(addresses) != len(template.spec.nics):
        addresses = tuple(
            macs.free_mac(view, f"{vm_id}/{nic.nic_id}") for nic in template.spec.nics
        )
    chosen = dict(places or {})
    if not is_clone:
        _check_copies(view, template, chosen)
    return made_of.spec(
        template, vm_id, name, addresses, is_clone=is_clone, places=chosen
    )


def make_vm(
    orders: Orders,
    wanted: VmSpec,
    origin: Origin,
    data_node_id: NodeId | None = None,
) -> Order:
    """Order a VM that `spec` has made; NameTaken, NoManager, NoNodeFits.

    `data_node_id` copies the disks of a clone; None: one is chosen.
    """
    if wanted.is_clone:
        return orders.clone_vm(wanted, origin, data_node_id=data_node_id)
    return orders.create_vm(wanted, origin)


def changed(
    wanted: VmSpec, *, memory_bytes: int | None, description: str | None
) -> VmSpec:
    """Return a VM with what differs from its template."""
    return replace(
        wanted,
        memory_bytes=memory_bytes or wanted.memory_bytes,
        description=wanted.description if description is None else description,
    )


def _check_copies(
    view: View, template: Template, places: Mapping[DiskId, StorageDomainId]
) -> None:
    for disk in template.spec.disks:
        row, place = view.disks.get(disk.disk_id), places.get(disk.disk_id)
        if place is None or row is None or place in row.storage_domain_ids:
            continue
        where = routes.domain(view, place).name
        raise NoCopyThere(
            f"disk {disk.name} of template {template.name} does not lie on {where}",
            disk_id=disk.disk_id,
            storage_domain_id=place,
        )
