"""Tell hooks what became of VMs: paused, gone on, suspended, ended.

By what the register says, whoever or whatever did it: a VM that is paused by its disk's
error is paused, and one that goes on afterwards goes on. Starts are told by who starts.
A thread of its own asks libvirt: nobody waits for that.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Final

from node.contract.hooks import Hooks
from node.errors import Error
from node.model.hooks import HookPoint
from node.model.ids import VmId
from node.model.vm import EndCause, VmEntry, VmState
from node.system.hypervisor import Hypervisor
from node.vm import device_hooks, pausing, states
from node.vm.files import VmFiles

log = logging.getLogger(__name__)

_RUNS: Final = frozenset({VmState.POWERING_UP, VmState.UP, VmState.REBOOTING})


class Teller:
    """Turns changes of runs into hook points."""

    def __init__(self, hooks: Hooks, hypervisor: Hypervisor, files: VmFiles) -> None:
        self._hooks = hooks
        self._hypervisor = hypervisor
        self._files = files
        self._lock = threading.Lock()
        self._turns: queue.SimpleQueue[tuple[VmEntry, VmEntry] | None]
        self._turns = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="hooks", daemon=True)
        self._rests: set[VmId] = set()  # who was told to be paused
        self._goes: set[VmId] = set()  # whose end was told before it came

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Tell what is left to tell, and end."""
        self._turns.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def take(self, before: VmEntry, after: VmEntry) -> None:
        """Take a change of a VM's run, in the order of changes; returns at once."""
        was, now = before.run, after.run
        if (was.state, was.reason) != (now.state, now.reason):
            self._turns.put((before, after))

    def end(self, entry: VmEntry) -> None:
        """Tell that a VM is about to be ended by force; HookFailed of its cards."""
        describe = self._describe(entry)
        cards = HookPoint.BEFORE_DEVICE_DESTROY
        device_hooks.ask(self._hooks, cards, entry.vm, describe)
        with self._lock:
            self._goes.add(entry.vm.spec.vm_id)
        self._hooks.tell(HookPoint.BEFORE_VM_DESTROY, entry.vm, self._describe(entry))

    def _run(self) -> None:
        while (turn := self._turns.get()) is not None:
            before, after = turn
            for point in self._points(before, after):
                try:
                    self._tell(point, after)
                except Exception:  # a bug must not end what all others are told
                    log.exception("hooks of %s are not told", point)

    def _tell(self, point: HookPoint, entry: VmEntry) -> None:
        describe = self._describe(entry)
        self._hooks.tell(point, entry.vm, describe)
        if point is HookPoint.AFTER_VM_DESTROY:
            gone = HookPoint.AFTER_DEVICE_DESTROY
            device_hooks.tell(self._hooks, gone, entry.vm, describe)

    def _points(self, before: VmEntry, after: VmEntry) -> tuple[HookPoint, ...]:
        vm_id, was, now = after.vm.spec.vm_id, before.run.state, after.run.state
        with self._lock:
            if now is VmState.DOWN and states.is_active(was):
                self._rests.discard(vm_id)
                is_told = vm_id in self._goes
                self._goes.discard(vm_id)
                return _ends(after, is_told=is_told)
            if pausing.is_meant(after) and vm_id not in self._rests:
                self._rests.add(vm_id)
                return (HookPoint.AFTER_VM_PAUSE,)
            if now in _RUNS and vm_id in self._rests:
                self._rests.discard(vm_id)
                return (HookPoint.AFTER_VM_CONT,)
        return ()

    def _describe(self, entry: VmEntry) -> Callable[[], str]:
        vm_id = entry.vm.spec.vm_id

        def describe() -> str:
            if states.is_active(entry.run.state):
                try:
                    return self._hypervisor.observe(vm_id).xml
                except Error as error:
                    log.debug("VM %s: %s", vm_id, error)
            return self._files.read_domain(vm_id)

        return describe


def _ends(entry: VmEntry, *, is_told: bool) -> tuple[HookPoint, ...]:
    """Return what the end of a run is. Pure."""
    end = entry.run.end
    points = [HookPoint.AFTER_VM_DESTROY]
    if not is_told:
        points.insert(0, HookPoint.BEFORE_VM_DESTROY)
    if end is not None and end.cause is EndCause.SUSPENDED:
        points.insert(0, HookPoint.AFTER_VM_HIBERNATE)
    return tuple(points)
