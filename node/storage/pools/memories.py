"""Keep the memory of suspended VMs on their pools; see `node.contract.memories`.

The manager makes and removes the disk, and lets the definition name it. What the mark
says is written by the node that has the VM's lease: without it the write is refused,
however late it comes. Sizes are bytes.
"""

import logging
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Final, Protocol

from node.contract import memories
from node.contract.memories import Memories, MemoryMark, MemoryMissing
from node.contract.volumes import DiskBusy, DiskNotMade, Volumes
from node.errors import Conflict, Error
from node.model.ids import DiskId, JobId, VmId
from node.model.job import Job
from node.model.storage import DiskFormat
from node.model.storage_requests import ActOnDisk, CopyDisk, CreateDisk
from node.model.vm import Disk, Vm, VmMemory
from node.storage.disks import memory_marks, turned
from node.storage.disks import tasks as disk_tasks
from node.storage.disks.verbs import Disks
from node.storage.domains.access import Access
from node.storage.domains.catalog import Catalog
from node.storage.formats import volume_meta
from node.storage.formats.layout import FILE_MODE
from node.storage.formats.volume_meta import VolumeMeta
from node.storage.guard import Guard
from node.storage.operations import facts
from node.storage.operations.facts import DiskMissing
from node.storage.process.protocol import Need
from node.storage.spm.vm_store import Stored, StoredVm
from node.units import MiB

log = logging.getLogger(__name__)

# Beside its memory a machine has its screen's, and the states of its devices.
_BESIDE: Final = 256 * MiB
# What many GiB of memory leave in the page cache is written first.
_SYNC_S: Final = 600.0
_MARK_S: Final = 10.0


class Where(Protocol):
    """A pool's part of this node."""

    @property
    def catalog(self) -> Catalog: ...

    @property
    def disks(self) -> Disks: ...


@dataclass(frozen=True, slots=True)
class PoolMemories:
    """The memories on this node's pools. Any thread may call."""

    volumes: Volumes
    guard: Guard
    place: Callable[[str | None], tuple[Where, Access]]
    need: Callable[[Vm, int | None], Need | None]
    wait: Callable[[Iterable[Job]], None]
    idle: Callable[[Vm], AbstractContextManager[int | None]]

    def look(self, vm: Vm) -> MemoryMark:
        found = self._find(vm)
        return memory_marks.read(found.meta if found is not None else None)

    def path(self, vm: Vm) -> PurePath:
        found = self._find(vm)
        if found is None:
            raise _missing(vm)
        return found.access.layout.volume(found.disk_id, found.volume_id)

    def save(self, vm: Vm, version: int | None) -> None:
        found = self._find(vm)
        if found is None:
            raise _missing(vm)
        need = self.need(vm, version)
        needs = () if need is None else (need,)
        path = found.access.layout.volume(found.disk_id, found.volume_id)
        found.access.files(self.guard, needs, _SYNC_S).sync(str(path))
        self._write(found, memory_marks.save(found.meta), need)

    def use(self, vm: Vm, version: int | None) -> None:
        found = self._find(vm)
        if found is None or turned.is_left(found.meta):
            return
        need = self.need(vm, version)
        needs = () if need is None else (need,)
        mark = found.access.layout.volume_turned(found.disk_id, found.volume_id)
        files = found.access.files(self.guard, needs, _MARK_S)
        files.write_whole(str(mark), b"", FILE_MODE)
        self._write(found, turned.close(found.meta), need)

    def prepare(self, vm: Vm, disk_id: DiskId) -> Vm:
        if self.look(vm) is not MemoryMark.BLANK:
            vm = self.settle(vm)
        if vm.memory is None:
            assert vm.home is not None, "a VM of a pool has a home"
            vm = self._note(vm, VmMemory(vm.home, disk_id))
        assert vm.memory is not None, "it was noted"
        if self._find(vm) is None:
            part, _ = self.place(vm.memory.storage_domain_id)
            made = CreateDisk(
                vm.memory.disk_id,
                f"Memory of {vm.spec.name}",
                vm.memory.storage_domain_id,
                vm.spec.memory_bytes + _BESIDE,
                DiskFormat.RAW,
            )
            try:
                self.wait([part.disks.create(made)])
            except DiskNotMade:
                self._take_back(vm)
                raise
        return vm

    def settle(self, vm: Vm) -> Vm:
        if vm.memory is None:
            return vm
        mark = self.look(vm)
        if mark is MemoryMark.SAVED:
            return self._note(vm, replace(vm.memory, is_saved=True))
        if mark is MemoryMark.USED:
            return self._remove(vm)
        with self.idle(vm):
            if self.look(vm) is MemoryMark.BLANK:
                return self._remove(vm)
        return vm

    def copy(
        self, vm: Vm, source: VmMemory, disk_id: DiskId, check: Callable[[], None]
    ) -> Vm:
        assert vm.home is not None, "a VM of a pool has a home"
        memory = VmMemory(vm.home, disk_id)
        vm = self._note(vm, memory)
        part, _ = self.place(source.storage_domain_id)
        if not self._is_there(source):
            raise MemoryMissing(
                f"a memory of VM {vm.spec.name} is not in disk {source.disk_id}",
                vm_id=vm.spec.vm_id,
                disk_id=source.disk_id,
            )
        job_id = JobId(str(uuid.uuid5(uuid.UUID(disk_id), "copy")))
        name = f"Memory of {vm.spec.name}"
        asked = CopyDisk(disk_id, memory.storage_domain_id, name, job_id=job_id)
        job = part.disks.copy(source.disk_id, asked)
        while True:
            check()
            try:
                self.wait([job])
            except DiskBusy as error:
                log.debug("VM %s: its memory: %s", vm.spec.vm_id, error)
            else:
                return vm

    def remove(self, memory: VmMemory) -> None:
        part, _ = self.place(memory.storage_domain_id)
        if self._is_there(memory):
            where = (memory.disk_id, ActOnDisk(), memory.storage_domain_id)
            self.wait([part.disks.delete(*where)])

    def _remove(self, vm: Vm) -> Vm:
        """Remove the disk, and then its name: whatever is cut short is seen."""
        assert vm.memory is not None, "there is one to remove"
        memory = vm.memory
        self.remove(memory)
        while True:
            try:
                return self._note(vm, None)
            except Conflict:
                # Another job has written it meanwhile: nobody would look for a name
                # without a disk while a guest runs.
                newest = self.volumes.find(vm.spec.vm_id)
                if newest is None or newest.generation == vm.generation:
                    raise
                vm = newest
                if vm.memory != memory:
                    return vm

    def _take_back(self, vm: Vm) -> None:
        """Let a definition not name what could not be made."""
        assert vm.memory is not None, "it was noted"
        try:
            if not self._is_there(vm.memory):
                self._note(vm, None)
        except Error as error:
            log.info("VM %s: its memory is still named: %s", vm.spec.vm_id, error)

    def _note(self, vm: Vm, memory: VmMemory | None) -> Vm:
        if vm.memory == memory:
            return vm
        after = replace(vm, memory=memory, generation=vm.generation + 1)
        self.volumes.write(after, vm.generation)
        return after

    def _is_there(self, memory: VmMemory) -> bool:
        part, access = self.place(memory.storage_domain_id)
        return part.catalog.place(access, memory.disk_id).disk is not None

    def _find(self, vm: Vm) -> "_Found | None":
        """Return what lies there; None: nothing does, or it is not whole."""
        if vm.memory is None:
            return None
        part, access = self.place(vm.memory.storage_domain_id)
        disk = part.catalog.place(access, vm.memory.disk_id).disk
        if disk is None:
            return None
        volume_id = disk_tasks.leaf_of(disk)
        meta = facts.meta_of(disk, volume_id)
        return _Found(access, vm.memory.disk_id, volume_id, meta)

    def _write(self, found: "_Found", meta: VolumeMeta, need: Need | None) -> None:
        needs = () if need is None else (need,)
        path = found.access.layout.volume_meta(found.disk_id, found.volume_id)
        files = found.access.files(self.guard, needs, _MARK_S)
        files.write_whole(str(path), volume_meta.write(meta), FILE_MODE)


def disks(vm: Vm) -> tuple[Disk, ...]:
    """Return the disks that keep memories of a VM: its own, and its snapshots'."""
    return tuple(
        Disk(each.disk_id, "", 0, storage_domain_id=each.storage_domain_id)
        for each in memories.kept(vm)
    )


def check_unseen(
    disk_id: str, stored: Stored, find: Callable[[VmId], StoredVm | None]
) -> None:
    """Refuse to change what is on a disk of a suspended VM; VmSuspended.

    `stored` tells who has the disk, `find` reads what lies there now.
    """
    for each in stored.vms:
        if any(disk.disk_id == disk_id for disk in each.vm.spec.disks):
            found = find(each.vm.spec.vm_id)
            if found is not None:
                memories.check_unseen(disk_id, (found.vm,))


@dataclass(frozen=True, slots=True)
class _Found:
    """The volume of a memory."""

    access: Access
    disk_id: DiskId
    volume_id: str
    meta: VolumeMeta


def _missing(vm: Vm) -> DiskMissing:
    disk_id = vm.memory.disk_id if vm.memory is not None else None
    return DiskMissing(f"VM {vm.spec.name} has no disk for its memory", id=disk_id)


_typed: type[Memories] = PoolMemories
