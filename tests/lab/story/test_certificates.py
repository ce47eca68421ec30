"""Only certificates of the fleet count, and they renew themselves in time."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from node import pki
from node.log import Secret
from node.model.fleet import Role
from node.model.ids import NodeId
from node.units import DAY_S
from tests.lab import waiting
from tests.lab.story import strangers
from tests.lab.story.conftest import Story

LIFE_S = 24.0  # renewed after 12 s, since half of a short life lies in the past
STRANGER = "99999999-2222-4333-8444-000000000009"
_MEMBER = "/var/lib/skerry/pki/member.pem"
_KEY = "/var/lib/skerry/pki/key.pem"
_AGGREGATOR_PKI = "/var/lib/skerry-aggregator/pki"

MakePapers = Callable[[Story, Path], strangers.Papers | None]


def _nobody(story: Story, folder: Path) -> None:
    return None


def _self_signed(story: Story, folder: Path) -> strangers.Papers:
    return strangers.self_signed(STRANGER, folder)


def _foreign(story: Story, folder: Path) -> strangers.Papers:
    fleet_id = story.client.status().fleet_id
    return strangers.foreign(fleet_id, "a1", Role.AGGREGATOR, folder)


def _api(story: Story, name: str, path: str) -> str:
    return f"https://{story.lab.member(name).address}:{strangers.API_PORT}{path}"


def _feed(story: Story, path: str) -> str:
    return f"https://{story.lab.member('a1').address}:{strangers.FEED_PORT}{path}"


class TestStrangers:
    @pytest.mark.parametrize(
        ("door", "service"), [("h1", "agent"), ("a1", "aggregator")]
    )
    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(_nobody, id="missing"),
            pytest.param(_self_signed, id="self-signed"),
            pytest.param(_foreign, id="foreign"),
        ],
    )
    def test_other_certificate_is_refused_and_logged(
        self, story: Story, tmp_path: Path, make: MakePapers, door: str, service: str
    ) -> None:
        url = (
            _api(story, door, "/v1/node")
            if service == "agent"
            else _feed(story, "/v1/fleet/sealed")
        )
        papers = make(story, tmp_path)
        before = story.lab.member(door).log(service).count(" refused ")

        def is_logged() -> bool:
            """Ask again: only the first stranger of each second is logged."""
            answer = strangers.ask(story.lab, url, papers)
            assert (answer.status, answer.code) == (403, "certificate_refused")
            return story.lab.member(door).log(service).count(" refused ") > before

        waiting.until("the refusal in the log", is_logged)

    def test_node_may_not_command_another(self, story: Story, tmp_path: Path) -> None:
        papers = strangers.borrow(story.fleet, "h1", tmp_path)
        answer = strangers.ask(story.lab, _api(story, "h2", "/v1/node"), papers)
        assert (answer.status, answer.code) == (403, "role_refused")
        assert story.node_id("h1") in story.lab.member("h2").log("agent")

    def test_aggregator_may_not_speak_for_a_node(
        self, story: Story, tmp_path: Path
    ) -> None:
        papers = strangers.borrow(story.fleet, "a1", tmp_path)
        claimed = {"X-Skerry-Role": "node", "X-Skerry-Subject": story.node_id("h1")}
        url = _feed(story, "/v1/fleet/sealed")
        answer = strangers.ask(story.lab, url, papers, headers=claimed)
        assert (answer.status, answer.code) == (403, "not_our_node")


class TestClaims:
    @pytest.mark.parametrize("spelling", ["X-Skerry-Role", "X_Skerry_Role"])
    def test_claimed_role_does_not_count_behind_mutual_tls(
        self, story: Story, tmp_path: Path, spelling: str
    ) -> None:
        papers = strangers.borrow(story.fleet, "h1", tmp_path)
        url = _api(story, "h2", "/v1/node")
        answer = strangers.ask(story.lab, url, papers, headers={spelling: "aggregator"})
        assert answer.code == "role_refused"

    def test_claimed_role_does_not_count_at_the_admission_port(
        self, story: Story
    ) -> None:
        address = story.lab.member("h2").address
        url = f"https://{address}:{strangers.NODE_ADMISSION_PORT}/v1/vms"
        claims = {"X-Skerry-Role": "aggregator", "X-Skerry-Subject": "a1"}
        answer = strangers.ask(story.lab, url, headers=claims)
        assert (answer.status, answer.code) == (403, "not_served_here")


class TestRenewal:
    @pytest.fixture(autouse=True)
    def short_lives(self, story: Story) -> Iterator[None]:
        """Give h1 a certificate of some seconds; afterwards one of a year."""
        story.fleet.set_options("a1", node_certificate_days=f"{LIFE_S / DAY_S:.9f}")
        self._admit_anew(story)
        yield
        story.fleet.set_options("a1", node_certificate_days="")
        story.lab.restore()
        story.wait_node("h1", "up")
        self._admit_anew(story)

    def test_certificate_is_replaced_in_time_and_the_feed_goes_on(
        self, story: Story
    ) -> None:
        last = story.client.event_list().events[0].number
        first = _certificate(story)
        second = _wait_renewal(story, first)
        assert datetime.now(UTC) < pki.expires_at(first)
        _wait_renewal(story, second)
        assert datetime.now(UTC) < pki.expires_at(second)
        waiting.until("the first one's end", lambda: _is_over(first))
        assert not _is_over(_certificate(story))
        codes = {each.code for each in story.client.event_list(last).events}
        assert "certificate_renewed" in codes
        assert not codes & {"node_suspect", "node_unreachable"}

    def test_renewed_certificate_is_the_one_that_nginx_shows(
        self, story: Story, tmp_path: Path
    ) -> None:
        before = _certificate(story)
        _wait_renewal(story, before)
        old = strangers.write(tmp_path / "old", before, story.fleet.file("h1", _KEY))
        waiting.until("the old one's end", lambda: _is_over(before))
        url = _feed(story, "/v1/fleet/sealed")
        assert strangers.ask(story.lab, url, old).code == "certificate_refused"
        new = strangers.borrow(story.fleet, "h1", tmp_path)
        assert strangers.ask(story.lab, url, new).status == 200
        vm_id = story.make_vm("told", "h1")  # a verb reaches the node's own port
        assert story.client.vm_show(vm_id).node == "h1"

    def test_certificate_that_ended_while_cut_off_is_renewed_when_healed(
        self, story: Story
    ) -> None:
        member = story.lab.member("h1")
        member.cut()
        old = _certificate(story)
        waiting.until("the certificate's end", lambda: _is_over(old), timeout_s=60)
        reasons = {each.code for each in story.fleet.node_status("h1").problems}
        assert "certificate_not_renewed" in reasons
        story.wait_node("h1", "unreachable")
        member.heal()
        story.wait_node("h1", "up")
        # On a busy machine one may end before we look: the next follows.
        waiting.until(
            "a certificate that counts", lambda: not _is_over(_certificate(story))
        )

    def test_dates_of_the_aggregator_do_not_hinder_a_renewal(
        self, story: Story
    ) -> None:
        """Its certificate has a wrong date, as after a clock's mistake."""
        before = _certificate(story)
        _misdate(story)
        try:
            _wait_renewal(story, before)
        finally:
            a1 = story.lab.member("a1")
            a1.exec(["rm", f"{_AGGREGATOR_PKI}/certificate.pem"])
            story.fleet.restart("a1", "aggregator")

    def _admit_anew(self, story: Story) -> None:
        story.wait_node("h1", "up")
        story.client.node_remove(NodeId(story.node_id("h1")), is_forced=False)
        story.fleet.admit_missing(story.client)
        story.wait_node("h1", "up")


def _certificate(story: Story) -> str:
    return story.fleet.file("h1", _MEMBER)


def _wait_renewal(story: Story, before: str) -> str:
    """Return the certificate that follows another one."""

    def fresh() -> str:
        now = _certificate(story)
        return now if now != before else ""

    return waiting.until("another certificate", fresh, timeout_s=2 * LIFE_S)


def _is_over(certificate: str) -> bool:
    return datetime.now(UTC) >= pki.expires_at(certificate)


def _misdate(story: Story) -> None:
    """Give a1 a certificate of its own CA and key whose time is not now."""
    a1 = story.lab.member("a1")
    ca_key = pki.load_key(Secret(story.fleet.file("a1", f"{_AGGREGATOR_PKI}/ca.key")))
    ca = story.fleet.file("a1", f"{_AGGREGATOR_PKI}/ca.pem")
    key = pki.load_key(Secret(story.fleet.file("a1", f"{_AGGREGATOR_PKI}/key.pem")))
    subject = pki.Subject("a1", Role.AGGREGATOR, pki.fleet_of(ca))
    later = datetime.now(UTC) + timedelta(days=30)
    csr = pki.signing_request(key, "a1")
    names = (a1.address, "a1", "localhost")
    text = pki.issue(ca_key, ca, csr, subject, names, later, DAY_S * 365)
    a1.exec(["tee", f"{_AGGREGATOR_PKI}/certificate.pem"], input=text)
    a1.exec(["sh", "-c", "kill -HUP $(cat /run/skerry-aggregator/nginx.pid)"])
