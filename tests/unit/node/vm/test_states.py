"""The table of a VM's states, and the reasons it gives."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.clock import parse_rfc3339
from node.model import messages
from node.model.reason import Reason
from node.model.vm import EndCause, GuestFacts, VmEnd, VmRun, VmState, Wanted
from node.vm import states
from node.vm.states import Seen
from tests.unit.node.vm.examples import AT, DOWN

_LATER = "2026-11-22T08:01:00.000Z"
_GUEST = GuestFacts(AT, "web")
_UP = replace(DOWN, state=VmState.UP, started_at=AT, vnc_port=5900, guest=_GUEST)


@pytest.mark.parametrize(
    ("before", "seen", "after"),
    [
        pytest.param("down", "start_asked", "starting", id="start"),
        pytest.param("down", "runs", "powering_up", id="adopt-a-running-one"),
        pytest.param("down", "paused", "paused", id="adopt-a-paused-one"),
        pytest.param("down", "ended", "down", id="ended-twice"),
        pytest.param("down", "guest_answered", "down", id="late-answer"),
        pytest.param("starting", "runs", "powering_up", id="qemu-runs"),
        pytest.param("starting", "paused", "paused", id="started-paused"),
        pytest.param("starting", "ended", "down", id="start-failed"),
        pytest.param("powering_up", "guest_answered", "up", id="guest-answers"),
        pytest.param("powering_up", "guest_wait_over", "up", id="no-agent"),
        pytest.param("powering_up", "rebooted", "rebooting", id="reboots-early"),
        pytest.param("up", "runs", "up", id="seen-again"),
        pytest.param("up", "paused", "paused", id="pause"),
        pytest.param("up", "faulted", "paused", id="disk-error"),
        pytest.param("up", "stop_asked", "powering_down", id="stop"),
        pytest.param("up", "rebooted", "rebooting", id="reboot"),
        pytest.param("up", "silent", "not_responding", id="qemu-hangs"),
        pytest.param("up", "ended", "down", id="ended"),
        pytest.param("up", "start_asked", "up", id="started-twice"),
        pytest.param("paused", "runs", "powering_up", id="resume"),
        pytest.param("paused", "silent", "not_responding", id="paused-one-hangs"),
        pytest.param("rebooting", "guest_answered", "up", id="is-back"),
        pytest.param("powering_down", "runs", "powering_down", id="still-going-down"),
        pytest.param("powering_down", "rebooted", "powering_down", id="reboot-instead"),
        pytest.param("powering_down", "stop_given_up", "powering_up", id="gives-up"),
        pytest.param("not_responding", "runs", "not_responding", id="libvirt-guesses"),
        pytest.param("not_responding", "answers", "powering_up", id="qemu-is-back"),
        pytest.param("not_responding", "paused", "not_responding", id="old-news"),
        pytest.param("not_responding", "answers_paused", "paused", id="is-paused"),
        pytest.param("not_responding", "stop_asked", "powering_down", id="stop-stuck"),
    ],
)
def test_advance_follows_the_table(before: str, seen: str, after: str) -> None:
    run = replace(DOWN, state=VmState(before))
    assert states.advance(run, Seen(seen), _LATER).state is VmState(after)


@given(st.sampled_from(VmState), st.sampled_from(Seen))
def test_advance_dates_a_change_and_nothing_else(state: VmState, seen: Seen) -> None:
    run = replace(_UP, state=state)
    after = states.advance(run, seen, _LATER)
    assert after is run or (after.state is not state and after.since == _LATER)


@given(st.sampled_from(VmState))
def test_advance_ends_every_state(state: VmState) -> None:
    after = states.advance(replace(_UP, state=state), Seen.ENDED, _LATER)
    assert after.state in (VmState.DOWN, VmState.UNKNOWN)


def test_advance_forgets_the_run_when_it_ended() -> None:
    after = states.advance(_UP, Seen.ENDED, _LATER)
    assert (after.started_at, after.vnc_port, after.guest) == (None, None, None)


def test_advance_forgets_the_guest_when_it_rebooted() -> None:
    assert states.advance(_UP, Seen.REBOOTED, _LATER).guest is None


@pytest.mark.parametrize(
    ("run", "age_s", "seen"),
    [
        pytest.param(_UP, 100, None, id="is-up"),
        pytest.param(
            replace(_UP, state=VmState.POWERING_UP),
            0,
            Seen.GUEST_ANSWERED,
            id="answered",
        ),
        pytest.param(
            replace(_UP, state=VmState.POWERING_UP, guest=None), 59, None, id="waits"
        ),
        pytest.param(
            replace(_UP, state=VmState.POWERING_UP, guest=None),
            60,
            Seen.GUEST_WAIT_OVER,
            id="waited",
        ),
        pytest.param(
            replace(_UP, state=VmState.REBOOTING, guest=None, since=_LATER),
            100,
            None,
            id="waits-from-the-reboot",
        ),
    ],
)
def test_settle_waits_for_the_guest(
    run: VmRun, age_s: float, seen: Seen | None
) -> None:
    now = parse_rfc3339(AT) + timedelta(seconds=age_s)
    assert states.settle(run, now, 60) is seen


_ENDED = replace(DOWN, end=VmEnd(EndCause.CRASHED, AT, "signal 11"))


@pytest.mark.parametrize(
    ("wanted", "run", "seen", "code"),
    [
        pytest.param("down", DOWN, "ended", None, id="down-as-wanted"),
        pytest.param("up", DOWN, "ended", "vm_never_started", id="never-started"),
        pytest.param("up", _ENDED, "ended", "vm_crashed", id="crashed"),
        pytest.param("up", _UP, "runs", None, id="up-as-wanted"),
        pytest.param("down", _UP, "runs", "vm_shutdown_ignored", id="will-not-stop"),
        pytest.param("paused", _UP, "runs", "vm_resumed", id="resumed-by-others"),
    ],
)
def test_explain_says_why_the_state_is_not_the_wanted_one(
    wanted: str, run: VmRun, seen: str, code: str | None
) -> None:
    reason = states.explain(Wanted(wanted), run, Seen(seen), {"name": "web"})
    assert (reason and reason.code) == code


@pytest.mark.parametrize(
    ("wanted", "known", "seen", "code"),
    [
        pytest.param("up", None, "paused", "vm_paused", id="by-others"),
        pytest.param("paused", None, "paused", None, id="as-wanted"),
        pytest.param("up", None, "faulted", "vm_paused_by_error", id="disk-error"),
        pytest.param("paused", None, "faulted", "vm_paused_by_error", id="both"),
        pytest.param(
            "up", "vm_paused_by_error", "silent", "vm_paused_by_error", id="still"
        ),
        pytest.param("up", "vm_paused_by_error", "paused", "vm_paused", id="no-more"),
    ],
)
def test_explain_tells_a_pause_from_a_disk_error(
    wanted: str, known: str | None, seen: str, code: str | None
) -> None:
    reason = Reason(known, AT) if known else None
    run = replace(_UP, state=VmState.PAUSED, reason=reason)
    told = states.explain(Wanted(wanted), run, Seen(seen), {})
    assert (told and told.code) == code


def test_explain_keeps_a_reason_that_still_holds() -> None:
    known = Reason("vm_paused_by_error", AT, {"detail": "enospc"})
    run = replace(_UP, state=VmState.PAUSED, reason=known)
    assert states.explain(Wanted.UP, run, Seen.FAULTED, {"name": "web"}) is known


@given(
    st.sampled_from(Wanted),
    st.sampled_from(sorted(set(VmState) - {VmState.UNKNOWN})),
    st.sampled_from(Seen),
    st.sampled_from(EndCause),
)
def test_explain_knows_only_codes_that_have_a_text(
    wanted: Wanted, state: VmState, seen: Seen, cause: EndCause
) -> None:
    run = replace(_UP, state=state, end=VmEnd(cause, AT))
    reason = states.explain(wanted, run, seen, {})
    code = states.event_code(VmState.UNKNOWN, run, seen)
    assert reason is None or reason.code in messages.MESSAGES
    assert code is None or code in messages.MESSAGES


@pytest.mark.parametrize(
    ("before", "after", "seen", "code"),
    [
        pytest.param("up", "up", "runs", None, id="nothing-changed"),
        pytest.param("starting", "powering_up", "runs", "vm_started", id="started"),
        pytest.param("starting", "paused", "paused", "vm_started", id="start-paused"),
        pytest.param("paused", "powering_up", "runs", "vm_resumed", id="resumed"),
        pytest.param("up", "paused", "paused", "vm_paused", id="paused"),
        pytest.param("powering_up", "up", "guest_answered", None, id="is-up"),
        pytest.param("up", "down", "ended", "vm_crashed", id="ended"),
    ],
)
def test_event_code_names_what_changed(
    before: str, after: str, seen: str, code: str | None
) -> None:
    run = replace(_ENDED, state=VmState(after))
    assert states.event_code(VmState(before), run, Seen(seen)) == code


def test_start_forgets_the_lease_of_the_run_before() -> None:
    before = replace(DOWN, lease_version=7)
    assert states.advance(before, Seen.START_ASKED, AT).lease_version is None
