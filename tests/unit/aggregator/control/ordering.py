"""What the tests of orders stand on: two nodes, a View of them, a database."""

import itertools
from collections import Counter
from pathlib import Path
from uuid import UUID

from aggregator import db
from aggregator.control.dispatch import Gate, open_gate
from aggregator.control.loop import Loop
from aggregator.control.orders import Orders, Origin
from aggregator.federation import apply
from aggregator.federation.events import EventLog
from aggregator.federation.view import NodeState, View
from node.model.ids import CorrelationId, NodeId
from node.model.reason import Reason
from tests.fakes import fleet
from tests.fakes.clock import FakeClock
from tests.fakes.nodes import FakeNode, FakeViewer, InlineExecutor

ORIGIN = Origin("admin@internal", "127.0.0.1", CorrelationId("c-1"))
REASON = Reason("node_never_heard", fleet.AT, {"node": "n1"})
ONE, TWO = fleet.node_id(1), fleet.node_id(2)


def view_of(*numbers: int) -> View:
    """Return a View with nodes that are up; node 1 has a VM that is down."""
    view = View()
    for number in numbers:
        node_id = fleet.node_id(number)
        view = apply.add_node(view, node_id, f"n{number}", "", fleet.AT, REASON)
        view, _ = apply.set_documents(view, node_id, fleet.said(fleet.facts(number)))
        view = apply.set_state(view, node_id, NodeState.UP, None, fleet.AT)
    return say(view, 1, fleet.vm(1, "web"), fleet.run(1, 1))


def say(view: View, number: int, *values: object) -> View:
    said = fleet.said(*values)
    return apply.set_documents(view, fleet.node_id(number), said)[0]


def silence(view: View, number: int) -> View:
    return apply.set_state(
        view, fleet.node_id(number), NodeState.UNREACHABLE, REASON, fleet.AT
    )


class Parts:
    """`restart` begins anew on the same disk and the same nodes."""

    def __init__(self, folder: Path) -> None:
        self.url = db.sqlite_url(folder / "aggregator.db")
        self.clock = FakeClock()
        self.viewer = FakeViewer(view_of(1, 2))
        self.nodes = {node_id: FakeNode(node_id) for node_id in (ONE, TWO)}
        self._ids = itertools.count(1)
        self.open()

    def open(self) -> None:
        self.database = db.Database(self.url)
        self.events = EventLog(self.database, self.clock)
        self.orders = Orders(
            self.database,
            self.viewer,
            self.events,
            InlineExecutor(lambda node: self.nodes[node.node_id]),
            self.clock,
            lambda: str(UUID(int=(1 << 70) + next(self._ids))),
            self.gate(),
        )
        self.loop = Loop(self.orders.dispatch, self.viewer, self.clock)

    def gate(self) -> Gate:
        """Return who is asked whether orders may be sent."""
        return open_gate

    def restart(self) -> None:
        self.database.close()
        self.open()

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.loop.cycle()

    def say(self, number: int, *values: object) -> None:
        self.viewer.view = say(self.viewer.view, number, *values)

    def did(self) -> dict[str, int]:
        """Return how often each thing was really done, on all nodes."""
        total: Counter[str] = Counter()
        for node in self.nodes.values():
            total.update(node.did)
        return dict(total)

    def codes(self) -> list[str]:
        return [event.code for event in reversed(self.events.list())]

    def best(self) -> NodeId:
        """Return the node that a new VM would go to."""
        chosen = self.orders.explain(fleet.spec(99)).node_id
        assert chosen is not None
        return chosen
