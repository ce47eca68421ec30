"""Stop a VM: ask its guest, then press its power button, then end it by force.

How far it goes is the manner asked for. Each step may be repeated after the
agent was killed: it looks first.

    shutdown   agent ─► ACPI, again and again ─► given up at the deadline
    graceful   agent ─► ACPI, again and again ─► by force at the deadline
    force                                        by force at once
"""

import logging
from collections.abc import Callable

from node import jobs
from node.clock import Clock, rfc3339
from node.errors import Conflict, Error, Failed
from node.jobs import Progress
from node.model.ids import CorrelationId, VmId
from node.model.requests import StopManner
from node.model.vm import EndCause, VmEnd, VmEntry, VmRun, VmState, Wanted
from node.system.hypervisor import DomainMissing, DomainStuck, Hypervisor, ShutdownWay
from node.vm import states
from node.vm.observer import Observer
from node.vm.register import Sight, VmRegister
from node.vm.states import Seen

log = logging.getLogger(__name__)

_AGENT_SHARE_S = 10.0  # a guest that obeys its agent begins to shut down sooner
_ACPI_EVERY_S = 10.0  # a guest that boots misses the button: press it again
_LOOK_EVERY_S = 1.0  # while waiting: is the job cancelled, is the event lost
_END_WAIT_S = 15.0  # libvirt gives QEMU ten seconds to die


class GuestPaused(Conflict):
    """A paused guest cannot shut itself down."""

    code = "vm_paused"
    remedy = "Resume the VM first, or stop it by force."


class ShutdownIgnored(Failed):
    """The guest did not shut down by the deadline, and was left alone."""

    code = "vm_shutdown_ignored"
    remedy = "Stop it by force, or look at its console."


class StillThere(Failed):
    """QEMU did not go away."""

    code = "vm_still_there"
    remedy = "Look at libvirt's log on the node; a disk that hangs holds QEMU."


class Stopper:
    """Stops one VM after the other, or several at once in threads of their own."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        register: VmRegister,
        observer: Observer,
        clock: Clock,
        is_stale: Callable[[VmEntry], bool],
        on_end: Callable[[VmEntry], None],
    ) -> None:
        """`is_stale` tells of a paused VM that it may have run elsewhere since.

        `on_end` is called before one is ended by force; HookFailed: it is not.
        """
        self._on_end = on_end
        self._hypervisor = hypervisor
        self._is_stale = is_stale
        self._register = register
        self._observer = observer
        self._clock = clock

    def stop(
        self,
        vm_id: VmId,
        manner: StopManner,
        deadline_s: float,
        correlation_id: CorrelationId | None,
        progress: Progress,
    ) -> None:
        """Stop a VM; GuestPaused, ShutdownIgnored, StillThere."""
        started = self._clock.monotonic()
        entry = self._look(vm_id)
        if not states.is_active(entry.run.state):
            seen = Seen.ENDED  # it is: only the wish is kept
            self._apply(vm_id, Sight(seen, wanted=Wanted.DOWN))
            return
        is_paused = entry.run.state is VmState.PAUSED
        if is_paused and manner is StopManner.SHUTDOWN:
            raise GuestPaused(f"VM {entry.vm.spec.name} is paused")
        progress.check()
        must_kill = is_paused and self._is_stale(entry)
        asked = Sight(
            Seen.STOP_ASKED, wanted=Wanted.DOWN, correlation_id=correlation_id
        )
        self._apply(vm_id, asked)
        # A paused guest would not hear us.
        has_ended = False
        if manner is not StopManner.FORCE and not is_paused:
            try:
                has_ended = self._shut_down(vm_id, deadline_s, progress)
            except jobs.Cancelled:
                self._apply(vm_id, Sight(Seen.STOP_GIVEN_UP, wanted=Wanted.UP))
                raise
        if not has_ended and manner is StopManner.SHUTDOWN:
            fields = (("deadline_s", round(deadline_s)),)
            given_up = Sight(
                Seen.STOP_GIVEN_UP, fields=fields, correlation_id=correlation_id
            )
            self._apply(vm_id, given_up)
            raise ShutdownIgnored(
                f"the guest of VM {entry.vm.spec.name} did not shut down"
                f" within {deadline_s:g} s",
                deadline_s=deadline_s,
            )
        if not has_ended:
            self._end(vm_id, progress, must_kill=must_kill)
        elapsed_s = self._clock.monotonic() - started
        log.info("VM %s (%s) stopped in %.3f s", vm_id, entry.vm.spec.name, elapsed_s)

    def _shut_down(self, vm_id: VmId, deadline_s: float, progress: Progress) -> bool:
        """Ask the guest to shut down, by its agent and then by ACPI; True: it did."""
        began = self._clock.monotonic()
        progress.step(20, "asking the guest to shut down")
        press_at_s = 0.0  # when to press the power button next
        if self._ask_to_shut_down(vm_id, ShutdownWay.AGENT):
            press_at_s = min(_AGENT_SHARE_S, deadline_s / 2)
        while (elapsed_s := self._clock.monotonic() - began) < deadline_s:
            if elapsed_s >= press_at_s:
                self._ask_to_shut_down(vm_id, ShutdownWay.ACPI)
                press_at_s = elapsed_s + _ACPI_EVERY_S
            wait_s = min(_LOOK_EVERY_S, deadline_s - elapsed_s)
            if self._register.wait(vm_id, _is_down, wait_s):
                return True
            progress.check()
        return _is_down(self._look(vm_id).run)

    def _ask_to_shut_down(self, vm_id: VmId, way: ShutdownWay) -> bool:
        try:
            self._hypervisor.shutdown(vm_id, way)
        except DomainStuck:
            return True  # it heard us; its agent says nothing until the guest ends
        except Error as error:
            log.debug("VM %s was not asked to shut down (%s): %s", vm_id, way, error)
            return False
        return True

    def _end(self, vm_id: VmId, progress: Progress, *, must_kill: bool) -> None:
        """End QEMU by force; one that is killed writes nothing any more."""
        progress.step(80, "ending it by force")
        try:
            self._on_end(self._register.get(vm_id))
        except Conflict:  # a hook forbids it
            self._apply(vm_id, Sight(Seen.STOP_GIVEN_UP, wanted=Wanted.UP))
            self._look(vm_id)
            raise
        try:
            if must_kill:
                end = VmEnd(EndCause.KILLED, rfc3339(self._clock.now()), "SIGKILL")
                self._observer.foretell(vm_id, end)
                self._hypervisor.kill(vm_id)
            else:
                self._hypervisor.destroy(vm_id)
        except DomainMissing:
            log.debug("VM %s ended by itself meanwhile", vm_id)
            self._look(vm_id)
        else:
            self._observer.look(vm_id, "destroyed")
        if not self._register.wait(vm_id, _is_down, _END_WAIT_S):
            entry = self._look(vm_id)
            if not _is_down(entry.run):
                raise StillThere(f"QEMU of VM {entry.vm.spec.name} did not go away")

    def _look(self, vm_id: VmId) -> VmEntry:
        return self._observer.look(vm_id) or self._register.get(vm_id)

    def _apply(self, vm_id: VmId, sight: Sight) -> VmEntry:
        return self._register.apply(vm_id, sight) or self._register.get(vm_id)


def _is_down(run: VmRun) -> bool:
    return run.state is VmState.DOWN
