"""Serve the pools: who manages each, its nodes, its master."""

from collections.abc import Iterator
from typing import Final

import flask

from aggregator.dashboard import (
    data_centers,
    questions,
    rows,
    storage,
    storage_rows,
    storage_signs,
    visits,
)
from aggregator.dashboard.nodes import find as find_node
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.questions import Question
from aggregator.dashboard.routes import Route
from aggregator.dashboard.visits import Visit
from aggregator.federation.view import PoolRow, View
from node.errors import Invalid, NotFound
from node.model import storage_requests as bodies
from node.model import storage_verbs as verbs
from node.model.ids import PoolId, StorageDomainId
from node.model.storage import DomainClass, DomainState, PoolState
from node.model.verbs import ActionGroup, Object


class NoSuchPool(NotFound):
    code = "no_such_pool"
    remedy = "It may be gone: look at the storage."


class BadPriority(Invalid):
    code = "bad_priority"
    remedy = "Choose one of those that the page offers."


def show(pages: Pages, visit: Visit, pool_id: str) -> flask.Response:
    """Return the page of a pool, or of the order that makes it."""
    moment = pages.moments.now()
    view = moment.view
    orders = storage.orders_about(pages, pool_id)
    row = view.pools.get(PoolId(pool_id))
    if row is None and orders:
        return pages.show_coming(visit, moment, "/ui/storage", "Storage", orders)
    row = find(view, pool_id)
    domains = storage_rows.domains_of(view, row.pool_id)
    return pages.show(
        visit,
        "pool.html",
        moment,
        row=row,
        line=storage_rows.pool_line(view, row, pages.translate),
        facts=list(_facts(pages, row)),
        members=storage_rows.member_lines(view, row, pages.translate),
        domains=[
            storage_rows.domain_line(view, each, pages.translate) for each in domains
        ],
        may_move_master=bool(_masters(view, row)),
        jobs=[rows.task_row(each, view, pages.translate) for each in orders],
    )


def ask_election(pages: Pages, visit: Visit, pool_id: str) -> flask.Response:
    """Return the page that asks whether a node is to be the manager."""
    view = pages.services.mirror.view
    row = find(view, pool_id)
    node = find_node(view, flask.request.args.get("node_id", ""))
    question = Question(
        f"Let {node.name} manage pool {row.name}?",
        "Make it the manager",
        f"{_page(row)}/elect",
        _page(row),
        "The manager of now finishes its step and gives the pool away; then this "
        "node takes it. Running VMs do not notice. If it cannot take the pool, "
        "another node is elected.",
        (questions.hidden("node_id", node.node_id),),
    )
    return pages.show(visit, "question.html", question=question)


def elect(pages: Pages, visit: Visit, pool_id: str) -> flask.Response:
    """Order that a node becomes the manager."""
    view = pages.services.mirror.view
    row = find(view, pool_id)
    node = find_node(view, visits.form().get("node_id", ""))
    asked = pages.services.orders.storage.elect(row.pool_id, node.node_id, visit.origin)
    return storage.answered(pages, asked, _page(row))


def ask_priority(pages: Pages, visit: Visit, pool_id: str) -> flask.Response:
    """Return the page that asks how much a node is preferred as manager."""
    view = pages.services.mirror.view
    row = find(view, pool_id)
    node = find_node(view, flask.request.args.get("node_id", ""))
    sight = row.sights.get(node.node_id)
    offered = [
        (str(int(value)), text) for value, text in storage_signs.PRIORITIES.items()
    ]
    question = Question(
        f"How much is {node.name} preferred as manager of {row.name}?",
        "Set the priority",
        f"{_page(row)}/priority",
        _page(row),
        "It counts when a manager is elected: of the nodes that are able, one of the "
        "highest priority is taken. Never means not even if no other is left.",
        (
            questions.hidden("node_id", node.node_id),
            questions.choice(
                "priority", "Priority", offered, str(sight.priority) if sight else ""
            ),
        ),
    )
    return pages.show(visit, "question.html", question=question)


def set_priority(pages: Pages, visit: Visit, pool_id: str) -> flask.Response:
    """Order that a node is preferred so much as manager."""
    view = pages.services.mirror.view
    row = find(view, pool_id)
    form = visits.form()
    node = find_node(view, form.get("node_id", ""))
    offered = {str(int(value)): int(value) for value in storage_signs.PRIORITIES}
    if form.get("priority") not in offered:
        raise BadPriority(f"there is no priority {form.get('priority', '')}")
    request = bodies.SetSpmPriority(offered[form["priority"]])
    verb, page = verbs.SPM_PRIORITY, _page(row)
    return storage.order(pages, visit, verb, row.pool_id, request, page, node.node_id)


def ask_master(pages: Pages, visit: Visit, pool_id: str) -> flask.Response:
    """Return the page that asks which storage domain is to be the master."""
    view = pages.services.mirror.view
    row = find(view, pool_id)
    fields = [questions.choice("storage_domain_id", "New master", _masters(view, row))]
    if row.state is PoolState.MASTER_LOST:
        text = "The old master is dead: make the new one without it."
        fields.append(questions.tick("is_reconstruction", text))
    question = Question(
        f"Move the master of pool {row.name}?",
        "Move the master",
        f"{_page(row)}/master",
        _page(row),
        "The master bears the lease of the pool's manager and its jobs. Disks stay "
        "where they are, and running VMs do not notice.",
        tuple(fields),
    )
    return pages.show(visit, "question.html", question=question)


def move_master(pages: Pages, visit: Visit, pool_id: str) -> flask.Response:
    """Order that another storage domain becomes the master."""
    view = pages.services.mirror.view
    row = find(view, pool_id)
    form = visits.form()
    target = storage.find(view, form.get("storage_domain_id", ""))
    request = bodies.MoveMaster(
        target.storage_domain_id,
        is_reconstruction=bool(form.get("is_reconstruction")),
    )
    verb = verbs.POOL_MOVE_MASTER
    return storage.order(pages, visit, verb, row.pool_id, request, _page(row))


def find(view: View, pool_id: str) -> PoolRow:
    """Return a pool of the View; NoSuchPool if there is none of that id."""
    row = view.pools.get(PoolId(pool_id))
    if row is None:
        raise NoSuchPool(f"there is no pool {pool_id}")
    return row


def _masters(view: View, row: PoolRow) -> list[tuple[StorageDomainId, str]]:
    """Return the storage domains that could be the master, with their names."""
    return [
        (each.storage_domain_id, each.name)
        for each in storage_rows.domains_of(view, row.pool_id)
        if each.domain_class is DomainClass.DATA
        and each.state is DomainState.ACTIVE
        and each.storage_domain_id != row.master
    ]


def _facts(pages: Pages, row: PoolRow) -> Iterator[tuple[str, str]]:
    """Yield what a pool is: what it is called, what it is."""
    known = {each.pool_id: each for each in pages.services.orders.pools.list()}
    names = dict(data_centers.all_of(pages.services))
    center = known.get(row.pool_id)
    lease = max((each.lease_version for each in row.sights.values()), default=0)
    yield "Data center", names.get(center.data_center_id, "") if center else ""
    yield "Manager's lease", f"version {lease}"
    yield "Master", f"version {row.master_version}"
    yield "Map", f"generation {row.generation}"
    yield "Id", row.pool_id


def _page(row: PoolRow) -> str:
    return f"/ui/pools/{row.pool_id}"


_ONE: Final = "/ui/pools/<pool_id>"
_LEAD: Final = (ActionGroup.MANIPULATE_HOST, Object.POOL)
_EDIT: Final = (ActionGroup.EDIT_POOL, Object.POOL)
ROUTES: Final = (
    Route("GET", _ONE, show, ActionGroup.READ, Object.POOL),
    Route("GET", f"{_ONE}/elect", ask_election, *_LEAD),
    Route("POST", f"{_ONE}/elect", elect, *_LEAD),
    Route("GET", f"{_ONE}/priority", ask_priority, *_LEAD),
    Route("POST", f"{_ONE}/priority", set_priority, *_LEAD),
    Route("GET", f"{_ONE}/master", ask_master, *_EDIT),
    Route("POST", f"{_ONE}/master", move_master, *_EDIT),
)
