"""Show the VMs and templates that wait on a storage domain, and register one.

What waits is read from the storage when it is asked for. Disks never wait: all that
lie on an active storage domain are known.
"""

import itertools
import uuid
from collections.abc import Iterable
from dataclasses import replace

from aggregator import registering
from aggregator.control.order import Order
from aggregator.control.registering import VmNotLying
from aggregator.federation.view import View, VmView
from aggregator.rest import networks, parents, replies
from aggregator.rest.body import Body, Incomplete
from aggregator.rest.call import Call, NoSuchObject, Reply
from aggregator.rest.devices import VmRow
from aggregator.rest.resource import Context
from aggregator.rest.storage import Domain
from aggregator.rest.templates import Template
from node.model import export_verbs
from node.model.exports import RemoveExported
from node.model.ids import TemplateId, VmId
from node.model.job import JobState
from node.model.templates import Template as Kept
from node.model.unregistered import NetworkChange, RegisterVm, UnregisteredVm
from node.model.vm import Vm, VmState, Wanted

# It reads the definition and writes it anew: clients look for the VM right after.
_REGISTER_S = 20.0
_REMOVE_S = 20.0
_REMOVE = export_verbs.STORAGE_DOMAIN_REMOVE_EXPORTED


def rows(context: Context, domain: Domain) -> Iterable[VmRow]:
    """Yield the VMs that wait on a storage domain."""
    for each in context.lying(domain.row.storage_domain_id).vms:
        if not each.is_template:
            yield _row(domain, each)


def template_rows(context: Context, domain: Domain) -> Iterable[Template]:
    """Yield the templates that wait on a storage domain."""
    for each in context.lying(domain.row.storage_domain_id).vms:
        if each.is_template:
            template_id = TemplateId(each.spec.vm_id)
            since, generation = domain.row.since, each.generation
            kept = Kept(template_id, each.spec, generation, since)
            yield Template(template_id, each.spec.name, kept=kept)


def register(call: Call, domain: Domain, ids: tuple[str, ...]) -> Reply:
    """Make a VM, or a template, of what waits; what is there is left as it is."""
    request = _request(call, domain, VmId(ids[0]))
    wanted = request.as_vm_id or request.vm_id
    if _is_there(call.context.view, wanted):
        return Reply(replies.action(call, None))
    order = replies.wait(call, _order(call, domain, request), _REGISTER_S)
    if order.state is JobState.DONE:
        replies.see(call, lambda view: _is_there(view, wanted))
    return Reply(replies.action(call, order))


def bring(call: Call, domain: Domain, ids: tuple[str, ...]) -> Reply:
    """Make a VM, or a template, of what was exported: its disks are copied.

    What oVirt's clients say of snapshots means nothing: none comes along.
    """
    place = parents.storage_domain(call.context, call.body.child("storage_domain"))
    if place is None:
        raise Incomplete("Action [storageDomain.id|name] required for import")
    asked = _request(call, domain, VmId(ids[0]))
    request = replace(asked, to_storage_domain_id=place.storage_domain_id)
    return replies.follow(call, _order(call, domain, request))


def remove(call: Call, domain: Domain, ids: tuple[str, ...]) -> Reply:
    """Remove what was exported, and wait until it is gone unless the caller does not.

    Clients tell by the id alone; what waits on another storage domain is refused.
    """
    request, verb = RemoveExported(VmId(ids[0])), _REMOVE
    order = replies.storage_order(call, verb, domain.row.storage_domain_id, request)
    return Reply(replies.action(call, replies.wait(call, order, _REMOVE_S)))


def _order(call: Call, domain: Domain, request: RegisterVm) -> Order:
    try:
        return registering.register(
            call.services,
            domain.row.storage_domain_id,
            request,
            call.origin,
            renews_macs=bool(call.body.boolean("reassign_bad_macs"))
            or request.as_vm_id is not None,
        )
    except VmNotLying as error:
        vm_id = request.vm_id
        raise NoSuchObject(f"there is no VM {vm_id}", vm_id=vm_id) from error


def _is_there(view: View, vm_id: VmId) -> bool:
    return vm_id in view.vms or TemplateId(vm_id) in view.templates


def _request(call: Call, domain: Domain, vm_id: VmId) -> RegisterVm:
    """Return what is asked; clusters need no mapping, as a pool has but one."""
    body = call.body
    is_partial = bool(body.boolean("allow_partial_import"))
    name = body.string("vm/name") or body.string("template/name")
    is_clone = bool(body.boolean("clone"))
    return RegisterVm(
        vm_id,
        name,
        _clone_id(call, domain, vm_id, name) if is_clone else None,
        tuple(_network(call, each) for each in _mappings(body)),
        may_lose_disks=is_partial,
        # A card whose network is not there is left out, as oVirt unplugs it.
        may_lose_nics=True,
    )


def _clone_id(call: Call, domain: Domain, vm_id: VmId, name: str | None) -> VmId:
    """Return a clone's id: asked twice, it is the same VM, until that is deleted."""
    space = uuid.UUID(domain.row.storage_domain_id)
    words = f"clone of {vm_id} as {name or ''}"
    turns = (f"{words} {turn}" if turn else words for turn in itertools.count())
    ids = (VmId(str(uuid.uuid5(space, each))) for each in turns)
    return next(each for each in ids if not call.services.orders.was_deleted(each))


def _mappings(body: Body) -> Iterable[Body]:
    yield from body.all("vnic_profile_mappings/vnic_profile_mapping")
    yield from body.all(
        "registration_configuration/vnic_profile_mappings/"
        "registration_vnic_profile_mapping"
    )


def _network(call: Call, mapping: Body) -> NetworkChange:
    """Return what a mapping means; a target that is not there drops the card."""
    source = mapping.string("source_network_name") or mapping.string(
        "from/network/name"
    )
    target = mapping.child("target_vnic_profile")
    target = target if target.is_present else mapping.child("to")
    for each in networks.in_use(call.context):
        if each.profile_id == target.object_id() or each.name == target.string("name"):
            return NetworkChange(source or "", each.name)
    return NetworkChange(source or "", "")


def _row(domain: Domain, each: UnregisteredVm) -> VmRow:
    spec, written_at = each.spec, domain.row.since
    vm = Vm(spec, each.generation, written_at)
    view = VmView(
        *(spec.vm_id, spec.name, domain.row.node_id, VmState.DOWN, Wanted.DOWN),
        *(written_at, None, spec.memory_bytes, spec.cpu.count),
        description=spec.description,
        generation=each.generation,
        created_at=written_at,
        pool_id=spec.pool_id,
    )
    return VmRow(view, vm, None)
