"""Ask guests who they are: addresses, name, operating system.

A guest that has just started is asked often, so that its address is seen soon;
one that has answered, or has had its time, is asked now and then. A few threads
ask; a guest that does not answer holds one of them for two seconds.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from node.clock import Clock, rfc3339
from node.errors import Error
from node.guest import qga
from node.model.ids import VmId
from node.model.vm import GuestFacts
from node.system.hypervisor import Hypervisor

log = logging.getLogger(__name__)

EAGER_S = 1.0  # until the first answer
CALM_S = 10.0
_THREADS = 3  # less than the line to the hypervisor takes at once
_TICK_S = 0.25


def ask(hypervisor: Hypervisor, vm_id: VmId, at: str) -> GuestFacts:
    """Return what the guest says; GuestSilent and the like if it says nothing.

    Name and system may be missing: old agents do not know the question.
    """
    addresses = qga.read_addresses(hypervisor.ask_guest(vm_id, qga.INTERFACES))
    return GuestFacts(
        at,
        qga.read_host_name(_try(hypervisor, vm_id, qga.HOST_NAME)),
        qga.read_os(_try(hypervisor, vm_id, qga.OS)),
        addresses,
    )


def _try(hypervisor: Hypervisor, vm_id: VmId, command: str) -> object:
    try:
        return hypervisor.ask_guest(vm_id, command)
    except Error as error:
        log.debug("guest %s does not answer %s: %s", vm_id, command, error)
        return None


class GuestPoller:
    """Asks every running guest in turn, and passes on what it says.

    `guests` are those that could answer; True: it started lately and has not yet.
    `on_silent` is told of each that does not, in the thread that asked it.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        clock: Clock,
        guests: Callable[[], Mapping[VmId, bool]],
        on_facts: Callable[[VmId, GuestFacts], None],
        on_silent: Callable[[VmId], None],
    ) -> None:
        self._hypervisor = hypervisor
        self._clock = clock
        self._guests = guests
        self._on_facts = on_facts
        self._on_silent = on_silent
        self._asked: dict[VmId, float] = {}  # when, monotonic
        self._being_asked: set[VmId] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(_THREADS, "guest")
        self._thread = threading.Thread(target=self._loop, name="guests", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def poke(self, vm_id: VmId) -> None:
        """Ask this guest at once: its agent has just come up."""
        with self._lock:
            self._asked.pop(vm_id, None)

    def poll(self) -> int:
        """Ask every guest whose time has come; return how many that are."""
        now = self._clock.monotonic()
        guests = self._guests()
        with self._lock:
            self._asked = {
                vm_id: at for vm_id, at in self._asked.items() if vm_id in guests
            }
            due = [
                vm_id
                for vm_id, is_awaited in guests.items()
                if vm_id not in self._being_asked
                and now - self._asked.get(vm_id, -CALM_S)
                >= (EAGER_S if is_awaited else CALM_S)
            ]
            self._being_asked.update(due)
            self._asked.update(dict.fromkeys(due, now))
        for vm_id in due:
            self._pool.submit(self._ask, vm_id)
        return len(due)

    def _ask(self, vm_id: VmId) -> None:
        try:
            said = ask(self._hypervisor, vm_id, rfc3339(self._clock.now()))
        except Error as error:
            log.debug("guest %s says nothing: %s", vm_id, error)
            self._on_silent(vm_id)
            return
        finally:
            with self._lock:
                self._being_asked.discard(vm_id)
        try:
            self._on_facts(vm_id, said)
        except Error as error:
            log.warning("what guest %s says cannot be kept: %s", vm_id, error)

    def _loop(self) -> None:
        while not self._stop.wait(_TICK_S):
            self.poll()
