"""Measure an aggregator with a fleet of one size."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.units import GiB, MiB
from tests.scale import daemon, figures, fleet_source, people, processes, subject
from tests.scale.figures import Figure, Section
from tests.scale.fleet_source import FleetSource
from tests.scale.probe import Probe
from tests.scale.subject import Subject

log = logging.getLogger(__name__)

VIEW_LIMIT_MS: Final = 800.0  # a second, less what a node coalesces
MEMORY_LIMIT_MIB: Final = GiB / MiB
_REBUILD_LIMIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Size:
    nodes: int
    vms: int

    @property
    def vms_per_node(self) -> int:
        return self.vms // self.nodes


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to look, and how often to ask."""

    window_s: float = 30.0  # two rounds of figures
    questions: int = 200
    changes: int = 200
    starts: int = 15


def measure(size: Size, folder: Path, effort: Effort) -> Section:
    """Return the figures of a fleet of this size."""
    with subject.running(folder, size.nodes) as running:
        empty = running.daemon.usage()
        begin = time.monotonic()
        # the last node of the fleet is the probe's
        task = running.task(size.nodes - 1, size.vms_per_node)
        with FleetSource(task, folder / "generator.log") as source:
            source.wait_known()
            fill_s = time.monotonic() - begin
            log.info("%d nodes were taken in %.1f s", size.nodes, fill_s)
            found = [Figure("all nodes taken by an empty aggregator", fill_s, "s")]
            found += _views(size, running, effort)
            _check_view(size, running)
            found += _at_rest(running, source, effort, empty)
            found += _asked(size, running, effort)
            found += _restarted(size, running, source)
    title = f"Aggregator: {size.nodes:,} nodes, {size.vms:,} VMs"
    return Section(title, tuple(found))


def _views(size: Size, running: Subject, effort: Effort) -> tuple[Figure, ...]:
    probe = Probe(running.ingest_socket, size.nodes - 1, size.vms_per_node)
    times = probe.measure(running.people_socket, running.token, effort.changes)
    return figures.latency("change pushed → seen at /v1", times, VIEW_LIMIT_MS)


def _check_view(size: Size, running: Subject) -> None:
    """Hold what is measured to what was pushed."""
    status = running.status()
    assert (status.nodes, status.vms) == (size.nodes, size.vms), status


def _at_rest(
    running: Subject, source: FleetSource, effort: Effort, empty: processes.Usage
) -> tuple[Figure, ...]:
    """Let the fleet push, with nobody looking."""
    begin = time.monotonic()
    machine = processes.machine_cpu_s()
    before, source_before = running.daemon.usage(), source.usage()
    time.sleep(effort.window_s)
    after, source_after = running.daemon.usage(), source.usage()
    all_s = processes.machine_cpu_s() - machine
    ours_s = after.cpu_s - before.cpu_s + source_after.cpu_s - source_before.cpu_s
    return (
        *fleet_source.push_figures(source.ticks(begin)),
        Figure(
            "aggregator's CPU, nobody looking",
            processes.cpu_percent(before, after),
            "% of a core",
        ),
        Figure(
            "generator's CPU",
            processes.cpu_percent(source_before, source_after),
            "% of a core",
        ),
        Figure(
            "CPU taken by what else runs on the machine",
            100 * (all_s - ours_s) / effort.window_s,
            "% of a core",
        ),
        Figure("aggregator's memory (PSS)", after.pss_bytes / MiB, "MiB"),
        Figure(
            "aggregator's memory, highest (RSS)",
            after.highest_rss_bytes / MiB,
            "MiB",
            MEMORY_LIMIT_MIB,
            f"{empty.rss_bytes / MiB:.0f} MiB with no node",
        ),
        Figure("database on disk", running.database_bytes() / MiB, "MiB"),
    )


def _asked(size: Size, running: Subject, effort: Effort) -> list[Figure]:
    """Ask as a person would while the fleet pushes."""
    found: list[Figure] = []
    before = running.daemon.usage()
    for question in people.QUESTIONS:
        times = people.ask(
            running.people_socket,
            running.token,
            question,
            size.vms,
            effort.questions,
        )
        found += figures.latency(question.name, times, question.limit_ms)
        log.info("%s: %s", question.name, figures.spread(times))
    busy = processes.cpu_percent(before, running.daemon.usage())
    return [*found, Figure("aggregator's CPU while asked", busy, "% of a core")]


def _restarted(size: Size, running: Subject, source: FleetSource) -> tuple[Figure, ...]:
    """Stop it and start it again: what it knew must be there at once."""
    stop_s = running.stop()
    begin = time.monotonic()
    running.start()
    start_s = time.monotonic() - begin
    _check_view(size, running)
    daemon.wait(
        "all nodes heard again",
        lambda: running.status().nodes_up >= size.nodes - 1,
        timeout_s=subject.START_TIMEOUT_S,
    )
    heard_s = time.monotonic() - begin
    resyncs = sum(tick.resyncs for tick in source.ticks(begin))
    after = running.daemon.usage()
    return (
        Figure("restart: stopped", stop_s, "s"),
        Figure("restart: answers with its whole state", start_s, "s"),
        Figure(
            "restart: every node heard again",
            heard_s,
            "s",
            _REBUILD_LIMIT_S,
            f"{resyncs} nodes had to tell everything",
        ),
        Figure(
            "restart: highest memory (RSS)",
            after.highest_rss_bytes / MiB,
            "MiB",
            MEMORY_LIMIT_MIB,
        ),
    )
