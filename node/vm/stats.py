"""Measure VMs: one call for all of them, rates from two samples.

The call that counts CPU and network needs no QEMU and always returns; the one
for disks and memory asks every QEMU. If that one hangs, each VM is asked alone
to find out who hangs; those are left out of the common call from then on and
asked alone, so that the others are measured on time. Whom the kernel does not run
is not asked at all, and so holds up nobody, however many they are. Rates are bytes
per second.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from node.clock import Clock, parse_rfc3339, rfc3339
from node.errors import Error
from node.model.ids import VmId
from node.model.reason import Reason
from node.model.stats import VmStats
from node.model.vm import VmEntry, VmState
from node.system.hypervisor import (
    DomainStuck,
    Hypervisor,
    HypervisorDown,
    QemuProcess,
    Sample,
    TooManyStuck,
)

log = logging.getLogger(__name__)

SINGLE_DEADLINE_S = 1.0  # one QEMU answers in a millisecond
_NS = 1_000_000_000
# QEMU may be busy for one sample; silent in two of them in a row, it hangs.
_SILENT_AFTER = 2
_STOPPED = frozenset("Tt")  # by a signal, or by a debugger
_HALTED = _STOPPED | {"D"}


@dataclass(frozen=True, slots=True)
class Measured:
    """The newest complete sample of a VM and what was made of it."""

    at: float  # monotonic
    sample: Sample
    stats: VmStats


def figures(
    vm_id: VmId, before: Measured | None, sample: Sample, at: float, vcpus: int
) -> VmStats:
    """Return the figures between two samples; the first one has no rates.

    A counter that goes backwards belongs to a new QEMU: its rate is 0 once.
    """
    seconds = at - before.at if before else 0.0
    old = before.sample if before else Sample()
    cpu_ns = _rate(old.cpu_time_ns, sample.cpu_time_ns, seconds)
    return VmStats(
        vm_id,
        0.0,
        round(min(100.0, 100 * cpu_ns / _NS / vcpus), 1),
        _memory_used(sample),
        int(_rate(old.disk_read_bytes, sample.disk_read_bytes, seconds)),
        int(_rate(old.disk_written_bytes, sample.disk_written_bytes, seconds)),
        int(_rate(old.net_rx_bytes, sample.net_rx_bytes, seconds)),
        int(_rate(old.net_tx_bytes, sample.net_tx_bytes, seconds)),
    )


def _rate(before: int | None, after: int | None, seconds: float) -> float:
    if before is None or after is None or seconds <= 0:
        return 0.0
    return max(0, after - before) / seconds


def _memory_used(sample: Sample) -> int:
    if sample.memory_total_bytes is None or sample.memory_unused_bytes is None:
        return sample.memory_rss_bytes or 0
    return max(0, sample.memory_total_bytes - sample.memory_unused_bytes)


def complete(cheap: Sample, full: Sample | None, before: Measured | None) -> Sample:
    """Return a sample with everything that is known: old where nothing new is."""
    rest = full or (before.sample if before else Sample())
    return replace(
        rest,
        cpu_time_ns=cheap.cpu_time_ns,
        net_rx_bytes=cheap.net_rx_bytes,
        net_tx_bytes=cheap.net_tx_bytes,
    )


def is_halted(before: QemuProcess | None, now: QemuProcess) -> bool:
    """Tell whether a QEMU has not run at all between two samples, and could not."""
    return before is not None and before == now and now.state in _HALTED


class VmStatsSampler:
    """Keeps the newest figures of all running VMs."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        clock: Clock,
        entries: Callable[[], Iterable[VmEntry]],
        on_silence: Callable[[VmId, bool], None],
        interval_s: float,
    ) -> None:
        self._hypervisor = hypervisor
        self._clock = clock
        self._entries = entries
        self._on_silence = on_silence
        self._interval_s = interval_s
        self._measured: Mapping[VmId, Measured] = {}
        self._misses: dict[VmId, int] = {}  # samples in a row without an answer
        self._stuck: set[VmId] = set()  # asked alone
        self._processes: Mapping[VmId, QemuProcess] = {}
        self._is_crowded = False  # not all could be asked this time
        self._crowded_since: str | None = None
        self._has_failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="vm-stats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def latest(self) -> tuple[VmStats, ...]:
        """Return the newest figures of every VM that runs, with their age."""
        now, wall = self._clock.monotonic(), self._clock.now()
        measured = self._measured
        return tuple(
            replace(
                each.stats,
                age_s=round(now - each.at, 1),
                uptime_s=_uptime_s(entry, wall.timestamp()),
            )
            for entry in self._entries()
            if (each := measured.get(entry.vm.spec.vm_id)) is not None
        )

    def problem(self) -> Reason | None:
        """Return why some VMs are not asked, if so."""
        since = self._crowded_since
        if since is None:
            return None
        return Reason("vms_stuck", since, {"count": len(self._stuck)})

    def sample(self) -> None:
        """Take one sample of all VMs that run."""
        running = {
            entry.vm.spec.vm_id: entry
            for entry in self._entries()
            if entry.run.state not in (VmState.DOWN, VmState.STARTING)
        }
        self._stuck &= running.keys()
        self._misses = {
            vm_id: self._misses.get(vm_id, _misses_of(entry))
            for vm_id, entry in running.items()
        }
        cheap = self._hypervisor.sample(running, needs_monitor=False)
        at = self._clock.monotonic()
        full = self._ask_all(set(cheap))
        measured = {
            vm_id: each for vm_id, each in self._measured.items() if vm_id in running
        }
        for vm_id, counters in cheap.items():
            if self._misses.get(vm_id):
                continue  # it keeps its old figures, and they age
            before = measured.get(vm_id)
            whole = complete(counters, full.get(vm_id), before)
            vcpus = running[vm_id].vm.spec.cpu.count
            stats = figures(vm_id, before, whole, at, vcpus)
            measured[vm_id] = Measured(at, whole, stats)
        self._measured = measured

    def _ask_all(self, vm_ids: set[VmId]) -> Mapping[VmId, Sample]:
        """Return what the QEMUs say, and take note of who says nothing."""
        stopped, halted = self._look_at_processes()
        asked = vm_ids - stopped - halted
        self._is_crowded = False
        answers = self._ask_together(asked - self._stuck)
        recovered, _ = self._ask_each(self._stuck & asked)
        answers |= recovered
        self._stuck -= recovered.keys()
        for vm_id, sample in answers.items():
            self._note(vm_id, 0 if sample.has_monitor else 1)
        for vm_id in (self._stuck | stopped) & vm_ids - halted:
            self._note(vm_id, 1)
        for vm_id in halted & vm_ids:
            self._note(vm_id, _SILENT_AFTER)
        if not self._is_crowded:
            self._crowded_since = None
        elif self._crowded_since is None:
            self._crowded_since = rfc3339(self._clock.now())
        return answers

    def _look_at_processes(self) -> tuple[set[VmId], set[VmId]]:
        """Return who is stopped now, and who has not run since the last sample."""
        before, now = self._processes, self._hypervisor.processes()
        self._processes = now
        return (
            {vm_id for vm_id, each in now.items() if each.state in _STOPPED},
            {
                vm_id
                for vm_id, each in now.items()
                if is_halted(before.get(vm_id), each)
            },
        )

    def _ask_together(self, vm_ids: set[VmId]) -> dict[VmId, Sample]:
        if not vm_ids:
            return {}
        try:
            return dict(self._hypervisor.sample(vm_ids, needs_monitor=True))
        except (DomainStuck, TooManyStuck) as error:
            log.debug("a QEMU among %d hangs: %s", len(vm_ids), error)
        answers, silent = self._ask_each(vm_ids)
        self._stuck |= silent
        return answers

    def _ask_each(self, vm_ids: set[VmId]) -> tuple[dict[VmId, Sample], set[VmId]]:
        """Ask one after the other: return the answers, and who hangs.

        Leave off when so many hang that the rest could not be asked.
        """
        answers: dict[VmId, Sample] = {}
        silent: set[VmId] = set()
        for vm_id in sorted(vm_ids):
            try:
                sample = self._ask_alone(vm_id)
            except TooManyStuck as error:
                log.debug("not all VMs are asked: %s", error)
                self._is_crowded = True
                break
            if sample.has_monitor:
                answers[vm_id] = sample
            else:
                silent.add(vm_id)
        return answers, silent

    def _ask_alone(self, vm_id: VmId) -> Sample:
        """Return what one QEMU says; an empty sample if it hangs."""
        try:
            answer = self._hypervisor.sample(
                (vm_id,), needs_monitor=True, deadline_s=SINGLE_DEADLINE_S
            )
        except DomainStuck:
            return Sample()
        return answer.get(vm_id, Sample())

    def _note(self, vm_id: VmId, misses: int) -> None:
        """Count samples without an answer; 0 is an answer. Tell who hangs each time.

        Told again, since what else is seen of a VM may have hidden it.
        """
        before = self._misses.get(vm_id, 0)
        after = before + misses if misses else 0
        if max(before, after) >= _SILENT_AFTER:
            self._on_silence(vm_id, after >= _SILENT_AFTER)
        self._misses[vm_id] = after

    def _loop(self) -> None:
        while True:
            try:
                self.sample()
                self._has_failed = False
            except HypervisorDown:
                log.debug("no figures of VMs: libvirt is down")
            except Error as error:
                if not self._has_failed:
                    log.warning("no figures of VMs: %s", error)
                self._has_failed = True
            if self._stop.wait(self._interval_s):
                return


def _misses_of(entry: VmEntry) -> int:
    """Return what an agent before us has counted at least."""
    is_silent = entry.run.state is VmState.NOT_RESPONDING
    return _SILENT_AFTER if is_silent else 0


def _uptime_s(entry: VmEntry, now: float) -> int:
    if entry.run.started_at is None:
        return 0
    return max(0, int(now - parse_rfc3339(entry.run.started_at).timestamp()))
