"""Name processes so that a recycled pid is never taken for an old one, and end them.

A pid together with its start time and the machine's boot id is unique. Signals go
through a pidfd that is opened first and checked second, so there is no gap.
"""

import json
import os
import select
import signal
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of the machine, for ever."""

    pid: int
    start_time: int  # clock ticks since the machine booted
    boot_id: str


def identify(pid: int) -> Identity | None:
    """Return who bears this pid now; None: nobody, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold blanks and brackets; the fields follow its last bracket.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return Identity(pid, int(fields[19]), _boot_id())


def is_alive(identity: Identity) -> bool:
    """Tell whether this very process still runs."""
    return identify(identity.pid) == identity


def read_record(path: Path) -> Identity | None:
    """Return the process a record names, if it still runs."""
    try:
        identity = Identity(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    return identity if is_alive(identity) else None


def dump(identity: Identity) -> str:
    """Return the record's text."""
    return json.dumps(asdict(identity))


def send(identity: Identity, signal_number: signal.Signals) -> bool:
    """Send a signal to this very process; tell whether it was still there."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(identity):
            return False
        signal.pidfd_send_signal(descriptor, signal_number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def wait_gone(identity: Identity, timeout_s: float) -> bool:
    """Wait until this process has ended; tell whether it did in time."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return True
    try:
        if not is_alive(identity):
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(descriptor)


def inner_pid(pid: int) -> int | None:
    """Return the pid a process has in its own namespace; None: it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    line = next(text for text in status.splitlines() if text.startswith("NSpid:"))
    return int(line.split()[-1])


def is_stopped(pid: int) -> bool:
    """Tell whether a process was halted by SIGSTOP."""
    return _state(pid) == "T"


def is_uninterruptible(pid: int) -> bool:
    """Tell whether a process waits for a device, so that no signal reaches it."""
    return _state(pid) == "D"


def _state(pid: int) -> str:
    """Return a process' state as in proc(5); empty: it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
