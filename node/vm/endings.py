"""Explain how a run of a VM ended, from what QEMU and libvirt left behind.

Pure. libvirt writes into QEMU's log /var/log/libvirt/qemu/<name>.log:

    2026-11-22 08:00:00.123+0000: starting up libvirt version: 11.3.0, …
    … QEMU's command line and what it said …
    2026-11-22 08:05:00.123+0000: shutting down, reason=shutdown

When the storage is away for too long, sanlock sends QEMU SIGTERM, which QEMU writes
down, and then SIGKILL: that is told as the loss of the lease, and is no crash.

Source: qemuDomainLogAppendMessage in libvirt's src/qemu/qemu_process.c.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from node.clock import parse_rfc3339, rfc3339
from node.model.vm import EndCause, VmEnd, Wanted

_START = re.compile(r"^\S+ \S+: starting up\b", re.MULTILINE)
_END = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+)\+0000: shutting down, reason=(.+)$",
    re.MULTILINE,
)
_SIGNAL = re.compile(r"terminating on signal \d+ from pid \d+ \((?!\S*libvirtd)")
_SANLOCK = re.compile(r"terminating on signal \d+ from pid \d+ \(\S*sanlock\b")
_COMPLAINT = re.compile(r"qemu-system-\S+: (.*)")
# libvirt stamps its line and we our start by one clock, but not at one moment.
_TOLERANCE = timedelta(seconds=5)
_DETAIL_MAX = 300


@dataclass(frozen=True, slots=True)
class Trace:
    """What a log says of the newest run in it."""

    reason: str = ""  # libvirt's word; empty: no end is written
    at: str | None = None
    last_words: str = ""  # QEMU's last complaint


def read_log(tail: str, started_at: str | None) -> Trace:
    """Return the trace in the end of a log; an older run's is not believed."""
    starts = list(_START.finditer(tail))
    newest = tail[starts[-1].start() :] if starts else tail
    ends = list(_END.finditer(newest))
    complaints = _COMPLAINT.findall(newest)
    last_words = complaints[-1][:_DETAIL_MAX] if complaints else ""
    if not ends:
        return Trace(last_words=last_words)
    moment = datetime.fromisoformat(ends[-1].group(1)).replace(tzinfo=UTC)
    if started_at and moment < parse_rfc3339(started_at) - _TOLERANCE:
        return Trace()
    return Trace(ends[-1].group(2).strip(), rfc3339(moment), last_words)


def explain(
    trace: Trace, told: str, wanted: Wanted, now: str, *, has_lost_lease: bool = False
) -> VmEnd:
    """Return the end of a run.

    `told` is the detail of libvirt's event, empty if there was none; what was
    wanted tells a shutdown that we asked for from the guest's own. `has_lost_lease`:
    the leases where the VM's lies are lost, which SIGKILL leaves no word of.
    """
    reason = trace.reason or told
    at = trace.at or now
    if _SANLOCK.search(trace.last_words):
        return VmEnd(EndCause.LEASE_LOST, at, trace.last_words)
    if reason == "saved":
        return VmEnd(EndCause.SUSPENDED, at, "libvirt: saved")
    if reason == "destroyed":
        return VmEnd(EndCause.KILLED, at, "libvirt: destroyed")
    if reason and _SIGNAL.search(trace.last_words):
        return VmEnd(EndCause.KILLED, at, trace.last_words)
    if reason == "shutdown":
        if wanted is Wanted.DOWN:
            return VmEnd(EndCause.ADMINISTRATOR, at, "libvirt: shutdown")
        return VmEnd(EndCause.GUEST, at, "libvirt: shutdown")
    if reason in ("crashed", "failed", "") and has_lost_lease:
        return VmEnd(EndCause.LEASE_LOST, at, "QEMU was killed with its lease")
    if reason in ("crashed", "failed"):
        detail = trace.last_words or "QEMU vanished without a word"
        return VmEnd(EndCause.CRASHED, at, detail)
    return VmEnd(EndCause.UNKNOWN, at, reason or "no trace of its end")
