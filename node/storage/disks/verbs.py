"""Say what each verb on the disks of a pool means here, and take it on as a job.

Ids and moments are decided when a verb is asked for the first time; asked twice with
one id of a job it is one job, and what is so already is done at once. Sizes are bytes.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from node.clock import Clock
from node.contract.definitions import Placing
from node.contract.snapshots import Change
from node.contract.templates import Source
from node.contract.volumes import Course
from node.errors import Conflict, Unsupported
from node.jobs import Progress, workers
from node.model.ids import DiskId, JobId, NodeId, StorageDomainId
from node.model.job import Job
from node.model.storage import Allocation, ContentType, DiskFormat
from node.model.storage_requests import (
    ActOnDisk,
    ChangeDisk,
    CopyDisk,
    CreateDisk,
    MoveDisk,
    ResizeDisk,
    SparsifyDisk,
)
from node.model.vm import Disk, Vm
from node.storage.disks import chain_problems, vm_tasks, whole_tasks
from node.storage.disks import tasks as disk_tasks
from node.storage.disks.locks import Claim
from node.storage.disks.sights import ImageSight
from node.storage.disks.tasks import Eyes, Task
from node.storage.disks.vm_tasks import Reshape, VmTask
from node.storage.disks.whole_tasks import Copied
from node.storage.disks.work import Asked, DiskWork
from node.storage.domains.catalog import Catalog
from node.storage.formats import layout, volume_meta
from node.storage.formats.disk_options import DiskOptions, OptionsChange
from node.storage.operations.copy import CopyOf
from node.storage.operations.facts import DiskMissing
from node.storage.operations.plan import Plan
from node.storage.operations.volumes import NewVolume
from node.storage.ovf import description
from node.storage.ovf.description import DiskLabel, StoreLabel
from node.storage.ovf.store import STORE_MAX
from node.storage.spm import pool_rules
from node.storage.spm.pool import Pool

_FORMATS: Final = {
    DiskFormat.RAW: volume_meta.Format.RAW,
    DiskFormat.QCOW2: volume_meta.Format.COW,
}
_ALLOCATIONS: Final = {
    Allocation.THIN: volume_meta.Allocation.SPARSE,
    Allocation.PREALLOCATED: volume_meta.Allocation.PREALLOCATED,
}
_TYPES: Final = {
    ContentType.DATA: "DATA",
    ContentType.ISO: "ISOF",
    ContentType.MEMORY_DUMP: "MEMD",
    ContentType.MEMORY_METADATA: "MEMM",
}
_OVF_STORE: Final = "OVFS"


# Of disks that may not be there.
_LEFT: Final = (chain_problems.Kind.REMAINS, chain_problems.Kind.OPTIONS_LEFT)

Find = Callable[[], Vm | None]
Make = Callable[[Eyes], Plan]
Check = Callable[[], None]


def _nobody_runs() -> None:
    """Know that no guest runs with a template's disk."""


class DiskInSeveralPlaces(Conflict):
    """Copies of a template's disk lie on several storage domains."""

    code = "disk_in_several_places"
    remedy = "Name the storage domain."


class DiskOptionUnsupported(Unsupported):
    """A volume's metadata have no place for it."""

    code = "disk_option_unsupported"
    remedy = "Leave the option out."


class Disks:
    """The verbs on the disks of one pool. Any thread may call."""

    def __init__(
        self, pool: Pool, work: DiskWork, catalog: Catalog, clock: Clock
    ) -> None:
        self._pool = pool
        self._work = work
        self._catalog = catalog
        self._clock = clock

    def create(self, request: CreateDisk, image: str | None = None) -> Job:
        """Make a disk: blank, a template's thin clone, or a copy of a base image."""

        def task() -> Task:
            if request.content not in _TYPES:
                raise DiskOptionUnsupported(f"disks for {request.content} make others")
            volume = NewVolume(
                disk_id,
                first_volume(layout.check_id(disk_id)),
                request.size_bytes,
                _FORMATS[request.disk_format],
                _ALLOCATIONS[request.allocation],
                self._now_s(),
                description.write_disk(DiskLabel(request.name, request.description)),
                _TYPES[request.content],
            )
            where, template_id = request.storage_domain_id, request.from_disk_id
            is_wiped = request.wipe_after_delete
            if is_wiped is None:
                entry = pool_rules.entry(self._pool.map, where)
                is_wiped = entry.wipe_after_delete
            options = DiskOptions(request.is_shared, is_wiped, request.qos)
            return disk_tasks.Create(
                disk_id, where, volume, template_id, options, image
            )

        disk_id = request.disk_id
        return self._work.ask(disk_tasks.Create, disk_id, Asked.of(request), task)

    def create_ovf_store(self, disk_id: str, storage_domain_id: str) -> Job:
        """Make a disk for definitions of VMs, as oVirt does; it holds none yet."""

        def task() -> Task:
            volume = NewVolume(
                disk_id,
                first_volume(disk_id),
                STORE_MAX,
                volume_meta.Format.RAW,
                volume_meta.Allocation.SPARSE,
                self._now_s(),
                description.write_store(StoreLabel(is_updated=False)),
                _OVF_STORE,
            )
            return disk_tasks.Create(disk_id, storage_domain_id, volume)

        return self._work.ask(disk_tasks.Create, disk_id, Asked(), task)

    def delete(
        self,
        disk_id: str,
        request: ActOnDisk,
        storage_domain_id: StorageDomainId | None = None,
    ) -> Job:
        """Remove a disk with all its snapshots, or a copy of a template's disk.

        The request names where the copy lies, of which another one must be left; or
        `storage_domain_id` says where whatever lies there goes.
        """

        def task() -> Task:
            place = request.storage_domain_id or storage_domain_id
            where = self._where(disk_id, place).storage_domain_id
            is_copy = request.storage_domain_id is not None
            return disk_tasks.Delete(disk_id, where, is_copy=is_copy)

        return self._work.ask(disk_tasks.Delete, disk_id, Asked.of(request), task)

    def resize(self, disk_id: str, request: ResizeDisk) -> Job:
        """Let a disk grow that no guest uses."""

        def task() -> Task:
            where = self._where(disk_id).storage_domain_id
            return disk_tasks.Resize(disk_id, where, request.size_bytes)

        return self._work.ask(disk_tasks.Resize, disk_id, Asked.of(request), task)

    def record_size(self, disk_id: str, size_bytes: int, asked: Asked) -> Job:
        """Write down that a disk has grown under its guest."""

        def task() -> Task:
            where = self._where(disk_id).storage_domain_id
            return disk_tasks.RecordSize(disk_id, where, size_bytes)

        return self._work.ask(disk_tasks.RecordSize, disk_id, asked, task)

    def change(self, disk_id: str, request: ChangeDisk) -> Job:
        """Give a disk another name or description, or other options."""

        def task() -> Task:
            sight = self._where(disk_id)
            label = DiskLabel(
                sight.name if request.name is None else request.name,
                sight.description
                if request.description is None
                else request.description,
            )
            text = description.write_disk(label)
            options = OptionsChange(
                request.is_shared, request.wipe_after_delete, request.qos
            )
            where = sight.storage_domain_id
            return disk_tasks.Change(disk_id, where, text, options)

        return self._work.ask(disk_tasks.Change, disk_id, Asked.of(request), task)

    def copy(
        self, disk_id: str, request: CopyDisk, volume_id: str | None = None
    ) -> Job:
        """Copy a disk's state to a new disk, or a template's disk to one more place.

        `volume_id` is what the request's snapshot stands for.
        """

        def task() -> Task:
            if request.snapshot_id is not None and volume_id is None:
                raise disk_tasks.SnapshotUnresolved(
                    f"snapshot {request.snapshot_id} of what?"
                )
            sight = self._where(disk_id, is_any=True)
            wanted = self._wanted_copy(sight, request)
            state_id = volume_id
            if sight.is_template and sight.volumes:
                state_id = sight.volumes[-1]
            return disk_tasks.Copy(
                request.disk_id,
                request.storage_domain_id,
                disk_id,
                sight.storage_domain_id,
                wanted,
                state_id,
                request.data_node_id,
            )

        return self._work.ask(disk_tasks.Copy, request.disk_id, Asked.of(request), task)

    def move(self, disk_id: str, request: MoveDisk) -> Job:
        """Move a disk with all its snapshots to another storage domain."""

        def task() -> Task:
            sight, target = self._where(disk_id), request.storage_domain_id
            template_id = self._template_of(sight)
            where = sight.storage_domain_id
            return disk_tasks.Move(
                disk_id, where, target, template_id, request.data_node_id
            )

        return self._work.ask(disk_tasks.Move, disk_id, Asked.of(request), task)

    def sparsify(self, disk_id: str, request: SparsifyDisk) -> Job:
        """Give back what a thin disk holds of zeros; no guest uses it."""

        def task() -> Task:
            where = self._where(disk_id).storage_domain_id
            return disk_tasks.Sparsify(disk_id, where, request.data_node_id)

        return self._work.ask(disk_tasks.Sparsify, disk_id, Asked.of(request), task)

    def add_volume(
        self,
        disk_id: str,
        volume_id: str,
        parent_id: str,
        asked: Asked,
        size_bytes: int = 0,
    ) -> Job:
        """Make a new leaf over a volume: what a snapshot does to the storage.

        `size_bytes` 0: as large as its parent.
        """

        def task() -> Task:
            where, now_s = self._where(disk_id).storage_domain_id, self._now_s()
            return disk_tasks.AddVolume(
                disk_id, where, volume_id, parent_id, now_s, size_bytes
            )

        return self._work.ask(disk_tasks.AddVolume, disk_id, asked, task)

    def merge(self, disk_id: str, base_id: str, top_id: str, asked: Asked) -> Job:
        """Merge a volume into the one that it is built on; no guest uses the disk."""

        def task() -> Task:
            where = self._where(disk_id).storage_domain_id
            return disk_tasks.Merge(disk_id, where, base_id, top_id)

        return self._work.ask(disk_tasks.Merge, disk_id, asked, task)

    def make_template(self, disk_id: str, request: ActOnDisk) -> Job:
        """Let other disks be built on this one, for good."""

        def task() -> Task:
            where = self._where(disk_id).storage_domain_id
            return disk_tasks.MakeTemplate(disk_id, where)

        return self._work.ask(disk_tasks.MakeTemplate, disk_id, Asked.of(request), task)

    def discard(self, disk_id: str, leaf_id: str, kept_id: str, asked: Asked) -> Job:
        """Remove a branch of a disk: the other end of a preview."""

        def task() -> Task:
            where = self._where(disk_id).storage_domain_id
            return disk_tasks.Discard(disk_id, where, leaf_id, kept_id)

        return self._work.ask(disk_tasks.Discard, disk_id, asked, task)

    def repair(
        self,
        disk_id: str,
        kind: chain_problems.Kind,
        volume_id: str,
        asked: Asked,
        storage_domain_id: StorageDomainId | None = None,
    ) -> Job:
        """Mend one problem that `DiskWork.check` has found."""

        def task() -> Task:
            where: str | None = storage_domain_id if kind in _LEFT else None
            if where is None:
                where = self._where(disk_id, storage_domain_id).storage_domain_id
            return disk_tasks.Repair(disk_id, where, kind, volume_id)

        return self._work.ask(disk_tasks.Repair, disk_id, asked, task)

    def sight(self, disk_id: str, *, is_any: bool = False) -> ImageSight:
        """Return what is known of a disk; DiskMissing, DiskInSeveralPlaces.

        `is_any`: any copy of a template's will do.
        """
        return self._where(disk_id, is_any=is_any)

    @contextmanager
    def sparing(self, places: Iterable[tuple[str, str]]) -> Iterator[None]:
        """Let nobody change or remove disks meanwhile: (storage domain, disk) pairs.

        Raises DiskLocked and DiskUnfinished, and as `DiskWork.hold`.
        """
        places = frozenset(places)
        disk_ids = frozenset(disk_id for _, disk_id in places)
        claim = Claim(workers.random_id(), frozenset(), disk_ids, places)
        self._work.hold(claim)
        try:
            yield
        finally:
            self._work.let_go(claim.job_id)

    @contextmanager
    def unread(self, places: Iterable[tuple[str, str]]) -> Iterator[None]:
        """Let no job work on disks meanwhile, nor copy them; guests may run with them.

        Raises DiskLocked and DiskUnfinished.
        """
        places = frozenset(places)
        disk_ids = frozenset(disk_id for _, disk_id in places)
        claim = Claim(workers.random_id(), disk_ids, frozenset(), places)
        self._work.hold_again(claim)
        try:
            yield
        finally:
            self._work.let_go(claim.job_id)

    def go_on(self, progress: Progress) -> None:
        """End what `reshape` was at when the agent stopped, before anybody looks."""
        self._work.go_on(progress)

    def is_left(self, job_id: JobId) -> bool:
        """Tell whether the journal of a job that failed may still be finished."""
        return job_id in self._work.left()

    def check_data_node(self, data_node_id: NodeId | None) -> None:
        """Refuse who is to move data and is no member of the pool; DataNodeUnknown."""
        self._work.check_data_node(data_node_id)

    def reshape(
        self,
        vm: Vm,
        change: Change,
        find: Find,
        progress: Progress,
        check_idle: Callable[[], None],
        *,
        is_running: bool,
        data_node_id: NodeId | None = None,
    ) -> None:
        """Do to a VM's disks what a change of its snapshots needs, in the VM's job.

        `find` reads the definition; `data_node_id` merges, None: who has least to do.
        Raises DefinitionChanged, DiskLocked, NotSpm, and as the operations. Idempotent.
        """

        def make(eyes: Eyes) -> Plan:
            looks = {
                each.disk_id: eyes.look(each.storage_domain_id, each.disk_id)
                for each in parts
            }
            return vm_tasks.plan(task, find(), looks)

        leaves = {each.disk_id: each.volume_id for each in vm.spec.disks}
        parts = tuple(
            vm_tasks.Part(
                each.disk_id,
                self._where(each.disk_id).storage_domain_id,
                # Its first leaf has no name in the definition.
                leaves.get(each.disk_id) or each.parent_id,
            )
            for each in change.leaves
        )
        assert vm.home is not None, "a VM of a pool has a home"
        task = Reshape(change, vm.home, parts, self._now_s(), is_running)
        self._work.carry_out(
            task, make, progress, check_idle, data_node_id=data_node_id
        )

    def make_whole(
        self,
        placing: Placing,
        sources: Mapping[DiskId, Source],
        progress: Progress,
        check_idle: Callable[[], None],
        data_node_id: NodeId | None = None,
    ) -> None:
        """Make copies for all disks of a definition, and put that in place.

        `sources` tell for each disk what is copied, `data_node_id` who copies. All is
        done, or nothing. Raises DefinitionChanged, DiskLocked, NoSpace, NotSpm, and as
        `copy`. Idempotent.
        """
        assert placing.vm is not None, "a definition that comes"
        is_template = placing.vm.template is not None
        copies = tuple(
            self._copied(disk, sources[disk.disk_id], is_template=is_template)
            for disk in placing.vm.spec.disks
        )
        task = whole_tasks.Making(placing, copies)

        def make(eyes: Eyes) -> Plan:
            return whole_tasks.make(task, eyes)

        self._work.carry_out(
            task, make, progress, check_idle, data_node_id=data_node_id
        )

    def carry_out(
        self, task: VmTask, make: Make, progress: Progress, check_idle: Check
    ) -> None:
        """Do what a VM's job needs of its disks; see `DiskWork.carry_out`."""
        self._work.carry_out(task, make, progress, check_idle)

    def end_whole(
        self,
        placing: Placing,
        disk_ids: Iterable[str],
        progress: Progress,
        check_unused: Callable[[Mapping[str, str]], None],
    ) -> None:
        """Remove disks wherever they lie, and the definition that names them.

        `check_unused` hears of the disks that are built on them, by their ids and
        names. Raises TemplateInUse, DiskLocked, NotSpm. Idempotent.
        """
        copies = [each for disk_id in disk_ids for each in self._copies(disk_id)]
        disks = tuple((each.storage_domain_id, each.image_id) for each in copies)
        task = whole_tasks.Ending(placing, disks)

        def make(eyes: Eyes) -> Plan:
            check_unused(
                {
                    user: self._name(storage_domain_id, user)
                    for storage_domain_id, image_id in disks
                    for user in eyes.users(storage_domain_id, image_id)
                }
            )
            return whole_tasks.end(task, eyes)

        self._work.carry_out(task, make, progress, _nobody_runs)

    def end_vm(
        self, placing: Placing, places: Iterable[tuple[str, str]], progress: Course
    ) -> None:
        """Remove a VM's definition and disks: (storage domain, disk) pairs.

        All lose their names, or none; what has lost it is purged by another job.
        Raises DefinitionChanged, DiskInUse, DiskLocked, NotSpm. Idempotent.
        """
        task = whole_tasks.Ending(placing, tuple(sorted(places)))
        disk_ids = [disk_id for _, disk_id in task.disks]

        def make(eyes: Eyes) -> Plan:
            return whole_tasks.end(task, eyes)

        def check_idle() -> None:
            self._work.check_unused(disk_ids)

        self._work.carry_out(task, make, progress, check_idle, is_brief=True)

    def _copied(self, disk: Disk, source: Source, *, is_template: bool) -> Copied:
        assert disk.storage_domain_id is not None, "a disk of a pool"
        sight = self._where(source.disk_id, is_any=True)
        volume_id = source.volume_id
        if sight.is_template and sight.volumes:
            volume_id = sight.volumes[-1]
        copy = CopyOf(
            disk.disk_id,
            first_volume(disk.disk_id),
            self._now_s(),
            _FORMATS[disk.disk_format] if disk.disk_format else None,
            None,
            description.write_disk(DiskLabel(disk.name or sight.name)),
            is_template,
        )
        where = sight.storage_domain_id
        return Copied(source.disk_id, where, disk.storage_domain_id, copy, volume_id)

    def _copies(self, disk_id: str) -> tuple[ImageSight, ...]:
        """Return all places of a template's disk; none: it is gone."""
        active = pool_rules.active_data(self._pool.map)
        for each in active:
            self._catalog.read_image(self._pool.access(each), disk_id)
        return tuple(
            each
            for each in self._catalog.find(layout.check_id(disk_id))
            if each.storage_domain_id in active
        )

    def _name(self, storage_domain_id: str, disk_id: str) -> str:
        known = self._catalog.sight(storage_domain_id)
        sight = known.images.get(disk_id) if known is not None else None
        return sight.name if sight is not None else ""

    def _where(
        self,
        disk_id: str,
        storage_domain_id: StorageDomainId | None = None,
        *,
        is_any: bool = False,
    ) -> ImageSight:
        """Return the sight of a disk, on the storage domain if one is named.

        `is_any`: any copy of a template's will do.
        """
        active = pool_rules.active_data(self._pool.map)
        for each in active:
            if self._catalog.sight(each) is None:
                self._catalog.refresh(self._pool.access(each))
        found = [
            each
            for each in self._catalog.find(layout.check_id(disk_id))
            if each.storage_domain_id in active
            and storage_domain_id in (None, each.storage_domain_id)
        ]
        if not found:
            raise DiskMissing(
                f"disk {disk_id} is on no active storage domain", id=disk_id
            )
        may_choose = is_any and all(each.is_template for each in found)
        if len(found) > 1 and not may_choose:
            raise DiskInSeveralPlaces(
                f"disk {disk_id} lies on {len(found)} storage domains", id=disk_id
            )
        return found[0]

    def _wanted_copy(self, sight: ImageSight, request: CopyDisk) -> CopyOf:
        layout.check_id(request.disk_id)
        is_template = request.disk_id == sight.image_id
        volume_id = first_volume(request.disk_id)
        if is_template and sight.volumes:
            volume_id = sight.volumes[-1]
        text = None
        if request.name is not None:
            text = description.write_disk(DiskLabel(request.name, sight.description))
        return CopyOf(
            request.disk_id,
            volume_id,
            self._now_s(),
            _FORMATS[request.disk_format] if request.disk_format else None,
            _ALLOCATIONS[request.allocation] if request.allocation else None,
            text,
            is_template,
        )

    def _template_of(self, sight: ImageSight) -> str | None:
        """Return the disk of the template that a disk is built on."""
        known = self._catalog.sight(sight.storage_domain_id)
        if sight.template is None or known is None:
            return None
        return known.templates().get(sight.template)

    def _now_s(self) -> int:
        return int(self._clock.now().timestamp())


def first_volume(disk_id: str) -> str:
    """Return the id of a new disk's first volume: asked twice, it is the same."""
    return str(uuid.uuid5(uuid.UUID(disk_id), "volume"))
