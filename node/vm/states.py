"""Decide what state a VM is in after something was seen of it, and why.

Pure. One table; what it does not name changes nothing.

    state           seen → next state
    down            start_asked → starting; runs, paused, faulted: adopted
    starting        runs → powering_up; paused, faulted → paused; ended → down
    powering_up     guest_answered, guest_wait_over → up
    up, and all     paused, faulted → paused; stop_asked → powering_down
     that run       rebooted → rebooting; silent → not_responding; ended → down
    paused          runs → powering_up; stop_asked → powering_down; ended → down;
                    silent → not_responding
    rebooting       guest_answered, guest_wait_over → up
    powering_down   stop_given_up → powering_up; paused, faulted → paused
    not_responding  answers → powering_up; answers_paused → paused; stop_asked →
                    powering_down; ended → down. What libvirt says of a QEMU that
                    hangs is what it knew before.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from node.model.reason import Reason, Scalar
from node.model.vm import EndCause, VmRun, VmState, Wanted


class Seen(StrEnum):
    START_ASKED = "start_asked"
    RUNS = "runs"  # QEMU executes the guest
    GUEST_ANSWERED = "guest_answered"
    GUEST_WAIT_OVER = "guest_wait_over"  # it has no agent, or a slow one
    PAUSED = "paused"
    FAULTED = "faulted"  # paused since a disk gave an error
    REBOOTED = "rebooted"
    STOP_ASKED = "stop_asked"
    STOP_GIVEN_UP = "stop_given_up"
    SILENT = "silent"  # QEMU's monitor
    ANSWERS = "answers"  # QEMU's monitor, after it was silent
    ANSWERS_PAUSED = "answers_paused"  # the same, and its guest is paused
    LEASED = "leased"  # which version its lease has: no news of its state
    ENDED = "ended"
    MEMORY_LOST = "memory_lost"  # of a guest that ended for it to be kept


_STOPS = {
    Seen.PAUSED: VmState.PAUSED,
    Seen.FAULTED: VmState.PAUSED,
    Seen.ENDED: VmState.DOWN,
}
_RUNS = {
    **_STOPS,
    Seen.STOP_ASKED: VmState.POWERING_DOWN,
    Seen.REBOOTED: VmState.REBOOTING,
    Seen.SILENT: VmState.NOT_RESPONDING,
}
_STARTS = {
    **_RUNS,
    Seen.GUEST_ANSWERED: VmState.UP,
    Seen.GUEST_WAIT_OVER: VmState.UP,
}
_TABLE: Mapping[VmState, Mapping[Seen, VmState]] = {
    VmState.DOWN: {
        Seen.START_ASKED: VmState.STARTING,
        Seen.RUNS: VmState.POWERING_UP,
        Seen.PAUSED: VmState.PAUSED,
        Seen.FAULTED: VmState.PAUSED,
    },
    VmState.STARTING: {**_STOPS, Seen.RUNS: VmState.POWERING_UP},
    VmState.POWERING_UP: _STARTS,
    VmState.UP: _RUNS,
    VmState.PAUSED: {
        Seen.RUNS: VmState.POWERING_UP,
        Seen.STOP_ASKED: VmState.POWERING_DOWN,
        Seen.SILENT: VmState.NOT_RESPONDING,
        Seen.ENDED: VmState.DOWN,
    },
    VmState.REBOOTING: _STARTS,
    VmState.POWERING_DOWN: {**_STOPS, Seen.STOP_GIVEN_UP: VmState.POWERING_UP},
    VmState.NOT_RESPONDING: {
        Seen.ANSWERS: VmState.POWERING_UP,
        Seen.ANSWERS_PAUSED: VmState.PAUSED,
        Seen.ENDED: VmState.DOWN,
        Seen.STOP_ASKED: VmState.POWERING_DOWN,
    },
    VmState.UNKNOWN: {},
}

_END_CODES = {
    EndCause.GUEST: "vm_ended_by_guest",
    EndCause.ADMINISTRATOR: "vm_stopped",
    EndCause.CRASHED: "vm_crashed",
    EndCause.KILLED: "vm_killed",
    EndCause.HOST_LOST: "vm_lost_with_host",
    EndCause.START_FAILED: "vm_start_failed",
    EndCause.SUSPENDED: "vm_suspended",
    EndCause.LEASE_LOST: "vm_lease_lost",
    EndCause.LEASE_MOVED: "vm_lease_moved",
    EndCause.UNKNOWN: "vm_end_unknown",
}
_TRANSIENT_CODES = {
    VmState.STARTING: "vm_is_starting",
    VmState.POWERING_UP: "vm_waits_for_guest",
    VmState.REBOOTING: "vm_rebooted",
    VmState.POWERING_DOWN: "vm_is_stopping",
    VmState.NOT_RESPONDING: "vm_not_responding",
}
_EVENTS = {
    Seen.START_ASKED: "vm_start_asked",
    Seen.FAULTED: "vm_paused_by_error",
    Seen.REBOOTED: "vm_rebooted",
    Seen.STOP_ASKED: "vm_stop_asked",
    Seen.STOP_GIVEN_UP: "vm_shutdown_ignored",
    Seen.SILENT: "vm_not_responding",
    Seen.ANSWERS: "vm_responding",
    Seen.ANSWERS_PAUSED: "vm_responding",
}
_NOT_STARTED = frozenset({VmState.DOWN, VmState.STARTING})


def is_active(state: VmState) -> bool:
    """Tell whether there is a QEMU, or is about to be one."""
    return state is not VmState.DOWN


def advance(run: VmRun, seen: Seen, at: str) -> VmRun:
    """Return the run after something was seen; the same one if nothing changed."""
    state = _TABLE[run.state].get(seen, run.state)
    if state is run.state:
        return run
    if state is VmState.DOWN:
        return replace(
            run, state=state, since=at, started_at=None, vnc_port=None, guest=None
        )
    if state is VmState.STARTING:
        # Its lease gets another version with each run; an old one would end this run.
        return replace(run, state=state, since=at, lease_version=None)
    if state is VmState.REBOOTING:
        return replace(run, state=state, since=at, guest=None)
    return replace(run, state=state, since=at)


def settle(run: VmRun, now: datetime, guest_wait_s: float) -> Seen | None:
    """Return what time or the guest's word makes of a VM that powers up."""
    began = {
        VmState.POWERING_UP: run.started_at or run.since,
        VmState.REBOOTING: run.since,
    }.get(run.state)
    if began is None:
        return None
    if run.guest is not None:
        return Seen.GUEST_ANSWERED
    if now - datetime.fromisoformat(began) >= timedelta(seconds=guest_wait_s):
        return Seen.GUEST_WAIT_OVER
    return None


def explain(
    wanted: Wanted,
    run: VmRun,
    seen: Seen,
    fields: Mapping[str, Scalar],
) -> Reason | None:
    """Return why the state is not the wanted one; None if it is.

    `fields` fill the reason's text. A reason that still holds stays as it was.
    """
    code = _reason_code(wanted, run, seen)
    if code is None:
        return None
    old = run.reason
    detail = fields.get("detail")
    still_holds = old is not None and (old.code, old.since) == (code, run.since)
    if old is not None and still_holds and detail in (None, old.fields.get("detail")):
        return old
    if run.state is VmState.DOWN and run.end is not None:
        fields = {**fields, "detail": run.end.detail}
    return Reason(code, run.since, dict(fields))


def _reason_code(wanted: Wanted, run: VmRun, seen: Seen) -> str | None:
    if run.state in _TRANSIENT_CODES:
        return _TRANSIENT_CODES[run.state]
    if run.state is VmState.DOWN:
        if wanted is Wanted.DOWN:
            return None
        return "vm_never_started" if run.end is None else _END_CODES[run.end.cause]
    if run.state is VmState.PAUSED:
        was_faulted = run.reason is not None and run.reason.code == "vm_paused_by_error"
        if seen is Seen.FAULTED or (was_faulted and seen is not Seen.PAUSED):
            return "vm_paused_by_error"
        return None if wanted is Wanted.PAUSED else "vm_paused"
    if wanted is Wanted.UP:
        return None
    return "vm_shutdown_ignored" if wanted is Wanted.DOWN else "vm_resumed"


def event_code(before: VmState, after: VmRun, seen: Seen) -> str | None:
    """Return the code of the event that a change of state is, if it is one."""
    if after.state is before:
        return None
    if seen is Seen.ENDED:
        return None if after.end is None else _END_CODES[after.end.cause]
    if seen in (Seen.RUNS, Seen.PAUSED) and before in _NOT_STARTED:
        return "vm_started"
    if seen is Seen.RUNS:
        return "vm_resumed"
    if seen is Seen.PAUSED:
        return "vm_paused"
    return _EVENTS.get(seen)
