"""Storage for the fleet of `tests.fakes.services`: as its nodes would push it.

oak and elm share the pool `shared` of the data center Default, which oak manages:
data1 (NFS, the master), data2 (POSIX), iso1 (ISO, in maintenance). spare belongs to
no pool. Each of the two has a local pool besides. On data1 lie `system` of the VM
`app`, a floating disk `loose`, and the CD image `debian.iso`; on elm-local `scratch`.
"""

from dataclasses import replace
from typing import Any, Final

from aggregator.federation import apply
from aggregator.federation.view import View
from node.model.ids import DiskId, NodeId, PoolId, StorageDomainId, VmId, VolumeId
from node.model.storage import (
    Allocation,
    ChainSummary,
    Connection,
    ContentType,
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
    PoolMark,
    PoolMember,
    PoolState,
    SpmState,
    SpmView,
    StorageDomain,
    StorageDomainDocument,
)
from node.model.vm import Disk, Vm, VmRun, VmState
from node.units import GiB
from tests.fakes import fleet, services
from tests.fakes.services import AT, ELM, OAK

SHARED: Final = PoolId("99999999-0000-4000-8000-000000000001")
OAK_POOL: Final = PoolId("99999999-0000-4000-8000-000000000002")
ELM_POOL: Final = PoolId("99999999-0000-4000-8000-000000000003")
DATA1: Final = StorageDomainId("77777777-0000-4000-8000-000000000001")
DATA2: Final = StorageDomainId("77777777-0000-4000-8000-000000000002")
ISO1: Final = StorageDomainId("77777777-0000-4000-8000-000000000003")
SPARE: Final = StorageDomainId("77777777-0000-4000-8000-000000000004")
OAK_LOCAL: Final = StorageDomainId("77777777-0000-4000-8000-000000000005")
ELM_LOCAL: Final = StorageDomainId("77777777-0000-4000-8000-000000000006")
SYSTEM: Final = DiskId("66666666-0000-4000-8000-000000000001")
LOOSE: Final = DiskId("66666666-0000-4000-8000-000000000002")
CD: Final = DiskId("66666666-0000-4000-8000-000000000003")
SCRATCH: Final = DiskId("66666666-0000-4000-8000-000000000004")
LEAF: Final = VolumeId("55555555-0000-4000-8000-000000000001")
APP: Final = VmId("aaaaaaaa-0000-4000-8000-000000000006")
MARK: Final = PoolMark(3, 7)

NFS: Final = Connection(
    DomainType.NFS, "/exports/data1", "nas.test", nfs_version="4.2", options="noatime"
)
POSIX: Final = Connection(
    DomainType.POSIXFS, "nas.test:/data2", file_system="ceph", options="name=skerry"
)
_PLACES: Final = {
    DATA1: NFS,
    DATA2: POSIX,
    ISO1: Connection(DomainType.NFS, "/exports/iso1", "nas.test"),
    SPARE: Connection(DomainType.POSIXFS, "/mnt/spare"),
    OAK_LOCAL: Connection(DomainType.LOCALFS, "/var/lib/skerry/local"),
    ELM_LOCAL: Connection(DomainType.LOCALFS, "/var/lib/skerry/local"),
}


def add_storage(view: View) -> View:
    """Return the View with all that oak and elm say of storage."""
    view = _say(
        view,
        OAK,
        pool(OAK),
        pool(OAK, OAK_POOL, "local", is_local=True),
        *(domain(OAK, each) for each in (DATA1, DATA2, ISO1, SPARE, OAK_LOCAL)),
        disk(SYSTEM, "system", vm_ids=(APP,), chain=ChainSummary((LEAF,))),
        disk(LOOSE, "loose", allocation=Allocation.PREALLOCATED),
        disk(
            CD,
            "debian.iso",
            content=ContentType.ISO,
            disk_format=DiskFormat.RAW,
            size_bytes=GiB,
        ),
        definition(),
        VmRun(APP, OAK, VmState.DOWN, AT),
    )
    return _say(
        view,
        ELM,
        pool(ELM),
        pool(ELM, ELM_POOL, "local", is_local=True),
        *(domain(ELM, each) for each in (DATA1, DATA2, ISO1, ELM_LOCAL)),
        disk(SCRATCH, "scratch", pool_id=ELM_POOL, storage_domain_ids=(ELM_LOCAL,)),
    )


def make_fleet() -> services.Fleet:
    """Return the fleet with its storage, and the pool of its data center."""
    made = services.make_fleet(add_storage(services.make_view()))
    records = made.database.records("fleet")
    (data_center,) = (
        each.id for each in records.list() if each.id.startswith("data_center/")
    )
    body = {
        "name": "shared",
        "data_center_id": data_center.removeprefix("data_center/"),
        "founded_on": DATA1,
    }
    records.put(f"pool/{SHARED}", body)
    return made


def pool(
    node_id: NodeId,
    pool_id: PoolId = SHARED,
    name: str = "shared",
    *,
    is_local: bool = False,
    **changes: Any,
) -> PoolDocument:
    """Return a node's sight of a pool: oak manages the shared one."""
    manager = node_id if is_local else OAK
    is_manager = manager == node_id
    local = OAK_LOCAL if node_id == OAK else ELM_LOCAL
    domains = (local,) if is_local else (DATA1, DATA2, ISO1)
    document = PoolDocument(
        pool_id,
        name,
        node_id,
        is_local,
        PoolState.UP,
        AT,
        domains[0],
        1,
        MARK.generation,
        SpmView(
            SpmState.MANAGER if is_manager else SpmState.FREE,
            manager,
            MARK.lease_version,
        ),
        tuple(
            PoolDomain(each, _class(each), _state(each), connection=_PLACES[each])
            for each in domains
        ),
        (
            PoolMember(OAK, 1, Liveness.LIVE, priority=5),
            PoolMember(ELM, 2, Liveness.LIVE, priority=7),
        ),
        mark=MARK if is_manager else None,
    )
    return replace(document, **changes)


def domain(
    node_id: NodeId, storage_domain_id: StorageDomainId, **changes: Any
) -> StorageDomainDocument:
    """Return a node's sight of a storage domain."""
    pools = {
        SPARE: None,
        OAK_LOCAL: OAK_POOL,
        ELM_LOCAL: ELM_POOL,
    }
    pool_id = pools.get(storage_domain_id, SHARED)
    named = StorageDomain(
        storage_domain_id,
        NAMES[storage_domain_id],
        _class(storage_domain_id),
        _PLACES[storage_domain_id],
        DomainRole.MASTER if storage_domain_id == DATA1 else DomainRole.REGULAR,
        pool_id,
        f"where {NAMES[storage_domain_id]} is",
    )
    document = StorageDomainDocument(
        named,
        node_id,
        _state(storage_domain_id),
        AT,
        latency_s=0.002,
        total_bytes=100 * GiB,
        free_bytes=60 * GiB,
        committed_bytes=20 * GiB,
        mark=MARK if node_id == OAK and pool_id == SHARED else None,
    )
    return replace(document, **changes)


def export(**changes: Any) -> StorageDomainDocument:
    """Return oak's sight of data2, were it an export storage domain."""
    document = domain(OAK, DATA2, **changes)
    named = replace(document.storage_domain, domain_class=DomainClass.EXPORT)
    return replace(document, storage_domain=named)


def disk(disk_id: DiskId, name: str, **changes: Any) -> DiskDocument:
    """Return a disk on data1, as the manager says it."""
    document = DiskDocument(
        disk_id,
        name,
        10 * GiB,
        2 * GiB,
        DiskFormat.QCOW2,
        Allocation.THIN,
        (DATA1,),
        DiskState.OK,
        AT,
        description=f"the {name} disk",
        pool_id=SHARED,
        mark=MARK,
    )
    return replace(document, **changes)


def definition(**changes: Any) -> Vm:
    """Return the VM `app`, whose disk lies on the shared pool."""
    plain = services.spec(APP, "app")
    system = Disk(
        SYSTEM,
        "system",
        10 * GiB,
        is_bootable=True,
        storage_domain_id=DATA1,
        disk_format=DiskFormat.QCOW2,
    )
    spec = replace(plain, disks=(system,), pool_id=SHARED, **changes)
    return Vm(spec, 1, AT, home=DATA1)


NAMES: Final = {
    DATA1: "data1",
    DATA2: "data2",
    ISO1: "iso1",
    SPARE: "spare",
    OAK_LOCAL: "oak-local",
    ELM_LOCAL: "elm-local",
}


def _class(storage_domain_id: StorageDomainId) -> DomainClass:
    return DomainClass.ISO if storage_domain_id == ISO1 else DomainClass.DATA


def _state(storage_domain_id: StorageDomainId) -> DomainState:
    states = {ISO1: DomainState.MAINTENANCE, SPARE: DomainState.UNATTACHED}
    return states.get(storage_domain_id, DomainState.ACTIVE)


def _say(view: View, node_id: NodeId, *documents: object) -> View:
    newer, troubles = apply.set_documents(view, node_id, fleet.said(*documents))
    assert not troubles, troubles
    return newer
