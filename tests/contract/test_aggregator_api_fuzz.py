"""The aggregator's own API meets bad input: no bug answers, nothing changes."""

import contextlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from schemathesis import GenerationMode

from aggregator.access.identity import ADMINISTRATOR
from aggregator.api import app as api
from aggregator.api import verbs
from aggregator.control.orders import Origin
from aggregator.policies.profiles import default_id
from node.http import face
from node.log import Secret
from node.model import template_verbs
from node.model import verbs as node_verbs
from node.model.ids import CorrelationId, TemplateId
from node.model.templates import CreateTemplate
from node.model.verbs import ActionGroup, Caller, Object, Verb
from tests.contract import fuzzing
from tests.contract.agents import FakeAgent
from tests.fakes import fleet_storage
from tests.fakes import services as fakes

JSON = "application/json"
UNKNOWN = "ffffffff-0000-4000-8000-00000000000f"
TEMPLATE = TemplateId("7e400000-0000-4000-8000-000000000001")


class Desk:
    """The API over a fleet of fakes, and somebody who is logged in."""

    def __init__(self) -> None:
        self.fleet = fleet_storage.make_fleet()
        self.app = api.create(self.fleet.services)
        session = self.fleet.access.login(
            ADMINISTRATOR, Secret(fakes.PASSWORD), "192.0.2.9"
        )
        self.headers = {"Authorization": f"Bearer {session.token.reveal()}"}
        origin = Origin(ADMINISTRATOR, "192.0.2.9", CorrelationId("c-1"))
        made = CreateTemplate(TEMPLATE, "debian", fleet_storage.APP)
        act = self.fleet.orders.act_on_storage
        act(template_verbs.TEMPLATE_CREATE, TEMPLATE, made, origin)
        self.order_id = self.fleet.orders.start_vm(fakes.WEB2, origin).order_id

    def objects(self) -> dict[str, str]:
        """Return an object of each kind that a path names."""
        return {
            "vm_id": fakes.WEB1,
            "node_id": fakes.ASH,
            "order_id": self.order_id,
            "storage_domain_id": fleet_storage.DATA1,
            "pool_id": fleet_storage.SHARED,
            "disk_id": fleet_storage.LOOSE,
            "template_id": TEMPLATE,
            "transfer_id": str(uuid.UUID(int=7)),
            "qos_id": str(uuid.UUID(int=8)),
            "profile_id": default_id(fleet_storage.DATA1),
        }

    def known(self) -> object:
        """Return what a request may change, to compare."""
        view = self.fleet.mirror.view
        return (
            view.revision,
            self.fleet.orders.list(),
            self.fleet.events.list(),
            self.fleet.registry.members(),
            self.fleet.registry.candidates(),
        )


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(scope="module")
def shared() -> Desk:
    """Return a desk for those who see to it themselves that they change nothing."""
    return Desk()


@contextlib.contextmanager
def desk_for(verb: Verb, shared: Desk) -> Iterator[Desk]:
    """Yield a desk; one that stays as it was is enough for what only reads."""
    if verb.method != "GET":
        yield Desk()
        return
    before = shared.known()
    yield shared
    assert shared.known() == before


@pytest.fixture(scope="module")
def document(shared: Desk) -> str:
    reply = shared.app.test_client().get("/v1/openapi.json", headers=shared.headers)
    assert reply.status_code == 200
    return reply.text


# --- what the API's own document leads to


def _verbs_and_modes() -> list[Any]:
    return [
        pytest.param(verb, mode, id=f"{verb.name}-{mode.value}")
        for verb in verbs.VERBS
        for mode in fuzzing.modes(verb)
    ]


@pytest.mark.parametrize(("verb", "mode"), _verbs_and_modes())
def test_no_request_meets_a_bug(
    shared: Desk, document: str, verb: Verb, mode: GenerationMode
) -> None:
    with desk_for(verb, shared) as desk:
        schema = fuzzing.schema_of(document, desk.app)
        fuzzing.ask(schema, verb, mode, lambda case: None, desk.headers)


@pytest.mark.parametrize(
    "verb",
    [verb for verb in verbs.VERBS if "{" in verb.path],
    ids=lambda verb: verb.name,
)
def test_no_request_of_what_is_there_meets_a_bug(
    shared: Desk, document: str, verb: Verb
) -> None:
    with desk_for(verb, shared) as desk:
        aim = fuzzing.aim_at(**desk.objects())
        schema = fuzzing.schema_of(document, desk.app)
        statuses = fuzzing.ask(schema, verb, GenerationMode.POSITIVE, aim, desk.headers)
    assert verb.status in statuses or 409 in statuses or 404 in statuses


# --- what no document leads to

_CREATE = ("POST", "/v1/vms")
_ADMIT = ("POST", "/v1/nodes/admit")
_REQUESTS: dict[str, tuple[tuple[str, str], bytes, str, int, str, str | None]] = {
    # id: (method and path, body, content type, status, code, field)
    "vm-empty": (_CREATE, b"", JSON, 400, "missing_field", "name"),
    "vm-list": (_CREATE, b"[]", JSON, 400, "malformed", "the body"),
    "vm-form": (_CREATE, b"name=x", "text/plain", 400, "not_json", None),
    "vm-field": (_CREATE, b'{"name":"x","x":1}', JSON, 400, "unknown_field", "x"),
    "vm-twice": (
        _CREATE,
        b'{"name":"x","name":"y"}',
        JSON,
        400,
        "malformed",
        "name",
    ),
    "vm-id": (
        _CREATE,
        b'{"name":"x","vm_id":"x"}',
        JSON,
        400,
        "malformed_id",
        "vm_id",
    ),
    "vm-id-case": (
        _CREATE,
        json.dumps({"name": "x", "vm_id": UNKNOWN.upper()}).encode(),
        JSON,
        400,
        "malformed_id",
        "vm_id",
    ),
    "vm-node": (
        _CREATE,
        b'{"name":"x","node_id":"oak"}',
        JSON,
        400,
        "malformed_id",
        "node_id",
    ),
    "vm-image": (
        _CREATE,
        b'{"name":"x","image":"beos"}',
        JSON,
        400,
        "no_such_image",
        "image",
    ),
    "vm-memory": (
        _CREATE,
        b'{"name":"x","memory_bytes":%d}' % 10**400,
        JSON,
        400,
        "malformed",
        "memory_bytes",
    ),
    "vm-surrogate": (_CREATE, b'{"name":"\\ud800"}', JSON, 400, "malformed", None),
    "vm-utf16": (
        _CREATE,
        '{"name":"x"}'.encode("utf-16"),
        JSON,
        400,
        "malformed",
        None,
    ),
    "vm-deep": (_CREATE, b'{"name":' + b"[" * 90_000, JSON, 400, "malformed", None),
    "vm-large": (_CREATE, b" " * 2**21, JSON, 413, "request_entity_too_large", None),
    "explain": (
        ("POST", "/v1/vms/explain"),
        b'{"name":5}',
        JSON,
        400,
        "malformed",
        "name",
    ),
    "admit-nobody": (
        _ADMIT,
        b'{"fingerprint":"00"}',
        JSON,
        400,
        "nobody_named",
        None,
    ),
    "admit-node-id": (
        _ADMIT,
        b'{"fingerprint":"00","node_id":"fir"}',
        JSON,
        400,
        "malformed_id",
        "node_id",
    ),
    "token-forever": (
        ("POST", "/v1/tokens"),
        b'{"lifetime_s":1e999}',
        JSON,
        400,
        "malformed",
        None,
    ),
    "start-unknown": (
        ("POST", f"/v1/vms/{UNKNOWN}/start"),
        b"{}",
        JSON,
        404,
        "no_such_vm",
        None,
    ),
    "delete-running": (
        ("POST", f"/v1/vms/{fakes.WEB1}/delete"),
        b"{}",
        JSON,
        409,
        "vm_runs",
        None,
    ),
    "stop-deadline": (
        ("POST", f"/v1/vms/{fakes.WEB1}/stop"),
        b'{"deadline_s":"soon"}',
        JSON,
        400,
        "malformed",
        "deadline_s",
    ),
    "max-text": (("GET", "/v1/vms?max=all"), b"", "", 400, "bad_query", "max"),
    "max-huge": (
        ("GET", "/v1/vms?max=" + "9" * 400),
        b"",
        "",
        400,
        "bad_query",
        "max",
    ),
    "order-id": (("GET", "/v1/orders/7"), b"", "", 400, "malformed_id", "order_id"),
    "since-twice": (
        ("GET", "/v1/events?since=1&since=2"),
        b"",
        "",
        400,
        "bad_query",
        "since",
    ),
}


@pytest.mark.parametrize(
    ("request_line", "body", "content_type", "status", "code", "field"),
    _REQUESTS.values(),
    ids=_REQUESTS.keys(),
)
def test_a_bad_request_is_refused_and_nothing_changes(
    shared: Desk,
    request_line: tuple[str, str],
    body: bytes,
    content_type: str,
    status: int,
    code: str,
    field: str | None,
) -> None:
    before = shared.known()
    method, path = request_line
    reply = shared.app.test_client().open(
        path,
        method=method,
        data=body,
        content_type=content_type or None,
        headers=shared.headers,
    )
    assert reply.json is not None
    error = reply.json["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    assert error["message"]
    if field is not None:
        assert error["fields"]["field"] == field
        assert error["remedy"]
    assert shared.known() == before


# --- who may


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param("", id="none"),
        pytest.param("Bearer ", id="empty"),
        pytest.param("Bearer nonsense", id="unknown"),
        pytest.param("Bearer é\x7f", id="not-ascii"),
        pytest.param("Basic YTpi", id="another-scheme"),
    ],
)
def test_strangers_are_told_to_log_in(shared: Desk, authorization: str) -> None:
    before, headers = shared.known(), {"Authorization": authorization}
    client = shared.app.test_client()
    objects = shared.objects()
    told = {}
    for verb in verbs.VERBS:
        path = verb.path.format(**objects)
        reply = client.open(path, method=verb.method, headers=headers)
        told[verb.name] = (reply.status_code, (reply.json or {}).get("error", {}))
    served = {
        name
        for name, (status, error) in told.items()
        if (status, error.get("code")) != (401, "token_refused")
    }
    assert served == {v.name for v in verbs.VERBS if Caller.ANYONE in v.callers}
    assert shared.known() == before


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"user": "admin@internal", "password": "wrong"}, id="password"),
        pytest.param({"user": "", "password": ""}, id="empty"),
        pytest.param({"user": "u" * 900_000, "password": "p"}, id="long-user"),
        pytest.param({"user": "admin@internal", "password": "p" * 900_000}, id="long"),
    ],
)
def test_a_wrong_login_is_refused(desk: Desk, body: dict[str, str]) -> None:
    reply = desk.app.test_client().post("/v1/login", json=body)
    assert reply.status_code == 403
    assert reply.json is not None
    assert reply.json["error"]["code"] == "login_failed"


# --- permissions are declared; those of rest/ and dashboard/ are tested there


def _routes_of(app: flask.Flask) -> list[Verb | None]:
    return [face.verb_of(app, rule.endpoint) for rule in app.url_map.iter_rules()]


def test_every_route_is_a_verb_that_declares_who_may(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory
) -> None:
    agent = FakeAgent(tmp_path_factory.mktemp("agent"))
    agent.close()
    found = _routes_of(desk.app)
    assert {verb.name for verb in found if verb} == {verb.name for verb in verbs.VERBS}
    for app in (agent.local, agent.fleet, agent.admission):
        found += _routes_of(app)
    for verb in found:
        assert verb is not None, "a route without a verb"
        assert isinstance(verb.group, ActionGroup)
        assert isinstance(verb.object, Object)
        assert verb.callers


# They change nothing: one tells where a VM would go, one makes a session.
_READING_POSTS = {"vm_explain", "login"}
# What they tell lets its holder at the data of a disk.
_READING_SECRETS = {"transfer_list", "transfer_show"}


def test_only_what_reads_needs_no_more_than_read() -> None:
    def is_right(verb: Verb) -> bool:
        is_read = verb.group in (ActionGroup.READ, ActionGroup.CONNECT_TO_VM)
        reads = verb.method == "GET" or verb.name in _READING_POSTS
        if verb in verbs.VERBS:
            reads = reads and verb.name not in _READING_SECRETS
        return is_read == reads

    assert [v for v in (*verbs.VERBS, *node_verbs.VERBS) if not is_right(v)] == []


def test_a_permission_on_an_object_finds_its_id_in_the_path() -> None:
    def is_right(verb: Verb) -> bool:
        wanted = {Object.VM: "{vm_id}", Object.NODE: "{node_id}"}.get(verb.object, "")
        return wanted in verb.path

    assert [verb for verb in verbs.VERBS if not is_right(verb)] == []
