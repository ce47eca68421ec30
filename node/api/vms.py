"""Serve the VMs of this node."""

import flask

from node.http import face
from node.model import property_verbs, verbs
from node.model.ids import VmId
from node.model.job import Job
from node.model.requests import (
    ActOnVm,
    AttachDisk,
    CreateVm,
    DeleteVm,
    DetachDisk,
    ResizeVmDisk,
    SetProperties,
    StartVm,
    StopVm,
    VmList,
)
from node.model.vm import VmEntry
from node.vm.lifecycle import Lifecycle

TAIL_BYTES = 65536


def blueprint(lifecycle: Lifecycle) -> flask.Blueprint:
    """Return the routes below /v1/vms."""
    routes = flask.Blueprint("vms", __name__)

    def vm_list() -> VmList:
        return VmList(lifecycle.list())

    def show(vm_id: str) -> VmEntry:
        return lifecycle.show(VmId(vm_id))

    def create(request: CreateVm) -> VmEntry:
        return lifecycle.create(request)

    def start(request: StartVm, vm_id: str) -> Job:
        return lifecycle.start(VmId(vm_id), request)

    def stop(request: StopVm, vm_id: str) -> Job:
        return lifecycle.stop(VmId(vm_id), request)

    def pause(request: ActOnVm, vm_id: str) -> Job:
        return lifecycle.pause(VmId(vm_id), request)

    def resume(request: ActOnVm, vm_id: str) -> Job:
        return lifecycle.resume(VmId(vm_id), request)

    def reset(request: ActOnVm, vm_id: str) -> Job:
        return lifecycle.reset(VmId(vm_id), request)

    def delete(request: DeleteVm, vm_id: str) -> Job:
        return lifecycle.delete(VmId(vm_id), request)

    def attach_disk(request: AttachDisk, vm_id: str) -> Job:
        return lifecycle.attach_disk(VmId(vm_id), request)

    def detach_disk(request: DetachDisk, vm_id: str) -> Job:
        return lifecycle.detach_disk(VmId(vm_id), request)

    def resize_disk(request: ResizeVmDisk, vm_id: str) -> Job:
        return lifecycle.resize_disk(VmId(vm_id), request)

    def set_properties(request: SetProperties, vm_id: str) -> Job:
        return lifecycle.set_properties(VmId(vm_id), request)

    def screenshot(vm_id: str) -> bytes:
        return lifecycle.screenshot(VmId(vm_id))

    def serial(vm_id: str, tail_bytes: int = TAIL_BYTES) -> bytes:
        return lifecycle.serial(VmId(vm_id), tail_bytes)

    for verb, handler in (
        (verbs.VM_LIST, vm_list),
        (verbs.VM_SHOW, show),
        (verbs.VM_CREATE, create),
        (verbs.VM_START, start),
        (verbs.VM_STOP, stop),
        (verbs.VM_PAUSE, pause),
        (verbs.VM_RESUME, resume),
        (verbs.VM_RESET, reset),
        (verbs.VM_DELETE, delete),
        (verbs.VM_ATTACH_DISK, attach_disk),
        (verbs.VM_DETACH_DISK, detach_disk),
        (verbs.VM_RESIZE_DISK, resize_disk),
        (property_verbs.VM_SET_PROPERTIES, set_properties),
        (verbs.VM_SCREENSHOT, screenshot),
        (verbs.VM_SERIAL, serial),
    ):
        face.bind(routes, verb, handler)
    return routes
