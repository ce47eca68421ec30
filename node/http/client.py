"""Call the verbs of a node, typed both ways.

Members call each other by `node.http.links`, people's programs over TLS, the local
command line and the text console over the unix socket: one client, several
transports. A refusal comes back as the error that was raised there. Every call
has a deadline.
"""

from collections.abc import Mapping
from typing import Any

from node import wire
from node.http.calling import DEADLINE_S, VerbClient, error_of
from node.http.storage_client import StorageClient
from node.http.transport import (
    BadReply,
    NodeUnreachable,
    Reply,
    TlsTransport,
    Transport,
    UnixTransport,
    exchange,
)
from node.model import (
    export_verbs,
    hook_verbs,
    property_verbs,
    snapshot_verbs,
    template_verbs,
    verbs,
)
from node.model.exports import ExportTemplate, ExportVm
from node.model.fleet import (
    Admission,
    AdmissionRequest,
    FleetRules,
    Membership,
    SealedFleet,
)
from node.model.hooks import (
    HookBundle,
    HookBundles,
    HookList,
    HookTrial,
    InstallHooks,
    ReceiveHooks,
    RemoveHooks,
    TryHook,
)
from node.model.host import NodeFacts, NodeStatus
from node.model.ids import (
    JobId,
    TemplateId,
    VmId,
)
from node.model.job import Job
from node.model.requests import (
    ActOnVm,
    AttachDisk,
    Changes,
    CreateVm,
    DeleteVm,
    DetachDisk,
    DeviceList,
    EventList,
    ImageList,
    JobList,
    ResizeVmDisk,
    SetProperties,
    StartVm,
    StopVm,
    VmList,
)
from node.model.stats import Stats
from node.model.storage_requests import (
    ActOnSnapshot,
    CreateSnapshot,
    DeleteSnapshot,
    PreviewSnapshot,
    SnapshotList,
    SuspendVm,
)
from node.model.templates import (
    ChangeTemplate,
    CloneVm,
    CreateTemplate,
    DeleteTemplate,
    Template,
    TemplateList,
)
from node.model.vm import VmEntry

__all__ = [
    "DEADLINE_S",
    "BadReply",
    "NodeClient",
    "NodeUnreachable",
    "Reply",
    "TlsTransport",
    "Transport",
    "UnixTransport",
    "VerbClient",
    "error_of",
    "exchange",
]


class NodeClient(StorageClient):
    """One method for each verb of `node.model.verbs`."""

    def status(self) -> NodeStatus:
        return self.call(verbs.STATUS, NodeStatus)

    def node(self) -> NodeFacts:
        return self.call(verbs.NODE, NodeFacts)

    def devices(self) -> DeviceList:
        return self.call(verbs.DEVICES, DeviceList)

    def images(self) -> ImageList:
        return self.call(verbs.IMAGES, ImageList)

    def stats(self) -> Stats:
        return self.call(verbs.STATS, Stats)

    def changes(self, since: int, wait_s: float = 0.0) -> Changes:
        query = {"since": since, "wait_s": wait_s}
        return self.call(verbs.CHANGES, Changes, query=query, wait_s=wait_s)

    def events(self, since: int, wait_s: float = 0.0) -> EventList:
        query = {"since": since, "wait_s": wait_s}
        return self.call(verbs.EVENTS, EventList, query=query, wait_s=wait_s)

    def vm_list(self) -> VmList:
        return self.call(verbs.VM_LIST, VmList)

    def vm_show(self, vm_id: VmId) -> VmEntry:
        return self.call(verbs.VM_SHOW, VmEntry, vm_id=vm_id)

    def vm_create(self, request: CreateVm) -> VmEntry:
        return self.call(verbs.VM_CREATE, VmEntry, request)

    def vm_start(self, vm_id: VmId, request: StartVm) -> Job:
        return self.call(verbs.VM_START, Job, request, vm_id=vm_id)

    def vm_stop(self, vm_id: VmId, request: StopVm) -> Job:
        return self.call(verbs.VM_STOP, Job, request, vm_id=vm_id)

    def vm_pause(self, vm_id: VmId, request: ActOnVm) -> Job:
        return self.call(verbs.VM_PAUSE, Job, request, vm_id=vm_id)

    def vm_resume(self, vm_id: VmId, request: ActOnVm) -> Job:
        return self.call(verbs.VM_RESUME, Job, request, vm_id=vm_id)

    def vm_reset(self, vm_id: VmId, request: ActOnVm) -> Job:
        return self.call(verbs.VM_RESET, Job, request, vm_id=vm_id)

    def vm_delete(self, vm_id: VmId, request: DeleteVm) -> Job:
        return self.call(verbs.VM_DELETE, Job, request, vm_id=vm_id)

    def vm_attach_disk(self, vm_id: VmId, request: AttachDisk) -> Job:
        return self.call(verbs.VM_ATTACH_DISK, Job, request, vm_id=vm_id)

    def vm_detach_disk(self, vm_id: VmId, request: DetachDisk) -> Job:
        return self.call(verbs.VM_DETACH_DISK, Job, request, vm_id=vm_id)

    def vm_resize_disk(self, vm_id: VmId, request: ResizeVmDisk) -> Job:
        return self.call(verbs.VM_RESIZE_DISK, Job, request, vm_id=vm_id)

    def vm_set_properties(self, vm_id: VmId, request: SetProperties) -> Job:
        verb = property_verbs.VM_SET_PROPERTIES
        return self.call(verb, Job, request, vm_id=vm_id)

    def vm_suspend(self, vm_id: VmId, request: SuspendVm) -> Job:
        return self.call(snapshot_verbs.VM_SUSPEND, Job, request, vm_id=vm_id)

    def vm_snapshot_list(self, vm_id: VmId) -> SnapshotList:
        return self.call(snapshot_verbs.VM_SNAPSHOT_LIST, SnapshotList, vm_id=vm_id)

    def vm_snapshot_create(self, vm_id: VmId, request: CreateSnapshot) -> Job:
        verb = snapshot_verbs.VM_SNAPSHOT_CREATE
        return self.call(verb, Job, request, vm_id=vm_id)

    def vm_snapshot_delete(self, vm_id: VmId, request: DeleteSnapshot) -> Job:
        verb = snapshot_verbs.VM_SNAPSHOT_DELETE
        return self.call(verb, Job, request, vm_id=vm_id)

    def vm_snapshot_preview(self, vm_id: VmId, request: PreviewSnapshot) -> Job:
        verb = snapshot_verbs.VM_SNAPSHOT_PREVIEW
        return self.call(verb, Job, request, vm_id=vm_id)

    def vm_snapshot_commit(self, vm_id: VmId, request: ActOnSnapshot) -> Job:
        verb = snapshot_verbs.VM_SNAPSHOT_COMMIT
        return self.call(verb, Job, request, vm_id=vm_id)

    def vm_snapshot_undo(self, vm_id: VmId, request: ActOnSnapshot) -> Job:
        return self.call(snapshot_verbs.VM_SNAPSHOT_UNDO, Job, request, vm_id=vm_id)

    def hook_list(self) -> HookList:
        return self.call(hook_verbs.HOOK_LIST, HookList)

    def hook_bundles(self) -> HookBundles:
        return self.call(hook_verbs.HOOK_BUNDLES, HookBundles)

    def hook_install(self, request: InstallHooks) -> HookBundle:
        return self.call(hook_verbs.HOOK_INSTALL, HookBundle, request)

    def hook_receive(self, request: ReceiveHooks) -> HookBundle:
        return self.call(hook_verbs.HOOK_RECEIVE, HookBundle, request)

    def hook_remove(self, request: RemoveHooks) -> HookBundles:
        return self.call(hook_verbs.HOOK_REMOVE, HookBundles, request)

    def hook_try(self, request: TryHook) -> HookTrial:
        return self.call(hook_verbs.HOOK_TRY, HookTrial, request)

    def template_list(self) -> TemplateList:
        return self.call(template_verbs.TEMPLATE_LIST, TemplateList)

    def template_show(self, template_id: TemplateId) -> Template:
        verb = template_verbs.TEMPLATE_SHOW
        return self.call(verb, Template, template_id=template_id)

    def vm_export(self, vm_id: VmId, request: ExportVm) -> Job:
        return self.call(export_verbs.VM_EXPORT, Job, request, vm_id=vm_id)

    def template_export(self, template_id: TemplateId, request: ExportTemplate) -> Job:
        verb = export_verbs.TEMPLATE_EXPORT
        return self.call(verb, Job, request, template_id=template_id)

    def template_create(self, request: CreateTemplate) -> Job:
        return self.call(template_verbs.TEMPLATE_CREATE, Job, request)

    def template_change(
        self, template_id: TemplateId, request: ChangeTemplate
    ) -> Template:
        verb = template_verbs.TEMPLATE_CHANGE
        return self.call(verb, Template, request, template_id=template_id)

    def template_delete(self, template_id: TemplateId, request: DeleteTemplate) -> Job:
        verb = template_verbs.TEMPLATE_DELETE
        return self.call(verb, Job, request, template_id=template_id)

    def vm_clone(self, request: CloneVm) -> Job:
        return self.call(template_verbs.VM_CLONE, Job, request)

    def vm_screenshot(self, vm_id: VmId) -> bytes:
        return self.send(verbs.VM_SCREENSHOT, vm_id=vm_id).body

    def vm_serial(self, vm_id: VmId, tail_bytes: int = 65536) -> bytes:
        query = {"tail_bytes": tail_bytes}
        return self.send(verbs.VM_SERIAL, query=query, vm_id=vm_id).body

    def job_list(self) -> JobList:
        return self.call(verbs.JOB_LIST, JobList)

    def job_show(self, job_id: JobId, wait_s: float = 0.0) -> Job:
        query = {"wait_s": wait_s}
        return self.call(verbs.JOB_SHOW, Job, query=query, wait_s=wait_s, job_id=job_id)

    def job_cancel(self, job_id: JobId) -> Job:
        return self.call(verbs.JOB_CANCEL, Job, job_id=job_id)

    def openapi(self) -> Mapping[str, Any]:
        return dict(wire.parse(self.send(verbs.OPENAPI).body))

    def admission_show(self) -> AdmissionRequest:
        return self.call(verbs.ADMISSION_SHOW, AdmissionRequest)

    def admit(self, request: Admission) -> Membership:
        return self.call(verbs.ADMIT, Membership, request)

    def rules_show(self) -> FleetRules:
        return self.call(verbs.RULES_SHOW, FleetRules)

    def sealed_show(self) -> SealedFleet:
        return self.call(verbs.SEALED_SHOW, SealedFleet)

    def sealed_put(self, request: SealedFleet) -> SealedFleet:
        return self.call(verbs.SEALED_PUT, SealedFleet, request)

    def aggregators_put(self, request: Membership) -> Membership:
        return self.call(verbs.AGGREGATORS_PUT, Membership, request)

    def leave(self) -> NodeStatus:
        return self.call(verbs.LEAVE, NodeStatus)
