"""Say what a list shows of a template. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from aggregator.control import templating
from aggregator.dashboard import figures
from aggregator.federation.view import TemplateRow, View, VmView
from node.model.ids import StorageDomainId, TemplateId, VmId


@dataclass(frozen=True, slots=True)
class TemplateLine:
    template_id: TemplateId
    name: str
    version: str
    description: str
    memory: str
    size: str  # of its disks
    places: tuple[tuple[StorageDomainId, str], ...]
    vms: tuple[tuple[VmId, str], ...]


def line(view: View, row: TemplateRow) -> TemplateLine:
    """Return what a list shows of one template."""
    return _line(view, row, templating.users(view, row.template_id))


def lines(view: View, rows: Iterable[TemplateRow]) -> list[TemplateLine]:
    """Return what a list shows of some; all VMs are looked at once."""
    users = templating.all_users(view)
    return [_line(view, row, users.get(row.template_id, ())) for row in rows]


def _line(view: View, row: TemplateRow, users: Iterable[VmView]) -> TemplateLine:
    template = templating.template_of(row)
    known = (view.disks.get(each) for each in row.disk_ids)
    ids = {place for disk in known if disk for place in disk.storage_domain_ids}
    domains = (view.storage_domains.get(each) for each in sorted(ids))
    number = f"{template.version} {template.version_name}".strip()
    return TemplateLine(
        row.template_id,
        row.name,
        number,
        template.spec.description,
        figures.size(template.spec.memory_bytes),
        figures.size(sum(disk.size_bytes for disk in template.spec.disks)),
        tuple((each.storage_domain_id, each.name) for each in domains if each),
        tuple((vm.vm_id, vm.name) for vm in users),
    )
