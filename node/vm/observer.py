"""Look at domains, and bring the register up to date with what is seen.

libvirt's events only say where to look; what counts is what is found there.
They are handled by one thread, in order; if they are too many, or the
connection was lost, everything is looked at. Domains are never touched here.
"""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from node.clock import Clock, rfc3339
from node.errors import Error
from node.model.host import NodeFacts
from node.model.ids import VmId
from node.model.reason import Reason
from node.model.vm import ForeignVm, Vm, VmEnd, VmEntry
from node.store import Store
from node.system.hypervisor import (
    Domain,
    DomainEvent,
    DomainMissing,
    Happening,
    Hypervisor,
    HypervisorDown,
)
from node.units import KiB
from node.vm import domxml, endings, files, recovery, states
from node.vm.recovery import Verdict
from node.vm.register import Sight, VmRegister
from node.vm.states import Seen

log = logging.getLogger(__name__)

QEMU_LOGS = Path("/var/log/libvirt/qemu")
_LOG_TAIL = 64 * KiB  # a start writes about 8 KiB of command line
_EVENTS_MAX = 1000
_TICK_S = 0.5
_SURVEY_S = 30.0  # events are told once: look at everything now and then
_BOOT_SETTING = "vm_boot_id"


class Observer:
    """The eyes of the node: one thread, and a queue of what to look at."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        store: Store,
        register: VmRegister,
        clock: Clock,
        host: Callable[[], NodeFacts],
        on_agent: Callable[[VmId], None],
        on_fault: Callable[[], None],
        has_lost: Callable[[Vm], bool],
        logs: Path = QEMU_LOGS,
    ) -> None:
        """`has_lost` tells whether the leases where a VM's lies are lost."""
        self._hypervisor = hypervisor
        self._store = store
        self._register = register
        self._clock = clock
        self._host = host
        self._on_agent = on_agent
        self._on_fault = on_fault
        self._has_lost = has_lost
        self._logs = logs
        # libvirt's word on ends that are still in the queue, for who looks earlier
        self._ends: dict[VmId, str] = {}
        self._foretold: dict[VmId, VmEnd] = {}  # how those end that we kill
        self._queue: queue.Queue[DomainEvent | None] = queue.Queue(_EVENTS_MAX)
        # What was found is kept before anybody looks again: an old look cannot
        # undo a newer one.
        self._looking = threading.RLock()
        self._must_survey = threading.Event()
        self._stop = threading.Event()
        self._down_since: datetime | None = clock.now()
        self._foreign: tuple[ForeignVm, ...] = ()
        self._told: frozenset[VmId] = frozenset()  # oddities that were logged
        self._strays: frozenset[VmId] = frozenset()
        self._surveyed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="observer", daemon=True)

    def start(self) -> None:
        """Say what the reboot of the host ended, then connect and look."""
        self._note_reboot()
        self._hypervisor.open(self._on_event, self._on_link)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join()

    def foreign(self) -> tuple[ForeignVm, ...]:
        """Return the domains on this host that are not ours."""
        return self._foreign

    def strays(self) -> frozenset[VmId]:
        """Return the VMs of pools that run here, and are not defined here."""
        return self._strays

    def problem(self) -> Reason | None:
        """Return why nothing is seen, if so."""
        since = self._down_since
        if since is None:
            return None
        detail = "there is no connection"
        return Reason("libvirt_down", rfc3339(since), {"detail": detail})

    def wait_surveyed(self, timeout_s: float) -> bool:
        """Wait until everything was looked at once since the start."""
        return self._surveyed.wait(timeout_s)

    def look(self, vm_id: VmId, told: str = "") -> VmEntry | None:
        """Look at one VM now, and return it; None if it is not defined.

        `told` is libvirt's word on how it ended, if it said so.
        """
        with self._looking:
            entry = self._register.find(vm_id)
            if entry is None:
                return None
            try:
                domain = self._hypervisor.observe(vm_id)
            except DomainMissing:
                return self._take_absence(entry, told or self._ends.get(vm_id, ""))
            return self._take_domain(domain, entry)

    def foretell(self, vm_id: VmId, end: VmEnd) -> None:
        """Say how a VM ends that is about to be killed."""
        self._foretold[vm_id] = end

    def survey(self) -> None:
        """Look at everything; HypervisorDown if nobody can be asked."""
        with self._looking:
            before = {entry.vm.spec.vm_id: entry for entry in self._register.list()}
            found = recovery.survey(self._hypervisor.domains(), before.keys())
            for domain in found.ours:
                self._take_domain(domain, before[domain.vm_id])
            present = {domain.vm_id for domain in found.ours}
            for vm_id, entry in before.items():
                if vm_id not in present and states.is_active(entry.run.state):
                    self.look(vm_id)
        self._foreign = found.foreign
        self._strays = recovery.strays(found)
        self._report_oddities(found)
        self._surveyed.set()

    def _on_event(self, event: DomainEvent) -> None:
        if event.happening is Happening.ENDED:
            self._ends[event.vm_id] = event.detail
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._must_survey.set()

    def _on_link(self, is_connected: bool) -> None:
        self._down_since = None if is_connected else self._clock.now()
        if is_connected:
            self._must_survey.set()
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)

    def _loop(self) -> None:
        surveyed_at = self._clock.monotonic()
        while not self._stop.is_set():
            event = self._next_event()
            try:
                if event is not None:
                    self._take_event(event)
                self._register.tick()
                is_time = self._clock.monotonic() - surveyed_at >= _SURVEY_S
                if self._must_survey.is_set() or is_time:
                    self._must_survey.clear()
                    surveyed_at = self._clock.monotonic()
                    self.survey()
            except HypervisorDown:
                log.debug("nothing is seen: libvirt is down")
            except Error as error:
                log.warning("what is seen cannot be kept: %s", error)
                self._must_survey.set()
                self._stop.wait(_TICK_S)

    def _next_event(self) -> DomainEvent | None:
        try:
            return self._queue.get(timeout=_TICK_S)
        except queue.Empty:
            return None

    def _take_event(self, event: DomainEvent) -> None:
        if event.happening is Happening.ENDED:
            self.look(event.vm_id, event.detail)
            self._ends.pop(event.vm_id, None)
        if self._register.find(event.vm_id) is None:
            self._must_survey.set()  # a foreign one came, went or changed
            return
        log.debug("VM %s: %s %s", event.vm_id, event.happening, event.detail)
        match event.happening:
            case Happening.REBOOTED:
                self._register.apply(event.vm_id, Sight(Seen.REBOOTED))
            case Happening.DISK_ERROR:
                sight = Sight(Seen.FAULTED, detail=event.detail)
                self._register.apply(event.vm_id, sight)
                self._on_fault()
            case Happening.AGENT_CONNECTED:
                self._on_agent(event.vm_id)
            case Happening.CHANGED:
                self.look(event.vm_id)

    def _take_domain(self, domain: Domain, entry: VmEntry) -> VmEntry | None:
        sight = recovery.sight_of(domain, rfc3339(self._clock.now()))
        if sight is None:
            return entry
        return self._register.apply(entry.vm.spec.vm_id, sight)

    def _take_absence(self, entry: VmEntry, told: str) -> VmEntry | None:
        vm_id = entry.vm.spec.vm_id
        verdict = recovery.judge(
            entry.run.state,
            has_domain=False,
            is_start_pending=self._register.has_job(vm_id, "vm_start"),
        )
        now = rfc3339(self._clock.now())
        if verdict is Verdict.ENDED:
            end = self._foretold.pop(vm_id, None) or endings.explain(
                self._read_log(entry),
                told,
                entry.vm.wanted,
                now,
                has_lost_lease=self._has_lost(entry.vm),
            )
        elif verdict is Verdict.START_FAILED:
            end = recovery.start_cut_short(now)
        else:
            return entry
        started_at = entry.run.started_at
        taken = self._register.apply(
            vm_id,
            Sight(Seen.ENDED, end=end),
            only_if=lambda newest: newest.run.started_at == started_at,
        )
        if taken is not None and taken.run.end is end:
            log.info("VM %s ended: %s, %s", vm_id, end.cause, end.detail)
        return taken

    def _read_log(self, entry: VmEntry) -> endings.Trace:
        """Return the trace in QEMU's log, whichever name the domain had."""
        traces = []
        for name in domxml.domain_names(entry.vm.spec):
            path = self._logs / f"{name}.log"
            try:
                tail = files.read_tail(path, _LOG_TAIL)
            except OSError as error:
                log.warning("QEMU's log %s cannot be read: %s", path, error)
                continue
            text = tail.decode(errors="replace")
            traces.append(endings.read_log(text, entry.run.started_at))
        return max(traces, key=lambda trace: trace.at or "", default=endings.Trace())

    def _note_reboot(self) -> None:
        host = self._host()
        known = self._store.setting(_BOOT_SETTING)
        if known is not None and known != host.boot_id:
            end = recovery.lost_with_host(host.booted_at)
            for entry in self._register.list():
                if states.is_active(entry.run.state):
                    self._register.apply(
                        entry.vm.spec.vm_id, Sight(Seen.ENDED, end=end)
                    )
        if known != host.boot_id:
            with self._store.change() as change:
                change.set(_BOOT_SETTING, host.boot_id)

    def _report_oddities(self, found: recovery.Survey) -> None:
        """Log once what we do not expect on a node of ours."""
        for domain in found.lost:
            if domain.vm_id not in self._told:
                log.warning(
                    "domain %s (%s) is marked as ours but not defined here: left alone",
                    domain.name,
                    domain.vm_id,
                )
        for domain in found.unruly:
            if domain.vm_id not in self._told:
                log.warning(
                    "domain %s (%s) has autostart or a managed save: switch them off",
                    domain.name,
                    domain.vm_id,
                )
        self._told = frozenset(each.vm_id for each in (*found.lost, *found.unruly))
