"""The storage of nodes, behind its verbs: real folders and threads, a fake sanlock."""

import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.contract.volumes import OwnPool
from node.errors import Error, Unavailable
from node.model.ids import DiskId, JobId, PoolId, StorageDomainId
from node.model.storage import (
    Connection,
    DiskFormat,
    DomainClass,
    DomainRole,
    DomainState,
    DomainType,
    PoolState,
    SpmState,
)
from node.model.storage_requests import (
    ActOnDisk,
    ActOnPool,
    ActOnStorageDomain,
    AttachStorageDomain,
    BecomeSpm,
    ConnectPool,
    CreateDisk,
    CreatePool,
    CreateStorageDomain,
    ImportStorageDomain,
    LeaveSpm,
    LookForStorageDomains,
    MoveMaster,
    RemoveStorageDomain,
    SetSpmPriority,
)
from node.model.vm import Disk, Vm
from node.policy import local_pool
from node.storage.domains.access import Access
from node.storage.pools.world import Use
from node.storage.spm.pool import Pool
from node.units import MiB
from tests.unit.node.storage.pools.nodes import VM, WAIT_S, Node, Nodes, wait_until
from tests.unit.node.vm.examples import SPEC

ALPHA = StorageDomainId("11111111-1111-4222-8333-00000000000a")
BETA = StorageDomainId("11111111-1111-4222-8333-00000000000b")
ISO = StorageDomainId("11111111-1111-4222-8333-00000000000c")
POOL = PoolId("22222222-1111-4222-8333-00000000000a")
DISK = DiskId("cccccccc-1111-4222-8333-000000000001")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    made.close()


@pytest.fixture
def one(nodes: Nodes) -> Node:
    """Return the manager of a pool that has alpha; beta is loose."""
    node = nodes.start()
    for key, name in ((ALPHA, "alpha"), (BETA, "beta")):
        request = CreateStorageDomain(key, name, nodes.connection(name))
        node.done(node.storage.storage_domain_create(request))
    node.done(node.storage.pool_create(CreatePool(POOL, "main", ALPHA)))
    return node


@pytest.fixture
def both(one: Node) -> Node:
    """Return the manager of a pool in which alpha and beta are active."""
    one.done(one.storage.storage_domain_attach(BETA, AttachStorageDomain(POOL)))
    one.done(one.storage.storage_domain_activate(BETA, ActOnStorageDomain()))
    return one


def join(nodes: Nodes, manager: Node) -> Node:
    """Return another node that has joined the pool by alpha alone."""
    node = nodes.start(1)
    way = manager.domain(ALPHA).storage_domain
    node.done(node.storage.pool_connect(POOL, ConnectPool("main", (way,))))
    return node


def make_disk(node: Node, where: StorageDomainId = ALPHA) -> DiskId:
    request = CreateDisk(DISK, "root", where, MiB, DiskFormat.RAW)
    node.done(node.storage.disk_create(request))
    wait_until(lambda: node.storage.disk_list().disks)
    return DISK


def code_of(error: pytest.ExceptionInfo[Error]) -> str:
    return error.value.code


def test_local_pool_is_there_by_itself_and_after_a_restart(nodes: Nodes) -> None:
    node = nodes.start(has_local=True)
    wait_until(lambda: node.storage.pool_list().pools[0].mark)
    (pool,) = node.storage.pool_list().pools
    (domain,) = node.storage.storage_domain_list().storage_domains
    assert (pool.name, pool.is_local, pool.state) == ("n0-local", True, PoolState.UP)
    assert domain.storage_domain.name == "n0-local"
    assert domain.storage_domain.role is DomainRole.MASTER
    where = domain.storage_domain.storage_domain_id
    assert node.volumes.own() == OwnPool(pool.pool_id, where)
    make_disk(node, where)
    again = nodes.restart(node)
    wait_until(lambda: again.storage.roster.seat(pool.pool_id).is_serving)
    wait_until(lambda: again.storage.disk_show(DISK).mark == pool.mark)
    assert again.pool(pool.pool_id).spm.lease_version == pool.spm.lease_version


def test_own_pool_says_why_it_is_not_ready(nodes: Nodes) -> None:
    nodes.guard(0).is_down = True
    node = nodes.start(has_local=True)
    pool_id = local_pool.pool_id(node.node_id)
    why = "the storage process does not answer: there is no socket"
    told = OwnPool(pool_id, None, why)
    wait_until(lambda: node.volumes.own() == told)


def test_node_without_local_storage_has_no_pool_of_its_own(one: Node) -> None:
    assert one.volumes.own() is None


def test_node_without_storage_process_says_so_and_goes_on_when_it_is_back(
    nodes: Nodes,
) -> None:
    nodes.guard(0).is_down = True
    began = time.monotonic()
    node = nodes.start(has_local=True)
    assert time.monotonic() - began < 5.0
    wait_until(node.storage.problems)
    (problem,) = node.storage.problems()
    assert problem.code == "storage_process_down"
    (pool,) = node.storage.pool_list().pools
    assert pool.state is PoolState.UNREACHABLE
    node.guard.is_down = False
    wait_until(lambda: node.storage.pool_list().pools[0].mark)
    wait_until(lambda: not node.storage.problems())
    wait_until(lambda: node.problems_changed >= 2)


def test_node_without_storage_does_without_its_process(nodes: Nodes) -> None:
    nodes.guard(0).is_down = True
    node = nodes.start()
    wait_until(lambda: node.storage.is_down)
    assert node.storage.problems() == ()


def test_bug_that_ends_a_round_is_told_until_another_one_ends_well(
    one: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down() -> None:
        raise ZeroDivisionError("by nothing")

    (seat,) = one.storage.roster.seats()
    monkeypatch.setattr(seat, "follow", break_down)
    seat.poke()
    wait_until(one.storage.problems)
    (problem,) = one.storage.problems()
    assert problem.code == "pool_round_broke"
    assert problem.fields["detail"] == "ZeroDivisionError: by nothing"
    monkeypatch.undo()
    seat.poke()
    wait_until(lambda: not one.storage.problems())


def test_storage_domain_is_made_once(nodes: Nodes) -> None:
    node, job_id = nodes.start(), JobId(str(uuid.uuid4()))
    request = CreateStorageDomain(
        ALPHA, "alpha", nodes.connection("alpha"), job_id=job_id
    )
    first = node.storage.storage_domain_create(request)
    assert node.storage.storage_domain_create(request).job_id == first.job_id == job_id
    node.done(first)
    node.wait_state(ALPHA, DomainState.UNATTACHED)
    elsewhere = CreateStorageDomain(ALPHA, "alpha", nodes.connection("beta"))
    again = node.storage.storage_domain_create(elsewhere)
    assert node.error(again) == "storage_domain_id_taken"


@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_storage_domain_has_the_sectors_of_its_storage(
    nodes: Nodes, sector_bytes: int
) -> None:
    node = nodes.start()
    node.guard.sector_bytes = sector_bytes
    request = CreateStorageDomain(ALPHA, "alpha", nodes.connection("alpha"))
    node.done(node.storage.storage_domain_create(request))
    node.wait_state(ALPHA, DomainState.UNATTACHED)
    assert node.domain(ALPHA).storage_domain.sector_bytes == sector_bytes
    assert [each.name for each in (nodes.shared / "alpha").iterdir()] == [ALPHA]


@pytest.mark.parametrize("domain_class", [DomainClass.ISO, DomainClass.EXPORT])
def test_storage_domain_without_leases_becomes_part_of_a_pool(
    nodes: Nodes, one: Node, domain_class: DomainClass
) -> None:
    request = CreateStorageDomain(ISO, "iso", nodes.connection("iso"), domain_class)
    one.done(one.storage.storage_domain_create(request))
    one.done(one.storage.storage_domain_attach(ISO, AttachStorageDomain(POOL)))
    one.done(one.storage.storage_domain_activate(ISO, ActOnStorageDomain()))
    domain = one.domain(ISO)
    assert domain.state is DomainState.ACTIVE
    assert domain.storage_domain.domain_class is domain_class
    assert one.domain(ISO).host_id is None


def test_storage_domain_of_no_pool_outlives_a_restart(nodes: Nodes) -> None:
    node = nodes.start()
    request = CreateStorageDomain(ALPHA, "alpha", nodes.connection("alpha"))
    node.done(node.storage.storage_domain_create(request))
    again = nodes.restart(node)
    again.wait_state(ALPHA, DomainState.UNATTACHED)


@pytest.mark.parametrize(
    ("connection", "code"),
    [
        pytest.param(Connection(DomainType.NFS, "/x"), "connection_incomplete", id="-"),
        pytest.param(
            Connection(DomainType.LOCALFS, "x"), "storage_path_not_absolute", id="path"
        ),
    ],
)
def test_connection_that_leads_nowhere_is_refused(
    nodes: Nodes, connection: Connection, code: str
) -> None:
    node = nodes.start()
    with pytest.raises(Error) as caught:
        node.storage.storage_domain_create(
            CreateStorageDomain(ALPHA, "alpha", connection)
        )
    assert code_of(caught) == code


def test_folder_that_is_not_shared_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    node, folder = nodes.start(), tmp_path / "mine"
    folder.mkdir()
    connection = Connection(DomainType.POSIXFS, str(folder))
    job = node.storage.storage_domain_create(
        CreateStorageDomain(ALPHA, "alpha", connection)
    )
    assert node.error(job) == "storage_folder_not_shared"
    assert not list(folder.iterdir())


def test_look_tells_what_lies_there(nodes: Nodes, one: Node) -> None:
    stranger = nodes.start(1)
    found = stranger.storage.storage_domain_look(
        LookForStorageDomains(nodes.connection("alpha"))
    )
    (domain,) = found.storage_domains
    assert (domain.storage_domain_id, domain.name, domain.pool_id) == (
        *(ALPHA, "alpha", POOL),
    )
    assert stranger.storage.storage_domain_list().storage_domains == ()


def test_look_does_not_unmount_what_another_verb_is_at(one: Node) -> None:
    way = Connection(DomainType.POSIXFS, "nas:/x", file_system="nfs4")
    ground = one.storage.ground
    with ground.visiting(way) as place:
        Path(place).mkdir(parents=True)
        one.storage.storage_domain_look(LookForStorageDomains(way))
        assert one.mounts.find(Path(place)).source == "nas:/x"
    one.storage.storage_domain_look(LookForStorageDomains(way))
    assert one.mounts.find(Path(place)).source != "nas:/x"


def test_pool_is_managed_by_who_made_it(one: Node) -> None:
    document = one.pool(POOL)
    assert (document.name, document.master) == ("main", ALPHA)
    assert document.spm.state is SpmState.MANAGER
    assert document.domains[0].connection is not None
    assert one.domain(ALPHA).state is DomainState.ACTIVE
    assert one.domain(BETA).state is DomainState.UNATTACHED


def test_manager_that_starts_again_is_not_settled_before_it_reaches_the_pool(
    nodes: Nodes, one: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check may tell of a storage domain before this node is connected to it."""
    may_connect, connect = threading.Event(), Pool.connect

    def slowly(pool: Pool, access: Access) -> None:
        may_connect.wait(WAIT_S)
        connect(pool, access)

    monkeypatch.setattr(Pool, "connect", slowly)
    again = nodes.restart(one)
    seat = again.storage.roster.seat(POOL)
    wait_until(lambda: ALPHA in seat.watches() and seat.watches()[ALPHA].document)
    seat._go_round()
    was_settled = seat.is_settled
    may_connect.set()
    wait_until(lambda: seat.is_settled)
    assert (was_settled, seat.is_serving) == (False, True)


def test_node_that_starts_again_is_not_settled_before_it_reaches_all(
    nodes: Nodes, both: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told of a pool is true of each of its storage domains."""
    may_connect, connect = threading.Event(), Pool.connect

    def slowly(pool: Pool, access: Access) -> None:
        if access.storage_domain_id == BETA:
            may_connect.wait(WAIT_S)
        connect(pool, access)

    node = join(nodes, both)
    node.wait_state(BETA, DomainState.ACTIVE)
    # Starts and deletions of VMs wait for it: it must not take until the next round.
    monkeypatch.setattr("node.storage.pools.seat.ROUND_S", 2 * WAIT_S)
    monkeypatch.setattr(Pool, "connect", slowly)
    again = nodes.restart(node)
    seat = again.storage.roster.seat(POOL)
    wait_until(lambda: again.domain(ALPHA).host_id == 2)
    seat._go_round()
    was_settled = seat.is_settled
    may_connect.set()
    wait_until(lambda: seat.is_settled)
    assert not was_settled
    assert again.domain(BETA).state is DomainState.ACTIVE


def test_node_that_joins_by_one_storage_domain_finds_the_others(
    nodes: Nodes, both: Node
) -> None:
    node = join(nodes, both)
    for each in (ALPHA, BETA):
        node.wait_state(each, DomainState.ACTIVE)
    wait_until(lambda: node.domain(BETA).host_id == 2)
    wait_until(lambda: node.pool(POOL).spm.holder == both.node_id)
    again = nodes.restart(node)
    wait_until(lambda: again.storage.roster.seat(POOL).is_settled)
    assert again.domain(BETA).state is DomainState.ACTIVE


def test_node_that_came_by_another_way_takes_that_of_the_map(
    nodes: Nodes, one: Node
) -> None:
    """A lockspace that is joined by one path cannot be used by another."""
    node = nodes.start(1)
    way = one.domain(ALPHA).storage_domain
    other = replace(way, connection=replace(way.connection, options="ro"))
    node.done(node.storage.pool_connect(POOL, ConnectPool("main", (other,))))
    assert node.domain(ALPHA).storage_domain.connection == way.connection
    watch = node.storage.roster.seat(POOL).watches()[ALPHA]
    wait_until(lambda: watch.access is not None and watch.trouble is None)


def test_node_does_not_join_what_is_another_pool(nodes: Nodes, one: Node) -> None:
    node, way = nodes.start(1), one.domain(ALPHA).storage_domain
    other = PoolId("22222222-1111-4222-8333-00000000000b")
    job = node.storage.pool_connect(other, ConnectPool("other", (way,)))
    assert node.error(job) == "pool_map_lost"
    assert node.storage.pool_list().pools == ()
    assert node.guard.lockspaces() == ()


def test_node_without_watchdog_may_not_join(nodes: Nodes, one: Node) -> None:
    nodes.has_watchdog = False
    node = nodes.start(1)
    way = one.domain(ALPHA).storage_domain
    job = node.storage.pool_connect(POOL, ConnectPool("main", (way,)))
    assert node.error(job) == "pool_lacks_watchdog"


def test_node_follows_what_the_manager_attaches_and_lets_rest(
    nodes: Nodes, one: Node
) -> None:
    node = join(nodes, one)
    one.done(one.storage.storage_domain_attach(BETA, AttachStorageDomain(POOL)))
    one.done(one.storage.storage_domain_activate(BETA, ActOnStorageDomain()))
    seat = node.storage.roster.seat(POOL)
    seat.poke()
    node.wait_state(BETA, DomainState.ACTIVE)
    wait_until(lambda: node.domain(BETA).host_id)
    one.done(one.storage.storage_domain_maintain(BETA, ActOnStorageDomain()))

    def is_let_go() -> bool:
        seat.poke()
        return all(each.name != BETA for each in node.guard.lockspaces())

    wait_until(is_let_go)
    node.wait_state(BETA, DomainState.MAINTENANCE)


def test_activate_asked_twice_is_active_once(both: Node) -> None:
    generation = both.pool(POOL).generation
    both.done(both.storage.storage_domain_activate(BETA, ActOnStorageDomain()))
    assert both.pool(POOL).generation == generation
    assert both.domain(BETA).state is DomainState.ACTIVE


def test_what_moved_since_the_caller_looked_is_refused(both: Node) -> None:
    old = ActOnStorageDomain(generation=1)
    job = both.storage.storage_domain_maintain(BETA, old)
    assert both.error(job) == "pool_moved"


def test_storage_domain_is_detached_and_destroyed(nodes: Nodes, both: Node) -> None:
    storage = both.storage
    both.done(storage.storage_domain_maintain(BETA, ActOnStorageDomain()))
    assert both.domain(BETA).state is DomainState.MAINTENANCE
    refused = storage.storage_domain_remove(BETA, RemoveStorageDomain())
    assert both.error(refused) == "storage_domain_in_pool"
    both.done(storage.storage_domain_detach(BETA, ActOnStorageDomain()))
    both.wait_state(BETA, DomainState.UNATTACHED)
    both.done(storage.storage_domain_remove(BETA, RemoveStorageDomain(True)))
    assert not list((nodes.shared / "beta").iterdir())
    with pytest.raises(Error) as caught:
        both.domain(BETA)
    assert code_of(caught) == "storage_domain_unknown"


def test_storage_domain_that_is_gone_is_not_told_by_its_old_pool(both: Node) -> None:
    storage = both.storage
    both.done(storage.storage_domain_maintain(BETA, ActOnStorageDomain()))
    # The pool's own thread is late: it has not looked at its new map yet.
    with storage.roster.seat(POOL)._following:
        both.done(storage.storage_domain_detach(BETA, ActOnStorageDomain()))
        assert both.domain(BETA).state is DomainState.UNATTACHED
        both.done(storage.storage_domain_remove(BETA, RemoveStorageDomain()))
        with pytest.raises(Error) as caught:
            both.domain(BETA)
    assert code_of(caught) == "storage_domain_unknown"


def test_storage_domain_in_use_by_a_guest_does_not_rest(both: Node) -> None:
    both.uses[DISK] = Use(VM, BETA)
    job = both.storage.storage_domain_maintain(BETA, ActOnStorageDomain())
    assert both.error(job) == "disk_in_use"


def define(node: Node, where: StorageDomainId, **changes: Any) -> None:
    """Write the definition of a VM that has the disk, down."""
    disk = Disk(DISK, "root", MiB, storage_domain_id=where)
    spec = replace(SPEC, vm_id=VM, disks=(disk,), pool_id=POOL, **changes)
    vm = Vm(spec, 1, "2026-11-22T08:00:00.000Z", home=ALPHA)
    node.storage.volumes().write(vm, 0)


@pytest.mark.parametrize(
    ("where", "changes"),
    [
        pytest.param(BETA, {}, id="its-disk-is-there"),
        pytest.param(ALPHA, {"lease_domain_id": BETA}, id="its-lease-is-there"),
    ],
)
def test_storage_domain_in_use_on_another_node_does_not_rest(
    nodes: Nodes, both: Node, where: StorageDomainId, changes: dict[str, Any]
) -> None:
    define(both, where, **changes)
    nodes.user_elsewhere = lambda disk_id: VM if disk_id == DISK else None
    job = both.storage.storage_domain_maintain(BETA, ActOnStorageDomain())
    assert both.error(job) == "disk_in_use"
    assert both.domain(BETA).state is DomainState.ACTIVE


def test_storage_domain_whose_guests_are_not_known_does_not_rest(
    nodes: Nodes, both: Node
) -> None:
    def fail(_disk_id: str) -> str | None:
        raise Unavailable("some definitions were not read")

    define(both, BETA)
    nodes.user_elsewhere = fail
    job = both.storage.storage_domain_maintain(BETA, ActOnStorageDomain())
    assert both.error(job) == "unavailable"
    assert both.domain(BETA).state is DomainState.ACTIVE


def test_storage_domain_goes_on_if_a_guest_starts_before_it_rests(
    nodes: Nodes, both: Node
) -> None:
    seat = both.storage.roster.seat(POOL)

    def user(_disk_id: str) -> str | None:
        return None if seat.wanted.is_active(BETA) else VM

    define(both, BETA)
    nodes.user_elsewhere = user
    job = both.storage.storage_domain_maintain(BETA, ActOnStorageDomain())
    assert both.error(job) == "disk_in_use"
    assert seat.wanted.is_active(BETA)
    both.wait_state(BETA, DomainState.ACTIVE)


def test_detached_storage_domain_is_imported_with_its_disks(
    nodes: Nodes, both: Node
) -> None:
    make_disk(both, BETA)
    both.done(both.storage.storage_domain_maintain(BETA, ActOnStorageDomain()))
    both.done(both.storage.storage_domain_detach(BETA, ActOnStorageDomain()))
    wait_until(lambda: not both.storage.disk_list().disks)
    request = ImportStorageDomain(nodes.connection("beta"), pool_id=POOL)
    both.done(both.storage.storage_domain_import(request))
    assert both.domain(BETA).state is DomainState.ACTIVE
    wait_until(lambda: [e.disk_id for e in both.storage.disk_list().disks] == [DISK])


def test_disks_are_told_by_the_manager_alone(nodes: Nodes, one: Node) -> None:
    node = join(nodes, one)
    make_disk(one)
    assert node.storage.disk_list().disks == ()
    wait_until(lambda: node.storage.roster.seat(POOL).holder() == one.node_id)
    with pytest.raises(Error) as caught:
        node.storage.disk_delete(DISK, ActOnDisk())
    assert code_of(caught) == "not_spm"
    assert caught.value.fields["node_id"] == one.node_id


def test_disk_verb_asked_twice_is_one_job_when_the_disk_is_gone(one: Node) -> None:
    make_disk(one)
    request = ActOnDisk(job_id=JobId(str(uuid.uuid4())))
    first = one.done(one.storage.disk_delete(DISK, request))
    wait_until(lambda: not one.storage.disk_list().disks)
    assert one.storage.disk_delete(DISK, request).job_id == first.job_id
    with pytest.raises(Error) as caught:
        one.storage.disk_delete(DISK, ActOnDisk())
    assert code_of(caught) == "disk_missing"


def test_who_managed_just_now_asks_to_try_again(both: Node) -> None:
    seat = both.storage.roster.seat(POOL)
    seat.candidacy.attempt()
    seat.pool.spm.leave()
    with pytest.raises(Error) as caught:
        both.storage.storage_domain_maintain(BETA, ActOnStorageDomain())
    assert code_of(caught) == "spm_changing"


def test_management_is_handed_over_with_the_disks(nodes: Nodes, both: Node) -> None:
    node = join(nodes, both)
    make_disk(both, BETA)
    held = node.storage.spm_become(POOL, BecomeSpm())
    assert node.error(held) == "spm_held"
    both.done(both.storage.spm_leave(POOL, LeaveSpm(stand_back_s=60)))
    node.done(node.storage.spm_become(POOL, BecomeSpm()))
    wait_until(lambda: [e.disk_id for e in node.storage.disk_list().disks] == [DISK])
    both.storage.roster.seat(POOL).poke()
    wait_until(lambda: both.pool(POOL).spm.holder == node.node_id)
    wait_until(lambda: both.storage.disk_list().disks == ())
    codes = [each.code for each in both.store.events(0).events]
    assert codes.count("spm_started") == codes.count("spm_stopped") == 1


def test_master_moves(both: Node) -> None:
    both.done(both.storage.pool_move_master(POOL, MoveMaster(BETA)))
    assert both.pool(POOL).master == BETA
    assert both.domain(BETA).storage_domain.role is DomainRole.MASTER


def test_master_that_is_dead_is_reconstructed_elsewhere(both: Node) -> None:
    make_disk(both, BETA)
    both.guard.hanging.add(ALPHA)
    both.guard.lose(ALPHA)
    seat = both.storage.roster.seat(POOL)
    wait_until(lambda: not seat.pool.spm.check())
    refused = both.storage.spm_become(POOL, BecomeSpm())
    assert both.error(refused) in {"storage_hangs", "lease_busy", "spm_changing"}
    request = MoveMaster(BETA, is_reconstruction=True)
    both.done(both.storage.pool_move_master(POOL, request))
    document = both.pool(POOL)
    assert (document.master, document.master_version) == (BETA, 2)
    assert document.state is PoolState.UP
    wait_until(lambda: [e.disk_id for e in both.storage.disk_list().disks] == [DISK])
    assert both.domain(BETA).storage_domain.role is DomainRole.MASTER


def test_definitions_that_change_tell_who_uses_a_disk(both: Node) -> None:
    make_disk(both, BETA)
    define(both, BETA)
    wait_until(lambda: both.storage.disk_show(DISK).vm_ids == (VM,))


def test_node_leaves_a_pool_that_it_does_not_manage(nodes: Nodes, both: Node) -> None:
    node = join(nodes, both)
    refused = both.storage.pool_disconnect(POOL, ActOnPool())
    assert both.error(refused) == "pool_managed_here"
    node.done(node.storage.pool_disconnect(POOL, ActOnPool()))
    assert node.guard.lockspaces() == ()
    assert node.storage.pool_list().pools == ()
    assert node.storage.storage_domain_list().storage_domains == ()
    again = nodes.restart(node)
    assert again.storage.pool_list().pools == ()


def test_local_pool_stays(nodes: Nodes) -> None:
    node = nodes.start(has_local=True)
    wait_until(lambda: node.storage.pool_list().pools[0].mark)
    pool_id = node.storage.pool_list().pools[0].pool_id
    for job in (
        node.storage.pool_disconnect(pool_id, ActOnPool()),
        node.storage.spm_leave(pool_id, LeaveSpm()),
    ):
        assert node.error(job) == "local_pool_stays"


def test_shared_storage_domain_does_not_fit_a_local_pool(nodes: Nodes) -> None:
    node = nodes.start(has_local=True)
    wait_until(lambda: node.storage.pool_list().pools[0].mark)
    pool_id = node.storage.pool_list().pools[0].pool_id
    request = CreateStorageDomain(ALPHA, "alpha", nodes.connection("alpha"))
    node.done(node.storage.storage_domain_create(request))
    job = node.storage.storage_domain_attach(ALPHA, AttachStorageDomain(pool_id))
    assert node.error(job) == "pool_kinds_differ"


def test_priority_is_published_and_kept(nodes: Nodes, one: Node) -> None:
    with pytest.raises(Error) as caught:
        one.storage.spm_priority(POOL, SetSpmPriority(11))
    assert code_of(caught) == "bad_spm_priority"
    one.storage.spm_priority(POOL, SetSpmPriority(8))
    wait_until(lambda: [each.priority for each in one.pool(POOL).members] == [8])
    again = nodes.restart(one)
    assert again.storage.roster.seat(POOL).wanted.priority == 8


def test_storage_that_hangs_is_told_and_holds_nothing_up(
    nodes: Nodes, both: Node
) -> None:
    both.guard.hanging.add(BETA)
    watch = both.storage.roster.seat(POOL).watches()[BETA]
    watch.check()
    assert both.domain(BETA).state is DomainState.UNREACHABLE
    (problem,) = both.storage.problems()
    assert problem.fields["name"] == "beta"
    make_disk(both)
    both.guard.hanging.clear()
    watch.check()
    assert both.domain(BETA).state is DomainState.ACTIVE
    codes = [each.code for each in both.store.events(0).events]
    assert "storage_domain_unreachable" in codes
    assert "storage_domain_reached" in codes


@pytest.mark.parametrize("calls", [0, 3, 6])
def test_job_on_a_disk_goes_on_in_its_pool_after_a_restart(
    nodes: Nodes, both: Node, calls: int
) -> None:
    job_id = JobId(str(uuid.uuid4()))
    request = CreateDisk(DISK, "root", BETA, MiB, DiskFormat.RAW, job_id=job_id)
    both.guard.calls_left = calls
    both.storage.disk_create(request)
    assert both.has_died(job_id)
    again = nodes.restart(both)
    again.done(again.jobs.get(job_id))
    wait_until(lambda: [e.disk_id for e in again.storage.disk_list().disks] == [DISK])
    assert again.storage.disk_show(DISK).pool_id == POOL


def test_pool_unknown_is_not_found(nodes: Nodes) -> None:
    node = nodes.start()
    with pytest.raises(Error) as caught:
        node.storage.pool_show(POOL)
    assert code_of(caught) == "pool_unknown"
