"""A node's storage that there is none of: it notes what was asked, and has examples.

A pool `lan` with the storage domains `nas` (its master) and `spare`, a storage domain
`fresh` of no pool, and the disks `root` and `data` on `nas`. Each act is a real job
that does nothing, or fails with `refusal`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar

from node.contract.snapshots import Change, Leaf
from node.errors import Error, Failed, NotFound
from node.jobs import Jobs, Progress
from node.model import storage_requests as bodies
from node.model.feed import Kind
from node.model.ids import (
    DiskId,
    NodeId,
    PoolId,
    StorageDomainId,
    VmId,
    VolumeId,
)
from node.model.job import Job
from node.model.storage import (
    Allocation,
    ChainSummary,
    Connection,
    DiskDocument,
    DiskFormat,
    DiskState,
    DomainClass,
    DomainRole,
    DomainState,
    DomainType,
    Liveness,
    PoolDocument,
    PoolDomain,
    PoolMember,
    PoolState,
    SpmState,
    SpmView,
    StorageDomain,
    StorageDomainDocument,
)
from node.model.unregistered import (
    RegisterVm,
    Source,
    Unregistered,
    UnregisteredVm,
)
from node.model.vm import Vm, VmSpec
from node.units import GiB

Id = TypeVar("Id", bound=str)
T = TypeVar("T")

SINCE: Final = "2026-11-22T08:00:00.000Z"
NODE: Final = NodeId("dddddddd-0000-4000-8000-000000000001")
LAN: Final = PoolId("eeeeeeee-0000-4000-8000-000000000001")
NAS: Final = StorageDomainId("eeeeeeee-0000-4000-8000-00000000000a")
SPARE: Final = StorageDomainId("eeeeeeee-0000-4000-8000-00000000000b")
FRESH: Final = StorageDomainId("eeeeeeee-0000-4000-8000-00000000000c")
ROOT: Final = DiskId("eeeeeeee-0000-4000-8000-0000000000aa")
DATA: Final = DiskId("eeeeeeee-0000-4000-8000-0000000000bb")
VOLUME: Final = VolumeId("eeeeeeee-0000-4000-8000-0000000000cc")


WAITING: Final = UnregisteredVm(
    VmSpec(VmId("eeeeeeee-0000-4000-8000-0000000000dd"), "came", GiB, pool_id=LAN),
    Source.OVF_STORE,
    generation=7,
    may_run=True,
    snapshots=2,
    missing_disks=(DATA,),
)


class Missing(NotFound):
    code = "no_such_example"
    remedy = "Ask for one of the examples."


def storage_domain(
    storage_domain_id: StorageDomainId, name: str, **fields: Any
) -> StorageDomainDocument:
    """Return an active data storage domain of an NFS server."""
    named = StorageDomain(
        storage_domain_id,
        name,
        DomainClass.DATA,
        Connection(DomainType.NFS, f"/export/{name}", "server"),
    )
    known = {each: fields.pop(each) for each in ("role", "pool_id") if each in fields}
    document = StorageDomainDocument(
        replace(named, **known), NODE, DomainState.ACTIVE, SINCE
    )
    return replace(document, total_bytes=100 * GiB, free_bytes=40 * GiB, **fields)


def disk(disk_id: DiskId, name: str, **fields: Any) -> DiskDocument:
    """Return a thin disk on `nas`."""
    document = DiskDocument(
        disk_id,
        name,
        20 * GiB,
        3 * GiB,
        DiskFormat.QCOW2,
        Allocation.THIN,
        (NAS,),
        DiskState.OK,
        SINCE,
        ChainSummary((VOLUME,)),
    )
    return replace(document, **fields)


PROBLEMS: Final = bodies.StorageProblems(
    (
        bodies.StorageProblem(
            ROOT,
            "merge_not_recorded",
            "A merge was finished in the data and not in the metadata.",
            "root",
            VOLUME,
            ("mark the merged volume as unusable", "name the new parent"),
        ),
        bodies.StorageProblem(
            DATA, "data_missing", "Its data are gone.", "data", VOLUME
        ),
    ),
    disks_read=7,
)
_DOMAINS: Final = (
    storage_domain(NAS, "nas", role=DomainRole.MASTER, pool_id=LAN, host_id=1),
    storage_domain(SPARE, "spare", pool_id=LAN),
    storage_domain(FRESH, "fresh", state=DomainState.UNATTACHED),
)
_POOL: Final = PoolDocument(
    LAN,
    "lan",
    NODE,
    is_local=False,
    state=PoolState.UP,
    since=SINCE,
    master=NAS,
    master_version=1,
    generation=4,
    spm=SpmView(SpmState.MANAGER, NODE, lease_version=3),
    domains=tuple(
        PoolDomain(
            each.storage_domain.storage_domain_id,
            DomainClass.DATA,
            each.state,
            each.storage_domain.name,
            each.storage_domain.connection,
        )
        for each in _DOMAINS[:2]
    ),
    members=(PoolMember(NODE, 1, Liveness.LIVE),),
)


class FakeStorage:
    """What `node.api.storage` serves. Tests read `asked` and set the rest."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self.asked: list[tuple[str, object]] = []  # verb and request
        self.refusal: Error | None = None  # what jobs fail with
        self.domains = {
            each.storage_domain.storage_domain_id: each for each in _DOMAINS
        }
        self.pools = {LAN: _POOL}
        self.disks = {
            each.disk_id: each for each in (disk(ROOT, "root"), disk(DATA, "data"))
        }
        self.problems = PROBLEMS
        self.waiting = Unregistered((WAITING,))
        self.found = bodies.FoundStorageDomains((_DOMAINS[0].storage_domain,))

    def storage_domain_list(self) -> bodies.StorageDomainList:
        return bodies.StorageDomainList(tuple(self.domains.values()))

    def storage_domain_show(
        self, storage_domain_id: StorageDomainId
    ) -> StorageDomainDocument:
        return _known(self.domains, storage_domain_id)

    def storage_domain_create(self, request: bodies.CreateStorageDomain) -> Job:
        return self._job("storage_domain_create", request.storage_domain_id, request)

    def storage_domain_look(
        self, request: bodies.LookForStorageDomains
    ) -> bodies.FoundStorageDomains:
        self.asked.append(("storage_domain_look", request))
        return self.found

    def storage_domain_import(self, request: bodies.ImportStorageDomain) -> Job:
        chosen = request.storage_domain_id or NAS
        return self._job("storage_domain_import", chosen, request)

    def storage_domain_attach(
        self, storage_domain_id: StorageDomainId, request: bodies.AttachStorageDomain
    ) -> Job:
        return self._on_domain("storage_domain_attach", storage_domain_id, request)

    def storage_domain_change(
        self, storage_domain_id: StorageDomainId, request: bodies.ChangeStorageDomain
    ) -> Job:
        return self._on_domain("storage_domain_change", storage_domain_id, request)

    def storage_domain_activate(
        self, storage_domain_id: StorageDomainId, request: bodies.ActOnStorageDomain
    ) -> Job:
        return self._on_domain("storage_domain_activate", storage_domain_id, request)

    def storage_domain_maintain(
        self, storage_domain_id: StorageDomainId, request: bodies.ActOnStorageDomain
    ) -> Job:
        return self._on_domain("storage_domain_maintain", storage_domain_id, request)

    def storage_domain_detach(
        self, storage_domain_id: StorageDomainId, request: bodies.ActOnStorageDomain
    ) -> Job:
        return self._on_domain("storage_domain_detach", storage_domain_id, request)

    def storage_domain_remove(
        self, storage_domain_id: StorageDomainId, request: bodies.RemoveStorageDomain
    ) -> Job:
        return self._on_domain("storage_domain_remove", storage_domain_id, request)

    def storage_domain_check(
        self, storage_domain_id: StorageDomainId
    ) -> bodies.StorageProblems:
        _known(self.domains, storage_domain_id)
        return self.problems

    def storage_domain_repair(
        self, storage_domain_id: StorageDomainId, request: bodies.RepairStorage
    ) -> Job:
        return self._on_domain("storage_domain_repair", storage_domain_id, request)

    def storage_domain_write_ovf(
        self, storage_domain_id: StorageDomainId, request: bodies.ActOnStorageDomain
    ) -> Job:
        return self._on_domain("storage_domain_write_ovf", storage_domain_id, request)

    def lying(self, storage_domain_id: StorageDomainId) -> Unregistered:
        _known(self.domains, storage_domain_id)
        return self.waiting

    def register(self, storage_domain_id: StorageDomainId, request: RegisterVm) -> Job:
        return self._on_domain("storage_domain_register_vm", storage_domain_id, request)

    def pool_list(self) -> bodies.PoolList:
        return bodies.PoolList(tuple(self.pools.values()))

    def pool_show(self, pool_id: PoolId) -> PoolDocument:
        return _known(self.pools, pool_id)

    def pool_create(self, request: bodies.CreatePool) -> Job:
        return self._job("pool_create", request.pool_id, request)

    def pool_connect(self, pool_id: PoolId, request: bodies.ConnectPool) -> Job:
        return self._job("pool_connect", pool_id, request)

    def pool_disconnect(self, pool_id: PoolId, request: bodies.ActOnPool) -> Job:
        return self._on_pool("pool_disconnect", pool_id, request)

    def pool_move_master(self, pool_id: PoolId, request: bodies.MoveMaster) -> Job:
        return self._on_pool("pool_move_master", pool_id, request)

    def spm_become(self, pool_id: PoolId, request: bodies.BecomeSpm) -> Job:
        return self._on_pool("spm_become", pool_id, request)

    def spm_leave(self, pool_id: PoolId, request: bodies.LeaveSpm) -> Job:
        return self._on_pool("spm_leave", pool_id, request)

    def spm_priority(
        self, pool_id: PoolId, request: bodies.SetSpmPriority
    ) -> PoolDocument:
        self.asked.append(("spm_priority", request))
        return _known(self.pools, pool_id)

    def disk_list(self) -> bodies.DiskList:
        return bodies.DiskList(tuple(self.disks.values()))

    def disk_show(self, disk_id: DiskId) -> DiskDocument:
        return _known(self.disks, disk_id)

    def disk_create(self, request: bodies.CreateDisk) -> Job:
        return self._job("disk_create", request.disk_id, request)

    def disk_delete(self, disk_id: DiskId, request: bodies.ActOnDisk) -> Job:
        return self._on_disk("disk_delete", disk_id, request)

    def disk_resize(self, disk_id: DiskId, request: bodies.ResizeDisk) -> Job:
        return self._on_disk("disk_resize", disk_id, request)

    def disk_change(self, disk_id: DiskId, request: bodies.ChangeDisk) -> Job:
        return self._on_disk("disk_change", disk_id, request)

    def disk_copy(self, disk_id: DiskId, request: bodies.CopyDisk) -> Job:
        return self._on_disk("disk_copy", disk_id, request)

    def disk_move(self, disk_id: DiskId, request: bodies.MoveDisk) -> Job:
        return self._on_disk("disk_move", disk_id, request)

    def disk_sparsify(self, disk_id: DiskId, request: bodies.SparsifyDisk) -> Job:
        return self._on_disk("disk_sparsify", disk_id, request)

    def _on_domain(self, verb: str, object_id: StorageDomainId, request: Any) -> Job:
        _known(self.domains, object_id)
        return self._job(verb, object_id, request)

    def _on_pool(self, verb: str, object_id: PoolId, request: Any) -> Job:
        _known(self.pools, object_id)
        return self._job(verb, object_id, request)

    def _on_disk(self, verb: str, object_id: DiskId, request: Any) -> Job:
        _known(self.disks, object_id)
        return self._job(verb, object_id, request)

    def _job(self, verb: str, object_id: str, request: Any) -> Job:
        self.asked.append((verb, request))
        refusal = self.refusal

        def run(progress: Progress) -> None:
            progress.step(50, "half of it")
            if refusal is not None:
                raise refusal

        kind = {"disk": Kind.DISK, "pool": Kind.POOL, "spm": Kind.POOL}.get(
            verb.partition("_")[0], Kind.STORAGE_DOMAIN
        )
        return self._jobs.submit(
            verb,
            kind,
            object_id,
            run,
            job_id=request.job_id,
            correlation_id=request.correlation_id,
        )


def _known(examples: Mapping[Id, T], object_id: Id) -> T:
    if object_id not in examples:
        raise Missing(f"there is no example {object_id}", id=object_id)
    return examples[object_id]


class StaysAsItIs(Failed):
    code = "stays_as_it_is"


class NoVmChanges:
    """The storage of a node whose VMs get no snapshots."""

    def check_manager(self, vm: Vm) -> None:
        """Let it be the manager."""

    def check_data_node(
        self, pool_id: PoolId | None, data_node_id: NodeId | None
    ) -> None:
        """Let anybody move data."""

    @contextmanager
    def holding(self, vm: Vm) -> Iterator[int | None]:
        yield None

    def is_closed(self, vm: Vm, leaf: Leaf) -> bool:
        return False

    def close(self, vm: Vm, leaf: Leaf, version: int | None) -> None:
        """Have nothing to close."""

    def make_lease(self, vm: Vm) -> None:
        """Have no leases."""

    def remove_lease(self, vm: Vm) -> None:
        """Have no leases."""

    def go_on(self, vm: Vm, progress: Progress) -> None:
        """Have nothing to end."""

    def reshape(
        self,
        vm: Vm,
        change: Change,
        progress: Progress,
        check_idle: Callable[[], None],
        *,
        is_running: bool,
        data_node_id: NodeId | None,
    ) -> Vm:
        raise StaysAsItIs(f"the disks of {vm.spec.name} cannot be changed")
