"""Figures of VMs: rates, gaps, and QEMUs that hang."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.model.ids import VmId
from node.model.stats import VmStats
from node.model.vm import VmEntry, VmState
from node.system.hypervisor import Activity, Domain, Sample
from node.vm import stats
from node.vm.stats import Measured, VmStatsSampler
from tests.fakes.clock import FakeClock
from tests.fakes.hypervisor import FakeHypervisor
from tests.unit.node.vm.examples import AT, DOWN, VM, VM_ID

_SECOND = 1_000_000_000
_EMPTY = VmStats(VM_ID)


def _figures(before: Sample | None, after: Sample, vcpus: int = 2) -> VmStats:
    old = Measured(100.0, before, _EMPTY) if before is not None else None
    return stats.figures(VM_ID, old, after, 110.0, vcpus)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(
            Sample(0, 100, 200, 300, 400),
            Sample(10 * _SECOND, 1100, 2200, 3300, 4400),
            VmStats(VM_ID, 0.0, 50.0, 0, 300, 400, 100, 200),
            id="rates",
        ),
        pytest.param(None, Sample(10 * _SECOND, 1, 1, 1, 1), _EMPTY, id="first"),
        pytest.param(
            Sample(10 * _SECOND, 9, 9, 9, 9),
            Sample(_SECOND, 1, 1, 1, 1),
            _EMPTY,
            id="counters-go-backwards",
        ),
        pytest.param(Sample(), Sample(10 * _SECOND, 1), _EMPTY, id="nothing-before"),
        pytest.param(Sample(1, 1, 1, 1, 1), Sample(), _EMPTY, id="fields-missing"),
        pytest.param(
            Sample(0),
            Sample(50 * _SECOND),
            replace(_EMPTY, cpu_percent=100.0),
            id="never-above-all-vcpus",
        ),
        pytest.param(
            None,
            Sample(memory_rss_bytes=7),
            replace(_EMPTY, memory_used_bytes=7),
            id="memory-of-qemu",
        ),
        pytest.param(
            None,
            Sample(memory_rss_bytes=7, memory_total_bytes=90, memory_unused_bytes=30),
            replace(_EMPTY, memory_used_bytes=60),
            id="memory-by-the-guest",
        ),
    ],
)
def test_figures_are_rates(
    before: Sample | None, after: Sample, expected: VmStats
) -> None:
    assert _figures(before, after) == expected


_COUNTER = st.none() | st.integers(0, 1 << 62)


@given(st.builds(Sample, *[_COUNTER] * 8), st.builds(Sample, *[_COUNTER] * 8))
def test_figures_are_never_negative(before: Sample, after: Sample) -> None:
    told = _figures(before, after)
    assert 0 <= told.cpu_percent <= 100
    assert min(told.disk_read_bps, told.net_rx_bps, told.memory_used_bytes) >= 0


class _Bench:
    """Running VMs, a sampler, and what it was told about silent ones."""

    def __init__(self, count: int) -> None:
        self.clock = FakeClock()
        self.hypervisor = FakeHypervisor()
        self.hypervisor.open(lambda event: None, lambda is_connected: None)
        self.ids = [VmId(f"vm{number:03}") for number in range(count)]
        self.silent: dict[VmId, bool] = {}
        self.entries = [self._entry(vm_id) for vm_id in self.ids]
        for vm_id in self.ids:
            self.hypervisor.add(Domain(vm_id, vm_id, Activity.RUNNING, "<domain/>"))
        self.sampler = VmStatsSampler(
            self.hypervisor,
            self.clock,
            lambda: self.entries,
            self.silent.__setitem__,
            15.0,
        )

    def sample(self) -> None:
        self.clock.advance(15)
        self.sampler.sample()

    def ages(self) -> dict[VmId, float]:
        return {each.vm_id: each.age_s for each in self.sampler.latest()}

    def _entry(self, vm_id: VmId) -> VmEntry:
        vm = replace(VM, spec=replace(VM.spec, vm_id=vm_id))
        return VmEntry(vm, replace(DOWN, vm_id=vm_id, state=VmState.UP, started_at=AT))


@pytest.fixture
def bench() -> _Bench:
    return _Bench(40)


def test_sample_asks_all_in_one_call_of_each_sort(bench: _Bench) -> None:
    bench.sample()
    assert bench.hypervisor.calls == ["sample 40", "sample 40 by monitor"]


def test_sample_measures_the_others_when_twenty_hang(bench: _Bench) -> None:
    bench.sample()
    for vm_id in bench.ids[:20]:
        bench.hypervisor.set_stuck(vm_id, True)
    bench.sample()
    assert set(bench.ages().values()) == {0.0, 15.0}
    assert [bench.ages()[vm_id] for vm_id in bench.ids[20:]] == [0.0] * 20


def test_sample_leaves_those_that_hang_out_of_the_common_call(bench: _Bench) -> None:
    bench.hypervisor.set_stuck(bench.ids[0], True)
    bench.sample()
    bench.hypervisor.calls.clear()
    bench.sample()
    assert bench.hypervisor.calls == [
        "sample 40",
        "sample 39 by monitor",
        "sample 1 by monitor",
    ]


def test_sample_tells_once_who_hangs_and_who_is_back(bench: _Bench) -> None:
    stuck = bench.ids[3]
    bench.hypervisor.set_stuck(stuck, True)
    bench.sample()
    assert bench.silent == {}
    bench.sample()
    assert bench.silent == {stuck: True}
    bench.hypervisor.set_stuck(stuck, False)
    bench.sample()
    assert bench.silent == {stuck: False}
    assert bench.ages()[stuck] == 0.0


@pytest.mark.parametrize("state", ["T", "t"])
def test_sample_asks_nobody_who_is_stopped(bench: _Bench, state: str) -> None:
    stopped = bench.ids[:20]
    for vm_id in stopped:
        bench.hypervisor.set_process(vm_id, state)
    for _ in range(2):
        bench.hypervisor.calls.clear()
        bench.sample()
        assert bench.hypervisor.calls == ["sample 40", "sample 20 by monitor"]
    assert bench.silent == dict.fromkeys(stopped, True)
    assert {bench.ages()[vm_id] for vm_id in bench.ids[20:]} == {0.0}
    bench.hypervisor.set_process(stopped[0], "S", 2)
    bench.sample()
    assert not bench.silent[stopped[0]]


def test_sample_tells_who_waits_for_a_disk_and_never_runs(bench: _Bench) -> None:
    hangs, works = bench.ids[:2]
    for number in range(2):
        bench.hypervisor.set_process(hangs, "D", 5)
        bench.hypervisor.set_process(works, "D", number)
        bench.sample()
    assert bench.silent == {hangs: True}


def test_sample_frees_a_vm_that_hung_when_an_agent_before_us_looked() -> None:
    bench = _Bench(1)
    run = replace(bench.entries[0].run, state=VmState.NOT_RESPONDING)
    bench.entries = [VmEntry(bench.entries[0].vm, run)]
    bench.sample()
    assert bench.silent == {bench.ids[0]: False}


def test_problem_tells_that_not_all_can_be_asked(bench: _Bench) -> None:
    bench.hypervisor.slots = 2
    for vm_id in bench.ids[:3]:
        bench.hypervisor.set_stuck(vm_id, True)
    bench.sample()
    problem = bench.sampler.problem()
    assert problem is not None
    assert (problem.code, problem.fields) == ("vms_stuck", {"count": 2})
    for vm_id in bench.ids:
        bench.hypervisor.set_stuck(vm_id, False)
    bench.sample()
    assert bench.sampler.problem() is None


def test_latest_keeps_old_figures_of_who_hangs_and_lets_them_age(
    bench: _Bench,
) -> None:
    bench.hypervisor.set_sample(
        bench.ids[0], Sample(0, memory_rss_bytes=7, has_monitor=True)
    )
    bench.sample()
    bench.hypervisor.set_stuck(bench.ids[0], True)
    bench.sample()
    told = bench.sampler.latest()[0]
    assert (told.memory_used_bytes, told.age_s) == (7, 15.0)


def test_latest_forgets_a_vm_that_ended(bench: _Bench) -> None:
    bench.sample()
    bench.entries = bench.entries[1:]
    bench.sample()
    assert bench.ids[0] not in bench.ages()


def test_latest_tells_how_long_a_vm_runs(bench: _Bench) -> None:
    bench.sample()
    assert bench.sampler.latest()[0].uptime_s == 15
