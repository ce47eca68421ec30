"""Pools: two nodes on real folders; the storage process and sanlock are fakes."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.errors import Error
from node.model.storage import Connection
from node.model.storage import DomainType as Kind
from node.storage.domains import formatting
from node.storage.domains.access import (
    Access,
    LocalFolders,
    NotLocal,
    StorageDomainConnecting,
    StorageDomainUnknown,
)
from node.storage.formats import domain_meta, pool_map
from node.storage.formats.domain_meta import (
    DomainClass,
    DomainMeta,
    DomainRole,
    DomainType,
)
from node.storage.formats.layout import Special
from node.storage.formats.pool_map import (
    OtherPool,
    PoolDomainState,
    PoolMap,
    PoolMapsDiffer,
)
from node.storage.process.protocol import ResourceAt
from node.storage.spm import pool_files
from node.storage.spm.map_memory import PoolLost
from node.storage.spm.pool import LacksWatchdog
from node.storage.spm.pool_rules import (
    MasterInUse,
    NotAData,
    NotInPool,
    PoolExists,
    PoolMoved,
    StorageDomainActive,
    StorageDomainCopied,
)
from node.storage.spm.states import State
from node.storage.spm.structure_lease import SpmHeld
from node.storage.spm.term import NotSpm, SpmChanging, WorkUnderWay
from node.system.mounts import Mount
from tests.fakes.mounts import FakeMounts
from tests.fakes.pool_guard import PoolGuard
from tests.fakes.pool_nodes import LOCAL_FOLDERS, NOW_S, PoolNode, PoolWorld
from tests.unit.node.storage.examples import OTHER_SD, POOL, SD

OTHER_POOL = "00000000-1111-4222-8333-444444444444"
ISO_SD = "aaaaaaaa-1111-4222-8333-444444444444"


@pytest.fixture
def world(tmp_path: Path) -> PoolWorld:
    return PoolWorld(tmp_path, POOL)


@pytest.fixture
def one(world: PoolWorld) -> PoolNode:
    """Return a manager of a pool with one storage domain."""
    node = world.node("node-1")
    node.pool.create(world.make(node, SD))
    return node


@pytest.fixture
def both(world: PoolWorld, one: PoolNode) -> PoolNode:
    """Return a manager of a pool with two active data storage domains."""
    one.pool.attach(world.make(one, OTHER_SD))
    one.pool.activate(OTHER_SD)
    return one


def stored_map(access: Access) -> PoolMap:
    return pool_map.parse(Path(access.layout.pool_map).read_bytes())


def other_node(world: PoolWorld, node_id: str = "node-2") -> PoolNode:
    """Return another node that is connected to both storage domains."""
    node = world.node(node_id)
    for each in (SD, OTHER_SD):
        if Path(world.access(each).layout.dom_md).exists():
            node.pool.connect(world.access(each))
    node.pool.refresh()
    return node


def test_the_map_says_how_to_reach_each_storage_domain(world: PoolWorld) -> None:
    node = world.node("node-1")
    way = Connection(Kind.NFS, "/x", "nas")
    node.pool.create(replace(world.make(node, SD), connection=way), "main")
    node.pool.attach(replace(world.make(node, OTHER_SD), connection=way))
    found = stored_map(world.access(SD))
    assert found.name == "main"
    assert [(each.name, each.connection) for each in found.domains] == [
        ("one", way),
        ("one", way),
    ]


def test_create_makes_a_pool_and_manages_it(world: PoolWorld, one: PoolNode) -> None:
    access, found = world.access(SD), one.pool.map
    assert (found.version, found.master_id) == ((1, 1), SD)
    meta = access.meta(one.guard)
    assert (meta.pool_ids, meta.role) == ((POOL,), DomainRole.MASTER)
    assert stored_map(access) == found
    assert one.remembered == [found]
    assert one.pool.spm.state is State.SERVING
    assert one.pool.create(access) == found


@pytest.mark.parametrize("stop_after", range(3))
def test_create_goes_on_where_it_was_stopped(
    world: PoolWorld, tmp_path: Path, stop_after: int
) -> None:
    node = world.node("node-1")
    access = world.make(node, SD)
    before = access.layout
    node.pool.create(access)
    node.pool.spm.leave()
    free = replace(access.meta(node.guard), pool_ids=(), role=DomainRole.REGULAR)
    if stop_after < 2:
        Path(before.dom_md / "metadata").write_bytes(domain_meta.write(free))
    if stop_after < 1:
        Path(before.pool_map).unlink()
    again = world.node("node-2")
    again.pool.create(access)
    assert stored_map(access).version == (1, 1)
    assert access.meta(again.guard).pool_ids == (POOL,)
    assert again.pool.spm.state is State.SERVING


def test_create_refuses_the_storage_domain_of_another_fleet(
    world: PoolWorld, one: PoolNode, tmp_path: Path
) -> None:
    one.pool.spm.leave()
    stranger = PoolWorld(tmp_path, OTHER_POOL, world.storage).node("stranger")
    with pytest.raises(OtherPool) as caught:
        stranger.pool.create(world.access(SD))
    assert caught.value.fields["pool_id"] == POOL
    assert world.access(SD).meta(one.guard).pool_ids == (POOL,)


def test_create_refuses_an_iso_storage_domain(world: PoolWorld) -> None:
    node = world.node("node-1")
    access = world.make(node, ISO_SD, DomainClass.ISO)
    with pytest.raises(NotAData):
        node.pool.create(access)


@pytest.mark.parametrize("was_quicker", [False, True], ids=["before", "meanwhile"])
def test_create_that_is_refused_leaves_nothing_behind(
    world: PoolWorld, was_quicker: bool
) -> None:
    access = world.make(world.node("node-1"), SD)
    path = Path(access.layout.special(Special.METADATA))
    meta = access.meta(world.node("node-1").guard)
    taken = domain_meta.write(replace(meta, pool_ids=(OTHER_POOL,)))

    class Late(PoolGuard):
        """Gets the lease when another pool has claimed the storage domain."""

        def acquire(self, resource: ResourceAt, version: int | None = None) -> int:
            assert was_quicker, "what is refused at once needs no lease"
            path.write_bytes(taken)
            return PoolGuard.acquire(self, resource, version)

    if not was_quicker:
        path.write_bytes(taken)
    node = world.node("late", guard=Late(storage=world.storage, machine="late"))
    with pytest.raises(OtherPool):
        node.pool.create(access)
    assert node.guard.leases().held == ()
    assert node.guard.lockspaces() == ()
    assert path.read_bytes() == taken
    assert node.pool.spm.state is State.FREE


def test_create_makes_no_second_master(world: PoolWorld, one: PoolNode) -> None:
    with pytest.raises(PoolExists):
        one.pool.create(world.make(one, OTHER_SD))
    one.pool.attach(world.access(OTHER_SD))
    one.pool.activate(OTHER_SD)
    with pytest.raises(PoolExists):
        one.pool.create(world.access(OTHER_SD))
    assert world.access(OTHER_SD).meta(one.guard).role is DomainRole.REGULAR
    assert set(one.pool.spm.term().held) == {SD, OTHER_SD}
    with pytest.raises(PoolExists):
        world.node("node-2").pool.create(world.access(OTHER_SD))


def test_local_storage_domain_is_refused_where_others_may_reach_it(
    tmp_path: Path,
) -> None:
    world = PoolWorld(tmp_path, POOL)
    access = world.access(SD, is_local=True)
    shared = FakeMounts([Mount("nas:/a", "/", "nfs4")])
    node = world.node("node-1", local_folders=LocalFolders(shared.find))
    meta = DomainMeta(*(SD, DomainType.LOCALFS, DomainClass.DATA, "one", "/disk"))
    refused: tuple[Callable[[], object], ...] = (
        lambda: formatting.make(
            *(node.guard, access, meta, NOW_S, LocalFolders(shared.find))
        ),
        lambda: node.pool.create(access),
        lambda: node.pool.connect(access),
    )
    for each in refused:
        with pytest.raises(NotLocal):
            each()
    assert not Path(access.layout.root).exists()
    formatting.make(node.guard, access, meta, NOW_S, LOCAL_FOLDERS)
    assert Path(access.layout.root).exists()


def test_attach_and_activate_write_the_map_everywhere(
    world: PoolWorld, both: PoolNode
) -> None:
    assert both.pool.map.version == (1, 3)
    for each in (SD, OTHER_SD):
        assert stored_map(world.access(each)) == both.pool.map
    assert world.access(OTHER_SD).meta(both.guard).role is DomainRole.REGULAR
    assert set(both.pool.spm.term().held) == {SD, OTHER_SD}
    assert both.pool.activate(OTHER_SD).version == (1, 3)
    assert both.pool.attach(world.access(OTHER_SD)).version == (1, 3)


def test_attach_leaves_a_storage_domain_in_maintenance(
    world: PoolWorld, one: PoolNode
) -> None:
    found = one.pool.attach(world.make(one, OTHER_SD))
    states = {each.storage_domain_id: each.state for each in found.domains}
    assert states[OTHER_SD] is PoolDomainState.MAINTENANCE
    assert not Path(world.access(OTHER_SD).layout.pool_map).exists()
    assert [each.lockspace for each in one.guard.leases().held] == [SD]


def test_attach_refuses_what_belongs_to_another_pool(
    world: PoolWorld, one: PoolNode, tmp_path: Path
) -> None:
    stranger = PoolWorld(tmp_path, OTHER_POOL, world.storage)
    other = stranger.node("stranger")
    access = stranger.make(other, OTHER_SD)
    other.pool.create(access)
    with pytest.raises(OtherPool):
        one.pool.attach(access)
    other.pool.spm.leave()
    forced = one.pool.attach(access, is_forced=True)
    assert len(forced.domains) == 2
    assert access.meta(one.guard).pool_ids == (POOL,)
    assert not Path(access.layout.pool_map).exists()
    assert one.pool.activate(OTHER_SD).version == (1, 3)


def test_attach_loses_against_a_pool_that_was_quicker(
    world: PoolWorld, one: PoolNode
) -> None:
    access = world.make(one, OTHER_SD)
    path = Path(access.layout.special(Special.METADATA))
    taken = replace(access.meta(one.guard), pool_ids=(OTHER_POOL,))

    class Late(PoolGuard):
        """Gets the lease when another pool has attached and released it."""

        def acquire(self, resource: ResourceAt, version: int | None = None) -> int:
            if resource.lockspace == OTHER_SD:
                path.write_bytes(domain_meta.write(taken))
            return PoolGuard.acquire(self, resource, version)

    one.pool.spm.leave()
    late = world.node("late", guard=Late(storage=world.storage, machine="late"))
    late.pool.connect(world.access(SD))
    late.pool.refresh()
    late.pool.spm.become()
    with pytest.raises(OtherPool):
        late.pool.attach(access)
    assert access.meta(late.guard).pool_ids == (OTHER_POOL,)
    assert [each.lockspace for each in late.guard.leases().held] == [SD]


def test_attach_refuses_a_copy(world: PoolWorld, one: PoolNode) -> None:
    access = world.make(one, OTHER_SD)
    copy = replace(access, source="nas:/copy")
    with pytest.raises(StorageDomainCopied):
        one.pool.attach(copy)
    one.pool.attach(copy, is_forced=True)
    assert copy.meta(one.guard).remote_path == "nas:/copy"


def test_join_refuses_a_copy_of_the_master(world: PoolWorld, one: PoolNode) -> None:
    node = world.node("node-2")
    with pytest.raises(StorageDomainCopied):
        node.pool.join(replace(world.access(SD), source="nas:/copy"))
    assert node.guard.lockspaces() == ()


def test_join_takes_another_host_id_each(world: PoolWorld, one: PoolNode) -> None:
    found = [other_node(world, f"node-{n}").pool for n in (2, 3)]
    assert [each.join(world.access(SD)) for each in found] == [2, 3]
    assert one.pool.join(world.access(SD)) == 1


def test_join_refuses_a_node_without_watchdog(world: PoolWorld, one: PoolNode) -> None:
    world.has_watchdog = False
    with pytest.raises(LacksWatchdog):
        other_node(world).pool.join(world.access(SD))


def test_local_pool_needs_neither_watchdog_nor_sanlock(world: PoolWorld) -> None:
    world.has_watchdog = False
    node = world.node("node-1")
    node.pool.create(world.make(node, SD, is_local=True))
    assert node.pool.spm.state is State.SERVING
    assert [each.name for each in node.guard.lockspaces()] == [f"local:{SD}"]


def test_only_the_manager_changes_the_pool(world: PoolWorld, both: PoolNode) -> None:
    node = other_node(world)
    changes: tuple[Callable[[], object], ...] = (
        lambda: node.pool.attach(world.access(OTHER_SD)),
        lambda: node.pool.activate(OTHER_SD),
        lambda: node.pool.maintain(OTHER_SD),
        lambda: node.pool.detach(OTHER_SD),
        lambda: node.pool.move_master(OTHER_SD),
    )
    for change in changes:
        with pytest.raises(NotSpm):
            change()


def test_change_is_refused_when_the_caller_saw_another_map(both: PoolNode) -> None:
    with pytest.raises(PoolMoved):
        both.pool.maintain(OTHER_SD, generation=2)
    assert both.pool.maintain(OTHER_SD, generation=3).generation == 4


def test_maintain_and_detach_let_a_storage_domain_go(
    world: PoolWorld, both: PoolNode
) -> None:
    with pytest.raises(StorageDomainActive):
        both.pool.detach(OTHER_SD)
    both.pool.maintain(OTHER_SD)
    assert [each.lockspace for each in both.guard.leases().held] == [SD]
    found = both.pool.detach(OTHER_SD)
    assert [each.storage_domain_id for each in found.domains] == [SD]
    access = world.access(OTHER_SD)
    assert access.meta(both.guard).pool_ids == ()
    assert not Path(access.layout.pool_map).exists()
    both.pool.connect(access)
    assert both.pool.detach(OTHER_SD) == found


def test_detach_with_force_forgets_what_cannot_be_written(both: PoolNode) -> None:
    both.pool.maintain(OTHER_SD)
    both.guard.hanging.add(OTHER_SD)
    found = both.pool.detach(OTHER_SD, is_forced=True)
    assert [each.storage_domain_id for each in found.domains] == [SD]


def test_master_may_not_rest(both: PoolNode) -> None:
    with pytest.raises(MasterInUse):
        both.pool.maintain(SD)


def test_move_master_goes_to_another_storage_domain(
    world: PoolWorld, both: PoolNode
) -> None:
    before = both.pool.spm.term().number
    found = both.pool.move_master(OTHER_SD)
    assert (found.version, found.master_id) == ((2, 4), OTHER_SD)
    roles = {s: world.access(s).meta(both.guard).role for s in (SD, OTHER_SD)}
    assert roles == {SD: DomainRole.REGULAR, OTHER_SD: DomainRole.MASTER}
    assert both.pool.spm.term().number > before
    assert stored_map(world.access(SD)) == found
    assert both.pool.maintain(SD).generation == 5


def test_a_node_that_knows_the_old_master_finds_the_new_one(
    world: PoolWorld, both: PoolNode
) -> None:
    node = other_node(world)
    both.pool.move_master(OTHER_SD)
    both.pool.spm.leave()
    term = node.pool.spm.become()
    assert term.master_id == OTHER_SD
    assert node.pool.map.version == (2, 4)


def test_reconstruct_makes_a_new_master_when_the_old_is_dead(
    world: PoolWorld, both: PoolNode
) -> None:
    node = other_node(world)
    both.pool.spm.leave()
    for each in (both, node):
        each.guard.hanging.add(SD)
    found = node.pool.reconstruct(OTHER_SD)
    assert (found.version, found.master_id) == ((2, 4), OTHER_SD)
    assert node.pool.spm.state is State.SERVING
    assert stored_map(world.access(SD)).version == (1, 3)
    node.guard.hanging.clear()
    node.pool.mend()
    assert stored_map(world.access(SD)) == found
    assert world.access(SD).meta(node.guard).role is DomainRole.REGULAR


def test_reconstruct_is_refused_while_a_manager_lives(
    world: PoolWorld, both: PoolNode
) -> None:
    node = other_node(world)
    node.guard.hanging.add(SD)
    with pytest.raises(SpmHeld):
        node.pool.reconstruct(OTHER_SD)
    with pytest.raises(SpmChanging):
        both.pool.reconstruct(OTHER_SD)
    assert both.pool.map.version == (1, 3)


def test_change_goes_on_when_a_regular_storage_domain_hangs(
    world: PoolWorld, both: PoolNode
) -> None:
    iso = world.make(both, ISO_SD, DomainClass.ISO)
    both.guard.hanging.add(OTHER_SD)
    found = both.pool.attach(iso)
    assert stored_map(world.access(SD)) == found
    assert stored_map(world.access(OTHER_SD)).generation == found.generation - 1
    both.guard.hanging.clear()
    both.pool.mend()
    assert stored_map(world.access(OTHER_SD)) == found


def test_move_master_waits_for_jobs_with_journals(
    world: PoolWorld, both: PoolNode
) -> None:
    journal = Path(world.access(SD).layout.journals) / OTHER_POOL
    journal.write_bytes(b"whatever it says")
    with pytest.raises(WorkUnderWay, match=OTHER_POOL):
        both.pool.move_master(OTHER_SD)
    assert both.pool.map.master_id == SD
    journal.unlink()
    assert both.pool.move_master(OTHER_SD).master_id == OTHER_SD


def leave_behind(access: Access) -> None:
    """Leave a journal and orders, as a master does that dies."""
    (Path(access.layout.journals) / OTHER_POOL).write_bytes(b"whatever it says")
    Path(access.layout.data_jobs).write_bytes(b"move this")


def left_behind(access: Access) -> list[str]:
    """Return which of it would be gone on with, or else where it is kept."""
    folder = Path(access.layout.pool_map.parent)
    found = folder.rglob(OTHER_POOL)
    names = [each.parent.name for each in found]
    return [*names, *(each.name for each in folder.glob("data_jobs"))]


def test_master_that_was_dead_does_not_go_on_with_what_it_left(
    world: PoolWorld, both: PoolNode
) -> None:
    leave_behind(world.access(SD))
    node = other_node(world)
    both.pool.spm.leave()
    for each in (both, node):
        each.guard.hanging.add(SD)
    node.pool.reconstruct(OTHER_SD)
    node.guard.hanging.clear()
    node.pool.mend()
    node.pool.activate(SD)
    node.pool.move_master(SD)
    version = node.pool.spm.term().lease_version
    assert left_behind(world.access(SD)) == [f"journals_before_{version}"]
    assert list(Path(world.access(SD).layout.journals).iterdir()) == []


def test_master_made_anew_does_not_go_on_with_what_lay_there(
    world: PoolWorld, both: PoolNode
) -> None:
    node = other_node(world)
    both.pool.spm.leave()
    leave_behind(world.access(OTHER_SD))
    node.guard.hanging.add(SD)
    node.pool.reconstruct(OTHER_SD)
    version = node.pool.spm.term().lease_version
    assert left_behind(world.access(OTHER_SD)) == [f"journals_before_{version}"]


def test_reconstruct_of_the_master_itself_keeps_its_journals(
    world: PoolWorld, both: PoolNode
) -> None:
    node = other_node(world)
    both.pool.spm.leave()
    leave_behind(world.access(SD))
    node.pool.reconstruct(SD)
    assert left_behind(world.access(SD)) == ["journals", "data_jobs"]


def test_storage_domain_of_another_pool_comes_without_its_journals(
    world: PoolWorld, both: PoolNode
) -> None:
    extra = world.make(both, ISO_SD, DomainClass.DATA)
    leave_behind(extra)
    both.pool.attach(extra)
    (kept,) = left_behind(extra)
    assert kept.startswith("journals_before_")


def test_reconstruct_writes_a_newer_map_than_the_one_that_was_lost(
    world: PoolWorld, both: PoolNode
) -> None:
    older = Path(world.access(OTHER_SD).layout.pool_map).read_bytes()
    newest = both.pool.attach(world.make(both, ISO_SD, DomainClass.ISO))
    Path(world.access(OTHER_SD).layout.pool_map).write_bytes(older)
    both.pool.spm.leave()
    node = world.node("node-2", known=newest)
    for each in (SD, OTHER_SD):
        node.pool.connect(world.access(each))
    node.guard.hanging.add(SD)
    with pytest.raises(PoolLost):
        node.pool.refresh()
    found = node.pool.reconstruct(OTHER_SD)
    assert found.version == (2, newest.generation + 1)
    assert [each.storage_domain_id for each in found.domains] == [SD, OTHER_SD, ISO_SD]
    assert node.pool.spm.state is State.SERVING


def test_reconstruct_believes_whom_it_is_told_to_trust(
    world: PoolWorld, both: PoolNode
) -> None:
    both.pool.spm.leave()
    path = Path(world.access(SD).layout.pool_map)
    other = replace(stored_map(world.access(SD)), name="another")
    path.write_bytes(pool_map.write(other))
    node = world.node("node-2")
    for each in (SD, OTHER_SD):
        node.pool.connect(world.access(each))
    with pytest.raises(PoolMapsDiffer):
        node.pool.refresh()
    found = node.pool.reconstruct(OTHER_SD)
    assert (found.version, found.name) == ((2, 4), "")


def test_reconstruct_keeps_its_lease_while_others_tidy(
    world: PoolWorld, both: PoolNode
) -> None:
    both.pool.spm.leave()
    refused: list[str] = []

    class Tidied(PoolGuard):
        """Has its rounds while it reconstructs."""

        node: PoolNode | None = None

        def acquire(self, resource: ResourceAt, version: int | None = None) -> int:
            acquired = PoolGuard.acquire(self, resource, version)
            if self.node is not None:
                thread = threading.Thread(target=self._tidy, args=(self.node,))
                thread.start()
                thread.join()
            return acquired

        def _tidy(self, node: PoolNode) -> None:
            try:
                node.pool.spm.tidy()
            except SpmChanging as error:
                refused.append(error.code)

    guard = Tidied(storage=world.storage, machine="node-2")
    node = world.node("node-2", guard=guard)
    for each in (SD, OTHER_SD):
        node.pool.connect(world.access(each))
    guard.hanging.add(SD)
    guard.node = node
    assert node.pool.reconstruct(OTHER_SD).master_id == OTHER_SD
    assert set(refused) == {"spm_changing"}


def test_refresh_asks_all_storage_domains_at_once(
    world: PoolWorld, both: PoolNode
) -> None:
    both.pool.spm.leave()

    class Meeting(PoolGuard):
        """Answers when as many ask as there are storage domains."""

        barrier = threading.Barrier(2)

        def file(self, *words: Any, **named: Any) -> tuple[Any, ...]:
            self.barrier.wait(10.0)
            return PoolGuard.file(self, *words, **named)

    node = world.node("node-2", guard=Meeting(storage=world.storage, machine="node-2"))
    for each in (SD, OTHER_SD):
        node.pool.connect(world.access(each))
    assert node.pool.refresh() == both.pool.map


def test_refresh_waits_no_longer_than_for_one(
    world: PoolWorld, both: PoolNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, ended = threading.Event(), list[str]()

    class Silent(PoolGuard):
        """Says nothing of one storage domain."""

        def file(self, domain: str, *words: Any, **named: Any) -> tuple[Any, ...]:
            if domain == SD:
                hangs.wait(10.0)
                ended.append(domain)
            return PoolGuard.file(self, domain, *words, **named)

    monkeypatch.setattr(pool_files, "LOOK_S", 0.1)
    monkeypatch.setattr(pool_files, "_ANSWER_S", 0.0)
    node = world.node("node-2", guard=Silent(storage=world.storage, machine="node-2"))
    for each in (SD, OTHER_SD):
        node.pool.connect(world.access(each))
    assert node.pool.refresh() == both.pool.map
    assert ended == []
    hangs.set()


def test_mend_gives_back_the_lease_of_what_rests(
    world: PoolWorld, both: PoolNode
) -> None:
    both.pool.maintain(OTHER_SD)
    both.guard.acquire(world.access(OTHER_SD).spm_lease)
    both.pool.mend()
    assert [each.lockspace for each in both.guard.leases().held] == [SD]


def test_refresh_believes_no_older_map(world: PoolWorld, both: PoolNode) -> None:
    path = Path(world.access(SD).layout.pool_map)
    older = path.read_bytes()
    both.pool.move_master(OTHER_SD)
    for each in (SD, OTHER_SD):
        Path(world.access(each).layout.pool_map).write_bytes(older)
    with pytest.raises(PoolLost):
        both.pool.refresh()


def test_refresh_passes_over_the_map_of_another_pool(
    world: PoolWorld, both: PoolNode
) -> None:
    strange = replace(both.pool.map, pool_id=OTHER_POOL, generation=99)
    Path(world.access(OTHER_SD).layout.pool_map).write_bytes(pool_map.write(strange))
    assert both.pool.refresh().version == (1, 3)


def test_every_node_leaves_the_lockspace_of_what_rests(
    world: PoolWorld, both: PoolNode
) -> None:
    node = other_node(world)
    for each in (SD, OTHER_SD):
        node.pool.join(world.access(each))
    both.pool.maintain(OTHER_SD)
    node.pool.refresh()
    for one in (both, node):
        one.pool.leave_resting()
        one.pool.leave_resting()
        assert [each.name for each in one.guard.lockspaces()] == [SD]


def test_verbs_refuse_what_is_not_there(world: PoolWorld, one: PoolNode) -> None:
    with pytest.raises(NotInPool):
        one.pool.activate(OTHER_SD)
    with pytest.raises(StorageDomainUnknown):
        one.pool.detach(OTHER_SD)
    one.pool.disconnect(SD)  # as before an agent that has just started reaches it
    with pytest.raises(StorageDomainConnecting):
        one.pool.access(SD)
    one.pool.connect(world.access(SD))
    with pytest.raises(Error):
        world.node("new").pool.refresh()
