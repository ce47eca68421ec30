"""Nodes join one fleet, the right one, and leave it: found, compared, admitted."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aggregator.api.model import AdmitNode, CandidateLine, EnrolmentToken
from node import clock, wire
from node.errors import Conflict, NotFound, Unavailable
from node.model.fleet import Admission
from node.model.host import AdmissionState
from node.model.ids import Fingerprint, NodeId
from tests.lab import fleet, waiting
from tests.lab.story import strangers
from tests.lab.story.conftest import Story

WRONG = Fingerprint("0" * 64)


def _remove(story: Story, name: str, *, is_forced: bool = False) -> None:
    node_id = NodeId(story.node_id(name))
    story.client.node_remove(node_id, is_forced=is_forced)


def _wait_candidate(
    story: Story,
    name: str,
    is_it: Callable[[CandidateLine], bool] = lambda each: True,
) -> CandidateLine:
    """Wait for a candidate; discovery may take half a minute to see a change."""

    def found() -> CandidateLine | None:
        lines = story.client.node_list().candidates
        return next((each for each in lines if each.name == name and is_it(each)), None)

    return waiting.until(f"candidate {name}", found, timeout_s=60)


def _state(story: Story, name: str) -> AdmissionState:
    return story.fleet.node_status(name).admission


def _is_member(story: Story, name: str) -> bool:
    return name in {each.name for each in story.client.node_list().nodes}


def _events_since(story: Story, number: int) -> set[str]:
    return {each.code for each in story.client.event_list(number).events}


def _last_event(story: Story) -> int:
    return story.client.event_list().events[0].number


def _console_fingerprint(story: Story, name: str) -> str:
    return str(story.fleet.node_json(name, "fingerprint")["fingerprint"])


class TestCandidates:
    def test_candidate_shows_the_fingerprint_of_its_console(self, story: Story) -> None:
        _remove(story, "h3")
        candidate = _wait_candidate(story, "h3")
        assert candidate.fingerprint == _console_fingerprint(story, "h3")
        assert candidate.problem is None

    def test_admission_by_another_fingerprint_changes_nothing(
        self, story: Story
    ) -> None:
        _remove(story, "h3")
        candidate = _wait_candidate(story, "h3")
        last = _last_event(story)
        with pytest.raises(Conflict) as caught:
            story.client.node_admit(AdmitNode(WRONG, candidate.node_id))
        assert caught.value.code == "node_identity_changed"
        assert _state(story, "h3") is AdmissionState.WAITING
        assert not _is_member(story, "h3")
        assert "node_identity_changed" in _events_since(story, last)

    def test_node_is_admitted_by_its_address(self, story: Story) -> None:
        _remove(story, "h3")
        shown = Fingerprint(_console_fingerprint(story, "h3"))
        address = story.lab.member("h3").address
        story.client.node_admit(AdmitNode(shown, address=address))
        story.wait_node("h3", "up")

    def test_admission_asked_twice_is_one(self, story: Story) -> None:
        shown = Fingerprint(_console_fingerprint(story, "h3"))
        address = story.lab.member("h3").address
        story.client.node_admit(AdmitNode(shown, address=address))
        assert len(story.client.node_list().nodes) == 3

    def test_unknown_candidate_is_told_as_such(self, story: Story) -> None:
        stranger = NodeId("99999999-2222-4333-8444-000000000009")
        with pytest.raises(NotFound):
            story.client.node_admit(AdmitNode(WRONG, stranger))


def test_node_with_a_new_key_is_a_problem_until_it_is_removed(story: Story) -> None:
    member = story.lab.member("h3")
    admitted = _console_fingerprint(story, "h3")
    last = _last_event(story)
    member.stop_service("agent")
    member.exec(["rm", "-rf", "/var/lib/skerry/pki"])
    member.start_service("agent")
    changed = waiting.until("a fingerprint", lambda: _console_fingerprint(story, "h3"))
    assert changed != admitted
    candidate = _wait_candidate(story, "h3", lambda each: each.problem is not None)
    assert candidate.problem is not None
    assert candidate.problem.code == "node_identity_changed"
    waiting.until(
        "the event", lambda: "node_identity_changed" in _events_since(story, last)
    )
    with pytest.raises(Conflict) as caught:
        story.client.node_admit(AdmitNode(Fingerprint(changed), candidate.node_id))
    assert caught.value.code == "node_identity_changed"
    _remove(story, "h3", is_forced=True)
    story.client.node_admit(AdmitNode(Fingerprint(changed), candidate.node_id))
    story.wait_node("h3", "up")


class TestOtherFleet:
    def test_member_refuses_every_other_ca(self, story: Story) -> None:
        member = story.lab.member("h3")
        url = f"https://{member.address}:{strangers.NODE_ADMISSION_PORT}/v1/admission"
        before, last = story.fleet.node_status("h3"), _last_event(story)
        shown = strangers.ask(story.lab, url)
        assert shown.status == 200
        other = strangers.StrangeFleet.found("0f1e2d3c-0000-4000-8000-000000000001")
        certificate = other.issue(shown.body["csr"], before.node_id)
        given = Admission(other.fleet_id, 9, certificate, other.certificate, ())
        answer = strangers.ask(story.lab, url, method="PUT", body=wire.to_json(given))
        assert (answer.status, answer.code) == (409, "member_already")
        assert story.fleet.node_status("h3").fleet_id == before.fleet_id
        waiting.until(
            "the refusal told",
            lambda: "admission_refused" in _events_since(story, last),
        )

    @pytest.fixture
    def second(self, story: Story, second_port: int) -> Iterator[fleet.Fleet]:
        """Found another fleet on a2; afterwards a2 is empty."""
        story.fleet.wipe_aggregator("a2")
        other = fleet.Fleet(story.lab, second_port)
        other.initialise("a2")
        yield other
        if story.fleet.node_status("h3").fleet_id != story.client.status().fleet_id:
            story.fleet.leave("h3")
        other.wipe_aggregator("a2")

    def test_node_joins_another_fleet_only_after_it_left(
        self, story: Story, second: fleet.Fleet
    ) -> None:
        stranger = second.log_in("a2")
        shown = Fingerprint(_console_fingerprint(story, "h3"))
        asked = AdmitNode(shown, address=story.lab.member("h3").address)
        with pytest.raises(Conflict) as caught:
            stranger.node_admit(asked)
        assert caught.value.code == "other_fleet"
        story.fleet.leave("h3")
        assert _state(story, "h3") is AdmissionState.WAITING
        stranger.node_admit(asked)
        other = stranger.status().fleet_id
        assert story.fleet.node_status("h3").fleet_id == other
        waiting.until(
            "h3 up in the other fleet",
            lambda: {each.state for each in stranger.node_list().nodes} == {"up"},
        )


class TestTokens:
    @pytest.fixture(autouse=True)
    def without_token(self, story: Story) -> Iterator[None]:
        yield
        for name in ("h2", "h3"):
            story.fleet.set_options(name, aggregator="", token="")

    def test_node_that_was_booted_with_a_token_joins_by_itself(
        self, story: Story
    ) -> None:
        token = self._give(story, "h3", story.client.token_make(600))
        story.wait_node("h3", "up")
        assert story.fleet.node_status("h3").fleet_id is not None
        assert token.token not in story.lab.member("h3").log("agent")

    @pytest.mark.parametrize("kind", ["used", "expired", "forged"])
    def test_token_that_is_not_good_is_refused_and_told(
        self, story: Story, kind: str
    ) -> None:
        token = story.client.token_make(1 if kind == "expired" else 600)
        if kind == "used":
            self._give(story, "h3", token)
            story.wait_node("h3", "up")
        if kind == "expired":
            waiting.until("the token's end", lambda: _is_over(token))
        if kind == "forged":
            head, _, _ = token.token.partition(".")
            token = EnrolmentToken(f"{head}.none", token.expires_at, token.aggregator)
        last = _last_event(story)
        self._give(story, "h2", token)
        waiting.until(
            "the refusal told",
            lambda: "node_token_refused" in _events_since(story, last),
        )
        assert _state(story, "h2") is AdmissionState.WAITING
        assert not _is_member(story, "h2")

    def _give(self, story: Story, name: str, token: EnrolmentToken) -> EnrolmentToken:
        """Remove a node, and boot it anew with a token."""
        _remove(story, name)
        story.fleet.set_options(name, aggregator=token.aggregator, token=token.token)
        return token


class TestRemoval:
    def test_removed_node_waits_and_its_guests_run_on(self, story: Story) -> None:
        detail = story.run_vm("kept", "h2")
        pids, ticks = story.qemu_pids("h2"), story.guest_ticks(detail)
        _remove(story, "h2")
        assert _state(story, "h2") is AdmissionState.WAITING
        assert not _is_member(story, "h2")
        assert story.qemu_pids("h2") == pids
        assert story.guest_ticks(detail) >= ticks
        story.fleet.admit_missing(story.client)
        story.wait_node("h2", "up")
        vm_id = detail.entry.vm.spec.vm_id
        waiting.until("its VM", lambda: story.client.vm_show(vm_id).node == "h2")

    def test_removed_certificate_is_refused_by_the_feed(
        self, story: Story, tmp_path: Path
    ) -> None:
        papers = strangers.borrow(story.fleet, "h2", tmp_path)
        address = story.lab.member("a1").address
        url = f"https://{address}:{strangers.FEED_PORT}/v1/fleet/sealed"
        assert strangers.ask(story.lab, url, papers).status == 200
        _remove(story, "h2")

        def answer() -> strangers.Answer | None:
            """Nginx loads the new list a moment after it was told to."""
            said = strangers.ask(story.lab, url, papers)
            return said if said.code == "certificate_refused" else None

        assert waiting.until("the refusal", answer).status == 403

    def test_node_that_does_not_answer_is_removed_by_force_only(
        self, story: Story
    ) -> None:
        story.lab.member("h3").stop_service("agent")
        with pytest.raises(Unavailable):
            _remove(story, "h3")
        assert _is_member(story, "h3")
        _remove(story, "h3", is_forced=True)
        assert not _is_member(story, "h3")


def _is_over(token: EnrolmentToken) -> bool:
    return token.expires_at < clock.rfc3339(datetime.now(UTC))
