"""Tests of tokens and of what needs none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import flask
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aggregator import rest
from tests.fakes.services import CA, PASSWORD, make_fleet
from tests.unit.aggregator.rest.client import BASE, Client

TOKEN = "/ovirt-engine/sso/oauth/token"
RIGHT = {
    "grant_type": "password",
    "scope": "ovirt-app-api",
    "username": "admin@internal",
    "password": PASSWORD,
}


@pytest.mark.parametrize("is_form", [True, False], ids=["form", "query"])
def test_token_opens_the_api(client: Client, is_form: bool) -> None:
    empty: dict[str, str] = {}
    data, query = (RIGHT, empty) if is_form else (empty, RIGHT)
    reply = client.http.post(TOKEN, data=data, query_string=query)
    assert reply.status_code == 200
    assert reply.json is not None
    assert reply.json["token_type"] == "bearer"
    assert int(reply.json["exp"]) > 1_700_000_000_000
    headers = {"Authorization": f"Bearer {reply.json['access_token']}"}
    assert client.http.get(BASE, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"password": "wrong horse"}, "access_denied"),
        ({"username": "nobody@internal"}, "access_denied"),
        ({"username": ""}, "invalid_request"),
        ({"scope": "openid"}, "invalid_scope"),
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
    ],
    ids=["password", "user", "no-user", "scope", "grant"],
)
def test_token_is_refused_as_json(
    client: Client, change: dict[str, str], code: str
) -> None:
    reply = client.http.post(TOKEN, data={**RIGHT, **change})
    assert reply.status_code == 400
    assert reply.json is not None
    assert reply.json["error_code"] == code
    assert reply.json["error"]


@pytest.mark.parametrize("known", [True, False], ids=["own", "unknown"])
def test_logout_ends_a_token_and_forgives_others(client: Client, known: bool) -> None:
    token = client.token if known else "0" * 64
    reply = client.http.post("/ovirt-engine/services/sso-logout", data={"token": token})
    assert (reply.status_code, reply.json) == (200, {})
    assert client.ask("GET", "").status_code == (401 if known else 200)


def test_health_is_what_monitors_compare_with(client: Client) -> None:
    reply = client.http.get("/ovirt-engine/services/health")
    assert reply.text == "DB Up!Welcome to Health Status!"
    assert reply.mimetype == "text/html"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("resource=ca-certificate&format=X509-PEM-CA", 200),
        ("resource=ca-certificate&format=X509-PEM", 200),
        ("resource=nothing", 400),
        ("resource=ca-certificate&format=nothing", 400),
    ],
)
def test_the_certificate_of_the_fleet_is_public(
    client: Client, query: str, status: int
) -> None:
    reply = client.http.get(f"/ovirt-engine/services/pki-resource?{query}")
    assert reply.status_code == status
    assert (reply.text == CA) is (status == 200)


def test_the_key_of_the_fleet_is_one_that_ssh_reads() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleet")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    app = flask.Flask(__name__)
    services = replace(make_fleet().services, ca_certificate=lambda: pem)
    app.register_blueprint(rest.blueprint(services))
    reply = app.test_client().get(
        "/ovirt-engine/services/pki-resource?format=OPENSSH-PUBKEY"
    )
    shown = serialization.load_ssh_public_key(reply.data)
    assert shown == key.public_key()
