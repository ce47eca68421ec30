"""VMs whose definition lies on a pool: who makes, starts and deletes them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aggregator.access.defaults import ensure_defaults
from aggregator.control import plans, pool_vms
from aggregator.control.placing import NameTaken, NoNodeFits
from aggregator.control.routes import NodeSilent, NoManager
from node.model.ids import NodeId, SnapshotId, TemplateId
from node.model.requests import StopManner
from node.model.storage import DomainState, PoolMark
from node.model.storage_requests import CreateSnapshot
from node.model.vm import Disk, Vm, VmState, Wanted
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, TWO, Parts, silence

DB, NEW = fleet.vm_id(7), fleet.vm_id(8)
MARK = PoolMark(1, 1)
DISK = Disk(fleet.disk_id(1), "system", 1, storage_domain_id=fleet.domain_id(1))


def defined(number: int = 7, name: str = "db", **changes: Any) -> Vm:
    spec = fleet.spec(number, name, disks=(DISK,), pool_id=fleet.pool_id())
    return fleet.vm(number, spec=spec, **changes)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """Return two nodes in a pool that the second manages; it defines the VM `db`."""
    made = Parts(tmp_path)
    ensure_defaults(made.database)
    for number in (1, 2):
        mark = MARK if number == 2 else None
        made.say(number, fleet.pool(number, holder=2, mark=mark))
        made.say(number, fleet.storage_domain(number, mark=mark))
    made.say(2, defined(), fleet.run(7, 2))
    yield made
    made.database.close()


def started_on(parts: Parts) -> NodeId | None:
    return parts.orders.start_vm(DB, ORIGIN).node_id


def test_create_asks_the_manager(parts: Parts) -> None:
    spec = defined(8, "new").spec
    assert parts.orders.create_vm(spec, ORIGIN).node_id == TWO
    assert parts.nodes[TWO].asked == ["vm_create"]


def test_create_refuses_a_name_that_is_taken(parts: Parts) -> None:
    with pytest.raises(NameTaken):
        parts.orders.create_vm(defined(8, "db").spec, ORIGIN)


def test_create_without_a_manager_says_so(parts: Parts) -> None:
    parts.viewer.view = silence(parts.viewer.view, 2)
    with pytest.raises(NoManager):
        parts.orders.create_vm(defined(8, "new").spec, ORIGIN)


def test_start_places_the_vm_with_its_definition(parts: Parts) -> None:
    full = fleet.facts(2, memory_bytes=1)
    parts.say(2, full)
    assert started_on(parts) == ONE
    assert parts.nodes[ONE].started == [defined()]


@pytest.mark.parametrize(
    "ill",
    [
        pytest.param({"state": DomainState.UNREACHABLE}, id="unreachable"),
        pytest.param({"host_id": None}, id="not-in-the-lockspace"),
    ],
)
def test_start_goes_only_where_the_storage_is_well(
    parts: Parts, ill: dict[str, Any]
) -> None:
    parts.say(2, fleet.facts(2, memory_bytes=1))
    parts.say(1, fleet.storage_domain(1, **ill))
    with pytest.raises(NoNodeFits):
        parts.orders.start_vm(DB, ORIGIN)


def test_start_of_what_runs_asks_its_node(parts: Parts) -> None:
    parts.say(1, fleet.run(7, 1, VmState.UP))
    assert started_on(parts) == ONE
    assert parts.nodes[ONE].started == [None]


def test_start_goes_elsewhere_when_the_node_is_silent(parts: Parts) -> None:
    """The storage refuses it, if the VM runs on there."""
    parts.say(1, fleet.run(7, 1, VmState.UP))
    parts.viewer.view = silence(parts.viewer.view, 1)
    assert started_on(parts) == TWO


def test_stop_asks_where_it_runs_and_delete_the_manager(parts: Parts) -> None:
    parts.say(1, fleet.run(7, 1, VmState.UP))
    parts.orders.stop_vm(DB, ORIGIN, manner=StopManner.FORCE)
    assert parts.nodes[ONE].asked == ["vm_stop force"]
    parts.orders.delete_vm(DB, ORIGIN)
    assert parts.nodes[TWO].asked == ["vm_delete"]


def test_changers_are_the_manager_and_then_who_runs_it(parts: Parts) -> None:
    def changers() -> tuple[NodeId, ...]:
        view = parts.viewer.view
        return pool_vms.changers(view, view.vms[DB])

    assert changers() == (TWO,)
    parts.say(1, fleet.run(7, 1, VmState.UP))
    assert changers() == (TWO, ONE)
    view = parts.viewer.view
    assert pool_vms.changers(view, view.vms[fleet.vm_id(1)]) == (ONE,)


def test_manager_is_not_promised_the_memory_of_what_it_defines(parts: Parts) -> None:
    parts.say(2, defined(generation=2, wanted=Wanted.UP))
    assert parts.viewer.view.nodes[TWO].memory_promised_bytes == 0


# a VM on the disk of node 1 alone


@pytest.fixture
def tied(parts: Parts) -> Parts:
    """Return a node that has the VM `db` on its own disk, where it runs."""
    pool_id, local = fleet.local_pool_id(1), fleet.domain_id(3)
    settings: dict[str, Any] = {"pool_id": pool_id, "is_local": True, "master": local}
    parts.say(1, fleet.pool(1, mark=MARK, members=(1,), **settings))
    parts.say(1, fleet.storage_domain(1, 3, pool=pool_id, mark=MARK))
    disk = Disk(fleet.disk_id(3), "own", 1, storage_domain_id=local)
    spec = fleet.spec(9, "own", disks=(disk,), pool_id=pool_id)
    parts.say(1, fleet.vm(9, spec=spec), fleet.run(9, 1, VmState.DOWN))
    return parts


OWN = fleet.vm_id(9)


def test_start_of_a_tied_vm_asks_its_node_whatever_fits_better(tied: Parts) -> None:
    tied.say(1, fleet.facts(1, memory_bytes=1))
    assert tied.orders.start_vm(OWN, ORIGIN).node_id == ONE
    assert tied.nodes[ONE].started == [None]


def test_tied_vm_is_started_nowhere_else_when_its_node_is_silent(tied: Parts) -> None:
    tied.viewer.view = silence(tied.viewer.view, 1)
    with pytest.raises(NodeSilent):
        tied.orders.start_vm(OWN, ORIGIN)
    assert tied.nodes[TWO].asked == []


def test_tied_vm_is_changed_and_deleted_by_its_node_alone(tied: Parts) -> None:
    view = tied.viewer.view
    assert pool_vms.changers(view, view.vms[OWN]) == (ONE,)
    tied.orders.delete_vm(OWN, ORIGIN)
    assert tied.nodes[ONE].asked == ["vm_delete"]


def test_vm_of_a_local_pool_is_made_by_its_node(tied: Parts) -> None:
    made_of = TemplateId(fleet.vm_id(5))
    spec = replace(
        pool_vms.definition(tied.viewer.view.vms[OWN]).spec,
        vm_id=NEW,
        name="new",
        template_id=made_of,
    )
    assert tied.orders.create_vm(spec, ORIGIN).node_id == ONE


def test_node_of_a_tied_vm_takes_its_snapshot_alone(tied: Parts) -> None:
    tied.say(1, fleet.run(9, 1, VmState.UP))
    unmanaged = tied.viewer.view.pools.delete(fleet.local_pool_id(1))
    view = replace(tied.viewer.view, pools=unmanaged)
    request = CreateSnapshot(SnapshotId("5a450000-0000-4000-8000-000000000001"))
    assert plans.beginning(view, "vm_snapshot_create", OWN, request) is request
