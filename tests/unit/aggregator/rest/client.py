"""A logged-in client of the REST API over a fleet of fakes."""

from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from lxml import etree
from werkzeug.test import TestResponse

from aggregator import rest
from aggregator.access.identity import ADMINISTRATOR
from node.http import face
from node.log import Secret
from tests.fakes.services import PASSWORD, Fleet, make_fleet

BASE = "/ovirt-engine/api"


@dataclass(frozen=True, slots=True)
class Client:
    fleet: Fleet
    http: FlaskClient
    token: str

    def ask(
        self,
        method: str,
        path: str,
        body: str = "",
        headers: dict[str, str] | None = None,
    ) -> TestResponse:
        """Send a request as the administrator."""
        return self.http.open(
            BASE + path,
            method=method,
            data=body,
            content_type="application/xml",
            headers={"Authorization": f"Bearer {self.token}", **(headers or {})},
        )

    def get(self, path: str) -> Any:
        """Return the JSON of what must be there."""
        reply = self.ask("GET", path, headers={"Accept": "application/json"})
        assert reply.status_code == 200, reply.text
        return reply.json

    def tree(self, path: str) -> etree._Element:
        """Return the XML of what must be there."""
        reply = self.ask("GET", path)
        assert reply.status_code == 200, reply.text
        return etree.fromstring(reply.data)

    def names(self, path: str) -> list[str]:
        """Return the names of what a collection holds."""
        return [str(each.text) for each in self.tree(path).findall("./*/name")]


def make_client(fleet: Fleet | None = None) -> Client:
    """Return a client that holds a token."""
    fleet = fleet or make_fleet()
    app = face.Application(__name__)
    app.register_blueprint(rest.blueprint(fleet.services))
    session = fleet.access.login(ADMINISTRATOR, Secret(PASSWORD), "192.0.2.9")
    return Client(fleet, app.test_client(use_cookies=False), session.token.reveal())
