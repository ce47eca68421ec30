"""The dashboard in a real browser, against waitress on loopback.

The browser is Debian's chromium; the services are fakes with a real clock. What
only looks shares a server and a session; what acts has its own.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright import sync_api
from playwright.sync_api import Page, expect

from aggregator.dashboard import assets, moments
from node.model.ids import DiskId
from node.model.vm import VmState
from tests.contract.windows import PHONE, WAIT_S, Site, Window, looking, serving
from tests.fakes import fleet_storage, storage_orders
from tests.fakes import services as fakes

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# What changes on a node is on the dashboard within a second; the fakes have no
# feed, and the two cores of a test machine are shared.
LIVE_MS = 3000
IDLE_TABS = 12  # more than the server's threads
PIECE_BYTES = 8 * 1024 * 1024  # what a browser sends at once
# Half of what a question waits: if idle tabs took all room, a click took longer.
ROOM_MS = round(moments.WAIT_MAX_S * 1000 / 2)
PATHS = (
    "/",
    "/ui/nodes",
    f"/ui/nodes/{fakes.OAK}",
    "/ui/nodes/add",
    "/ui/vms",
    f"/ui/vms/{fakes.WEB1}",
    f"/ui/vms/{fakes.OLD}",
    f"/ui/vms/{fakes.WEB1}/stop",
    "/ui/vms/new",
    f"/ui/vms/{fleet_storage.APP}",
    f"/ui/vms/{fakes.WEB1}/properties",
    "/ui/properties",
    "/ui/properties/new",
    "/ui/hooks",
    "/ui/hooks/keys/new",
    "/ui/storage",
    "/ui/storage/new",
    f"/ui/storage/{fleet_storage.DATA1}",
    f"/ui/storage/{fleet_storage.ISO1}/detach",
    f"/ui/storage/{fleet_storage.DATA1}/check",
    f"/ui/pools/{fleet_storage.SHARED}",
    "/ui/disks",
    "/ui/disks/new",
    "/ui/limits",
    f"/ui/disks/{fleet_storage.SYSTEM}",
    f"/ui/disks/{fleet_storage.SYSTEM}/copy",
    "/ui/templates",
    f"/ui/vms/{fleet_storage.APP}/template",
    "/ui/events",
    "/ui/tasks",
    "/ui/search?q=the",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as tool:
        running = tool.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def window(browser: sync_api.Browser, site: Site) -> Iterator[Window]:
    with looking(browser, site) as window:
        yield window
        window.check()


@pytest.fixture
def page(window: Window) -> Page:
    return window.page


@pytest.fixture
def plain(browser: sync_api.Browser, site: Site) -> Iterator[Page]:
    """Yield a page of a browser without JavaScript."""
    with looking(browser, site, has_script=False) as window:
        yield window.page
        window.check()


# what only looks


@pytest.fixture(scope="module")
def still_site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture(scope="module")
def still(browser: sync_api.Browser, still_site: Site) -> Iterator[Window]:
    with looking(browser, still_site) as window:
        yield window


@pytest.fixture(scope="module")
def still_phone(browser: sync_api.Browser, still_site: Site) -> Iterator[Window]:
    with looking(browser, still_site, PHONE) as window:
        yield window


@pytest.fixture(scope="module")
def still_plain(browser: sync_api.Browser, still_site: Site) -> Iterator[Window]:
    with looking(browser, still_site, has_script=False) as window:
        yield window


@pytest.fixture(scope="module", params=PATHS)
def shown(request: pytest.FixtureRequest, still_phone: Window) -> Page:
    """Return one path on a phone, loaded once for all that is checked of it."""
    still_phone.page.goto(request.param)
    return still_phone.page


@pytest.fixture
def reader(still: Window) -> Iterator[Page]:
    """Yield a page to a test that changes nothing on the server."""
    yield still.page
    still.check()


def test_nothing_is_wider_than_a_phone(shown: Page) -> None:
    width = shown.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"]


def test_everything_that_acts_has_a_name(shown: Page) -> None:
    nameless = shown.locator("a, button, input:not([type=hidden]), select, summary")
    lines = nameless.evaluate_all(
        """elements => elements
          .filter(each => !(each.textContent.trim() || each.ariaLabel ||
                            (each.labels && each.labels.length)))
          .map(each => each.outerHTML)"""
    )
    assert lines == []


def test_no_id_stands_twice(shown: Page) -> None:
    ids = shown.evaluate("[...document.querySelectorAll('[id]')].map(each => each.id)")
    assert len(ids) == len(set(ids))


def test_the_browser_has_nothing_to_complain_of(
    shown: Page, still_phone: Window
) -> None:
    expect(shown.locator("main h1")).to_be_visible()
    still_phone.check()


@pytest.mark.parametrize("path", PATHS)
def test_pages_work_without_scripts(path: str, still_plain: Window) -> None:
    answer = still_plain.page.goto(path)
    assert answer
    assert answer.ok
    expect(still_plain.page.locator("main h1")).to_be_visible()
    still_plain.check()


def _vm_row(page: Page, vm_id: str = fakes.WEB1) -> sync_api.Locator:
    return page.locator(f"#vm-{vm_id}")


def _turn_web1(site: Site, state: VmState) -> None:
    vm = site.fleet.mirror.view.vms[fakes.WEB1]
    site.fleet.mirror.put_vm(fakes.turned(vm, state, vm.wanted, fakes.AT))


# keys


@pytest.mark.parametrize(
    ("keys", "heading"),
    [
        pytest.param("gn", "Nodes", id="nodes"),
        pytest.param("gv", "VMs", id="vms"),
        pytest.param("gs", "Storage", id="storage"),
        pytest.param("gd", "Disks", id="disks"),
        pytest.param("ge", "Events", id="events"),
        pytest.param("cv", "Create VM", id="create"),
    ],
)
def test_two_keys_jump(keys: str, heading: str, reader: Page) -> None:
    reader.goto("/ui/tasks")
    for key in keys:
        reader.keyboard.press(key)
    expect(reader.get_by_role("heading", name=heading, level=1)).to_be_visible()


def test_rows_are_walked_and_opened(reader: Page) -> None:
    reader.goto("/ui/vms")
    for key in ("j", "j", "j", "k", "Enter"):
        reader.keyboard.press(key)
    expect(reader.get_by_role("heading", name="build", level=1)).to_be_visible()


@pytest.mark.parametrize("keys", ["/", "Control+k"])
def test_the_search_is_a_key_away(keys: str, reader: Page) -> None:
    reader.goto("/ui/vms")
    reader.keyboard.press(keys)
    reader.keyboard.type("the w")
    reader.keyboard.press("Enter")
    expect(reader.get_by_role("heading", name="Found for")).to_be_visible()


def test_the_keys_are_told(reader: Page) -> None:
    reader.goto("/ui/vms")
    reader.keyboard.press("?")
    expect(reader.get_by_role("dialog")).to_contain_text("next, previous row")


def test_the_first_tab_skips_to_the_content(reader: Page) -> None:
    reader.goto("/ui/vms")
    reader.keyboard.press("Tab")
    reader.keyboard.press("Enter")
    assert reader.evaluate("document.activeElement.id") == "page"


def test_the_theme_is_remembered(reader: Page) -> None:
    reader.goto("/ui/vms")
    before = reader.evaluate("getComputedStyle(document.body).backgroundColor")
    reader.get_by_label("Light or dark").click()
    reader.reload()
    after = reader.evaluate("getComputedStyle(document.body).backgroundColor")
    assert before != after


# live


def test_a_change_shows_without_a_reload(page: Page, site: Site) -> None:
    page.goto("/ui/vms")
    expect(_vm_row(page)).to_contain_text("Up")
    page.evaluate("document.body.dataset.same = 'page'")
    _turn_web1(site, VmState.PAUSED)
    expect(_vm_row(page)).to_contain_text("Paused", timeout=LIVE_MS)
    assert page.evaluate("document.body.dataset.same") == "page"


def test_what_a_person_opened_and_typed_survives_a_change(
    page: Page, site: Site
) -> None:
    if not assets.address("vendor/idiomorph.min.js"):
        pytest.skip("needs idiomorph, which `make browser` fetches")
    page.goto("/ui/vms")
    page.get_by_label("Filter").fill("half a wo")
    page.get_by_label("More for web1").click()
    _turn_web1(site, VmState.POWERING_DOWN)
    expect(_vm_row(page)).to_contain_text("Powering down", timeout=LIVE_MS)
    assert page.get_by_label("Filter").input_value() == "half a wo"
    assert page.locator(f"#menu-{fakes.WEB1}").get_attribute("open") is not None


def test_a_change_shows_also_without_idiomorph(page: Page, site: Site) -> None:
    page.route("**/idiomorph*", lambda route: route.fulfill(body=""))
    page.goto("/ui/vms")
    _turn_web1(site, VmState.PAUSED)
    expect(_vm_row(page)).to_contain_text("Paused", timeout=LIVE_MS)


def test_many_idle_tabs_leave_room_for_a_click(page: Page, site: Site) -> None:
    for _ in range(IDLE_TABS):
        page.context.new_page().goto("/ui/events")
    page.goto("/ui/vms", timeout=ROOM_MS)
    _turn_web1(site, VmState.PAUSED)
    expect(_vm_row(page)).to_contain_text("Paused", timeout=ROOM_MS)


def test_a_server_that_is_gone_is_told(page: Page, site: Site) -> None:
    page.goto("/ui/vms")
    page.route("**/ui/changes*", lambda route: route.abort("failed"))
    site.fleet.events.record("aggregator_started")  # ends the question under way
    expect(page.get_by_text("does not answer")).to_be_visible(timeout=30_000)
    page.unroute("**/ui/changes*")
    expect(page.get_by_text("does not answer")).to_be_hidden(timeout=30_000)


# acting


def test_login_leads_to_the_overview(page: Page) -> None:
    page.context.clear_cookies()
    page.goto("/")
    page.get_by_label("Password").fill(fakes.PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_an_action_is_asked_for_in_its_row(page: Page) -> None:
    page.goto("/ui/vms?q=web1")
    _vm_row(page).get_by_role("button", name="Shut down").click()
    expect(_vm_row(page)).to_contain_text("Down", timeout=LIVE_MS)
    expect(page.locator("#tasks")).to_contain_text("Stop VM web1")
    assert page.url.endswith("/ui/vms?q=web1")


def test_force_is_asked_for_twice(page: Page, site: Site) -> None:
    page.goto("/ui/vms")
    page.get_by_label("More for web1").click()
    _vm_row(page).get_by_role("link", name="Stop by force").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("as if its power were cut")
    assert site.fleet.mirror.view.vms[fakes.WEB1].state is VmState.UP
    question.get_by_role("button", name="Stop by force").click()
    expect(_vm_row(page)).to_contain_text("Down", timeout=LIVE_MS)


def test_a_question_can_be_left(page: Page, site: Site) -> None:
    page.goto("/ui/vms")
    page.get_by_label("More for web1").click()
    _vm_row(page).get_by_role("link", name="Stop by force").click()
    page.get_by_role("dialog").get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert site.fleet.mirror.view.vms[fakes.WEB1].state is VmState.UP


def test_a_candidate_is_admitted_after_comparing(page: Page) -> None:
    page.goto("/ui/nodes")
    fir = page.get_by_role("article").filter(has_text="fir")
    expect(fir).to_contain_text("abab abab")
    fir.get_by_role("link", name="Admit").click()
    page.get_by_role("button", name="They are the same").click()
    expect(page.get_by_text("fir was admitted")).to_be_visible()
    expect(page.locator("#node-table")).to_contain_text("Connecting")


def test_a_vm_is_created(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Create VM").click()
    page.get_by_label("Name").fill("fresh")
    page.get_by_role("button", name="Create VM").click()
    expect(page.get_by_role("heading", name="fresh")).to_be_visible()
    expect(page.locator(".head.object")).to_contain_text("Up", timeout=LIVE_MS)


def test_a_wrong_property_is_told_beside_its_field(window: Window) -> None:
    page = window.page
    page.goto("/ui/properties")
    page.get_by_role("link", name="Declare a property").click()
    page.get_by_label("Name", exact=True).fill("pincpu")
    page.get_by_label("Pattern of values").fill("[0-9-]+")
    page.get_by_role("button", name="Declare").click()
    expect(page.locator("#property-vm-pincpu")).to_be_visible()
    page.goto(f"/ui/vms/{fakes.WEB1}/properties")
    field = page.get_by_label("pincpu")
    field.fill("all")
    with window.expect_refusal():
        page.get_by_role("button", name="Save").first.click()
    expect(field).to_have_accessible_description(re.compile("must match"))
    field.fill("1-4")
    page.get_by_role("button", name="Save").first.click()
    expect(page.locator("#property-table")).to_contain_text("1-4")


def test_actions_work_without_scripts(plain: Page) -> None:
    plain.goto("/ui/vms")
    _vm_row(plain).get_by_text("⋯").click()
    _vm_row(plain).get_by_role("link", name="Stop by force").click()
    plain.get_by_role("button", name="Stop by force").click()
    expect(_vm_row(plain)).to_contain_text("Down")


# storage


def test_a_storage_domain_goes_into_maintenance_after_a_question(page: Page) -> None:
    page.goto(f"/ui/storage/{fleet_storage.DATA2}")
    page.get_by_role("link", name="Put into maintenance").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("No node uses it any more")
    question.get_by_role("button", name="Put into maintenance").click()
    head = page.locator(".head.object")
    expect(head).to_contain_text("Maintenance", timeout=LIVE_MS)
    expect(head.get_by_role("button", name="Activate")).to_be_visible()


def test_new_storage_is_looked_at_then_made(page: Page) -> None:
    page.goto("/ui/storage")
    page.get_by_role("link", name="Add storage").click()
    page.get_by_role("textbox", name="NFS server").fill("nas.test")
    page.get_by_role("textbox", name="Path").fill("/exports/new")
    page.get_by_role("button", name="Look what is there").click()
    expect(page.get_by_text("no storage domain lies there yet")).to_be_visible()
    page.get_by_role("textbox", name="Name").fill("fresh")
    page.get_by_role("button", name="Make it and use it").click()
    expect(page.get_by_role("heading", name="fresh", level=1)).to_be_visible()


def test_the_form_of_storage_shows_what_its_kind_needs(reader: Page) -> None:
    reader.goto("/ui/storage/new")
    server = reader.get_by_role("textbox", name="NFS server")
    file_system = reader.get_by_role("textbox", name="File system")
    expect(server).to_be_visible()
    expect(file_system).to_be_hidden()
    reader.get_by_role("radio", name="POSIX").check()
    expect(server).to_be_hidden()
    expect(file_system).to_be_visible()


def test_a_disk_shows_without_a_reload(page: Page, site: Site) -> None:
    page.goto("/ui/disks")
    late = fleet_storage.disk(DiskId("66666666-0000-4000-8000-0000000000ff"), "late")
    storage_orders.say(site.fleet.mirror, fakes.OAK, late)
    expect(page.locator("#disk-table")).to_contain_text("late", timeout=LIVE_MS)


_DROP = """size => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(size).fill(7)], "install.iso"));
  return transfer;
}"""


def test_a_dropped_file_is_sent_in_pieces(page: Page, site: Site) -> None:
    size = PIECE_BYTES + 5
    page.goto("/ui/disks")
    dropped = page.evaluate_handle(_DROP, size)
    page.dispatch_event("#upload", "drop", {"dataTransfer": dropped})
    expect(page.locator("#upload-text")).to_have_text("Done.", timeout=WAIT_S * 1000)
    assert site.images.starts == [0, PIECE_BYTES]
    assert bytes(site.images.content) == b"\7" * size
    expect(page.locator("#disk-table")).to_contain_text("install.iso")


def test_an_interrupted_file_goes_on_where_it_stopped(
    page: Page, site: Site, tmp_path: Path
) -> None:
    file = tmp_path / "disk.img"
    file.write_bytes(b"a" * PIECE_BYTES + b"b" * 10)
    site.images.held = PIECE_BYTES
    page.goto("/ui/disks")
    page.locator("#upload-file").set_input_files(file)
    expect(page.locator("#upload-text")).to_contain_text("8.0 MiB / 8.0 MiB")
    again = page.context.new_page()
    page.close()
    site.images.held = 2**63
    again.goto("/ui/disks")
    again.locator("#upload-file").set_input_files(file)
    expect(again.locator("#upload-text")).to_have_text("Done.", timeout=WAIT_S * 1000)
    assert site.images.starts[:1] + site.images.starts[-1:] == [0, PIECE_BYTES]
    assert site.images.starts.count(0) == 1


def test_the_top_of_a_chain_is_not_sent(page: Page, site: Site) -> None:
    head = b"QFI\xfb" + (3).to_bytes(4) + (512).to_bytes(8) + bytes(48)
    page.goto("/ui/disks")
    page.locator("#upload-file").set_input_files(
        {"name": "a.qcow2", "mimeType": "", "buffer": head}
    )
    expect(page.locator("#upload-text")).to_contain_text("flatten it first")
    assert site.images.starts == []
