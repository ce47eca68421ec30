"""Read what the kernel says of each QEMU, or kill one: nobody is asked, nothing hangs.

libvirtd leaves <run>/<domain>.pid for each QEMU it started; the process's own
arguments say which VM it is. Source: proc(5), virPidFileBuildPath of libvirt.
"""

import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from node.model.ids import VmId
from node.system import files
from node.system.hypervisor import QemuProcess

RUN: Final = Path("/run/libvirt/qemu")
PROC: Final = Path("/proc")
_UUID: Final = "-uuid"


def read(run: Path = RUN, proc: Path = PROC) -> Mapping[VmId, QemuProcess]:
    """Return the main thread of each QEMU; one that has just ended is not among."""
    found = {}
    for path in run.glob("*.pid"):
        pid = files.read_text(path)
        if not pid.isdigit():
            continue
        argv = files.read_text(proc / pid / "cmdline").split("\0")
        process = parse_status(int(pid), files.read_text(proc / pid / "status"))
        if process is not None and _UUID in argv[:-1]:
            found[VmId(argv[argv.index(_UUID) + 1])] = process
    return found


def kill(vm_id: VmId, run: Path = RUN, proc: Path = PROC) -> bool:
    """Send SIGKILL to a VM's QEMU; tell whether there was one."""
    process = read(run, proc).get(vm_id)
    if process is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process.pid)
        try:
            # The number may be somebody else's by now.
            now = read(run, proc).get(vm_id)
            if now is not None and now.pid == process.pid:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
    return True


def parse_status(pid: int, text: str) -> QemuProcess | None:
    """Return what /proc/<pid>/status says; None if it is no such text."""
    facts = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    try:
        switches = sum(
            int(facts[name])
            for name in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
        )
        return QemuProcess(pid, facts["State"][:1], switches)
    except (KeyError, ValueError):
        return None
