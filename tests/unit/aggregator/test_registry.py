"""Nodes from found to removed, and everybody who is not let in."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from aggregator import authority, db, registry
from aggregator.federation import events
from aggregator.fleet import founding, introductions, term, tokens
from aggregator.fleet.members import Member
from node import pki
from node.errors import Conflict
from node.http import client
from node.log import Secret
from node.model.fleet import AggregatorAddress, Enrolment
from node.model.ids import CorrelationId, Fingerprint, NodeId
from node.units import DAY_S
from tests.fakes.clock import FakeClock
from tests.fakes.doorsteps import NODE_ID, FakeNode, Street

ADDRESS = "10.0.0.1"
OTHER_ID = NodeId("11111111-2222-4333-8444-000000000002")


CORRELATION = CorrelationId("c-1")


@dataclass(frozen=True, slots=True)
class By:
    user: str = "admin@internal"
    address: str = "192.0.2.1"
    correlation_id: CorrelationId = CORRELATION


ADMIN = By()


@dataclass(slots=True)
class Fleet:
    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)
    street: Street = field(default_factory=Street)
    changes: list[str] = field(default_factory=list)
    revocations: list[str] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # scripts
    forbidden: set[str] = field(default_factory=set)  # what scripts forbid
    database: db.Database = field(init=False)
    leadership: term.Leadership = field(init=False)
    ca: authority.Authority = field(init=False)
    log: events.EventLog = field(init=False)

    def open(self) -> None:
        self.database = db.Database(db.sqlite_url(self.folder / "aggregator.db"))
        if not term.is_founded(self.database.records("setting")):
            founding.init(self.folder, self.database, self.clock)
        self.ca = authority.Authority(self.folder, self.clock)
        self.ca.prepare_own("a1", "10.0.0.250")
        self.leadership = term.Leadership(self.database, self.ca, self.folder)
        self.log = events.EventLog(self.database, self.clock)

    def registry(self, certificate_days: float = 30.0) -> registry.Registry:
        me = AggregatorAddress(
            "a1", "10.0.0.250", 7442, 7443, self.ca.key_fingerprint()
        )
        made = registry.Registry(
            self.database,
            self.ca,
            self.leadership,
            self.log,
            self.clock,
            me,
            reach=self.street.knock,
            call=lambda member: self.street.nodes[member.address],
            certificate_days=certificate_days,
            around=self.around,
        )
        made.on_change(lambda: self.changes.append("changed"))
        made.on_revoked(lambda: self.revocations.append("revoked"))
        return made

    @contextlib.contextmanager
    def around(
        self, action: str, member: Member, user: str, correlation: CorrelationId | None
    ) -> Iterator[None]:
        if action in self.forbidden:
            raise Conflict("a script says no")
        self.asked.append((action, member.name, user))
        yield
        self.asked.append(("done", member.name, user))

    def codes(self) -> list[str]:
        return [event.code for event in reversed(self.log.list())]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    fleet.open()
    yield fleet
    fleet.database.close()


@pytest.fixture
def node(fleet: Fleet) -> FakeNode:
    node = FakeNode()
    fleet.street.nodes[ADDRESS] = node
    return node


def sighting(node: FakeNode) -> registry.Sighting:
    request = node.request()
    return registry.Sighting(
        node.node_id,
        node.name,
        ADDRESS,
        7441,
        "0.1.0",
        node.fingerprint,
        request.is_waiting,
        request.ca_fingerprint or "",
    )


def enrolment(
    node: FakeNode, token: registry.Token, pin: Fingerprint | None = None
) -> Enrolment:
    token_id, _, secret = token.text.partition(".")
    ours = pin or Fingerprint(token.aggregator.partition(",")[2])
    request = node.request()
    proof = pki.token_proof(Secret(secret), ours, request.csr)
    return Enrolment(token_id, proof, request, ADDRESS)


def test_see_shows_a_waiting_node_once(fleet: Fleet, node: FakeNode) -> None:
    nodes = fleet.registry()
    nodes.see(sighting(node))
    fleet.clock.advance(10)
    nodes.see(sighting(node))
    (candidate,) = nodes.candidates()
    assert candidate.name == "n1"
    assert candidate.first_seen < candidate.last_seen
    assert fleet.codes() == ["node_candidate"]
    assert fleet.changes == ["changed"]


def test_lose_forgets_a_candidate(fleet: Fleet, node: FakeNode) -> None:
    nodes = fleet.registry()
    nodes.see(sighting(node))
    nodes.lose(node.node_id)
    assert nodes.candidates() == ()


def test_see_flags_a_candidate_whose_fingerprint_changes(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    nodes.see(sighting(node))
    for _ in range(2):
        nodes.see(replace(sighting(node), fingerprint=Fingerprint("0" * 64)))
    (candidate,) = nodes.candidates()
    assert candidate.problem is not None
    assert candidate.problem.code == "node_identity_changed"
    assert fleet.codes().count("node_identity_changed") == 1


def test_see_flags_whoever_bears_the_id_of_a_member(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    nodes.see(replace(sighting(node), fingerprint=Fingerprint("0" * 64)))
    (candidate,) = nodes.candidates()
    assert candidate.problem is not None
    nodes.see(sighting(node))
    assert nodes.candidates() == ()


def test_see_shows_a_node_of_ours_that_lost_its_place(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    fleet.database.records("member").delete(node.node_id)
    rebuilt = fleet.registry()
    rebuilt.see(sighting(node))
    assert [each.node_id for each in rebuilt.candidates()] == [node.node_id]
    rebuilt.admit(node.node_id, node.fingerprint, ADMIN)
    assert rebuilt.is_member(node.node_id)


def test_admit_makes_a_candidate_a_member_for_good(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    nodes.see(sighting(node))
    member = nodes.admit(node.node_id, node.fingerprint, ADMIN)
    assert nodes.candidates() == ()
    assert fleet.registry().members() == (member,)
    assert member.admitted_by == ADMIN.user
    assert fleet.codes()[-1] == "node_admitted"
    assert node.admission is not None
    subject = pki.subject_of(node.admission.certificate)
    assert (subject.name, subject.role) == (NODE_ID, "node")
    assert node.admission.fleet_id == fleet.leadership.fleet_id
    names = pki.alternatives_of(node.admission.certificate)
    assert names == {ADDRESS, NODE_ID, "n1"}


def test_scripts_are_asked_before_a_node_comes_or_goes(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    nodes.remove(NODE_ID, ADMIN)
    about = (node.name, ADMIN.user)
    expected = [("node_admit", *about), ("done", *about)]
    assert fleet.asked == [*expected, ("node_remove", *about), ("done", *about)]


def test_scripts_may_forbid_that_a_node_comes_or_goes(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    fleet.forbidden = {"node_admit"}
    with pytest.raises(Conflict, match="a script says no"):
        nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    assert node.admission is None
    assert nodes.members() == ()
    fleet.forbidden = {"node_remove"}
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    with pytest.raises(Conflict, match="a script says no"):
        nodes.remove(NODE_ID, ADMIN)
    assert nodes.is_member(NODE_ID)


def test_admit_answers_the_same_when_asked_twice(fleet: Fleet, node: FakeNode) -> None:
    nodes = fleet.registry()
    nodes.see(sighting(node))
    member = nodes.admit(node.node_id, node.fingerprint, ADMIN)
    assert nodes.admit(node.node_id, node.fingerprint, ADMIN) == member


def test_admit_takes_fingerprints_as_people_type_them(
    fleet: Fleet, node: FakeNode
) -> None:
    typed = Fingerprint(":".join([node.fingerprint[:2].upper()] * 32))
    assert fleet.registry().admit_address(ADDRESS, typed, ADMIN).name == "n1"


def test_admit_refuses_a_fingerprint_that_is_not_the_one_compared(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    nodes.see(sighting(node))
    with pytest.raises(registry.IdentityChanged):
        nodes.admit(node.node_id, Fingerprint("0" * 64), ADMIN)
    assert node.admission is None
    assert nodes.members() == ()
    assert nodes.candidates()[0].problem is not None
    assert fleet.codes()[-1] == "node_identity_changed"


def test_admit_refuses_who_was_never_seen(fleet: Fleet) -> None:
    with pytest.raises(registry.NoSuchCandidate):
        fleet.registry().admit(NODE_ID, Fingerprint("0" * 64), ADMIN)


def test_admit_refuses_another_node_at_the_address(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    nodes.see(replace(sighting(node), node_id=OTHER_ID))
    with pytest.raises(introductions.WrongNode):
        nodes.admit(OTHER_ID, node.fingerprint, ADMIN)


def test_admit_refuses_a_member_of_another_fleet(
    fleet: Fleet, node: FakeNode, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Fleet(tmp_path_factory.mktemp("other"), street=fleet.street)
    other.open()
    other.registry().admit_address(ADDRESS, node.fingerprint, ADMIN)
    other.database.close()
    with pytest.raises(registry.OtherFleet):
        fleet.registry().admit_address(ADDRESS, node.fingerprint, ADMIN)


def test_admit_refuses_the_id_of_a_member_with_another_key(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    stranger = FakeNode(fingerprint=Fingerprint("e" * 64))
    fleet.street.nodes["10.0.0.2"] = stranger
    with pytest.raises(registry.IdentityChanged):
        nodes.admit_address("10.0.0.2", stranger.fingerprint, ADMIN)
    assert stranger.admission is None
    assert fleet.codes()[-1] == "node_identity_changed"


def test_admit_refuses_a_name_that_another_node_has(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    fleet.street.nodes["10.0.0.2"] = FakeNode(node_id=OTHER_ID, name="N1")
    with pytest.raises(introductions.NameTaken):
        nodes.admit_address("10.0.0.2", node.fingerprint, ADMIN)


def test_admit_takes_a_node_back_that_left_on_its_console(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    node.leave()
    nodes.see(sighting(node))
    nodes.admit(node.node_id, node.fingerprint, ADMIN)
    assert node.admission is not None
    assert len(nodes.members()[0].certificates) == 2


def test_remove_releases_and_revokes(fleet: Fleet, node: FakeNode) -> None:
    nodes = fleet.registry()
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    renewal = node.renewal()
    nodes.remove(node.node_id, ADMIN)
    assert node.leaves == 1
    assert not nodes.is_member(node.node_id)
    assert fleet.registry().members() == ()
    assert fleet.revocations
    assert fleet.codes()[-1] == "node_removed"
    serial = f"{pki.serial(renewal.certificate):x}"
    assert fleet.database.records("certificate").get(serial) is not None
    with pytest.raises(registry.RenewalRefused):
        nodes.renew(renewal)


def test_remove_refuses_a_silent_node_unless_forced(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    node.error = client.NodeUnreachable("silence")
    with pytest.raises(client.NodeUnreachable):
        nodes.remove(node.node_id, ADMIN)
    assert nodes.is_member(node.node_id)
    nodes.remove(node.node_id, ADMIN, is_forced=True)
    assert not nodes.is_member(node.node_id)


def test_remove_refuses_who_is_no_member(fleet: Fleet) -> None:
    with pytest.raises(registry.NoSuchMember):
        fleet.registry().remove(NODE_ID, ADMIN)


@pytest.mark.parametrize("which", [0, 1], ids=["key", "certificate"])
def test_enrol_admits_a_node_with_a_token(
    fleet: Fleet, node: FakeNode, which: int
) -> None:
    nodes = fleet.registry()
    token = nodes.make_token(3600, ADMIN)
    pin = fleet.ca.fingerprints()[which]
    admission = nodes.enrol(enrolment(node, token, pin), ADDRESS)
    assert pki.subject_of(admission.certificate).name == NODE_ID
    assert nodes.members()[0].admitted_by == f"token {token.token_id}"


def test_enrol_answers_the_same_node_again_when_its_reply_was_lost(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    asked = enrolment(node, nodes.make_token(3600, ADMIN))
    nodes.enrol(asked, ADDRESS)
    assert nodes.enrol(asked, ADDRESS).fleet_id == fleet.leadership.fleet_id
    assert len(nodes.members()) == 1


@pytest.mark.parametrize("fault", ["used", "late", "forged", "unknown", "other-pin"])
def test_enrol_refuses_a_token(fleet: Fleet, node: FakeNode, fault: str) -> None:
    nodes = fleet.registry()
    token = nodes.make_token(3600, ADMIN)
    asked = enrolment(node, token)
    if fault == "used":
        nodes.enrol(asked, ADDRESS)
        asked = enrolment(FakeNode(node_id=OTHER_ID, name="n2"), token)
    elif fault == "late":
        fleet.clock.advance(3601)
    elif fault == "forged":
        asked = replace(asked, proof="0" * 64)
    elif fault == "unknown":
        asked = replace(asked, token_id="no-such")
    else:
        asked = enrolment(node, token, Fingerprint("9" * 64))
    with pytest.raises(tokens.TokenRefused):
        nodes.enrol(asked, ADDRESS)
    assert fleet.codes()[-1] == "node_token_refused"


def test_expire_deletes_what_is_over(fleet: Fleet, node: FakeNode) -> None:
    nodes = fleet.registry(certificate_days=1)
    nodes.make_token(60, ADMIN)
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    nodes.remove(node.node_id, ADMIN)
    fleet.clock.advance(2 * DAY_S)
    nodes.expire()
    assert fleet.database.records("token").list() == ()
    assert fleet.database.records("certificate").list() == ()


def test_make_token_hides_its_secret_from_logs(fleet: Fleet) -> None:
    token = fleet.registry().make_token(60, ADMIN)
    assert token.text.partition(".")[2] not in repr(token)


@pytest.mark.parametrize("lifetime_s", [0, -1, 10**9, float("nan")])
def test_make_token_refuses_lifetimes(fleet: Fleet, lifetime_s: float) -> None:
    with pytest.raises(tokens.BadLifetime):
        fleet.registry().make_token(lifetime_s, ADMIN)


def test_renew_gives_a_member_a_fresh_certificate(fleet: Fleet, node: FakeNode) -> None:
    nodes = fleet.registry()
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    fleet.clock.advance(90 * DAY_S)
    renewed = nodes.renew(node.renewal())
    assert pki.expires_at(renewed.certificate) > fleet.clock.now()
    assert renewed.ca_certificate == fleet.ca.ca_certificate
    assert fleet.codes()[-1] == "certificate_renewed"
    assert len(nodes.members()[0].certificates) == 1


def test_renew_refuses_a_certificate_of_another_ca(
    fleet: Fleet, node: FakeNode, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Fleet(tmp_path_factory.mktemp("other"), street=fleet.street)
    other.open()
    other.registry().admit_address(ADDRESS, node.fingerprint, ADMIN)
    other.database.close()
    with pytest.raises(pki.SignatureRefused):
        fleet.registry().renew(node.renewal())


def test_renew_refuses_a_request_for_another_key(fleet: Fleet, node: FakeNode) -> None:
    nodes = fleet.registry()
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    csr = pki.signing_request(pki.make_key(), NODE_ID)
    asked = replace(node.renewal(), csr=csr, signature=pki.sign(node.key, csr))
    with pytest.raises(registry.RenewalRefused):
        nodes.renew(asked)


def test_renew_refuses_who_does_not_hold_the_key(fleet: Fleet, node: FakeNode) -> None:
    nodes = fleet.registry()
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    asked = node.renewal()
    with pytest.raises(pki.SignatureRefused):
        nodes.renew(replace(asked, signature=pki.sign(pki.make_key(), asked.csr)))


def test_renew_refuses_the_old_key_of_a_node_admitted_anew(
    fleet: Fleet, node: FakeNode
) -> None:
    nodes = fleet.registry()
    nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    stolen = node.renewal()
    nodes.remove(node.node_id, ADMIN)
    fresh = FakeNode(fingerprint=Fingerprint("d" * 64))
    fleet.street.nodes[ADDRESS] = fresh
    nodes.admit_address(ADDRESS, fresh.fingerprint, ADMIN)
    with pytest.raises(registry.RenewalRefused):
        nodes.renew(stolen)
    assert fleet.codes()[-1] == "caller_refused"


def test_tell_says_whom_to_push_to_once(fleet: Fleet, node: FakeNode) -> None:
    nodes = fleet.registry()
    member = nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    assert nodes.untold() == (member,)
    nodes.tell(member)
    assert nodes.untold() == ()
    assert node.memberships == [nodes.membership()]
    nodes.tell_anew()
    assert nodes.untold() == (member,)


def test_tell_learns_that_somebody_else_leads(fleet: Fleet, node: FakeNode) -> None:
    nodes = fleet.registry()
    member = nodes.admit_address(ADDRESS, node.fingerprint, ADMIN)
    node.error = Conflict("term 1 is over", newest=4)
    node.error.code = "superseded"
    with pytest.raises(Conflict):
        nodes.tell(member)
    assert not fleet.leadership.is_leading
    assert fleet.leadership.promote() == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n1.example", ("n1.example", 7441)),
        (" 10.0.0.1:99 ", ("10.0.0.1", 99)),
        ("fd00::1", ("fd00::1", 7441)),
        ("[fd00::1]:99", ("fd00::1", 99)),
    ],
)
def test_parse_address_reads_what_people_type(
    text: str, expected: tuple[str, int]
) -> None:
    assert registry.parse_address(text, 7441) == expected


@pytest.mark.parametrize("text", ["", "a b", "a:0", "a:99999", "a:b", "[]", ":1"])
def test_parse_address_refuses_other_texts(text: str) -> None:
    with pytest.raises(registry.BadAddress):
        registry.parse_address(text, 7441)
