"""Who moves data, as pages ask for it."""

import pytest

from aggregator.dashboard import data_nodes
from aggregator.federation.view import View
from node.model.ids import PoolId
from tests.fakes import fleet_storage as stored
from tests.fakes.services import ELM, OAK
from tests.unit.aggregator.dashboard import browsers
from tests.unit.aggregator.dashboard.browsers import Browser

LOOSE = f"/ui/disks/{stored.LOOSE}"
APP = f"/ui/vms/{stored.APP}"
NEW = "aaaa0000-0000-4000-8000-000000000001"
S1 = "5a450000-0000-4000-8000-000000000001"


@pytest.fixture
def browser() -> Browser:
    browser = browsers.open_on(stored.make_fleet())
    browsers.log_in(browser)
    return browser


def test_fields_offer_the_nodes_of_a_shared_pool(storage: View) -> None:
    (field,) = data_nodes.fields(storage, stored.SHARED)
    assert [value for value, _ in field.choices] == ["", ELM, OAK]


@pytest.mark.parametrize("pool_id", [stored.OAK_POOL, None])
def test_fields_ask_nothing_where_nobody_can_be_chosen(
    storage: View, pool_id: PoolId | None
) -> None:
    assert data_nodes.fields(storage, pool_id) == ()


@pytest.mark.parametrize(
    ("page", "said"),
    [
        pytest.param(f"{LOOSE}/move", {"storage_domain_id": stored.DATA2}, id="move"),
        pytest.param(
            f"{LOOSE}/copy",
            {"storage_domain_id": stored.DATA2, "disk_id": NEW},
            id="copy",
        ),
        pytest.param(f"{LOOSE}/sparsify", {}, id="sparsify"),
        pytest.param(f"{APP}/template", {"template_id": NEW}, id="template"),
        pytest.param(f"{APP}/snapshots/{S1}/delete", {}, id="merge"),
        pytest.param(
            f"{APP}/snapshots/{S1}/clone", {"new_id": NEW, "name": "new"}, id="clone"
        ),
        pytest.param(
            f"/ui/templates/{S1}/new-vm",
            {"vm_id": NEW, "name": "new", "kind": "full"},
            id="vm-of-template",
        ),
    ],
)
def test_page_asks_who_moves_the_data_and_orders_it(
    browser: Browser, page: str, said: dict[str, str]
) -> None:
    browser.post(f"{APP}/snapshots/new", snapshot_id=S1)
    browser.post(f"{APP}/template", template_id=S1, name="debian")
    assert "data_node_id" in browser.get(page)
    answer = browser.post(page, data_node_id=ELM, **said)
    assert answer.status_code == 303, answer.text
    _, _, request, _ = browser.fleet.orders.storage.asked[-1]
    assert request.data_node_id == ELM
