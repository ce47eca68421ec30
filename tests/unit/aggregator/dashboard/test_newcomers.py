"""The pages of VMs that came with a storage domain, as a browser without scripts."""

import re
from dataclasses import replace

import pytest

from node.model.exports import RemoveExported
from node.model.ids import DiskId, VmId
from node.model.reason import Reason
from node.model.unregistered import Source, Unregistered, UnregisteredVm
from tests.fakes import fleet_storage as stored
from tests.fakes import services, storage_orders
from tests.fakes.services import AT
from tests.unit.aggregator.dashboard import browsers
from tests.unit.aggregator.dashboard.browsers import Browser

DATA1 = f"/ui/storage/{stored.DATA1}"
PAGE = f"{DATA1}/unregistered"
VM = VmId("aaaaaaaa-0000-4000-8000-0000000000ff")
CAME = UnregisteredVm(services.spec(VM, "came"), Source.OVF_STORE, 3)
HARD = replace(
    CAME, may_run=True, snapshots=2, missing_disks=(DiskId("x"),), is_template=True
)
DAMAGED = Reason("ovf_store_damaged", AT, {"name": "", "detail": "it is cut off"})


@pytest.fixture
def browser() -> Browser:
    browser = browsers.open_on(stored.make_fleet())
    browsers.log_in(browser)
    browser.fleet.node.lying = Unregistered((CAME,), (DAMAGED,))
    return browser


def _texts(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_storage_domain_leads_to_what_came_with_it(browser: Browser) -> None:
    assert f'href="{PAGE}"' in browser.get(DATA1)


def test_page_lists_what_waits_and_what_cannot_be_read(browser: Browser) -> None:
    page = browser.get(PAGE)
    assert f'href="{PAGE}/{VM}"' in page
    assert "it is cut off" in _texts(page)


def test_page_says_when_nothing_waits(browser: Browser) -> None:
    browser.fleet.node.lying = Unregistered()
    assert "None waits there." in browser.get(PAGE)


def test_page_notes_what_stands_in_the_way(browser: Browser) -> None:
    browser.fleet.node.lying = Unregistered((HARD,))
    page = _texts(browser.get(PAGE))
    for note in (
        "a template",
        "snapshots: 2",
        "disks that are not here: 1",
        "it may run somewhere",
    ):
        assert note in page


@pytest.mark.parametrize(
    ("found", "fields"),
    [
        (CAME, ["name", "clone"]),
        (HARD, ["name", "clone", "may_lose_disks", "is_forced"]),
    ],
    ids=["plain", "hard"],
)
def test_question_offers_what_can_be_chosen(
    browser: Browser, found: UnregisteredVm, fields: list[str]
) -> None:
    browser.fleet.node.lying = Unregistered((found,))
    page = browser.get(f"{PAGE}/{VM}")
    assert [each for each in fields if f'name="{each}"' not in page] == []
    assert ('name="is_forced"' in page) is found.may_run


def test_answer_orders_the_registering(browser: Browser) -> None:
    form = {"name": "new", "clone": "yes", "may_lose_disks": "yes"}
    answer = browser.post(f"{PAGE}/{VM}", **form)
    verb, where, request, _ = browser.fleet.orders.storage.asked[-1]
    assert answer.status_code == 303
    assert (verb, where) == ("storage_domain_register_vm", stored.DATA1)
    assert (request.name, request.may_lose_disks, request.is_forced) == (
        "new",
        True,
        False,
    )
    assert request.as_vm_id not in (None, VM)


def test_what_does_not_wait_cannot_be_asked_for(browser: Browser) -> None:
    browser.fleet.node.lying = Unregistered()
    assert "does not wait there" in browser.get(f"{PAGE}/{VM}")


def test_export_storage_domain_leads_to_what_lies_there(browser: Browser) -> None:
    place = f"/ui/storage/{stored.DATA2}"
    storage_orders.say(browser.fleet.mirror, services.OAK, stored.export())
    page = browser.get(place)
    assert f'href="{place}/unregistered"' in page
    assert "VMs that lie there" in page
    page = browser.get(f"{place}/unregistered")
    assert "VMs exported to data2" in _texts(page)
    assert "came" in page
    browser.fleet.node.lying = Unregistered()
    assert "None lies there." in browser.get(f"{place}/unregistered")


def test_import_asks_where_the_disks_go(browser: Browser) -> None:
    place = f"/ui/storage/{stored.DATA2}/unregistered/{VM}"
    exported = replace(CAME, source=Source.EXPORT)
    browser.fleet.node.lying = Unregistered((exported,))
    storage_orders.say(browser.fleet.mirror, services.OAK, stored.export())
    page = browser.get(place)
    assert f'value="{stored.DATA1}"' in page
    assert f'value="{stored.DATA2}"' not in page
    assert "Import" in page
    browser.post(place, name="", to=stored.DATA1)
    ((verb, where, request, _),) = browser.fleet.orders.storage.asked
    assert (verb, where) == ("storage_domain_register_vm", stored.DATA2)
    assert request.to_storage_domain_id == stored.DATA1


def test_export_is_removed_when_that_is_meant(browser: Browser) -> None:
    place = f"/ui/storage/{stored.DATA2}/unregistered"
    exported = replace(CAME, source=Source.EXPORT)
    browser.fleet.node.lying = Unregistered((exported,))
    storage_orders.say(browser.fleet.mirror, services.OAK, stored.export())
    assert f'href="{place}/{VM}/remove"' in browser.get(place)
    assert "for good" in browser.get(f"{place}/{VM}/remove")
    browser.post(f"{place}/{VM}/remove")
    ((verb, where, request, _),) = browser.fleet.orders.storage.asked
    assert (verb, where) == ("storage_domain_remove_exported", stored.DATA2)
    assert request == RemoveExported(VM)
