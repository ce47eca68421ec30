"""Turn what the View holds of disks into rows of a page. Pure.

A disk's document is read for the rows that are shown, never for a whole list.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from aggregator.dashboard import disk_signs, figures, rows, storage_rows
from aggregator.dashboard.disk_signs import DiskAction
from aggregator.dashboard.rows import Bar, Translate, Why
from aggregator.dashboard.signs import Sign
from aggregator.dashboard.storage_signs import DISPUTED
from aggregator.federation import view as views
from aggregator.federation.view import DiskRow, View
from node import wire
from node.model.ids import DiskId, StorageDomainId, TemplateId, VmId
from node.model.reason import Reason
from node.model.storage import ContentType, DiskDocument, DiskState
from node.model.vm import Disk


@dataclass(frozen=True, slots=True)
class DiskLine:
    """A disk as a row of a list."""

    disk_id: DiskId
    name: str
    description: str
    what: str  # qcow2, thin
    sign: Sign
    why: str
    size: str
    allocated: Bar
    places: tuple[tuple[StorageDomainId, str], ...]
    users: tuple[tuple[VmId, str], ...]
    actions: tuple[DiskAction, ...]
    template: tuple[TemplateId, str] | None = None  # it is one's


@dataclass(frozen=True, slots=True)
class VmDiskLine:
    """A disk of a VM; without a sign no manager has told of it yet."""

    name: str
    size: str
    image: str
    bus: str
    is_bootable: bool
    disk_id: DiskId | None  # None: it has no page
    places: tuple[tuple[StorageDomainId, str], ...]
    sign: Sign | None
    why: str


def document(row: DiskRow) -> DiskDocument:
    """Return all that the manager of its pool says of a disk."""
    return wire.decode(DiskDocument, row.document, strict=False)


def disk_line(view: View, row: DiskRow, translate: Translate) -> DiskLine:
    """Return a disk as a row of a list."""
    told = document(row)
    first = next(iter(reasons(view, row, told)), None)
    users = view.disk_users.get(row.disk_id, ())
    what = [told.disk_format.value, told.allocation.value]
    if told.content is not ContentType.DATA:
        what.insert(0, disk_signs.CONTENTS.get(told.content, told.content.value))
    return DiskLine(
        row.disk_id,
        name(row),
        told.description,
        ", ".join(what),
        sign(row),
        rows.why(first, translate).text if first else "",
        figures.size(row.size_bytes),
        replace(
            rows.size_bar("Takes", row.allocated_bytes, row.size_bytes),
            may_be_full=True,
        ),
        places(view, row),
        tuple((each, view.vms[each].name) for each in users if each in view.vms),
        disk_signs.disk_actions(
            row.state,
            told.content,
            is_used=bool(users) or told.template_id is not None,
            has_vm=bool(users),
            has_copies=len(row.storage_domain_ids) > 1,
        ),
        _owner(view, told),
    )


def _owner(view: View, told: DiskDocument) -> tuple[TemplateId, str] | None:
    """Return the template that a disk is a part of, with its name."""
    row = view.templates.get(told.template_id) if told.template_id else None
    return (row.template_id, row.name) if row is not None else None


def name(row: DiskRow) -> str:
    """Return what a disk is called; some that others made have no name."""
    return row.name or row.disk_id


def sign(row: DiskRow) -> Sign:
    """Return the sign of a disk, as the manager of its pool tells."""
    return DISPUTED if row.is_disputed else disk_signs.DISK_SIGNS[row.state]


def places(view: View, row: DiskRow) -> tuple[tuple[StorageDomainId, str], ...]:
    """Return the storage domains that a disk lies on, with their names."""
    return tuple(
        (each, place.name if (place := view.storage_domains.get(each)) else each)
        for each in row.storage_domain_ids
    )


def reasons(view: View, row: DiskRow, told: DiskDocument) -> tuple[Reason, ...]:
    """Return why a disk is not as wanted."""
    found = (told.reason, views.staleness(view, row), *told.chain.problems)
    return storage_rows.each_once(found)


def whys(
    view: View, row: DiskRow, told: DiskDocument, translate: Translate
) -> list[tuple[Why, ...]]:
    """Return the same in words, each with all that caused it."""
    return [rows.whys(each, translate) for each in reasons(view, row, told)]


def chain(told: DiskDocument) -> list[tuple[str, str]]:
    """Return the volumes of a disk from the base on: what each is, its id."""
    chain = told.chain
    found = [("of the template", str(chain.template))] if chain.template else []
    last = len(chain.volumes) - 1
    for place, volume_id in enumerate(chain.volumes):
        what = "newest" if place == last else "in between" if place else "base"
        what = "the only one" if last == 0 else what
        found.append((what, str(volume_id)))
    return found


def _template(view: View, disk: Disk) -> str:
    """Return the name of the template that a disk started as; empty: of none."""
    if disk.from_disk_id is None:
        return ""
    for row in view.templates.values():
        if disk.from_disk_id in row.disk_ids:
            return row.name
    return ""


def vm_disks(
    view: View, disks: tuple[Disk, ...], translate: Translate
) -> Iterator[VmDiskLine]:
    """Yield the disks of a VM, in its own order."""
    for disk in disks:
        row = view.disks.get(disk.disk_id)
        size_bytes = row.size_bytes if row is not None else disk.size_bytes
        why = ""
        if row is not None and row.state is not DiskState.OK:
            first = next(iter(reasons(view, row, document(row))), None)
            why = rows.why(first, translate).text if first else ""
        place = disk.storage_domain_id
        named = view.storage_domains.get(place) if place is not None else None
        yield VmDiskLine(
            disk.name,
            figures.size(size_bytes) if size_bytes else "",
            disk.image or _template(view, disk),
            disk_signs.BUSES[disk.interface],
            disk.is_bootable,
            disk.disk_id if row is not None else None,
            places(view, row)
            if row is not None
            else ((place, named.name if named else place),)
            if place is not None
            else (),
            sign(row) if row is not None else None,
            why,
        )
