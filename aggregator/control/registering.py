"""Say what is asked of a node to register a VM that came with a storage domain.

Pure. MAC addresses that a VM of the fleet has, or that are missing, are replaced; so
are all of a VM that gets another id, since its twin may come, too.
"""

from dataclasses import replace

from aggregator import macs
from aggregator.control.placing import NameTaken
from aggregator.federation import view as views
from aggregator.federation.view import View
from node.errors import Conflict, NotFound
from node.model.ids import TemplateId, VmId
from node.model.unregistered import (
    MacChange,
    RegisterVm,
    Source,
    Unregistered,
    UnregisteredVm,
)


class VmNotLying(NotFound):
    """No such VM came with the storage domain."""

    code = "vm_not_unregistered"
    remedy = "See `skerry storage unregistered`; it may be registered already."


class VmIsHere(Conflict):
    """A VM or template of that id is in the fleet, whatever pool it is in."""

    code = "vm_is_here"
    remedy = "Import it with another id."


def find(lying: Unregistered, vm_id: str) -> UnregisteredVm:
    """Return one of those that wait; VmNotLying."""
    for each in lying.vms:
        if each.spec.vm_id == vm_id:
            return each
    raise VmNotLying(f"VM {vm_id[:80]!a} does not wait there", vm_id=ascii(vm_id[:80]))


def request(
    view: View, found: UnregisteredVm, asked: RegisterVm, *, renews_macs: bool
) -> RegisterVm:
    """Return what the node is asked, with addresses that nobody has.

    Not `renews_macs`: an address that is taken is for the node to refuse. Raises
    NameTaken and VmIsHere.
    """
    vm_id = asked.as_vm_id or asked.vm_id
    name = found.spec.name if asked.name is None else asked.name
    is_here = vm_id in view.vms or TemplateId(vm_id) in view.templates
    if found.source is Source.EXPORT and is_here:
        raise VmIsHere(f"there is a VM {vm_id} already", vm_id=vm_id)
    if not found.is_template:
        _check_name(view, vm_id, name)
    if not renews_macs:
        return asked
    given = {each.nic_id for each in asked.macs}
    bad = tuple(
        nic
        for nic in found.spec.nics
        if nic.nic_id not in given
        and (asked.as_vm_id is not None or not nic.mac or macs.is_taken(view, nic.mac))
    )
    chosen = (
        MacChange(nic.nic_id, macs.free_mac(view, f"{vm_id}{nic.nic_id}"))
        for nic in bad
    )
    return replace(asked, macs=(*asked.macs, *chosen))


def _check_name(view: View, vm_id: VmId, name: str) -> None:
    folded = views.fold(name)
    for known, other_id in view.vm_order:
        if known == folded and other_id != vm_id:
            raise NameTaken(f"there is already a VM named {name}", name=name)
