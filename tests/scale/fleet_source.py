"""Run the generator beside the bench, and read what it counts."""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from node import wire
from tests.scale import daemon, figures, processes
from tests.scale.daemon import Daemon
from tests.scale.figures import Figure
from tests.scale.generator import Task, Tick

FILL_TIMEOUT_S = 300.0


class FleetSource:
    """The generator's process; its ticks are kept."""

    def __init__(self, task: Task, log_file: Path) -> None:
        self.task = task
        self._daemon = Daemon(
            [sys.executable, "-m", "tests.scale.generator"], log_file, has_pipes=True
        )
        self._lock = threading.Lock()
        self._ticks: list[Tick] = []
        self._daemon.input.write(wire.encode(task) + b"\n")
        self._daemon.input.flush()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._daemon.stop()

    def usage(self) -> processes.Usage:
        return self._daemon.usage()

    def ticks(self, since: float = 0.0) -> list[Tick]:
        """Return what was counted after a moment of the monotonic clock."""
        self._daemon.check()
        with self._lock:
            return [tick for tick in self._ticks if tick.at > since]

    def wait_known(self) -> Tick:
        """Wait until the aggregator has taken every node's documents."""

        def look() -> Tick | None:
            ticks = self.ticks()
            return ticks[-1] if ticks and ticks[-1].known == self.task.nodes else None

        return daemon.wait("all simulated nodes taken", look, timeout_s=FILL_TIMEOUT_S)

    def _read(self) -> None:
        for line in self._daemon.output:
            tick = wire.decode(Tick, line)
            with self._lock:
                self._ticks.append(tick)


def push_figures(ticks: Sequence[Tick]) -> tuple[Figure, ...]:
    """Say how pushing went; a generator that was late measures nothing."""
    pushes = sum(tick.pushes for tick in ticks)
    span_s = max(ticks[-1].at - ticks[0].at, 1.0) if ticks else 1.0
    late = figures.spread(each for tick in ticks for each in tick.late_s)
    return (
        Figure("pushes", pushes / (span_s + 1), "/s", note=_troubles(ticks)),
        *figures.latency(
            "a push, sent to committed and answered",
            [each for tick in ticks for each in tick.push_s],
        ),
        Figure(
            "the generator's own lateness, p99",
            late.p99 * 1000,
            "ms",
            note=f"worst {late.highest * 1000:.0f} ms",
        ),
    )


def _troubles(ticks: Sequence[Tick]) -> str:
    counts = {
        "told everything": sum(tick.resyncs for tick in ticks),
        "told to come later": sum(tick.refused for tick in ticks),
        "failed": sum(tick.failed for tick in ticks),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)
