"""What is ordered of storage: who is asked, in which steps, whoever falls silent."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aggregator.access.defaults import ensure_defaults
from aggregator.control.actions import Action
from aggregator.control.execute import Done
from aggregator.control.order import Order
from aggregator.control.orders import Orders
from aggregator.control.routes import (
    DiskInUse,
    DiskNotFound,
    ManagersDisputed,
    NobodyToAsk,
    NodeMissing,
    NodeSilent,
    NoManager,
    PoolNotFound,
    StorageDomainNotFound,
)
from aggregator.control.storage_orders import FirstNeedsData, NameTaken
from aggregator.federation.view import NodeView
from aggregator.fleet.pools import OtherPoolFounded
from node.errors import Error, NotFound, revive
from node.model import snapshot_verbs
from node.model import storage_requests as bodies
from node.model import storage_verbs as verbs
from node.model.ids import DiskId, JobId, NodeId, PoolId, SnapshotId
from node.model.job import ErrorReport, JobState
from node.model.reason import Reason
from node.model.storage import DomainClass, DomainState, PoolMark, Unnamed
from node.model.verb import Verb
from node.model.vm import Disk, VmState
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import (
    ONE,
    ORIGIN,
    TWO,
    Parts,
    silence,
    view_of,
)
from tests.unit.aggregator.control.test_crash_replay import crash_everywhere

POOL, DATA, DISK = fleet.pool_id(), fleet.domain_id(1), fleet.disk_id(1)
NEW = fleet.domain_id(9)
FIRST, SECOND = PoolMark(1, 1), PoolMark(2, 1)
LOST = ErrorReport("conflict", "spm_lost", "the lease is lost")
CREATE = bodies.CreateStorageDomain(NEW, "new", fleet.connection(9))
CREATE_DISK = bodies.CreateDisk(DISK, "disk1", DATA, 1)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = Parts(tmp_path)
    ensure_defaults(made.database)
    share_storage(made)
    yield made
    made.database.close()


def share_storage(parts: Parts) -> None:
    for node in parts.nodes.values():
        node.storage = parts.nodes[ONE].storage


def with_pool(parts: Parts, manager: int = 2, mark: PoolMark = FIRST) -> None:
    """Let both nodes be in the data center's pool, which one of them manages."""
    default = data_center(parts)
    if parts.orders.pools.of(default) is None:
        parts.orders.pools.adopt(POOL, "Default", default)
    for number in (1, 2):
        own = mark if number == manager else None
        parts.say(number, fleet.pool(number, holder=manager, mark=own))
        parts.say(number, fleet.storage_domain(number, mark=own))
    parts.say(manager, fleet.disk(1, mark=mark))


def data_center(parts: Parts) -> str:
    return parts.orders.pools.data_center_of(ONE)


def create_domain(orders: Orders) -> Order:
    return orders.storage.create_domain(CREATE, ORIGIN, node_id=ONE)


def finish_jobs(parts: Parts) -> None:
    for node in parts.nodes.values():
        node.job_state = JobState.DONE


# --- who is asked


@pytest.mark.parametrize(
    ("verb", "object_id", "request_"),
    [
        pytest.param(verbs.DISK_CREATE, DISK, CREATE_DISK, id="disk-create"),
        pytest.param(verbs.DISK_DELETE, DISK, bodies.ActOnDisk(), id="disk-delete"),
        pytest.param(verbs.DISK_RESIZE, DISK, bodies.ResizeDisk(9), id="disk-resize"),
        pytest.param(
            verbs.STORAGE_DOMAIN_MAINTAIN,
            DATA,
            bodies.ActOnStorageDomain(),
            id="maintain",
        ),
        pytest.param(
            verbs.POOL_MOVE_MASTER, POOL, bodies.MoveMaster(DATA), id="move-master"
        ),
    ],
)
def test_act_asks_the_manager_of_the_pool(
    parts: Parts, verb: Verb, object_id: str, request_: Any
) -> None:
    with_pool(parts)
    order = parts.orders.act_on_storage(verb, object_id, request_, ORIGIN)
    assert (order.node_id, order.state) == (TWO, JobState.RUNNING)
    assert (order.object_id, order.vm_id) == (object_id, None)
    (asked,) = parts.nodes[TWO].requests
    assert asked[:2] == (verb.name, object_id)
    assert asked[2].job_id == order.order_id
    assert asked[2].correlation_id == "c-1"


def test_second_copy_is_moved_by_the_node_that_has_nothing_to_move(
    parts: Parts,
) -> None:
    with_pool(parts)
    for number in (8, 9):
        copy = bodies.CopyDisk(fleet.disk_id(number), DATA)
        parts.orders.act_on_storage(verbs.DISK_COPY, DISK, copy, ORIGIN)
    named = [request.data_node_id for *_, request in parts.nodes[TWO].requests]
    assert named == [None, ONE]


def test_manager_chooses_when_it_does_not_know_who_was_chosen(parts: Parts) -> None:
    with_pool(parts)
    for number in (8, 9):
        parts.nodes[TWO].refuses = _refuses_data_nodes
        copy = bodies.CopyDisk(fleet.disk_id(number), DATA)
        order = parts.orders.act_on_storage(verbs.DISK_COPY, DISK, copy, ORIGIN)
        assert order.state is JobState.RUNNING
    named = [request.data_node_id for *_, request in parts.nodes[TWO].requests]
    assert named == [None, None]


def test_data_node_that_a_person_names_is_refused_when_it_is_unknown(
    parts: Parts,
) -> None:
    with_pool(parts)
    parts.nodes[TWO].refuses = _refuses_data_nodes
    copy = bodies.CopyDisk(fleet.disk_id(8), DATA, data_node_id=ONE)
    with pytest.raises(NotFound) as caught:
        parts.orders.act_on_storage(verbs.DISK_COPY, DISK, copy, ORIGIN)
    assert caught.value.code == "data_node_unknown"


def test_order_that_may_have_begun_is_not_told_as_failed_by_a_next_manager(
    parts: Parts,
) -> None:
    """It does not know who was chosen, and then its storage is away for a moment."""
    with_pool(parts)
    parts.orders.act_on_storage(
        verbs.DISK_COPY, DISK, bodies.CopyDisk(fleet.disk_id(8), DATA), ORIGIN
    )
    copy = bodies.CopyDisk(fleet.disk_id(9), DATA)
    order = parts.orders.act_on_storage(verbs.DISK_COPY, DISK, copy, ORIGIN)
    assert parts.nodes[TWO].requests[-1][2].data_node_id == ONE
    parts.viewer.view = silence(parts.viewer.view, 2)
    with_pool(parts, 1, SECOND)
    parts.viewer.view = silence(parts.viewer.view, 2)
    away = revive("unavailable", "storage_domain_not_held", "it is away", "")
    parts.nodes[ONE].refuses = lambda request: _refuses_data_nodes(request) or away
    parts.pass_time(1.0)
    assert parts.orders.get(order.order_id).state is JobState.QUEUED
    parts.nodes[ONE].refuses = lambda _request: None
    parts.pass_time(6.0)
    assert parts.orders.get(order.order_id).state is JobState.RUNNING


def _refuses_data_nodes(request: Any) -> Error | None:
    if request.data_node_id is None:
        return None
    return revive("not_found", "data_node_unknown", "it is no member", "")


@pytest.mark.parametrize(
    ("state", "data_node_id"),
    [
        pytest.param(VmState.DOWN, ONE, id="down"),
        pytest.param(VmState.UP, None, id="its-qemu-merges"),
    ],
)
def test_snapshot_is_merged_by_the_node_that_has_nothing_to_move(
    parts: Parts, state: VmState, data_node_id: NodeId | None
) -> None:
    with_pool(parts)
    spec = fleet.spec(7, "app", pool_id=POOL)
    parts.say(2, fleet.vm(7, spec=spec), fleet.run(7, 2, state))
    copy = bodies.CopyDisk(fleet.disk_id(8), DATA)
    parts.orders.act_on_storage(verbs.DISK_COPY, DISK, copy, ORIGIN)
    verb = snapshot_verbs.VM_SNAPSHOT_DELETE
    request = bodies.DeleteSnapshot(SnapshotId("s"))
    parts.orders.act_on_storage(verb, fleet.vm_id(7), request, ORIGIN)
    *_, asked = parts.nodes[TWO].requests[-1]
    assert asked.data_node_id == data_node_id


def test_act_asks_the_node_that_is_named(parts: Parts) -> None:
    with_pool(parts)
    request = bodies.SetSpmPriority(7)
    order = parts.orders.act_on_storage(verbs.SPM_PRIORITY, POOL, request, ORIGIN, ONE)
    assert (order.node_id, order.state) == (ONE, JobState.DONE)


def test_act_reconstructs_a_master_on_a_node_that_sees_the_new_one(
    parts: Parts,
) -> None:
    with_pool(parts)
    parts.say(1, fleet.storage_domain(1, 2))
    parts.viewer.view = silence(parts.viewer.view, 2)
    request = bodies.MoveMaster(fleet.domain_id(2), is_reconstruction=True)
    order = parts.orders.act_on_storage(verbs.POOL_MOVE_MASTER, POOL, request, ORIGIN)
    assert order.node_id == ONE


def _without_manager(parts: Parts) -> None:
    with_pool(parts)
    parts.viewer.view = silence(parts.viewer.view, 2)


def _disputed(parts: Parts) -> None:
    with_pool(parts)
    parts.say(1, fleet.pool(1, mark=FIRST))


_ACT_ON_DISK: tuple[Verb, str, Any] = (verbs.DISK_DELETE, DISK, bodies.ActOnDisk())
_ELSEWHERE = bodies.CreateDisk(DISK, "d", fleet.domain_id(7), 1)


@pytest.mark.parametrize(
    ("prepare", "asked", "error"),
    [
        pytest.param(_without_manager, _ACT_ON_DISK, NoManager, id="silent"),
        pytest.param(_disputed, _ACT_ON_DISK, ManagersDisputed, id="disputed"),
        pytest.param(
            with_pool,
            (verbs.DISK_DELETE, fleet.disk_id(7), bodies.ActOnDisk()),
            DiskNotFound,
            id="no-disk",
        ),
        pytest.param(
            with_pool,
            (verbs.DISK_CREATE, DISK, _ELSEWHERE),
            StorageDomainNotFound,
            id="no-domain",
        ),
        pytest.param(
            with_pool,
            (verbs.POOL_MOVE_MASTER, fleet.pool_id(7), bodies.MoveMaster(DATA)),
            PoolNotFound,
            id="no-pool",
        ),
        pytest.param(
            with_pool,
            (verbs.SPM_LEAVE, POOL, bodies.LeaveSpm()),
            NodeMissing,
            id="no-node",
        ),
        pytest.param(
            _without_manager,
            (
                verbs.POOL_MOVE_MASTER,
                POOL,
                bodies.MoveMaster(DATA, is_reconstruction=True),
            ),
            None,
            id="reconstruction-goes-on",
        ),
    ],
)
def test_act_says_why_nobody_is_asked(
    parts: Parts,
    prepare: Any,
    asked: tuple[Verb, str, Any],
    error: type[Error] | None,
) -> None:
    prepare(parts)
    if error is None:
        assert parts.orders.act_on_storage(*asked, ORIGIN).node_id == ONE
        return
    with pytest.raises(error):
        parts.orders.act_on_storage(*asked, ORIGIN)
    assert not parts.orders.list()


_LATER = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"


def with_user(parts: Parts, state: VmState) -> None:
    """Let a VM of node 1 have the disk."""
    with_pool(parts)
    disk = Disk(DISK, "disk1", 1, storage_domain_id=DATA)
    spec = fleet.spec(7, "db", disks=(disk,), pool_id=POOL)
    parts.say(2, fleet.vm(7, spec=spec), fleet.run(7, 2))
    is_silent = state is VmState.UNKNOWN
    parts.say(1, fleet.run(7, 1, VmState.UP if is_silent else state))
    if is_silent:
        parts.viewer.view = silence(parts.viewer.view, 1)
    assert parts.viewer.view.vms[fleet.vm_id(7)].state is state


_COPY = bodies.CopyDisk(DiskId(_LATER), DATA)


@pytest.mark.parametrize(
    "state", [VmState.UP, VmState.PAUSED, VmState.UNKNOWN], ids=lambda each: each.value
)
@pytest.mark.parametrize(
    ("verb", "request_"),
    [
        pytest.param(verbs.DISK_DELETE, bodies.ActOnDisk(), id="delete"),
        pytest.param(verbs.DISK_RESIZE, bodies.ResizeDisk(9), id="resize"),
        pytest.param(verbs.DISK_MOVE, bodies.MoveDisk(DATA), id="move"),
        pytest.param(verbs.DISK_COPY, _COPY, id="copy"),
        pytest.param(verbs.DISK_SPARSIFY, bodies.SparsifyDisk(), id="sparsify"),
    ],
)
def test_disk_of_a_vm_that_may_run_stays_as_it_is(
    parts: Parts, verb: Verb, request_: Any, state: VmState
) -> None:
    """A paused guest may have lost its lease: the storage does not tell of it."""
    with_user(parts, state)
    with pytest.raises(DiskInUse, match="VM db, which has disk disk1, is "):
        parts.orders.act_on_storage(verb, DISK, request_, ORIGIN)
    assert not parts.orders.list()


@pytest.mark.parametrize(
    ("state", "verb", "request_"),
    [
        pytest.param(VmState.DOWN, verbs.DISK_DELETE, bodies.ActOnDisk(), id="vm-down"),
        pytest.param(
            VmState.UP, verbs.DISK_CHANGE, bodies.ChangeDisk("other"), id="its-name"
        ),
        pytest.param(
            VmState.UP,
            verbs.DISK_COPY,
            replace(_COPY, snapshot_id=SnapshotId(_LATER)),
            id="what-a-snapshot-kept",
        ),
    ],
)
def test_disk_of_a_vm_is_changed_where_no_guest_writes(
    parts: Parts, state: VmState, verb: Verb, request_: Any
) -> None:
    with_user(parts, state)
    order = parts.orders.act_on_storage(verb, DISK, request_, ORIGIN)
    assert order.node_id == TWO


def test_no_manager_says_what_is_being_done(parts: Parts) -> None:
    _without_manager(parts)
    with pytest.raises(NoManager, match="n2 is silent; another node is to take over"):
        parts.orders.act_on_storage(*_ACT_ON_DISK, ORIGIN)


def test_no_manager_says_why_in_words(parts: Parts) -> None:
    with_pool(parts)
    reason = Reason("spm_no_candidate", fleet.AT, {"count": 2})
    parts.say(2, fleet.pool(2, reason=reason))
    parts.say(1, fleet.pool(1, reason=reason))
    with pytest.raises(NoManager, match="None of 2 nodes can manage the pool"):
        parts.orders.act_on_storage(*_ACT_ON_DISK, ORIGIN)


# --- whoever manages the pool by then


def test_order_goes_to_the_next_manager_when_the_first_falls_silent(
    parts: Parts,
) -> None:
    with_pool(parts)
    order = parts.orders.act_on_storage(verbs.DISK_CREATE, DISK, CREATE_DISK, ORIGIN)
    parts.viewer.view = silence(parts.viewer.view, 2)
    parts.pass_time(11.0)
    assert parts.nodes[ONE].asked == []  # nobody manages the pool
    with_pool(parts, 1, SECOND)
    parts.viewer.view = silence(parts.viewer.view, 2)
    parts.nodes[ONE].job_state = JobState.DONE
    parts.pass_time(1.0)
    ended = parts.orders.get(order.order_id)
    assert (ended.state, ended.node_id) == (JobState.DONE, ONE)
    ids = [
        request.job_id for node in parts.nodes.values() for *_, request in node.requests
    ]
    assert ids == [order.order_id] * 2
    assert parts.did() == {f"disk_create {DISK}": 1}


def test_order_does_not_leave_a_manager_that_is_heard(parts: Parts) -> None:
    with_pool(parts)
    parts.orders.act_on_storage(verbs.DISK_CREATE, DISK, CREATE_DISK, ORIGIN)
    with_pool(parts, 1, SECOND)
    parts.pass_time(1.0)
    assert parts.nodes[ONE].asked == []  # its job there ends by itself


def test_order_goes_on_when_its_job_ends_with_the_lease(parts: Parts) -> None:
    with_pool(parts)
    order = parts.orders.act_on_storage(
        verbs.DISK_DELETE, DISK, bodies.ActOnDisk(), ORIGIN
    )
    ended = fleet.job(1, JobState.FAILED, job_id=order.order_id, error=LOST)
    parts.say(2, ended)
    parts.loop.cycle()
    waiting = parts.orders.get(order.order_id)
    assert (waiting.state, waiting.error) == (JobState.QUEUED, None)
    with_pool(parts, 1, SECOND)
    parts.nodes[ONE].job_state = JobState.DONE
    parts.pass_time(6.0)
    assert parts.orders.get(order.order_id).state is JobState.DONE
    (asked,) = parts.nodes[ONE].requests
    assert asked[2].job_id != order.order_id  # that job has ended, and says so


@pytest.mark.parametrize(
    ("kind", "code"), [("conflict", "not_spm"), ("unavailable", "storage_process_down")]
)
def test_order_waits_when_the_node_does_not_manage_the_pool_now(
    parts: Parts, kind: str, code: str
) -> None:
    with_pool(parts)
    parts.nodes[TWO].refusal = revive(kind, code, "n1 does", "")
    order = parts.orders.act_on_storage(*_ACT_ON_DISK, ORIGIN)
    assert order.state is JobState.QUEUED
    assert "next manager" in order.step
    parts.nodes[TWO].refusal = None
    parts.pass_time(6.0)
    assert parts.orders.get(order.order_id).state is JobState.RUNNING


def test_order_ends_when_the_pool_is_lost_again_and_again(parts: Parts) -> None:
    with_pool(parts)
    parts.nodes[TWO].refusal = revive("conflict", "not_spm", "n1 does", "")
    order = parts.orders.act_on_storage(*_ACT_ON_DISK, ORIGIN)
    for _ in range(12):
        parts.pass_time(6.0)
    assert parts.orders.get(order.order_id).state is JobState.FAILED


def test_delete_that_finds_nothing_when_repeated_was_done_before(
    parts: Parts,
) -> None:
    with_pool(parts)
    parts.nodes[TWO].is_mute = True
    order = parts.orders.act_on_storage(*_ACT_ON_DISK, ORIGIN)
    parts.nodes[TWO].refusal = NotFound("there is no such disk")
    parts.pass_time(6.0)
    assert parts.orders.get(order.order_id).state is JobState.DONE


def test_delete_of_nothing_is_refused(parts: Parts) -> None:
    with_pool(parts)
    parts.nodes[TWO].refusal = NotFound("there is no such disk")
    with pytest.raises(NotFound):
        parts.orders.act_on_storage(*_ACT_ON_DISK, ORIGIN)


# --- a new storage domain


def test_create_domain_makes_the_pool_with_the_first(parts: Parts) -> None:
    finish_jobs(parts)
    order = create_domain(parts.orders)
    assert order.state is JobState.DONE
    pool = parts.orders.pools.of(data_center(parts))
    assert pool is not None
    assert (pool.name, pool.founded_on) == ("Default", NEW)
    assert parts.nodes[ONE].asked == ["storage_domain_create", "pool_create"]
    (_, _, request) = parts.nodes[ONE].requests[1]
    assert (request.pool_id, request.name, request.master) == (
        pool.pool_id,
        "Default",
        NEW,
    )


def test_create_domain_attaches_the_next_by_the_manager(parts: Parts) -> None:
    with_pool(parts)
    finish_jobs(parts)
    order = create_domain(parts.orders)
    assert order.state is JobState.DONE
    assert parts.nodes[ONE].asked == ["storage_domain_create"]
    attach = ["storage_domain_attach", "storage_domain_activate"]
    assert parts.nodes[TWO].asked == attach
    (_, object_id, request) = parts.nodes[TWO].requests[0]
    assert (object_id, request.pool_id) == (NEW, POOL)
    assert request.connection == fleet.connection(9)


def test_create_domain_waits_for_a_manager_between_its_steps(parts: Parts) -> None:
    with_pool(parts)
    parts.viewer.view = silence(parts.viewer.view, 2)
    finish_jobs(parts)
    order = create_domain(parts.orders)
    assert (order.state, order.step) == (
        JobState.QUEUED,
        "waiting for a manager of pool Default",
    )
    with_pool(parts, 1, SECOND)
    parts.pass_time(2.0)
    assert parts.orders.get(order.order_id).state is JobState.DONE


def test_create_domain_leaves_a_lonely_iso_domain_unattached(parts: Parts) -> None:
    finish_jobs(parts)
    request = bodies.CreateStorageDomain(
        NEW, "iso", fleet.connection(9), DomainClass.ISO
    )
    order = parts.orders.storage.create_domain(request, ORIGIN, node_id=ONE)
    assert order.state is JobState.DONE
    assert parts.nodes[ONE].asked == ["storage_domain_create"]


def test_create_domain_founds_one_pool_of_two_first_domains(parts: Parts) -> None:
    first = create_domain(parts.orders)
    other = bodies.CreateStorageDomain(fleet.domain_id(8), "other", fleet.connection(8))
    second = parts.orders.storage.create_domain(other, ORIGIN, node_id=TWO)
    finish_jobs(parts)
    for number, order in ((2, second), (1, first)):
        done = fleet.job(number, JobState.DONE, job_id=order.order_id)
        parts.say(number, done)
    parts.loop.cycle()
    states = {parts.orders.get(each.order_id).state for each in (first, second)}
    assert states == {JobState.DONE, JobState.QUEUED}
    made = [key for key in parts.did() if key.startswith("pool_create")]
    assert len(made) == 1


def _begun_elsewhere(parts: Parts) -> PoolId:
    """Return a pool that was made, while a node that may be in it is not heard."""
    pool = parts.orders.pools.ensure(data_center(parts))
    parts.orders.pools.found(pool.pool_id, DATA)
    parts.viewer.view = silence(parts.viewer.view, 2)
    return pool.pool_id


def test_create_domain_founds_anew_when_the_pool_is_gone(parts: Parts) -> None:
    old = _begun_elsewhere(parts)
    finish_jobs(parts)
    other = bodies.CreateStorageDomain(fleet.domain_id(8), "other", fleet.connection(8))
    orders = (
        create_domain(parts.orders),
        parts.orders.storage.create_domain(other, ORIGIN, node_id=ONE),
    )
    parts.pass_time(61.0)
    assert {parts.orders.get(e.order_id).state for e in orders} == {JobState.QUEUED}
    parts.viewer.view = view_of(1, 2)
    parts.pass_time(5.0)  # the first look that finds it gone
    parts.pass_time(61.0)
    parts.pass_time(5.0)
    (newer,) = parts.orders.pools.list()
    made = [key for key in parts.did() if key.startswith("pool_create")]
    assert made == [f"pool_create {newer.pool_id}"]
    assert newer.pool_id != old


def test_create_domain_waits_for_a_pool_that_is_seen_late(parts: Parts) -> None:
    old = _begun_elsewhere(parts)
    finish_jobs(parts)
    order = create_domain(parts.orders)
    parts.viewer.view = view_of(1, 2)
    parts.pass_time(5.0)
    parts.pass_time(30.0)
    assert [each.pool_id for each in parts.orders.pools.list()] == [old]
    assert parts.orders.get(order.order_id).state is JobState.QUEUED
    assert not [key for key in parts.did() if key.startswith("pool_create")]


def test_create_domain_lets_a_pool_be_made_elsewhere_after_a_refusal(
    parts: Parts,
) -> None:
    parts.nodes[ONE].job_error = ErrorReport("failed", "no_space", "it is full")
    order = create_domain(parts.orders)
    assert order.state is JobState.FAILED
    parts.nodes[ONE].job_error = None
    parts.say(1, fleet.storage_domain(1, 9, DomainState.UNATTACHED))
    parts.nodes[ONE].job_error = ErrorReport("failed", "no_lease", "no lease")
    with_refusal = parts.orders.storage.attach_domain(NEW, ORIGIN)
    assert with_refusal.state is JobState.FAILED
    pool = parts.orders.pools.of(data_center(parts))
    assert pool is not None
    assert pool.founded_on is None


def test_create_domain_refuses_a_name_that_is_taken(parts: Parts) -> None:
    with_pool(parts)
    request = bodies.CreateStorageDomain(NEW, "DATA1", fleet.connection(9))
    with pytest.raises(NameTaken):
        parts.orders.storage.create_domain(request, ORIGIN)


@pytest.mark.parametrize("name", ["", "  "], ids=["empty", "blank"])
def test_storage_domain_without_a_name_is_refused(parts: Parts, name: str) -> None:
    with_pool(parts)
    with pytest.raises(Unnamed):
        parts.orders.storage.create_domain(replace(CREATE, name=name), ORIGIN)
    change = bodies.ChangeStorageDomain(name)
    with pytest.raises(Unnamed):
        parts.orders.storage.change_domain(DATA, change, ORIGIN)
    assert not parts.orders.list()


def test_create_domain_asks_the_manager_unless_a_node_is_named(parts: Parts) -> None:
    with_pool(parts)
    order = parts.orders.storage.create_domain(CREATE, ORIGIN)
    assert order.node_id == TWO


def test_create_domain_goes_on_after_a_step_that_took_long(parts: Parts) -> None:
    with_pool(parts)
    order = create_domain(parts.orders)
    done = fleet.job(1, JobState.DONE, job_id=order.order_id)
    parts.clock.advance(3600.0)
    parts.say(1, done)
    parts.loop.cycle()
    assert parts.nodes[TWO].asked == ["storage_domain_attach"]


def test_create_domain_says_that_no_node_is_up(parts: Parts) -> None:
    for number in (1, 2):
        parts.viewer.view = silence(parts.viewer.view, number)
    with pytest.raises(NobodyToAsk):
        parts.orders.storage.create_domain(CREATE, ORIGIN)
    with pytest.raises(NodeSilent):
        create_domain(parts.orders)


def test_attach_founds_a_pool_with_data_only(parts: Parts) -> None:
    unattached = fleet.storage_domain(
        1, 9, DomainState.UNATTACHED, domain_class=DomainClass.ISO
    )
    parts.say(1, unattached)
    with pytest.raises(FirstNeedsData):
        parts.orders.storage.attach_domain(NEW, ORIGIN)


def test_attach_refuses_a_second_founding(parts: Parts) -> None:
    pool = parts.orders.pools.ensure(data_center(parts))
    parts.orders.pools.found(pool.pool_id, DATA)
    parts.say(1, fleet.storage_domain(1, 9, DomainState.UNATTACHED))
    # A node that is not heard may be in the pool.
    parts.viewer.view = silence(parts.viewer.view, 2)
    with pytest.raises(OtherPoolFounded):
        parts.orders.storage.attach_domain(NEW, ORIGIN)


def test_attach_founds_anew_when_nobody_is_in_the_pool_any_more(parts: Parts) -> None:
    pool = parts.orders.pools.ensure(data_center(parts))
    parts.orders.pools.found(pool.pool_id, DATA)
    parts.say(1, fleet.storage_domain(1, 9, DomainState.UNATTACHED))
    parts.orders.storage.attach_domain(NEW, ORIGIN)
    newer = parts.orders.pools.of(data_center(parts))
    assert newer is not None
    assert newer.founded_on == NEW
    assert newer.pool_id != pool.pool_id


def test_late_answer_of_a_step_does_not_end_the_next(parts: Parts) -> None:
    """The View told that the first step ended before the node's own answer came."""
    with_pool(parts)
    executor = parts.orders.dispatch._executor
    answers: list[Callable[[], None]] = []

    class Late:
        def send(self, node: NodeView, action: Action, done: Done) -> None:
            executor.send(node, action, done)

        def ask_job(self, node: NodeView, job_id: JobId, done: Done) -> None:
            answers.append(lambda: executor.ask_job(node, job_id, done))

    parts.orders.dispatch._executor = Late()
    order = create_domain(parts.orders)
    parts.pass_time(11.0)
    assert len(answers) == 1
    done = fleet.job(1, JobState.DONE, job_id=order.order_id)
    parts.say(1, done)
    parts.nodes[ONE].jobs[order.order_id] = done
    parts.loop.cycle()
    assert parts.nodes[TWO].asked == ["storage_domain_attach"]
    answers[0]()
    assert parts.orders.get(order.order_id).state is JobState.RUNNING
    assert parts.nodes[TWO].asked == ["storage_domain_attach"]


# --- the manager moves


def test_elect_lets_the_manager_leave_first(parts: Parts) -> None:
    with_pool(parts)
    finish_jobs(parts)
    order = parts.orders.storage.elect(POOL, ONE, ORIGIN)
    assert order.state is JobState.DONE
    assert parts.nodes[TWO].asked == ["spm_leave"]
    assert parts.nodes[ONE].asked == ["spm_become"]
    (_, _, request) = parts.nodes[ONE].requests[0]
    assert request.lease_version == 1


def test_elect_takes_what_is_free(parts: Parts) -> None:
    _without_manager(parts)
    parts.orders.storage.elect(POOL, ONE, ORIGIN, asks=True)
    assert parts.nodes[ONE].requests[0][2].ask_holder


# --- crashes


def _shared(parts: Parts) -> None:
    ensure_defaults(parts.database)
    for node in parts._whole.values():  # type: ignore[attr-defined]  # a FragileParts
        node.storage = parts._whole[ONE].storage  # type: ignore[attr-defined]
        node.job_state = JobState.DONE


def _shared_pool(parts: Parts) -> None:
    _shared(parts)
    with_pool(parts)


def test_create_domain_founds_once_whenever_it_crashes(tmp_path: Path) -> None:
    crashes = 0
    for parts in crash_everywhere(tmp_path, create_domain, _shared):
        crashes += 1
        for _ in range(3):
            parts.pass_time(11.0)
        orders = parts.orders.list()
        assert all(each.state is JobState.DONE for each in orders)
        pool = parts.orders.pools.of(data_center(parts))
        expected = {}
        if orders and pool is not None:
            made = f"storage_domain_create {NEW}", f"pool_create {pool.pool_id}"
            expected = dict.fromkeys(made, 1)
        assert parts.did() == expected
    assert crashes >= 10


def test_create_domain_attaches_once_whenever_it_crashes(tmp_path: Path) -> None:
    crashes = 0
    for parts in crash_everywhere(tmp_path, create_domain, _shared_pool):
        crashes += 1
        for _ in range(3):
            parts.pass_time(11.0)
        orders = parts.orders.list()
        assert all(each.state is JobState.DONE for each in orders)
        steps = ("create", "attach", "activate")
        made = {f"storage_domain_{step} {NEW}": 1 for step in steps}
        assert parts.did() == (made if orders else {})
    assert crashes >= 15


def test_pools_are_kept_with_the_fleets_documents(parts: Parts) -> None:
    pool = parts.orders.pools.ensure(data_center(parts))
    parts.restart()
    ensure_defaults(parts.database)
    assert parts.orders.pools.list() == (pool,)
    assert parts.orders.pools.ensure(data_center(parts)) == pool
    assert PoolId(pool.pool_id) != POOL
