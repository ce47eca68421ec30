"""Measure what TLS costs: the same fleet past nginx, through it, and as nodes do.

Nodes push through nginx with certificates of the fleet; nginx's own processes are
read beside the aggregator.
"""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from node.http import front
from tests.scale import certificates, daemon, figures, processes, subject
from tests.scale.aggregator_bench import Effort, Size
from tests.scale.daemon import Daemon
from tests.scale.figures import Figure, Section
from tests.scale.fleet_source import FleetSource
from tests.scale.generator import Task
from tests.scale.subject import Subject

log = logging.getLogger(__name__)

SIZE: Final = Size(100, 1_000)
_OPEN_S: Final = 10.0


def measure(folder: Path, effort: Effort) -> Section:
    """Return the figures of each way to push, one after the other."""
    with subject.running(folder, SIZE.nodes) as running:
        pki = running.state / "pki"
        certificates.write(pki, range(SIZE.nodes), folder / "nodes")
        with _nginx(folder) as nginx:
            direct = running.task(SIZE.nodes, SIZE.vms_per_node)
            through = replace(
                direct,
                socket="",
                address=certificates.ADDRESS,
                port=running.ports.feed,
                ca_file=str(pki / "ca.pem"),
                certificates=str(folder / "nodes"),
            )
            ways = {
                "past nginx": direct,
                "TLS, connection kept": through,
                "TLS, one for each push": replace(through, is_kept_open=False),
            }
            found: list[Figure] = []
            for name, task in ways.items():
                found += _way(name, task, running, nginx, effort, folder)
    return Section(
        f"TLS: {SIZE.nodes} nodes, {SIZE.vms:,} VMs through nginx", tuple(found)
    )


def _way(
    name: str,
    task: Task,
    running: Subject,
    nginx: Daemon,
    effort: Effort,
    folder: Path,
) -> Iterator[Figure]:
    with FleetSource(task, folder / "generator.log") as source:
        source.wait_known()
        begin = time.monotonic()
        before, nginx_before = running.daemon.usage(), _family_cpu_s(nginx.pid)
        time.sleep(effort.window_s)
        after, nginx_after = running.daemon.usage(), _family_cpu_s(nginx.pid)
        ticks = source.ticks(begin)
    pushes = sum(tick.pushes for tick in ticks)
    failed = sum(tick.failed for tick in ticks)
    yield from figures.latency(
        f"{name}: a push",
        [each for tick in ticks for each in tick.push_s],
        note=f"{failed} failed",
    )
    yield Figure(
        f"{name}: the aggregator's CPU",
        1000 * (after.cpu_s - before.cpu_s) / pushes,
        "ms a push",
        note=f"{processes.cpu_percent(before, after):.1f} % of a core",
    )
    yield Figure(
        f"{name}: nginx's CPU",
        1000 * (nginx_after - nginx_before) / pushes,
        "ms a push",
    )
    log.info("%s: %d pushes", name, pushes)


def _nginx(folder: Path) -> Daemon:
    """Run nginx as the service does, on what the aggregator wrote for it."""
    argv = front.Front(folder / "run", str).argv()
    nginx = Daemon(argv, folder / "nginx.log")
    daemon.wait(
        "nginx",
        lambda: (folder / "run" / "nginx.pid").exists(),
        timeout_s=_OPEN_S,
    )
    return nginx


def _family_cpu_s(pid: int) -> float:
    """Return what a process and its children used."""
    found = processes.usage(pid).cpu_s
    for name in os.listdir("/proc"):
        if name.isdecimal() and processes.parent(int(name)) == pid:
            found += processes.usage(int(name)).cpu_s
    return found
