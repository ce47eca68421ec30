"""A browser without scripts, for the tests of the dashboard's pages."""

import re
from dataclasses import dataclass
from typing import IO

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from aggregator import dashboard
from node.http import face
from node.model.vm import VmState
from tests.fakes import services as fakes

# A file, and its name.
Sent = tuple[IO[bytes], str]


@dataclass(slots=True)
class Browser:
    """A browser without scripts, and the fleet that it looks at."""

    fleet: fakes.Fleet
    client: FlaskClient

    def get(self, path: str) -> str:
        return self.client.get(path).text

    def csrf(self) -> str:
        return hidden(self.get("/"), "csrf")

    def post(self, path: str, /, **fields: str | Sent) -> TestResponse:
        return self.client.post(path, data={"csrf": self.csrf(), **fields})

    def vm_state(self) -> VmState:
        return self.fleet.mirror.view.vms[fakes.WEB1].state


def hidden(page: str, name: str) -> str:
    """Return what a field of a form holds that nobody sees."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, f"there is no {name} on the page"
    return found[1]


def open_on(fleet: fakes.Fleet) -> Browser:
    """Return a browser that is not logged in."""
    app = face.Application("test")
    app.register_blueprint(dashboard.blueprint(fleet.services))
    return Browser(fleet, app.test_client())


def log_in(browser: Browser, password: str = fakes.PASSWORD) -> TestResponse:
    """Send the login form."""
    word = hidden(browser.get("/ui/login"), "csrf")
    return browser.client.post(
        "/ui/login",
        data={"csrf": word, "user": "admin", "password": password, "next": "/ui/vms"},
    )
