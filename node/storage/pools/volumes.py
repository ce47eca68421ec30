"""Do for VMs what `node.contract.volumes` promises: their disks, definitions, leases.

Whatever writes is the manager's. The chain of a disk is read when a guest starts, and
what lies there is believed only as far as metadata and headers agree (`startable`).
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import PurePath, PurePosixPath
from typing import Final

from node.clock import Clock
from node.contract import snapshots, templates
from node.contract.definitions import Placing
from node.contract.snapshots import Change, Leaf
from node.contract.volumes import (
    Course,
    DiskBusy,
    DiskNotMade,
    Layer,
    LeaseRecord,
    OpenVolume,
    OwnPool,
    PoolUnknown,
    PoolVms,
    VmLease,
    Volumes,
    check_awake,
    check_unnamed,
)
from node.errors import Conflict, Error, Unavailable
from node.jobs import Jobs, Progress
from node.model.ids import NodeId, PoolId, StorageDomainId, VmId
from node.model.job import ENDED, Job, JobState
from node.model.storage import DiskFormat, DiskQos
from node.model.storage_requests import CreateDisk
from node.model.vm import Disk, Vm, VmSpec
from node.storage.disks import startable
from node.storage.disks import tasks as disk_tasks
from node.storage.disks.work import Asked, StorageDomainInactive
from node.storage.domains.access import Access
from node.storage.formats import disk_options
from node.storage.formats.volume_meta import Format
from node.storage.guard import Guard
from node.storage.operations import facts
from node.storage.operations.facts import DiskMissing
from node.storage.pools import (
    leasing,
    leaving,
    memories,
    parts,
    turning,
    variables,
    wellness,
)
from node.storage.pools.leasing import VmLeasing
from node.storage.pools.parts import Part
from node.storage.process.holdings import StaleLease
from node.storage.process.protocol import Need
from node.storage.spm import pool_rules, vm_leases
from node.storage.spm.states import State
from node.storage.spm.vm_store import StoredVm, VmAway, VmNotStored

log = logging.getLogger(__name__)

# Who creates a VM waits for ten seconds.
_MADE_S: Final = 6.0
# After a restart of the agent it is manager again within a round or two.
RETURN_S: Final = 60.0
_LOOK_S: Final = 0.1
_FORMATS: Final = {Format.RAW: DiskFormat.RAW, Format.COW: DiskFormat.QCOW2}


class DefinitionsUnread(Unavailable):
    """Not all definitions of the pool's VMs can be read."""

    code = "vm_definitions_unread"
    remedy = "Bring the storage domain back, or mend the file, that the message names."


class SharedDiskFormat(Conflict):
    """Several VMs would write to one qcow2 file."""

    code = "shared_disk_not_raw"
    remedy = "Copy the disk to a raw one, or let one VM use it."


class PoolVolumes:
    """The pools of this node, as its VMs need them. Any thread may call."""

    def __init__(
        self, now: Callable[[], Iterable[Part]], guard: Guard, jobs: Jobs, clock: Clock
    ) -> None:
        """`now` returns what this node has at the moment."""
        self._parts = now
        self._guard = guard
        self._jobs = jobs
        self._clock = clock
        self._leasing = VmLeasing(lambda: (each.pool for each in now()), guard)

        def need(vm: Vm, version: int | None) -> Need | None:
            return self._need(self._of(vm.spec.pool_id), vm, version)

        self.memories = memories.PoolMemories(
            *(self, guard, self._place, need, self._wait, self._holding)
        )

    def watch(self, is_active: Callable[[VmId], bool]) -> None:
        self._leasing.is_active = is_active

    def own(self) -> OwnPool | None:
        return parts.own(self._parts())

    # what the manager does

    def home(self, spec: VmSpec) -> StorageDomainId:
        part = self._of(spec.pool_id)
        part.pool.spm.term()
        active = pool_rules.active_data(part.pool.map)
        named = [disk.storage_domain_id for disk in spec.disks]
        for each in (*named, spec.lease_domain_id):
            if each is not None and each not in active:
                raise StorageDomainInactive(
                    f"storage domain {each} is not active in pool {spec.pool_id}",
                    storage_domain_id=each,
                )
        template = None
        if spec.template_id is not None:
            stored = part.vms.find(VmId(spec.template_id))
            template = stored.vm if stored is not None else None
        templates.check_made_of(spec, template)
        return next(iter(named), None) or StorageDomainId(part.pool.map.master_id)

    def managed(self) -> frozenset[PoolId]:
        return frozenset(
            PoolId(part.pool.pool_id)
            for part in self._parts()
            if part.pool.spm.state is State.SERVING
        )

    def pool_of(self, disk_id: str) -> PoolId | None:
        for part in self._parts():
            if part.catalog.find(disk_id):
                return PoolId(part.pool.pool_id)
        return None

    def make(self, vm: Vm) -> None:
        part = self._of(vm.spec.pool_id)
        made = [disk for disk in vm.spec.disks if self._is_made(part, disk)]
        missing = [disk for disk in vm.spec.disks if disk not in made]
        if missing:  # else `naming` asks before anything is there
            self._check_free(part, vm, made)
        self._wait([self._ask_for(part, vm, disk) for disk in missing])
        self.make_lease(vm)

    def make_lease(self, vm: Vm) -> None:
        """Make the lease of a new VM, as the manager. Idempotent."""
        part = self._of(vm.spec.pool_id)
        if not part.is_local:
            with part.pool.spm.work() as term:
                access = self._leasing.access(part.pool, vm)
                vm_leases.add(self._guard, access, term, vm.spec.vm_id)

    def remove_lease(self, vm: Vm) -> None:
        """Remove the lease of a VM that is not made, as the manager. Idempotent."""
        part = self._of(vm.spec.pool_id)
        if not part.is_local:
            self._remove_lease(part, vm)

    def check_free(self, vm: Vm, disk: Disk) -> None:
        self._check_free(self._of(vm.spec.pool_id), vm, [disk])

    @contextmanager
    def naming(self, vm: Vm, disks: Iterable[Disk]) -> Iterator[None]:
        part, disks = self._of(vm.spec.pool_id), tuple(disks)
        places = _places(part, disks)
        with part.disks.sparing(places):
            for storage_domain_id, disk_id in sorted(places):
                access = part.pool.access(storage_domain_id)
                part.catalog.place(access, disk_id).require()
            self._check_free(part, vm, disks)
            yield

    def write(self, vm: Vm, based_on: int) -> None:
        assert vm.home is not None, "a VM of a pool has a home"
        part = self._of(vm.spec.pool_id)
        part.vms.write(vm, vm.home, based_on)
        part.on_change()

    def delete(
        self, vm: Vm, progress: Course, *, may_leave_disks: bool = False
    ) -> tuple[str, ...]:
        part = self._of(vm.spec.pool_id)
        # Where a deletion begins to count, though the VM's home may be away.
        master = StorageDomainId(part.pool.map.master_id)
        placing = Placing(vm.spec.vm_id, master, vm.generation)
        # Nobody starts it from now on; or it never was whole, and nobody could.
        with self.holding_any(vm):
            disks = self._own_disks(part, vm)
            left = leaving.away(part.pool.map, disks)
            if not may_leave_disks and self._is_defined(part, vm):
                leaving.check(vm, left)
            part.disks.end_vm(placing, _places(part, disks), progress)
            part.on_change()
        if not part.is_local:
            self._remove_lease(part, vm)
        return tuple(disk.disk_id for disk in left)

    def holding(self, vm: Vm) -> AbstractContextManager[int | None]:
        return self._holding(
            vm, lambda: check_awake(self, self.find(vm.spec.vm_id) or vm)
        )

    @contextmanager
    def _holding(
        self, vm: Vm, check: Callable[[], None] = leasing.refuse_nothing
    ) -> Iterator[int | None]:
        part = self._of(vm.spec.pool_id)
        if part.is_local:
            check()
            yield None
            return
        with self._leasing.keeping(part.pool, vm, check) as version:
            yield version
        self._drop_old_lease(part, vm)

    def holding_any(self, vm: Vm) -> AbstractContextManager[int | None]:
        part = self._of(vm.spec.pool_id)
        has_lease = not part.is_local and self._leasing.exists(part.pool, vm)
        return self._holding(vm) if has_lease else nullcontext()

    def tidy_leases(self) -> None:
        for part in self._parts():
            if part.is_local or part.pool.spm.state is not State.SERVING:
                continue
            for storage_domain_id in pool_rules.active_data(part.pool.map):
                try:
                    self._tidy_leases(part, part.pool.access(storage_domain_id))
                except Error as error:
                    log.info("leases on %s: %s", storage_domain_id, error)

    def wait_for_pool(
        self, pool_id: PoolId | None, pause: Callable[[float], None]
    ) -> None:
        if pool_id is None:
            return
        until = self._clock.monotonic() + RETURN_S
        while self._clock.monotonic() < until:
            for part in self._parts():
                if part.pool.pool_id == pool_id and part.is_settled():
                    return
            pause(_LOOK_S)

    def check_manager(self, vm: Vm) -> None:
        self._of(vm.spec.pool_id).pool.spm.term()

    def check_data_node(
        self, pool_id: PoolId | None, data_node_id: NodeId | None
    ) -> None:
        """Refuse who is to move data and is no member of the pool; DataNodeUnknown."""
        if data_node_id is not None:
            self._of(pool_id).disks.check_data_node(data_node_id)

    def go_on(self, vm: Vm, progress: Progress) -> None:
        """End what a job on a VM's snapshots was at when the agent stopped."""
        self._of(vm.spec.pool_id).disks.go_on(progress)

    def reshape(
        self,
        vm: Vm,
        change: Change,
        progress: Progress,
        check_idle: Callable[[], None],
        *,
        is_running: bool,
        data_node_id: NodeId | None = None,
    ) -> Vm:
        """Change a VM's snapshots, as the manager; return the new definition."""
        part, vm_id = self._of(vm.spec.pool_id), vm.spec.vm_id
        if change.act is snapshots.Act.BREAK:
            # Who copies that state has to be done: it will not be that any more.
            with part.disks.unread(snapshots.places(vm, change.snapshot_id)):
                part.vms.change(change)
        elif change.act in snapshots.WRITTEN_ALONE:
            part.vms.change(change)
        else:

            def find() -> Vm | None:
                stored = part.vms.find(vm_id)
                return stored.vm if stored is not None else None

            words = (vm, change, find, progress, check_idle)
            part.disks.reshape(*words, is_running=is_running, data_node_id=data_node_id)
        return self.find(vm_id) or vm

    def is_closed(self, vm: Vm, leaf: Leaf) -> bool:
        """Tell whether a guest of another node has turned away from a leaf."""
        part, access = self._place(_where(vm, leaf))
        return turning.is_closed(part.catalog, access, leaf)

    def close(self, vm: Vm, leaf: Leaf, version: int | None) -> None:
        """Write that the guest, which is held here, has turned away from a leaf.

        `version` is of the VM's lease; None: its pool is this node's alone.
        Idempotent; StaleLease.
        """
        part, access = self._place(_where(vm, leaf))
        need = self._need(part, vm, version)
        turning.close(self._guard, part.catalog, access, leaf, need)

    def record_size(self, disk: Disk, size_bytes: int) -> None:
        part, _ = self._place(disk.storage_domain_id)
        self._wait([part.disks.record_size(disk.disk_id, size_bytes, Asked())])

    # what any node does

    def find(self, vm_id: VmId, pool_id: PoolId | None = None) -> Vm | None:
        errors: list[Error] = []
        # Who is found on the own disk does not wait for a storage that hangs.
        for part in sorted(self._parts(), key=lambda each: not each.is_local):
            if pool_id not in (None, part.pool.pool_id):
                continue
            try:
                stored = part.vms.read(vm_id)
            except VmNotStored:
                continue
            except Error as error:
                errors.append(error)
                continue
            is_template = stored.vm.template is not None
            return None if is_template else _homed(stored)
        if errors:
            raise errors[0]
        return None

    def definitions(self) -> tuple[PoolVms, ...]:
        managed = self.managed()
        return tuple(
            self._definitions(part)
            for part in self._parts()
            if part.pool.pool_id in managed
        )

    def open(self, disk: Disk) -> OpenVolume:
        part, access = self._place(disk.storage_domain_id)
        place = part.catalog.place(access, disk.disk_id)
        seen = place.require()
        leaf_id = disk.volume_id or disk_tasks.leaf_of(seen)
        layers = []
        for volume_id in startable.startable(seen, leaf_id):
            path = access.layout.volume(disk.disk_id, volume_id)
            volume_format = facts.meta_of(seen, volume_id).volume_format
            layers.append(Layer(path, _FORMATS[volume_format]))
        if disk.is_shared and layers[0].disk_format is not DiskFormat.RAW:
            raise SharedDiskFormat(
                f"disk {disk.disk_id} is {layers[0].disk_format}", disk_id=disk.disk_id
            )
        return OpenVolume(tuple(layers), disk_options.limits(place.options, disk.qos))

    def limits(self, disk: Disk) -> DiskQos:
        part, access = self._place(disk.storage_domain_id)
        options = part.catalog.options(access, disk.disk_id)
        return disk_options.limits(options, disk.qos)

    def variables(
        self, vm: Vm, version: int | None, first: Callable[[], bytes]
    ) -> PurePath:
        assert vm.home is not None, "a VM of a pool has a home"
        part, access = self._place(vm.home)
        need = self._need(part, vm, version)
        return variables.ensure(self._guard, access, vm.spec.vm_id, first, need)

    def lease(self, vm: Vm) -> VmLease | None:
        part = self._of(vm.spec.pool_id)
        if part.is_local:
            return None
        at = self._leasing.place(part.pool, vm)
        return VmLease(at.lockspace, at.name, PurePosixPath(at.path), at.offset)

    def read_lease(self, vm: Vm) -> LeaseRecord:
        return self._leasing.read(self._of(vm.spec.pool_id).pool, vm)

    def is_given_back(self, vm: Vm) -> bool:
        return self._leasing.is_free(self._of(vm.spec.pool_id).pool, vm)

    def park(self, vm: Vm, version: int | None) -> int:
        return self._leasing.park(self._of(vm.spec.pool_id).pool, vm, version)

    def unpark(self, vm_id: VmId) -> None:
        self._leasing.unpark(vm_id)

    def parked(self) -> frozenset[VmId]:
        return self._leasing.parked()

    def has_lost(self, vm: Vm) -> bool:
        try:
            part = self._of(vm.spec.pool_id)
            return not part.is_local and self._leasing.has_lost(part.pool, vm)
        except Error as error:
            log.info("VM %s: is its lease lost? %s", vm.spec.vm_id, error)
            return False

    def is_well(self, vm: Vm) -> bool:
        try:
            wellness.check(vm, self._place, self._guard)
        except Error as error:
            log.debug("VM %s: its storage is not well: %s", vm.spec.vm_id, error)
            return False
        return True

    # how

    def _of(self, pool_id: PoolId | None) -> Part:
        for part in self._parts():
            if part.pool.pool_id == pool_id:
                return part
        raise PoolUnknown(f"this node is not in pool {pool_id}", pool_id=pool_id)

    def _place(self, storage_domain_id: str | None) -> tuple[Part, Access]:
        """Return the pool of an active storage domain, and the way to it."""
        for part in self._parts():
            if storage_domain_id in pool_rules.active(part.pool.map):
                return part, part.pool.access(str(storage_domain_id))
        raise StorageDomainInactive(
            f"storage domain {storage_domain_id} is not active on this node",
            storage_domain_id=storage_domain_id,
        )

    def _check_free(self, part: Part, vm: Vm, disks: Sequence[Disk]) -> None:
        part.pool.spm.term()
        if not disks:
            return
        stored = part.vms.list()
        for disk in disks:
            check_unnamed(disk, vm, (each.vm for each in stored.vms))
        for problem in stored.problems:
            raise DefinitionsUnread(
                f"who has disk {disks[0].disk_id} cannot be told: {problem.error}",
                disk_id=disks[0].disk_id,
            ) from problem.error

    def _need(self, part: Part, vm: Vm, version: int | None) -> Need | None:
        """Return what whoever has a VM's lease writes under; None: it has none."""
        if part.is_local:
            return None
        if version is None:
            raise StaleLease(
                f"the lease of VM {vm.spec.name} is not held", vm_id=vm.spec.vm_id
            )
        place = self._leasing.place(part.pool, vm)
        return Need(place.lockspace, place.name, version)

    def _drop_old_lease(self, part: Part, vm: Vm) -> None:
        """Remove a lease that lies where its VM's definition was until now."""
        stored = part.vms.find(vm.spec.vm_id)
        if stored is None:
            return
        old = self._leasing.access(part.pool, vm)
        if old != self._lease_of(part, stored):
            self._remove_lease_at(part, old, vm.spec.vm_id)

    def _remove_lease(self, part: Part, vm: Vm) -> None:
        """Remove a VM's lease from where this definition has it. Idempotent."""
        access = self._leasing.access(part.pool, vm)
        self._remove_lease_at(part, access, vm.spec.vm_id)

    def _remove_lease_at(self, part: Part, access: Access, vm_id: VmId) -> None:
        with part.pool.spm.work() as term:
            vm_leases.remove(self._guard, access, term, vm_id)
        self._leasing.forget(access, vm_id)

    def _tidy_leases(self, part: Part, access: Access) -> None:
        """Remove what a deletion or a move left on one storage domain."""
        deleted = part.vms.foreign(access.storage_domain_id).deleted
        stored = {each.vm.spec.vm_id: each for each in part.vms.list().vms}
        for name in vm_leases.names(self._guard, access):
            vm_id, found = VmId(name), stored.get(VmId(name))
            if found is None and vm_id not in deleted:
                continue  # nobody has said that it is to go
            try:
                if found is None or self._lease_of(part, found) != access:
                    self._tidy_lease(part, access, vm_id, found)
            except Error as error:
                log.info("old lease of VM %s: %s", vm_id, error)

    def _tidy_lease(
        self, part: Part, access: Access, vm_id: VmId, found: StoredVm | None
    ) -> None:
        """Remove a lease, unless somebody has it, or the VM comes to need it."""
        kept: AbstractContextManager[int | None] = nullcontext()
        if found is not None:  # else nobody moves it
            kept = self._leasing.keeping(part.pool, _homed(found))
        with kept:
            now = part.vms.find(vm_id)
            is_left = now is None or self._lease_of(part, now) != access
            if is_left and not self._leasing.read_at(access, vm_id).is_held:
                self._remove_lease_at(part, access, vm_id)

    def _lease_of(self, part: Part, found: StoredVm) -> Access:
        return self._leasing.access(part.pool, _homed(found))

    def _is_defined(self, part: Part, vm: Vm) -> bool:
        """Tell whether a VM is still to be deleted; what is away is, too."""
        try:
            return part.vms.find(vm.spec.vm_id) is not None
        except VmAway:
            return True

    def _is_made(self, part: Part, disk: Disk) -> bool:
        access = part.pool.access(str(disk.storage_domain_id))
        return part.catalog.place(access, disk.disk_id).disk is not None

    def _ask_for(self, part: Part, vm: Vm, disk: Disk) -> Job:
        if disk.size_bytes == 0 or disk.is_read_only:
            raise DiskMissing(f"disk {disk.disk_id} is not there", id=disk.disk_id)
        assert disk.storage_domain_id is not None, "a disk of a pool"
        return part.disks.create(
            CreateDisk(
                disk.disk_id,
                disk.name or f"{vm.spec.name} disk",
                disk.storage_domain_id,
                disk.size_bytes,
                disk.disk_format or DiskFormat.QCOW2,
                qos=disk.qos,
                from_disk_id=disk.from_disk_id,
            ),
            disk.image,
        )

    def _wait(self, asked: Iterable[Job]) -> None:
        """Wait a little for jobs on disks; DiskBusy, DiskNotMade."""
        deadline = time.monotonic() + _MADE_S
        for each in asked:
            job = self._jobs.get(each.job_id, max(0.0, deadline - time.monotonic()))
            if job.state not in ENDED:
                raise DiskBusy(
                    f"{job.verb} of disk {job.object_id} is not done yet",
                    job_id=job.job_id,
                )
            if job.state is not JobState.DONE:
                why = job.error.message if job.error is not None else job.state
                raise DiskNotMade(
                    f"{job.verb} of disk {job.object_id}: {why}", id=job.object_id
                )

    def _own_disks(self, part: Part, vm: Vm) -> tuple[Disk, ...]:
        """Return the disks that go with a VM: no other one has them."""
        used = {
            each.disk_id
            for other in part.vms.list().vms
            if other.vm.spec.vm_id != vm.spec.vm_id
            for each in other.vm.spec.disks
        }
        own = (
            disk
            for disk in vm.spec.disks
            if disk.disk_id not in used and not disk.is_shared | disk.is_read_only
        )
        return (*own, *memories.disks(vm))

    def _definitions(self, part: Part) -> PoolVms:
        stored = part.vms.list()
        return PoolVms(
            PoolId(part.pool.pool_id),
            not stored.problems,
            tuple(_homed(each) for each in stored.vms if each.vm.template is None),
        )


def _homed(stored: StoredVm) -> Vm:
    return replace(stored.vm, home=StorageDomainId(stored.home))


def _where(vm: Vm, leaf: Leaf) -> StorageDomainId | None:
    """Return where a disk of a VM lies."""
    found = (e.storage_domain_id for e in vm.spec.disks if e.disk_id == leaf.disk_id)
    return next(found, None)


def _places(part: Part, disks: Iterable[Disk]) -> frozenset[tuple[str, str]]:
    """Return (storage domain, disk) pairs of what may be changed, or removed.

    An image on another kind of storage domain is nobody's to take away.
    """
    data = pool_rules.active_data(part.pool.map)
    return frozenset(
        (disk.storage_domain_id, disk.disk_id)
        for disk in disks
        if disk.storage_domain_id in data
    )


_typed: type[Volumes] = PoolVolumes
