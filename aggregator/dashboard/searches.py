"""Serve the search over VMs, nodes, storage domains, disks and templates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import flask

from aggregator.dashboard import (
    disk_rows,
    listing,
    queries,
    rows,
    storage_rows,
    template_rows,
)
from aggregator.dashboard import routes as routing
from aggregator.dashboard.listing import Page
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.queries import Query, Wanted
from aggregator.dashboard.routes import Route
from aggregator.dashboard.visits import Visit
from aggregator.federation.view import View
from node.model.verbs import ActionGroup, Object


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a search may be about: where its pages are, and how it is found."""

    wanted: Wanted
    folder: str
    find: Callable[[View, Query, int], Page[Any]]
    id_of: Callable[[Any], str]
    line: Callable[[View, Any, rows.Translate], object]


def search(pages: Pages, visit: Visit) -> flask.Response:
    """Return what a search finds; its page, if that is only one thing."""
    moment = pages.moments.now()
    text = routing.query_text()
    query = queries.parse(text)
    number = routing.page_number()
    found = {
        kind: page
        for kind in _KINDS
        if query.wanted in (Wanted.ALL, kind.wanted)
        and (page := kind.find(moment.view, query, number)).total
    }
    if sum(page.total for page in found.values()) == 1:
        ((kind, page),) = found.items()
        return routing.redirect(f"/ui/{kind.folder}/{kind.id_of(page.items[0])}")
    return pages.show(
        visit,
        "search.html",
        moment,
        query=text,
        found={
            kind.wanted.value: (
                page,
                [kind.line(moment.view, each, pages.translate) for each in page.items],
            )
            for kind, page in found.items()
        },
    )


_KINDS: Final = (
    _Kind(
        Wanted.VMS, "vms", listing.vm_page, lambda each: str(each.vm_id), rows.vm_row
    ),
    _Kind(
        Wanted.NODES,
        "nodes",
        listing.node_page,
        lambda each: str(each.node_id),
        lambda _view, each, translate: rows.node_row(each, translate),
    ),
    _Kind(
        Wanted.STORAGE,
        "storage",
        listing.domain_page,
        lambda each: str(each.storage_domain_id),
        storage_rows.domain_line,
    ),
    _Kind(
        Wanted.DISKS,
        "disks",
        listing.disk_page,
        lambda each: str(each.disk_id),
        disk_rows.disk_line,
    ),
    _Kind(
        Wanted.TEMPLATES,
        "templates",
        listing.template_page,
        lambda each: str(each.template_id),
        lambda view, each, _translate: template_rows.line(view, each),
    ),
)
ROUTES: Final = (Route("GET", "/ui/search", search, ActionGroup.READ, Object.FLEET),)
