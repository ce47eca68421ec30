"""Write what verbs on snapshots change, and tell what has come of them."""

from dataclasses import dataclass

from node.contract.snapshots import Change
from node.errors import Conflict
from node.model.ids import SnapshotId
from node.model.vm import Vm
from node.store import Store
from node.vm import states
from node.vm.holding import Holder, Piece
from node.vm.snapshot_changes import VmChanges


class VmInUse(Conflict):
    """The VM runs, and must not for this."""

    code = "vm_in_use"
    remedy = "Stop the VM first."


@dataclass(frozen=True, slots=True)
class SnapshotWriter:
    """Who changes snapshots' VMs on the storage, and where that is told."""

    holder: Holder
    changes: VmChanges
    store: Store

    def reshape(self, piece: Piece, vm: Vm, change: Change, *, is_running: bool) -> Vm:
        """Make a change, of the storage and of what is known here; VmInUse."""

        def check_idle() -> None:
            run = self.holder.register.get(piece.vm_id).run
            if not is_running and states.is_active(run.state):
                raise VmInUse(f"VM {vm.spec.name} is {run.state}")

        words = (vm, change, piece.progress, check_idle)
        after = self.changes.reshape(
            *words, is_running=is_running, data_node_id=piece.data_node_id
        )
        self.holder.lookout.adopt(after)
        return after

    def tell(
        self, code: str, piece: Piece, snapshot_id: SnapshotId, description: str
    ) -> None:
        name = self.holder.register.get(piece.vm_id).vm.spec.name
        with self.store.change() as change:
            change.event(
                code,
                vm_id=piece.vm_id,
                correlation_id=piece.correlation_id,
                name=description or snapshot_id,
                vm=name,
            )
