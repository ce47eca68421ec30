"""Tests of what HTTP itself is about: who, which form, which status."""

import base64

import pytest
from lxml import etree

from aggregator.access import identity
from aggregator.access.identity import ADMINISTRATOR
from aggregator.access.permissions import READ_ONLY_ADMIN
from node.log import Secret
from node.model.verbs import Object
from tests.fakes.services import PASSWORD, WEB1
from tests.unit.aggregator.rest.client import BASE, Client

BASIC = "Basic " + base64.b64encode(f"{ADMINISTRATOR}:{PASSWORD}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer 0000"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"admin@internal:no").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"nocolon").decode()},
        {"Cookie": "JSESSIONID=0000", "Prefer": "persistent-auth"},
    ],
    ids=["none", "token", "not-basic", "password", "no-colon", "cookie"],
)
def test_false_credentials_get_401_with_an_empty_body(
    client: Client, headers: dict[str, str]
) -> None:
    reply = client.http.get(BASE, headers=headers)
    assert (reply.status_code, reply.data) == (401, b"")
    assert reply.headers["WWW-Authenticate"] == 'Basic realm="RESTAPI"'


def test_basic_credentials_are_accepted(client: Client) -> None:
    reply = client.http.get(BASE, headers={"Authorization": BASIC})
    assert reply.status_code == 200


def test_a_session_lives_by_its_cookie_and_ends_without_prefer(client: Client) -> None:
    prefer = {"Prefer": "persistent-auth"}
    first = client.http.get(BASE, headers={"Authorization": BASIC, **prefer})
    cookie = first.headers["Set-Cookie"].partition(";")[0]
    assert "Path=/ovirt-engine/api" in first.headers["Set-Cookie"]
    with_cookie = {"Cookie": cookie}
    for headers, status in (
        ({**with_cookie, **prefer}, 200),
        (with_cookie, 200),
        ({**with_cookie, **prefer}, 401),
    ):
        assert client.http.get(BASE, headers=headers).status_code == status


def test_a_session_may_ask_for_a_header_beside_the_cookie(client: Client) -> None:
    prefer = {"Prefer": "persistent-auth, csrf-protection"}
    first = client.http.get(BASE, headers={"Authorization": BASIC, **prefer})
    cookie = first.headers["Set-Cookie"].partition(";")[0]
    headers = {"Cookie": cookie, **prefer}
    assert client.http.get(BASE, headers=headers).status_code == 403
    headers["JSESSIONID"] = cookie.partition("=")[2]
    assert client.http.get(BASE, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/xml"),
        ("*/*", "application/xml"),
        ("application/xml", "application/xml"),
        ("application/json", "application/json"),
        ("application/json;q=0.5, application/xml", "application/xml"),
    ],
)
def test_the_form_follows_accept(client: Client, accept: str, media_type: str) -> None:
    reply = client.ask("GET", "/vms", headers={"Accept": accept})
    assert reply.mimetype == media_type


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "", 200),
        ("GET", "/", 200),
        ("HEAD", "", 200),
        ("GET", "/vms/", 200),
        ("GET", "/v4/vms", 200),
        ("GET", "/v3/vms", 400),
        ("GET", "/nothing", 404),
        ("GET", "/vms/None", 404),
        ("GET", f"/vms/{WEB1}/snapshots/None", 404),
        ("GET", f"/vms/{WEB1}/nothing", 404),
        ("POST", f"/vms/{WEB1}/nothing", 404),
        ("GET", f"/vms/{WEB1}/start", 405),
        ("DELETE", "/vms", 405),
        ("PUT", "/", 405),
        ("GET", "/vms?search=colour=red", 400),
        ("GET", "/vms?max=x", 200),
        ("GET", "/vms?follow=&search=", 200),
        ("GET", "/vms?follow=nothing", 200),
        ("GET", "/events;from=1?max=1", 200),
        ("POST", f"/vms/{WEB1}/suspend", 200),
        ("POST", f"/vms/{WEB1}/migrate", 501),
        ("POST", f"/vms/{WEB1}/start", 409),
        ("POST", "/vms", 400),
    ],
)
def test_status(client: Client, method: str, path: str, status: int) -> None:
    reply = client.ask(method, path)
    assert reply.status_code == status, reply.text
    if status >= 400:
        assert etree.fromstring(reply.data).tag == "fault"


def test_hrefs_carry_the_version_only_if_the_url_did(client: Client) -> None:
    plain = client.tree("/vms").find("vm")
    versioned = client.tree("/v4/vms").find("vm")
    assert plain is not None
    assert versioned is not None
    assert str(plain.get("href")).startswith(f"{BASE}/vms/")
    assert str(versioned.get("href")).startswith(f"{BASE}/v4/vms/")


def test_another_version_in_the_header_is_refused(client: Client) -> None:
    assert client.ask("GET", "/vms", headers={"Version": "3"}).status_code == 400


def test_the_correlation_id_is_cleaned_and_echoed(client: Client) -> None:
    reply = client.ask("GET", "/vms", headers={"Correlation-Id": "a b/c"})
    assert reply.headers["Correlation-Id"] == "abc"
    assert len(client.ask("GET", "/vms").headers["Correlation-Id"]) == 36


def test_a_body_that_is_too_large_is_refused(client: Client) -> None:
    reply = client.ask("POST", "/vms", "<vm>" + " " * 2**21 + "</vm>")
    assert reply.status_code == 413


def test_a_large_collection_is_sent_whole(client: Client) -> None:
    follow = "nics,statistics,snapshots,permissions,diskattachments.disk"
    whole = client.tree(f"/vms?follow={follow}")
    assert len(whole.findall("vm")) == 5


def test_a_bug_is_a_fault_and_is_logged(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.fleet.database.records("fleet").put("cluster/broken", {})
    reply = client.ask("GET", "/datacenters")
    assert reply.status_code == 500
    assert etree.fromstring(reply.data).tag == "fault"
    assert "KeyError" in caplog.text


def _grant(client: Client, kind: Object, object_id: str | None) -> dict[str, str]:
    """Make a user who may read something; return what it logs in with."""
    records = client.fleet.database.records("fleet")
    user_id = identity.user_id_of("ann@internal")
    records.put(f"user/{user_id}", {"user": "ann@internal", "is_enabled": True})
    body = {
        "user_id": user_id,
        "role_id": READ_ONLY_ADMIN.role_id,
        "object": kind.value,
        "object_id": object_id,
    }
    records.put("permission/of-ann", body)
    client.fleet.access.set_password("ann@internal", Secret(PASSWORD))
    words = base64.b64encode(f"ann@internal:{PASSWORD}".encode()).decode()
    return {"Authorization": f"Basic {words}"}


@pytest.mark.parametrize(
    ("kind", "object_id", "method", "path", "status"),
    [
        (Object.FLEET, None, "GET", "/vms", 200),
        (Object.FLEET, None, "GET", f"/vms/{WEB1}/nics", 200),
        (Object.FLEET, None, "POST", f"/vms/{WEB1}/stop", 403),
        (Object.FLEET, None, "DELETE", f"/vms/{WEB1}", 403),
        (Object.FLEET, None, "POST", "/vms", 403),
        (Object.VM, WEB1, "GET", f"/vms/{WEB1}", 200),
        (Object.VM, WEB1, "GET", f"/vms/{'b' * 8}", 403),
        (Object.VM, WEB1, "GET", "/vms", 403),
    ],
    ids=[
        "list",
        "below",
        "stop",
        "delete",
        "add",
        "own-vm",
        "other-vm",
        "list-with-vm-only",
    ],
)
def test_roles_decide_what_is_allowed(
    client: Client,
    kind: Object,
    object_id: str | None,
    method: str,
    path: str,
    status: int,
) -> None:
    headers = _grant(client, kind, object_id)
    reply = client.http.open(BASE + path, method=method, headers=headers)
    assert reply.status_code == status, reply.text
