"""Tests of the pages of snapshots as a browser without scripts."""

from dataclasses import replace

import pytest

from node import wire
from node.model import storage_requests as bodies
from node.model.ids import SnapshotId
from node.model.storage import SnapshotState
from node.model.vm import Vm
from tests.fakes import fleet_storage as stored
from tests.fakes import storage_orders
from tests.fakes.services import OAK
from tests.unit.aggregator.dashboard import browsers
from tests.unit.aggregator.dashboard.browsers import Browser

APP = f"/ui/vms/{stored.APP}"
CHOSEN = SnapshotId("5a450000-0000-4000-8000-000000000001")
ONE = f"{APP}/snapshots/{CHOSEN}"


@pytest.fixture
def browser() -> Browser:
    browser = browsers.open_on(stored.make_fleet())
    browsers.log_in(browser)
    return browser


def take(browser: Browser) -> None:
    answer = browser.post(
        f"{APP}/snapshots/new", snapshot_id=CHOSEN, description="before"
    )
    assert answer.status_code == 303, answer.text


def asked(browser: Browser) -> list[tuple[str, object]]:
    """Return what was ordered of the VM: the verbs and their bodies."""
    found = browser.fleet.orders.storage.asked
    return [(verb, request) for verb, at, request, _ in found if at == stored.APP]


def test_page_says_that_there_is_none(browser: Browser) -> None:
    page = browser.get(APP)
    assert "None has been taken." in page
    assert f"{APP}/snapshots/new" in page


def test_taking_one_is_asked_for_with_an_id_of_its_own(browser: Browser) -> None:
    page = browser.get(f"{APP}/snapshots/new")
    assert len(browsers.hidden(page, "snapshot_id")) == len(CHOSEN)
    take(browser)
    assert asked(browser) == [
        ("vm_snapshot_create", bodies.CreateSnapshot(CHOSEN, "before"))
    ]


def test_memory_is_kept_and_gone_back_to_if_it_is_ticked(browser: Browser) -> None:
    browser.post(f"{APP}/snapshots/new", snapshot_id=CHOSEN, has_memory="yes")
    assert ", memory" in browser.get(APP)
    assert 'name="has_memory"' in browser.get(f"{ONE}/preview")
    browser.post(f"{ONE}/preview", has_memory="yes")
    assert [request for _, request in asked(browser)] == [
        bodies.CreateSnapshot(CHOSEN, has_memory=True),
        bodies.PreviewSnapshot(CHOSEN, has_memory=True),
    ]


def test_memory_that_is_not_there_is_not_offered(browser: Browser) -> None:
    take(browser)
    for name in ("preview", "restore"):
        assert "has_memory" not in browser.get(f"{ONE}/{name}")


def test_one_that_is_under_way_shows_its_progress(browser: Browser) -> None:
    browser.fleet.orders.is_held = True
    take(browser)
    page = browser.get(APP)
    assert "under-way" in page
    assert "Take a snapshot of VM app" in page


@pytest.mark.parametrize("name", ["preview", "restore", "clone", "delete"])
def test_what_may_be_done_is_asked_for_first(browser: Browser, name: str) -> None:
    take(browser)
    assert f"{ONE}/{name}" in browser.get(APP)
    assert ": before" in browser.get(f"{ONE}/{name}")


@pytest.mark.parametrize(
    ("name", "verbs"),
    [
        ("preview", ["vm_snapshot_preview"]),
        ("restore", ["vm_snapshot_preview", "vm_snapshot_commit"]),
        ("delete", ["vm_snapshot_delete"]),
    ],
    ids=["preview", "restore", "delete"],
)
def test_an_action_is_ordered(browser: Browser, name: str, verbs: list[str]) -> None:
    take(browser)
    assert browser.post(f"{ONE}/{name}").status_code == 303
    assert [verb for verb, _ in asked(browser)][1:] == verbs


@pytest.mark.parametrize("name", ["commit", "undo"])
def test_a_preview_is_ended(browser: Browser, name: str) -> None:
    take(browser)
    browser.post(f"{ONE}/preview")
    assert "As it was before the preview" in browser.get(APP)
    browser.post(f"{APP}/snapshots/{name}")
    assert asked(browser)[-1] == (f"vm_snapshot_{name}", bodies.ActOnSnapshot())
    assert "As it was before the preview" not in browser.get(APP)


def test_one_that_is_not_there_is_a_page(browser: Browser) -> None:
    answer = browser.client.get(f"{ONE}/delete")
    assert (answer.status_code, "no snapshot" in answer.text) == (404, True)


def test_a_clone_is_ordered_once_however_often_it_is_sent(browser: Browser) -> None:
    take(browser)
    new_id = browsers.hidden(browser.get(f"{ONE}/clone"), "new_id")
    for _ in range(2):
        answer = browser.post(f"{ONE}/clone", new_id=new_id, name="app2")
        assert answer.status_code == 303
    found = browser.fleet.orders.storage.asked
    clones = [each for each in found if each[0] == "vm_clone"]
    assert {object_id for _, object_id, *_ in clones} == {new_id}
    assert clones[0][2] == clones[-1][2]
    assert clones[0][2].spec.name == "app2"


def test_one_that_was_interrupted_is_asked_for_again(browser: Browser) -> None:
    take(browser)
    vm = stored.definition()
    (snapshot,) = wire.decode(
        Vm, browser.fleet.mirror.view.vms[stored.APP].vm_document
    ).snapshots
    locked = replace(snapshot, state=SnapshotState.LOCKED)
    newer = replace(vm, generation=99, snapshots=(locked,), snapshot_id=CHOSEN)
    storage_orders.say(browser.fleet.mirror, OAK, newer)
    page = browser.get(APP)
    assert "Interrupted" in page
    assert f"{ONE}/finish" in page
    browser.post(f"{ONE}/finish")
    request = bodies.CreateSnapshot(CHOSEN, "before")
    assert asked(browser) == [("vm_snapshot_create", request)] * 2
