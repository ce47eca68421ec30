"""Refuse to let a guest go on whose newest data the storage does not name.

A merge of the newest volume lets the guest, which stands still, turn to the lower one.
Until the definition names that, or the leaf is marked as left, a guest that is started
elsewhere would begin with the leaf: what was written past it would be lost. So the
guest stays paused, whoever asks: its user, a storage that is back, or the merge.

A snapshot that is being taken needs none of this: until the guest has turned, the new
leaf is blank.
"""

from dataclasses import dataclass

from node.contract import snapshots
from node.contract.volumes import Volumes
from node.errors import Conflict
from node.model.storage import SnapshotState
from node.model.vm import Vm
from node.vm.live_disks import LiveDisks


class MergeUnmarked(Conflict):
    """The guest has turned to a merged volume, and the storage does not say so yet."""

    code = "vm_merge_unmarked"
    remedy = "Delete the snapshot again; the VM goes on when that is written down."


@dataclass(frozen=True, slots=True)
class Certainty:
    """What QEMU has open here, and what the storage says."""

    live: LiveDisks
    volumes: Volumes

    def check(self, known: Vm) -> None:
        """Raise MergeUnmarked if a VM must not go on; as its storage fails, else.

        `known` is how this node knows it: a merge that has begun is known here first.
        """
        if all(each.state is not SnapshotState.BROKEN for each in known.snapshots):
            return
        vm_id = known.spec.vm_id
        vm = self.volumes.find(vm_id)
        if vm is None or not self._is_certain(vm):
            raise MergeUnmarked(
                f"the guest of VM {known.spec.name} writes to a volume that its "
                "definition does not name",
                vm_id=vm_id,
            )

    def _is_certain(self, vm: Vm) -> bool:
        """Tell whether the storage says where the newest data are, and so it stays."""
        for disk in vm.spec.disks:
            if disk.volume_id is None:
                continue
            top = self.live.files(vm.spec.vm_id, disk.disk_id)[0].name
            leaf = snapshots.left(disk.disk_id, disk.volume_id, top)
            if top != disk.volume_id and not self.volumes.is_closed(vm, leaf):
                return False
        return True
