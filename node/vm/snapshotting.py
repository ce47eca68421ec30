"""Take snapshots of VMs whose disks lie on a pool, go back to them, merge them.

A verb checks and makes a job, which can be run again after the agent was killed: the
definition on the storage tells what has happened (`node.contract.snapshots`), libvirt
what a guest that runs writes to. Nobody starts the VM while its disks change: its lease
is held here, or it runs here.

A guest that runs gets its snapshot in three steps:

    new leaves, and the definition names them    the snapshot is locked
    libvirt turns the guest to them              the guest's data go on from there
    the definition says that it is complete

Whatever ends it in between, who starts with the definition's leaves finds all data:
they are blank, or the newest. What libvirt refuses is taken back. The memory of a guest
goes to a disk that is made before (`snapshot_memories`).
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from node import jobs, wire
from node.clock import Clock, rfc3339
from node.contract import snapshots
from node.contract.snapshots import Act, Change, Leaf
from node.contract.volumes import VmRunsElsewhere, Volumes, check_awake
from node.errors import Failed, Unavailable
from node.jobs import Jobs, Progress
from node.model.feed import Kind
from node.model.ids import DiskId, SnapshotId, VmId, VolumeId
from node.model.job import Job
from node.model.storage import SnapshotKind, SnapshotState
from node.model.storage_requests import (
    ActOnSnapshot,
    CreateSnapshot,
    DeleteSnapshot,
    PreviewSnapshot,
    SnapshotList,
    SnapshotPart,
)
from node.model.vm import Disk, Snapshot, SnapshotDisk, Vm, VmEntry
from node.store import Store
from node.system.hypervisor import DomainMissing
from node.vm import snapshot_checks, states
from node.vm.guest_parts import GuestParts
from node.vm.hibernating import Hibernator
from node.vm.holding import Holder, Lookout, Piece
from node.vm.live_disks import REFUSALS, LiveDisks
from node.vm.pausing import Pauser
from node.vm.previewing import Previews
from node.vm.register import VmRegister
from node.vm.snapshot_changes import VmChanges
from node.vm.snapshot_memories import SnapshotMemories
from node.vm.snapshot_tending import Tender
from node.vm.snapshot_writing import SnapshotWriter

log = logging.getLogger(__name__)

Request = CreateSnapshot | DeleteSnapshot | PreviewSnapshot | ActOnSnapshot
_OF_GUEST: Final = ("snapshot_id", "part", "has_memory")
_OF_PREVIEW: Final = ("snapshot_id", "disk_ids", "has_memory")
# A storage that is full, or fails for a moment: the guest stands still until then.
_NAME_AGAIN_S: Final = 2.0


class SnapshotRefused(Failed):
    """QEMU would not turn the guest to the snapshot's new volumes."""

    code = "snapshot_refused"
    remedy = "See what the log of the VM's node says, then take another snapshot."


class Snapshotter:
    """The snapshots of this node's VMs. Any thread may call."""

    def __init__(
        self,
        live: LiveDisks,
        register: VmRegister,
        lookout: Lookout,
        pauser: Pauser,
        volumes: Volumes,
        changes: VmChanges,
        store: Store,
        job_queue: Jobs,
        clock: Clock,
    ) -> None:
        self._live = live
        self._holder = Holder(live.hypervisor, register, lookout, pauser, volumes)
        self._guests = GuestParts(self._live, self._holder, changes)
        self.hibernator = Hibernator(
            self._holder, changes.check_manager, job_queue, clock
        )
        self._memories = SnapshotMemories(self._holder, self.hibernator)
        self._writer = SnapshotWriter(self._holder, changes, store)
        previews = Previews(self._holder, self._memories, self._writer)
        self._tender = Tender(
            changes.is_closed, self._holder.is_down, self._finish_left, clock
        )
        self._register = register
        self._lookout = lookout
        self._volumes = volumes
        self._changes = changes
        self._jobs = job_queue
        self._clock = clock
        self._works: Mapping[str, Callable[[Piece, wire.Json], None]] = {
            "vm_snapshot_create": self._create,
            "vm_snapshot_delete": self._delete,
            "vm_snapshot_preview": previews.begin,
            "vm_snapshot_commit": previews.commit,
            "vm_snapshot_undo": previews.undo,
        }

    # verbs

    def list(self, vm_id: VmId) -> SnapshotList:
        return SnapshotList(self._register.get(vm_id).vm.snapshots)

    def create(self, vm_id: VmId, request: CreateSnapshot) -> Job:
        """Keep all disks of a VM as they are now."""
        if request.part is SnapshotPart.GUEST:
            return self._ask_guest("vm_snapshot_create", vm_id, request)
        vm = self._check(vm_id, request)
        snapshot_checks.check_id(request.snapshot_id)
        snapshot_checks.check_description(request.description)
        is_running = states.is_active(self._register.get(vm_id).run.state)
        is_running |= request.part is SnapshotPart.BEGIN  # on another node
        keeps_memory = request.has_memory and is_running
        if snapshots.find(vm, request.snapshot_id) is None:
            snapshots.check_settled(vm)
            snapshots.check_complete(vm)
            self._holder.check_not_suspending(vm_id)
            if len(vm.snapshots) >= snapshots.SNAPSHOTS_MAX:
                raise snapshots.TooManySnapshots(
                    f"VM {vm.spec.name} has {len(vm.snapshots)} snapshots"
                )
            snapshot_checks.chosen(vm, request.disk_ids, has_memory=keeps_memory)
        asked = {
            "snapshot_id": request.snapshot_id,
            "description": request.description,
            "disk_ids": request.disk_ids,
            "created_at": rfc3339(self._clock.now()),
            "part": request.part,
            "is_consistent": request.is_consistent,
            "has_memory": keeps_memory,
        }
        return self._submit("vm_snapshot_create", vm_id, request, asked)

    def delete(self, vm_id: VmId, request: DeleteSnapshot) -> Job:
        """Merge a snapshot into what came after it; one that is gone stays gone."""
        if request.part is SnapshotPart.GUEST:
            return self._ask_guest("vm_snapshot_delete", vm_id, request)
        vm, snapshot_id = self._check(vm_id, request), request.snapshot_id
        snapshots.check_settled(vm)
        snapshots.check_complete(vm)
        self._changes.check_data_node(vm.spec.pool_id, request.data_node_id)
        known = snapshots.find(vm, snapshot_id)
        if known is not None and known.state is SnapshotState.OK:
            self._holder.check_not_suspending(vm_id)
        asked = {
            "snapshot_id": snapshot_id,
            "part": request.part,
            "data_node_id": request.data_node_id,
        }
        # It may last for hours: the VM's own jobs do not wait for it.
        first = known.disks[0].disk_id if known is not None and known.disks else vm_id
        on = (Kind.DISK, str(first))
        return self._submit("vm_snapshot_delete", vm_id, request, asked, on)

    def preview(self, vm_id: VmId, request: PreviewSnapshot) -> Job:
        """Let a VM that is down go back to a snapshot, to look at it."""
        vm = self._check(vm_id, request)
        snapshot = snapshots.get(vm, request.snapshot_id)
        if not snapshots.previews(vm, request.snapshot_id):
            snapshots.check_settled(vm)
            snapshots.check_complete(vm)
            if request.has_memory:
                snapshot_checks.check_memory(vm, snapshot, request.disk_ids)
        snapshot_checks.check_whole(snapshot)
        asked = {each: getattr(request, each) for each in _OF_PREVIEW}
        return self._submit("vm_snapshot_preview", vm_id, request, asked)

    def commit(self, vm_id: VmId, request: ActOnSnapshot) -> Job:
        """Stay with what is previewed; what came after the snapshot is lost."""
        return self._end_preview("vm_snapshot_commit", vm_id, request)

    def undo(self, vm_id: VmId, request: ActOnSnapshot) -> Job:
        """End a preview: the VM is as it was before."""
        return self._end_preview("vm_snapshot_undo", vm_id, request)

    def tend(self, vms: Iterable[Vm]) -> None:
        """End, as the manager, what guests' nodes have done and nobody asked for."""
        known = tuple(vms)
        self._tender.tend(known)
        self.hibernator.tend(known)

    def job_handlers(self) -> Mapping[str, jobs.Handler]:
        """Return what runs an unfinished job of ours again, by verb."""
        ours = dict.fromkeys(self._works, self._again)
        return {**ours, **self.hibernator.job_handlers()}

    # jobs

    def _create(self, piece: Piece, asked: wire.Json) -> None:
        snapshot_id, part = SnapshotId(asked["snapshot_id"]), _part(asked)
        if part is SnapshotPart.GUEST:
            self._guests.take(piece, snapshot_id)
            return
        entry, vm = self._holder.newest(piece)
        known = snapshots.find(vm, snapshot_id)
        if known is not None and known.state is not SnapshotState.LOCKED:
            return
        if known is None:
            snapshots.check_complete(vm)
            check_awake(self._volumes, vm)
        elif self._guests.is_refused(vm, known):
            self._retract(piece, asked, vm)
        if part is SnapshotPart.BEGIN:
            self._take(piece, vm, asked, is_running=True)
            return
        if part is SnapshotPart.FINISH and known is not None:
            is_consistent = bool(asked.get("is_consistent"))
            self._finish(piece, vm, snapshot_id, is_consistent=is_consistent)
        elif states.is_active(entry.run.state):
            taken = self._take(piece, vm, asked, is_running=True)
            self._turn(piece, entry, taken, snapshot_id)
        else:
            hold = self._changes.holding if known is None else self._volumes.holding_any
            with hold(vm):
                self._take_down(piece, vm, asked)
        self._writer.tell("snapshot_created", piece, snapshot_id, asked["description"])

    def _take_down(self, piece: Piece, vm: Vm, asked: wire.Json) -> None:
        """Keep the disks of a VM that is down, also if it ended meanwhile."""
        snapshot_id = SnapshotId(asked["snapshot_id"])
        if snapshots.find(vm, snapshot_id) is None:
            self._take(piece, vm, asked, is_running=False)
        else:
            # Nothing was written since the definition names the new leaves.
            self._finish(piece, vm, snapshot_id, is_consistent=False)

    def _retract(self, piece: Piece, asked: wire.Json, vm: Vm) -> None:
        """Let a snapshot go whose guest did not turn; raise SnapshotRefused."""
        self._delete(piece, asked, is_told=False)
        raise SnapshotRefused(
            f"QEMU of VM {vm.spec.name} did not turn to the new volumes",
            vm_id=piece.vm_id,
        )

    def _take(self, piece: Piece, vm: Vm, asked: wire.Json, *, is_running: bool) -> Vm:
        """Make new leaves, and let the definition name them."""
        snapshot_id = SnapshotId(asked["snapshot_id"])
        if snapshots.find(vm, snapshot_id) is not None:
            return vm
        keeps_memory = is_running and asked.get("has_memory")
        if keeps_memory:
            vm = self.hibernator.prepare(piece)
        disks = snapshot_checks.chosen(vm, asked["disk_ids"])
        now = {disk.disk_id: self._leaf(disk) for disk in disks}
        snapshot = Snapshot(
            snapshot_id,
            vm.spec.vm_id,
            SnapshotKind.REGULAR,
            SnapshotState.LOCKED if is_running else SnapshotState.OK,
            asked["created_at"],
            asked["description"],
            disks=tuple(SnapshotDisk(*each) for each in now.items()),
            memory=vm.memory if keeps_memory else None,
            spec=snapshots.renewed(vm.spec, now),
        )
        change = Change(
            Act.TAKE,
            vm.spec.vm_id,
            snapshot_id,
            snapshot_checks.leaves(now, snapshot_id),
            vm.generation,
            snapshot,
        )
        return self._writer.reshape(piece, vm, change, is_running=is_running)

    def _turn(
        self, piece: Piece, entry: VmEntry, vm: Vm, snapshot_id: SnapshotId
    ) -> None:
        """Let the guest write to the new leaves."""
        taken = snapshots.get(vm, snapshot_id)
        leaves, is_frozen = snapshot_checks.leaves_of(taken), False
        has_agent = entry.run.guest is not None
        piece.progress.step(60, "turning the guest to the new volumes")
        try:
            if taken.memory is not None:
                self._guests.keep(piece, vm, taken)
            else:
                is_frozen = self._live.turn(piece.vm_id, leaves, may_freeze=has_agent)
        except DomainMissing:
            log.info("VM %s ended before its snapshot was complete", piece.vm_id)
        except jobs.Cancelled:
            if self._guests.leave(piece, vm, taken):
                raise  # it is ended as one that QEMU refused
        except REFUSALS:
            if not self._live.has_turned(piece.vm_id, leaves):
                self._memories.remove(piece, (taken,))
                where = (Act.RETRACT, piece.vm_id, taken.snapshot_id)
                self._writer.reshape(piece, vm, Change(*where, leaves), is_running=True)
                raise
        self._finish(piece, vm, taken.snapshot_id, is_consistent=is_frozen)
        if not is_frozen and taken.memory is None:
            told = (piece, taken.snapshot_id, taken.description)
            self._writer.tell("snapshot_not_consistent", *told)

    def _finish(
        self, piece: Piece, vm: Vm, snapshot_id: SnapshotId, *, is_consistent: bool
    ) -> None:
        taken = snapshots.get(vm, snapshot_id)
        has_memory = self._memories.is_kept(piece, vm, taken)
        words = (Act.FINISH, piece.vm_id, snapshot_id)
        ready = Change(*words, is_consistent=is_consistent, has_memory=has_memory)
        self._writer.reshape(piece, vm, ready, is_running=True)
        if taken.memory is not None and not has_memory:
            self._writer.tell(
                "snapshot_without_memory", piece, snapshot_id, taken.description
            )

    def _delete(self, piece: Piece, asked: wire.Json, *, is_told: bool = True) -> None:
        snapshot_id, part = SnapshotId(asked["snapshot_id"]), _part(asked)
        if part is SnapshotPart.GUEST:
            self._guests.delete(piece, snapshot_id)
            return
        _, vm = self._holder.newest(piece)
        known = snapshots.find(vm, snapshot_id)
        if known is None:
            self._holder.let_go(piece)
            return
        snapshots.check_settled(vm)
        snapshots.check_complete(vm, but=snapshot_id)
        if known.state is SnapshotState.OK:
            check_awake(self._volumes, vm)
        broken = Change(Act.BREAK, piece.vm_id, snapshot_id)
        vm = self._writer.reshape(piece, vm, broken, is_running=True)
        if part is SnapshotPart.BEGIN and is_told:
            return
        for each in known.disks:
            self._holder.let_go(piece)
            self._fold(piece, snapshot_id, each.disk_id)
        self._holder.let_go(piece)
        self._memories.remove(piece, (known,))
        dropped = Change(Act.DROP, piece.vm_id, snapshot_id)
        self._writer.reshape(piece, vm, dropped, is_running=True)
        if is_told:
            self._writer.tell("snapshot_deleted", piece, snapshot_id, known.description)

    def _fold(self, piece: Piece, snapshot_id: SnapshotId, disk_id: DiskId) -> None:
        """Merge one disk of a snapshot into what came after it."""
        self._holder.outwait(piece)
        entry, vm = self._holder.newest(piece)
        snapshot = snapshots.get(vm, snapshot_id)
        base = next((e for e in snapshot.disks if e.disk_id == disk_id), None)
        if base is None:
            return
        top = snapshots.above(vm, snapshot, disk_id)
        if top is None:
            raise snapshots.DefinitionChanged(f"VM {vm.spec.name} has lost {disk_id}")
        leaf = Leaf(disk_id, top, base.volume_id)
        change = Change(Act.FOLD, piece.vm_id, snapshot_id, (leaf,))
        if states.is_active(entry.run.state):
            try:
                self._fold_running(piece, vm, change)
            except DomainMissing:
                log.info("VM %s ended while it was merged", piece.vm_id)
                _, vm = self._holder.newest(piece)
            else:
                return
        self._fold_elsewhere(piece, vm, change)

    def _fold_elsewhere(self, piece: Piece, vm: Vm, change: Change) -> None:
        """Merge a disk whose guest is down, or take out what its node has merged."""
        (leaf,) = change.leaves
        if self._changes.is_closed(vm, leaf):
            self._writer.reshape(piece, vm, change, is_running=True)
            return
        try:
            # What has begun ends, suspended or not: the guest reads what it read.
            with self._volumes.holding_any(vm):
                self._writer.reshape(piece, vm, change, is_running=False)
        except VmRunsElsewhere:
            if (leaf.disk_id, leaf.volume_id) in snapshots.leaves(vm):
                raise
            # Headers tell whether it is out of the chain: else this is refused.
            self._writer.reshape(piece, vm, change, is_running=True)

    def _fold_running(self, piece: Piece, vm: Vm, change: Change) -> None:
        (leaf,) = change.leaves
        try:
            must_turn = self._live.merge(piece.vm_id, leaf, piece.progress)
        except jobs.Cancelled:
            self._live.give_up(piece.vm_id, leaf)
            raise
        try:
            if must_turn:
                with self._holder.still(piece):
                    self._live.pivot(piece.vm_id, leaf)
            self._name(piece, vm, change)
        except (jobs.AgentStopping, DomainMissing):
            raise
        except Exception:
            self._holder.release(piece)
            raise

    def _name(self, piece: Piece, vm: Vm, change: Change) -> None:
        """Let the definition name what a guest writes to, in spite of a full storage.

        Where the guest has to stand still for that, however long it takes.
        DomainMissing: it has ended meanwhile.
        """
        while True:
            try:
                self._writer.reshape(piece, vm, change, is_running=True)
            except Unavailable as error:
                if self._holder.is_over(piece.vm_id):
                    raise DomainMissing(f"domain {piece.vm_id} has ended") from error
                if self._holder.may_go_on(piece):
                    raise
                piece.progress.step(90, f"the guest stands still: {error.message}")
                self._holder.wait(piece, _NAME_AGAIN_S)
            else:
                return

    # how

    def _check(self, vm_id: VmId, request: Request) -> Vm:
        """Return the VM; refuse at once what can be told at once."""
        vm = self._register.get(vm_id).vm
        self._changes.check_manager(vm)
        self._lookout.check_generation(vm_id, request.generation)
        return vm

    def _ask_guest(
        self, verb: str, vm_id: VmId, request: CreateSnapshot | DeleteSnapshot
    ) -> Job:
        """Do a guest's part; what this node knows of the definition may be old."""
        self._register.get(vm_id)
        asked = {each: getattr(request, each, None) for each in _OF_GUEST}
        # It may last for hours: the VM's own jobs do not wait for it.
        on = (Kind.DISK, str(vm_id))
        return self._submit(verb, vm_id, request, asked, on)

    def _end_preview(self, verb: str, vm_id: VmId, request: ActOnSnapshot) -> Job:
        vm = self._check(vm_id, request)
        if vm.preview is None and request.job_id is None:
            raise snapshots.NotInPreview(f"VM {vm.spec.name} previews nothing")
        return self._submit(verb, vm_id, request, {})

    def _finish_left(self, vm: Vm, snapshot: Snapshot) -> None:
        vm_id, snapshot_id = vm.spec.vm_id, snapshot.snapshot_id
        if snapshot.state is SnapshotState.LOCKED:
            self.create(vm_id, CreateSnapshot(snapshot_id, snapshot.description))
        else:
            self.delete(vm_id, DeleteSnapshot(snapshot_id))

    def _leaf(self, disk: Disk) -> VolumeId:
        """Return what a disk is now, which a guest may write to."""
        return VolumeId(self._volumes.open(disk).layers[0].path.name)

    def _submit(
        self,
        verb: str,
        vm_id: VmId,
        request: Request,
        asked: Mapping[str, Any],
        on: tuple[str, str] | None = None,
    ) -> Job:
        kept = wire.to_json({**asked, "vm_id": vm_id})
        if request.correlation_id is not None:
            kept["correlation_id"] = request.correlation_id
        kind, object_id = on or (Kind.VM, vm_id)
        return self._jobs.submit(
            verb,
            kind,
            object_id,
            lambda progress: self._run(verb, kept, progress),
            job_id=request.job_id,
            correlation_id=request.correlation_id,
            arguments=kept,
        )

    def _again(self, job: Job, arguments: wire.Json) -> jobs.Runner:
        def run(progress: Progress) -> None:
            vm_id = VmId(arguments["vm_id"])
            vm = self._register.get(vm_id).vm
            self._volumes.wait_for_pool(vm.spec.pool_id, progress.pause)
            if arguments.get("part") != SnapshotPart.GUEST:
                self._changes.go_on(vm, progress)
            self._run(job.verb, arguments, progress)

        return run

    def _run(self, verb: str, arguments: wire.Json, progress: Progress) -> None:
        piece = Piece(
            VmId(arguments["vm_id"]),
            progress,
            arguments.get("correlation_id"),
            arguments.get("data_node_id"),
        )
        self._works[verb](piece, arguments)


def _part(asked: wire.Json) -> SnapshotPart:
    return SnapshotPart(asked.get("part", SnapshotPart.WHOLE))
