"""Say what the export of a VM, or its removal, does with disks, and what it locks.

Pure. Planned anew whenever its job runs, from what lies there then.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

from node.errors import Conflict
from node.model.ids import DiskId, JobId, StorageDomainId, VmId
from node.model.vm import Vm
from node.storage.disks import tasks as disk_tasks
from node.storage.disks.locks import Claim
from node.storage.disks.tasks import Eyes
from node.storage.formats import layout
from node.storage.formats.layout import Layout
from node.storage.formats.volume_meta import Allocation
from node.storage.operations import export, facts, unexport
from node.storage.operations.clone import Twin
from node.storage.operations.copy import CopyOf
from node.storage.operations.facts import Disk
from node.storage.operations.plan import Plan


class DiskExported(Conflict):
    """A disk of that id lies on the export storage domain already."""

    code = "disk_exported"
    remedy = "Choose an export storage domain without it: what is there stays."


@dataclass(frozen=True, slots=True)
class Source:
    """A disk of the VM."""

    disk_id: DiskId
    storage_domain_id: StorageDomainId
    volume_id: str | None  # what the VM writes to; None: its only one


@dataclass(frozen=True, slots=True)
class Exporting:
    """Copy the newest state of a VM's or template's disks, and describe it."""

    vm_id: VmId
    target: str  # an export storage domain
    sources: tuple[Source, ...]
    created_at_s: int
    is_template: bool = False

    @property
    def object_id(self) -> str:
        """What its journal is about: the first disk, if there is one."""
        return self.sources[0].disk_id if self.sources else self.vm_id

    @property
    def storage_domains(self) -> frozenset[str]:
        """Return those that bear its disks; that of the copies is no place of disks."""
        return frozenset(each.storage_domain_id for each in self.sources)

    def claim(self, job_id: JobId) -> Claim:
        """Return what nothing else may work on meanwhile; templates may be read."""
        disks = frozenset[str](each.disk_id for each in self.sources)
        changed, read = disks, frozenset[str]()
        if self.is_template:
            changed, read = read, changed
        places = ((each.storage_domain_id, each.disk_id) for each in self.sources)
        return Claim(job_id, changed, read, frozenset(places))


@dataclass(frozen=True, slots=True)
class Removing:
    """Remove what was exported: its document, and the disks that only it names."""

    vm_id: VmId
    origin: str  # an export storage domain
    disk_ids: tuple[str, ...]

    @property
    def object_id(self) -> str:
        """What its journal is about: the first disk, if there is one."""
        return self.disk_ids[0] if self.disk_ids else self.vm_id

    @property
    def storage_domains(self) -> frozenset[str]:
        """Return none: an export domain is no place of disks."""
        return frozenset()

    def claim(self, job_id: JobId) -> Claim:
        """Return what nothing else may work on meanwhile: an import of it reads."""
        places = frozenset((self.origin, each) for each in self.disk_ids)
        return Claim(job_id, frozenset(self.disk_ids), frozenset(), places)


def removal(task: Removing, eyes: Eyes) -> Plan:
    """Return the plan; DiskGoing, and as the looks at its disks."""
    root = Layout(PurePosixPath("/", task.origin))
    found = [eyes.look(task.origin, each) for each in task.disk_ids]
    places = [each for each in found if each.disk is not None]
    return unexport.make(root.vm(task.vm_id), root.removed_vm(task.vm_id), places)


def sources(vm: Vm) -> tuple[Source, ...]:
    """Return the disks of a VM that go along: not what it shares, or only reads."""
    return tuple(
        Source(disk.disk_id, disk.storage_domain_id, disk.volume_id)
        for disk in vm.spec.disks
        if disk.storage_domain_id is not None
        and not disk.is_shared
        and not disk.is_read_only
    )


def path(task: Exporting) -> PurePosixPath:
    """Return where oVirt looks for the description of a VM that was exported."""
    folder = Layout(PurePosixPath("/", task.target)).vm(task.vm_id)
    return folder / f"{layout.check_id(task.vm_id)}.ovf"


def leaf_id(disk: Disk, source: Source) -> str:
    """Return the volume whose state is copied."""
    return source.volume_id or disk_tasks.leaf_of(disk)


def plan(task: Exporting, text: str, eyes: Eyes) -> Plan:
    """Return the plan; NoSpace, DiskExported, and as `copy.make`."""
    twins = []
    for each in task.sources:
        source = eyes.look(each.storage_domain_id, each.disk_id)
        volume_id = leaf_id(source.require(), each)
        target = eyes.look(task.target, each.disk_id)
        if target.disk is not None:
            raise _lies_there(task, each)
        copied = CopyOf(
            each.disk_id, volume_id, task.created_at_s, is_template=task.is_template
        )
        twins.append(Twin(source, volume_id, target, copied))
    disk_tasks.check_space(task.target, _needed_bytes(task, eyes), eyes)
    return export.make(twins, path(task), text)


def way(task: Exporting, there: Removing, eyes: Eyes) -> Plan:
    """Return the plan to remove what was exported before.

    Only if the new copies fit into its place: NoSpace, DiskExported, and as `removal`.
    """
    for each in task.sources:
        is_left = each.disk_id not in there.disk_ids
        if is_left and eyes.look(task.target, each.disk_id).disk is not None:
            raise _lies_there(task, each)
    freed = sum(eyes.allocated_bytes(task.target, each) for each in there.disk_ids)
    disk_tasks.check_space(task.target, _needed_bytes(task, eyes) - freed, eyes)
    return removal(there, eyes)


def _needed_bytes(task: Exporting, eyes: Eyes) -> int:
    """Return what the copies take; an error of a disk that cannot be copied."""
    needed_bytes = 0
    for each in task.sources:
        disk = eyes.look(each.storage_domain_id, each.disk_id).require()
        meta = facts.meta_of(disk, leaf_id(disk, each))
        if meta.allocation is Allocation.SPARSE:
            words = (each.storage_domain_id, each.disk_id)
            needed_bytes += eyes.allocated_bytes(*words)
        else:
            needed_bytes += meta.capacity_bytes
    return needed_bytes


def _lies_there(task: Exporting, source: Source) -> DiskExported:
    return DiskExported(
        f"disk {source.disk_id} lies on storage domain {task.target} already",
        disk_id=source.disk_id,
    )
