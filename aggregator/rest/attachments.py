"""Give VMs disks and take them away: what is posted below a VM. Pure but for orders.

A disk that is named by its id exists, and what else is said of it does not count;
one without an id is made first.
"""

import functools
from dataclasses import replace
from typing import Final

from aggregator.control import attaching
from aggregator.control.orders import Order
from aggregator.federation.view import VmView
from aggregator.rest import devices, disk_orders, disks, new_vm, replies
from aggregator.rest.body import Body
from aggregator.rest.call import PARAMETER, Call, Deed, NoSuchObject, Reply
from aggregator.rest.devices import VmDisk, VmRow
from aggregator.rest.disks import Entry
from aggregator.rest.resource import Entity
from node.errors import Conflict, Failed
from node.model.job import JobState
from node.model.verbs import ActionGroup
from node.model.vm import Disk, VmState

_REL: Final = "diskattachments"
# A disk that is made is attached when it is there: a preallocated one takes longer.
_MAKE_S: Final = 20.0
_ACT_S: Final = 10.0


class NotThereYet(Failed):
    """Not a conflict: clients would ask again, and make another one."""

    code = "disk_not_there_yet"
    remedy = "Attach it by its id when its status is ok; do not ask again."


class DiskAttachedElsewhere(Conflict):
    code = "disk_attached_elsewhere"
    remedy = "Detach it from the other VM first, or make it shareable."


def _add(call: Call, row: VmRow, ids: tuple[str, ...]) -> Reply:
    """Attach a disk, and make it first if it has no id."""
    wanted = call.body.child("disk")
    disk_id = wanted.object_id()
    entry = disk_orders.existing(call, disk_id) if disk_id else _make(call, wanted)
    _check_free(call, entry, row)
    disk = new_vm.existing_disk(
        call.services.mirror.view.disks[entry.document.disk_id],
        call.body,
        is_bootable=bool(call.body.boolean("bootable")),
    )
    order = _order(call, row.vm, disk)
    status = 201 if order.state is JobState.DONE else 202
    if order.state is JobState.DONE:
        replies.see(call, lambda view: disk.disk_id in view.vms[row.vm.vm_id].disk_ids)
    path = f"vms/{row.vm.vm_id}/{_REL}/{disk.disk_id}"
    attachment = Entity(devices.ATTACHMENT, VmDisk(row.vm, disk), path)
    location = f"{call.context.base}/{path}"
    return Reply(attachment, status, {"Location": location})


def _update(call: Call, row: VmRow, ids: tuple[str, ...]) -> Reply:
    """Change the disk of an attachment, or its bus; else how it is attached stays."""
    attached = _attached(row, ids[0])
    for name, now in (
        ("bootable", attached.disk.is_bootable),
        ("read_only", attached.disk.is_read_only),
        ("active", True),
    ):
        if call.body.boolean(name) not in (None, now):
            raise replies.NotDoneYet(f"{name} of a disk attachment cannot be changed")
    if call.body.string("interface") not in (None, attached.disk.interface.value):
        attached = _change_bus(call, attached)
    if call.body.child("disk").children:
        entry = disk_orders.existing(call, ids[0])
        disk_orders.update(call, entry, call.body.child("disk"))
    path = f"vms/{row.vm.vm_id}/{_REL}/{ids[0]}"
    return Reply(Entity(devices.ATTACHMENT, attached, path))


def _change_bus(call: Call, attached: VmDisk) -> VmDisk:
    """Bring a disk to the bus that is asked for; its VM must be down."""
    vm, disk_id = attached.vm, attached.disk.disk_id
    disk_orders.existing(call, disk_id)
    if vm.state is not VmState.DOWN:
        raise disk_orders.DiskInUse(
            f"Cannot edit Virtual Disk. VM {vm.name} runs with it on its bus.",
            name=attached.disk.name,
            vm=vm.name,
        )
    disk = replace(attached.disk, interface=new_vm.interface(call.body))
    order = _order(call, vm, disk)
    if order.state is not JobState.DONE:
        raise disk_orders.DiskUnderWay(f"disk {disk.name} still changes its bus")
    document = call.context.view.vms[vm.vm_id].vm_document
    replies.see(call, lambda view: view.vms[vm.vm_id].vm_document != document)
    return VmDisk(vm, disk)


def _order(call: Call, vm: VmView, disk: Disk) -> Order:
    """Let a VM have a disk, and wait for that a while."""
    wait = functools.partial(replies.wait, call, seconds=_ACT_S, is_needed=True)
    orders, view = call.services.orders, call.context.view
    return attaching.attach(orders, view, vm, disk, call.origin, wait).order


def _remove(call: Call, row: VmRow, ids: tuple[str, ...]) -> Reply:
    """Detach a disk; it is kept, unless the request says that it shall not."""
    attached = _attached(row, ids[0])
    entry = disk_orders.existing(call, ids[0])
    disk_id = attached.disk.disk_id
    order = disk_orders.detach(call, row.vm, disk_id)
    if order.state is not JobState.DONE or not call.parameters.denies("detach_only"):
        return Reply(replies.action(call, order))
    newest = replies.see(
        call, lambda view: row.vm.vm_id not in view.disk_users.get(disk_id, ())
    )
    users = newest.disk_users.get(disk_id, ())
    return disk_orders.remove(call, Entry(entry.document, users))


def detach_all(call: Call, row: VmRow) -> None:
    """Take all disks away from a VM, for what it still has is deleted with it."""
    for disk in row.definition.spec.disks if row.definition else ():
        order = disk_orders.detach(call, row.vm, disk.disk_id)
        if order.state is not JobState.DONE:
            text = f"disk {disk.name} is still being detached"
            raise disk_orders.DiskUnderWay(text)


def _make(call: Call, wanted: Body) -> Entry:
    """Make a disk, and return it when it is there; NotThereYet if that takes long."""
    request, order = disk_orders.create(call, wanted)
    order = replies.wait(call, order, _MAKE_S, is_needed=True)
    if order.state is JobState.DONE:
        replies.see(call, lambda view: request.disk_id in view.disks)
    view = call.services.mirror.view
    disk = view.disks.get(request.disk_id)
    if disk is None or order.state is not JobState.DONE:
        text = f"disk {request.disk_id} is still being made"
        raise NotThereYet(text, disk_id=request.disk_id)
    return disks.entry_of(view, disk)


def _check_free(call: Call, entry: Entry, row: VmRow) -> None:
    """Refuse a disk that another VM has, unless several may."""
    if entry.document.is_shared:
        return
    for vm_id in entry.vm_ids:
        vm = call.context.view.vms.get(vm_id)
        if vm is not None and vm_id != row.vm.vm_id:
            raise DiskAttachedElsewhere(
                f"Cannot attach Virtual Disk. {entry.document.name} is attached to"
                f" VM {vm.name}.",
                name=entry.document.name,
                vm=vm.name,
            )


def _attached(row: VmRow, disk_id: str) -> VmDisk:
    for disk in row.definition.spec.disks if row.definition else ():
        if disk.disk_id == disk_id:
            return VmDisk(row.vm, disk)
    text = f"VM {row.vm.name} has no disk {disk_id}"
    raise NoSuchObject(text, disk_id=disk_id)


_ONE: Final = (_REL, PARAMETER)

DEEDS: Final[tuple[Deed[VmRow], ...]] = (
    Deed("POST", (_REL,), ActionGroup.ATTACH_DISK, _add),
    Deed("PUT", _ONE, ActionGroup.EDIT_DISK, _update),
    Deed("DELETE", _ONE, ActionGroup.ATTACH_DISK, _remove),
)
