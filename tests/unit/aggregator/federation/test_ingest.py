"""The feed's endpoint: who may push, and what comes back."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from werkzeug.test import Client, TestResponse

from aggregator import db
from aggregator.federation import ingest
from aggregator.federation.events import EventLog
from aggregator.federation.mirror import Mirror
from aggregator.federation.slots import SLOTS
from node import wire
from node.http import face
from node.model.feed import DeltaOutcome, DeltaReply, FleetMark
from node.model.ids import FleetId, NodeId
from tests.fakes import fleet
from tests.fakes.clock import FakeClock
from tests.unit.aggregator.federation.test_mirror import Member

ONE = fleet.node_id(1)
MARK = FleetMark(FleetId(str(fleet.job_id(7))), 3, 9)
HEADERS = {ingest.ROLE: "node", ingest.SUBJECT: ONE}
PATH = "/v1/feed/delta"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    clock = FakeClock()
    database = db.Database(db.sqlite_url(tmp_path / "aggregator.db"))
    mirror = Mirror(database, EventLog(database, clock), clock)
    members = [Member(fleet.node_id(i + 1), f"n{i + 1}") for i in range(SLOTS + 1)]
    mirror.set_members(members)
    member_ids = {member.node_id for member in members}
    pushes = ingest.Ingest(mirror, lambda each: each in member_ids, lambda: MARK)
    others = face.create_app("others", (), lambda _verb, _path: None)
    yield Client(pushes.before(others))
    database.close()


def push(
    client: Client, body: bytes, headers: dict[str, str] = HEADERS
) -> TestResponse:
    return client.post(PATH, data=body, headers=headers)


def code(response: TestResponse) -> str:
    return str(wire.parse(response.data)["error"]["code"])


def test_delta_answers_with_the_mark_of_the_fleet(client: Client) -> None:
    response = push(client, wire.encode(fleet.delta(0, 5, fleet.facts(1))))
    reply = wire.decode(DeltaReply, response.data)
    assert (reply.outcome, reply.to_rev, reply.fleet) == (DeltaOutcome.OK, 5, MARK)


def test_delta_passes_over_fields_that_it_does_not_know(client: Client) -> None:
    body = {**wire.to_json(fleet.delta(0, 5)), "mood": "good"}
    assert push(client, wire.encode(body)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, "nodes_only", id="nobody"),
        pytest.param(
            {**HEADERS, ingest.ROLE: "aggregator"}, "nodes_only", id="an-aggregator"
        ),
        pytest.param({ingest.ROLE: "node"}, "nodes_only", id="without-a-name"),
        pytest.param(
            {**HEADERS, ingest.SUBJECT: fleet.node_id(SLOTS + 2)},
            "not_a_member",
            id="a-stranger",
        ),
    ],
)
def test_delta_refuses_callers_that_are_no_members(
    client: Client, headers: dict[str, str], expected: str
) -> None:
    response = push(client, wire.encode(fleet.delta(0, 5)), headers)
    assert (response.status_code, code(response)) == (403, expected)


def test_delta_believes_the_certificate_and_not_the_body(client: Client) -> None:
    response = push(client, wire.encode(fleet.delta(0, 5, fleet.facts(2))))
    assert (response.status_code, code(response)) == (403, "speaks_for_another")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="no-json"),
        pytest.param(b'{"epoch": 7}', id="other-type"),
    ],
)
def test_delta_refuses_a_malformed_body(client: Client, body: bytes) -> None:
    assert push(client, body).status_code == 400


def test_delta_takes_more_than_a_people_s_face_does(client: Client) -> None:
    body = wire.encode(fleet.delta(0, 5, fleet.facts(1)))
    padded = body + b" " * (face.BODY_BYTES_MAX + 1)
    assert push(client, padded).status_code == 200


def test_delta_refuses_a_body_over_two_mebibytes(client: Client) -> None:
    assert push(client, b" " * (ingest.BODY_BYTES_MAX + 1)).status_code == 413


def test_delta_refuses_everything_before_it_reads_it(client: Client) -> None:
    asks = wire.encode(fleet.delta(7, 8))
    for number in range(1, SLOTS + 1):
        headers = {**HEADERS, ingest.SUBJECT: fleet.node_id(number)}
        assert wire.parse(push(client, asks, headers).data)["outcome"] == "resync"
    late = {**HEADERS, ingest.SUBJECT: fleet.node_id(SLOTS + 1)}
    everything = wire.encode(fleet.delta(0, 5))
    response = push(client, everything + b"no JSON: nobody has read it", late)
    assert (response.status_code, code(response)) == (503, "too_many_resyncs")
    assert response.headers["Retry-After"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", PATH, id="no-push"),
        pytest.param("POST", "/v1/fleet/sealed", id="elsewhere"),
    ],
)
def test_ingest_passes_on_what_is_no_push(
    client: Client, method: str, path: str
) -> None:
    response = client.open(path, method=method, headers=HEADERS)
    assert (response.status_code, code(response)) == (404, "not_found")


def test_delta_tells_a_bug_as_one(caplog: pytest.LogCaptureFixture) -> None:
    def break_down(_node_id: NodeId) -> bool:
        raise LookupError("a bug")

    pushes = ingest.Ingest(cast(Mirror, None), break_down, lambda: MARK)
    others = face.create_app("others", (), lambda _verb, _path: None)
    response = push(Client(pushes.before(others)), b"{}")
    assert (response.status_code, code(response)) == (500, "internal_error")
    assert "a bug" in caplog.text
