"""Let a VM that is down go back to a snapshot, to look at it; stay there, or not.

The VM's lease is held here meanwhile, so nobody starts it. Each step looks first, so
all may be done again after the agent was killed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from node import wire
from node.contract import snapshots
from node.contract.snapshots import Act, Change, Leaf
from node.model.ids import SnapshotId
from node.model.vm import Vm
from node.vm import domxml, snapshot_checks, states
from node.vm.holding import Holder, Piece
from node.vm.snapshot_memories import SnapshotMemories
from node.vm.snapshot_writing import SnapshotWriter, VmInUse


@dataclass(frozen=True, slots=True)
class Previews:
    """The jobs of previews."""

    holder: Holder
    memories: SnapshotMemories
    writer: SnapshotWriter

    def begin(self, piece: Piece, asked: wire.Json) -> None:
        snapshot_id, has_memory = SnapshotId(asked["snapshot_id"]), asked["has_memory"]
        vm = self.memories.tidy(piece, self.holder.newest(piece)[1])
        may_sleep = snapshots.previews(vm, snapshot_id)  # it was armed before
        with self._still(piece, may_sleep=may_sleep) as (vm, version):
            if not may_sleep:
                vm = self._turn(piece, vm, asked)
            if has_memory:
                self.memories.arm(piece, vm, version)

    def commit(self, piece: Piece, asked: wire.Json) -> None:
        self._leave(piece, Act.COMMIT, snapshots.lost)

    def undo(self, piece: Piece, asked: wire.Json) -> None:
        self._leave(piece, Act.UNDO, snapshots.tried)

    def _turn(self, piece: Piece, vm: Vm, asked: wire.Json) -> Vm:
        """Let a VM look at a snapshot; its disks lie on new leaves."""
        snapshots.check_settled(vm)
        snapshots.check_complete(vm)
        snapshot, wanted = snapshots.get(vm, asked["snapshot_id"]), asked["disk_ids"]
        snapshot_checks.check_whole(snapshot)
        if asked["has_memory"]:
            snapshot_checks.check_memory(vm, snapshot, wanted)
            vm = self.memories.copy(piece, vm, snapshot)
        attached = {disk.disk_id for disk in vm.spec.disks}
        then = {
            each.disk_id: each.volume_id
            for each in snapshot.disks
            if each.disk_id in attached and (not wanted or each.disk_id in wanted)
        }
        leaves = snapshot_checks.leaves(then, piece.progress.job.job_id)
        spec = snapshots.as_of(vm, snapshot, {e.disk_id: e.volume_id for e in leaves})
        change = Change(
            Act.PREVIEW,
            piece.vm_id,
            snapshot.snapshot_id,
            leaves,
            vm.generation,
            spec=spec,
            addresses=domxml.assign_addresses(spec, vm.addresses),
        )
        after = self.writer.reshape(piece, vm, change, is_running=False)
        told = (piece, snapshot.snapshot_id, snapshot.description)
        self.writer.tell("snapshot_previewed", *told)
        return after

    def _leave(
        self, piece: Piece, act: Act, going: Callable[[Vm], tuple[Leaf, ...]]
    ) -> None:
        with self._still(piece, may_sleep=True) as (vm, version):
            if vm.preview is None:
                return
            if act is Act.UNDO:
                self.memories.use_up(vm, version)
            else:
                self.memories.remove(piece, snapshots.passed_over(vm))
            seen = snapshots.get(vm, vm.preview.snapshot_id)
            where = (act, piece.vm_id, seen.snapshot_id)
            change = Change(*where, going(vm), vm.generation)
            self.writer.reshape(piece, vm, change, is_running=False)
            if act is Act.COMMIT:
                told = (piece, seen.snapshot_id, seen.description)
                self.writer.tell("snapshot_restored", *told)

    @contextmanager
    def _still(
        self, piece: Piece, *, may_sleep: bool
    ) -> Iterator[tuple[Vm, int | None]]:
        """Yield a VM that is down, and its lease's version; nobody starts it meanwhile.

        VmInUse; VmSuspended, unless it `may_sleep`.
        """
        entry, vm = self.holder.newest(piece)
        if states.is_active(entry.run.state):
            raise VmInUse(f"VM {vm.spec.name} is {entry.run.state}")
        volumes = self.holder.volumes
        hold = volumes.holding_any if may_sleep else volumes.holding
        with hold(vm) as version:
            yield vm, version
