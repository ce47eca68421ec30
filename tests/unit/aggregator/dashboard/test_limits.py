"""Tests of the page of storage QoS and disk profiles, without scripts."""

import pytest

from aggregator.policies.profiles import Profiles, default_id
from node.model.ids import DiskId
from node.model.storage import DiskQos
from tests.fakes import fleet_storage as stored
from tests.unit.aggregator.dashboard import browsers
from tests.unit.aggregator.dashboard.browsers import Browser

PAGE = "/ui/limits"
DISK = f"/ui/disks/{stored.LOOSE}"


@pytest.fixture
def browser() -> Browser:
    browser = browsers.open_on(stored.make_fleet())
    browsers.log_in(browser)
    return browser


def now(browser: Browser) -> Profiles:
    return browser.fleet.orders.profiles.now()


def make_qos(browser: Browser, **limits: str) -> str:
    """Make a QoS as the form does; return its id."""
    center = browser.fleet.orders.pools.default_data_center()
    made = {"name": "slow", "data_center_id": center, **limits}
    answer = browser.post(f"{PAGE}/qos/new", **made)
    assert answer.status_code == 303, answer.text
    (qos_id,) = now(browser).qoss
    return qos_id


def test_page_shows_the_default_profiles_and_where_to_begin(browser: Browser) -> None:
    page = browser.get(PAGE)
    assert "no disk profile limits its disks" in page
    assert f"profile-{default_id(stored.DATA1)}" in page
    assert f'href="{PAGE}"' in browser.get("/ui/storage")


def test_qos_is_made_edited_and_removed(browser: Browser) -> None:
    qos_id = make_qos(browser, total_iops="1200", read_bytes_s="2.5")
    assert now(browser).qoss[qos_id].limits == DiskQos(1200, read_bytes_s=2_500_000)
    page = browser.get(PAGE)
    assert "1,200 operations/s" in page
    question = browser.get(f"{PAGE}/qos/{qos_id}/edit")
    assert 'value="1200"' in question
    browser.post(f"{PAGE}/qos/{qos_id}/edit", name="mean", total_iops="10")
    changed = now(browser).qoss[qos_id]
    assert (changed.name, changed.limits) == ("mean", DiskQos(10))
    browser.post(f"{PAGE}/qos/{qos_id}/remove")
    assert now(browser).qoss == {}


def test_profile_is_made_edited_given_to_a_disk_and_removed(browser: Browser) -> None:
    qos_id = make_qos(browser, total_iops="10")
    where = {"storage_domain_id": stored.DATA1, "qos_id": qos_id}
    browser.post(f"{PAGE}/profiles/new", name="thrifty", **where)
    (made,) = now(browser).kept.values()
    assert (made.name, made.qos_id) == ("thrifty", qos_id)
    assert "thrifty" in browser.get(f"{DISK}/profile")
    browser.post(f"{DISK}/profile", profile_id=made.profile_id)
    assert "thrifty" in browser.get(DISK)
    answer = browser.post(f"{PAGE}/profiles/{made.profile_id}/remove")
    assert made.profile_id in now(browser).kept, answer.text
    browser.post(f"{DISK}/profile", profile_id=default_id(stored.DATA1))
    browser.post(f"{PAGE}/profiles/{made.profile_id}/edit", name="mean", qos_id="")
    assert now(browser).kept[made.profile_id].qos_id is None
    browser.post(f"{PAGE}/profiles/{made.profile_id}/remove")
    assert now(browser).kept == {}


def test_wrong_answers_change_nothing(browser: Browser) -> None:
    before = now(browser)
    center = browser.fleet.orders.pools.default_data_center()
    for path, form in (
        ("qos/new", {"name": "", "data_center_id": center}),
        ("qos/new", {"name": "a", "data_center_id": "none"}),
        ("qos/new", {"name": "a", "data_center_id": center, "total_iops": "many"}),
        ("qos/none/edit", {"name": "a"}),
        ("profiles/new", {"name": "a", "storage_domain_id": stored.ISO1}),
        ("profiles/none/remove", {}),
    ):
        answer = browser.post(f"{PAGE}/{path}", **form)
        assert answer.status_code == 303, (path, answer.text)
    browser.post(f"{DISK}/profile", profile_id=default_id(stored.DATA2))
    assert DiskId(stored.LOOSE) not in now(browser).choices
    assert now(browser) == before


def test_names_that_people_chose_are_shown_as_they_are(browser: Browser) -> None:
    center = browser.fleet.orders.pools.default_data_center()
    made = {"name": "<b>100 %d</b>", "data_center_id": center}
    browser.post(f"{PAGE}/qos/new", **made)
    question = browser.get(f"{PAGE}/profiles/new")
    assert ">&lt;b&gt;100 %d&lt;/b&gt;</option>" in question
