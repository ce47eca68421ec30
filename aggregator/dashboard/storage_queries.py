"""Find disks, storage domains and templates by what is typed: see `queries`.

Pure. Words must all occur in the name, the id, the storage domains' names or the
names of the VMs that use a disk. A page without a question looks at no disk.
"""

from collections.abc import Callable

from aggregator.control import templating
from aggregator.dashboard import queries, storage_alarms, storage_signs
from aggregator.dashboard.queries import Query, Term
from aggregator.federation import view as views
from aggregator.federation.view import DiskRow, StorageDomainRow, TemplateRow, View
from node.model.ids import StorageDomainId, VmId
from node.model.storage import DiskState

# Gets the folded name, which the View's order has already, beside the disk.
DiskTest = Callable[[str, DiskRow], bool]
DomainTest = Callable[[StorageDomainRow], bool]
TemplateTest = Callable[[TemplateRow], bool]
_Fits = Callable[[str], bool]


def find_disks(view: View, query: Query) -> list[DiskRow]:
    """Return the disks that are meant, by name."""
    found = [(name, view.disks[each]) for name, each in view.disk_order]
    for term in query.terms:
        fits = _disk_test(view, term)
        found = [each for each in found if fits(*each) is not term.is_negated]
    return [disk for _, disk in found]


def find_domains(view: View, query: Query) -> list[StorageDomainRow]:
    """Return the storage domains that are meant, by name."""
    found = [view.storage_domains[each] for _, each in view.storage_domain_order]
    for term in query.terms:
        fits = _domain_test(view, term)
        found = [each for each in found if fits(each) is not term.is_negated]
    return found


def find_templates(view: View, query: Query) -> list[TemplateRow]:
    """Return the templates that are meant, by name and version."""
    found = [view.templates[each] for _, each in view.template_order]
    found.sort(key=lambda row: (views.fold(row.name), row.version))
    for term in query.terms:
        fits = _template_test(view, term)
        found = [each for each in found if fits(each) is not term.is_negated]
    return found


def _disk_test(view: View, term: Term) -> DiskTest:
    """Return a test of one term; what many disks share is looked at once."""
    fits = queries.matcher(term)
    match term.field:
        case "name":
            return lambda name, disk: fits(name)
        case "status":
            states = {each for each in DiskState if queries.fits_state(fits, each)}
            return lambda name, disk: disk.state in states
        case "storage":
            return _on(queries.domains_that_fit(view, fits))
        case "vm":
            return _used_by(view, fits)
        case "id":
            return lambda name, disk: fits(disk.disk_id)
        case "alert":
            return lambda name, disk: fits(
                queries.yes_or_no(storage_alarms.is_disk_alarming(disk))
            )
        case "node" | "address" | "description":  # a list knows none of a disk
            return lambda name, disk: fits("")
    is_there = _on(queries.domains_that_fit(view, fits))
    is_used = _used_by(view, fits)
    return lambda name, disk: (
        fits(name) or fits(disk.disk_id) or is_there(name, disk) or is_used(name, disk)
    )


def _on(places: set[StorageDomainId]) -> DiskTest:
    return lambda name, disk: not places.isdisjoint(disk.storage_domain_ids)


def _used_by(view: View, fits: _Fits) -> DiskTest:
    """Return a test of the VMs' names; no VM at all is an empty name."""
    is_unused_meant = fits("")
    users: set[VmId] = {vm_id for name, vm_id in view.vm_order if fits(name)}

    def is_used(_name: str, disk: DiskRow) -> bool:
        of_disk = view.disk_users.get(disk.disk_id)
        return is_unused_meant if not of_disk else not users.isdisjoint(of_disk)

    return is_used


def _domain_test(view: View, term: Term) -> DomainTest:
    fits = queries.matcher(term)
    match term.field:
        case "name" | "storage":
            return lambda row: fits(views.fold(row.name))
        case "status":
            return lambda row: queries.fits_state(fits, row.state)
        case "description":
            return lambda row: fits(views.fold(row.description))
        case "id":
            return lambda row: fits(row.storage_domain_id)
        case "node":
            return lambda row: any(
                fits(views.fold(view.nodes[each].name))
                for each in row.sights
                if each in view.nodes
            )
        case "alert":
            return lambda row: fits(
                queries.yes_or_no(storage_alarms.is_domain_alarming(view, row))
            )
        case "vm" | "address":
            return lambda row: fits("")
    return lambda row: any(
        fits(views.fold(text))
        for text in (
            row.name,
            row.description,
            row.storage_domain_id,
            storage_signs.KINDS[row.kind],
        )
    )


def _template_test(view: View, term: Term) -> TemplateTest:
    fits = queries.matcher(term)
    match term.field:
        case "name":
            return lambda row: fits(views.fold(row.name))
        case "description":
            return lambda row: any(map(fits, _words_of(row)))
        case "id":
            return lambda row: fits(row.template_id)
        case "storage":
            return _holds(view, queries.domains_that_fit(view, fits))
        case "vm":
            return _needed_by(view, fits)
        case "alert":  # a template has no state that could be a wrong one
            return lambda row: fits(queries.yes_or_no(is_so=False))
        case "status" | "node" | "address":
            return lambda row: fits("")
    is_there = _holds(view, queries.domains_that_fit(view, fits))
    return lambda row: (
        fits(views.fold(row.name))
        or fits(row.template_id)
        or any(map(fits, _words_of(row)))
        or is_there(row)
    )


def _words_of(row: TemplateRow) -> tuple[str, str]:
    """Return what people wrote about a template."""
    template = templating.template_of(row)
    return views.fold(template.spec.description), views.fold(template.version_name)


def _holds(view: View, places: set[StorageDomainId]) -> TemplateTest:
    """Return a test of where the disks of a template lie."""

    def lies(row: TemplateRow) -> bool:
        disks = (view.disks.get(each) for each in row.disk_ids)
        return any(
            disk is not None and not places.isdisjoint(disk.storage_domain_ids)
            for disk in disks
        )

    return lies


def _needed_by(view: View, fits: _Fits) -> TemplateTest:
    """Return a test of the VMs' names; no VM at all is an empty name."""
    users, is_unused_meant = templating.all_users(view), fits("")

    def is_needed(row: TemplateRow) -> bool:
        vms = users.get(row.template_id, ())
        return any(fits(views.fold(vm.name)) for vm in vms) or (
            is_unused_meant and not vms
        )

    return is_needed
