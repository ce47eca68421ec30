"""Rates between two samples of a machine's counters."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.errors import Conflict
from node.host import stats
from node.host.stats import Levels, Sample, StatsSampler
from node.model.ids import VmId
from node.model.stats import Stats, VmStats
from node.system.procfs import CpuTimes, FileSystem, Memory, Traffic
from node.units import GiB
from tests.fakes.clock import FakeClock
from tests.fakes.procfs import FakeProcfs

_LEVELS = Levels(0.456, Memory(8 * GiB, 6 * GiB, 5), FileSystem(10 * GiB, 4 * GiB))


def sample(
    at_s: float = 0.0,
    busy_s: float = 0.0,
    total_s: float = 0.0,
    **traffic: tuple[int, int],
) -> Sample:
    return Sample(
        at_s,
        CpuTimes(busy_s, total_s),
        {name: Traffic(*counters) for name, counters in traffic.items()},
    )


def test_node_stats_have_levels_and_no_rates_at_first() -> None:
    figures = stats.node_stats(None, sample(busy_s=5, total_s=10), _LEVELS)
    assert (figures.cpu_percent, figures.net_rx_bps) == (0.0, 0)
    assert (figures.memory_used_bytes, figures.memory_free_bytes) == (2 * GiB, 6 * GiB)
    assert (figures.storage_size_bytes, figures.storage_used_bytes) == (
        10 * GiB,
        6 * GiB,
    )
    assert (figures.load_5min, figures.swap_used_bytes) == (0.46, 5)


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        ((0, 0), (5, 20), 25.0),
        ((0, 0), (20, 20), 100.0),
        ((5, 20), (5, 40), 0.0),
        ((5, 20), (5, 20), 0.0),
        ((5, 20), (4, 30), 0.0),
    ],
    ids=["quarter", "full", "idle", "no-time", "stepped-back"],
)
def test_cpu_percent_is_the_share_of_busy_time(
    before: tuple[float, float], after: tuple[float, float], percent: float
) -> None:
    figures = stats.node_stats(sample(0, *before), sample(1, *after), _LEVELS)
    assert figures.cpu_percent == percent


@pytest.mark.parametrize(
    ("before", "after", "rx_bps", "tx_bps"),
    [
        (sample(0, eth0=(0, 0)), sample(2, eth0=(1000, 500)), 500, 250),
        (
            sample(0, eth0=(0, 0), eth1=(0, 0)),
            sample(1, eth0=(10, 0), eth1=(10, 0)),
            20,
            0,
        ),
        (sample(0), sample(1, eth0=(1000, 1000)), 0, 0),
        (sample(0, eth0=(1000, 1000)), sample(1), 0, 0),
        (sample(0, eth0=(1000, 0)), sample(1, eth0=(0, 10)), 0, 10),
        (sample(5, eth0=(0, 0)), sample(5, eth0=(10, 10)), 0, 0),
    ],
    ids=["rate", "sum", "new-card", "gone-card", "counter-reset", "no-time"],
)
def test_traffic_is_bytes_per_second_of_all_cards(
    before: Sample, after: Sample, rx_bps: int, tx_bps: int
) -> None:
    figures = stats.node_stats(before, after, _LEVELS)
    assert (figures.net_rx_bps, figures.net_tx_bps) == (rx_bps, tx_bps)


_TIME = some.floats(0, 1e9)
_COUNTERS = some.tuples(some.integers(0, 2**63), some.integers(0, 2**63))


@given(_TIME, _TIME, _TIME, _TIME, _TIME, _TIME, _COUNTERS, _COUNTERS)
def test_rates_are_never_out_of_bounds(
    at_1: float,
    busy_1: float,
    total_1: float,
    at_2: float,
    busy_2: float,
    total_2: float,
    counters_1: tuple[int, int],
    counters_2: tuple[int, int],
) -> None:
    before = sample(at_1, busy_1, total_1, eth0=counters_1)
    after = sample(at_2, busy_2, total_2, eth0=counters_2)
    figures = stats.node_stats(before, after, _LEVELS)
    assert 0.0 <= figures.cpu_percent <= 100.0
    assert figures.net_rx_bps >= 0
    assert figures.net_tx_bps >= 0


def make_sampler(procfs: FakeProcfs, clock: FakeClock) -> StatsSampler:
    return StatsSampler(
        procfs,
        clock,
        lambda: frozenset({"eth0"}),
        lambda: (VmStats(VmId("v")),),
        Path("/"),
        interval_s=60.0,
    )


def test_sample_measures_the_time_since_the_last_one() -> None:
    procfs, clock = FakeProcfs(), FakeClock()
    procfs.counters = {"eth0": Traffic(0, 0), "lo": Traffic(0, 0)}
    sampler = make_sampler(procfs, clock)
    sampler.sample()
    clock.advance(10)
    procfs.counters = {"eth0": Traffic(1000, 0), "lo": Traffic(9999, 0)}
    figures = sampler.sample()
    assert (figures.node.net_rx_bps, figures.vms) == (100, (VmStats(VmId("v")),))
    assert figures.at == "2026-11-22T08:00:10.000Z"
    assert sampler.latest() == figures


def test_start_measures_at_once() -> None:
    asked = threading.Event()

    def vms() -> tuple[VmStats, ...]:
        asked.set()
        return ()

    sampler = StatsSampler(
        FakeProcfs(), FakeClock(), frozenset, vms, Path("/"), interval_s=60.0
    )
    assert sampler.latest() is None
    sampler.start()
    assert asked.wait(30)
    sampler.stop(30)
    assert sampler.latest() is not None


def test_figures_stay_when_a_hook_forbids_newer_ones() -> None:
    clock, refusals = FakeClock(), [False, True]

    def hooked(measure: Callable[[], Stats]) -> Stats:
        if refusals.pop(0):
            raise Conflict("not now")
        return measure()

    figures = (FakeProcfs(), clock, frozenset, tuple, Path("/"), 60.0)
    sampler = StatsSampler(*figures, hooked)
    first = sampler.sample()
    clock.advance(10)
    assert sampler.sample() == sampler.latest() == first
