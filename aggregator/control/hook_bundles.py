"""Install and remove bundles of hooks on many nodes at once.

Each node checks the signature itself, against the fleet's keys as it was told them. One
that cannot be reached, or refuses, is told of and keeps none of the others waiting.
"""

from collections.abc import Callable, Iterable
from concurrent import futures
from dataclasses import dataclass
from typing import Final

from aggregator.fleet.hook_rules import HookRules
from aggregator.registry import Member, NoSuchMember, Registry
from node import hook_bundle
from node.errors import Error
from node.http.client import NodeClient
from node.model.hooks import ReceiveHooks, RemoveHooks
from node.model.ids import NodeId

_CALLERS: Final = 8


@dataclass(frozen=True, slots=True)
class NodeOutcome:
    """How it went on one node."""

    node_id: NodeId
    name: str
    problem: str = ""


class HookBundles:
    """Any thread may call."""

    def __init__(
        self,
        registry: Registry,
        rules: HookRules,
        node: Callable[[NodeId], NodeClient],
    ) -> None:
        self._registry = registry
        self._rules = rules
        self._node = node

    def install(self, text: str, nodes: Iterable[NodeId]) -> tuple[NodeOutcome, ...]:
        """Install a bundle on these nodes, without any on all of them.

        BadBundle, BundleUnsigned, NoSuchMember: nothing is done anywhere.
        """
        read, _ = hook_bundle.read(text.encode())
        hook_bundle.signer(read, (e.pem for e in self._rules.of_fleet().hook_keys))

        def install(member: Member) -> None:
            if member in self._registry.untold():
                self._registry.tell(member)
            self._node(member.node_id).hook_receive(ReceiveHooks(text))

        return self._on_each(nodes, install)

    def remove(self, name: str, nodes: Iterable[NodeId]) -> tuple[NodeOutcome, ...]:
        """Remove a bundle from these nodes, without any from all; NoSuchMember."""
        return self._on_each(
            nodes,
            lambda member: self._node(member.node_id).hook_remove(RemoveHooks(name)),
        )

    def _on_each(
        self, nodes: Iterable[NodeId], act: Callable[[Member], object]
    ) -> tuple[NodeOutcome, ...]:
        def attempt(member: Member) -> NodeOutcome:
            try:
                act(member)
            except Error as error:
                return NodeOutcome(member.node_id, member.name, str(error))
            return NodeOutcome(member.node_id, member.name)

        with futures.ThreadPoolExecutor(_CALLERS, "hook-bundles") as pool:
            return tuple(pool.map(attempt, self._members(nodes)))

    def _members(self, nodes: Iterable[NodeId]) -> tuple[Member, ...]:
        named = tuple(nodes)
        if not named:
            return self._registry.members()
        found = [self._registry.member(each) for each in named]
        members = tuple(each for each in found if each is not None)
        if len(members) < len(found):
            raise NoSuchMember("a node that is named is no member")
        return members
