"""Show the hooks of hosts, as oVirt lists them: script, event, and a sum."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aggregator.federation.view import NodeView
from aggregator.rest import fleet
from aggregator.rest.resource import Field, Reference, Resource
from node.model.hooks import HookScript
from node.model.ids import NodeId


@dataclass(frozen=True, slots=True)
class NodeHook:
    node_id: NodeId
    script: HookScript

    @property
    def hook_id(self) -> str:
        where = f"hook-{self.script.path}"
        return fleet.derived_id(self.node_id, where)


def of_node(node: NodeView) -> Iterable[NodeHook]:
    """Yield the scripts that run on a node; one that must not is none of them."""
    for script in node.facts.hooks if node.facts else ():
        if not script.refused:
            yield NodeHook(node.node_id, script)


HOOK: Final[Resource[NodeHook]] = Resource(
    "hook",
    "hooks",
    lambda row: row.hook_id,
    (
        Field("name", lambda context, row: row.script.name),
        Field("event_name", lambda context, row: row.script.point),
        Field("md5", lambda context, row: row.script.md5),
    ),
    (Reference("host", lambda context, row: f"hosts/{row.node_id}"),),
)
