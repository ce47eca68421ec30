"""Suspend VMs whose disks lie on a pool: their memory is kept, and no QEMU runs.

Three parts, as a snapshot of a VM that runs elsewhere has (`SnapshotPart`); one node
does all of them if it manages the pool and runs the VM:

    begin    the manager notes a disk for the memory in the definition, and makes it
    guest    the guest stands still, this node has its lease; libvirt writes the
             memory and ends QEMU; the memory is marked as saved
    finish   the manager lets the definition say so, or removes what is not whole

Each looks first, so all may be done again. A guest whose memory was not kept goes on,
also when the job is cancelled, as a forced stop does: libvirt gives up what it writes.
If the agent stops while libvirt is at it, the end in QEMU's log tells whether it came
to its end, and the lease whether the VM has run since. How a suspended VM goes on is
in `starting`. Whoever asks no more: the manager finishes when it reads definitions.
"""

import contextlib
import functools
import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from node import jobs, wire
from node.clock import Clock, parse_rfc3339, rfc3339
from node.contract import snapshots
from node.contract.memories import Memories, MemoryMark
from node.contract.volumes import STALE_LEASE, VmHasLease, Volumes
from node.errors import Busy, Conflict, Error, Failed
from node.jobs import Jobs, Progress
from node.model.feed import Kind
from node.model.hooks import HookPoint
from node.model.ids import DiskId, VmId
from node.model.job import Job
from node.model.storage_requests import SnapshotPart, SuspendVm
from node.model.vm import EndCause, Vm, VmEnd, VmEntry, VmMemory, VmState, Wanted
from node.system.hypervisor import DomainMissing, DomainRefused
from node.vm import live_disks, memory_writing, states
from node.vm.holding import Holder, Piece
from node.vm.register import Sight
from node.vm.states import Seen

log = logging.getLogger(__name__)

# A storage that fails for a while: the memory is whole, but nobody may know yet.
_MARK_AGAIN_S: Final = 2.0
# The manager's jobs on disks wait for one another.
_DISK_TRIES: Final = 60
_DISK_AGAIN_S: Final = 1.0
# What fills a memory, and goes on with one that it has begun after a restart.
_AT_WORK: Final = ("vm_suspend", "vm_snapshot_preview")


class NotSuspended(Failed):
    """The VM's memory was not kept: its guest goes on, or had ended before."""

    code = "vm_not_suspended"
    remedy = "Look at the VM and the log of its node, then suspend it again."


class GuestNotResumed(Conflict):
    """The guest was restored from its memory, and has not gone on since."""

    code = "vm_not_resumed"
    remedy = "Resume the VM, then suspend it; or stop it by force: it stays suspended."


class Hibernator:
    """The suspended VMs of this node. Any thread may call."""

    def __init__(
        self,
        holder: Holder,
        check_manager: Callable[[Vm], None],
        job_queue: Jobs,
        clock: Clock,
    ) -> None:
        self._holder = holder
        self._check_manager = check_manager
        self._jobs = job_queue
        self._clock = clock

    @property
    def _volumes(self) -> Volumes:
        return self._holder.volumes

    @property
    def _memories(self) -> Memories:
        return self._volumes.memories

    @property
    def writers(self) -> threading.BoundedSemaphore:
        """Return the places of those who let libvirt write a memory."""
        return self._holder.writers

    def suspend(self, vm_id: VmId, request: SuspendVm) -> Job:
        """Keep a guest's memory, and end its QEMU; one that is suspended stays so.

        NotSpm, StaleGeneration.
        """
        vm = self._holder.register.get(vm_id).vm
        if request.part is not SnapshotPart.GUEST:
            self._check_manager(vm)
            self._holder.lookout.check_generation(vm_id, request.generation)
        kept = wire.to_json({"vm_id": vm_id, "part": request.part})
        if request.correlation_id is not None:
            kept["correlation_id"] = request.correlation_id
        return self._jobs.submit(
            "vm_suspend",
            Kind.VM,
            vm_id,
            lambda progress: self._run(kept, progress),
            job_id=request.job_id,
            correlation_id=request.correlation_id,
            arguments=kept,
        )

    def job_handlers(self) -> Mapping[str, jobs.Handler]:
        """Return what runs an unfinished job of ours again, by verb."""
        return {"vm_suspend": self._again}

    def tend(self, vms: Iterable[Vm]) -> None:
        """Finish, as the manager, what was saved, used, or given up."""
        for vm in vms:
            if vm.memory is not None and not self._is_at_work(vm):
                try:
                    self._holder.lookout.adopt(self._memories.settle(vm))
                except Conflict as error:
                    log.debug("VM %s: its memory: %s", vm.spec.vm_id, error)
                except Error as error:
                    log.info("VM %s: its memory: %s", vm.spec.vm_id, error)

    def _is_at_work(self, vm: Vm) -> bool:
        vm_id, register = vm.spec.vm_id, self._holder.register
        return any(register.has_job(vm_id, each) for each in _AT_WORK)

    def _again(self, job: Job, arguments: wire.Json) -> jobs.Runner:
        def run(progress: Progress) -> None:
            piece = _piece(arguments, progress)
            vm = self._holder.register.get(piece.vm_id).vm
            # Cancelled or not: its guest may stand still, and libvirt be at it.
            wait = functools.partial(self._holder.wait, piece)
            self._volumes.wait_for_pool(vm.spec.pool_id, wait)
            self._run(arguments, progress)

        return run

    def _run(self, arguments: wire.Json, progress: Progress) -> None:
        piece = _piece(arguments, progress)
        part = SnapshotPart(arguments["part"])
        entry, vm = self._holder.newest(piece)
        is_whole = part is SnapshotPart.WHOLE and states.is_active(entry.run.state)
        if is_whole or part is SnapshotPart.BEGIN:
            vm = self.prepare(piece)
        if part is not SnapshotPart.BEGIN and part is not SnapshotPart.FINISH:
            self._save(piece, entry, vm)
        if part is not SnapshotPart.BEGIN and part is not SnapshotPart.GUEST:
            self._finish(piece)

    def prepare(self, piece: Piece) -> Vm:
        """Make a place for a guest's memory, as the manager; return what names it."""
        piece.progress.step(10, "making a place for its memory")
        wanted = disk_id(piece)
        return self._patiently(
            piece, lambda newest: self._memories.prepare(newest, wanted)
        )

    def settle(self, piece: Piece) -> Vm:
        """Let the definition say, as the manager, what has become of the memory."""
        return self._patiently(piece, self._memories.settle)

    def remove(self, piece: Piece, memory: VmMemory) -> None:
        """Remove the memory of a snapshot, as the manager. Idempotent."""

        def act(newest: Vm) -> Vm:
            self._memories.remove(memory)
            return newest

        self._patiently(piece, act)

    def _patiently(self, piece: Piece, act: Callable[[Vm], Vm]) -> Vm:
        """Change the definition, in spite of jobs on disks that take their time."""
        for attempt in range(1, _DISK_TRIES + 1):
            _, vm = self._holder.newest(piece)
            try:
                after = act(vm)
            except VmHasLease:
                raise
            except Busy as error:
                if attempt == _DISK_TRIES:
                    raise
                piece.progress.step(20, error.message)
                self._holder.wait(piece, _DISK_AGAIN_S)
            else:
                break
        self._holder.lookout.adopt(after)
        return after

    def _finish(self, piece: Piece) -> None:
        vm = self.settle(piece)
        if vm.memory is None or not vm.memory.is_saved:
            raise NotSuspended(
                f"the memory of VM {vm.spec.name} was not kept", vm_id=piece.vm_id
            )

    def _save(self, piece: Piece, entry: VmEntry, vm: Vm) -> None:
        """Write the memory of a guest that runs here; or see that it is written."""
        if vm.memory is None:
            return
        if not states.is_active(entry.run.state):
            self._confirm(piece, vm)
            return
        mark = self._memories.look(vm)
        if mark is MemoryMark.SAVED:
            raise GuestNotResumed(
                f"the start of VM {vm.spec.name} has not ended", vm_id=piece.vm_id
            )
        if mark is MemoryMark.USED:
            return
        path = str(self._memories.path(vm))
        try:
            if entry.run.state is not VmState.PAUSED:
                piece.progress.check()  # else libvirt may be at it: it is to be aborted
                self._holder.pauser.ask(HookPoint.BEFORE_VM_HIBERNATE, vm)
                snapshots.check_complete(vm)  # one that is being taken needs its guest
                live_disks.check_unmerged(self._holder.hypervisor, vm.spec)
            piece.progress.step(30, "writing its memory")
            with (
                memory_writing.place(self._holder, piece),
                self._holder.still(piece) as version,
            ):
                self._write(piece, path)
                if self._has_ended_saved(piece):
                    self._mark(piece, vm, version)
        except (jobs.AgentStopping, DomainMissing):
            raise
        except Exception as error:
            self._give_up(piece, vm)
            self._holder.release(piece)
            if isinstance(error, DomainRefused):  # a merge began after the look
                live_disks.check_unmerged(self._holder.hypervisor, vm.spec)
            raise

    def _give_up(self, piece: Piece, vm: Vm) -> None:
        """Say that nobody fills the memory, so that the manager removes it.

        Whoever has the VM's lease may say so: its guest is held, and has to be let go.
        """
        try:
            if self._memories.look(vm) is MemoryMark.BLANK:
                with self._holder.still(piece) as version:
                    self._memories.use(vm, version)
        except Error as error:
            log.info("VM %s: its memory is removed later: %s", piece.vm_id, error)

    def _write(self, piece: Piece, path: str) -> None:
        save = functools.partial(self._holder.hypervisor.save, piece.vm_id, path)
        # How one ended that is gone is looked at.
        with contextlib.suppress(DomainMissing):
            memory_writing.write(self._holder, piece, save)

    def _confirm(self, piece: Piece, vm: Vm) -> None:
        """Mark what was written while no agent was there, unless the VM ran since."""
        with self._holder.pauser.turn(piece.vm_id):
            if not self._has_ended_saved(piece):
                return
            if self._memories.look(vm) is not MemoryMark.BLANK:
                self._leave(piece)
                return
            version = None
            if self._volumes.lease(vm) is not None:
                run = self._holder.register.get(piece.vm_id).run
                version = self._volumes.park(vm, run.lease_version)
            self._mark(piece, vm, version)

    def _has_ended_saved(self, piece: Piece) -> bool:
        run = self._holder.lookout.look_first(piece.vm_id, piece.progress).run
        is_down = not states.is_active(run.state)
        if not is_down or run.end is None or run.end.cause is not EndCause.SUSPENDED:
            return False
        # Not an earlier run's: what was made since would be taken for its memory.
        asked_at = parse_rfc3339(piece.progress.job.created_at)
        return parse_rfc3339(run.end.at) >= asked_at

    def _mark(self, piece: Piece, vm: Vm, version: int | None) -> None:
        """Mark a memory as saved, however long the storage fails.

        Until then this node keeps the lease, and nobody takes the memory for blank.
        """
        while True:
            try:
                self._memories.save(vm, version)
            except Conflict as error:
                version = self._have_again(piece, vm, version, error)
            except Error as error:
                log.info("VM %s is not suspended yet: %s", piece.vm_id, error)
                self._holder.wait(piece, _MARK_AGAIN_S)
            else:
                break
        self._leave(piece)

    def _have_again(
        self, piece: Piece, vm: Vm, version: int | None, refusal: Conflict
    ) -> int:
        """Have the lease that went with the storage process, unless it has moved on."""
        while True:
            try:
                if version is None or refusal.code != STALE_LEASE:
                    raise refusal
                again = self._volumes.park(vm, version)
                if again == version:  # it was held all the time
                    raise refusal
            except Conflict as error:
                self._lose(piece, error)
                raise
            except Error as error:
                log.info("VM %s is not suspended yet: %s", piece.vm_id, error)
                self._holder.wait(piece, _MARK_AGAIN_S)
            else:
                return again

    def _lose(self, piece: Piece, error: Error) -> None:
        """Say that a guest ended, and that its memory was not kept."""
        detail = f"its memory was written, and is not kept: {error}"
        end = VmEnd(EndCause.CRASHED, rfc3339(self._clock.now()), detail)
        lost = Sight(Seen.MEMORY_LOST, end=end, detail=detail, event="vm_crashed")
        self._holder.register.apply(piece.vm_id, lost)

    def _leave(self, piece: Piece) -> None:
        """Let the VM be down, and any node start it."""
        down = Sight(
            Seen.ENDED, wanted=Wanted.DOWN, correlation_id=piece.correlation_id
        )
        self._holder.register.apply(piece.vm_id, down)
        self._volumes.unpark(piece.vm_id)


def disk_id(piece: Piece) -> DiskId:
    """Return the disk that keeps a memory: another one for each job."""
    name = f"memory by {piece.progress.job.job_id}"
    return DiskId(str(uuid.uuid5(uuid.UUID(piece.vm_id), name)))


def _piece(arguments: wire.Json, progress: Progress) -> Piece:
    correlation_id = arguments.get("correlation_id")
    return Piece(VmId(arguments["vm_id"]), progress, correlation_id)
