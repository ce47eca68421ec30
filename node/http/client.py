"""Call the verbs of a node, typed both ways.

Members call each other by `node.http.links`, people's programs over TLS, the local
command line and the text console over the unix socket: one client, several
transports. A refusal comes back as the error that was raised there. Every call
has a deadline.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from node import wire
from node.errors import Error, Invalid, revive
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
    register_verbs,
    snapshot_verbs,
    storage_verbs,
    template_verbs,
    transfer_verbs,
    verbs,
)
from node.model.exports import ExportVm
from node.model.fleet import (
    Admission,
    AdmissionRequest,
    Membership,
    SealedFleet,
)
from node.model.host import NodeFacts, NodeStatus
from node.model.ids import (
    DiskId,
    JobId,
    PoolId,
    StorageDomainId,
    TemplateId,
    TransferId,
    VmId,
)
from node.model.job import ErrorReport, Job
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
    StartVm,
    StopVm,
    VmList,
)
from node.model.stats import Stats
from node.model.storage import (
    DiskDocument,
    PoolDocument,
    StorageDomainDocument,
    Transfer,
)
from node.model.storage_requests import (
    ActOnDisk,
    ActOnPool,
    ActOnSnapshot,
    ActOnStorageDomain,
    ActOnTransfer,
    AttachStorageDomain,
    BecomeSpm,
    ChangeDisk,
    ChangeStorageDomain,
    ConnectPool,
    CopyDisk,
    CreateDisk,
    CreatePool,
    CreateSnapshot,
    CreateStorageDomain,
    CreateTransfer,
    DeleteSnapshot,
    DiskList,
    FinalizeTransfer,
    FoundStorageDomains,
    ImportStorageDomain,
    LeaveSpm,
    LookForStorageDomains,
    MoveDisk,
    MoveMaster,
    PoolList,
    PreviewSnapshot,
    RemoveStorageDomain,
    RepairStorage,
    ResizeDisk,
    SetSpmPriority,
    SnapshotList,
    SparsifyDisk,
    StorageDomainList,
    StorageProblems,
    SuspendVm,
    TransferList,
)
from node.model.templates import (
    ChangeTemplate,
    CloneVm,
    CreateTemplate,
    DeleteTemplate,
    Template,
    TemplateList,
)
from node.model.unregistered import RegisterVm, Unregistered
from node.model.verbs import Verb
from node.model.vm import VmEntry

__all__ = [
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

T = TypeVar("T")

DEADLINE_S = 10.0  # a verb only records and answers; what lasts is a job
LOOK_WAIT_S = 20.0  # on top, for a storage that may have to be mounted first
CHECK_WAIT_S = 40.0  # on top, for thousands of disks; proxies wait a minute in all


def _no_headers() -> Mapping[str, str]:
    return {}


class VerbClient:
    """Call verbs of a table through a transport."""

    def __init__(
        self,
        transport: Transport,
        headers: Callable[[], Mapping[str, str]] = _no_headers,
    ) -> None:
        self._transport = transport
        self._headers = headers

    def call(
        self,
        verb: Verb,
        kind: type[T],
        request: object = None,
        *,
        query: Mapping[str, object] | None = None,
        wait_s: float = 0.0,
        **path: str,
    ) -> T:
        """Return the reply of a verb as its dataclass; raise what it refused with."""
        reply = self.send(verb, request, query=query, wait_s=wait_s, **path)
        try:
            return wire.decode(kind, reply.body, strict=False)
        except Invalid as error:
            raise BadReply(
                f"{verb.name} was answered with nonsense: {error}"
            ) from error

    def send(
        self,
        verb: Verb,
        request: object = None,
        *,
        query: Mapping[str, object] | None = None,
        wait_s: float = 0.0,
        **path: str,
    ) -> Reply:
        """Return the whole reply of a verb."""
        target = verb.path.format_map(
            {name: quote(value, safe="") for name, value in path.items()}
        )
        if query:
            target += "?" + urlencode(query)
        headers = dict(self._headers())
        body = None
        if request is not None:
            body = wire.encode(request)
            headers["Content-Type"] = "application/json"
        reply = self._transport.exchange(
            verb.method, target, body, headers, DEADLINE_S + wait_s
        )
        if reply.status >= 400:
            raise error_of(reply)
        if reply.media_type != verb.media_type:
            raise BadReply(f"{verb.name} was answered with {reply.media_type!r}")
        return reply


class NodeClient(VerbClient):
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

    def template_list(self) -> TemplateList:
        return self.call(template_verbs.TEMPLATE_LIST, TemplateList)

    def template_show(self, template_id: TemplateId) -> Template:
        verb = template_verbs.TEMPLATE_SHOW
        return self.call(verb, Template, template_id=template_id)

    def vm_export(self, vm_id: VmId, request: ExportVm) -> Job:
        return self.call(export_verbs.VM_EXPORT, Job, request, vm_id=vm_id)

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

    def sealed_show(self) -> SealedFleet:
        return self.call(verbs.SEALED_SHOW, SealedFleet)

    def sealed_put(self, request: SealedFleet) -> SealedFleet:
        return self.call(verbs.SEALED_PUT, SealedFleet, request)

    def aggregators_put(self, request: Membership) -> Membership:
        return self.call(verbs.AGGREGATORS_PUT, Membership, request)

    def leave(self) -> NodeStatus:
        return self.call(verbs.LEAVE, NodeStatus)

    def storage_domain_list(self) -> StorageDomainList:
        return self.call(storage_verbs.STORAGE_DOMAIN_LIST, StorageDomainList)

    def storage_domain_show(
        self, storage_domain_id: StorageDomainId
    ) -> StorageDomainDocument:
        return self.call(
            storage_verbs.STORAGE_DOMAIN_SHOW,
            StorageDomainDocument,
            storage_domain_id=storage_domain_id,
        )

    def storage_domain_create(self, request: CreateStorageDomain) -> Job:
        return self.call(storage_verbs.STORAGE_DOMAIN_CREATE, Job, request)

    def storage_domain_look(
        self, request: LookForStorageDomains
    ) -> FoundStorageDomains:
        return self.call(
            storage_verbs.STORAGE_DOMAIN_LOOK,
            FoundStorageDomains,
            request,
            wait_s=LOOK_WAIT_S,
        )

    def storage_domain_import(self, request: ImportStorageDomain) -> Job:
        return self.call(storage_verbs.STORAGE_DOMAIN_IMPORT, Job, request)

    def storage_domain_attach(
        self, storage_domain_id: StorageDomainId, request: AttachStorageDomain
    ) -> Job:
        return self._change_domain(
            storage_verbs.STORAGE_DOMAIN_ATTACH, storage_domain_id, request
        )

    def storage_domain_change(
        self, storage_domain_id: StorageDomainId, request: ChangeStorageDomain
    ) -> Job:
        return self._change_domain(
            storage_verbs.STORAGE_DOMAIN_CHANGE, storage_domain_id, request
        )

    def storage_domain_activate(
        self, storage_domain_id: StorageDomainId, request: ActOnStorageDomain
    ) -> Job:
        return self._change_domain(
            storage_verbs.STORAGE_DOMAIN_ACTIVATE, storage_domain_id, request
        )

    def storage_domain_maintain(
        self, storage_domain_id: StorageDomainId, request: ActOnStorageDomain
    ) -> Job:
        return self._change_domain(
            storage_verbs.STORAGE_DOMAIN_MAINTAIN, storage_domain_id, request
        )

    def storage_domain_detach(
        self, storage_domain_id: StorageDomainId, request: ActOnStorageDomain
    ) -> Job:
        return self._change_domain(
            storage_verbs.STORAGE_DOMAIN_DETACH, storage_domain_id, request
        )

    def storage_domain_remove(
        self, storage_domain_id: StorageDomainId, request: RemoveStorageDomain
    ) -> Job:
        return self._change_domain(
            storage_verbs.STORAGE_DOMAIN_REMOVE, storage_domain_id, request
        )

    def storage_domain_check(
        self, storage_domain_id: StorageDomainId
    ) -> StorageProblems:
        return self.call(
            storage_verbs.STORAGE_DOMAIN_CHECK,
            StorageProblems,
            wait_s=CHECK_WAIT_S,
            storage_domain_id=storage_domain_id,
        )

    def storage_domain_repair(
        self, storage_domain_id: StorageDomainId, request: RepairStorage
    ) -> Job:
        return self._change_domain(
            storage_verbs.STORAGE_DOMAIN_REPAIR, storage_domain_id, request
        )

    def storage_domain_unregistered(
        self, storage_domain_id: StorageDomainId
    ) -> Unregistered:
        return self.call(
            register_verbs.STORAGE_DOMAIN_UNREGISTERED,
            Unregistered,
            wait_s=CHECK_WAIT_S,
            storage_domain_id=storage_domain_id,
        )

    def storage_domain_register_vm(
        self, storage_domain_id: StorageDomainId, request: RegisterVm
    ) -> Job:
        verb = register_verbs.STORAGE_DOMAIN_REGISTER_VM
        return self._change_domain(verb, storage_domain_id, request)

    def storage_domain_write_ovf(
        self, storage_domain_id: StorageDomainId, request: ActOnStorageDomain
    ) -> Job:
        verb = register_verbs.STORAGE_DOMAIN_WRITE_OVF
        return self._change_domain(verb, storage_domain_id, request)

    def _change_domain(
        self, verb: Verb, storage_domain_id: StorageDomainId, request: object
    ) -> Job:
        return self.call(verb, Job, request, storage_domain_id=storage_domain_id)

    def pool_list(self) -> PoolList:
        return self.call(storage_verbs.POOL_LIST, PoolList)

    def pool_show(self, pool_id: PoolId) -> PoolDocument:
        return self.call(storage_verbs.POOL_SHOW, PoolDocument, pool_id=pool_id)

    def pool_create(self, request: CreatePool) -> Job:
        return self.call(storage_verbs.POOL_CREATE, Job, request)

    def pool_connect(self, pool_id: PoolId, request: ConnectPool) -> Job:
        return self.call(storage_verbs.POOL_CONNECT, Job, request, pool_id=pool_id)

    def pool_disconnect(self, pool_id: PoolId, request: ActOnPool) -> Job:
        return self.call(storage_verbs.POOL_DISCONNECT, Job, request, pool_id=pool_id)

    def pool_move_master(self, pool_id: PoolId, request: MoveMaster) -> Job:
        return self.call(storage_verbs.POOL_MOVE_MASTER, Job, request, pool_id=pool_id)

    def spm_become(self, pool_id: PoolId, request: BecomeSpm) -> Job:
        return self.call(storage_verbs.SPM_BECOME, Job, request, pool_id=pool_id)

    def spm_leave(self, pool_id: PoolId, request: LeaveSpm) -> Job:
        return self.call(storage_verbs.SPM_LEAVE, Job, request, pool_id=pool_id)

    def spm_priority(self, pool_id: PoolId, request: SetSpmPriority) -> PoolDocument:
        return self.call(
            storage_verbs.SPM_PRIORITY, PoolDocument, request, pool_id=pool_id
        )

    def disk_list(self) -> DiskList:
        return self.call(storage_verbs.DISK_LIST, DiskList)

    def disk_show(self, disk_id: DiskId) -> DiskDocument:
        return self.call(storage_verbs.DISK_SHOW, DiskDocument, disk_id=disk_id)

    def disk_create(self, request: CreateDisk) -> Job:
        return self.call(storage_verbs.DISK_CREATE, Job, request)

    def disk_delete(self, disk_id: DiskId, request: ActOnDisk) -> Job:
        return self.call(storage_verbs.DISK_DELETE, Job, request, disk_id=disk_id)

    def disk_resize(self, disk_id: DiskId, request: ResizeDisk) -> Job:
        return self.call(storage_verbs.DISK_RESIZE, Job, request, disk_id=disk_id)

    def disk_change(self, disk_id: DiskId, request: ChangeDisk) -> Job:
        return self.call(storage_verbs.DISK_CHANGE, Job, request, disk_id=disk_id)

    def disk_copy(self, disk_id: DiskId, request: CopyDisk) -> Job:
        return self.call(storage_verbs.DISK_COPY, Job, request, disk_id=disk_id)

    def disk_move(self, disk_id: DiskId, request: MoveDisk) -> Job:
        return self.call(storage_verbs.DISK_MOVE, Job, request, disk_id=disk_id)

    def disk_sparsify(self, disk_id: DiskId, request: SparsifyDisk) -> Job:
        return self.call(storage_verbs.DISK_SPARSIFY, Job, request, disk_id=disk_id)

    def transfer_list(self) -> TransferList:
        return self.call(transfer_verbs.TRANSFER_LIST, TransferList)

    def transfer_show(self, transfer_id: TransferId) -> Transfer:
        return self.call(
            transfer_verbs.TRANSFER_SHOW, Transfer, transfer_id=transfer_id
        )

    def transfer_create(self, request: CreateTransfer) -> Transfer:
        return self.call(
            transfer_verbs.TRANSFER_CREATE, Transfer, request, wait_s=LOOK_WAIT_S
        )

    def transfer_extend(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer:
        return self._change_transfer(
            transfer_verbs.TRANSFER_EXTEND, transfer_id, request
        )

    def transfer_pause(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer:
        return self._change_transfer(
            transfer_verbs.TRANSFER_PAUSE, transfer_id, request
        )

    def transfer_resume(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer:
        return self._change_transfer(
            transfer_verbs.TRANSFER_RESUME, transfer_id, request
        )

    def transfer_finalize(
        self, transfer_id: TransferId, request: FinalizeTransfer
    ) -> Transfer:
        return self._change_transfer(
            transfer_verbs.TRANSFER_FINALIZE, transfer_id, request
        )

    def transfer_cancel(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer:
        return self._change_transfer(
            transfer_verbs.TRANSFER_CANCEL, transfer_id, request
        )

    def _change_transfer(
        self, verb: Verb, transfer_id: TransferId, request: object
    ) -> Transfer:
        return self.call(verb, Transfer, request, transfer_id=transfer_id)


def error_of(reply: Reply) -> Error:
    """Return the error that a reply carries."""
    try:
        report = wire.from_json(
            ErrorReport, wire.parse(reply.body)["error"], strict=False
        )
    except (KeyError, TypeError, IndexError, Invalid):
        return BadReply(f"HTTP {reply.status} without an error of ours")
    fields = {
        name: value
        for name, value in report.fields.items()
        if name not in ("self", "kind", "code", "message", "remedy")
    }
    return revive(report.kind, report.code, report.message, report.remedy, **fields)
