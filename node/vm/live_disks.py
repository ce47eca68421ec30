"""Let a guest that runs turn to other files of its disks: new leaves, merged ones.

What libvirt says of a disk's files is the truth: each step looks first, so all can be
done again after the agent was killed. Sizes are bytes.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from node.contract.snapshots import Leaf
from node.errors import Conflict, Error, Failed
from node.jobs import Progress
from node.model.ids import DiskId, VmId
from node.model.vm import VmSpec
from node.system import hypervisor_reading
from node.system.hypervisor import (
    DomainRefused,
    Hypervisor,
    HypervisorRefused,
    HypervisorUnable,
)
from node.vm.devices import disk as disk_device
from node.vm.freezing import Freezer

log = logging.getLogger(__name__)

_LOOK_S: Final = 0.5
# QEMU has said no: the guest writes to what it wrote to before.
REFUSALS: Final = (HypervisorRefused, HypervisorUnable, DomainRefused)


class MergeStopped(Failed):
    """QEMU has ended the merge of a disk before it was whole."""

    code = "live_merge_stopped"
    remedy = "Look for an error of the storage, then delete the snapshot again."


class MergeUnderWay(Conflict):
    """QEMU merges a disk of the VM, and does not let its guest rest meanwhile."""

    code = "vm_disk_being_merged"
    remedy = "Wait until the deletion of the snapshot has ended, or cancel its job."


@dataclass(frozen=True, slots=True)
class LiveDisks:
    """The disks of guests that run here."""

    hypervisor: Hypervisor
    freezer: Freezer

    def turn(
        self,
        vm_id: VmId,
        leaves: tuple[Leaf, ...],
        *,
        may_freeze: bool,
        memory: str | None = None,
    ) -> bool:
        """Let the guest write to new leaves, all at one moment.

        Return whether its file systems were frozen meanwhile. Its memory of that moment
        goes to a file, if one is named. Idempotent.
        """
        files = {
            _alias(each.disk_id): str(top.with_name(each.volume_id))
            for each in leaves
            if (top := self.files(vm_id, each.disk_id)[0]).name == each.parent_id
        }
        if not files:
            return False
        if may_freeze:
            return self.freezer.is_whole_during(
                vm_id, lambda: self.hypervisor.snapshot(vm_id, files)
            )
        self.hypervisor.snapshot(vm_id, files, memory)
        return False

    def has_turned(self, vm_id: VmId, leaves: tuple[Leaf, ...]) -> bool:
        """Tell whether the guest writes to all of the new leaves."""
        tops = self.tops(vm_id, leaves)
        return all(tops[each.disk_id] == each.volume_id for each in leaves)

    def tops(self, vm_id: VmId, leaves: tuple[Leaf, ...]) -> Mapping[DiskId, str]:
        """Return the volumes that the guest writes to."""
        return {
            each.disk_id: self.files(vm_id, each.disk_id)[0].name for each in leaves
        }

    def merge(self, vm_id: VmId, leaf: Leaf, progress: Progress) -> bool:
        """Copy a volume into what it is built on, until it can go, or has gone.

        Return whether the guest still has to turn to the lower one. MergeStopped.
        """
        alias, has_begun = _alias(leaf.disk_id), False
        while True:
            files = {path.name: path for path in self.files(vm_id, leaf.disk_id)}
            if leaf.volume_id not in files:
                return False
            found = self.hypervisor.merge_of(vm_id, alias)
            if found is None and has_begun:
                # It ended between the two looks, or for want of something.
                if leaf.volume_id in self._names(vm_id, leaf.disk_id):
                    raise MergeStopped(f"disk {leaf.disk_id} is not merged")
                return False
            if found is None:
                base, top = files[leaf.parent_id], files[leaf.volume_id]
                self.hypervisor.begin_merge(vm_id, alias, str(base), str(top))
            elif found.is_ready:
                return True
            else:
                percent = 100 * found.done_bytes // max(found.total_bytes, 1)
                progress.step(percent, f"merging disk {leaf.disk_id}")
            has_begun = True
            progress.pause(_LOOK_S)

    def give_up(self, vm_id: VmId, leaf: Leaf) -> None:
        """End a merge that somebody cancelled; the guest goes on as it was."""
        try:
            self.hypervisor.end_merge(vm_id, _alias(leaf.disk_id), is_turned=False)
        except Error as error:
            log.info("VM %s: merge of %s: %s", vm_id, leaf.disk_id, error)

    def pivot(self, vm_id: VmId, leaf: Leaf) -> None:
        """Let the guest, which is held, turn to the lower volume. Idempotent."""
        if leaf.volume_id in self._names(vm_id, leaf.disk_id):
            self.hypervisor.end_merge(vm_id, _alias(leaf.disk_id), is_turned=True)

    def files(self, vm_id: VmId, disk_id: DiskId) -> tuple[PurePath, ...]:
        """Return the files of a disk as QEMU has them, what is written to first."""
        xml = self.hypervisor.observe(vm_id).xml
        found = hypervisor_reading.disk(xml, _alias(disk_id)).files
        return tuple(map(PurePath, found))

    def _names(self, vm_id: VmId, disk_id: DiskId) -> frozenset[str]:
        return frozenset(path.name for path in self.files(vm_id, disk_id))


def of(hypervisor: Hypervisor) -> LiveDisks:
    """Return the disks of a hypervisor's guests."""
    return LiveDisks(hypervisor, Freezer(hypervisor))


def check_unmerged(hypervisor: Hypervisor, spec: VmSpec) -> None:
    """Refuse a guest that QEMU merges a disk of; MergeUnderWay."""
    for disk in spec.disks:
        if hypervisor.merge_of(spec.vm_id, _alias(disk.disk_id)) is not None:
            raise MergeUnderWay(
                f"disk {disk.disk_id} of VM {spec.name} is being merged",
                vm_id=spec.vm_id,
                disk_id=disk.disk_id,
            )


def _alias(disk_id: DiskId) -> str:
    return f"ua-{disk_device.alias(disk_id)}"
