"""Ask which node of a pool moves data, and read the answer. Pure."""

from collections.abc import Mapping
from typing import Final

from aggregator.dashboard import questions
from aggregator.dashboard.questions import Field
from aggregator.federation.view import NodeState, View
from node.model.ids import NodeId, PoolId

_NAME: Final = "data_node_id"


def fields(view: View, pool_id: PoolId | None) -> tuple[Field, ...]:
    """Return the question; none if there is nobody to choose."""
    pool = view.pools.get(pool_id) if pool_id is not None else None
    if pool is None or pool.is_local:
        return ()
    known = (view.nodes.get(each) for each in pool.sights)
    up = [each for each in known if each is not None and each.state is NodeState.UP]
    up.sort(key=lambda node: (node.name.casefold(), node.node_id))
    if len(up) < 2:
        return ()
    named = [(str(node.node_id), node.name) for node in up]
    anybody = ("", "the node that has least to do")
    return (questions.choice(_NAME, "Its data are moved by", [anybody, *named]),)


def chosen(form: Mapping[str, str]) -> NodeId | None:
    """Return who was chosen; None: nobody in particular."""
    said = form.get(_NAME, "")
    return NodeId(said) if said else None
