"""Tests of the dashboard as a browser without scripts uses it."""

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from aggregator.dashboard.app import ROUTES
from aggregator.dashboard.pages import LIVE_HEADER
from aggregator.dashboard.routes import PublicRoute, Route
from node import config
from node.model.ids import VmId
from node.model.job import ErrorReport, JobState
from node.model.verbs import ActionGroup, Object
from node.model.vm import VmState
from tests.fakes import fleet_storage
from tests.fakes import services as fakes
from tests.unit.aggregator.dashboard import browsers
from tests.unit.aggregator.dashboard.browsers import Browser

NEW_ID = "12345678-1234-4234-8234-123456789abc"
WEB1 = f"/ui/vms/{fakes.WEB1}"
FIR = "/ui/candidates/44444444-4444-4444-8444-444444444444"


_IDS = {
    "vm_id": fakes.WEB1,
    "node_id": fakes.OAK,
    "disk_id": fleet_storage.SYSTEM,
    "storage_domain_id": fleet_storage.DATA1,
    "pool_id": fleet_storage.SHARED,
}


@pytest.fixture
def stranger() -> Browser:
    return browsers.open_on(fakes.make_fleet())


@pytest.fixture
def browser(stranger: Browser) -> Browser:
    assert browsers.log_in(stranger).status_code == 303
    return stranger


# permissions

_CLOSED = [route for route in ROUTES if isinstance(route, Route)]


def test_only_what_a_login_needs_is_public() -> None:
    public = {route.path for route in ROUTES if isinstance(route, PublicRoute)}
    assert public == {"/ui/login", "/static/<path:name>", "/favicon.ico"}


def test_every_path_of_the_blueprint_is_a_declared_route(browser: Browser) -> None:
    app = browser.client.application
    declared = {route.path for route in ROUTES}
    assert {rule.rule for rule in app.url_map.iter_rules()} == declared


def _filled(route: Route) -> str:
    path = route.path
    for name, object_id in _IDS.items():
        path = path.replace(f"<{name}>", object_id)
    return path


def test_strangers_are_shown_nothing(stranger: Browser) -> None:
    def is_closed(route: Route) -> bool:
        strange = stranger.client.application.test_client()
        answer = strange.open(_filled(route), method=route.method)
        return answer.status_code == (401 if route.is_polled else 303)

    assert [route for route in _CLOSED if not is_closed(route)] == []


Asked = list[tuple[ActionGroup, Object]]


def _recorded() -> tuple[Browser, Asked]:
    """Return the browser of somebody who logged in, and what it is asked for."""
    fleet = fakes.make_fleet()
    asked: Asked = []
    require = fleet.access.require

    def record(
        who: object, group: ActionGroup, object: Object, object_id: str | None
    ) -> None:
        asked.append((group, object))
        require(who, group, object, object_id)  # type: ignore[arg-type]  # as given

    access = type("Recording", (), {"require": staticmethod(record)})()
    for name in ("identify", "login", "logout"):
        setattr(access, name, getattr(fleet.access, name))
    fleet.services = replace(fleet.services, access=access)
    browser = browsers.open_on(fleet)
    browsers.log_in(browser)
    return browser, asked


def test_routes_ask_for_their_permission() -> None:
    reading = _recorded()

    def asks(route: Route) -> bool:
        browser, asked = reading if route.method == "GET" else _recorded()
        csrf = browser.csrf() if route.method == "POST" else ""
        asked.clear()
        browser.client.open(_filled(route), method=route.method, data={"csrf": csrf})
        return asked == [(route.group, route.object)]

    assert [route for route in _CLOSED if not asks(route)] == []


def test_a_denied_page_says_so(browser: Browser) -> None:
    records = browser.fleet.database.records("fleet")
    for record in records.list():
        if record.id.startswith("permission/"):
            records.delete(record.id)
    answer = browser.client.get("/ui/vms")
    assert (answer.status_code, "Not allowed" in answer.text) == (403, True)


# login


def test_login_leads_to_what_was_wanted(stranger: Browser) -> None:
    assert browsers.log_in(stranger).headers["Location"] == "/ui/vms"


def test_login_page_remembers_what_was_wanted(stranger: Browser) -> None:
    page = stranger.client.get("/ui/vms?q=a&page=2", follow_redirects=True).text
    assert browsers.hidden(page, "next") == "/ui/vms?q=a&amp;page=2"


def test_login_says_what_is_wrong(stranger: Browser) -> None:
    answer = browsers.log_in(stranger, "wrong")
    assert (answer.status_code, "Check the name" in answer.text) == (403, True)


def test_login_is_refused_without_the_word_of_its_form(stranger: Browser) -> None:
    fields = {"csrf": "x", "user": "admin", "password": fakes.PASSWORD}
    answer = stranger.client.post("/ui/login", data=fields)
    assert (answer.status_code, "skerry=" in str(answer.headers)) == (403, False)


def test_logout_ends_the_session(browser: Browser) -> None:
    browser.post("/ui/logout")
    assert browser.client.get("/").headers["Location"] == "/ui/login"


# forms


def _known(browser: Browser) -> object:
    fleet = browser.fleet
    return (fleet.mirror.view.revision, fleet.orders.list(), fleet.events.list())


def test_forms_of_others_change_nothing(browser: Browser) -> None:
    def changes(route: Route) -> bool:
        before = _known(browser)
        browser.client.post(_filled(route), data={"csrf": "of another"})
        return _known(browser) != before

    posts = [route for route in _CLOSED if route.method == "POST"]
    assert [route for route in posts if changes(route)] == []


def test_a_form_that_is_too_large_is_refused(browser: Browser) -> None:
    browser.post("/ui/vms/new", name="x" * 70_000)
    assert "the form is too large" in browser.get("/")


# reading


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        pytest.param(
            "/", ["1 thing needs attention", "Check its power"], id="overview"
        ),
        pytest.param("/ui/nodes", ["oak", "Unreachable", "fir", "abab"], id="nodes"),
        pytest.param("/ui/vms", ["web1", "Paused", "10.0.0.11", "oak"], id="vms"),
        pytest.param("/ui/vms?q=status%3Ddown", ["web2", "build"], id="filter"),
        pytest.param(WEB1, ["web1", "debian-12", "56:6f:00:00:00:01"], id="vm"),
        pytest.param(
            f"/ui/vms/{fakes.OLD}",
            ["Its node ash is silent", "Check its power"],
            id="why",
        ),
        pytest.param(f"/ui/nodes/{fakes.OAK}", ["X550", "AMD EPYC 7313"], id="node"),
        pytest.param(
            f"/ui/nodes/{fakes.OAK}",
            ["50_smbios", "does not run", "anybody may write", "not there:"],
            id="node-hooks",
        ),
        pytest.param(f"/ui/nodes/{fakes.ASH}", ["it is unreachable"], id="silent-node"),
        pytest.param("/ui/events", ["Node ash has said nothing"], id="events"),
        pytest.param("/ui/tasks", ["Nothing has been asked for yet"], id="tasks"),
        pytest.param("/ui/search?q=the", ["web1", "old"], id="search"),
        pytest.param("/ui/search?q=nobody", ["Nothing fits"], id="nothing-found"),
        pytest.param("/ui/vms/new", ["debian-12", "the one that fits"], id="new-vm"),
        pytest.param("/ui/nodes/add", ["Make a token"], id="add-node"),
        pytest.param(FIR, ["They are the same"], id="admission"),
        pytest.param(f"{WEB1}/stop", ["as if its power were cut"], id="question"),
        pytest.param(
            f"/ui/nodes/{fakes.OAK}/remove", ["leaves the fleet"], id="removal"
        ),
    ],
)
def test_pages_show_the_fleet(path: str, texts: list[str], browser: Browser) -> None:
    page = browser.get(path)
    assert [text for text in texts if text not in page] == []


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        pytest.param("/ui/vms/none", 404, "there is no VM none", id="vm"),
        pytest.param("/ui/nodes/none", 404, "there is no node none", id="node"),
        pytest.param("/ui/candidates/none", 404, "list of candidates", id="candidate"),
        pytest.param("/ui/vms?q=colour%3Dred", 400, "no", id="question"),
        pytest.param("/vms", 404, "there is no page /vms", id="page"),
    ],
)
def test_errors_are_pages(path: str, status: int, text: str, browser: Browser) -> None:
    answer = browser.client.get(path)
    assert (answer.status_code, text in answer.text) == (status, True)


def test_a_search_with_one_answer_opens_it(browser: Browser) -> None:
    answer = browser.client.get("/ui/search?q=name%3Dweb1")
    assert answer.headers["Location"] == WEB1


def test_names_cannot_be_markup(browser: Browser) -> None:
    vm = browser.fleet.mirror.view.vms[fakes.WEB1]
    browser.fleet.mirror.put_vm(replace(vm, name="<b>web</b>"))
    browser.fleet.clock.advance(1)
    page = browser.get("/ui/vms")
    assert ("&lt;b&gt;web" in page, "<b>web" in page) == (True, False)


def test_pages_need_no_inline_script_or_style(browser: Browser) -> None:
    answer = browser.client.get(WEB1)
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert re.findall(r"<style|<script>|\sstyle=|\son\w+=", answer.text) == []


def test_events_turn_back_in_time(browser: Browser) -> None:
    for number in range(150):
        browser.fleet.events.record("vm_paused", name=f"vm-{number}")
    newest = browser.get("/ui/events")
    older = re.search(r"before=(\d+)", newest)
    assert older
    page = browser.get(f"/ui/events?before={older[1]}")
    assert ("vm-149 " in newest, "vm-49 " in page, "vm-149 " in page) == (
        True,
        True,
        False,
    )


def test_static_files_are_kept_for_ever_under_their_digest(browser: Browser) -> None:
    found = re.search(r"/static/dashboard\.css\?v=\w+", browser.get("/"))
    assert found
    answer = browser.client.get(found[0])
    assert "immutable" in answer.headers["Cache-Control"]
    answer.close()


def test_static_files_outside_the_folder_do_not_exist(browser: Browser) -> None:
    assert browser.client.get("/static/../app.py").status_code == 404


# acting


@pytest.mark.parametrize(
    ("name", "state"),
    [
        pytest.param("shutdown", VmState.DOWN, id="shutdown"),
        pytest.param("stop", VmState.DOWN, id="stop"),
        pytest.param("pause", VmState.PAUSED, id="pause"),
        pytest.param("suspend", VmState.DOWN, id="suspend"),
        pytest.param("reset", VmState.UP, id="reset"),
    ],
)
def test_actions_reach_the_vm(name: str, state: VmState, browser: Browser) -> None:
    answer = browser.post(f"{WEB1}/{name}", back="/ui/vms?q=web")
    assert (answer.headers["Location"], browser.vm_state()) == ("/ui/vms?q=web", state)


def test_actions_show_as_tasks_at_once(browser: Browser) -> None:
    browser.fleet.orders.is_held = True
    browser.post(f"{WEB1}/pause")
    assert "Pause VM web1" in browser.get("/")


def test_a_refused_action_is_told_on_the_next_page_only(browser: Browser) -> None:
    browser.post(f"{WEB1}/delete", back="/ui/vms")
    shown = ["VM web1 runs" in browser.get("/ui/vms") for _ in range(2)]
    assert shown == [True, False]


def test_a_live_refresh_leaves_the_note_to_the_next_page(browser: Browser) -> None:
    browser.post(f"{WEB1}/delete")
    browser.client.get("/", headers={LIVE_HEADER: "1"})
    assert "VM web1 runs" in browser.get("/")


def test_an_action_cannot_lead_to_another_site(browser: Browser) -> None:
    answer = browser.post(f"{WEB1}/pause", back="//evil.test/")
    assert answer.headers["Location"] == WEB1


def test_a_failed_task_shows_its_remedy(browser: Browser) -> None:
    browser.fleet.orders.is_held = True
    browser.post(f"{WEB1}/pause")
    error = ErrorReport("busy", "x", "QEMU is silent", "Wait a little.")
    browser.fleet.orders.finish(browser.fleet.orders.list()[0].order_id, error)
    assert "Wait a little." in browser.get("/ui/tasks")


def _new(browser: Browser, **changes: str) -> TestResponse:
    fields = {
        "vm_id": NEW_ID,
        "name": "fresh",
        "image": "debian-12",
        "memory_gib": "2",
        "vcpus": "2",
        "disk_gib": "",
        "firmware": "bios",
        "network": "skerry",
        "node_id": "",
    }
    return browser.post("/ui/vms/new", **{**fields, **changes})


@pytest.mark.parametrize(
    ("start", "state"),
    [
        pytest.param("yes", VmState.UP, id="started"),
        pytest.param("", VmState.DOWN, id="left-down"),
    ],
)
def test_a_new_vm_is_made(start: str, state: VmState, browser: Browser) -> None:
    answer = _new(browser, start=start)
    made = browser.fleet.mirror.view.vms[VmId(NEW_ID)]
    assert (answer.headers["Location"], made.name, made.state) == (
        f"/ui/vms/{NEW_ID}",
        "fresh",
        state,
    )


def test_a_new_vm_that_is_still_being_made_has_a_page(browser: Browser) -> None:
    browser.fleet.orders.is_held = True
    _new(browser, start="yes")
    answer = browser.client.get(f"/ui/vms/{NEW_ID}")
    assert (answer.status_code, "Create VM fresh" in answer.text) == (200, True)


def test_a_refused_vm_keeps_what_was_typed(browser: Browser) -> None:
    answer = _new(browser, memory_gib="lots", name="mine")
    assert (answer.status_code, browsers.hidden(answer.text, "name")) == (400, "mine")


def test_a_refused_vm_says_what_is_wrong(browser: Browser) -> None:
    assert "must be a number of GiB" in _new(browser, memory_gib="lots").text


def test_a_refused_vm_shows_what_each_node_says(browser: Browser) -> None:
    answer = _new(browser, name="web1")
    assert (answer.status_code, "What each node says" in answer.text) == (409, True)


# admission


def test_admission_takes_the_compared_fingerprint(browser: Browser) -> None:
    browser.post(FIR, fingerprint="ab" * 32)
    assert "fir" in [node.name for node in browser.fleet.mirror.view.nodes.values()]


def test_admission_is_refused_with_another_fingerprint(browser: Browser) -> None:
    browser.post(FIR, fingerprint="00" * 32, back="/ui/nodes")
    assert "the node shows another fingerprint" in browser.get("/ui/nodes")


def test_admission_by_address_reads_a_typed_fingerprint(browser: Browser) -> None:
    typed = " ".join(["ABAB"] * 16)
    browser.post("/ui/nodes/add", address="192.0.2.4", fingerprint=typed)
    assert "fir" in [node.name for node in browser.fleet.mirror.view.nodes.values()]


def test_admission_by_address_wants_all_digits(browser: Browser) -> None:
    browser.post("/ui/nodes/add", address="192.0.2.4", fingerprint="abab")
    assert "a fingerprint has 64 digits" in browser.get("/ui/nodes/add")


@pytest.mark.parametrize("hours", ["0", "721", "x", ""], ids=lambda hours: f"[{hours}]")
def test_a_token_wants_a_sensible_life(hours: str, browser: Browser) -> None:
    browser.post("/ui/nodes/token", hours=hours)
    page = browser.get("/ui/nodes/add")
    assert "Choose between 1 and 720 hours." in page


def test_a_token_is_shown_as_the_node_reads_it(
    browser: Browser, tmp_path: Path
) -> None:
    page = browser.post("/ui/nodes/token", hours="2").text
    (tmp_path / "node.conf").write_text(_preformatted(page, "token-file"))
    by_file = config.load(tmp_path / "node.conf")
    by_kernel = config.load(tmp_path / "none", _preformatted(page, "token"))
    assert (by_file.token, by_file.aggregator) == (
        "0123-secret",
        f"192.0.2.250:7443,{'ef' * 32}",
    )
    assert by_kernel == by_file


def _preformatted(page: str, name: str) -> str:
    found = re.search(rf'<pre [^>]*id="{name}">([^<]*)</pre>', page)
    assert found, f"there is no {name} on the page"
    return html.unescape(found[1])


def test_removal_takes_the_node_out(browser: Browser) -> None:
    browser.post(f"/ui/nodes/{fakes.ASH}/remove")
    assert fakes.ASH not in browser.fleet.mirror.view.nodes


# looking and waiting


def test_screen_and_serial_line_come_from_the_node(browser: Browser) -> None:
    picture = browser.client.get(f"{WEB1}/screen.png")
    serial = browser.client.get(f"{WEB1}/serial.txt")
    assert (picture.data, picture.mimetype, serial.text, serial.mimetype) == (
        fakes.PNG,
        "image/png",
        "skerry login: \r\n",
        "text/plain",
    )


def test_changes_answer_at_once_when_something_is_new(browser: Browser) -> None:
    answer = browser.client.get("/ui/changes?since=old&wait_s=20").get_json()
    assert (len(answer["moment"]), answer["has_waited"]) == (24, False)


@pytest.mark.parametrize("state", list(VmState), ids=str)
def test_every_state_of_a_vm_can_be_shown(state: VmState, browser: Browser) -> None:
    vm = browser.fleet.mirror.view.vms[fakes.WEB1]
    browser.fleet.mirror.put_vm(fakes.turned(vm, state, vm.wanted, fakes.AT))
    browser.fleet.clock.advance(1)
    assert browser.client.get(WEB1).status_code == 200


@pytest.mark.parametrize("state", list(JobState), ids=str)
def test_every_state_of_a_task_can_be_shown(state: JobState, browser: Browser) -> None:
    browser.post(f"{WEB1}/pause")
    orders = browser.fleet.orders
    order = replace(orders.list()[0], state=state)
    orders._orders[order.order_id] = order
    assert browser.client.get("/ui/tasks").status_code == 200
