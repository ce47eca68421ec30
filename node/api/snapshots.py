"""Serve the snapshots of this node's VMs."""

import flask

from node.http import face
from node.model import snapshot_verbs as verbs
from node.model.ids import VmId
from node.model.job import Job
from node.model.storage_requests import (
    ActOnSnapshot,
    CreateSnapshot,
    DeleteSnapshot,
    PreviewSnapshot,
    SnapshotList,
    SuspendVm,
)
from node.vm.snapshotting import Snapshotter


def blueprint(snapshotter: Snapshotter) -> flask.Blueprint:
    """Return the routes below /v1/vms/{vm_id}/snapshots, and of suspension."""
    routes = flask.Blueprint("snapshots", __name__)

    def show(vm_id: str) -> SnapshotList:
        return snapshotter.list(VmId(vm_id))

    def create(request: CreateSnapshot, vm_id: str) -> Job:
        return snapshotter.create(VmId(vm_id), request)

    def delete(request: DeleteSnapshot, vm_id: str) -> Job:
        return snapshotter.delete(VmId(vm_id), request)

    def preview(request: PreviewSnapshot, vm_id: str) -> Job:
        return snapshotter.preview(VmId(vm_id), request)

    def commit(request: ActOnSnapshot, vm_id: str) -> Job:
        return snapshotter.commit(VmId(vm_id), request)

    def undo(request: ActOnSnapshot, vm_id: str) -> Job:
        return snapshotter.undo(VmId(vm_id), request)

    def suspend(request: SuspendVm, vm_id: str) -> Job:
        return snapshotter.hibernator.suspend(VmId(vm_id), request)

    for verb, handler in (
        (verbs.VM_SUSPEND, suspend),
        (verbs.VM_SNAPSHOT_LIST, show),
        (verbs.VM_SNAPSHOT_CREATE, create),
        (verbs.VM_SNAPSHOT_DELETE, delete),
        (verbs.VM_SNAPSHOT_PREVIEW, preview),
        (verbs.VM_SNAPSHOT_COMMIT, commit),
        (verbs.VM_SNAPSHOT_UNDO, undo),
    ):
        face.bind(routes, verb, handler)
    return routes
