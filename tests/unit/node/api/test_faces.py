"""Each face lets in only its callers, and refuses an old term."""

import re

import flask
import pytest
from flask.testing import FlaskClient

from node.api import faces
from node.errors import Conflict
from node.http import face
from node.model import verbs
from node.model.verbs import Caller, Verb

_PARAMETER = re.compile(r"\{\w+\}")
ID = "6f1c0000-0000-4000-8000-000000000001"
AGGREGATOR = {
    "X-Skerry-Role": "aggregator",
    "X-Skerry-Subject": "a1",
    "X-Skerry-Fleet": "f",
    "X-Skerry-Term": "4",
}


def _blueprints() -> tuple[flask.Blueprint, ...]:
    """Return every verb of the node, each answering with its own name."""
    routes = flask.Blueprint("all", __name__)
    for verb in verbs.VERBS:
        face.bind(routes, verb, _namer(verb))
    return (routes,)


def _namer(verb: Verb) -> face.Handler:
    return lambda *_, **__: {"name": verb.name}


def _check_term(fleet_id: str, term: int) -> None:
    if term < 4:
        raise Conflict("term 4 leads")


@pytest.fixture(scope="module")
def local() -> FlaskClient:
    return faces.create_local(_blueprints()).test_client()


@pytest.fixture(scope="module")
def fleet() -> FlaskClient:
    return faces.create_fleet(_blueprints(), _check_term).test_client()


@pytest.fixture(scope="module")
def admission() -> FlaskClient:
    return faces.create_admission(_blueprints()).test_client()


def _call(client: FlaskClient, verb: Verb, headers: dict[str, str]) -> int:
    path = _PARAMETER.sub(ID, verb.path)
    body = None
    if verb.request is not None:
        body = b"{}"
    return client.open(path, method=verb.method, data=body, headers=headers).status_code


def _served(client: FlaskClient, headers: dict[str, str]) -> set[str]:
    answers = {verb.name: _call(client, verb, headers) for verb in verbs.VERBS}
    return {name for name, status in answers.items() if status != 403}


def _names_for(caller: Caller) -> set[str]:
    return {verb.name for verb in verbs.VERBS if caller in verb.callers}


def test_local_serves_only_what_is_for_local_callers(local: FlaskClient) -> None:
    assert _served(local, {}) == _names_for(Caller.LOCAL)


def test_fleet_serves_only_what_is_for_aggregators(fleet: FlaskClient) -> None:
    assert _served(fleet, AGGREGATOR) == _names_for(Caller.AGGREGATOR)


def test_admission_serves_only_what_is_for_anyone(admission: FlaskClient) -> None:
    assert _served(admission, {}) == _names_for(Caller.ANYONE)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no-certificate"),
        pytest.param({"X-Skerry-Role": "node", "X-Skerry-Subject": ID}, id="a-node"),
        pytest.param({"X-Skerry-Role": ""}, id="no-role"),
    ],
)
def test_fleet_refuses_other_roles(fleet: FlaskClient, headers: dict[str, str]) -> None:
    assert _call(fleet, verbs.VM_LIST, headers) == 403


@pytest.mark.parametrize(
    ("term", "status"),
    [
        pytest.param("3", 409, id="older"),
        pytest.param("x", 400, id="no-number"),
        pytest.param("", 400, id="missing"),
        pytest.param("²", 400, id="not-ascii"),
        pytest.param("9" * 40, 400, id="huge"),
    ],
)
def test_fleet_refuses_to_act_for_a_bad_term(
    fleet: FlaskClient, term: str, status: int
) -> None:
    headers = AGGREGATOR | {"X-Skerry-Term": term}
    if not term.isascii():
        headers = AGGREGATOR | {
            "X-Skerry-Term": term.encode("latin-1").decode("latin-1")
        }
    assert _call(fleet, verbs.VM_START, headers) == status


def test_fleet_lets_an_older_term_read(fleet: FlaskClient) -> None:
    assert _call(fleet, verbs.VM_LIST, AGGREGATOR | {"X-Skerry-Term": "3"}) == 200
