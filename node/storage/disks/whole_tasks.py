"""Say what the making and the end of a whole definition do to its disks.

Pure. Templates, and VMs that are full clones, come with all their disks or not at all:
see `operations.clone`. Planned anew whenever its job runs; the definition tells
whether it is done. Sizes are bytes.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

from node.contract import definitions
from node.contract.definitions import Placing
from node.model.ids import JobId
from node.storage.disks import tasks as disk_tasks
from node.storage.disks.locks import Claim
from node.storage.disks.tasks import Eyes
from node.storage.formats import vm_file
from node.storage.formats.layout import Layout
from node.storage.formats.volume_meta import Allocation, VolumeRole
from node.storage.operations import clone, facts, reshape
from node.storage.operations.clone import Twin
from node.storage.operations.copy import CopyOf
from node.storage.operations.plan import Action, Plan


@dataclass(frozen=True, slots=True)
class Copied:
    """A disk that gets a copy."""

    source_id: str
    source_domain_id: str
    target_domain_id: str
    copy: CopyOf
    volume_id: str | None = None  # the state to copy; None: the newest


@dataclass(frozen=True, slots=True)
class Making:
    """Copy disks, and put the definition that names the copies in place."""

    placing: Placing
    copies: tuple[Copied, ...]

    @property
    def object_id(self) -> str:
        """What its journal is about: the first disk, if there is one."""
        copies = self.copies
        return copies[0].copy.image_id if copies else self.placing.places

    @property
    def storage_domains(self) -> frozenset[str]:
        named = ((e.source_domain_id, e.target_domain_id) for e in self.copies)
        return frozenset({self.placing.home}.union(*named))

    def claim(self, job_id: JobId) -> Claim:
        """Return what nothing else may work on meanwhile.

        A state that does not change may be read by others, too.
        """
        made = frozenset(each.copy.image_id for each in self.copies)
        newest = frozenset(e.source_id for e in self.copies if e.volume_id is None)
        kept = frozenset(e.source_id for e in self.copies) - newest
        places = {(e.target_domain_id, e.copy.image_id) for e in self.copies}
        places |= {(e.source_domain_id, e.source_id) for e in self.copies}
        return Claim(job_id, made | newest, kept, frozenset(places))


@dataclass(frozen=True, slots=True)
class Ending:
    """Remove disks with the definition that names them."""

    placing: Placing
    disks: tuple[tuple[str, str], ...]  # (storage domain, image)

    @property
    def object_id(self) -> str:
        return self.disks[0][1] if self.disks else self.placing.places

    @property
    def storage_domains(self) -> frozenset[str]:
        return frozenset({self.placing.home, *(where for where, _ in self.disks)})

    def claim(self, job_id: JobId) -> Claim:
        """Return what nothing else may work on, or build on, meanwhile."""
        changed = frozenset(image_id for _, image_id in self.disks)
        return Claim(job_id, changed, frozenset(), frozenset(self.disks))


def make(task: Making, eyes: Eyes) -> Plan:
    """Return the plan of copies.

    Raises NoSpace, NotASnapshot, SnapshotUnresolved, and as `copy.make`.
    """
    needed = Counter[str]()
    twins = []
    for each in task.copies:
        source = eyes.look(each.source_domain_id, each.source_id)
        disk = source.require()
        volume_id = each.volume_id or disk_tasks.leaf_of(disk)
        meta = facts.meta_of(disk, volume_id)
        if each.volume_id is not None and meta.role is VolumeRole.LEAF:
            raise disk_tasks.NotASnapshot(
                f"volume {volume_id} of disk {each.source_id} is the newest"
            )
        target = eyes.look(each.target_domain_id, each.copy.image_id)
        twins.append(Twin(source, volume_id, target, each.copy))
        if target.disk is not None:
            continue
        if each.volume_id is not None and meta.role is not VolumeRole.SHARED:
            where = each.source_domain_id
            disk_tasks.check_kept(each.source_id, where, volume_id, eyes)
        allocation = each.copy.allocation or meta.allocation
        is_thin = allocation is Allocation.SPARSE
        used = eyes.allocated_bytes(each.source_domain_id, each.source_id)
        needed[each.target_domain_id] += used if is_thin else meta.capacity_bytes
    for storage_domain_id, size_bytes in needed.items():
        disk_tasks.check_space(storage_domain_id, size_bytes, eyes)
    return clone.make(twins, define(task.placing))


def end(task: Ending, eyes: Eyes) -> Plan:
    """Return the plan of removal; TemplateInUse."""
    looks = [
        (eyes.look(where, image_id), eyes.users(where, image_id))
        for where, image_id in task.disks
    ]
    return clone.end(looks, define(task.placing))


def define(placing: Placing) -> Action:
    """Return what puts a definition in place, or takes it away."""
    root = Layout(PurePosixPath("/", placing.home))
    path = root.vm(placing.places) / vm_file.NAME
    return reshape.define(path, definitions.write(placing))
