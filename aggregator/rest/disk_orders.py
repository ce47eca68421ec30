"""Make, change, copy, move and remove the disks of pools."""

import functools
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from aggregator.control import attaching
from aggregator.control.orders import Order
from aggregator.federation.view import VmView
from aggregator.rest import disk_profiles, disks, new_disk, replies
from aggregator.rest.body import BadValue, Body
from aggregator.rest.call import Act, Call, Collection, NoSuchObject, Reply, Write
from aggregator.rest.disks import Entry
from aggregator.rest.new_vm import random_id
from aggregator.rest.resource import Entity
from node.errors import Busy, Conflict
from node.model import storage_requests as requests
from node.model import storage_verbs as verbs
from node.model.ids import DiskId
from node.model.job import JobState
from node.model.storage import DiskDocument, DiskState
from node.model.verbs import ActionGroup, Object
from node.model.vm import VmState

# Removing takes as long as renaming a folder does: clients expect it to be gone.
_REMOVE_S: Final = 10.0
_DETACH_S: Final = 10.0  # a guest lets a disk go within some seconds
# What oVirt can do besides: clients get a text instead of a riddle.
_UNSUPPORTED: Final = ("convert", "export", "reduce", "refreshlun")


class DiskInUse(Conflict):
    code = "disk_in_use"
    remedy = "Stop the VM that runs with it first."


class DiskUnderWay(Busy):
    code = "disk_under_way"
    remedy = "Try again when that is done."


class DiskTooSmall(Conflict):
    code = "disk_cannot_shrink"
    remedy = "Name a larger size; to have a smaller disk, make one and copy."


def create(call: Call, body: Body) -> tuple[requests.CreateDisk, Order]:
    """Order a new disk; return what was asked for, too."""
    request = new_disk.creation(call.context, body, _wanted_id(body))
    disk_id = request.disk_id
    disk_profiles.choose(call, body, disk_id, (request.storage_domain_id,))
    order = replies.storage_order(call, verbs.DISK_CREATE, disk_id, request)
    replies.raise_failure(order)
    return request, order


def entity(call: Call, request: requests.CreateDisk) -> Entity:
    """Return a new disk as its manager tells of it; before that, as it was ordered."""
    path = f"disks/{request.disk_id}"
    row = call.services.mirror.view.disks.get(request.disk_id)
    if row is not None:
        view = call.services.mirror.view
        return Entity(disks.RESOURCE, disks.entry_of(view, row), path)
    document = DiskDocument(
        request.disk_id,
        request.name,
        request.size_bytes,
        0,
        request.disk_format,
        request.allocation,
        (request.storage_domain_id,),
        DiskState.LOCKED,
        "",
        description=request.description,
        content=request.content,
        is_shared=request.is_shared,
        wipe_after_delete=bool(request.wipe_after_delete),
    )
    return Entity(disks.RESOURCE, Entry(document, ()), path)


def update(call: Call, entry: Entry, body: Body) -> None:
    """Change what a body says differently: first its size, which may be refused."""
    now = entry.document
    size_bytes = new_disk.size(body)
    change = new_disk.change(body, now)
    if size_bytes is not None and size_bytes < now.size_bytes:
        raise DiskTooSmall(
            "Cannot edit Virtual Disk. New disk size must be larger than the current"
            " disk size.",
            name=now.name,
        )
    if size_bytes is not None and size_bytes != now.size_bytes:
        _see(call, entry, _resize(call, entry, size_bytes))
    disk_profiles.choose(call, body, now.disk_id, now.storage_domain_ids)
    if change is not None:
        verb, disk_id = verbs.DISK_CHANGE, now.disk_id
        _see(call, entry, replies.storage_order(call, verb, disk_id, change))


def newest(call: Call, entry: Entry) -> Entity:
    """Return a disk as it is by now."""
    disk_id = entry.document.disk_id
    context = replace(call.context, view=call.services.mirror.view)
    newer = disks.find(call.services, context, disk_id) or entry
    return Entity(disks.RESOURCE, newer, f"disks/{disk_id}")


def _add(call: Call, path: tuple[str, ...]) -> Reply:
    request, _ = create(call, call.body)
    return Reply(entity(call, request), 202)


def _update(call: Call, path: tuple[str, ...]) -> Reply:
    entry = existing(call, path[0])
    update(call, entry, call.body)
    return Reply(newest(call, entry))


def _remove(call: Call, path: tuple[str, ...]) -> Reply:
    return remove(call, existing(call, path[0]))


def remove(call: Call, entry: Entry) -> Reply:
    """Delete a disk, and wait until it is gone unless the caller does not.

    VMs that are down and have it do without: their definitions name it no more.
    """
    document = entry.document
    found = (call.context.view.vms.get(vm_id) for vm_id in entry.vm_ids)
    users = [vm for vm in found if vm is not None]
    for vm in users:
        if vm.state is not VmState.DOWN:
            raise DiskInUse(
                f"Cannot remove Virtual Disk. VM {vm.name} runs with it.",
                name=document.name,
                vm=vm.name,
            )
    for vm in users:
        if detach(call, vm, document.disk_id).state is not JobState.DONE:
            raise DiskUnderWay(f"disk {document.name} is still being detached")
    disk_id, request = document.disk_id, requests.ActOnDisk()
    order = replies.storage_order(call, verbs.DISK_DELETE, disk_id, request)
    order = replies.wait(call, order, _REMOVE_S)
    if order.state is JobState.DONE:
        replies.see(call, lambda view: disk_id not in view.disks)
    return Reply(replies.action(call, order))


def detach(call: Call, vm: VmView, disk_id: DiskId) -> Order:
    """Take a disk away: the guest lets it go before that is written down."""
    wait = functools.partial(replies.wait, call, seconds=_DETACH_S, is_needed=True)
    orders, view = call.services.orders, call.context.view
    return attaching.detach(orders, view, vm, disk_id, call.origin, wait).order


def _copy(call: Call, entry: Entry) -> Reply:
    copy_id = _wanted_id(call.body.child("disk"))
    request = new_disk.copy(call.context, call.body, copy_id, entry.document)
    disk_id = entry.document.disk_id
    order = replies.storage_order(call, verbs.DISK_COPY, disk_id, request)
    return replies.follow(call, order)


def _move(call: Call, entry: Entry) -> Reply:
    target = new_disk.storage_domain(call.context, call.body)
    document = entry.document
    if document.storage_domain_ids == (target,):
        raise Conflict(
            f"Cannot move Virtual Disk. {document.name} is on that storage domain"
            " already.",
            name=document.name,
        )
    request = requests.MoveDisk(target)
    disk_id = document.disk_id
    order = replies.storage_order(call, verbs.DISK_MOVE, disk_id, request)
    return replies.follow(call, order)


def _sparsify(call: Call, entry: Entry) -> Reply:
    disk_id, request = entry.document.disk_id, requests.SparsifyDisk()
    order = replies.storage_order(call, verbs.DISK_SPARSIFY, disk_id, request)
    return replies.follow(call, order)


def _refuse(name: str) -> Callable[[Call, Entry], Reply]:
    def run(call: Call, entry: Entry) -> Reply:
        raise replies.NotDoneYet(f"{name} of a disk is not supported")

    return run


def _resize(call: Call, entry: Entry, size_bytes: int) -> Order:
    """Let a disk grow: by the guest's node if one runs with it, else by the manager."""
    disk_id = entry.document.disk_id
    vm = attaching.runner_of(call.context.view, disk_id)
    if vm is not None:
        return _grow(call, vm, disk_id, size_bytes)
    request = requests.ResizeDisk(size_bytes)
    return replies.storage_order(call, verbs.DISK_RESIZE, disk_id, request)


def _grow(call: Call, vm: VmView, disk_id: DiskId, size_bytes: int) -> Order:
    """Let a disk grow under its guest; DiskUnderWay if that takes long."""
    wait = functools.partial(replies.wait, call, seconds=_DETACH_S, is_needed=True)
    words = (call.services.orders, call.context.view, vm, disk_id, size_bytes)
    change = attaching.resize(*words, call.origin, wait)
    if not change.is_whole:
        raise DiskUnderWay(f"a disk of VM {vm.name} still grows under its guest")
    return change.order


def _see(call: Call, entry: Entry, order: Order) -> None:
    """Wait for a change, and give the View a moment to show it."""
    disk_id = entry.document.disk_id
    before = call.context.view.disks.get(disk_id)
    if replies.wait(call, order).state is JobState.DONE:
        replies.see(call, lambda view: view.disks.get(disk_id) != before)


def existing(call: Call, object_id: str) -> Entry:
    """Return the disk of an id; NoSuchObject."""
    entry = disks.find(call.services, call.context, object_id)
    if entry is None:
        raise NoSuchObject(f"there is no disk {object_id}", disk_id=object_id)
    return entry


def _wanted_id(body: Body) -> DiskId:
    """Return the id that a client chose for a new disk, else a new one."""
    given = body.object_id()
    if given is None:
        return DiskId(random_id())
    try:
        return DiskId(str(uuid.UUID(given)))
    except ValueError as error:
        raise BadValue(f"{given!r} is no UUID", field="id") from error


COLLECTION: Final = Collection(
    "disks",
    disks.RESOURCE,
    Object.DISK,
    disks.find,
    disks.rows,
    acts=(
        Act("copy", ActionGroup.CONFIGURE_DISK_STORAGE, _copy),
        Act("move", ActionGroup.CONFIGURE_DISK_STORAGE, _move),
        Act("sparsify", ActionGroup.SPARSIFY_DISK, _sparsify),
        *(
            Act(name, ActionGroup.CONFIGURE_DISK_STORAGE, _refuse(name))
            for name in _UNSUPPORTED
        ),
    ),
    add=Write(ActionGroup.CREATE_DISK, _add),
    update=Write(ActionGroup.EDIT_DISK, _update),
    remove=Write(ActionGroup.DELETE_DISK, _remove),
)
