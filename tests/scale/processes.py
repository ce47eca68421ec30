"""Read what a process costs from /proc: proc(5). Sizes are bytes.

Not psutil: the bench reads the same numbers for a pid in any pid namespace.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from node.units import KiB

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    at: float  # monotonic
    cpu_s: float  # user and system, all threads, since it started
    rss_bytes: int
    pss_bytes: int  # shared pages are split among those who share them
    highest_rss_bytes: int
    threads: int


def usage(pid: int) -> Usage:
    """Return what a process used so far; FileNotFoundError if it is gone."""
    folder = Path("/proc") / str(pid)
    status = parse_sizes((folder / "status").read_text())
    rollup = parse_sizes((folder / "smaps_rollup").read_text())
    return Usage(
        time.monotonic(),
        parse_ticks((folder / "stat").read_text()) / _TICKS_PER_S,
        status["VmRSS"],
        rollup["Pss"],
        status["VmHWM"],
        parse_threads((folder / "status").read_text()),
    )


def cpu_percent(before: Usage, after: Usage) -> float:
    """Return the share of one core that was used in between."""
    return 100 * (after.cpu_s - before.cpu_s) / (after.at - before.at)


def machine_cpu_s() -> float:
    """Return what all processes of the machine used so far, in seconds."""
    return parse_busy_ticks(Path("/proc/stat").read_text()) / _TICKS_PER_S


def parse_busy_ticks(stat: str) -> int:
    """Return all ticks of the machine's first line but idle, iowait and guest."""
    name, user, nice, system, _idle, _iowait, irq, softirq, steal = stat.split()[:9]
    assert name == "cpu", "the first line is of all processors"
    return sum(map(int, (user, nice, system, irq, softirq, steal)))


def parse_ticks(stat: str) -> int:
    """Return utime plus stime, fields 14 and 15; a name may hold spaces and )."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def parse_sizes(text: str) -> dict[str, int]:
    """Return the sizes of `Name:  123 kB` lines."""
    sizes = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            sizes[name] = int(words[0]) * KiB
    return sizes


def parse_threads(status: str) -> int:
    for line in status.splitlines():
        if line.startswith("Threads:"):
            return int(line.partition(":")[2])
    raise ValueError("no line of threads in a process's status")


def parent(pid: int) -> int:
    """Return the pid of a process's parent; 0 if it is gone."""
    try:
        stat = (Path("/proc") / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[1])
