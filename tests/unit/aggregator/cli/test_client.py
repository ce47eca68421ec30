"""The user's client: it waits longer than the aggregator waits for a dead node."""

from collections.abc import Callable

import pytest

from aggregator.api.model import AdmitNode
from aggregator.cli.client import FleetClient
from node.http import client
from node.http.client import Reply
from node.http.transport import NodeUnreachable
from node.model.ids import Fingerprint, NodeId, VmId

NODE = NodeId("11111111-2222-4333-8444-000000000001")
VM = VmId("bbbbbbbb-1111-4222-8333-000000000001")


class Waiting:
    """A transport to an aggregator that waits for a node; it notes for how long."""

    def __init__(self) -> None:
        self.waited_s = 0.0

    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: object,
        timeout_s: float,
    ) -> Reply:
        self.waited_s = timeout_s
        raise NodeUnreachable("nothing was answered in time")


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda one: one.node_remove(NODE, is_forced=True), id="remove"),
        pytest.param(
            lambda one: one.node_admit(AdmitNode(Fingerprint("0" * 64), NODE)),
            id="admit",
        ),
        pytest.param(lambda one: one.vm_serial(VM, 100), id="serial"),
        pytest.param(lambda one: one.vm_screenshot(VM), id="screenshot"),
    ],
)
def test_client_outwaits_an_aggregator_that_asks_a_dead_node(
    ask: Callable[[FleetClient], object],
) -> None:
    transport = Waiting()
    with pytest.raises(NodeUnreachable):
        ask(FleetClient(transport))
    assert transport.waited_s > client.DEADLINE_S
