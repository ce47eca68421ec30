"""What is due: admission by a token, renewal, the sealed copy."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from node import pki, store
from node.errors import Denied, Error
from node.host import aggregators, enrol, keeper
from node.http import client
from node.log import Secret
from node.model.feed import FleetMark
from node.model.fleet import (
    Admission,
    AggregatorAddress,
    Enrolment,
    Renewal,
    RenewedCertificate,
    SealedFleet,
)
from node.model.ids import Fingerprint
from node.model.options import BadOption
from tests.fakes.clock import FakeClock
from tests.fakes.papers import AGGREGATOR, FLEET, NODE_ID, PaperFleet

PIN = Fingerprint("c" * 64)
ASKED = keeper.ZeroTouch("a1.example", 7443, PIN, "token-1", Secret("secret"))
IDENTITY = enrol.Identity(NODE_ID, "n1", "10.0.0.1", 7440, 7441)


@dataclass(slots=True)
class FakeAggregators:
    """An aggregator that answers, or does not."""

    fleet: PaperFleet
    clock: FakeClock
    lifetime_s: float = 3600.0
    error: Error | None = None
    version: int = 1
    asked: list[str] = field(default_factory=list)

    def enrol(
        self, address: str, port: int, pin: Fingerprint, enrolment: Enrolment
    ) -> Admission:
        self._ask("enrol")
        assert pki.is_token_proof(
            enrolment.proof, ASKED.secret, (pin,), enrolment.request.csr
        )
        self.fleet.now = self.clock.now()
        csr = enrolment.request.csr
        return self.fleet.admission(csr, lifetime_s=self.lifetime_s)

    def renew(
        self, aggregator: AggregatorAddress, renewal: Renewal
    ) -> RenewedCertificate:
        self._ask("renew")
        self.fleet.now = self.clock.now()
        fresh = self.fleet.issue(renewal.csr, lifetime_s=self.lifetime_s)
        return RenewedCertificate(fresh, self.fleet.ca)

    def sealed(self, aggregator: AggregatorAddress) -> SealedFleet:
        self._ask("sealed")
        return SealedFleet(FLEET, 1, self.version, f"text {self.version}")

    def _ask(self, verb: str) -> None:
        self.asked.append(verb)
        if self.error is not None:
            raise self.error


_typed: type[aggregators.Aggregators] = FakeAggregators


@dataclass(slots=True)
class Node:
    enrolment: enrol.Enrolment
    aggregators: FakeAggregators
    clock: FakeClock

    def keeper(
        self, asked: keeper.ZeroTouch | None = ASKED, fetch_gap_s: float = 30.0
    ) -> keeper.Keeper:
        return keeper.Keeper(
            self.enrolment,
            self.aggregators,
            asked,
            "10.0.0.1",
            self.clock,
            random.Random(1),
            fetch_gap_s,
        )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    clock = FakeClock()
    documents = store.Store(tmp_path / "node.db", clock, NODE_ID, "boot")
    enrolment = enrol.Enrolment(
        documents,
        tmp_path / "pki",
        IDENTITY,
        clock,
        lambda: None,
        built_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    yield Node(enrolment, FakeAggregators(PaperFleet(), clock), clock)
    documents.close()


def test_step_enrols_a_node_that_was_booted_with_a_token(node: Node) -> None:
    node.keeper().step()
    assert node.enrolment.is_member()
    assert node.aggregators.asked == ["enrol"]


def test_step_does_not_use_a_token_again_after_leaving(node: Node) -> None:
    node.keeper().step()
    node.enrolment.leave()
    node.keeper().step()
    assert not node.enrolment.is_member()


def test_step_waits_without_a_token(node: Node) -> None:
    assert node.keeper(None).step() == keeper.LOOK_S
    assert node.aggregators.asked == []


def test_step_asks_less_often_while_the_aggregator_is_silent(node: Node) -> None:
    node.aggregators.error = client.NodeUnreachable("silence")
    keeping = node.keeper()
    waits = [keeping.step() for _ in range(8)]
    assert waits[0] <= keeper.ENROL_FIRST_S
    assert keeper.ENROL_MAX_S / 2 <= waits[-1] <= keeper.ENROL_MAX_S


def test_step_asks_seldom_after_a_refusal(node: Node) -> None:
    node.aggregators.error = Denied("the token was refused")
    assert node.keeper().step() >= keeper.ENROL_MAX_S / 2


def test_step_renews_at_two_thirds_and_not_before(node: Node) -> None:
    keeping = node.keeper()
    keeping.step()
    wait_s = keeping.step()
    assert node.aggregators.asked == ["enrol"]
    node.clock.advance(wait_s)
    keeping.step()
    assert node.aggregators.asked == ["enrol", "renew"]
    assert keeping.step() > 0


def test_step_tries_a_failed_renewal_again(node: Node) -> None:
    keeping = node.keeper()
    keeping.step()
    node.clock.advance(3000)
    node.aggregators.error = client.NodeUnreachable("silence")
    first_s = keeping.step()
    assert keeping.step() == pytest.approx(first_s)
    assert node.aggregators.asked == ["enrol", "renew"]
    node.clock.advance(first_s)
    node.aggregators.error = None
    keeping.step()
    assert node.aggregators.asked == ["enrol", "renew", "renew"]


def test_step_renews_a_certificate_that_has_ended(node: Node) -> None:
    keeping = node.keeper()
    keeping.step()
    node.clock.advance(999_999)
    keeping.step()
    assert node.enrolment.problems() == ()


def test_step_fetches_a_newer_copy_once(node: Node) -> None:
    keeping = node.keeper()
    keeping.step()
    mark = FleetMark(FLEET, 1, 1)
    keeping.note_mark(AGGREGATOR, mark)
    node.clock.advance(keeper.FETCH_SPREAD_S)
    keeping.step()
    keeping.note_mark(AGGREGATOR, mark)
    keeping.step()
    assert node.aggregators.asked == ["enrol", "sealed"]
    assert node.enrolment.sealed_mark() == (1, 1)


# In 38 seconds nineteen copies follow each other.
@pytest.mark.parametrize(
    ("gap_s", "fetched"),
    [pytest.param(1.0, 19, id="short"), pytest.param(30.0, 2, id="long")],
)
def test_step_fetches_no_copy_before_the_gap_is_over(
    node: Node, gap_s: float, fetched: int
) -> None:
    keeping = node.keeper(fetch_gap_s=gap_s)
    keeping.step()
    for version in range(1, 20):
        node.aggregators.version = version
        keeping.note_mark(AGGREGATOR, FleetMark(FLEET, 1, version))
        node.clock.advance(keeper.FETCH_SPREAD_S)
        keeping.step()
    assert node.aggregators.asked.count("sealed") == fetched


def test_note_mark_passes_over_a_lower_term(node: Node) -> None:
    keeping = node.keeper()
    keeping.step()
    node.enrolment.check_term(FLEET, 2)
    keeping.note_mark(AGGREGATOR, FleetMark(FLEET, 1, 7))
    node.clock.advance(keeper.FETCH_SPREAD_S)
    keeping.step()
    assert "sealed" not in node.aggregators.asked


@pytest.mark.parametrize(
    ("left_s", "expected_s"),
    [
        (-(10**7), 30.0),
        (-50, 5.0),
        (-1, 1.0),
        (1, 1.0),
        (600, 60.0),
        (10**7, 300.0),
    ],
    ids=["long-over", "over", "just-ended", "last-second", "ten-minutes", "months"],
)
def test_retry_after_s_is_short_around_the_end(left_s: int, expected_s: float) -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    end = now + timedelta(seconds=left_s)
    assert keeper.retry_after_s(end, now) == expected_s


def test_parse_zero_touch_reads_what_a_kernel_argument_holds() -> None:
    asked = keeper.parse_zero_touch(f"a1.example:7443,{PIN}", "token-1.secret")
    assert asked == ASKED


def test_parse_zero_touch_reads_an_ipv6_address() -> None:
    asked = keeper.parse_zero_touch(f"[fd00::1]:7443,{PIN}", "a.b")
    assert asked is not None
    assert asked.address == "fd00::1"


@pytest.mark.parametrize(("aggregator", "token"), [("", ""), ("a:1", ""), ("", "a.b")])
def test_parse_zero_touch_returns_none_unless_both_are_given(
    aggregator: str, token: str
) -> None:
    assert keeper.parse_zero_touch(aggregator, token) is None


@pytest.mark.parametrize(
    ("aggregator", "token"),
    [
        (f"a1,{PIN}", "a.b"),
        (f"a1:0,{PIN}", "a.b"),
        ("a1:7443", "a.b"),
        (f"a1:7443,{PIN}", "ab"),
        (f"a1:7443,{PIN}", ".b"),
    ],
    ids=["no-port", "port-0", "no-fingerprint", "no-dot", "no-id"],
)
def test_parse_zero_touch_refuses_what_is_incomplete(
    aggregator: str, token: str
) -> None:
    with pytest.raises(BadOption):
        keeper.parse_zero_touch(aggregator, token)
