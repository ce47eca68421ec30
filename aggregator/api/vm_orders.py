"""Serve what is asked of VMs: each request becomes an order."""

from typing import Final

import flask

from aggregator.api import caller, new_vm, orders, verbs
from aggregator.api.model import AttachVmDisk, DetachVmDisk, NewVm, OrderLine
from aggregator.control import attaching
from aggregator.control.order import error_of
from aggregator.control.orders import Order, VmNotFound
from aggregator.federation.view import VmView
from aggregator.services import Services
from node.errors import Busy
from node.http import face
from node.model.ids import DiskId, VmId
from node.model.job import JobState
from node.model.requests import ActOnVm, DeleteVm, StartVm, StopVm
from node.model.vm import Disk

# Plugging a disk in takes a second; a guest may take some to let one go.
_STEP_S: Final = 30.0


class DiskChangeUnderWay(Busy):
    """A node has not done its part, and another has its own to do after it."""

    code = "disk_change_under_way"
    remedy = "Ask again when its order is done: what was done is not done twice."


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes that change something."""
    routes = flask.Blueprint("vm_orders", __name__)

    def line(order: Order) -> OrderLine:
        return orders.line(services.mirror.view, order)

    def create(request: NewVm) -> OrderLine:
        spec = new_vm.spec(services.mirror.view, request)
        order = services.orders.create_vm(spec, caller.origin(), request.node_id)
        return line(order)

    def start(request: StartVm, vm_id: str) -> OrderLine:
        order = services.orders.start_vm(
            VmId(vm_id),
            caller.origin(),
            is_paused=request.is_paused,
            discard_memory=request.discard_memory,
        )
        return line(order)

    def stop(request: StopVm, vm_id: str) -> OrderLine:
        order = services.orders.stop_vm(
            VmId(vm_id),
            caller.origin(),
            manner=request.manner,
            deadline_s=request.deadline_s,
        )
        return line(order)

    def pause(_request: ActOnVm, vm_id: str) -> OrderLine:
        return line(services.orders.pause_vm(VmId(vm_id), caller.origin()))

    def suspend(_request: ActOnVm, vm_id: str) -> OrderLine:
        return line(services.orders.suspend_vm(VmId(vm_id), caller.origin()))

    def resume(_request: ActOnVm, vm_id: str) -> OrderLine:
        return line(services.orders.resume_vm(VmId(vm_id), caller.origin()))

    def reset(_request: ActOnVm, vm_id: str) -> OrderLine:
        return line(services.orders.reset_vm(VmId(vm_id), caller.origin()))

    def delete(request: DeleteVm, vm_id: str) -> OrderLine:
        order = services.orders.delete_vm(
            VmId(vm_id), caller.origin(), may_leave_disks=request.may_leave_disks
        )
        return line(order)

    def attach_disk(request: AttachVmDisk, vm_id: str) -> OrderLine:
        disk = new_vm.existing_disk(services.mirror.view, request)
        return line(_change_disks(services, VmId(vm_id), disk))

    def detach_disk(request: DetachVmDisk, vm_id: str) -> OrderLine:
        return line(_change_disks(services, VmId(vm_id), request.disk_id))

    for verb, handler in (
        (verbs.VM_ATTACH_DISK, attach_disk),
        (verbs.VM_DETACH_DISK, detach_disk),
        (verbs.VM_CREATE, create),
        (verbs.VM_START, start),
        (verbs.VM_STOP, stop),
        (verbs.VM_PAUSE, pause),
        (verbs.VM_SUSPEND, suspend),
        (verbs.VM_RESUME, resume),
        (verbs.VM_RESET, reset),
        (verbs.VM_DELETE, delete),
    ):
        face.bind(routes, verb, handler)
    return routes


def _change_disks(services: Services, vm_id: VmId, disk: Disk | DiskId) -> Order:
    """Attach a disk, or detach one by its id, on all nodes that have a part in it."""
    vm = services.mirror.view.vms.get(vm_id)
    if vm is None:
        raise VmNotFound(f"there is no VM {vm_id}", vm_id=vm_id)
    origin, ordered, view = caller.origin(), services.orders, services.mirror.view

    def wait(order: Order) -> Order:
        return _wait(services, order)

    if isinstance(disk, Disk):
        change = attaching.attach(ordered, view, vm, disk, origin, wait)
    else:
        change = attaching.detach(ordered, view, vm, disk, origin, wait)
    return whole(vm, change)


def grow_disk(
    services: Services, vm: VmView, disk_id: DiskId, size_bytes: int
) -> Order:
    """Let a disk grow under the guest that runs with it; DiskChangeUnderWay."""

    def wait(order: Order) -> Order:
        return _wait(services, order)

    words = (services.orders, services.mirror.view, vm, disk_id, size_bytes)
    return whole(vm, attaching.resize(*words, caller.origin(), wait))


def whole(vm: VmView, change: attaching.Change) -> Order:
    """Return the last order of a change; DiskChangeUnderWay: ask for it again."""
    if not change.is_whole:
        order = change.order
        raise DiskChangeUnderWay(
            f"{order.verb} of VM {vm.name} is still {order.state} on one node of two",
            name=vm.name,
            job_id=order.order_id,
        )
    return change.order


def _wait(services: Services, order: Order) -> Order:
    """Return an order as it is when it has ended; raise what it failed with."""
    ended = services.orders.wait(order.order_id, _STEP_S)
    if ended.state is JobState.FAILED and ended.error is not None:
        raise error_of(ended.error)
    return ended
