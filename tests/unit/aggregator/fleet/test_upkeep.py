"""What is done in the background, one round at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aggregator import authority, db, registry
from aggregator.federation import events
from aggregator.fleet import founding, handout, term, upkeep
from node import pki
from node.http import client, face
from node.model.fleet import AggregatorAddress
from node.model.ids import CorrelationId, Fingerprint
from node.units import DAY_S
from tests.fakes.clock import FakeClock
from tests.fakes.doorsteps import FakeNode, Street


@dataclass(frozen=True, slots=True)
class By:
    user: str
    address: str
    correlation_id: CorrelationId


ADMIN = By("admin@internal", "192.0.2.1", CorrelationId("c-1"))
ADDRESS = "10.0.0.1"


@dataclass(slots=True)
class Office:
    registry: registry.Registry
    leadership: term.Leadership
    ca: authority.Authority
    upkeep: upkeep.Upkeep
    clock: FakeClock
    node: FakeNode
    reloads: list[str] = field(default_factory=list)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    clock, node, reloads = FakeClock(), FakeNode(), list[str]()
    database = db.Database(db.sqlite_url(tmp_path / "a.db"))
    founding.init(tmp_path, database, clock)
    ca = authority.Authority(tmp_path, clock)
    ca.prepare_own("a1", "10.0.0.250")
    leadership = term.Leadership(database, ca, tmp_path)
    me = AggregatorAddress("a1", "10.0.0.250", 7442, 7443, ca.key_fingerprint())
    nodes = registry.Registry(
        database,
        ca,
        leadership,
        events.EventLog(database, clock),
        clock,
        me,
        reach=Street({ADDRESS: node}).knock,
        call=lambda member: node,
        certificate_days=30,
    )
    keeping = upkeep.Upkeep(
        nodes,
        leadership,
        ca,
        me,
        clock,
        lambda: reloads.append("reload"),
        lambda: "follows a2",
        10.0,
    )
    yield Office(nodes, leadership, ca, keeping, clock, node, reloads)
    database.close()


def test_round_seals_and_tells_a_new_member(office: Office) -> None:
    office.upkeep.round()
    office.registry.admit_address(ADDRESS, office.node.fingerprint, ADMIN)
    sentence = office.upkeep.round()
    assert sentence == "sealed version 2, told 1 of 1 members who leads"
    assert office.node.memberships == [office.registry.membership()]
    assert office.upkeep.round() == ""


def test_round_asks_a_silent_member_again_but_not_at_once(office: Office) -> None:
    office.registry.admit_address(ADDRESS, office.node.fingerprint, ADMIN)
    office.node.error = client.NodeUnreachable("silence")
    office.upkeep.round()
    office.node.error = None
    office.upkeep.round()
    assert office.node.memberships == []
    office.clock.advance(upkeep.TELL_AGAIN_S)
    office.upkeep.round()
    assert len(office.node.memberships) == 1


def test_round_tells_a_member_anew_at_once_when_the_aggregators_change(
    office: Office,
) -> None:
    office.registry.admit_address(ADDRESS, office.node.fingerprint, ADMIN)
    office.upkeep.round()
    office.registry.tell_anew()
    office.upkeep.round()
    assert len(office.node.memberships) == 2


def test_round_tells_nobody_when_another_leads(office: Office) -> None:
    office.registry.admit_address(ADDRESS, office.node.fingerprint, ADMIN)
    office.leadership.observe(7)
    assert office.upkeep.round() == "follows a2"
    assert office.node.memberships == []


def test_round_renews_our_certificate_and_keeps_its_key(office: Office) -> None:
    before = office.ca.certificate()
    office.upkeep.round()
    assert office.reloads == []
    office.clock.advance(250 * DAY_S)
    office.upkeep.round()
    after = office.ca.certificate()
    assert after != before
    assert pki.key_fingerprint(after) == pki.key_fingerprint(before)
    assert office.reloads == ["reload"]


def test_start_runs_a_round_when_poked(office: Office) -> None:
    office.upkeep.start()
    office.registry.admit_address(ADDRESS, office.node.fingerprint, ADMIN)
    office.upkeep.stop()
    assert office.leadership.mark().version >= 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"X-Skerry-Role": "node", "X-Skerry-Subject": "stranger"}, 403),
        ({"X-Skerry-Role": "aggregator", "X-Skerry-Subject": "member"}, 403),
        ({"X-Skerry-Role": "node", "X-Skerry-Subject": "member"}, 200),
    ],
    ids=["nobody", "stranger", "other-role", "member"],
)
def test_handout_serves_members_only(
    office: Office, headers: dict[str, str], status: int
) -> None:
    routes = handout.blueprint(office.leadership, lambda node_id: node_id == "member")
    app = face.create_app("handout", (routes,), lambda verb, path: None)
    reply = app.test_client().get("/v1/fleet/sealed", headers=headers)
    assert reply.status_code == status
    assert ("ciphertext" in reply.get_json()) == (status == 200)


def test_untold_names_nobody_twice(office: Office) -> None:
    office.registry.admit_address(ADDRESS, office.node.fingerprint, ADMIN)
    assert [each.fingerprint for each in office.registry.untold()] == [
        Fingerprint(office.node.fingerprint)
    ]
