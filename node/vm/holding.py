"""Let a guest stand still while it is decided which volume it writes to.

It is paused here, so nobody else starts it, and goes on when what lies on the storage
tells where its newest data are: the definition names what it writes to, or the volume
that the definition names is marked as left for good. A VM that was paused by somebody
stays so.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from node.contract import snapshots
from node.contract.volumes import Volumes
from node.errors import Conflict, Error
from node.jobs import Cancelled, Progress
from node.model.ids import CorrelationId, NodeId, VmId
from node.model.vm import Vm, VmEntry, VmState, Wanted
from node.system.hypervisor import DomainMissing, Hypervisor
from node.vm import states
from node.vm.certainty import MergeUnmarked
from node.vm.pausing import NotPaused, Pauser
from node.vm.register import Sight, VmRegister
from node.vm.states import Seen

log = logging.getLogger(__name__)

# Who ends a journal has tried three times by then.
_RELEASE_LOOKS: Final = 30
_RELEASE_LOOK_S: Final = 2.0
# A memory takes seconds to minutes, a start about one.
_TURN_LOOK_S: Final = 1.0
# libvirt's line for memories has four places: one is left for a guest that goes on.
WRITERS: Final = 3


class BeingSuspended(Conflict):
    """The VM is being suspended: its snapshots wait for that, if they have begun."""

    code = "vm_being_suspended"
    remedy = "Wait until the suspension has ended, or cancel its job; then try again."


class Lookout(Protocol):
    """Who looks at VMs and knows them; `node.vm.lifecycle` does."""

    def look_first(self, vm_id: VmId, progress: Progress) -> VmEntry: ...

    def check_generation(self, vm_id: VmId, generation: int | None) -> None: ...

    def adopt(self, vm: Vm) -> VmEntry: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """One job at work on a VM."""

    vm_id: VmId
    progress: Progress
    correlation_id: CorrelationId | None
    data_node_id: NodeId | None = None  # moves its data; None: the pool chooses


@dataclass(frozen=True, slots=True)
class Holder:
    """The guests that run here."""

    hypervisor: Hypervisor
    register: VmRegister
    lookout: Lookout
    pauser: Pauser
    volumes: Volumes
    # Who has one may let libvirt write a memory.
    writers: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(WRITERS)
    )

    def newest(self, piece: Piece) -> tuple[VmEntry, Vm]:
        """Return how a VM is here, and its definition as it lies on the storage."""
        vm = self.volumes.find(piece.vm_id)
        if vm is None:
            raise snapshots.DefinitionChanged(f"VM {piece.vm_id} was deleted")
        self.lookout.adopt(vm)
        return self.lookout.look_first(piece.vm_id, piece.progress), vm

    def is_down(self, vm: Vm) -> bool:
        """Tell whether no node runs a VM: not this one, and nobody has its lease."""
        if self.register.is_active(vm.spec.vm_id):
            return False
        is_alone = self.volumes.lease(vm) is None
        return is_alone or not self.volumes.read_lease(vm).is_held

    @contextlib.contextmanager
    def still(self, piece: Piece) -> Iterator[int | None]:
        """Let a VM stand still; what is wanted of it stays. Nobody resumes it within.

        Yield the version in which this node has its lease; None: it has none. It
        stands still afterwards, until it is let go. DomainMissing: it has ended, and
        its lease is free for who does the rest.
        """
        vm_id = piece.vm_id
        with self.pauser.turn(vm_id):
            entry = self.lookout.look_first(vm_id, piece.progress)
            if entry.run.state is not VmState.PAUSED:
                self._pause(vm_id)
            try:
                version = self.pauser.keep(vm_id)
            except NotPaused:
                self._pause(vm_id)  # a stop by force waits for nobody's turn
                version = self.pauser.keep(vm_id)
            try:
                yield version
            except DomainMissing:
                self.volumes.unpark(vm_id)
                raise

    def is_over(self, vm_id: VmId) -> bool:
        """Tell whether a VM that stood still has ended; then its lease is free."""
        with self.pauser.turn(vm_id):
            if self.register.is_active(vm_id):  # or it starts again
                return False
            self.volumes.unpark(vm_id)
        return True

    def let_go(self, piece: Piece) -> bool:
        """Let a VM go on that is held, unless it has turned past its definition.

        Also when the agent was killed after it had been held. False: it has to wait.
        """
        entry, _ = self.newest(piece)
        is_held = entry.run.state is VmState.PAUSED and entry.vm.wanted is Wanted.UP
        if not is_held:
            return True
        try:
            self.pauser.resume(piece.vm_id, piece.correlation_id)
        except MergeUnmarked:
            return False
        return True

    def may_go_on(self, piece: Piece) -> bool:
        """Let a VM go on that is held; False: it has to wait, or none can tell."""
        try:
            return self.let_go(piece)
        except Error as error:
            log.info("VM %s is still held: %s", piece.vm_id, error)
            return False

    def check_not_suspending(self, vm_id: VmId) -> None:
        """Refuse what would wait for a suspension on this node; BeingSuspended."""
        job_id = self.register.find_job(vm_id, "vm_suspend")
        if job_id is not None:
            raise BeingSuspended(
                f"VM {vm_id} is being suspended by job {job_id}",
                vm_id=vm_id,
                job_id=job_id,
            )

    def outwait(self, piece: Piece) -> None:
        """Wait until nobody suspends or starts the VM: it is down, or its guest runs.

        Neither waits for anybody, and a suspension refuses what it meets. What has
        begun must end, so it waits; what has not is refused. Cancelled.
        """
        piece.progress.check()
        while self.register.has_job(piece.vm_id, "vm_suspend"):
            piece.progress.step(10, "waits: the VM is being suspended")
            piece.progress.pause(_TURN_LOOK_S)
        while self._is_starting(piece.vm_id):
            piece.progress.step(10, "waits: the VM is being started")
            piece.progress.pause(_TURN_LOOK_S)

    def wait(self, piece: Piece, seconds: float) -> None:
        """Wait a little for what must be done also when the job is cancelled."""
        with contextlib.suppress(Cancelled):
            piece.progress.check()
        self.register.wait(piece.vm_id, lambda _: False, seconds)

    def release(self, piece: Piece) -> None:
        """Let a VM that is held go on after an error, as soon as it may.

        The definition is written by who ends the journal, or it never names the other
        volume; until one of both is certain nothing may be written.
        """
        for _ in range(_RELEASE_LOOKS):
            if self.may_go_on(piece):
                return
            self.wait(piece, _RELEASE_LOOK_S)
        log.error("VM %s stays paused: delete its snapshot again", piece.vm_id)

    def _is_starting(self, vm_id: VmId) -> bool:
        entry = self.register.find(vm_id)
        return entry is not None and entry.run.state is VmState.STARTING

    def _pause(self, vm_id: VmId) -> None:
        self.hypervisor.suspend(vm_id)
        self.register.apply(vm_id, Sight(Seen.PAUSED), only_if=_is_active)


def _is_active(entry: VmEntry) -> bool:
    return states.is_active(entry.run.state)
