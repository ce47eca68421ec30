"""Tests of the pages of custom properties, without scripts."""

import pytest

from aggregator.policies.properties import Declaration, Level
from node import wire
from node.model.ids import VmId
from node.model.properties import CustomProperty
from node.model.vm import Vm, VmSpec
from tests.fakes import services as fakes
from tests.unit.aggregator.dashboard import browsers
from tests.unit.aggregator.dashboard.browsers import Browser

PAGE = "/ui/properties"
FORM = f"/ui/vms/{fakes.WEB1}/properties"
NEW = VmId("12345678-1234-4234-8234-123456789abc")


@pytest.fixture
def browser() -> Browser:
    browser = browsers.open_on(fakes.make_fleet())
    browsers.log_in(browser)
    properties = browser.fleet.orders.properties
    properties.declare(Level.VM, "pincpu", "[0-9-]+", "Where <it> runs, 100 %d.")
    properties.declare(Level.NIC, "macspoof", "true|false")
    return browser


def declared(browser: Browser) -> dict[tuple[Level, str], Declaration]:
    return dict(browser.fleet.orders.properties.now())


def spec(browser: Browser, vm_id: VmId = fakes.WEB1) -> VmSpec:
    document = browser.fleet.mirror.view.vms[vm_id].vm_document
    return wire.decode(Vm, document).spec


def test_page_shows_patterns_and_what_may_be_changed(browser: Browser) -> None:
    page = browser.get(PAGE)
    assert "Where &lt;it&gt; runs, 100 %d." in page
    assert f'href="{PAGE}/vm/pincpu/edit"' in page
    assert f'href="{PAGE}/vm/sap_agent/edit"' not in page
    assert f'href="{PAGE}"' in browser.get("/ui/vms")


def test_property_is_declared_edited_and_removed(browser: Browser) -> None:
    made = {"level": "disk", "name": "unmap", "pattern": "on|off", "help": "Give back."}
    assert browser.post(f"{PAGE}/new", **made).status_code == 303
    key = (Level.DISK, "unmap")
    assert declared(browser)[key].help == "Give back."
    assert 'value="on|off"' in browser.get(f"{PAGE}/disk/unmap/edit")
    browser.post(f"{PAGE}/disk/unmap/edit", pattern="on")
    assert declared(browser)[key] == Declaration(Level.DISK, "unmap", "on")
    assert "Remove: unmap" in browser.get(f"{PAGE}/disk/unmap/remove")
    browser.post(f"{PAGE}/disk/unmap/remove")
    assert key not in declared(browser)


def test_hook_that_is_needed_is_asked_for_and_shown(browser: Browser) -> None:
    hook = "before_vm_start/50_numa"
    made = {"level": "vm", "name": "numa", "pattern": ".*", "needs_hook": hook}
    assert browser.post(f"{PAGE}/new", **made).status_code == 303
    assert declared(browser)[Level.VM, "numa"].needs_hook == hook
    assert f'value="{hook}"' in browser.get(f"{PAGE}/vm/numa/edit")
    assert hook in browser.get(PAGE)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("new", {"level": "vm", "name": "PATH", "pattern": "x"}),
        ("new", {"level": "vm", "name": "a", "pattern": "x", "needs_hook": "x"}),
        ("new", {"level": "vm", "name": "a", "pattern": "("}),
        ("new", {"level": "host", "name": "a", "pattern": "x"}),
        ("vm/none/edit", {"pattern": "x"}),
        ("vm/sap_agent/edit", {"pattern": "x"}),
        ("vm/sap_agent/remove", {}),
    ],
)
def test_wrong_answers_change_nothing(
    browser: Browser, path: str, fields: dict[str, str]
) -> None:
    before = declared(browser)
    assert browser.post(f"{PAGE}/{path}", **fields).status_code == 303
    assert declared(browser) == before


def test_form_has_a_row_for_each_property(browser: Browser) -> None:
    page = browser.get(FORM)
    assert 'name="property/pincpu"' in page
    assert 'name="property/macspoof"' in page
    assert "Where &lt;it&gt; runs, 100 %d." in page
    assert page.count('<form class="card form"') == 2


def test_values_are_given_and_taken_away(browser: Browser) -> None:
    given = {"property/pincpu": "1-4", "property/sap_agent": "true"}
    answer = browser.post(FORM, device_id="", generation="1", **given)
    assert answer.status_code == 303, answer.text
    assert spec(browser).custom_properties == (
        CustomProperty("pincpu", "1-4"),
        CustomProperty("sap_agent", "true"),
    )
    assert "1-4" in browser.get(f"/ui/vms/{fakes.WEB1}")
    browser.post(FORM, device_id="", **{"property/pincpu": "1-4"})
    assert spec(browser).custom_properties == (CustomProperty("pincpu", "1-4"),)


def test_value_is_given_to_a_card(browser: Browser) -> None:
    nic_id = spec(browser).nics[0].nic_id
    browser.post(FORM, device_id=nic_id, **{"property/macspoof": "true"})
    found = spec(browser).nics[0].custom_properties
    assert found == (CustomProperty("macspoof", "true"),)
    assert spec(browser).custom_properties == ()


def test_wrong_value_comes_back_with_what_is_wrong(browser: Browser) -> None:
    answer = browser.post(FORM, device_id="", **{"property/pincpu": "<all>"})
    assert answer.status_code == 400
    assert 'value="&lt;all&gt;"' in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert "must match [0-9-]+" in answer.text
    assert spec(browser).custom_properties == ()


def test_order_is_based_on_what_was_shown(browser: Browser) -> None:
    for seen, expected in (("7", 7), ("x", 2)):
        browser.post(FORM, generation=seen, **{"property/pincpu": "1"})
        request = browser.fleet.orders.storage.asked[-1][2]
        assert request.generation == expected


def test_value_of_no_device_changes_nothing(browser: Browser) -> None:
    before = spec(browser)
    browser.post(FORM, device_id=NEW, **{"property/pincpu": "1"})
    assert spec(browser) == before


def _create(browser: Browser, value: str) -> int:
    fields = {"vm_id": NEW, "name": "new", "image": "debian-12", "memory_gib": "1"}
    fields |= {"vcpus": "1", "firmware": "bios", "network": "skerry"}
    fields |= {"interface": "virtio", "property/pincpu": value}
    return browser.post("/ui/vms/new", **fields).status_code


def test_new_vm_has_what_its_form_says(browser: Browser) -> None:
    assert 'name="property/pincpu"' in browser.get("/ui/vms/new")
    assert _create(browser, "all") == 400
    assert NEW not in browser.fleet.mirror.view.vms
    assert _create(browser, "2") == 303
    assert spec(browser, NEW).custom_properties == (CustomProperty("pincpu", "2"),)
