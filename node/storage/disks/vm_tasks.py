"""Say what a change of a VM's snapshots does to its disks, and what it locks.

Pure. A task is planned anew whenever its job runs: the definition tells whether the
change has happened, and then nothing is left to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Protocol

from node import wire
from node.contract import snapshots
from node.contract.snapshots import Act, Change, Leaf
from node.model.ids import JobId
from node.model.vm import Vm
from node.storage.disks import turned
from node.storage.disks.locks import Claim
from node.storage.formats import vm_file
from node.storage.formats.layout import Layout
from node.storage.formats.volume_meta import Allocation, Format
from node.storage.operations import reshape
from node.storage.operations.facts import Place
from node.storage.operations.plan import Plan
from node.storage.operations.reshape import Cut, Growth
from node.storage.operations.volumes import NewVolume


class VmTask(Protocol):
    """What a job changes together with a definition."""

    @property
    def object_id(self) -> str: ...

    @property
    def storage_domains(self) -> frozenset[str]: ...

    def claim(self, job_id: JobId) -> Claim: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A disk of the VM."""

    disk_id: str
    storage_domain_id: str
    leaf_id: str  # what the VM writes to until now


@dataclass(frozen=True, slots=True)
class Reshape:
    """A change, with all that was found out about its disks."""

    change: Change
    home: str  # the storage domain that bears the definition
    parts: tuple[Part, ...]
    created_at_s: int
    is_running: bool = False

    @property
    def object_id(self) -> str:
        """What its journal is about: the first disk, if there is one."""
        return self.parts[0].disk_id if self.parts else self.change.vm_id

    @property
    def storage_domains(self) -> frozenset[str]:
        return frozenset({self.home, *(each.storage_domain_id for each in self.parts)})

    def claim(self, job_id: JobId) -> Claim:
        """Return what nothing else may work on meanwhile."""
        places = ((each.storage_domain_id, each.disk_id) for each in self.parts)
        changed = frozenset(each.disk_id for each in self.parts)
        return Claim(job_id, changed, frozenset(), frozenset(places))


def plan(task: Reshape, vm: Vm | None, looks: Mapping[str, Place]) -> Plan:
    """Return what is to be done; `looks` are the disks as they lie there, by id.

    `vm` None: it was deleted. Raises DefinitionChanged, and as `reshape`.
    """
    change = task.change
    if vm is not None and snapshots.apply(vm, change) is vm:
        return Plan()
    if vm is not None:
        looks = {key: _expecting(place, vm) for key, place in looks.items()}
    path = Layout(PurePosixPath("/", task.home)).vm(change.vm_id) / vm_file.NAME
    defined = reshape.define(path, wire.encode(change).decode())
    leaves = [each for each in change.leaves if each.disk_id in looks]
    match change.act:
        case Act.TAKE | Act.PREVIEW:
            was = {each.disk_id: each.leaf_id for each in task.parts}
            growths = [
                Growth(
                    looks[each.disk_id],
                    _new_leaf(each.disk_id, each.volume_id, task.created_at_s),
                    each.parent_id,
                    was[each.disk_id],
                )
                for each in leaves
            ]
            return reshape.grow(growths, defined, is_running=task.is_running)
        case Act.UNDO | Act.COMMIT | Act.RETRACT:
            cuts = [
                Cut(looks[each.disk_id], each.volume_id, each.parent_id)
                for each in leaves
            ]
            return reshape.cut(cuts, defined)
    assert change.act is Act.FOLD, f"{change.act} is written by itself"
    (leaf,) = leaves
    there = looks[leaf.disk_id]
    is_running = task.is_running or _has_turned(there, leaf) or _is_out(there, leaf)
    fold = reshape.fold_running if is_running else reshape.fold
    return fold(looks[leaf.disk_id], leaf.parent_id, leaf.volume_id, defined)


def _expecting(place: Place, vm: Vm) -> Place:
    """Return what was seen, with the leaves that the definition names by now."""
    if place.disk is None:
        return place
    leaves = {
        each for disk_id, each in snapshots.leaves(vm) if disk_id == place.image_id
    }
    image = replace(place.disk.image, wanted=frozenset(leaves))
    return replace(place, disk=replace(place.disk, image=image))


def _has_turned(place: Place, leaf: Leaf) -> bool:
    """Tell whether a guest of another node has turned to the lower volume."""
    volume = place.require().image.volumes.get(leaf.volume_id)
    return volume is not None and turned.is_closed(volume.meta, leaf.parent_id)


def _is_out(place: Place, leaf: Leaf) -> bool:
    """Tell whether QEMU has taken an inner volume out, and died before that was noted.

    It writes the headers above anew when the lower volume has all data, not before.
    """
    volumes = place.require().image.volumes
    above = [each for each in volumes.values() if each.parent_id == leaf.volume_id]
    return bool(above) and all(each.backing_id == leaf.parent_id for each in above)


def _new_leaf(disk_id: str, volume_id: str, created_at_s: int) -> NewVolume:
    """Return a leaf that is as large as its parent."""
    return NewVolume(disk_id, volume_id, 0, Format.COW, Allocation.SPARSE, created_at_s)
