"""Serve the disks of all pools: the list, each of them, what may be done to it."""

import functools
import uuid
from collections.abc import Iterator, Mapping
from typing import Final

import flask

from aggregator.api import new_vm, vm_orders
from aggregator.api.model import AttachVmDisk
from aggregator.control import attaching
from aggregator.control.orders import Order
from aggregator.dashboard import (
    data_nodes,
    disk_limits,
    disk_rows,
    disk_signs,
    drafts,
    figures,
    listing,
    queries,
    questions,
    rows,
    storage,
    storage_drafts,
    storage_rows,
    visits,
    vms,
)
from aggregator.dashboard import routes as routing
from aggregator.dashboard.disk_signs import DiskAction
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.questions import Field, Kind, Question
from aggregator.dashboard.routes import Route
from aggregator.dashboard.visits import Visit
from aggregator.federation.view import DiskRow, View, VmView
from aggregator.policies.profiles import Profiles
from node.errors import NotFound
from node.model import storage_requests as bodies
from node.model import storage_verbs as verbs
from node.model.ids import DiskId, StorageDomainId
from node.model.storage import (
    ContentType,
    DiskDocument,
    DiskFormat,
    DomainClass,
    DomainState,
)
from node.model.verbs import ActionGroup, Object, Verb
from node.model.vm import DiskInterface
from node.units import GiB

PAGE: Final = "/ui/disks"
_WIPES: Final = (("no", "its space is given back"), ("yes", "it is overwritten first"))
_SHARES: Final = (("no", "one VM"), ("yes", "several VMs at once"))
_TRUTHS: Final = {"yes": True, "no": False}
_CHANGE_S: Final = 10.0  # QEMU makes a disk larger, or plugs it in, at once


class NoSuchDisk(NotFound):
    code = "no_such_disk"
    remedy = "It may have been deleted: look in the list of disks."


def show_all(pages: Pages, visit: Visit) -> flask.Response:
    """Return the list of disks."""
    moment = pages.moments.now()
    query = queries.parse(routing.query_text())
    page = listing.disk_page(moment.view, query, routing.page_number())
    offered = storage_drafts.disk_places(moment.view)
    return pages.show(
        visit,
        "disks.html",
        moment,
        page=page,
        disks=[
            disk_rows.disk_line(moment.view, each, pages.translate)
            for each in page.items
        ],
        query=routing.query_text(),
        places=[
            (each, f"{name}, {figures.size(free)} free") for each, name, free in offered
        ],
    )


def show(pages: Pages, visit: Visit, disk_id: str) -> flask.Response:
    """Return the page of a disk, or of the order that makes it."""
    moment = pages.moments.now()
    view = moment.view
    orders = storage.orders_about(pages, disk_id)
    row = view.disks.get(DiskId(disk_id))
    if row is None and orders and orders[0].verb != "disk_delete":
        return pages.show_coming(visit, moment, "/ui/disks", "Disks", orders)
    row = find(view, disk_id)
    told = disk_rows.document(row)
    return pages.show(
        visit,
        "disk.html",
        moment,
        row=row,
        line=disk_rows.disk_line(view, row, pages.translate),
        chains=disk_rows.whys(view, row, told, pages.translate),
        facts=list(_facts(view, row, told, pages.services.orders.profiles.now())),
        volumes=disk_rows.chain(told),
        since=told.since,
        jobs=[rows.task_row(each, view, pages.translate) for each in orders],
    )


def ask(action: DiskAction, pages: Pages, visit: Visit, disk_id: str) -> flask.Response:
    """Return the page that asks what exactly is meant."""
    view = pages.services.mirror.view
    row = find(view, disk_id)
    question = Question(
        f"{pages.translate(action.label)}: {disk_rows.name(row)}",
        action.label,
        f"{_page(row)}/{action.name}",
        _page(row),
        action.meaning,
        _fields(action, view, row, pages.services.orders.profiles.now()),
        action.is_dangerous,
        "/ui/disks" if action.name == "delete" else "",
    )
    return pages.show(visit, "question.html", question=question)


def do(action: DiskAction, pages: Pages, visit: Visit, disk_id: str) -> flask.Response:
    """Order an action."""
    row = find(pages.services.mirror.view, disk_id)
    if action.group is ActionGroup.ATTACH_DISK:
        order = _change_vm(action, pages, visit, row)
        return storage.answered(pages, order, _page(row))
    if action.name == "profile":
        words = (row.disk_id, visits.form().get("profile_id", ""))
        view = pages.services.mirror.view
        pages.services.orders.profiles.choose(view, *words, row.storage_domain_ids)
        return routing.done(pages, _page(row))
    verb, request = _request(action, visits.form(), row)
    runner = attaching.runner_of(pages.services.mirror.view, row.disk_id)
    if isinstance(request, bodies.ResizeDisk) and runner is not None:
        order = _grow(pages, visit, runner, row, request.size_bytes)
        return storage.answered(pages, order, _page(row))
    return storage.order(pages, visit, verb, row.disk_id, request, _page(row))


def _grow(
    pages: Pages, visit: Visit, vm: VmView, row: DiskRow, size_bytes: int
) -> Order:
    """Let a disk grow under its guest: on one node, then on the other."""
    orders, view = pages.services.orders, pages.services.mirror.view

    def wait(order: Order) -> Order:
        return orders.wait(order.order_id, _CHANGE_S)

    words = (orders, view, vm, row.disk_id, size_bytes, visit.origin, wait)
    return attaching.resize(*words).order


def _change_vm(action: DiskAction, pages: Pages, visit: Visit, row: DiskRow) -> Order:
    """Give a VM a disk, or take it away: on one node, then on the other."""
    said, orders, view = (
        visits.form(),
        pages.services.orders,
        pages.services.mirror.view,
    )
    vm = vms.find(view, said.get("vm_id", ""))

    def wait(order: Order) -> Order:
        return orders.wait(order.order_id, _CHANGE_S)

    if action.name == "detach":
        words = (orders, view, vm, row.disk_id, visit.origin, wait)
        return vm_orders.whole(vm, attaching.detach(*words))
    interface = said.get("interface", "")
    if interface not in list(DiskInterface):
        raise drafts.BadDraft(
            "the disk needs a bus of those offered", field="interface"
        )
    asked = AttachVmDisk(
        row.disk_id,
        bool(said.get("bootable")),
        bool(said.get("read_only")),
        DiskInterface(interface),
    )
    disk = new_vm.existing_disk(view, asked)
    change = attaching.attach(orders, view, vm, disk, visit.origin, wait)
    return vm_orders.whole(vm, change)


def find(view: View, disk_id: str) -> DiskRow:
    """Return a disk of the View; NoSuchDisk if there is none of that id."""
    row = view.disks.get(DiskId(disk_id))
    if row is None:
        raise NoSuchDisk(f"there is no disk {disk_id}")
    return row


def places(view: View, row: DiskRow, *, elsewhere: bool) -> list[tuple[str, str]]:
    """Return the storage domains of a disk's pool that could take it, with names."""
    content = disk_rows.document(row).content
    return [
        (each.storage_domain_id, f"{each.name}, {figures.size(each.free_bytes)} free")
        for each in storage_rows.domains_of(view, row.pool_id)
        if each.state is DomainState.ACTIVE
        and (each.domain_class is DomainClass.DATA or content is ContentType.ISO)
        and not (elsewhere and each.storage_domain_id in row.storage_domain_ids)
    ]


def _fields(
    action: DiskAction, view: View, row: DiskRow, profiles: Profiles
) -> tuple[Field, ...]:
    match action.name:
        case "resize":
            size = f"{row.size_bytes / GiB:g}"
            return (Field("size_gib", "New size, GiB", size, Kind.NUMBER),)
        case "move":
            offered = places(view, row, elsewhere=True)
            return (
                questions.choice("storage_domain_id", "To", offered),
                *data_nodes.fields(view, row.pool_id),
            )
        case "copy":
            offered = places(view, row, elsewhere=False)
            return (
                Field("name", "Name of the copy", f"{disk_rows.name(row)}-copy"),
                questions.choice("storage_domain_id", "To", offered),
                *data_nodes.fields(view, row.pool_id),
                # sent twice, it is one copy
                questions.hidden("disk_id", str(uuid.uuid4())),
            )
        case "sparsify":
            return data_nodes.fields(view, row.pool_id)
        case "uncopy":
            held = [
                (each, view.storage_domains[each].name)
                for each in row.storage_domain_ids
                if each in view.storage_domains
            ]
            return (questions.choice("storage_domain_id", "From", held),)
        case "attach":
            buses = [(each.value, name) for each, name in disk_signs.BUSES.items()]
            return (
                questions.choice("vm_id", "VM", _vms(view, row)),
                questions.choice("interface", "Bus", buses),
                questions.tick("bootable", "It may be started from"),
                questions.tick("read_only", "The guest cannot write to it"),
            )
        case "detach":
            named = disk_rows.disk_line(view, row, str).users
            return (questions.choice("vm_id", "From", named),)
        case "edit":
            return tuple(_editable(row, disk_rows.document(row)))
        case "profile":
            return (_profile_field(view, row, profiles),)
        case "limit":
            return disk_limits.fields(disk_rows.document(row).qos)
    return ()


def _profile_field(view: View, row: DiskRow, profiles: Profiles) -> Field:
    own = profiles.of(view, row)
    offered = [
        (each.profile_id, each.name)
        for place in row.storage_domain_ids
        if place in view.storage_domains
        for each in profiles.on(view.storage_domains[place])
    ]
    chosen = own.profile_id if own is not None else ""
    return questions.choice("profile_id", "Disk profile", offered, chosen)


def _editable(row: DiskRow, told: DiskDocument) -> Iterator[Field]:
    """Yield what can be edited; only data in raw format are ever shared."""
    wiped = "yes" if told.wipe_after_delete else "no"
    shared = "yes" if told.is_shared else "no"
    yield Field("name", "Name", row.name)
    yield Field("description", "Description", told.description, is_optional=True)
    yield questions.choice("wipe", "When deleted", _WIPES, wiped)
    if told.content is ContentType.DATA and told.disk_format is DiskFormat.RAW:
        yield questions.choice("shared", "May be used by", _SHARES, shared)


def _vms(view: View, row: DiskRow) -> list[tuple[str, str]]:
    """Return the VMs of a disk's pool, with names."""
    return sorted(
        ((each.vm_id, each.name) for each in view.vms.values() if _may_have(each, row)),
        key=lambda each: each[1].casefold(),
    )


def _may_have(vm: VmView, row: DiskRow) -> bool:
    return row.pool_id is not None and vm.pool_id == row.pool_id


def _request(
    action: DiskAction, form: Mapping[str, str], row: DiskRow
) -> tuple[Verb, object]:
    place = StorageDomainId(form.get("storage_domain_id", ""))
    data_node_id = data_nodes.chosen(form)
    match action.name:
        case "resize":
            size_bytes = drafts.gib(form.get("size_gib", ""), "size_gib", "size")
            return verbs.DISK_RESIZE, bodies.ResizeDisk(size_bytes or row.size_bytes)
        case "move":
            return verbs.DISK_MOVE, bodies.MoveDisk(place, data_node_id)
        case "copy":
            copy_id = drafts.given_id(form.get("disk_id", ""))
            name = form.get("name") or None
            return verbs.DISK_COPY, bodies.CopyDisk(
                DiskId(copy_id), place, name, data_node_id=data_node_id
            )
        case "edit":
            return verbs.DISK_CHANGE, bodies.ChangeDisk(
                form.get("name") or None,
                form.get("description"),
                _TRUTHS.get(form.get("shared", "")),
                _TRUTHS.get(form.get("wipe", "")),
            )
        case "limit":
            return verbs.DISK_CHANGE, bodies.ChangeDisk(qos=disk_limits.read(form))
        case "sparsify":
            return verbs.DISK_SPARSIFY, bodies.SparsifyDisk(data_node_id)
        case "uncopy":
            if not place:
                raise drafts.BadDraft(
                    "a copy must be chosen", field="storage_domain_id"
                )
            return verbs.DISK_DELETE, bodies.ActOnDisk(storage_domain_id=place)
    return verbs.DISK_DELETE, bodies.ActOnDisk()


def _facts(
    view: View, row: DiskRow, told: DiskDocument, profiles: Profiles
) -> Iterator[tuple[str, str]]:
    """Yield what a disk is: what it is called, what it is."""
    profile = profiles.of(view, row)
    pool = view.pools.get(row.pool_id) if row.pool_id is not None else None
    yield "Size for the guest", figures.size(row.size_bytes)
    yield "Takes now", figures.size(row.allocated_bytes)
    yield "Holds", disk_signs.CONTENTS.get(told.content, told.content.value)
    yield "Format", told.disk_format.value
    yield "Allocation", told.allocation.value
    yield "Shared", "several VMs may run with it at once" if told.is_shared else ""
    yield "When deleted", "it is wiped" if told.wipe_after_delete else ""
    yield "Limited to", disk_limits.text(told.qos)
    yield "Disk profile", profile.name if profile is not None else ""
    yield "Description", told.description
    yield "Pool", pool.name if pool is not None else ""
    if told.template_id is not None:
        template = view.templates.get(told.template_id)
        yield "Of template", template.name if template is not None else ""
    yield "Id", row.disk_id


def _page(row: DiskRow) -> str:
    return f"/ui/disks/{row.disk_id}"


_ONE: Final = "/ui/disks/<disk_id>"
ROUTES: Final = (
    Route("GET", PAGE, show_all, ActionGroup.READ, Object.FLEET),
    Route("GET", _ONE, show, ActionGroup.READ, Object.DISK),
    *(
        Route(
            method,
            f"{_ONE}/{each.name}",
            functools.partial(handler, each),
            each.group,
            Object.DISK,
        )
        for method, handler in (("GET", ask), ("POST", do))
        for each in disk_signs.DISK_ACTIONS
    ),
)
