"""Members are called in the name of our term, and by the leader only."""

from collections.abc import Mapping
from typing import cast

import pytest

from aggregator import calls, registry
from aggregator.authority import Authority
from aggregator.calls import MemberClient
from aggregator.federation.view import NodeState, NodeView
from aggregator.fleet.term import Leadership, NotLeading
from aggregator.registry import NoSuchMember
from node import wire
from node.errors import Conflict
from node.http.client import NodeUnreachable, Reply
from node.model.ids import VmId
from node.model.job import ErrorReport
from node.model.requests import StartVm
from tests.fakes import services as fakes

VM = VmId("aaaaaaaa-0000-4000-8000-000000000001")


class Standing:
    """What Leadership is to a client."""

    def __init__(self, *, is_leading: bool = True) -> None:
        self.is_leading = is_leading
        self.observed: list[int] = []

    def headers(self) -> Mapping[str, str]:
        return {"X-Skerry-Fleet": "f", "X-Skerry-Term": "4"}

    def observe(self, term: int) -> None:
        self.observed.append(term)


class Node:
    """A transport that answers everything in one way."""

    def __init__(self, reply: Reply | NodeUnreachable) -> None:
        self._reply = reply
        self.headers: list[Mapping[str, str]] = []

    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> Reply:
        self.headers.append(headers)
        if isinstance(self._reply, NodeUnreachable):
            raise self._reply
        return self._reply


def _client(node: Node, standing: Standing) -> MemberClient:
    return MemberClient(node, cast(Leadership, standing))


def _refusal(code: str, **fields: str | int) -> Reply:
    report = ErrorReport("conflict", code, "no", "Use the leader.", fields)
    body = wire.encode({"error": wire.to_json(report)})
    return Reply(409, "application/json", body)


VMS = Reply(200, "application/json", b'{"vms":[]}')


def test_verb_carries_fleet_and_term() -> None:
    node = Node(VMS)
    assert _client(node, Standing()).vm_list().vms == ()
    assert dict(node.headers[0]) == {"X-Skerry-Fleet": "f", "X-Skerry-Term": "4"}


def test_mirror_may_read() -> None:
    assert _client(Node(VMS), Standing(is_leading=False)).vm_list().vms == ()


def test_mirror_sends_nothing_that_changes() -> None:
    node = Node(VMS)
    with pytest.raises(NotLeading) as raised:
        _client(node, Standing(is_leading=False)).vm_start(VM, StartVm())
    assert raised.value.remedy
    assert node.headers == []


def test_superseded_is_taken_note_of_and_raised() -> None:
    standing = Standing()
    node = Node(_refusal("superseded", newest=7))
    with pytest.raises(Conflict) as raised:
        _client(node, standing).vm_start(VM, StartVm())
    assert raised.value.code == "superseded"
    assert standing.observed == [7]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(_refusal("superseded"), id="no-term"),
        pytest.param(_refusal("superseded", newest="seven"), id="no-number"),
        pytest.param(_refusal("vm_not_down", newest=7), id="another-conflict"),
        pytest.param(NodeUnreachable("gone"), id="unreachable"),
    ],
)
def test_nothing_else_ends_our_lead(reply: Reply | NodeUnreachable) -> None:
    standing = Standing()
    with pytest.raises((Conflict, NodeUnreachable)):
        _client(Node(reply), standing).vm_start(VM, StartVm())
    assert standing.observed == []


class Papers:
    """What Authority is to Calls."""

    def client_context(self) -> None:
        return None


def test_node_that_was_removed_is_not_called() -> None:
    fleet = fakes.make_fleet()
    made = calls.Calls(cast(Authority, Papers()), cast(Leadership, Standing()))

    class Nobody:
        def member(self, node_id: object) -> None:
            return None

    node = NodeView(fakes.ASH, "ash", "192.0.2.3", NodeState.UP, fakes.AT)
    with pytest.raises(NoSuchMember, match="ash"):
        made.node(cast(registry.Registry, Nobody()), node)
    assert isinstance(made.member(fleet.registry.members()[0]), MemberClient)
