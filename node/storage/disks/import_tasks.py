"""Say what the import of a VM or template does to disks, and what it locks.

Pure. All its disks come with the definition that names them, or none does: see
`operations.clone`. Planned anew whenever its job runs; the definition tells whether it
is done. Sizes are bytes.
"""

from collections import Counter
from dataclasses import dataclass

from node.contract.definitions import Placing
from node.errors import Conflict
from node.model.ids import DiskId, JobId, StorageDomainId
from node.storage.disks import tasks as disk_tasks
from node.storage.disks import whole_tasks
from node.storage.disks.locks import Claim
from node.storage.disks.tasks import Eyes
from node.storage.formats.volume_meta import Allocation
from node.storage.operations import clone, facts
from node.storage.operations.clone import Twin
from node.storage.operations.copy import CopyOf
from node.storage.operations.plan import Plan


class DiskLiesHere(Conflict):
    """A disk of that id lies in the pool already."""

    code = "disk_lies_here"
    remedy = "Import the VM with another id: its disks get others, too."


@dataclass(frozen=True, slots=True)
class Brought:
    """A disk on an export storage domain that gets a copy."""

    source_id: DiskId
    target_domain_id: StorageDomainId
    copy: CopyOf
    allocated_bytes: int


@dataclass(frozen=True, slots=True)
class Importing:
    """Copy exported disks, and put the definition that names the copies in place."""

    placing: Placing
    origin: StorageDomainId  # an export storage domain
    disks: tuple[Brought, ...]

    @property
    def object_id(self) -> str:
        """What its journal is about: the first disk, if there is one."""
        return self.disks[0].copy.image_id if self.disks else self.placing.places

    @property
    def storage_domains(self) -> frozenset[str]:
        """Return where something is made; what is only read has no lease."""
        return frozenset({self.placing.home, *(e.target_domain_id for e in self.disks)})

    def claim(self, job_id: JobId) -> Claim:
        """Return what nothing else may work on meanwhile."""
        changed = {each.copy.image_id for each in self.disks}
        changed |= {each.source_id for each in self.disks}
        places = {(e.target_domain_id, e.copy.image_id) for e in self.disks}
        places |= {(self.origin, each.source_id) for each in self.disks}
        return Claim(job_id, frozenset(changed), frozenset(), frozenset(places))


def plan(task: Importing, eyes: Eyes) -> Plan:
    """Return the plan; DiskLiesHere, NoSpace, and as `copy.make`."""
    needed = Counter[str]()
    twins = []
    for each in task.disks:
        source = eyes.look(task.origin, each.source_id)
        volume_id = disk_tasks.leaf_of(source.require())
        meta = facts.meta_of(source.require(), volume_id)
        target = eyes.look(each.target_domain_id, each.copy.image_id)
        if target.disk is not None:
            check_away(each.copy.image_id, (each.target_domain_id,))
        check_away(each.copy.image_id, eyes.places(each.copy.image_id))
        is_thin = meta.allocation is Allocation.SPARSE
        size_bytes = each.allocated_bytes if is_thin else meta.capacity_bytes
        needed[each.target_domain_id] += size_bytes
        twins.append(Twin(source, volume_id, target, each.copy))
    for storage_domain_id, size_bytes in needed.items():
        disk_tasks.check_space(storage_domain_id, size_bytes, eyes)
    return clone.make(twins, whole_tasks.define(task.placing))


def check_away(disk_id: str, places: tuple[str, ...]) -> None:
    """Refuse a disk that lies somewhere; DiskLiesHere."""
    if places:
        raise DiskLiesHere(
            f"disk {disk_id} lies on storage domain {places[0]} already",
            disk_id=disk_id,
            storage_domain_id=places[0],
        )
