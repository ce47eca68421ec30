"""Nodes, VMs and Views for the tests of the dashboard's pure parts."""

from dataclasses import replace
from typing import Any

from immutables import Map

from aggregator.federation import apply
from aggregator.federation.view import NodeState, NodeView, View, VmView
from node.model.host import NodeFacts
from node.model.ids import NodeId, VmId
from node.model.reason import Reason
from node.model.stats import NodeStats
from node.model.vm import VmState, Wanted
from node.units import GiB
from tests.fakes import fleet
from tests.fakes import services as fakes

AT = "2026-11-22T07:00:00.000Z"
LATER = "2026-11-22T07:30:00.000Z"


def reason(code: str, since: str = AT, cause: Reason | None = None) -> Reason:
    return Reason(code, since, {"name": "web", "node": "oak"}, cause)


def facts(**changes: Any) -> NodeFacts:
    return replace(fakes.facts(NodeId("n1"), "oak", "192.0.2.1"), **changes)


def node(node_id: str = "n1", name: str = "oak", **changes: Any) -> NodeView:
    plain = NodeView(
        NodeId(node_id),
        name,
        "192.0.2.1",
        NodeState.UP,
        AT,
        stats=NodeStats(cpu_percent=50.0, memory_used_bytes=8 * GiB),
    )
    return replace(plain, **changes)


def vm(vm_id: str = "v1", name: str = "web", **changes: Any) -> VmView:
    plain = VmView(
        VmId(vm_id),
        name,
        NodeId("n1"),
        VmState.UP,
        Wanted.UP,
        AT,
        None,
        2 * GiB,
        2,
    )
    return replace(plain, **changes)


def say(view: View, node_id: NodeId, *documents: object) -> View:
    """Return the View after a node pushed documents."""
    newer, troubles = apply.set_documents(view, node_id, fleet.said(*documents))
    assert not troubles, troubles
    return newer


def view(*vms: VmView, nodes: tuple[NodeView, ...] | None = None) -> View:
    nodes = nodes if nodes is not None else (node(),)
    by_id = Map({each.vm_id: each for each in vms})
    counted = {
        each.node_id: replace(
            each,
            vm_ids=frozenset(own.vm_id for own in vms if own.node_id == each.node_id),
        )
        for each in nodes
    }
    return View(1, 0, Map(counted), by_id, fakes.order_of(by_id))
