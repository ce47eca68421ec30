"""Pause VMs and let them go on, with a lease that is watched meanwhile.

    runs ──suspend, or a disk's error──► paused, and libvirt gives the lease back
    paused ──the node takes the lease, in the version it had──► parked
    parked ──the node gives it back, libvirt takes it──► runs, if nobody was between

libvirt (up to 11 at least) takes whatever lease there is when a guest goes on, also if
another host had it meanwhile: the saved state that it keeps of the lease is read and
not used (virLockManagerSanlockAcquire). So the version decides here. A guest that has
run elsewhere since ends at once, by SIGKILL: SIGTERM would let QEMU write.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from node.clock import Clock, parse_rfc3339, rfc3339
from node.contract.hooks import Hooks
from node.contract.volumes import LeaseMovedOn, VmRunsElsewhere, Volumes
from node.errors import Busy, Conflict, Unavailable
from node.model.hooks import HookPoint
from node.model.ids import CorrelationId, VmId
from node.model.vm import EndCause, ResumeBehavior, Vm, VmEnd, VmEntry, VmState, Wanted
from node.system.hypervisor import (
    Activity,
    DomainLeased,
    DomainMissing,
    Hypervisor,
)
from node.vm import live_disks
from node.vm.certainty import Certainty
from node.vm.observer import Observer
from node.vm.register import Sight, VmRegister
from node.vm.states import Seen

log = logging.getLogger(__name__)

# Eight times sanlock's timeout: a host that has lost its storage for so long has lost
# its leases, so the VM may start elsewhere.
KILL_AFTER_S: Final = 80.0
# A disk that fails again and again: pauses between attempts double up to the last.
_RETRY_S: Final = 5.0
_RETRY_MAX_S: Final = 300.0
# Who ran for so long has another trouble: what is the same shows in seconds.
WELL_S: Final = 60.0
# To move a lease takes a second or two; what hangs on a storage gives up sooner.
TURN_S: Final = 120.0
# Who stops a VM by force does not wait for a storage that hangs.
STALE_AFTER_S: Final = 10.0
_FAULT: Final = "vm_paused_by_error"
RUN: Final = frozenset({VmState.POWERING_UP, VmState.UP, VmState.REBOOTING})
_MAY_RESUME: Final = frozenset({VmState.PAUSED, VmState.NOT_RESPONDING})


class TurnTaken(Busy):
    """The VM's lease is being moved for too long: its storage is slow, or hangs."""

    code = "vm_lease_busy"
    remedy = "Look at the VM's storage; try again when it answers."


class NotPaused(Conflict):
    """The VM does not stand still."""

    code = "vm_not_paused"
    remedy = "Look at the VM, then try again."


class Pauser:
    """Pauses VMs and resumes them. Any thread may call, for one VM one at a time."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        register: VmRegister,
        observer: Observer,
        volumes: Volumes,
        clock: Clock,
        hooks: Hooks,
    ) -> None:
        self._hypervisor = hypervisor
        self._register = register
        self._observer = observer
        self._volumes = volumes
        self._clock = clock
        self._hooks = hooks
        self._certainty = Certainty(live_disks.of(hypervisor), volumes)
        self._tries: dict[VmId, tuple[int, datetime]] = {}  # to resume: how many, when
        self._lock = threading.Lock()
        self._turns: dict[VmId, threading.RLock] = {}

    def pause(self, vm_id: VmId, correlation_id: CorrelationId | None) -> None:
        """Pause a VM that runs; HookFailed."""
        with self.turn(vm_id):
            self.ask(HookPoint.BEFORE_VM_PAUSE, self._register.get(vm_id).vm)
            self._hypervisor.suspend(vm_id)
            paused = Sight(
                Seen.PAUSED, wanted=Wanted.PAUSED, correlation_id=correlation_id
            )
            entry = self._register.apply(vm_id, paused) or self._register.get(vm_id)
            if not self._is_leased(entry.vm):
                return
            try:
                self._park(entry)
            except (Busy, Unavailable) as error:
                log.warning("VM %s: its lease is free meanwhile: %s", vm_id, error)

    def resume(self, vm_id: VmId, correlation_id: CorrelationId | None) -> None:
        """Let a VM go on; LeaseMovedOn and VmRunsElsewhere: it was ended instead.

        MergeUnmarked: it has to wait. HookFailed.
        """
        with self.turn(vm_id):
            self._resume(vm_id, correlation_id)

    def ask(self, point: HookPoint, vm: Vm) -> None:
        """Let hooks forbid what is about to be done to a VM that runs; HookFailed."""
        vm_id = vm.spec.vm_id
        self._hooks.ask(point, vm, lambda: self._hypervisor.observe(vm_id).xml)

    def keep(self, vm_id: VmId) -> int | None:
        """Have the lease of a VM that was paused, and leave it so; the caller's turn.

        Return its version; None: it has no lease. NotPaused, LeaseMovedOn.
        """
        entry = self._register.get(vm_id)
        if entry.run.state is not VmState.PAUSED:
            raise NotPaused(f"VM {entry.vm.spec.name} is {entry.run.state}")
        return self._park(entry) if self._is_leased(entry.vm) else None

    def attend(self, vm_id: VmId) -> None:
        """Do what a VM needs that is paused: keep its lease; resume it, or end it."""
        with self.turn(vm_id):
            entry = self._register.get(vm_id)
            if entry.run.state is not VmState.PAUSED:
                return  # somebody else was quicker
            if self._is_given_up(entry):
                self._end(entry, EndCause.KILLED, "its disk has failed for too long")
                return
            if self._is_leased(entry.vm):
                self._park(entry)
            if self._may_go_on(entry):
                self._retry(vm_id)

    def confirm(self, vm_id: VmId) -> bool:
        """End a guest that runs without its lease; False: that cannot be told now.

        A start does not wait for a storage that does not answer, so it is asked again.
        """
        with self.turn(vm_id):
            entry = self._register.get(vm_id)
            if entry.run.state not in RUN or not self._is_leased(entry.vm):
                return entry.run.state in RUN
            if self._lacks(entry) is None:
                return True
            # libvirt gives a lease back as soon as the guest stands still.
            if self._hypervisor.observe(vm_id).activity is not Activity.RUNNING:
                return False
            why = self._lacks(entry)
            if self._volumes.has_lost(entry.vm):
                return False  # sanlock ends it, or this host comes back to its own
            if why is not None:
                is_moved = not self._volumes.read_lease(entry.vm).is_here
                cause = EndCause.LEASE_MOVED if is_moved else EndCause.KILLED
                self._end(entry, cause, why)
            return True

    def is_stale(self, entry: VmEntry) -> bool:
        """Tell whether a paused VM may have run elsewhere since, or nobody can tell."""
        vm_id = entry.vm.spec.vm_id
        try:
            with self.turn(vm_id, STALE_AFTER_S):
                if self._is_leased(entry.vm):
                    self._have(entry)
        except (LeaseMovedOn, VmRunsElsewhere, Unavailable, TurnTaken) as error:
            log.warning("VM %s: %s", vm_id, error)
            return True
        except Busy as error:
            log.info("VM %s: %s", vm_id, error)  # its own QEMU has it: it goes on
        return False

    @contextlib.contextmanager
    def turn(self, vm_id: VmId, timeout_s: float = TURN_S) -> Iterator[None]:
        """Let one at a time move a VM's lease: between its owners nobody may step.

        Who has the turn may take it again: deleting a VM asks who runs with its disks.
        Raises TurnTaken.
        """
        with self._lock:
            turn = self._turns.setdefault(vm_id, threading.RLock())
        if not turn.acquire(timeout=timeout_s):
            raise TurnTaken(f"the lease of VM {vm_id} is being moved", vm_id=vm_id)
        try:
            yield
        finally:
            turn.release()

    def _resume(self, vm_id: VmId, correlation_id: CorrelationId | None) -> None:
        entry, version = self._register.get(vm_id), None
        if is_meant(entry):
            self.ask(HookPoint.BEFORE_VM_CONT, entry.vm)
        if entry.run.state in _MAY_RESUME:
            version = self._go_on(entry)
        self._register.apply(
            vm_id,
            Sight(
                Seen.RUNS,
                wanted=Wanted.UP,
                correlation_id=correlation_id,
                lease_version=version,
            ),
        )
        self._observer.look(vm_id)  # its disk may have failed again at once

    def _retry(self, vm_id: VmId) -> None:
        now = self._clock.now()
        count, _ = self._tries.get(vm_id, (0, now))
        self._tries[vm_id] = (count + 1, now)
        log.info("VM %s: its storage answers again: it goes on", vm_id)
        self._resume(vm_id, None)
        after = self._register.get(vm_id)
        if after.run.state is VmState.PAUSED and self._is_leased(after.vm):
            self._park(after)

    def _is_given_up(self, entry: VmEntry) -> bool:
        """Tell whether a VM may as well start elsewhere."""
        paused = self._clock.now() - parse_rfc3339(entry.run.since)
        is_killed = entry.vm.spec.resume_behavior is ResumeBehavior.KILL
        is_late = paused.total_seconds() >= KILL_AFTER_S
        return is_killed and is_late and _is_faulted(entry)

    def _may_go_on(self, entry: VmEntry) -> bool:
        """Tell whether the storage is back, and the last attempt long enough ago."""
        is_left = entry.vm.spec.resume_behavior is ResumeBehavior.LEAVE_PAUSED
        if is_left or not _is_faulted(entry):
            return False
        vm_id, now = entry.vm.spec.vm_id, self._clock.now()
        count, last = self._tries.get(vm_id, (0, now))
        passed_s = (now - last).total_seconds()
        ran_s = (parse_rfc3339(entry.run.since) - last).total_seconds()
        if ran_s >= WELL_S or passed_s > 2 * _RETRY_MAX_S:
            self._tries.pop(vm_id, None)  # another trouble than the last one
        elif count and passed_s < min(_RETRY_S * 2 ** min(count, 6), _RETRY_MAX_S):
            return False
        return self._volumes.is_well(entry.vm)

    def _go_on(self, entry: VmEntry) -> int | None:
        """Hand the lease over to libvirt; return the version that it got."""
        vm_id = entry.vm.spec.vm_id
        self._certainty.check(entry.vm)
        if not self._is_leased(entry.vm):
            self._use_memory(entry.vm, None)
            self._hypervisor.resume(vm_id)
            return None
        held = self._park(entry)
        self._use_memory(entry.vm, held)
        self._volumes.unpark(vm_id)
        try:
            self._hypervisor.resume(vm_id)
            record = self._volumes.read_lease(entry.vm)
        except DomainLeased as error:
            raise self._moved(entry, "another host took its lease") from error
        if not record.is_here or record.version != held + 1:
            # Also if libvirt took none: it is not told to (see `LeaseNotTaken`).
            raise self._moved(
                entry, f"its lease had version {record.version}, not {held + 1}"
            )
        return record.version

    def _use_memory(self, vm: Vm, version: int | None) -> None:
        """Let nobody go on with a memory that a guest has, or that is not whole."""
        if vm.memory is not None:
            self._volumes.memories.use(vm, version)

    def _park(self, entry: VmEntry) -> int:
        """Have the lease of a paused VM, or end that."""
        vm_id = entry.vm.spec.vm_id
        try:
            held = self._have(entry)
        except (LeaseMovedOn, VmRunsElsewhere) as error:
            raise self._moved(entry, error.message) from error
        if held != entry.run.lease_version:
            self._register.apply(vm_id, Sight(Seen.LEASED, lease_version=held))
        return held

    def _have(self, entry: VmEntry) -> int:
        """Have the lease of a paused VM: in its run's version, or as this host's."""
        vm, version = entry.vm, entry.run.lease_version
        if version is None and not self._volumes.read_lease(vm).is_here:
            raise LeaseMovedOn(
                f"another node had the lease of VM {vm.spec.name} last",
                vm_id=vm.spec.vm_id,
            )
        return self._volumes.park(vm, version)

    def _lacks(self, entry: VmEntry) -> str | None:
        """Return why a run has not its lease, as it lies there; None: it has it."""
        vm_id, wanted = entry.vm.spec.vm_id, entry.run.lease_version
        record = self._volumes.read_lease(entry.vm)
        version, is_owned = record.version, not record.is_free and not record.is_kept
        if is_owned and version == wanted:
            return None  # with each owner it would be another one
        if is_owned and record.is_here and version == (wanted or 0) + 1:
            # It went on, and the agent stopped before that was written down.
            self._register.apply(vm_id, Sight(Seen.LEASED, lease_version=version))
            return None
        if version == wanted or record.is_free:
            return f"no QEMU had its lease, version {version}, while it ran"
        return f"its lease had version {version}, not {wanted}, while it ran"

    def _moved(self, entry: VmEntry, why: str) -> LeaseMovedOn:
        """End a run that came too late, and return how to say so."""
        self._end(entry, EndCause.LEASE_MOVED, why)
        return LeaseMovedOn(
            f"VM {entry.vm.spec.name} has run elsewhere while it was paused here: "
            "it was ended",
            vm_id=entry.vm.spec.vm_id,
        )

    def _end(self, entry: VmEntry, cause: EndCause, detail: str) -> None:
        vm_id = entry.vm.spec.vm_id
        log.error("VM %s is killed: %s", vm_id, detail)
        end = VmEnd(cause, rfc3339(self._clock.now()), detail)
        self._observer.foretell(vm_id, end)
        try:
            self._hypervisor.kill(vm_id)
        except DomainMissing:
            log.info("VM %s was gone already", vm_id)

    def _is_leased(self, vm: Vm) -> bool:
        return self._volumes.lease(vm) is not None


def is_meant(entry: VmEntry) -> bool:
    """Tell whether a VM is paused, and not only held while something is decided."""
    is_wanted = entry.vm.wanted is Wanted.PAUSED
    return entry.run.state is VmState.PAUSED and (is_wanted or _is_faulted(entry))


def _is_faulted(entry: VmEntry) -> bool:
    """Tell whether a VM is paused by an error of its disk, and nobody wants it so."""
    reason = entry.run.reason
    return reason is not None and reason.code == _FAULT and entry.vm.wanted is Wanted.UP
