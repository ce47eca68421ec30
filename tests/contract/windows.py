"""The dashboard served on loopback by waitress, and windows to look at it."""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import flask
import waitress
from playwright import sync_api
from playwright.sync_api import Page
from waitress import wasyncore

from aggregator import dashboard
from node.clock import SystemClock
from node.http import face
from tests.fakes import fleet_storage
from tests.fakes import services as fakes

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 900}
WAIT_S = 20.0  # so that nothing hangs for ever
REFUSAL = "responded with a status of 400 (BAD REQUEST)"


@dataclass(slots=True)
class Images:
    """Stands for a node behind the aggregator that takes what browsers send to it."""

    starts: list[int] = field(default_factory=list)  # of the pieces that came
    content: bytearray = field(default_factory=bytearray)
    is_open: threading.Event = field(default_factory=threading.Event)
    held: int = 2**63  # pieces that begin there or later wait until it is open

    def take(self, node_id: str, ticket: str) -> flask.Response:
        """Keep a piece where its range says."""
        begin = re.match(r"bytes (\d+)-", flask.request.headers["Content-Range"])
        assert begin, "a piece says where it belongs"
        start = int(begin[1])
        if start >= self.held:
            self.is_open.wait(WAIT_S)
        piece = flask.request.get_data()
        self.content[start : start + len(piece)] = piece
        self.starts.append(start)
        return flask.Response("")


@dataclass(frozen=True, slots=True)
class Site:
    fleet: fakes.Fleet
    address: str
    images: Images


@dataclass(frozen=True, slots=True)
class Window:
    """A page of a browser, and what the browser has complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Fail if there was a complaint since the last check."""
        found = self.complaints.copy()
        self.complaints.clear()
        assert found == []

    @contextlib.contextmanager
    def expect_refusal(self) -> Iterator[None]:
        """Have a form refused once, which browsers complain of."""
        self.check()
        with self.page.expect_console_message(_tells_refusal):
            yield
        assert [line for line in self.complaints if REFUSAL not in line] == []
        self.complaints.clear()


def _tells_refusal(line: sync_api.ConsoleMessage) -> bool:
    return REFUSAL in line.text


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    fleet = fleet_storage.make_fleet()
    images = Images()
    # Words without a place to break must not widen a page.
    fleet.events.record("node_joined", fleet=fakes.OAK, fingerprint="5f" * 32)
    app = face.Application("dashboard-test")
    services = replace(fleet.services, clock=SystemClock())
    app.register_blueprint(dashboard.blueprint(services))
    way = "/transfers/<node_id>/images/<ticket>"
    app.add_url_rule(way, "images", images.take, methods=["PUT"])
    sockets: dict[int, object] = {}
    server = waitress.create_server(
        app,
        map=sockets,
        host="127.0.0.1",
        port=0,
        threads=services.config.people_threads,
    )
    serving = threading.Thread(target=server.run)
    serving.start()
    address = f"http://127.0.0.1:{server.effective_port}"
    try:
        yield Site(fleet, address, images)
    finally:
        images.is_open.set()
        fleet.events.record("aggregator_started")  # lets go of those that wait
        with contextlib.suppress(OSError):  # done already, and the trigger closed
            server.trigger.pull_trigger(lambda: wasyncore.close_all(sockets))
        serving.join(10)
        server.task_dispatcher.shutdown()


@contextlib.contextmanager
def looking(
    browser: sync_api.Browser,
    site: Site,
    size: dict[str, int] = DESK,
    *,
    has_script: bool = True,
) -> Iterator[Window]:
    """Open a window that shows nothing yet and whose session is logged in."""
    context = browser.new_context(
        base_url=site.address,
        viewport=sync_api.ViewportSize(width=size["width"], height=size["height"]),
        java_script_enabled=has_script,
    )
    with context:
        form = context.request.get("/ui/login").text()
        word = re.search(r'name="csrf" value="([^"]+)"', form)
        assert word, "the login page has no form"
        fields = {"csrf": word[1], "user": "admin", "password": fakes.PASSWORD}
        answer = context.request.post("/ui/login", form=fields, max_redirects=0)
        assert answer.status == 303
        window = Window(context.new_page())
        window.page.on("pageerror", lambda error: window.complaints.append(str(error)))
        window.page.on("console", lambda line: _note(window.complaints, line))
        yield window


def _note(complaints: list[str], line: sync_api.ConsoleMessage) -> None:
    was_cut_off_by_the_test = line.text.endswith("net::ERR_FAILED")
    if line.type == "error" and not was_cut_off_by_the_test:
        complaints.append(line.text)
