"""Storage domains' own leases: nothing is claimed, let go or destroyed without them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from node.errors import Conflict
from node.model.ids import NodeId
from node.storage.domains import formatting
from node.storage.domains.access import Access
from node.storage.domains.formatting import StillAttached
from node.storage.domains.host_ids import LockspaceElsewhere
from node.storage.formats import domain_meta
from node.storage.formats.domain_meta import DomainClass
from node.storage.formats.layout import Special
from node.storage.guard import FILE_DEADLINE_S
from node.storage.process.holdings import StaleLease
from node.storage.process.protocol import Need, ResourceAt
from node.storage.spm import pool_rules, structure_lease
from node.storage.spm.pool_rules import PoolMoved
from node.storage.spm.structure_lease import SpmHeld, SpmMoved
from node.storage.spm.term import SpmLost
from tests.fakes.pool_guard import PoolGuard
from tests.fakes.pool_nodes import PoolNode, PoolWorld
from tests.unit.node.storage.examples import OTHER_SD, POOL, SD

OTHER_POOL = "00000000-1111-4222-8333-444444444444"
STRANGER = NodeId("stranger")
READS = frozenset({"read", "read_at", "list", "stat", "space", "probe"})


@pytest.fixture
def world(tmp_path: Path) -> PoolWorld:
    return PoolWorld(tmp_path, POOL)


@pytest.fixture
def resting(world: PoolWorld) -> PoolNode:
    """Return the manager of a pool with a storage domain in maintenance."""
    node = world.node("node-1")
    node.pool.create(world.make(node, SD))
    node.pool.attach(world.make(node, OTHER_SD))
    return node


def stranger(world: PoolWorld, access: Access) -> PoolGuard:
    """Return a host of nobody's pool that holds a storage domain's lease."""
    guard = PoolGuard(storage=world.storage, machine=STRANGER)
    structure_lease.join(guard, access, STRANGER)
    structure_lease.acquire(guard, access)
    return guard


def held(guard: PoolGuard) -> list[str]:
    return [each.lockspace for each in guard.leases().held]


@dataclass
class Watched(PoolGuard):
    """Notes what is written without the storage domain's own lease."""

    naked: list[str] = field(default_factory=list)

    def file(
        self,
        domain: str,
        root: str,
        operations: Sequence[Mapping[str, Any]],
        deadline_s: float = FILE_DEADLINE_S,
        needs: Sequence[Need] = (),
    ) -> tuple[Any, ...]:
        spaces = {each.lockspace for each in needs}
        self.naked += [
            f"{each['name']} {each.get('path', '')}"
            for each in operations
            if each["name"] not in READS and domain not in spaces
        ]
        return PoolGuard.file(self, domain, root, operations, deadline_s, needs)


def test_pool_writes_only_under_the_lease_of_what_it_writes_to(
    world: PoolWorld,
) -> None:
    guard = Watched(storage=world.storage, machine="node-1")
    node = world.node("node-1", guard=guard)
    first, other = world.make(node, SD), world.make(node, OTHER_SD)
    guard.naked.clear()
    node.pool.create(first)
    node.pool.attach(other)
    node.pool.activate(OTHER_SD)
    node.pool.move_master(OTHER_SD)
    node.pool.maintain(SD)
    node.pool.detach(SD)
    path = Path(first.layout.special(Special.METADATA))
    foreign = replace(first.meta(guard), pool_ids=(OTHER_POOL,))
    path.write_bytes(domain_meta.write(foreign))
    node.pool.attach(replace(first, source="nas:/moved"), is_forced=True)
    assert guard.naked == []


def test_detach_is_refused_while_another_host_holds_the_storage_domain(
    world: PoolWorld, resting: PoolNode
) -> None:
    access = world.access(OTHER_SD)
    stranger(world, access)
    with pytest.raises(SpmHeld):
        resting.pool.detach(OTHER_SD)
    assert pool_rules.find(resting.pool.map, OTHER_SD) is not None
    found = resting.pool.detach(OTHER_SD, is_forced=True)
    assert pool_rules.find(found, OTHER_SD) is None
    assert access.meta(resting.guard).pool_ids == (POOL,), "it was not written to"


def test_detach_gives_back_lease_and_lockspace(
    world: PoolWorld, resting: PoolNode
) -> None:
    resting.pool.detach(OTHER_SD)
    assert held(resting.guard) == [SD]
    assert [each.name for each in resting.guard.lockspaces()] == [SD]


def test_forced_attach_is_refused_while_another_host_holds_the_storage_domain(
    world: PoolWorld,
) -> None:
    node = world.node("node-1")
    node.pool.create(world.make(node, SD))
    access = world.make(node, OTHER_SD)
    path = Path(access.layout.special(Special.METADATA))
    foreign = replace(access.meta(node.guard), pool_ids=(OTHER_POOL,))
    path.write_bytes(domain_meta.write(foreign))
    guard = stranger(world, access)
    with pytest.raises(SpmHeld):
        node.pool.attach(replace(access, source="nas:/moved"), is_forced=True)
    assert path.read_bytes() == domain_meta.write(foreign)
    structure_lease.release(guard, access)
    node.pool.attach(replace(access, source="nas:/moved"), is_forced=True)
    assert access.meta(node.guard).remote_path == "nas:/moved"


class Interrupted(PoolGuard):
    """Loses the management, and wins it again, when it takes one lease."""

    node: PoolNode | None = None
    changes_the_map = False

    def acquire(self, resource: ResourceAt, version: int | None = None) -> int:
        acquired = PoolGuard.acquire(self, resource, version)
        node = self.node
        if resource.lockspace == OTHER_SD and node is not None:
            self.node = None
            self.lose(SD)
            assert not node.pool.spm.check()
            node.pool.spm.become()
        return acquired


def test_change_that_outlived_its_management_is_refused(world: PoolWorld) -> None:
    guard = Interrupted(storage=world.storage, machine="node-1")
    node = world.node("node-1", guard=guard)
    node.pool.create(world.make(node, SD))
    access = world.make(node, OTHER_SD)
    before, term = node.pool.map, node.pool.spm.term()
    guard.node = node
    with pytest.raises(SpmLost):
        node.pool.attach(access)
    assert node.pool.spm.term().lease_version > term.lease_version
    assert node.pool.map == before
    assert access.meta(guard).pool_ids == ()


def test_map_is_written_under_the_leases_of_who_began(
    world: PoolWorld, resting: PoolNode
) -> None:
    pool = resting.pool
    term, known = pool.spm.term(), pool.map
    resting.guard.lose(SD)
    assert not pool.spm.check()
    pool.spm.become()
    with pytest.raises(StaleLease):
        pool._change(term, known, replace(known, name="late"))
    assert pool.refresh() == known


def test_change_is_refused_when_the_map_moved_meanwhile(world: PoolWorld) -> None:
    class Moving(PoolGuard):
        """Reads a newer map while a change is under way."""

        node: PoolNode | None = None

        def acquire(self, resource: ResourceAt, version: int | None = None) -> int:
            if resource.lockspace == OTHER_SD and self.node is not None:
                pool, self.node = self.node.pool, None
                newer = replace(pool.map, generation=pool.map.generation + 5)
                pool._memory.believe(newer)
            return PoolGuard.acquire(self, resource, version)

    guard = Moving(storage=world.storage, machine="node-1")
    node = world.node("node-1", guard=guard)
    node.pool.create(world.make(node, SD))
    access = world.make(node, OTHER_SD)
    guard.node = node
    with pytest.raises(PoolMoved):
        node.pool.attach(access)


def test_destroy_is_refused_while_another_host_claims_the_storage_domain(
    world: PoolWorld,
) -> None:
    node = world.node("node-1")
    access = world.make(node, SD)
    guard = stranger(world, access)
    with pytest.raises(SpmHeld):
        formatting.destroy(node.guard, access, node.node_id)
    assert Path(access.layout.special(Special.METADATA)).exists()
    structure_lease.release(guard, access)
    formatting.destroy(node.guard, access, node.node_id)
    assert not Path(access.layout.root).exists()
    assert (held(node.guard), node.guard.lockspaces()) == ([], ())


def test_destroy_is_refused_when_a_pool_was_quicker(world: PoolWorld) -> None:
    class Late(PoolGuard):
        """Gets the lease when a pool has claimed the storage domain."""

        def acquire(self, resource: ResourceAt, version: int | None = None) -> int:
            path = Path(access.layout.special(Special.METADATA))
            claimed = replace(access.meta(self), pool_ids=(POOL,))
            path.write_bytes(domain_meta.write(claimed))
            return PoolGuard.acquire(self, resource, version)

    node = world.node("node-1")
    access = world.make(node, SD)
    late = Late(storage=world.storage, machine="late")
    with pytest.raises(StillAttached):
        formatting.destroy(late, access, NodeId("late"))
    assert access.meta(node.guard).pool_ids == (POOL,)
    assert held(late) == []


@pytest.mark.parametrize("stop_at", range(3), ids=["lease", "rename", "tree"])
def test_destroy_goes_on_where_it_was_stopped(world: PoolWorld, stop_at: int) -> None:
    class Stopping(PoolGuard):
        """Ends with what it was doing, after the metadata have another name."""

        stops = ("release", "rename", "remove_tree")
        left = True

        def release(self, resource: ResourceAt) -> None:
            self._stop("release")
            PoolGuard.release(self, resource)

        def file(
            self,
            domain: str,
            root: str,
            operations: Sequence[Mapping[str, Any]],
            deadline_s: float = FILE_DEADLINE_S,
            needs: Sequence[Need] = (),
        ) -> tuple[Any, ...]:
            if str(operations[0].get("old", "")).endswith(SD):
                self._stop("rename")
            if operations[0]["name"] == "remove_tree":
                self._stop("remove_tree")
            return PoolGuard.file(self, domain, root, operations, deadline_s, needs)

        def _stop(self, what: str) -> None:
            if self.left and self.stops[stop_at] == what:
                self.left = False
                raise KeyboardInterrupt

    guard = Stopping(storage=world.storage, machine="node-1")
    access = world.make(world.node("node-1", guard=guard), SD)
    with pytest.raises(KeyboardInterrupt):
        formatting.destroy(guard, access, NodeId("node-1"))
    formatting.destroy(guard, access, NodeId("node-1"))
    assert list(Path(access.layout.root.parent).iterdir()) == []
    assert (held(guard), guard.lockspaces()) == ([], ())


def test_acquire_tells_a_lease_that_moved(world: PoolWorld) -> None:
    node = world.node("node-1")
    access = world.make(node, SD)
    structure_lease.join(node.guard, access, node.node_id)
    version = structure_lease.acquire(node.guard, access)
    assert structure_lease.acquire(node.guard, access, version) == version
    with pytest.raises(SpmMoved):
        structure_lease.acquire(node.guard, access, version + 1)


def test_join_refuses_the_copy_of_a_storage_domain_that_is_joined(
    world: PoolWorld, tmp_path: Path
) -> None:
    node = world.node("node-1")
    access = world.make(node, SD)
    structure_lease.join(node.guard, access, node.node_id)
    copy = replace(access, layout=replace(access.layout, root=access.layout.root))
    assert structure_lease.join(node.guard, copy, node.node_id) == 1
    elsewhere = type(access.layout)(access.layout.root.parent.parent / "copy" / SD)
    with pytest.raises(LockspaceElsewhere):
        structure_lease.join(
            node.guard, replace(access, layout=elsewhere), node.node_id
        )


def test_release_raises_nothing(world: PoolWorld) -> None:
    class Refusing(PoolGuard):
        def release(self, resource: ResourceAt) -> None:
            raise Conflict("no")

    node = world.node("node-1")
    access = world.make(node, SD)
    refusing = Refusing(storage=world.storage, machine="node-1")
    assert not structure_lease.release(refusing, access)
    assert structure_lease.release(node.guard, access)


def test_an_iso_storage_domain_is_shared_by_pools(
    world: PoolWorld, tmp_path: Path
) -> None:
    one = world.node("node-1")
    one.pool.create(world.make(one, SD))
    other_world = PoolWorld(tmp_path, OTHER_POOL, world.storage)
    two = other_world.node("node-2")
    two.pool.create(other_world.make(two, OTHER_SD))
    iso = world.make(one, "aaaaaaaa-1111-4222-8333-444444444444", DomainClass.ISO)
    for node in (one, two, one):
        node.pool.attach(iso)
        node.pool.activate(iso.storage_domain_id)
    assert iso.meta(one.guard).pool_ids == (POOL, OTHER_POOL)
    one.pool.maintain(iso.storage_domain_id)
    one.pool.detach(iso.storage_domain_id)
    assert iso.meta(one.guard).pool_ids == (OTHER_POOL,)


def test_ovirts_iso_storage_domain_needs_no_lease(world: PoolWorld) -> None:
    node = world.node("node-1")
    node.pool.create(world.make(node, SD))
    access = world.make(node, OTHER_SD, DomainClass.ISO)
    old = replace(access.meta(node.guard), version=0)
    path = Path(access.layout.special(Special.METADATA))
    path.write_bytes(domain_meta.write(old))
    Path(access.layout.special(Special.IDS)).write_bytes(b"")
    node.pool.attach(access)
    found = node.pool.activate(OTHER_SD)
    assert len(found.domains) == 2
    assert access.meta(node.guard).pool_ids == (POOL,)


def test_attach_completes_what_ovirt_made(world: PoolWorld) -> None:
    node = world.node("node-1")
    node.pool.create(world.make(node, SD))
    access = world.make(node, OTHER_SD)
    Path(access.layout.presence).unlink()
    Path(access.layout.journals).rmdir()
    Path(access.layout.pool_map.parent).rmdir()
    node.pool.attach(access)
    assert Path(access.layout.journals).is_dir()
    assert Path(access.layout.presence).stat().st_size == 250 * 4096
    node.pool.activate(OTHER_SD)
    assert node.pool.move_master(OTHER_SD).master_id == OTHER_SD
