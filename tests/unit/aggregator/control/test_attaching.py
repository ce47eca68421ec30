"""Disks of VMs that two nodes change: one after the other, or not at all."""

import itertools
from dataclasses import dataclass, field, replace

import pytest

from aggregator.control import attaching
from aggregator.control.order import Order, Origin
from aggregator.federation.view import View
from node.model.ids import DiskId, JobId, NodeId, VmId
from node.model.job import JobState
from node.model.storage import PoolMark
from node.model.vm import Disk, VmState
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, TWO, say, view_of

DB = fleet.vm_id(7)
DISK = Disk(fleet.disk_id(1), "system", 1, storage_domain_id=fleet.domain_id(1))


@dataclass
class Asked:
    """Orders that are what `state` says when they were waited for."""

    state: JobState = JobState.DONE
    calls: list[tuple[str, NodeId | None]] = field(default_factory=list)
    told: list[int | None] = field(default_factory=list)
    ids: "itertools.count[int]" = field(default_factory=itertools.count)

    def attach_disk(
        self, vm_id: VmId, disk: Disk, origin: Origin, node_id: NodeId | None = None
    ) -> Order:
        return self._note("attach", vm_id, node_id)

    def detach_disk(
        self,
        vm_id: VmId,
        disk_id: DiskId,
        origin: Origin,
        node_id: NodeId | None = None,
        lease_version: int | None = None,
    ) -> Order:
        self.told.append(lease_version)
        return self._note("detach", vm_id, node_id)

    def resize_disk(
        self,
        vm_id: VmId,
        disk_id: DiskId,
        size_bytes: int,
        origin: Origin,
        node_id: NodeId | None = None,
        lease_version: int | None = None,
    ) -> Order:
        self.told.append(lease_version)
        return self._note(f"resize {size_bytes}", vm_id, node_id)

    def _note(self, verb: str, vm_id: VmId, node_id: NodeId | None) -> Order:
        self.calls.append((verb, node_id))
        job_id = JobId(str(next(self.ids)))
        return Order(job_id, verb, vm_id, node_id, "db", self.state, fleet.AT)


def view(state: VmState = VmState.UP) -> View:
    """Return a pool that node 2 manages; node 1 runs the VM."""
    mark, found = PoolMark(1, 1), view_of(1, 2)
    for number in (1, 2):
        own = mark if number == 2 else None
        found = say(found, number, fleet.pool(number, holder=2, mark=own))
    spec = fleet.spec(7, "db", disks=(DISK,), pool_id=fleet.pool_id())
    found = say(found, 2, fleet.vm(7, spec=spec), fleet.run(7, 2))
    return say(found, 1, replace(fleet.run(7, 1, state), lease_version=3))


def attach(asked: Asked, seen: View) -> attaching.Change:
    return attaching.attach(asked, seen, seen.vms[DB], DISK, ORIGIN, lambda each: each)


def detach(asked: Asked, seen: View) -> attaching.Change:
    vm, disk_id = seen.vms[DB], DISK.disk_id
    return attaching.detach(asked, seen, vm, disk_id, ORIGIN, lambda each: each)


def resize(asked: Asked, seen: View) -> attaching.Change:
    vm, disk_id = seen.vms[DB], DISK.disk_id
    return attaching.resize(asked, seen, vm, disk_id, 9, ORIGIN, lambda each: each)


def test_attach_is_written_down_before_it_is_plugged_in() -> None:
    asked = Asked()
    change = attach(asked, view())
    assert asked.calls == [("attach", TWO), ("attach", ONE)]
    assert (change.is_whole, change.order.node_id) == (True, ONE)


def test_detach_is_unplugged_before_it_is_written_down() -> None:
    asked = Asked()
    change = detach(asked, view())
    assert asked.calls == [("detach", ONE), ("detach", TWO)]
    # Which run has let it go; the manager looks whether that has the lease.
    assert asked.told == [None, 3]
    assert (change.is_whole, change.order.node_id) == (True, TWO)


def test_disk_grows_under_its_guest_before_it_is_written_down() -> None:
    asked = Asked()
    assert resize(asked, view()).is_whole
    assert asked.calls == [("resize 9", ONE), ("resize 9", TWO)]
    assert asked.told == [None, 3]


@pytest.mark.parametrize(
    "state", [each for each in JobState if each is not JobState.DONE]
)
def test_nobody_else_is_asked_unless_the_first_is_done(state: JobState) -> None:
    asked = Asked(state)
    assert not detach(asked, view()).is_whole
    assert not attach(asked, view()).is_whole
    assert asked.calls == [("detach", ONE), ("attach", TWO)]


def test_the_manager_alone_is_asked_of_a_vm_that_is_down() -> None:
    asked = Asked(JobState.RUNNING)
    assert detach(asked, view(VmState.DOWN)).is_whole
    assert asked.calls == [("detach", TWO)]
    assert asked.told == [None], "nobody was asked to let it go"
