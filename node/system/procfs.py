"""Read the kernel's figures of this machine: the door to psutil and /proc.

Counters only grow; `node.host.stats` makes rates of them. Sizes are bytes.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from node.system import files


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Seconds of all threads together since the machine's start."""

    busy_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Memory:
    total_bytes: int
    available_bytes: int  # what can be had without swapping
    swap_used_bytes: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counters of a network card since it appeared."""

    rx_bytes: int
    tx_bytes: int


@dataclass(frozen=True, slots=True)
class FileSystem:
    size_bytes: int
    free_bytes: int  # for processes that are not root


class Procfs(Protocol):
    def cpu_times(self) -> CpuTimes: ...

    def load_5min(self) -> float: ...

    def memory(self) -> Memory: ...

    def traffic(self) -> Mapping[str, Traffic]:
        """Return the counters of each network card by its name."""

    def file_system(self, path: Path) -> FileSystem:
        """Return the size of what holds a path, or its nearest parent."""

    def booted_at_s(self) -> float:
        """Return when this host started, in seconds of the Unix epoch."""

    def kernel(self) -> str:
        """Return the kernel's release."""

    def host_name(self) -> str: ...

    def text(self, path: str) -> str:
        """Return a file of /proc, /sys or /etc, stripped; empty if unreadable."""

    def paths(self, folder: str, pattern: str) -> tuple[str, ...]:
        """Return the files of a folder that match a pattern, sorted."""


class KernelProcfs:
    """The machine we run on."""

    def cpu_times(self) -> CpuTimes:
        times = psutil.cpu_times()
        # Linux counts guest time as user time too.
        total_s = sum(times) - times.guest - times.guest_nice
        return CpuTimes(total_s - times.idle - times.iowait, total_s)

    def load_5min(self) -> float:
        return os.getloadavg()[1]

    def memory(self) -> Memory:
        memory = psutil.virtual_memory()
        return Memory(memory.total, memory.available, psutil.swap_memory().used)

    def traffic(self) -> Mapping[str, Traffic]:
        counters = psutil.net_io_counters(pernic=True, nowrap=False)
        return {
            name: Traffic(each.bytes_recv, each.bytes_sent)
            for name, each in counters.items()
        }

    def file_system(self, path: Path) -> FileSystem:
        while not path.exists():
            path = path.parent
        usage = os.statvfs(path)
        return FileSystem(
            usage.f_blocks * usage.f_frsize, usage.f_bavail * usage.f_frsize
        )

    def booted_at_s(self) -> float:
        # A host that is a container boots with its first process, not with the kernel.
        return psutil.Process(1).create_time()

    def kernel(self) -> str:
        return os.uname().release

    def host_name(self) -> str:
        return os.uname().nodename

    def text(self, path: str) -> str:
        return files.read_text(Path(path))

    def paths(self, folder: str, pattern: str) -> tuple[str, ...]:
        return tuple(sorted(os.fspath(path) for path in Path(folder).glob(pattern)))
