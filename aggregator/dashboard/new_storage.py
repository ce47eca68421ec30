"""Serve the forms of new storage: say where, look what lies there, then choose.

Looking changes nothing. What is found can be imported; else a storage domain is made
there. Both become part of the data center's pool.
"""

import uuid
from typing import Final

import flask

from aggregator.control import routes as control
from aggregator.dashboard import (
    data_centers,
    rows,
    storage,
    storage_drafts,
    storage_signs,
    visits,
)
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.refusals import Refusal
from aggregator.dashboard.routes import Route
from aggregator.dashboard.storage_drafts import DomainDraft, PlaceDraft
from aggregator.dashboard.visits import Visit
from node.errors import Error, NotFound
from node.model import storage_requests as bodies
from node.model.ids import NodeId
from node.model.storage import Connection, StorageDomain
from node.model.storage_requests import FoundStorageDomains
from node.model.verbs import ActionGroup, Object


class NotThereNow(NotFound):
    code = "storage_domain_not_there"
    remedy = "Look again what lies there."


def ask(pages: Pages, visit: Visit) -> flask.Response:
    """Return the form that asks where the storage is."""
    return _draw_place(pages, visit, PlaceDraft())


def look(pages: Pages, visit: Visit) -> flask.Response:
    """Look what lies at a place, and return what can be done with it."""
    draft = storage_drafts.read(PlaceDraft, visits.form())
    try:
        place = storage_drafts.connection(draft)
        found = _look(pages, place, draft.node_id)
    except Error as error:
        return _draw_place(pages, visit, draft, Refusal.of(error))
    return _draw_found(pages, visit, draft, place, found, DomainDraft(_new_id()))


def create(pages: Pages, visit: Visit) -> flask.Response:
    """Order a new storage domain at a place; or return the form again."""
    form = visits.form()
    draft = storage_drafts.read(PlaceDraft, form)
    domain = storage_drafts.read(DomainDraft, form)
    try:
        place = storage_drafts.connection(draft)
    except Error as error:
        return _draw_place(pages, visit, draft, Refusal.of(error))
    try:
        request = storage_drafts.to_domain(domain, place)
        asked = pages.services.orders.storage.create_domain(
            request,
            visit.origin,
            data_center_id=draft.data_center_id or None,
            node_id=NodeId(draft.node_id) if draft.node_id else None,
        )
    except Error as error:
        nothing = FoundStorageDomains(())
        refusal = Refusal.of(error)
        return _draw_found(pages, visit, draft, place, nothing, domain, refusal)
    return storage.answered(pages, asked, f"/ui/storage/{request.storage_domain_id}")


def import_one(pages: Pages, visit: Visit) -> flask.Response:
    """Order that a storage domain that lies at a place is taken into the fleet."""
    form = visits.form()
    draft = storage_drafts.read(PlaceDraft, form)
    try:
        place = storage_drafts.connection(draft)
        there = _look(pages, place, draft.node_id).storage_domains
        found = _chosen(there, form.get("storage_domain_id", ""))
        asked = pages.services.orders.storage.import_domain(
            bodies.ImportStorageDomain(
                place, found.storage_domain_id, is_forced=bool(form.get("force"))
            ),
            found,
            visit.origin,
            data_center_id=draft.data_center_id or None,
            node_id=_node(pages, draft.node_id),
        )
    except Error as error:
        return _draw_place(pages, visit, draft, Refusal.of(error))
    return storage.answered(pages, asked, f"/ui/storage/{found.storage_domain_id}")


def _look(pages: Pages, place: Connection, node_id: str) -> FoundStorageDomains:
    node = pages.services.node(_node(pages, node_id))
    request = bodies.LookForStorageDomains(place)
    return pages.looks.take(lambda: node.storage_domain_look(request))


def _node(pages: Pages, node_id: str) -> NodeId:
    """Return the node that is named, or one that is up."""
    view = pages.services.mirror.view
    if node_id:
        return control.up(view, NodeId(node_id)).node_id
    return control.any_node(view).node_id


def _chosen(there: tuple[StorageDomain, ...], wanted: str) -> StorageDomain:
    for each in there:
        if each.storage_domain_id == wanted:
            return each
    raise NotThereNow(f"storage domain {wanted} does not lie there any more")


def _draw_place(
    pages: Pages, visit: Visit, draft: PlaceDraft, refusal: Refusal | None = None
) -> flask.Response:
    return pages.show(
        visit,
        "new_storage.html",
        status=refusal.status if refusal else 200,
        draft=draft,
        refusal=refusal,
        nodes=storage_drafts.nodes(pages.services.mirror.view),
        data_centers=data_centers.all_of(pages.services),
        nfs_versions=storage_drafts.NFS_VERSIONS,
    )


def _draw_found(
    pages: Pages,
    visit: Visit,
    draft: PlaceDraft,
    place: Connection,
    found: FoundStorageDomains,
    domain: DomainDraft,
    refusal: Refusal | None = None,
) -> flask.Response:
    view = pages.services.mirror.view
    return pages.show(
        visit,
        "found_storage.html",
        status=refusal.status if refusal else 200,
        draft=draft,
        where=f"{place.address}:{place.path}" if place.address else place.path,
        found=[
            (
                each,
                storage_signs.CLASSES[each.domain_class],
                view.pools.get(each.pool_id) if each.pool_id else None,
                each.storage_domain_id in view.storage_domains,
            )
            for each in found.storage_domains
        ],
        problems=[rows.whys(each, pages.translate) for each in found.problems],
        domain=domain,
        refusal=refusal,
    )


def _new_id() -> str:
    return str(uuid.uuid4())


_MAKE: Final = (ActionGroup.CREATE_STORAGE_DOMAIN, Object.FLEET)
ROUTES: Final = (
    Route("GET", "/ui/storage/new", ask, *_MAKE),
    Route("POST", "/ui/storage/new", create, *_MAKE),
    Route("POST", "/ui/storage/look", look, *_MAKE),
    Route("POST", "/ui/storage/import", import_one, *_MAKE),
    # what an answer to a form refreshes itself by
    Route("GET", "/ui/storage/look", ask, *_MAKE),
    Route("GET", "/ui/storage/import", ask, *_MAKE),
)
