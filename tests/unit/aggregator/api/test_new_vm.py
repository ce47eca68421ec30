"""What a person asks for, completed into a definition."""

import pytest

from aggregator.api import new_vm
from aggregator.api.model import NewVm
from aggregator.federation import apply
from aggregator.federation.apply import Said
from aggregator.federation.view import View
from node.model.feed import Kind
from node.model.storage import PoolMark
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import say, view_of

LOCAL, POOL = fleet.domain_id(3), fleet.local_pool_id(1)


@pytest.fixture
def view() -> View:
    """Return two nodes; the first has its own disk, the second an image."""
    mark = PoolMark(1, 1)
    own = fleet.pool(1, mark=mark, pool_id=POOL, is_local=True, master=LOCAL)
    disk = fleet.storage_domain(1, 3, pool=POOL, mark=mark)
    return say(view_of(1, 2), 1, own, disk)


def with_image(view: View, number: int) -> View:
    said = [Said(Kind.IMAGE, "image-1", b'{"name": "debian"}')]
    return apply.set_documents(view, fleet.node_id(number), said)[0]


def test_image_for_a_nodes_own_disk_must_be_that_nodes(view: View) -> None:
    asked = NewVm("web", "debian", storage_domain_id=LOCAL)
    with pytest.raises(new_vm.NoImage) as caught:
        new_vm.spec(with_image(view, 2), asked)
    assert "n1" in str(caught.value)
    assert new_vm.spec(with_image(view, 1), asked).pool_id == POOL


def test_image_of_any_node_does_where_the_place_is_not_chosen(view: View) -> None:
    made = new_vm.spec(with_image(view, 2), NewVm("web", "debian"))
    assert made.pool_id is None
