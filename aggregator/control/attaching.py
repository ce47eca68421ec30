"""Give a VM a disk, take one away, let one grow, on all nodes with a part in it.

One node is asked after the other, and each only when the one before is done: what a
guest is given is written down first, so that nobody deletes it meanwhile, and what is
taken from it is written down last, when the guest has let it go.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aggregator.control import pool_vms
from aggregator.control.order import Order, Origin
from aggregator.federation.view import View, VmView
from node.model.ids import DiskId, NodeId, VmId
from node.model.job import JobState
from node.model.vm import Disk, VmState

# Returns an order after a while; raises what it failed with, if it failed.
Wait = Callable[[Order], Order]


@dataclass(frozen=True, slots=True)
class Change:
    order: Order  # of the node that was asked last
    is_whole: bool  # with that order all is done; else ask again when it is done


class Orders(Protocol):
    """What is used of `control.orders.Orders`."""

    def attach_disk(
        self, vm_id: VmId, disk: Disk, origin: Origin, node_id: NodeId | None = None
    ) -> Order: ...

    def detach_disk(
        self,
        vm_id: VmId,
        disk_id: DiskId,
        origin: Origin,
        node_id: NodeId | None = None,
        lease_version: int | None = None,
    ) -> Order: ...

    def resize_disk(
        self,
        vm_id: VmId,
        disk_id: DiskId,
        size_bytes: int,
        origin: Origin,
        node_id: NodeId | None = None,
        lease_version: int | None = None,
    ) -> Order: ...


def resize(
    orders: Orders,
    view: View,
    vm: VmView,
    disk_id: DiskId,
    size_bytes: int,
    origin: Origin,
    wait: Wait,
) -> Change:
    """Let a disk grow under the guest that runs with it, then write that down."""
    manager, *runner = pool_vms.changers(view, vm)
    version = pool_vms.lease_version(vm) if runner else None

    def ask(node_id: NodeId) -> Order:
        told = version if node_id == manager else None
        words = (vm.vm_id, disk_id, size_bytes, origin, node_id, told)
        return wait(orders.resize_disk(*words))

    return _one_by_one([*runner, manager], ask)


def runner_of(view: View, disk_id: DiskId) -> VmView | None:
    """Return the VM that runs with a disk, as far as is known; None: none does."""
    for vm_id in view.disk_users.get(disk_id, ()):
        vm = view.vms.get(vm_id)
        if vm is not None and vm.state is not VmState.DOWN:
            return vm
    return None


def attach(
    orders: Orders, view: View, vm: VmView, disk: Disk, origin: Origin, wait: Wait
) -> Change:
    """Give a VM a disk. NoManager, and what `wait` raises."""

    def ask(node_id: NodeId) -> Order:
        return wait(orders.attach_disk(vm.vm_id, disk, origin, node_id))

    return _one_by_one(pool_vms.changers(view, vm), ask)


def detach(
    orders: Orders, view: View, vm: VmView, disk_id: DiskId, origin: Origin, wait: Wait
) -> Change:
    """Take a disk away from a VM; as `attach`, from the guest's node first.

    The manager is told which run has let it go, and believes the storage alone.
    """
    manager, *runner = pool_vms.changers(view, vm)
    version = pool_vms.lease_version(vm) if runner else None

    def ask(node_id: NodeId) -> Order:
        told = version if node_id == manager else None
        return wait(orders.detach_disk(vm.vm_id, disk_id, origin, node_id, told))

    return _one_by_one([*runner, manager], ask)


def _one_by_one(nodes: Sequence[NodeId], ask: Callable[[NodeId], Order]) -> Change:
    """Ask the next node only if the one before is done."""
    *others, last = nodes
    for node_id in others:
        order = ask(node_id)
        if order.state is not JobState.DONE:
            return Change(order, is_whole=False)
    return Change(ask(last), is_whole=True)
