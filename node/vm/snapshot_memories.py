"""Keep the memory of a guest in a snapshot, and let a preview go on with it.

A snapshot's memory is filled while the guest stands still (`guest_parts`), and belongs
to the snapshot from the moment at which that is locked. A preview gets a copy: then the
VM is suspended, and all that holds for one that is holds for it. The copy is marked as
saved last, when the definition names the disks that it has seen.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from node.contract.memories import Memories, MemoryMark, of_snapshot
from node.errors import Failed
from node.model.vm import Snapshot, Vm
from node.vm import hibernating
from node.vm.hibernating import Hibernator
from node.vm.holding import Holder, Piece

log = logging.getLogger(__name__)


class PreviewForgets(Failed):
    """The VM previews the snapshot, and its copy of the memory is not there."""

    code = "preview_without_memory"
    remedy = "Start the VM, which boots; or undo the preview, then ask for it again."


@dataclass(frozen=True, slots=True)
class SnapshotMemories:
    """The memories of snapshots of this node's VMs, as their manager has them."""

    holder: Holder
    hibernator: Hibernator

    @property
    def _memories(self) -> Memories:
        return self.holder.volumes.memories

    def is_kept(self, piece: Piece, vm: Vm, snapshot: Snapshot) -> bool:
        """Tell whether the memory of a snapshot is whole; what is not is removed."""
        if snapshot.memory is None:
            return False
        if self._memories.look(of_snapshot(vm, snapshot)) is MemoryMark.SAVED:
            return True
        log.info("VM %s: a snapshot of it has no memory", vm.spec.vm_id)
        self.remove(piece, (snapshot,))
        return False

    def remove(self, piece: Piece, snapshots: Iterable[Snapshot]) -> None:
        """Remove the memories of snapshots that go. Idempotent."""
        for each in snapshots:
            if each.memory is not None:
                self.hibernator.remove(piece, each.memory)

    def tidy(self, piece: Piece, vm: Vm) -> Vm:
        """Let a VM have no memory but one that is saved, or that this job has begun."""
        if vm.memory is None or vm.memory.disk_id == hibernating.disk_id(piece):
            return vm
        return self.hibernator.settle(piece)

    def copy(self, piece: Piece, vm: Vm, snapshot: Snapshot) -> Vm:
        """Let a VM have a copy of a snapshot's memory, which is not to be used yet."""
        assert snapshot.memory is not None, "that was checked"
        piece.progress.step(20, "copying the memory")
        disk_id, check = hibernating.disk_id(piece), piece.progress.check
        after = self._memories.copy(vm, snapshot.memory, disk_id, check)
        self.holder.lookout.adopt(after)
        return after

    def arm(self, piece: Piece, vm: Vm, version: int | None) -> None:
        """Let the next start go on with the copy; PreviewForgets.

        `version` is of the VM's lease, which this job has.
        """
        if vm.memory is None or vm.memory.disk_id != hibernating.disk_id(piece):
            raise PreviewForgets(
                f"VM {vm.spec.name} previews a snapshot without its memory",
                vm_id=vm.spec.vm_id,
            )
        if self._memories.look(vm) is MemoryMark.BLANK:
            self._memories.save(vm, version)
        self.holder.lookout.adopt(self._memories.settle(vm))

    def use_up(self, vm: Vm, version: int | None) -> None:
        """Let nobody go on with the memory that a VM has."""
        if vm.memory is not None:
            self._memories.use(vm, version)
