"""The index of VMs' leases is mended from the leases, and by who has one."""

from pathlib import Path

import pytest

from node.model.ids import PoolId, StorageDomainId, VmId
from node.model.vm import Vm, VmSpec
from node.storage.domains.access import Access
from node.storage.formats import vm_file, xlease_index
from node.storage.formats.layout import Special
from node.storage.formats.vm_file import VmFile
from node.storage.pools import lease_repair
from node.storage.spm import vm_leases
from node.storage.spm.vm_store import VmStore
from node.units import GiB, MiB
from tests.fakes.leasing_guard import LeasingGuard
from tests.fakes.pool_nodes import PoolNode, PoolWorld
from tests.unit.node.storage.examples import OTHER_SD, POOL, SD

VM = "aaaaaaaa-0000-4000-8000-000000000001"
STRANGER = "aaaaaaaa-0000-4000-8000-000000000002"
NOW_S = 1_700_000_000


@pytest.fixture
def world(tmp_path: Path) -> PoolWorld:
    return PoolWorld(tmp_path, POOL)


@pytest.fixture
def guard(world: PoolWorld) -> LeasingGuard:
    return LeasingGuard(storage=world.storage, machine="node-1")


@pytest.fixture
def node(world: PoolWorld, guard: LeasingGuard) -> PoolNode:
    """Return a manager with two leases, of which a VM has one."""
    made = world.node("node-1", guard=guard)
    access = world.make(made, SD)
    made.pool.create(access)
    vm = Vm(VmSpec(VmId(VM), "web", GiB), 1, "2026-11-22T08:00:00.000Z")
    VmStore(made.pool, guard, world.clock).write(vm, StorageDomainId(SD), 0)
    for vm_id in (VM, STRANGER):
        vm_leases.add(guard, access, made.pool.spm.term(), vm_id)
    return made


def _mend(
    world: PoolWorld,
    node: PoolNode,
    documents: frozenset[VmId] | None = frozenset(),
) -> bool:
    vms = VmStore(node.pool, node.guard, world.clock)
    who = (node.guard, world.access(SD), node.pool.spm.term(), vms)
    return lease_repair.mend(*who, NOW_S, documents=lambda: documents)


def _spoil(access: Access) -> None:
    with Path(access.layout.special(Special.XLEASES)).open("r+b") as file:
        file.seek(xlease_index.index_offset(MiB))
        file.write(b"nonsense")


def _leases(world: PoolWorld, node: PoolNode) -> list[str]:
    found = []
    for vm_id in (VM, STRANGER):
        try:
            vm_leases.find(node.guard, world.access(SD), vm_id)
        except vm_leases.VmLeaseMissing:
            continue
        found.append(vm_id)
    return found


def test_mend_leaves_a_good_index_alone(world: PoolWorld, node: PoolNode) -> None:
    assert not _mend(world, node)
    assert _leases(world, node) == [VM, STRANGER]


def test_mend_keeps_the_leases_of_vms(world: PoolWorld, node: PoolNode) -> None:
    _spoil(world.access(SD))
    assert _mend(world, node)
    assert _leases(world, node) == [VM]


def test_mend_keeps_all_while_a_definition_cannot_be_read(
    world: PoolWorld, node: PoolNode
) -> None:
    folder = Path(world.access(SD).layout.vm(STRANGER))
    folder.mkdir()
    (folder / "definition").write_bytes(b"nonsense")
    _spoil(world.access(SD))
    assert _mend(world, node)
    assert _leases(world, node) == [VM, STRANGER]


def test_mend_keeps_all_while_a_storage_domain_rests(
    world: PoolWorld, node: PoolNode
) -> None:
    """A definition may lie there, and its VM's lease here."""
    node.pool.attach(world.make(node, OTHER_SD))
    node.pool.maintain(OTHER_SD)
    _spoil(world.access(SD))
    assert _mend(world, node)
    assert _leases(world, node) == [VM, STRANGER]


def test_mend_keeps_the_lease_of_a_vm_that_waits_to_be_registered(
    world: PoolWorld, node: PoolNode
) -> None:
    elsewhere = PoolId("aaaaaaaa-0000-4000-8000-0000000000aa")
    spec = VmSpec(VmId(STRANGER), "came", GiB, pool_id=elsewhere)
    vm = Vm(spec, 1, "2026-11-22T08:00:00.000Z")
    file = VmFile(vm_file.SCHEMA, VmId(STRANGER), 1, vm.created_at, vm)
    folder = Path(world.access(SD).layout.vm(STRANGER))
    folder.mkdir()
    (folder / vm_file.NAME).write_bytes(vm_file.write(file))
    _spoil(world.access(SD))
    assert _mend(world, node)
    assert _leases(world, node) == [VM, STRANGER]


@pytest.mark.parametrize(
    "documents", [frozenset({VmId(STRANGER)}), None], ids=["told", "unread"]
)
def test_mend_keeps_the_lease_of_a_vm_that_only_an_ovf_store_may_tell_of(
    world: PoolWorld, node: PoolNode, documents: frozenset[VmId] | None
) -> None:
    _spoil(world.access(SD))
    assert _mend(world, node, documents)
    assert _leases(world, node) == [VM, STRANGER]
