"""Call a node's verbs on storage: storage domains, pools, disks, transfers."""

from node.http.calling import CHECK_WAIT_S, LOOK_WAIT_S, VerbClient
from node.model import (
    export_verbs,
    register_verbs,
    storage_verbs,
    transfer_verbs,
)
from node.model.exports import RemoveExported
from node.model.ids import (
    DiskId,
    PoolId,
    StorageDomainId,
    TransferId,
)
from node.model.job import Job
from node.model.storage import (
    DiskDocument,
    PoolDocument,
    StorageDomainDocument,
    Transfer,
)
from node.model.storage_requests import (
    ActOnDisk,
    ActOnPool,
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
    CreateStorageDomain,
    CreateTransfer,
    DiskList,
    FinalizeTransfer,
    FoundStorageDomains,
    ImportStorageDomain,
    LeaveSpm,
    LookForStorageDomains,
    MoveDisk,
    MoveMaster,
    PoolList,
    RemoveStorageDomain,
    RepairStorage,
    ResizeDisk,
    SetSpmPriority,
    SparsifyDisk,
    StorageDomainList,
    StorageProblems,
    TransferList,
)
from node.model.unregistered import RegisterVm, Unregistered
from node.model.verbs import Verb


class StorageClient(VerbClient):
    """One method for each verb on storage."""

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

    def storage_domain_remove_exported(
        self, storage_domain_id: StorageDomainId, request: RemoveExported
    ) -> Job:
        verb = export_verbs.STORAGE_DOMAIN_REMOVE_EXPORTED
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
