"""Verbs on what is not there, and on what makes no sense: refused, and no bug."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.errors import Error
from node.model.ids import DiskId, PoolId, SnapshotId, StorageDomainId, VolumeId
from node.model.job import Job
from node.model.storage import (
    Connection,
    DiskFormat,
    DomainType,
    SnapshotKind,
    SnapshotState,
)
from node.model.storage_requests import (
    ActOnDisk,
    ActOnPool,
    ActOnStorageDomain,
    AttachStorageDomain,
    BecomeSpm,
    ChangeDisk,
    ChangeStorageDomain,
    ConnectPool,
    CopyDisk,
    CreateDisk,
    CreatePool,
    CreateStorageDomain,
    ImportStorageDomain,
    LeaveSpm,
    LookForStorageDomains,
    MoveDisk,
    MoveMaster,
    RemoveStorageDomain,
    RepairStorage,
    ResizeDisk,
    SparsifyDisk,
)
from node.model.vm import Disk, Snapshot, SnapshotDisk, Vm, VmSpec
from node.storage.disks.verbs import first_volume
from node.storage.pools.service import Storage
from node.units import MiB
from tests.unit.node.storage.pools.nodes import VM, Node, Nodes, wait_until

SD = StorageDomainId("11111111-1111-4222-8333-00000000000a")
POOL = PoolId("22222222-1111-4222-8333-00000000000a")
DISK = DiskId("cccccccc-1111-4222-8333-000000000001")
SNAPSHOT = SnapshotId("dddddddd-1111-4222-8333-000000000001")
ODD = "../../etc"
NOWHERE = Connection(DomainType.NFS, "/x", "nas")
ACT = ActOnStorageDomain()

ASKS: dict[str, Callable[[Storage], object]] = {
    "show": lambda s: s.storage_domain_show(SD),
    "create-id": lambda s: s.storage_domain_create(
        CreateStorageDomain(StorageDomainId(ODD), "x", Connection(DomainType.NFS, "x"))
    ),
    "create-no-way": lambda s: s.storage_domain_create(
        CreateStorageDomain(SD, "x", NOWHERE)
    ),
    "create-name": lambda s: s.storage_domain_create(
        CreateStorageDomain(SD, "a\nb", NOWHERE)
    ),
    "look": lambda s: s.storage_domain_look(LookForStorageDomains(NOWHERE)),
    "import": lambda s: s.storage_domain_import(ImportStorageDomain(NOWHERE)),
    "import-pool": lambda s: s.storage_domain_import(
        ImportStorageDomain(NOWHERE, pool_id=POOL)
    ),
    "attach": lambda s: s.storage_domain_attach(SD, AttachStorageDomain(POOL)),
    "activate": lambda s: s.storage_domain_activate(SD, ACT),
    "change": lambda s: s.storage_domain_change(SD, ChangeStorageDomain("x")),
    "maintain": lambda s: s.storage_domain_maintain(SD, ACT),
    "detach": lambda s: s.storage_domain_detach(StorageDomainId(ODD), ACT),
    "check": lambda s: s.storage_domain_check(SD),
    "repair": lambda s: s.storage_domain_repair(SD, RepairStorage()),
    "pool-show": lambda s: s.pool_show(PoolId(ODD)),
    "pool-create": lambda s: s.pool_create(CreatePool(POOL, "x", SD)),
    "pool-create-id": lambda s: s.pool_create(CreatePool(PoolId(ODD), "x", SD)),
    "pool-connect-id": lambda s: s.pool_connect(PoolId(ODD), ConnectPool("x", ())),
    "pool-connect-none": lambda s: s.pool_connect(POOL, ConnectPool("x", ())),
    "move-master": lambda s: s.pool_move_master(POOL, MoveMaster(SD)),
    "become": lambda s: s.spm_become(POOL, BecomeSpm()),
    "leave": lambda s: s.spm_leave(POOL, LeaveSpm()),
    "disk-show": lambda s: s.disk_show(DISK),
    "disk-show-id": lambda s: s.disk_show(DiskId(ODD)),
    "disk-create": lambda s: s.disk_create(CreateDisk(DISK, "x", SD, 1)),
    "disk-delete": lambda s: s.disk_delete(DISK, ActOnDisk()),
    "disk-resize": lambda s: s.disk_resize(DISK, ResizeDisk(-1)),
    "disk-change": lambda s: s.disk_change(DISK, ChangeDisk()),
    "disk-copy": lambda s: s.disk_copy(DISK, CopyDisk(DiskId(ODD), SD)),
    "disk-move": lambda s: s.disk_move(DISK, MoveDisk(SD)),
    "disk-sparsify": lambda s: s.disk_sparsify(DiskId(ODD), SparsifyDisk()),
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Return a node with nothing but its local pool."""
    nodes = Nodes(Path(tmp_path_factory.mktemp("refusals")))
    yield nodes.start(has_local=True)
    nodes.close()


def refusal(node: Node, ask: Callable[[Storage], object]) -> str:
    """Return the code of the error, at once or of the job; empty: there is none."""
    try:
        answer = ask(node.storage)
    except Error as error:
        return error.code
    assert isinstance(answer, Job), "it neither refused nor asked for time"
    return node.error(answer)


@pytest.mark.parametrize("name", ASKS)
def test_verb_on_what_is_not_there_is_refused(node: Node, name: str) -> None:
    assert refusal(node, ASKS[name]) not in {"", "internal_error"}


def test_what_is_not_there_is_left_and_removed_already(node: Node) -> None:
    node.done(node.storage.pool_disconnect(POOL, ActOnPool()))
    node.done(node.storage.storage_domain_remove(SD, RemoveStorageDomain()))


def test_disk_that_a_vm_has_goes_from_its_definition(node: Node) -> None:
    wait_until(lambda: node.storage.storage_domain_list().storage_domains)
    (domain,) = node.storage.storage_domain_list().storage_domains
    known = domain.storage_domain
    sd_id = known.storage_domain_id
    own = DiskId("cccccccc-1111-4222-8333-000000000002")
    request = CreateDisk(own, "root", sd_id, MiB, DiskFormat.RAW)
    wait_until(lambda: node.storage.roster.seat(known.pool_id or "").is_serving)
    node.done(node.storage.disk_create(request))
    disk = Disk(own, "root", MiB, storage_domain_id=sd_id)
    spec = VmSpec(VM, "web", MiB, disks=(disk,), pool_id=known.pool_id)
    at = "2026-11-22T08:00:00.000Z"
    # It is down, and has the disk in a snapshot as well.
    kept = SnapshotDisk(own, VolumeId(first_volume(own)))
    kind, state = SnapshotKind.REGULAR, SnapshotState.OK
    snapshot = Snapshot(SNAPSHOT, VM, kind, state, at, disks=(kept,))
    vm, volumes = Vm(spec, 1, at, home=sd_id), node.storage.volumes()
    volumes.write(replace(vm, snapshots=(snapshot,)), 0)

    def asked(storage: Storage) -> Job:
        return storage.disk_delete(own, ActOnDisk())

    node.done(asked(node.storage))
    after = volumes.find(VM)
    assert after is not None
    (left,) = after.snapshots
    assert (after.spec.disks, left.disks, after.generation) == ((), (), 2)
    assert node.told_definitions == [after]
