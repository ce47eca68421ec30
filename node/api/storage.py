"""Serve the pools, storage domains and disks of this node.

Each verb of `node.model.storage_verbs` is a method of its name.
"""

from typing import Protocol

import flask

from node.http import face
from node.model import storage_requests as bodies
from node.model import storage_verbs
from node.model.ids import DiskId, PoolId, StorageDomainId
from node.model.job import Job
from node.model.storage import DiskDocument, PoolDocument, StorageDomainDocument
from node.model.verb import Verb


class StorageVerbs(Protocol):
    """What answers: from memory, but for looks and checks, which are bounded."""

    def storage_domain_list(self) -> bodies.StorageDomainList: ...

    def storage_domain_show(
        self, storage_domain_id: StorageDomainId
    ) -> StorageDomainDocument: ...

    def storage_domain_create(self, request: bodies.CreateStorageDomain) -> Job: ...

    def storage_domain_look(
        self, request: bodies.LookForStorageDomains
    ) -> bodies.FoundStorageDomains: ...

    def storage_domain_import(self, request: bodies.ImportStorageDomain) -> Job: ...

    def storage_domain_attach(
        self, storage_domain_id: StorageDomainId, request: bodies.AttachStorageDomain
    ) -> Job: ...

    def storage_domain_change(
        self, storage_domain_id: StorageDomainId, request: bodies.ChangeStorageDomain
    ) -> Job: ...

    def storage_domain_activate(
        self, storage_domain_id: StorageDomainId, request: bodies.ActOnStorageDomain
    ) -> Job: ...

    def storage_domain_maintain(
        self, storage_domain_id: StorageDomainId, request: bodies.ActOnStorageDomain
    ) -> Job: ...

    def storage_domain_detach(
        self, storage_domain_id: StorageDomainId, request: bodies.ActOnStorageDomain
    ) -> Job: ...

    def storage_domain_remove(
        self, storage_domain_id: StorageDomainId, request: bodies.RemoveStorageDomain
    ) -> Job: ...

    def storage_domain_check(
        self, storage_domain_id: StorageDomainId
    ) -> bodies.StorageProblems:
        """Read all disks anew; `node.storage.disks.problems` puts it in words."""

    def storage_domain_repair(
        self, storage_domain_id: StorageDomainId, request: bodies.RepairStorage
    ) -> Job:
        """Mend all that a check offers to repair, each after a look of its own.

        What needs a person is passed over. The steps of the job name the disks.
        """

    def pool_list(self) -> bodies.PoolList: ...

    def pool_show(self, pool_id: PoolId) -> PoolDocument: ...

    def pool_create(self, request: bodies.CreatePool) -> Job: ...

    def pool_connect(self, pool_id: PoolId, request: bodies.ConnectPool) -> Job: ...

    def pool_disconnect(self, pool_id: PoolId, request: bodies.ActOnPool) -> Job: ...

    def pool_move_master(self, pool_id: PoolId, request: bodies.MoveMaster) -> Job: ...

    def spm_become(self, pool_id: PoolId, request: bodies.BecomeSpm) -> Job: ...

    def spm_leave(self, pool_id: PoolId, request: bodies.LeaveSpm) -> Job: ...

    def spm_priority(
        self, pool_id: PoolId, request: bodies.SetSpmPriority
    ) -> PoolDocument:
        """Publish another priority of this node; refuse one that is none."""

    def disk_list(self) -> bodies.DiskList: ...

    def disk_show(self, disk_id: DiskId) -> DiskDocument: ...

    def disk_create(self, request: bodies.CreateDisk) -> Job: ...

    def disk_delete(self, disk_id: DiskId, request: bodies.ActOnDisk) -> Job: ...

    def disk_resize(self, disk_id: DiskId, request: bodies.ResizeDisk) -> Job: ...

    def disk_change(self, disk_id: DiskId, request: bodies.ChangeDisk) -> Job: ...

    def disk_copy(self, disk_id: DiskId, request: bodies.CopyDisk) -> Job: ...

    def disk_move(self, disk_id: DiskId, request: bodies.MoveDisk) -> Job: ...

    def disk_sparsify(self, disk_id: DiskId, request: bodies.SparsifyDisk) -> Job: ...


def blueprint(storage: StorageVerbs) -> flask.Blueprint:
    """Return the routes below /v1/storage-domains, /v1/pools and /v1/disks."""
    routes = flask.Blueprint("storage", __name__)
    for verb in storage_verbs.VERBS:
        face.bind(routes, verb, _handler(verb, getattr(storage, verb.name)))
    return routes


def _handler(verb: Verb, method: face.Handler) -> face.Handler:
    if verb.request is None:
        return method
    return lambda request, **path: method(**path, request=request)
