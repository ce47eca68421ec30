"""Tests of aggregator.dashboard.uploads, as its script asks."""

from typing import Any

import pytest

from node.errors import Conflict
from node.model.ids import DiskId
from node.model.job import ErrorReport
from node.model.storage import DiskState, TransferPhase
from tests.fakes import fleet_storage as stored
from tests.fakes import storage_orders
from tests.fakes.services import OAK
from tests.unit.aggregator.dashboard import browsers
from tests.unit.aggregator.dashboard.browsers import Browser

DISK = DiskId("12345678-1234-4234-8234-123456789abc")
TRANSFER = "12345678-1234-4234-8234-123456789abd"
FORM = {
    "disk_id": DISK,
    "transfer_id": TRANSFER,
    "name": "a.iso",
    "storage_domain_id": stored.DATA1,
    "file_bytes": "1000",
    "disk_bytes": "1000",
    "disk_format": "raw",
}


@pytest.fixture
def browser() -> Browser:
    browser = browsers.open_on(stored.make_fleet())
    browsers.log_in(browser)
    return browser


def _ask(browser: Browser, what: str, **changes: str) -> tuple[int, Any]:
    answer = browser.post(f"/ui/uploads/{what}", **{**FORM, **changes})
    return answer.status_code, answer.get_json()


def _begun(browser: Browser) -> Any:
    """Ask until it is told where to send."""
    for _ in range(3):
        _, told = _ask(browser, "begin")
        if told["url"]:
            return told
    raise AssertionError(f"nothing is told: {told}")


def _verbs(browser: Browser) -> list[str]:
    return [verb for verb, _ in browser.fleet.node.transfers.asked]


def test_begin_makes_the_disk_first(browser: Browser) -> None:
    assert _ask(browser, "begin") == (
        200,
        {"phase": "making", "url": "", "transferred_bytes": 0},
    )
    row = browser.fleet.mirror.view.disks[DISK]
    assert (row.name, row.size_bytes) == ("a.iso", 1024)


def test_begin_makes_one_disk_however_often_it_is_asked(browser: Browser) -> None:
    browser.fleet.orders.is_held = True
    for _ in range(3):
        assert _ask(browser, "begin")[1]["phase"] == "making"
    assert len(browser.fleet.orders.storage.asked) == 1


def test_begin_tells_where_to_send(browser: Browser) -> None:
    """Where the page came from: a browser seldom reaches a node."""
    assert _begun(browser)["url"] == f"/transfers/{OAK}/images/12345678"


def test_begin_resumes_what_was_interrupted(browser: Browser) -> None:
    _begun(browser)
    paused = TransferPhase.PAUSED_SYSTEM
    browser.fleet.node.transfers.change(TRANSFER, phase=paused)
    assert _ask(browser, "begin")[1]["phase"] == "transferring"
    assert "transfer_resume" in _verbs(browser)


def test_begin_says_why_no_disk_is_made(browser: Browser) -> None:
    browser.fleet.orders.is_held = True
    _ask(browser, "begin")
    error = ErrorReport("conflict", "full", "data1 is full.", "Free some space.")
    (order,) = browser.fleet.orders.list()
    browser.fleet.orders.finish(order.order_id, error)
    status, told = _ask(browser, "begin")
    assert (status, told["code"]) == (500, "upload_disk_not_made")
    assert told["error"] == "data1 is full. Free some space."


def test_begin_makes_no_deleted_disk_again(browser: Browser) -> None:
    _ask(browser, "begin")
    browser.post(f"/ui/disks/{DISK}/delete")
    status, told = _ask(browser, "begin")
    assert (status, told["code"]) == (404, "upload_gone")


def test_begin_tells_what_the_node_refuses(browser: Browser) -> None:
    _ask(browser, "begin")
    browser.fleet.node.transfers.refusal = Conflict("the disk is in use")
    status, told = _ask(browser, "begin")
    assert (status, told["error"]) == (409, "the disk is in use")


def test_begin_refuses_a_form_that_is_wrong(browser: Browser) -> None:
    status, told = _ask(browser, "begin", file_bytes="0")
    assert (status, told["code"]) == (400, "bad_draft")


def test_finish_ends_the_transfer(browser: Browser) -> None:
    _begun(browser)
    assert _ask(browser, "finish")[1]["phase"] == "finished_success"
    assert "transfer_finalize" in _verbs(browser)


def test_finish_says_that_the_node_refused_what_came(browser: Browser) -> None:
    _begun(browser)
    failed = TransferPhase.FINISHED_FAILURE
    browser.fleet.node.transfers.change(TRANSFER, phase=failed)
    status, told = _ask(browser, "finish")
    assert (status, told["code"]) == (409, "upload_failed")


def test_give_up_cancels_then_deletes(browser: Browser) -> None:
    _begun(browser)
    assert _ask(browser, "give-up")[1]["phase"] == "cancelled"
    assert DISK in browser.fleet.mirror.view.disks
    assert _ask(browser, "give-up")[1]["phase"] == "gone"
    assert DISK not in browser.fleet.mirror.view.disks


def test_give_up_waits_for_the_lock_of_the_disk(browser: Browser) -> None:
    _begun(browser)
    _ask(browser, "give-up")
    locked = stored.disk(DISK, "a.iso", state=DiskState.LOCKED)
    storage_orders.say(browser.fleet.mirror, OAK, locked)
    assert _ask(browser, "give-up")[1]["phase"] == "locked"
    assert DISK in browser.fleet.mirror.view.disks


def test_give_up_of_nothing_is_done(browser: Browser) -> None:
    assert _ask(browser, "give-up")[1]["phase"] == "gone"
