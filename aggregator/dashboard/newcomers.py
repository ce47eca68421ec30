"""Serve the VMs that wait on a storage domain, and the registering of one."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import flask

from aggregator import registering
from aggregator.control import registering as deciding
from aggregator.dashboard import figures, questions, rows, storage, visits
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.questions import Field, Question
from aggregator.dashboard.routes import Route
from aggregator.dashboard.visits import Visit
from aggregator.federation.view import StorageDomainRow, View
from node.model import export_verbs
from node.model.exports import RemoveExported
from node.model.ids import StorageDomainId, VmId
from node.model.storage import DomainClass
from node.model.unregistered import (
    RegisterVm,
    Source,
    Unregistered,
    UnregisteredVm,
)
from node.model.verbs import ActionGroup, Object


@dataclass(frozen=True, slots=True)
class Line:
    vm_id: VmId
    name: str
    memory: str
    vcpus: int
    disks: int
    notes: list[str]


def show(pages: Pages, visit: Visit, storage_domain_id: str) -> flask.Response:
    """Return what came with a storage domain, as its manager reads it now."""
    row = storage.find(pages.services.mirror.view, storage_domain_id)
    found = _look(pages, storage_domain_id)
    return pages.show(
        visit,
        "newcomers.html",
        row=row,
        lines=[_line(pages, each) for each in found.vms],
        problems=[rows.whys(each, pages.translate) for each in found.problems],
    )


def ask(
    pages: Pages, visit: Visit, storage_domain_id: str, vm_id: str
) -> flask.Response:
    """Return the page that asks how a VM is to be registered."""
    row = storage.find(pages.services.mirror.view, storage_domain_id)
    found = deciding.find(_look(pages, storage_domain_id), vm_id)
    page = f"/ui/storage/{row.storage_domain_id}/unregistered"
    is_export = found.source is Source.EXPORT
    label, meaning = _IMPORT if is_export else _REGISTER
    targets = _targets(pages.services.mirror.view, row) if is_export else ()
    question = Question(
        f"{pages.translate(label)}: {found.spec.name}?",
        label,
        f"{page}/{vm_id}",
        page,
        meaning,
        (*targets, *_fields(found)),
    )
    return pages.show(visit, "question.html", question=question)


def do(
    pages: Pages, visit: Visit, storage_domain_id: str, vm_id: str
) -> flask.Response:
    """Order that a VM is registered."""
    row = storage.find(pages.services.mirror.view, storage_domain_id)
    request = _request(VmId(vm_id), visits.form())
    asked = pages.looks.take(
        lambda: registering.register(
            pages.services,
            row.storage_domain_id,
            request,
            visit.origin,
            renews_macs=True,
        )
    )
    return storage.answered(pages, asked, f"/ui/storage/{row.storage_domain_id}")


def ask_removal(
    pages: Pages, visit: Visit, storage_domain_id: str, vm_id: str
) -> flask.Response:
    """Return the page that asks whether an export is to be removed."""
    row = storage.find(pages.services.mirror.view, storage_domain_id)
    found = deciding.find(_look(pages, storage_domain_id), vm_id)
    page = f"/ui/storage/{row.storage_domain_id}/unregistered"
    question = Question(
        f"{pages.translate('Remove')}: {found.spec.name}?",
        "Remove",
        f"{page}/{vm_id}/remove",
        page,
        "It goes from there for good, with its disks. VMs of the fleet stay.",
        is_dangerous=True,
    )
    return pages.show(visit, "question.html", question=question)


def remove(
    pages: Pages, visit: Visit, storage_domain_id: str, vm_id: str
) -> flask.Response:
    """Order that an export is removed."""
    row = storage.find(pages.services.mirror.view, storage_domain_id)
    verb, request = (
        export_verbs.STORAGE_DOMAIN_REMOVE_EXPORTED,
        RemoveExported(VmId(vm_id)),
    )
    page = f"/ui/storage/{row.storage_domain_id}"
    return storage.order(pages, visit, verb, row.storage_domain_id, request, page)


def _look(pages: Pages, storage_domain_id: str) -> Unregistered:
    where = storage.find(pages.services.mirror.view, storage_domain_id)
    key = where.storage_domain_id
    return pages.looks.take(lambda: registering.lying(pages.services, key))


def _line(pages: Pages, each: UnregisteredVm) -> Line:
    spec, translate = each.spec, pages.translate
    notes = []
    if each.is_template:
        notes.append(translate("a template"))
    if each.snapshots:
        notes.append(f"{translate('snapshots')}: {each.snapshots}")
    if each.missing_disks:
        missing = len(each.missing_disks)
        notes.append(f"{translate('disks that are not here')}: {missing}")
    if each.may_run:
        notes.append(translate("it may run somewhere"))
    memory = figures.size(spec.memory_bytes)
    disks = len(spec.disks)
    return Line(spec.vm_id, spec.name, memory, spec.cpu.count, disks, notes)


def _targets(view: View, row: StorageDomainRow) -> Iterator[Field]:
    """Yield what asks where the disks of an import are to lie."""
    choices = (
        (each.storage_domain_id, each.name)
        for each in view.storage_domains.values()
        if each.pool_id == row.pool_id and each.domain_class is DomainClass.DATA
    )
    yield questions.choice("to", "Copy its disks to", choices)


def _fields(found: UnregisteredVm) -> Iterator[Field]:
    yield Field("name", "Name", found.spec.name)
    yield questions.tick("clone", "Give it another id: it may exist elsewhere")
    if found.missing_disks:
        yield questions.tick("may_lose_disks", "Without the disks that are not here")
    if found.spec.nics:
        yield questions.tick("may_lose_nics", "Without cards whose network is not here")
    if found.may_run:
        yield questions.tick("is_forced", "I made sure that it runs nowhere")


def _request(vm_id: VmId, form: Mapping[str, str]) -> RegisterVm:
    return RegisterVm(
        vm_id,
        form.get("name") or None,
        VmId(str(uuid.uuid4())) if form.get("clone") else None,
        may_lose_disks=bool(form.get("may_lose_disks")),
        may_lose_nics=bool(form.get("may_lose_nics")),
        is_forced=bool(form.get("is_forced")),
        to_storage_domain_id=StorageDomainId(form["to"]) if form.get("to") else None,
    )


# The button's text, and what it means.
_REGISTER: Final = (
    "Register",
    "It becomes a VM of the pool. Its disks stay where they are.",
)
_IMPORT: Final = (
    "Import",
    "A copy becomes a VM of the pool. What lies there stays as it is.",
)
_LIST: Final = "/ui/storage/<storage_domain_id>/unregistered"
_ON: Final = Object.STORAGE_DOMAIN
ROUTES: Final = (
    Route("GET", _LIST, show, ActionGroup.READ, _ON),
    Route("GET", f"{_LIST}/<vm_id>", ask, ActionGroup.CREATE_VM, _ON),
    Route("POST", f"{_LIST}/<vm_id>", do, ActionGroup.CREATE_VM, _ON),
    Route("GET", f"{_LIST}/<vm_id>/remove", ask_removal, ActionGroup.EXPORT_VM, _ON),
    Route("POST", f"{_LIST}/<vm_id>/remove", remove, ActionGroup.EXPORT_VM, _ON),
)
