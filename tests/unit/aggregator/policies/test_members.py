"""Who is asked to join a pool."""

from aggregator.federation import apply
from aggregator.federation.view import NodeState, View
from aggregator.policies import members
from node.model.ids import NodeId
from node.model.storage import DomainRole, PoolMark
from tests.fakes import fleet
from tests.unit.aggregator.federation.test_apply import SILENT, hear, view_of

POOL = fleet.pool_id()
TWO = fleet.node_id(2)


def everyone(_node_id: NodeId) -> bool:
    return True


def joined(view: View, *resting: NodeId) -> list[NodeId]:
    found = members.join(view, POOL, everyone, resting)
    return [each.node_id for each in found]


def one_joined() -> View:
    return hear(view_of(1, 2), 1, fleet.pool(1, mark=PoolMark(1, 1)))


def test_join_asks_who_does_not_speak_of_the_pool() -> None:
    assert joined(one_joined()) == [TWO]
    (joining,) = members.join(one_joined(), POOL, everyone, ())
    (domain,) = joining.request.domains
    assert (joining.request.name, domain.role) == ("pool1", DomainRole.MASTER)
    assert (domain.pool_id, domain.connection) == (POOL, fleet.connection(1))


def test_join_asks_nobody_twice() -> None:
    assert joined(one_joined(), TWO) == []
    assert joined(hear(one_joined(), 2, fleet.pool(2))) == []


def test_join_asks_only_who_is_wanted() -> None:
    assert members.join(one_joined(), POOL, lambda each: each != TWO, ()) == ()


def test_join_asks_only_who_is_up_and_able() -> None:
    silent = NodeState.UNREACHABLE
    view = apply.set_state(one_joined(), TWO, silent, SILENT, fleet.AT)
    assert joined(view) == []
    assert joined(hear(one_joined(), 2, fleet.facts(2, features=("vm",)))) == []


def test_join_needs_to_know_the_way() -> None:
    lost = fleet.pool_domain(1, connection=None)
    view = hear(view_of(1, 2), 1, fleet.pool(1, domains=(lost,)))
    assert joined(view) == []
    assert joined(View()) == []


def test_join_asks_no_more_than_a_pool_has_room_for() -> None:
    view = hear(view_of(*range(1, 16)), 1, fleet.pool(1, mark=PoolMark(1, 1)))
    assert len(joined(view)) == members.AT_ONCE_MAX
    others = [fleet.node_id(number) for number in range(1000, 1000 + 246)]
    assert len(joined(view, *others)) == members.NODES_MAX - 1 - len(others)
    assert joined(view, *others, *map(fleet.node_id, range(2000, 2010))) == []
