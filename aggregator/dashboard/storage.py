"""Serve the storage: data centers with their pools, and each storage domain."""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import flask

from aggregator.control import routes as control
from aggregator.control.orders import Order, Orders, Origin
from aggregator.dashboard import (
    data_centers,
    disk_rows,
    figures,
    listing,
    queries,
    questions,
    rows,
    storage_drafts,
    storage_rows,
    storage_signs,
    visits,
)
from aggregator.dashboard import routes as routing
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.questions import Field, Question
from aggregator.dashboard.routes import Route
from aggregator.dashboard.storage_rows import DomainLine, MemberLine, PoolLine
from aggregator.dashboard.storage_signs import DomainAction
from aggregator.dashboard.visits import Visit
from aggregator.federation.view import StorageDomainRow, View
from node.errors import NotFound
from node.model import storage_requests as bodies
from node.model import storage_verbs as verbs
from node.model.ids import DiskId, NodeId, PoolId, StorageDomainId
from node.model.storage import DomainState, DomainType, StorageDomain
from node.model.verbs import ActionGroup, Object, Verb

_ORDERS_SEARCHED: Final = 100
_DISKS_SHOWN: Final = 30


class NoSuchStorageDomain(NotFound):
    code = "no_such_storage_domain"
    remedy = "It may have been removed: look at the storage."


@dataclass(frozen=True, slots=True)
class Center:
    """A data center with the pool that its nodes share."""

    name: str
    pool: PoolLine | None  # None: it has none yet
    members: list[MemberLine]
    domains: list[DomainLine]


def show_all(pages: Pages, visit: Visit) -> flask.Response:
    """Return the page of all storage; `page` turns the nodes' own over."""
    moment = pages.moments.now()
    view = moment.view
    local = listing.local_page(view, routing.page_number())
    loose = [
        each
        for each in storage_rows.domains_of(view, None)
        if each.kind is not DomainType.LOCALFS
    ]
    return pages.show(
        visit,
        "storage.html",
        moment,
        centers=list(_centers(pages, view)),
        loose=[storage_rows.domain_line(view, each, pages.translate) for each in loose],
        page=local,
        local=[
            storage_rows.domain_line(view, each, pages.translate)
            for each in local.items
        ],
    )


def show(pages: Pages, visit: Visit, storage_domain_id: str) -> flask.Response:
    """Return the page of a storage domain, or of the order that makes it."""
    moment = pages.moments.now()
    view = moment.view
    jobs = orders_about(pages, storage_domain_id)
    row = view.storage_domains.get(StorageDomainId(storage_domain_id))
    if row is None and jobs:
        return pages.show_coming(visit, moment, "/ui/storage", "Storage", jobs)
    row = find(view, storage_domain_id)
    named = storage_rows.document(row.document).storage_domain
    query = queries.parse(f'storage="{row.name}"')
    disks = listing.disk_page(view, query, 1)
    return pages.show(
        visit,
        "storage_domain.html",
        moment,
        row=row,
        line=storage_rows.domain_line(view, row, pages.translate),
        chains=[
            rows.whys(each, pages.translate)
            for each in storage_rows.domain_reasons(view, row)
        ],
        facts=list(_facts(row, named)),
        sights=storage_rows.sight_lines(view, row, pages.translate),
        disks_total=disks.total,
        disks=[
            disk_rows.disk_line(view, each, pages.translate)
            for each in disks.items[:_DISKS_SHOWN]
        ],
        jobs=[rows.task_row(each, view, pages.translate) for each in jobs],
    )


def check(pages: Pages, visit: Visit, storage_domain_id: str) -> flask.Response:
    """Let its node read all disks anew, and return what is wrong with them."""
    view = pages.services.mirror.view
    row = find(view, storage_domain_id)
    node_id = row.node_id
    if row.pool_id is not None:
        node_id = control.manager(view, row.pool_id)
    found = pages.looks.take(
        lambda: pages.services.node(node_id).storage_domain_check(row.storage_domain_id)
    )
    return pages.show(visit, "storage_check.html", row=row, found=found)


def repair(pages: Pages, visit: Visit, storage_domain_id: str) -> flask.Response:
    """Order that what a check found is mended, of one disk or of all."""
    row = find(pages.services.mirror.view, storage_domain_id)
    disk_id = visits.form().get("disk_id", "")
    request = bodies.RepairStorage(DiskId(disk_id) if disk_id else None)
    verb = verbs.STORAGE_DOMAIN_REPAIR
    return order(pages, visit, verb, row.storage_domain_id, request, _page(row))


def ask(
    action: DomainAction, pages: Pages, visit: Visit, storage_domain_id: str
) -> flask.Response:
    """Return the page that asks whether an action is meant, and what it means."""
    row = find(pages.services.mirror.view, storage_domain_id)
    fields: tuple[Field, ...] = ()
    if action.tick:
        fields = (questions.tick("further", action.tick),)
    if action.name == "change":
        fields = storage_drafts.change_fields(
            storage_rows.document(row.document).storage_domain,
            rests=row.state is DomainState.MAINTENANCE,
        )
    if action.name == "attach":
        offered = data_centers.all_of(pages.services)
        fields = (questions.choice("data_center_id", "Data center", offered),)
    question = Question(
        f"{pages.translate(action.label)}: {row.name}?",
        action.label,
        f"{_page(row)}/{action.name}",
        _page(row),
        action.meaning,
        fields,
        action.name in ("detach", "remove"),
        "/ui/storage" if action.name in ("detach", "remove") else "",
    )
    return pages.show(visit, "question.html", question=question)


def do(
    action: DomainAction, pages: Pages, visit: Visit, storage_domain_id: str
) -> flask.Response:
    """Order an action."""
    row = find(pages.services.mirror.view, storage_domain_id)
    form = visits.form()
    asked = _ORDERED[action.name](
        pages.services.orders, row.storage_domain_id, visit.origin, form
    )
    return answered(pages, asked, _page(row))


def order(
    pages: Pages,
    visit: Visit,
    verb: Verb,
    object_id: str,
    request: object,
    page: str,
    node_id: NodeId | None = None,
) -> flask.Response:
    """Order a verb of storage, and lead to a page; None: see `control.routes`."""
    asked = pages.services.orders.act_on_storage(
        verb, object_id, request, visit.origin, node_id
    )
    return answered(pages, asked, page)


def answered(pages: Pages, asked: Order, page: str) -> flask.Response:
    """Lead to a page, which tells of an order that has failed already."""
    response = routing.done(pages, page)
    visits.note_failure(response, asked)
    return response


def orders_about(pages: Pages, object_id: str) -> list[Order]:
    """Return the newest orders about something, the newest first."""
    return [
        each
        for each in pages.services.orders.list(maximum=_ORDERS_SEARCHED)
        if each.object_id == object_id
    ]


def find(view: View, storage_domain_id: str) -> StorageDomainRow:
    """Return a storage domain of the View; NoSuchStorageDomain if there is none."""
    row = view.storage_domains.get(StorageDomainId(storage_domain_id))
    if row is None:
        raise NoSuchStorageDomain(f"there is no storage domain {storage_domain_id}")
    return row


def _centers(pages: Pages, view: View) -> Iterator[Center]:
    """Yield the data centers, then the pools that are of none."""
    pools = {each.data_center_id: each for each in pages.services.orders.pools.list()}
    shown = set()
    for data_center_id, name in data_centers.all_of(pages.services):
        known = pools.get(data_center_id)
        pool_id = known.pool_id if known is not None else None
        if pool_id is None or pool_id not in view.pools:
            yield Center(name, None, [], [])
            continue
        shown.add(pool_id)
        yield _center(pages, view, name, pool_id)
    for _, pool_id in view.pool_order:
        if pool_id not in shown and not view.pools[pool_id].is_local:
            yield _center(pages, view, "", pool_id)


def _center(pages: Pages, view: View, name: str, pool_id: PoolId) -> Center:
    row = view.pools[pool_id]
    return Center(
        name,
        storage_rows.pool_line(view, row, pages.translate),
        storage_rows.member_lines(view, row, pages.translate),
        [
            storage_rows.domain_line(view, each, pages.translate)
            for each in storage_rows.domains_of(view, pool_id)
        ],
    )


def _facts(row: StorageDomainRow, named: StorageDomain) -> Iterator[tuple[str, str]]:
    """Yield what a storage domain is: what it is called, what it is."""
    place = named.connection
    yield "Holds", storage_signs.CLASSES[row.domain_class]
    yield "Kind", storage_signs.KINDS[row.kind]
    yield "Server", place.address
    yield "Path", place.path
    yield "File system", place.file_system
    yield "NFS version", place.nfs_version
    yield "Mount options", place.options
    yield "Description", named.description
    yield "Format", f"V{named.version}"
    yield "Sectors", figures.size(named.sector_bytes)
    yield "New disks", "wiped when deleted" if named.wipe_after_delete else ""
    yield "Id", row.storage_domain_id


def _page(row: StorageDomainRow) -> str:
    return f"/ui/storage/{row.storage_domain_id}"


_Form = Mapping[str, str]


def _act(verb: Verb) -> Callable[[Orders, StorageDomainId, Origin, _Form], Order]:
    def act(
        orders: Orders, storage_domain_id: StorageDomainId, origin: Origin, form: _Form
    ) -> Order:
        request = bodies.ActOnStorageDomain(is_forced=bool(form.get("further")))
        return orders.act_on_storage(verb, storage_domain_id, request, origin)

    return act


def _attach(
    orders: Orders, storage_domain_id: StorageDomainId, origin: Origin, form: _Form
) -> Order:
    center = form.get("data_center_id") or None
    return orders.storage.attach_domain(
        storage_domain_id, origin, data_center_id=center
    )


def _change(
    orders: Orders, storage_domain_id: StorageDomainId, origin: Origin, form: _Form
) -> Order:
    request = storage_drafts.to_change(form)
    return orders.storage.change_domain(storage_domain_id, request, origin)


def _remove(
    orders: Orders, storage_domain_id: StorageDomainId, origin: Origin, form: _Form
) -> Order:
    request = bodies.RemoveStorageDomain(bool(form.get("further")))
    verb = verbs.STORAGE_DOMAIN_REMOVE
    return orders.act_on_storage(verb, storage_domain_id, request, origin)


_ORDERED: Final = {
    "change": _change,
    "activate": _act(verbs.STORAGE_DOMAIN_ACTIVATE),
    "attach": _attach,
    "maintain": _act(verbs.STORAGE_DOMAIN_MAINTAIN),
    "detach": _act(verbs.STORAGE_DOMAIN_DETACH),
    "remove": _remove,
}
assert _ORDERED.keys() == storage_signs.DOMAIN_ACTION_BY_NAME.keys()

_ONE: Final = "/ui/storage/<storage_domain_id>"
_SEE: Final = (ActionGroup.READ, Object.STORAGE_DOMAIN)
_MEND: Final = (ActionGroup.EDIT_STORAGE_DOMAIN, Object.STORAGE_DOMAIN)
ROUTES: Final = (
    Route("GET", "/ui/storage", show_all, ActionGroup.READ, Object.FLEET),
    Route("GET", _ONE, show, *_SEE),
    Route("GET", f"{_ONE}/check", check, *_SEE),
    Route("POST", f"{_ONE}/repair", repair, *_MEND),
    *(
        Route(
            method,
            f"{_ONE}/{each.name}",
            functools.partial(handler, each),
            each.group,
            Object.STORAGE_DOMAIN,
        )
        for method, handler in (("GET", ask), ("POST", do))
        for each in storage_signs.DOMAIN_ACTIONS
    ),
)
