"""Export VMs and templates to export storage domains, as oVirt's clients ask for it."""

from aggregator.rest import parents, replies
from aggregator.rest.body import Incomplete
from aggregator.rest.call import Call, Reply
from aggregator.rest.devices import VmRow
from aggregator.rest.templates import Template
from node.model import export_verbs
from node.model.exports import ExportTemplate, ExportVm
from node.model.ids import StorageDomainId


def export(call: Call, row: VmRow) -> Reply:
    """Copy a VM as it is now: without its snapshots, whether or not that is asked."""
    request = ExportVm(_place(call), is_replacing=_is_replacing(call))
    verb = export_verbs.VM_EXPORT
    order = replies.storage_order(call, verb, row.vm.vm_id, request)
    return replies.follow(call, order)


def export_template(call: Call, row: Template) -> Reply:
    """Copy a template that lies on a pool."""
    request = ExportTemplate(_place(call), is_replacing=_is_replacing(call))
    verb = export_verbs.TEMPLATE_EXPORT
    order = replies.storage_order(call, verb, row.template_id, request)
    return replies.follow(call, order)


def _is_replacing(call: Call) -> bool:
    return call.body.boolean("exclusive") or False


def _place(call: Call) -> StorageDomainId:
    place = parents.storage_domain(call.context, call.body.child("storage_domain"))
    if place is None:
        raise Incomplete("Action [storageDomain.id|name] required for export")
    return place.storage_domain_id
