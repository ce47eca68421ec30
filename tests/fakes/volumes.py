"""A pool's storage in memory: definitions, disks, and leases with versions.

Nodes that share one `PoolStorage` are in one pool. The lease of a VM belongs to a
node, and there to its QEMU or to the node itself (it is parked).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from node.contract.memories import Memories, MemoryMark
from node.contract.snapshots import Leaf
from node.contract.volumes import (
    Course,
    DisksAway,
    Layer,
    LeaseMovedOn,
    LeaseRecord,
    OpenVolume,
    OwnPool,
    PoolUnknown,
    PoolVms,
    VmHasLease,
    VmLease,
    VmRunsElsewhere,
    Volumes,
    check_awake,
    check_unnamed,
)
from node.errors import Busy, Conflict, NotFound, Unavailable
from node.model.ids import DiskId, NodeId, PoolId, StorageDomainId, VmId
from node.model.storage import DiskFormat, DiskQos
from node.model.vm import Disk, Vm, VmMemory, VmSpec

POOL_ID = PoolId("dddddddd-0000-4000-8000-000000000001")
SD_ID = StorageDomainId("dddddddd-0000-4000-8000-000000000002")


class StorageAway(Unavailable):
    code = "storage_away"


class NotManager(Conflict):
    code = "not_spm"


class DiskIsLocked(Busy):
    code = "disk_locked"


@dataclass(slots=True)
class _Lease:
    version: int = 0
    holder: NodeId | None = None  # who had it last
    is_free: bool = True
    is_parked: bool = False


@dataclass(slots=True)
class PoolStorage:
    definitions: dict[VmId, Vm] = field(default_factory=dict)
    leases: dict[VmId, _Lease] = field(default_factory=dict)
    disks: dict[DiskId, int] = field(default_factory=dict)  # their sizes
    dead: set[NodeId] = field(default_factory=set)  # nodes, as sanlock knows
    limits: dict[DiskId, DiskQos] = field(default_factory=dict)  # changed ones
    locked: set[DiskId] = field(default_factory=set)  # by jobs on disks
    silent: set[StorageDomainId] = field(default_factory=set)  # they are away
    away: set[DiskId] = field(default_factory=set)  # where nothing is active
    closed: set[Leaf] = field(default_factory=set)  # that guests have left
    folder: Path | None = None  # of UEFI variables; None: root may not look there
    marks: dict[DiskId, MemoryMark] = field(default_factory=dict)  # of memories

    def take(self, vm_id: VmId, node_id: NodeId, *, is_parked: bool = False) -> int:
        """Let a node have a lease, whoever had it before."""
        before = self.leases[vm_id]
        taken = _Lease(before.version + 1, node_id, False, is_parked)
        self.leases[vm_id] = taken
        return taken.version

    def free(self, vm_id: VmId) -> None:
        self.leases[vm_id].is_free = True
        self.leases[vm_id].is_parked = False


def _nothing(_vm: Vm) -> None:
    """Let it happen."""


def _no_vm(_vm_id: VmId) -> None:
    """Let it be found."""


def _no_disk(_disk: Disk) -> None:
    """Let it be opened."""


@dataclass(slots=True)
class FakeVolumes:
    """The pool as one node has it; `is_away`: its storage does not answer."""

    node_id: NodeId
    storage: PoolStorage = field(default_factory=PoolStorage)
    manages: bool = True
    is_shared: bool = True
    is_away: bool = False
    is_complete: bool = True  # all definitions can be read
    is_unreadable: bool = False  # what lies in leases
    is_lost: bool = False  # the lockspace of its leases
    is_settled: bool = True  # this node is what it was before its agent stopped
    on_make: Callable[[Vm], None] = _nothing  # before disks are made
    on_write: Callable[[Vm], None] = _nothing  # before a definition is written
    on_buried: Callable[[Vm], None] = _nothing  # a definition is gone, nothing else
    on_probe: Callable[[Vm], None] = _nothing  # before a storage domain is asked
    on_find: Callable[[VmId], None] = _no_vm  # before a definition is read
    on_open: Callable[[Disk], None] = _no_disk  # before a chain is read
    kept: set[VmId] = field(default_factory=set)  # whose leases jobs have
    tidied: int = 0  # how often old leases were looked for
    parks: int = 0  # how often a lease was taken for this node
    is_active: Callable[[VmId], bool] = lambda _vm_id: False  # what runs here

    # --- the contract

    @property
    def memories(self) -> Memories:
        return FakeMemories(self)

    def watch(self, is_active: Callable[[VmId], bool]) -> None:
        self.is_active = is_active

    def own(self) -> OwnPool | None:
        if self.is_shared:
            return None
        return OwnPool(POOL_ID, SD_ID if self.manages else None, "it is far away")

    def home(self, spec: VmSpec) -> StorageDomainId:
        self._check(spec.pool_id)
        self._check_manager()
        return SD_ID

    def managed(self) -> frozenset[PoolId]:
        return frozenset({POOL_ID} if self.manages else ())

    def pool_of(self, disk_id: str) -> PoolId | None:
        return POOL_ID if disk_id in self.storage.disks else None

    def make(self, vm: Vm) -> None:
        self._check_manager()
        self.on_make(vm)
        for disk in vm.spec.disks:
            self.storage.disks.setdefault(disk.disk_id, disk.size_bytes)
        if self.is_shared:
            self.storage.leases.setdefault(vm.spec.vm_id, _Lease())

    def make_lease(self, vm: Vm) -> None:
        self._check_manager()
        if vm.home in self.storage.silent:
            raise Unavailable(f"{vm.home} is away")

    def check_free(self, vm: Vm, disk: Disk) -> None:
        self._check_manager()
        check_unnamed(disk, vm, self.storage.definitions.values())

    @contextmanager
    def naming(self, vm: Vm, disks: Iterable[Disk]) -> Iterator[None]:
        self._check_manager()
        for disk in disks:
            if disk.disk_id in self.storage.locked:
                raise DiskIsLocked(f"a job works on disk {disk.disk_id}")
            self.check_free(vm, disk)
        yield

    def check_manager(self, vm: Vm) -> None:
        self._check_manager()

    def check_data_node(
        self, pool_id: PoolId | None, data_node_id: NodeId | None
    ) -> None:
        """Let anybody move data."""

    @contextmanager
    def holding(self, vm: Vm) -> Iterator[int | None]:
        with self.holding_any(vm) as version:
            check_awake(self, self.storage.definitions.get(vm.spec.vm_id, vm))
            yield version

    @contextmanager
    def holding_any(self, vm: Vm) -> Iterator[int | None]:
        vm_id = vm.spec.vm_id
        if vm_id not in self.storage.leases:
            yield None
            return
        if self.is_active(vm_id):
            raise VmHasLease(f"VM {vm_id} runs on this node, or starts", vm_id=vm_id)
        version = self.park(vm, None)
        self.kept.add(vm_id)
        try:
            yield version
            self.storage.free(vm_id)
        finally:
            self.kept.discard(vm_id)

    def wait_for_pool(
        self, pool_id: PoolId | None, pause: Callable[[float], None]
    ) -> None:
        while pool_id is not None and not self.is_settled:
            pause(0.01)

    def write(self, vm: Vm, based_on: int) -> None:
        self._check_manager()
        self.on_write(vm)
        known = self.storage.definitions.get(vm.spec.vm_id)
        if known != vm and (known.generation if known else 0) != based_on:
            raise Conflict(f"the VM has generation {known and known.generation}")
        self.storage.definitions[vm.spec.vm_id] = vm

    def delete(
        self, vm: Vm, progress: Course, *, may_leave_disks: bool = False
    ) -> tuple[str, ...]:
        self._check_manager()
        away = tuple(e.disk_id for e in vm.spec.disks if e.disk_id in self.storage.away)
        if away and not may_leave_disks:
            raise DisksAway(f"disks of VM {vm.spec.name} would stay")
        vm_id = vm.spec.vm_id
        if vm_id in self.storage.leases:
            self.park(vm, None)
        self.storage.definitions.pop(vm_id, None)
        self.on_buried(vm)
        self.storage.leases.pop(vm_id, None)
        for disk in vm.spec.disks:
            self.storage.disks.pop(disk.disk_id, None)
        return away

    def tidy_leases(self) -> None:
        self.tidied += 1

    def find(self, vm_id: VmId, pool_id: PoolId | None = None) -> Vm | None:
        self._check_reach()
        self.on_find(vm_id)
        return self.storage.definitions.get(vm_id)

    def definitions(self) -> tuple[PoolVms, ...]:
        if not self.manages:
            return ()
        is_complete = self.is_complete and not self.is_away
        vms = tuple(self.storage.definitions.values())
        return (PoolVms(POOL_ID, is_complete, vms if is_complete else ()),)

    def open(self, disk: Disk) -> OpenVolume:
        self._check_reach()
        self.on_open(disk)
        folder = PurePath("/pool", disk.disk_id)
        return OpenVolume(
            (
                Layer(folder / "leaf", disk.disk_format or DiskFormat.QCOW2),
                Layer(folder / "base", DiskFormat.RAW),
            ),
            self.storage.limits.get(disk.disk_id),
        )

    def limits(self, disk: Disk) -> DiskQos:
        self._check_reach()
        return self.storage.limits.get(disk.disk_id, disk.qos)

    def is_closed(self, vm: Vm, leaf: Leaf) -> bool:
        self._check_reach()
        return leaf in self.storage.closed

    def variables(
        self, vm: Vm, version: int | None, first: Callable[[], bytes]
    ) -> PurePath:
        self._check_reach()
        vm_id = vm.spec.vm_id
        if vm_id in self.storage.leases:
            lease = self.storage.leases[vm_id]
            assert (self._is_parked(vm_id), lease.version) == (True, version)
        if self.storage.folder is None:
            return PurePath("/pool", vm_id, "variables")
        path = self.storage.folder / vm_id
        if not path.exists():
            path.write_bytes(first())
        return path

    def lease(self, vm: Vm) -> VmLease | None:
        self._check(vm.spec.pool_id)
        if not self.is_shared:
            return None
        if vm.spec.vm_id not in self.storage.leases:
            raise NotFound(f"VM {vm.spec.vm_id} has no lease")
        return VmLease(SD_ID, vm.spec.vm_id, PurePath("/pool/xleases"), 3 << 20)

    def read_lease(self, vm: Vm) -> LeaseRecord:
        self._check_reach()
        if self.is_unreadable:
            raise StorageAway("the lease cannot be read")
        lease = self.storage.leases[vm.spec.vm_id]
        return LeaseRecord(
            lease.version,
            lease.holder,
            lease.holder == self.node_id,
            lease.is_free,
            not lease.is_free and lease.holder not in self.storage.dead,
            self._is_parked(vm.spec.vm_id),
        )

    def is_given_back(self, vm: Vm) -> bool:
        self._check_reach()
        return self.storage.leases[vm.spec.vm_id].is_free

    def park(self, vm: Vm, version: int | None) -> int:
        self._check_reach()
        vm_id = vm.spec.vm_id
        if vm_id in self.kept:
            raise VmHasLease("a job on this node has it")
        self.parks += 1
        lease = self.storage.leases[vm_id]
        if lease.is_parked and lease.holder == self.node_id:
            return lease.version
        if not lease.is_free and lease.holder == self.node_id:
            raise VmHasLease("its own QEMU has it")
        if not lease.is_free and lease.holder not in self.storage.dead:
            raise VmRunsElsewhere(f"it runs on {lease.holder}")
        is_ours = lease.holder == self.node_id and lease.version == (version or 0) + 1
        if version not in (None, lease.version) and not is_ours:
            raise LeaseMovedOn(f"the lease has version {lease.version}")
        return self.storage.take(vm_id, self.node_id, is_parked=True)

    def unpark(self, vm_id: VmId) -> None:
        if vm_id in self.parked():
            self.storage.free(vm_id)

    def parked(self) -> frozenset[VmId]:
        self._check_reach()
        mine = filter(self._is_parked, self.storage.leases)
        return frozenset(mine) - self.kept

    def has_lost(self, vm: Vm) -> bool:
        return self.is_lost

    def is_well(self, vm: Vm) -> bool:
        self.on_probe(vm)
        return not self.is_away

    def record_size(self, disk: Disk, size_bytes: int) -> None:
        self._check_manager()
        self.storage.disks[disk.disk_id] = size_bytes

    # --- what libvirt and sanlock do for a QEMU of this node

    def run(self, vm_id: VmId) -> None:
        """Let a QEMU have its lease; VmRunsElsewhere."""
        lease = self.storage.leases.get(vm_id)
        if lease is None:
            return
        if not lease.is_free:
            raise VmRunsElsewhere(f"it runs on {lease.holder}")
        self.storage.take(vm_id, self.node_id)

    def rest(self, vm_id: VmId) -> None:
        """Give back what a QEMU of this node had."""
        lease = self.storage.leases.get(vm_id)
        if lease is not None and lease.holder == self.node_id and not lease.is_parked:
            self.storage.free(vm_id)

    def _is_parked(self, vm_id: VmId) -> bool:
        lease = self.storage.leases[vm_id]
        return lease.is_parked and lease.holder == self.node_id

    def _check(self, pool_id: PoolId | None) -> None:
        if pool_id != POOL_ID:
            raise PoolUnknown(f"there is no pool {pool_id}")

    def _check_manager(self) -> None:
        self._check_reach()
        if not self.manages:
            raise NotManager("another node manages the pool")

    def _check_reach(self) -> None:
        if self.is_away:
            raise StorageAway("the storage does not answer")


@dataclass(frozen=True, slots=True)
class FakeMemories:
    """The memories of suspended VMs, as one node has them."""

    volumes: FakeVolumes

    def look(self, vm: Vm) -> MemoryMark:
        if vm.memory is None:
            return MemoryMark.BLANK
        return self.volumes.storage.marks.get(vm.memory.disk_id, MemoryMark.BLANK)

    def path(self, vm: Vm) -> PurePath:
        assert vm.memory is not None
        return PurePath("/pool", vm.memory.disk_id, "memory")

    def save(self, vm: Vm, version: int | None) -> None:
        self._mark(vm, MemoryMark.SAVED, version)

    def use(self, vm: Vm, version: int | None) -> None:
        self._mark(vm, MemoryMark.USED, version)

    def prepare(self, vm: Vm, disk_id: DiskId) -> Vm:
        if self.look(vm) is not MemoryMark.BLANK:
            vm = self.settle(vm)
        if vm.memory is None:
            vm = self._note(vm, VmMemory(SD_ID, disk_id))
        assert vm.memory is not None
        self.volumes.storage.disks[vm.memory.disk_id] = vm.spec.memory_bytes
        return vm

    def settle(self, vm: Vm) -> Vm:
        if vm.memory is None:
            return vm
        mark = self.look(vm)
        if mark is MemoryMark.SAVED:
            return self._note(vm, replace(vm.memory, is_saved=True))
        if mark is MemoryMark.BLANK:
            with self.volumes.holding_any(vm):
                return self._remove(vm, vm.memory)
        return self._remove(vm, vm.memory)

    def copy(
        self, vm: Vm, source: VmMemory, disk_id: DiskId, check: Callable[[], None]
    ) -> Vm:
        self.volumes.storage.disks[disk_id] = vm.spec.memory_bytes
        return self._note(vm, VmMemory(SD_ID, disk_id))

    def remove(self, memory: VmMemory) -> None:
        self.volumes.storage.disks.pop(memory.disk_id, None)
        self.volumes.storage.marks.pop(memory.disk_id, None)

    def _mark(self, vm: Vm, mark: MemoryMark, version: int | None) -> None:
        self.volumes._check_reach()
        assert vm.memory is not None
        lease = self.volumes.storage.leases.get(vm.spec.vm_id)
        if lease is not None and (lease.version, lease.is_free) != (version, False):
            raise LeaseMovedOn(f"the lease has version {lease.version}")
        if vm.memory.disk_id in self.volumes.storage.disks:
            self.volumes.storage.marks[vm.memory.disk_id] = mark

    def _remove(self, vm: Vm, memory: VmMemory) -> Vm:
        self.remove(memory)
        return self._note(vm, None)

    def _note(self, vm: Vm, memory: VmMemory | None) -> Vm:
        if memory == vm.memory:
            return vm
        after = replace(vm, memory=memory, generation=vm.generation + 1)
        self.volumes.write(after, vm.generation)
        return after


def of_pool(spec: VmSpec) -> VmSpec:
    """Return a VM with its disks on the pool."""
    disks = tuple(replace(disk, storage_domain_id=SD_ID) for disk in spec.disks)
    return replace(spec, pool_id=POOL_ID, disks=disks)


_typed: type[Volumes] = FakeVolumes
