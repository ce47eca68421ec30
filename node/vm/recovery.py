"""Decide what became of VMs while nobody looked. Pure.

    what the store says   what the hypervisor has   what it means
    any                   a domain of ours          it runs: adopt it as it is
    starting              nothing, a start waits    the job goes on
    starting              nothing                   the start failed
    active                nothing                   it ended: ask QEMU's log
    down                  nothing                   nothing happened
    nothing               any domain                foreign: shown, never touched;
                                                    of a pool: its definition is there

After a reboot of the host no domain can have survived: all that were active
were lost with it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from node.model.ids import VmId
from node.model.vm import EndCause, ForeignVm, VmEnd, VmState
from node.system.hypervisor import Activity, Domain
from node.vm import domxml, states
from node.vm.register import Sight
from node.vm.states import Seen


class Verdict(Enum):
    ADOPT = "adopt"
    LEAVE = "leave"
    START_FAILED = "start_failed"
    ENDED = "ended"


_SEEN = {
    Activity.RUNNING: Seen.RUNS,
    Activity.PAUSED: Seen.PAUSED,
    Activity.FAULTED: Seen.FAULTED,
}
_STATES = {
    Activity.STARTING: VmState.STARTING,
    Activity.RUNNING: VmState.UP,
    Activity.PAUSED: VmState.PAUSED,
    Activity.FAULTED: VmState.PAUSED,
    Activity.OFF: VmState.DOWN,
}


@dataclass(frozen=True, slots=True)
class Survey:
    """All domains of the hypervisor, told apart."""

    ours: tuple[Domain, ...]
    foreign: tuple[ForeignVm, ...]
    lost: tuple[Domain, ...]  # marked as ours, but not defined here: foreign, too
    unruly: tuple[Domain, ...]  # with what we do not use: autostart, managed save


def survey(domains: Iterable[Domain], defined: Collection[VmId]) -> Survey:
    """Tell our domains from those of others."""
    ours, foreign, lost, unruly = [], [], [], []
    for domain in domains:
        is_marked = domxml.read(domain.xml).mark is not None
        if is_marked and domain.vm_id in defined:
            ours.append(domain)
        else:
            state = _STATES[domain.activity]
            foreign.append(ForeignVm(domain.vm_id, domain.name, state))
            if is_marked:
                lost.append(domain)
        if domain.has_autostart or domain.has_managed_save:
            unruly.append(domain)
    return Survey(tuple(ours), tuple(foreign), tuple(lost), tuple(unruly))


def strays(found: Survey) -> frozenset[VmId]:
    """Return the VMs whose definitions lie on a pool, and were forgotten here."""
    marks = {each.vm_id: domxml.read(each.xml).mark for each in found.lost}
    return frozenset(vm_id for vm_id, mark in marks.items() if mark and mark.pool_id)


def judge(state: VmState, *, has_domain: bool, is_start_pending: bool) -> Verdict:
    """Return what it means that a VM has a domain, or none."""
    if has_domain:
        return Verdict.ADOPT
    if not states.is_active(state):
        return Verdict.LEAVE
    if state is VmState.STARTING:
        return Verdict.LEAVE if is_start_pending else Verdict.START_FAILED
    return Verdict.ENDED


def sight_of(domain: Domain, now: str) -> Sight | None:
    """Return what a domain shows; None while it comes up or goes down."""
    seen = _SEEN.get(domain.activity)
    if seen is None:
        return None
    running = domxml.read(domain.xml)
    return Sight(
        seen,
        started_at=now,
        generation=running.mark.generation if running.mark else None,
        is_emulated=running.is_emulated,
        vnc_port=running.vnc_port,
    )


def lost_with_host(booted_at: str) -> VmEnd:
    """Return the end of all that ran when the host went down."""
    return VmEnd(EndCause.HOST_LOST, booted_at, "the host booted anew")


def start_cut_short(now: str) -> VmEnd:
    """Return the end of a start that nobody will finish."""
    return VmEnd(EndCause.START_FAILED, now, "the agent stopped during the start")
