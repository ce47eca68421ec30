"""Say what each verb on disks does: a task is what its job needs to be run again.

A task holds all that was decided when it was asked for (ids, moments), so that it
plans the same whenever it is planned. `plan` looks through `Eyes` and decides anew
from what lies there; a plan without steps means that it is so already.
Sizes are bytes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, Protocol

from node.contract import definitions, snapshots
from node.contract.definitions import DiskGone, DiskMoved
from node.errors import Conflict, Error, Invalid
from node.model.host import Image
from node.model.ids import DiskId, NodeId, StorageDomainId, VmId
from node.model.vm import Vm
from node.storage.disks.chain_problems import Kind
from node.storage.formats import vm_file
from node.storage.formats.disk_options import DiskOptions, OptionsChange
from node.storage.formats.layout import Layout
from node.storage.formats.volume_meta import Allocation, Format, VolumeRole
from node.storage.operations import (
    add_volume,
    change,
    copy,
    create,
    delete,
    discard,
    facts,
    merge,
    move,
    record_size,
    repair,
    reshape,
    resize,
    sparsify,
    upload,
)
from node.storage.operations.copy import CopyOf
from node.storage.operations.facts import Disk, NotALeaf, NotATemplate, Place
from node.storage.operations.plan import Action, Plan
from node.storage.operations.volumes import NewVolume


class NoSpace(Conflict):
    """What is to be written does not fit."""

    code = "storage_domain_lacks_space"
    remedy = "Free space on the storage domain, or choose another one."


class NotASnapshot(Conflict):
    """A disk's newest state is copied while nobody can change it; this names it so."""

    code = "not_a_snapshot"
    remedy = "Leave the snapshot out: the disk is copied as it is now."


class SnapshotUnresolved(Invalid):
    """No VM here has such a snapshot of the disk, or it is not whole."""

    code = "snapshot_unresolved"
    remedy = "See `skerry-node snapshot list` of the VM; just taken, try again."


class DiskNamed(Conflict):
    """A template is made of the disk."""

    code = "disk_named_by_vm"
    remedy = "Delete the template that the message names; its disks go with it."


@dataclass(frozen=True, slots=True)
class Named:
    """A definition that names a disk, and the storage domain that bears it."""

    vm: Vm
    home: str


class Eyes(Protocol):
    """What a plan is made from, as it is now."""

    def look(self, storage_domain_id: str, image_id: str) -> Place: ...

    def places(self, image_id: str) -> tuple[str, ...]:
        """Return the storage domains where a disk is known to lie; none is asked."""

    def named_by(self, disk_id: str, storage_domain_id: str) -> tuple[Named, ...]:
        """Return the stored definitions that name a disk which lies there."""

    def users(self, storage_domain_id: str, image_id: str) -> tuple[str, ...]:
        """Return the images that are known to be built on a template's."""

    def templates(self, place: Place) -> Mapping[str, Disk]:
        """Return the templates whose links an image misses, by their volumes."""

    def allocated_bytes(self, storage_domain_id: str, image_id: str) -> int: ...

    def free_bytes(self, storage_domain_id: str) -> int: ...

    def base_image(self, name: str) -> Image:
        """Return a base image of this node; ImageUnknown."""


@dataclass(frozen=True, slots=True)
class Create:
    disk_id: str
    storage_domain_id: str
    volume: NewVolume
    template_id: str | None = None  # the disk that a thin clone is built on
    options: DiskOptions = field(default_factory=DiskOptions)
    image: str | None = None  # the base image that it starts as a copy of


@dataclass(frozen=True, slots=True)
class Delete:
    disk_id: str
    storage_domain_id: str
    transfer_id: str | None = None  # which holds the disk, and did not end well
    is_copy: bool = False  # a template's, of which another one is left


@dataclass(frozen=True, slots=True)
class Resize:
    disk_id: str
    storage_domain_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RecordSize:
    disk_id: str
    storage_domain_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Change:
    disk_id: str
    storage_domain_id: str
    description: str  # as the volume has it, see node.storage.ovf.description
    options: OptionsChange = field(default_factory=OptionsChange)


@dataclass(frozen=True, slots=True)
class Copy:
    disk_id: str  # of the copy
    storage_domain_id: str  # where the copy shall lie
    source_id: str
    source_domain_id: str
    copy: CopyOf
    volume_id: str | None = None  # the state to copy; None: the newest
    data_node_id: NodeId | None = None  # who moves the data; None: it is chosen


@dataclass(frozen=True, slots=True)
class Move:
    disk_id: str
    storage_domain_id: str  # where it lies until now
    target_domain_id: str
    template_id: str | None = None  # the disk that it is built on
    data_node_id: NodeId | None = None


@dataclass(frozen=True, slots=True)
class Sparsify:
    disk_id: str
    storage_domain_id: str
    data_node_id: NodeId | None = None


@dataclass(frozen=True, slots=True)
class AddVolume:
    disk_id: str
    storage_domain_id: str
    volume_id: str
    parent_id: str
    created_at_s: int
    size_bytes: int = 0  # 0: as its parent


@dataclass(frozen=True, slots=True)
class Merge:
    disk_id: str
    storage_domain_id: str
    base_id: str
    top_id: str
    data_node_id: NodeId | None = None


@dataclass(frozen=True, slots=True)
class MakeTemplate:
    disk_id: str
    storage_domain_id: str


@dataclass(frozen=True, slots=True)
class Discard:
    disk_id: str
    storage_domain_id: str
    leaf_id: str
    kept_id: str


@dataclass(frozen=True, slots=True)
class Repair:
    disk_id: str
    storage_domain_id: str
    kind: Kind
    volume_id: str


@dataclass(frozen=True, slots=True)
class BeginUpload:
    disk_id: str
    storage_domain_id: str
    volume_id: str
    transfer_id: str  # which holds the disk
    file_bytes: int | None = None  # of a qcow2 file; None: what guests see comes


@dataclass(frozen=True, slots=True)
class EndUpload:
    disk_id: str
    storage_domain_id: str
    volume_id: str
    transfer_id: str  # which holds the disk


Task = (
    Create
    | Delete
    | Resize
    | RecordSize
    | Change
    | Copy
    | Move
    | Sparsify
    | AddVolume
    | Merge
    | MakeTemplate
    | Discard
    | Repair
    | BeginUpload
    | EndUpload
)

VERBS: Final[Mapping[str, type[Task]]] = {
    "disk_create": Create,
    "disk_delete": Delete,
    "disk_resize": Resize,
    "disk_record_size": RecordSize,
    "disk_change": Change,
    "disk_copy": Copy,
    "disk_move": Move,
    "disk_sparsify": Sparsify,
    "disk_add_volume": AddVolume,
    "disk_merge": Merge,
    "disk_make_template": MakeTemplate,
    "disk_discard": Discard,
    "disk_repair": Repair,
    "disk_begin_upload": BeginUpload,
    "disk_end_upload": EndUpload,
}


def verb(kind: type[Task]) -> str:
    """Return the name of a task's verb, which its jobs bear."""
    return next(name for name, each in VERBS.items() if each is kind)


def changed(task: Task) -> frozenset[str]:
    """Return the disks that nothing else may work on meanwhile."""
    match task:
        case Copy(volume_id=None):
            return frozenset({task.disk_id, task.source_id})
        case _:
            return frozenset({task.disk_id})


def read(task: Task) -> frozenset[str]:
    """Return the disks that must stay as they are meanwhile."""
    match task:
        case Copy(volume_id=str()):
            return frozenset({task.source_id}) - {task.disk_id}
        case Create(template_id=str(template_id)) | Move(template_id=str(template_id)):
            return frozenset({template_id})
        case _:
            return frozenset()


def idle(task: Task) -> frozenset[str]:
    """Return the disks that no guest may run with meanwhile."""
    match task:
        case Create() | Change() | AddVolume() | RecordSize():
            return frozenset()
        case Copy():
            return frozenset({task.source_id} if task.volume_id is None else ())
        case _:
            return frozenset({task.disk_id})


def may_sleep(task: Task) -> bool:
    """Tell whether suspended VMs find on the disk what they have seen there."""
    return isinstance(task, Move)


def within(task: Task) -> str | None:
    """Return the transfer that holds the disk, and does not stand in its way."""
    if isinstance(task, BeginUpload | EndUpload | Delete):
        return task.transfer_id
    return None


def data_node(task: Task) -> NodeId | None:
    """Return the node that was asked to move its data; None: any."""
    if isinstance(task, Copy | Move | Sparsify | Merge):
        return task.data_node_id
    return None


def moves_data(task: Task) -> bool:
    """Tell whether it copies what a disk holds, which may take hours."""
    if isinstance(task, Create):
        return task.image is not None
    return isinstance(task, Copy | Move | Sparsify | Merge)


def places(task: Task) -> tuple[tuple[str, str], ...]:
    """Return the (storage domain, image) pairs that it works on or reads."""
    own = (task.storage_domain_id, task.disk_id)
    match task:
        case Copy():
            return own, (task.source_domain_id, task.source_id)
        case Move():
            return own, (task.target_domain_id, task.disk_id)
        case _:
            return (own,)


def touched(task: Task) -> frozenset[tuple[str, str]]:
    """Return the (storage domain, image) pairs that no journal may name."""
    pairs = places(task)
    match task:
        case Create(template_id=str(template_id)):
            pairs += ((task.storage_domain_id, template_id),)
        case Move(template_id=str(template_id)):
            pairs += ((task.target_domain_id, template_id),)
    return frozenset(pairs)


def storage_domains(task: Task) -> frozenset[str]:
    """Return the storage domains whose leases it needs."""
    return frozenset(storage_domain_id for storage_domain_id, _ in places(task))


def plan(task: Task, eyes: Eyes) -> Plan:
    """Return what is to be done; whatever the operations raise, and NoSpace."""
    place = eyes.look(task.storage_domain_id, task.disk_id)
    match task:
        case Create():
            made = _create(task, place, eyes)
        case Delete():
            made = _delete(task, place, eyes)
        case Resize():
            made = resize.make(place, leaf_of(place.require()), task.size_bytes)
        case RecordSize():
            leaf_id = leaf_of(place.require())
            made = record_size.make(place, leaf_id, task.size_bytes)
        case Change():
            leaf_id = leaf_of(place.require())
            made = change.describe(place, leaf_id, task.description, task.options)
        case Copy():
            made = _copy(task, place, eyes)
        case Move():
            made = _move(task, place, eyes)
        case Sparsify():
            is_wiped = bool(place.options and place.options.wipe_after_delete)
            leaf_id = leaf_of(place.require())
            made = sparsify.make(place, leaf_id, is_wiped=is_wiped)
        case AddVolume():
            made = add_volume.make(place, _leaf(task), task.parent_id)
        case Merge():
            made = _merge(task, place)
        case MakeTemplate():
            made = change.make_template(place, leaf_of(place.require()))
        case Discard():
            made = discard.make(place, task.leaf_id, task.kept_id)
        case Repair():
            templates = eyes.templates(place)
            made = repair.make(place, task.kind, task.volume_id, templates)
        case BeginUpload():
            made = upload.begin(place, task.volume_id, task.file_bytes)
        case EndUpload():
            made = upload.end(place, task.volume_id)
    return made


def _defined(
    task: Delete | Move, eyes: Eyes, become: Callable[[VmId], DiskMoved | DiskGone]
) -> tuple[Action, ...]:
    """Return what lets definitions follow; DiskNamed, InPreview."""
    actions = []
    for each in eyes.named_by(task.disk_id, task.storage_domain_id):
        vm = each.vm
        if vm.template is not None:
            raise DiskNamed(
                f"template {vm.spec.name} has disk {task.disk_id}",
                disk_id=task.disk_id,
                vm_id=vm.spec.vm_id,
            )
        if isinstance(task, Delete):
            snapshots.check_settled(vm)
        path = Layout(PurePosixPath("/", each.home)).vm(vm.spec.vm_id) / vm_file.NAME
        text = definitions.write(become(vm.spec.vm_id))
        actions.append(reshape.define(path, text))
    return tuple(actions)


def leaf_of(disk: Disk) -> str:
    """Return the volume that stands for a disk; NotALeaf if there are several."""
    found = [
        volume_id
        for volume_id in disk.own()
        if not disk.image.readers(volume_id) and disk.image.volumes[volume_id].meta
    ]
    if len(found) != 1:
        raise NotALeaf(
            f"disk {disk.image_id} has {len(found)} newest volumes",
            image_id=disk.image_id,
        )
    return found[0]


def check_kept(
    disk_id: str, storage_domain_id: str, volume_id: str, eyes: Eyes
) -> None:
    """Refuse a state that is no whole snapshot's any more; SnapshotUnresolved.

    What was read before the disk was claimed may be merged by now.
    """
    for named in eyes.named_by(disk_id, storage_domain_id):
        for snapshot in named.vm.snapshots:
            kept = {(str(each.disk_id), each.volume_id) for each in snapshot.disks}
            if snapshots.is_whole(snapshot) and (disk_id, volume_id) in kept:
                return
    raise SnapshotUnresolved(
        f"no whole snapshot keeps volume {volume_id} of disk {disk_id}",
        disk_id=disk_id,
        volume_id=volume_id,
    )


def _create(task: Create, place: Place, eyes: Eyes) -> Plan:
    template = None
    if task.template_id is not None:
        template = eyes.look(task.storage_domain_id, task.template_id).require()
    made = create.make(place, task.volume, template, task.options, task.image)
    if not made.steps:
        return made
    _check_nowhere_else(task.disk_id, task.storage_domain_id, eyes)
    needed = 0
    if task.image is not None:
        image = eyes.base_image(task.image)
        if task.volume.size_bytes < image.size_bytes:
            raise facts.BadSize(
                f"base image {image.name} has {image.size_bytes} bytes",
                size_bytes=str(task.volume.size_bytes),
            )
        needed = image.allocated_bytes
    if task.volume.allocation is Allocation.PREALLOCATED:
        needed = task.volume.size_bytes
    if needed:
        check_space(task.storage_domain_id, needed, eyes)
    return made


def _check_nowhere_else(disk_id: str, storage_domain_id: str, eyes: Eyes) -> None:
    """Refuse to make a disk again that has been made, and moved since; DiskExists."""
    for each in eyes.places(disk_id):
        if each != storage_domain_id:
            raise facts.DiskExists(
                f"disk {disk_id} exists on storage domain {each}", id=disk_id
            )


def _delete(task: Delete, place: Place, eyes: Eyes) -> Plan:
    disk, defined = place.disk, tuple[Action, ...]()
    if disk is not None:
        disk_id = DiskId(task.disk_id)
        defined = _defined(task, eyes, lambda vm_id: DiskGone(disk_id, vm_id))
    is_used = disk is not None and any(
        volume.is_template and volume.links > 1
        for volume in (disk.image.volumes[each] for each in disk.own())
    )
    # Links are the truth; who has them is known from the last look.
    users = eyes.users(task.storage_domain_id, task.disk_id) if is_used else ()
    made = delete.make(place, users=users, defined=defined)
    if task.is_copy and disk is not None:
        delete.check_not_last(disk, _others(task, eyes))
    return made


def _others(task: Delete, eyes: Eyes) -> Iterator[Place]:
    """Yield what other storage domains have of a disk, if they are in reach."""
    for each in eyes.places(task.disk_id):
        if each != task.storage_domain_id:
            try:
                place = eyes.look(each, task.disk_id)
            except Error:
                continue  # it does not count
            yield place


def _copy(task: Copy, place: Place, eyes: Eyes) -> Plan:
    original = eyes.look(task.source_domain_id, task.source_id)
    source = original.require()
    volume_id = task.volume_id or leaf_of(source)
    if task.disk_id == task.source_id:
        meta = facts.meta_of(source, volume_id)
        if meta.role is not VolumeRole.SHARED:
            raise NotATemplate(
                f"disk {task.source_id} is no template's: a copy needs an id of its own"
            )
    role = facts.meta_of(source, volume_id).role
    if task.volume_id is not None and role is VolumeRole.LEAF:
        raise NotASnapshot(f"volume {volume_id} of disk {task.source_id} is the newest")
    made = copy.make(source, volume_id, place, task.copy, original.options)
    if made.steps:
        if task.disk_id != task.source_id:
            _check_nowhere_else(task.disk_id, task.storage_domain_id, eyes)
        if task.volume_id is not None and role is not VolumeRole.SHARED:
            check_kept(task.source_id, task.source_domain_id, volume_id, eyes)
        needed = eyes.allocated_bytes(task.source_domain_id, task.source_id)
        if task.copy.allocation is Allocation.PREALLOCATED:
            needed = facts.meta_of(source, volume_id).capacity_bytes
        check_space(task.storage_domain_id, needed, eyes)
    return made


def _move(task: Move, source: Place, eyes: Eyes) -> Plan:
    target = eyes.look(task.target_domain_id, task.disk_id)
    template = None
    if task.template_id is not None:
        template = eyes.look(task.target_domain_id, task.template_id).disk
    disk_id, where = DiskId(task.disk_id), StorageDomainId(task.storage_domain_id)
    there = StorageDomainId(task.target_domain_id)
    defined = _defined(
        task, eyes, lambda vm_id: DiskMoved(disk_id, vm_id, where, there)
    )
    made = move.make(source, target, template, defined=defined)
    if made.steps:
        needed = eyes.allocated_bytes(task.storage_domain_id, task.disk_id)
        check_space(task.target_domain_id, needed, eyes)
    return made


def _leaf(task: AddVolume) -> NewVolume:
    return NewVolume(
        task.disk_id,
        task.volume_id,
        task.size_bytes,
        Format.COW,
        Allocation.SPARSE,
        task.created_at_s,
    )


def _merge(task: Merge, place: Place) -> Plan:
    volumes = place.require().image.volumes
    if task.top_id not in volumes and task.base_id in volumes:
        return Plan()
    return merge.make(place, task.base_id, task.top_id)


def check_space(storage_domain_id: str, needed_bytes: int, eyes: Eyes) -> None:
    """Refuse what does not fit; NoSpace."""
    free_bytes = eyes.free_bytes(storage_domain_id)
    if needed_bytes > free_bytes:
        raise NoSpace(
            f"storage domain {storage_domain_id} has {free_bytes} bytes left, "
            f"{needed_bytes} are needed",
            storage_domain_id=storage_domain_id,
            free_bytes=free_bytes,
            needed_bytes=needed_bytes,
        )
