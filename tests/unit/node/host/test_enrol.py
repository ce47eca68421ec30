"""A node belongs to the first fleet that asks, and to no other."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from node import pki, store
from node.host import enrol
from node.model.fleet import Membership, RenewedCertificate, Role, SealedFleet
from node.model.ids import Fingerprint, FleetId
from tests.fakes.clock import FakeClock
from tests.fakes.papers import AGGREGATOR, FLEET, NODE_ID, PaperFleet

BUILT_AT = datetime(2026, 11, 1, tzinfo=UTC)
IDENTITY = enrol.Identity(NODE_ID, "n1", "127.0.0.1", 7440, 7441)


@dataclass(slots=True)
class Machine:
    """A node's disk: an Enrolment made on it anew is the agent restarted."""

    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)
    changes: list[str] = field(default_factory=list)
    opened: list[store.Store] = field(default_factory=list)

    def boot(self) -> enrol.Enrolment:
        for each in self.opened:
            each.close()
        documents = store.Store(
            self.folder / "node.db", self.clock, NODE_ID, f"boot-{len(self.opened)}"
        )
        self.opened.append(documents)
        return enrol.Enrolment(
            documents,
            self.folder / "pki",
            IDENTITY,
            self.clock,
            lambda: self.changes.append("changed"),
            built_at=BUILT_AT,
        )

    def events(self) -> list[str]:
        return [event.code for event in self.opened[-1].events(0).events]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    for each in machine.opened:
        each.close()


@pytest.fixture
def fleet() -> PaperFleet:
    return PaperFleet()


@pytest.fixture
def waiting(machine: Machine) -> enrol.Enrolment:
    return machine.boot()


@pytest.fixture
def member(waiting: enrol.Enrolment, fleet: PaperFleet) -> enrol.Enrolment:
    waiting.admit(fleet.admission(waiting.request().csr))
    return waiting


def test_boot_makes_an_identity_that_stays(machine: Machine) -> None:
    first = machine.boot().request()
    again = machine.boot().request()
    assert first.is_waiting
    assert again.fingerprint == first.fingerprint
    key = pki.request_key_fingerprint(first.csr)
    assert pki.request_key_fingerprint(again.csr) == key
    assert (machine.folder / "pki" / enrol.KEY).stat().st_mode & 0o077 == 0


def test_boot_replaces_a_certificate_of_another_key(machine: Machine) -> None:
    machine.boot()
    path = machine.folder / "pki" / enrol.SELF_SIGNED
    path.write_text(pki.self_signed(pki.make_key(), NODE_ID, machine.clock.now()))
    fingerprint = machine.boot().fingerprint()
    assert pki.fingerprint(path.read_text()) == fingerprint


def test_boot_waits_again_when_the_admitted_key_is_gone(
    machine: Machine, member: enrol.Enrolment
) -> None:
    before = member.fingerprint()
    (machine.folder / "pki" / enrol.KEY).unlink()
    again = machine.boot()
    assert again.request().is_waiting
    assert again.fingerprint() != before
    assert machine.events() == ["node_left"]
    assert not (machine.folder / "pki" / enrol.MEMBER).exists()


def test_admit_makes_a_member_for_good(
    machine: Machine, waiting: enrol.Enrolment, fleet: PaperFleet
) -> None:
    waiting.admit(fleet.admission(waiting.request().csr, term=3))
    again = machine.boot()
    assert again.membership() == Membership(
        FLEET, 3, (AGGREGATOR,), pki.fingerprint(fleet.ca)
    )
    assert again.request().ca_fingerprint == pki.fingerprint(fleet.ca)
    assert (machine.folder / "pki" / enrol.CA).read_text() == fleet.ca
    assert again.client_context().get_ca_certs()


def test_admit_tells_and_changes_nginx(
    machine: Machine, member: enrol.Enrolment
) -> None:
    assert machine.events() == ["node_joined"]
    assert machine.changes == ["changed"]


def test_boot_writes_certificates_that_a_crash_kept_from_disk(
    machine: Machine, member: enrol.Enrolment
) -> None:
    path = machine.folder / "pki" / enrol.MEMBER
    path.unlink()
    machine.boot()
    assert path.read_text() == member.certificate()


def test_admit_answers_the_same_when_asked_twice(
    machine: Machine, waiting: enrol.Enrolment, fleet: PaperFleet
) -> None:
    admission = fleet.admission(waiting.request().csr)
    first = waiting.admit(admission)
    assert waiting.admit(admission) == first
    assert machine.events() == ["node_joined"]


def test_admit_takes_only_a_newer_certificate_when_the_same_fleet_asks_again(
    member: enrol.Enrolment, fleet: PaperFleet
) -> None:
    before = member.membership()
    fleet.now += timedelta(hours=2)
    admission = fleet.admission(member.request().csr, term=9)
    elsewhere = replace(AGGREGATOR, address="evil.example")
    member.admit(replace(admission, aggregators=(elsewhere,)))
    assert member.membership() == before
    assert member.certificate() == admission.certificate


def test_admit_refuses_another_ca_when_a_member(
    machine: Machine, member: enrol.Enrolment
) -> None:
    other = PaperFleet()
    with pytest.raises(enrol.MemberAlready):
        member.admit(other.admission(member.request().csr))
    assert machine.events() == ["node_joined", "admission_refused"]


def test_admit_records_refusals_once_a_minute(
    machine: Machine, member: enrol.Enrolment
) -> None:
    for _ in range(3):
        with pytest.raises(enrol.MemberAlready):
            member.admit(PaperFleet().admission(member.request().csr))
    assert machine.events().count("admission_refused") == 1


@pytest.mark.parametrize(
    "flaw", ["other-key", "other-node", "other-role", "other-ca", "other-fleet"]
)
def test_admit_refuses_a_certificate_that_is_not_for_us(
    waiting: enrol.Enrolment, fleet: PaperFleet, flaw: str
) -> None:
    csr = waiting.request().csr
    good = fleet.admission(csr)
    foreign = pki.signing_request(pki.make_key(), NODE_ID)
    bad = {
        "other-key": replace(good, certificate=fleet.issue(foreign)),
        "other-node": replace(good, certificate=fleet.issue(csr, "somebody")),
        "other-role": replace(good, certificate=fleet.issue(csr, role=Role.AGGREGATOR)),
        "other-ca": replace(good, ca_certificate=PaperFleet().ca),
        "other-fleet": replace(good, fleet_id=FleetId("elsewhere")),
    }[flaw]
    with pytest.raises(enrol.BadAdmission):
        waiting.admit(bad)
    assert waiting.membership() is None


def test_leave_waits_again_with_the_same_key(
    machine: Machine, member: enrol.Enrolment, fleet: PaperFleet
) -> None:
    fingerprint = member.fingerprint()
    member.leave()
    member.leave()
    again = machine.boot()
    assert again.membership() is None
    assert again.fingerprint() == fingerprint
    assert not (machine.folder / "pki" / enrol.MEMBER).exists()
    again.admit(PaperFleet().admission(again.request().csr))
    assert again.is_member()


def test_leave_forgets_the_sealed_copy(member: enrol.Enrolment) -> None:
    member.put_sealed(SealedFleet(FLEET, 1, 1, "text"))
    member.leave()
    with pytest.raises(enrol.NoSealedCopy):
        member.sealed()


def test_check_term_keeps_the_highest(
    machine: Machine, member: enrol.Enrolment
) -> None:
    member.check_term(FLEET, 5)
    again = machine.boot()
    with pytest.raises(enrol.Superseded) as caught:
        again.check_term(FLEET, 4)
    assert caught.value.fields["newest"] == 5
    assert caught.value.fields["leader"] == "a1"


def test_check_term_refuses_another_fleet(member: enrol.Enrolment) -> None:
    with pytest.raises(enrol.WrongFleet):
        member.check_term("other", 99)


def test_check_term_refuses_everybody_while_waiting(waiting: enrol.Enrolment) -> None:
    with pytest.raises(enrol.NotAMember):
        waiting.check_term(FLEET, 1)


def test_put_membership_follows_a_new_aggregator(
    machine: Machine, member: enrol.Enrolment
) -> None:
    before = member.membership()
    assert before is not None
    moved = replace(before, term=2, aggregators=(replace(AGGREGATOR, name="a2"),))
    assert member.put_membership(moved) == moved
    assert machine.boot().membership() == moved


def test_put_membership_refuses_another_ca(member: enrol.Enrolment) -> None:
    before = member.membership()
    assert before is not None
    with pytest.raises(enrol.WrongFleet):
        member.put_membership(replace(before, ca_fingerprint=Fingerprint("0" * 64)))


def test_put_sealed_keeps_the_newest(machine: Machine, member: enrol.Enrolment) -> None:
    for version in (1, 3, 2):
        member.put_sealed(SealedFleet(FLEET, 1, version, f"text {version}"))
    assert machine.boot().sealed().version == 3


def test_put_sealed_raises_the_alarm_when_one_version_has_two_contents(
    machine: Machine, member: enrol.Enrolment
) -> None:
    member.put_sealed(SealedFleet(FLEET, 1, 1, "one"))
    member.put_sealed(SealedFleet(FLEET, 1, 1, "one"))
    with pytest.raises(enrol.DocumentsDiffer):
        member.put_sealed(SealedFleet(FLEET, 1, 1, "two"), "a2")
    assert member.sealed().ciphertext == "one"
    assert machine.events()[-1] == "fleet_documents_differ"


def test_put_sealed_refuses_a_lower_term(member: enrol.Enrolment) -> None:
    member.check_term(FLEET, 2)
    with pytest.raises(enrol.Superseded):
        member.put_sealed(SealedFleet(FLEET, 1, 9, "old"))


def test_put_certificate_uses_the_renewed_one(
    machine: Machine, member: enrol.Enrolment, fleet: PaperFleet
) -> None:
    renewal = member.renewal()
    pki.check_signature(renewal.certificate, renewal.csr, renewal.signature)
    fresh = fleet.issue(renewal.csr)
    member.put_certificate(RenewedCertificate(fresh, fleet.ca))
    assert machine.boot().certificate() == fresh
    assert (machine.folder / "pki" / enrol.MEMBER).read_text() == fresh


def test_client_context_stays_until_the_certificate_is_another(
    member: enrol.Enrolment, fleet: PaperFleet
) -> None:
    before = member.client_context()
    member.check_term(FLEET, 9)
    assert member.client_context() is before
    fresh = fleet.issue(member.request().csr, lifetime_s=7200)
    member.put_certificate(RenewedCertificate(fresh, fleet.ca))
    assert member.client_context() is not before


def test_client_context_ends_with_membership(member: enrol.Enrolment) -> None:
    member.client_context()
    member.leave()
    with pytest.raises(enrol.NotAMember):
        member.client_context()


def test_put_certificate_refuses_one_of_another_ca(member: enrol.Enrolment) -> None:
    other = PaperFleet()
    fresh = other.issue(member.request().csr)
    with pytest.raises(enrol.BadAdmission):
        member.put_certificate(RenewedCertificate(fresh, other.ca))


def test_now_is_never_before_the_build(
    machine: Machine, waiting: enrol.Enrolment
) -> None:
    machine.clock.wall = datetime(1970, 1, 1, tzinfo=UTC)
    assert waiting.now() == BUILT_AT
    assert [reason.code for reason in waiting.problems()] == ["clock_skew"]


def test_problems_name_a_certificate_that_ended(
    machine: Machine, member: enrol.Enrolment
) -> None:
    assert member.problems() == ()
    machine.clock.advance(7200)
    assert [each.code for each in member.problems()] == ["certificate_not_renewed"]
