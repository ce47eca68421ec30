"""Say what VMs need of the storage to keep their memory while they are suspended.

The contract between two siblings, as `node.contract.volumes`. A suspended VM is down,
and its memory lies in a disk of its own on its home. The definition names that disk
before it is made, and until it is removed: nothing is left behind. What may be done
with it is written beside it by the node that has the VM's lease:

    blank ──the guest's QEMU ended in it──► saved ──a guest has it, or nobody──► used

Only what is saved is restored, and it is used before the guest runs: no guest goes on
twice from one memory. What is used, or blank with no guest, the manager removes.

A snapshot may have a memory, too: a disk that is filled and marked in the same way,
and then only read. Who previews it gets a copy, as that of a suspended VM.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import StrEnum
from pathlib import PurePath
from typing import Protocol

from node.errors import Conflict
from node.model.ids import DiskId
from node.model.vm import Snapshot, Vm, VmMemory


class VmSuspended(Conflict):
    """The VM's memory is kept: its disks must stay as they are."""

    code = "vm_suspended"
    remedy = "Start the VM; or stop it by force, which discards its memory."


class MemoryMissing(Conflict):
    """The VM is suspended, and its memory is not where it was kept."""

    code = "memory_missing"
    remedy = "Bring the disk back; or start the VM with its memory discarded."


class DiskKeepsMemory(Conflict):
    """What a guest goes on with, from rest or a snapshot, is no disk of people's."""

    code = "disk_keeps_memory"
    remedy = (
        "Start the VM, or stop it by force, which discards its memory; or delete the "
        "snapshot that has it."
    )


class MemoryMark(StrEnum):
    BLANK = "blank"  # whatever is there is not whole
    SAVED = "saved"
    USED = "used"


class Memories(Protocol):
    """All raise what `Volumes` do."""

    def look(self, vm: Vm) -> MemoryMark:
        """Tell what lies there; BLANK: nothing, or the VM has none."""

    def path(self, vm: Vm) -> PurePath:
        """Return the file of the memory that the definition names."""

    def save(self, vm: Vm, version: int | None) -> None:
        """Say that the memory is whole, and on disk.

        `version` is of the VM's lease, which this node has; None: its pool is this
        node's alone. StaleLease.
        """

    def use(self, vm: Vm, version: int | None) -> None:
        """Say that nobody may start with the memory any more; `version` as above.

        Idempotent, and nothing if there is none.
        """

    def prepare(self, vm: Vm, disk_id: DiskId) -> Vm:
        """Make where a guest's memory can be kept, as the manager. Idempotent.

        Return the definition, which names it: `disk_id`, or one that is blank.
        """

    def settle(self, vm: Vm) -> Vm:
        """Let the definition say what the mark says, as the manager.

        What is used, or blank with no guest, is removed. VmRunsElsewhere, VmHasLease:
        it is blank, and its guest may be about to fill it.
        """

    def copy(
        self, vm: Vm, source: VmMemory, disk_id: DiskId, check: Callable[[], None]
    ) -> Vm:
        """Make a copy of a snapshot's memory for a VM, as the manager; it is blank.

        Return the definition, which names it. It takes as long as the memory is large;
        `check` raises what ends that. Idempotent. MemoryMissing.
        """

    def remove(self, memory: VmMemory) -> None:
        """Remove the disk of a snapshot's memory, as the manager. Idempotent.

        Busy: ask again.
        """


def kept(vm: Vm) -> tuple[VmMemory, ...]:
    """Return all memories that a definition names: its own, and its snapshots'."""
    named = (vm.memory, *(each.memory for each in vm.snapshots))
    return tuple(each for each in named if each is not None)


def of_snapshot(vm: Vm, snapshot: Snapshot) -> Vm:
    """Return a VM as if the memory of its snapshot were its own: to look, and mark."""
    return replace(vm, memory=snapshot.memory)


def check_free(disk_id: str, vms: Iterable[Vm]) -> None:
    """Refuse a disk that keeps a VM's memory; DiskKeepsMemory. Pure."""
    for vm in vms:
        if any(each.disk_id == disk_id for each in kept(vm)):
            raise DiskKeepsMemory(
                f"VM {vm.spec.name} has a memory of its guest in disk {disk_id}",
                disk_id=disk_id,
                vm_id=vm.spec.vm_id,
            )


def check_unseen(disk_id: str, vms: Iterable[Vm]) -> None:
    """Refuse to change what is on a disk that a memory has seen; VmSuspended. Pure."""
    for vm in vms:
        if is_suspended(vm) and any(e.disk_id == disk_id for e in vm.spec.disks):
            raise VmSuspended(
                f"VM {vm.spec.name} is suspended, and goes on over disk {disk_id}",
                disk_id=disk_id,
                vm_id=vm.spec.vm_id,
            )


def check_stays(storage_domain_id: str, vms: Iterable[Vm]) -> None:
    """Refuse to let disks go that a memory has seen; VmSuspended. Pure."""
    for vm in vms:
        places = {each.storage_domain_id for each in vm.spec.disks}
        if is_suspended(vm) and storage_domain_id in places:
            raise VmSuspended(
                f"VM {vm.spec.name} is suspended, and has disks there",
                vm_id=vm.spec.vm_id,
            )


def is_suspended(vm: Vm) -> bool:
    """Tell whether a definition says that the VM's guest is kept; pure."""
    return vm.memory is not None and vm.memory.is_saved
