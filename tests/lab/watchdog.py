"""Cut a host's power when its watchdog would: the lab's stand-in for wdmd's device.

A process of the lab, outside of every host, started by `up` (watchdog_process.py).
The real sanlock of each host speaks to it as to wdmd, by a link from
/run/wdmd/wdmd.sock. It lives in the switch's network, where the cables end.

    <lab>/watchdog/h1.sock       wdmd's socket of h1
                  /pid.json      who this process is
                  /firings.json  a line for each power cut
                  /log           what it does
"""

import json
from dataclasses import dataclass

from tests.lab import (
    cgroups,
    command,
    errors,
    layout,
    network,
    polling,
    processes,
)

_MEMBER = "watchdog"  # its cgroup
_READY_TIMEOUT_S = 20.0
RECORD, FIRINGS, _LOG = "pid.json", "firings.json", "log"


@dataclass(frozen=True, slots=True)
class Firing:
    """One power cut; `_s` is in sanlock's seconds, `_ns` the machine's monotonic."""

    host: str
    client: str  # sanlock_<lockspace>:<host id>
    fired_ns: int
    after_renewal_s: float  # since the last renewal of the host's lease
    after_expiry_s: float  # since the lease expired: between 50 and 60
    late_s: float  # behind the instant at which the device fires


def ensure(lab: layout.Layout) -> None:
    """Start the stand-in unless it runs, and wait until it listens."""
    directory = lab.watchdog
    if processes.read_record(directory / RECORD) is not None:
        return
    directory.mkdir(exist_ok=True)
    (directory / RECORD).unlink(missing_ok=True)
    cgroups.destroy(lab.prefix, _MEMBER)  # who has started one may have been killed
    cgroups.create(lab.prefix, _MEMBER)
    argv = [
        *cgroups.joining_again(lab.prefix, _MEMBER),
        *network.entering(lab, layout.SWITCH),
        *("/usr/bin/env", "--chdir", str(layout.CHECKOUT)),
        *("/usr/bin/python3", "-m", "tests.lab.watchdog_process", str(lab.directory)),
    ]
    with (directory / _LOG).open("ab") as output:
        command.detach(argv, output=output.fileno(), keep=[])
    if not polling.until((directory / RECORD).exists, _READY_TIMEOUT_S):
        raise errors.TimedOut(
            "watchdog",
            f"it does not listen after {_READY_TIMEOUT_S:.0f} s",
            remedy="read the log; then: python -m tests.lab up",
            log=directory / _LOG,
        )


def firings(lab: layout.Layout) -> list[Firing]:
    """Return every power cut so far, the oldest first."""
    path = lab.watchdog / FIRINGS
    lines = path.read_text().splitlines() if path.exists() else []
    return [Firing(**json.loads(line)) for line in lines]
