"""Measure this machine: rates between two samples of its counters.

The computation is pure; the sampler is a thread that keeps the newest figures.
Rates are bytes per second for traffic and percent of all threads for the CPU.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from node.clock import Clock, rfc3339
from node.errors import Conflict
from node.model.stats import NodeStats, Stats, VmStats
from node.system.procfs import CpuTimes, FileSystem, Memory, Procfs, Traffic

log = logging.getLogger(__name__)

_AFTER_VMS_S = 1.0  # a bulk call to libvirt has ended by then


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters at one moment."""

    at_s: float  # monotonic
    cpu: CpuTimes
    traffic: Mapping[str, Traffic]  # of the cards only


@dataclass(frozen=True, slots=True)
class Levels:
    """What is no counter."""

    load_5min: float
    memory: Memory
    storage: FileSystem


def node_stats(before: Sample | None, after: Sample, levels: Levels) -> NodeStats:
    """Return the figures between two samples; without a first one, no rates."""
    rx_bps, tx_bps = _traffic_bps(before, after) if before else (0, 0)
    memory, storage = levels.memory, levels.storage
    return NodeStats(
        cpu_percent=_busy_percent(before.cpu, after.cpu) if before else 0.0,
        load_5min=round(levels.load_5min, 2),
        memory_used_bytes=memory.total_bytes - memory.available_bytes,
        memory_free_bytes=memory.available_bytes,
        swap_used_bytes=memory.swap_used_bytes,
        net_rx_bps=rx_bps,
        net_tx_bps=tx_bps,
        storage_size_bytes=storage.size_bytes,
        storage_used_bytes=storage.size_bytes - storage.free_bytes,
    )


def _busy_percent(before: CpuTimes, after: CpuTimes) -> float:
    """Return the share of busy time; counters of the kernel may step back a bit."""
    total_s = after.total_s - before.total_s
    if total_s <= 0:
        return 0.0
    share = (after.busy_s - before.busy_s) / total_s
    return round(100 * min(max(share, 0.0), 1.0), 1)


def _traffic_bps(before: Sample, after: Sample) -> tuple[int, int]:
    """Return what the cards received and sent; a card that is new counts from now."""
    elapsed_s = after.at_s - before.at_s
    if elapsed_s <= 0:
        return 0, 0
    both = before.traffic.keys() & after.traffic.keys()
    rx_bytes = sum(
        max(0, after.traffic[name].rx_bytes - before.traffic[name].rx_bytes)
        for name in both
    )
    tx_bytes = sum(
        max(0, after.traffic[name].tx_bytes - before.traffic[name].tx_bytes)
        for name in both
    )
    return round(rx_bytes / elapsed_s), round(tx_bytes / elapsed_s)


class StatsSampler:
    """Keeps the newest figures of the node, together with those of its VMs."""

    def __init__(
        self,
        procfs: Procfs,
        clock: Clock,
        cards: Callable[[], frozenset[str]],
        vms: Callable[[], tuple[VmStats, ...]],
        storage_folder: Path,
        interval_s: float,
        hooked: Callable[[Callable[[], Stats]], Stats] = lambda measure: measure(),
    ) -> None:
        """`hooked` measures, with the hooks of figures."""
        self._hooked = hooked
        self._procfs = procfs
        self._clock = clock
        self._cards = cards
        self._vms = vms
        self._storage_folder = storage_folder
        self._interval_s = interval_s
        self._before: Sample | None = None
        self._latest: Stats | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def latest(self) -> Stats | None:
        """Return the newest figures; None before the first."""
        return self._latest

    def sample(self) -> Stats:
        """Measure now; the last figures stay if a hook forbids to tell newer ones."""
        try:
            self._latest = self._hooked(self._measure)
        except Conflict as error:
            log.warning("no newer figures are told: %s", error)
        return self._latest or self._measure()

    def _measure(self) -> Stats:
        procfs, cards = self._procfs, self._cards()
        after = Sample(
            self._clock.monotonic(),
            procfs.cpu_times(),
            {name: each for name, each in procfs.traffic().items() if name in cards},
        )
        levels = Levels(
            procfs.load_5min(),
            procfs.memory(),
            procfs.file_system(self._storage_folder),
        )
        stats = Stats(
            rfc3339(self._clock.now()),
            node_stats(self._before, after, levels),
            self._vms(),
        )
        self._before = after
        return stats

    def start(self) -> None:
        """Measure now, and then at each interval."""
        self._thread = threading.Thread(target=self._run, name="stats", daemon=True)
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(deadline_s)

    def _run(self) -> None:
        # The second sample comes soon, and so all that follow it come right after
        # those of the VMs, which are taken at the same interval.
        pause_s = min(_AFTER_VMS_S, self._interval_s)
        while not self._stopped.is_set():
            try:
                self.sample()
            except Exception:
                log.exception("the figures of the node cannot be measured")
            self._stopped.wait(pause_s)
            pause_s = self._interval_s
