"""Serve the nodes: those of the fleet, and those that wait for admission."""

from collections.abc import Iterator
from typing import Final

import flask

from aggregator import registry
from aggregator.api import hooks
from aggregator.dashboard import figures, listing, queries, rows, visits
from aggregator.dashboard import routes as routing
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.routes import Route
from aggregator.dashboard.visits import Note, Visit
from aggregator.federation.view import NodeView, View
from aggregator.policies.hook_differences import HookRow
from node import wire
from node.errors import Invalid, NotFound
from node.model.hooks import HookScript
from node.model.host import Device, NodeFacts
from node.model.ids import Fingerprint, NodeId
from node.model.verbs import ActionGroup, Object
from node.units import HOUR_S

_EVENTS_SHOWN = 30
_FINGERPRINT_DIGITS = 64
_TOKEN_HOURS_MAX = 24 * 30


class NoSuchNode(NotFound):
    code = "no_such_node"
    remedy = "It may have been removed: look in the list of nodes."


class BadFingerprint(Invalid):
    code = "bad_fingerprint"
    remedy = "Type all 64 digits as they stand on the node's console."


class BadLifetime(Invalid):
    code = "bad_lifetime"
    remedy = f"Choose between 1 and {_TOKEN_HOURS_MAX} hours."


def show_all(pages: Pages, visit: Visit) -> flask.Response:
    """Return the list of nodes, and the candidates."""
    moment = pages.moments.now()
    query = queries.parse(routing.query_text())
    page = listing.node_page(moment.view, query, routing.page_number())
    return pages.show(
        visit,
        "nodes.html",
        moment,
        page=page,
        nodes=[rows.node_row(node, pages.translate) for node in page.items],
        candidates=[
            rows.candidate_row(each, pages.translate) for each in moment.candidates
        ],
        query=routing.query_text(),
    )


def show(pages: Pages, visit: Visit, node_id: str) -> flask.Response:
    """Return the page of a node."""
    moment = pages.moments.now()
    node = find(moment.view, node_id)
    events = pages.services.events.list(node_id=node.node_id, maximum=_EVENTS_SHOWN)
    vms = listing.vms_of_node(moment.view, node, routing.page_number())
    problems = node.facts.problems if node.facts else ()
    return pages.show(
        visit,
        "node.html",
        moment,
        node=node,
        row=rows.node_row(node, pages.translate),
        chains=[
            rows.whys(first, pages.translate)
            for first in (node.reason, *problems)
            if first
        ],
        bars=[bar for bar in rows.node_bars(node) if bar],
        facts=list(_facts(node.facts)) if node.facts else [],
        hooks=_hooks(moment.view, node),
        devices=[wire.decode(Device, body, strict=False) for body in node.devices],
        page=vms,
        vms=[rows.vm_row(moment.view, vm, pages.translate) for vm in vms.items],
        events=[rows.event_row(each, pages.translate) for each in events],
        jobs=[
            rows.task_row(order, moment.view, pages.translate)
            for order in pages.services.orders.list(maximum=100)
            if order.node_id == node.node_id
        ],
    )


def _hooks(view: View, node: NodeView) -> list[tuple[HookScript, HookRow]]:
    """Return a node's hooks, each with where the other nodes have it."""
    rows_of = {(e.point, e.name): e for e in hooks.of_fleet(view).hooks}
    scripts = node.facts.hooks if node.facts else ()
    return [(each, rows_of[each.point, each.name]) for each in scripts]


def ask_admission(pages: Pages, visit: Visit, node_id: str) -> flask.Response:
    """Return the page on which fingerprints are compared."""
    for candidate in pages.services.registry.candidates():
        if candidate.node_id == node_id:
            return pages.show(
                visit,
                "admit.html",
                candidate=rows.candidate_row(candidate, pages.translate),
            )
    raise registry.NoSuchCandidate(f"no node {node_id} waits for admission")


def admit(pages: Pages, visit: Visit, node_id: str) -> flask.Response:
    """Admit a candidate whose fingerprint was compared."""
    compared = Fingerprint(visits.form().get("fingerprint", ""))
    member = pages.services.registry.admit(NodeId(node_id), compared, visit.origin)
    response = routing.done(pages, "/ui/nodes")
    visits.leave_note(response, Note("good", f"{member.name} was admitted."))
    return response


def ask_address(pages: Pages, visit: Visit) -> flask.Response:
    """Return the page that admits a node by its address, or makes a token."""
    return pages.show(visit, "add_node.html", token=None, hours="1")


def admit_address(pages: Pages, visit: Visit) -> flask.Response:
    """Admit the node at an address, by the fingerprint that was typed."""
    form = visits.form()
    digits = "".join(form.get("fingerprint", "").replace(":", " ").split()).lower()
    if len(digits) != _FINGERPRINT_DIGITS or set(digits) - set("0123456789abcdef"):
        raise BadFingerprint("a fingerprint has 64 digits of 0-9 and a-f")
    member = pages.services.registry.admit_address(
        form.get("address", ""), Fingerprint(digits), visit.origin
    )
    response = routing.done(pages, "/ui/nodes")
    visits.leave_note(response, Note("good", f"{member.name} was admitted."))
    return response


def make_token(pages: Pages, visit: Visit) -> flask.Response:
    """Return the page with a new token."""
    hours = visits.form().get("hours", "")
    if not (hours.isascii() and hours.isdigit() and len(hours) < 5):
        raise BadLifetime(f"{hours!r} is no number of hours")
    if not 1 <= int(hours) <= _TOKEN_HOURS_MAX:
        raise BadLifetime(f"a token cannot live {hours} hours")
    token = pages.services.registry.make_token(int(hours) * HOUR_S, visit.origin)
    return pages.show(visit, "add_node.html", token=token, hours=hours)


def ask_removal(pages: Pages, visit: Visit, node_id: str) -> flask.Response:
    """Return the page that asks whether a node is to leave."""
    node = find(pages.services.mirror.view, node_id)
    return pages.show(visit, "remove_node.html", node=node)


def remove(pages: Pages, visit: Visit, node_id: str) -> flask.Response:
    """Remove a node from the fleet."""
    node = find(pages.services.mirror.view, node_id)
    is_forced = bool(visits.form().get("force"))
    pages.services.registry.remove(node.node_id, visit.origin, is_forced=is_forced)
    response = routing.done(pages, "/ui/nodes")
    visits.leave_note(response, Note("good", f"{node.name} was removed."))
    return response


def find(view: View, node_id: str) -> NodeView:
    """Return a node of the View; NoSuchNode if it has none of that id."""
    node = view.nodes.get(NodeId(node_id))
    if node is None:
        raise NoSuchNode(f"there is no node {node_id}")
    return node


def _facts(facts: NodeFacts) -> Iterator[tuple[str, str]]:
    """Yield what a node is made of: what it is called, what it is."""
    cpu, firmware, versions = facts.cpu, facts.firmware, facts.versions
    yield "Machine", f"{firmware.manufacturer} {firmware.product}".strip()
    yield "Serial number", firmware.serial
    yield "Firmware", f"{firmware.vendor} {firmware.version}".strip()
    yield "Boots by", "UEFI" if firmware.has_uefi else "BIOS"
    yield "Processor", cpu.model
    yield "Threads", str(cpu.count)
    yield "CPU layout", figures.layout(cpu.sockets, cpu.cores, cpu.threads)
    yield "NUMA nodes", str(cpu.numa_nodes)
    yield "CPU model for guests", cpu.libvirt_model
    yield "KVM", "usable" if facts.kvm.is_usable else f"not usable: {facts.kvm.detail}"
    yield "Memory", figures.size(facts.memory_bytes)
    yield "Networks", ", ".join(facts.networks)
    yield "Agent", versions.agent
    yield "Operating system", versions.os
    yield "Kernel", versions.kernel
    yield "libvirt and QEMU", f"{versions.libvirt} / {versions.qemu}"


_SEE: Final = (ActionGroup.READ, Object.NODE)
_EDIT: Final = (ActionGroup.EDIT_FLEET, Object.FLEET)
_CHANGE: Final = (ActionGroup.MANIPULATE_HOST, Object.NODE)
ROUTES: Final = (
    Route("GET", "/ui/nodes", show_all, *_SEE),
    Route("GET", "/ui/nodes/add", ask_address, *_EDIT),
    Route("POST", "/ui/nodes/add", admit_address, *_EDIT),
    Route("POST", "/ui/nodes/token", make_token, *_EDIT),
    Route("GET", "/ui/nodes/<node_id>", show, *_SEE),
    Route("GET", "/ui/nodes/<node_id>/remove", ask_removal, *_CHANGE),
    Route("POST", "/ui/nodes/<node_id>/remove", remove, *_CHANGE),
    Route("GET", "/ui/candidates/<node_id>", ask_admission, *_EDIT),
    Route("POST", "/ui/candidates/<node_id>", admit, *_EDIT),
)
