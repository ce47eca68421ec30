"""Serve what came with storage domains, and the registering of it."""

from typing import Protocol

import flask

from node.http import face
from node.model import register_verbs as verbs
from node.model.ids import StorageDomainId
from node.model.job import Job
from node.model.storage_requests import ActOnStorageDomain
from node.model.unregistered import RegisterVm, Unregistered


class Writes(Protocol):
    """What writes OVF_STOREs: `node.storage.pools.service` does."""

    def storage_domain_write_ovf(
        self, storage_domain_id: StorageDomainId, request: ActOnStorageDomain
    ) -> Job: ...


class Lists(Protocol):
    """What reads a storage domain: `node.storage.pools.newcomers` does."""

    def lying(self, storage_domain_id: StorageDomainId) -> Unregistered: ...


class Registers(Protocol):
    """What makes VMs of it: `node.vm.registering` does."""

    def register(
        self, storage_domain_id: StorageDomainId, request: RegisterVm
    ) -> Job: ...


def blueprint(
    storage: Writes, newcomers: Lists, registrar: Registers
) -> flask.Blueprint:
    """Return the routes below /v1/storage-domains/{storage_domain_id}."""
    routes = flask.Blueprint("registering", __name__)

    def lying(storage_domain_id: str) -> Unregistered:
        return newcomers.lying(StorageDomainId(storage_domain_id))

    def register(request: RegisterVm, storage_domain_id: str) -> Job:
        return registrar.register(StorageDomainId(storage_domain_id), request)

    def write_ovf(request: ActOnStorageDomain, storage_domain_id: str) -> Job:
        where = StorageDomainId(storage_domain_id)
        return storage.storage_domain_write_ovf(where, request)

    for verb, handler in (
        (verbs.STORAGE_DOMAIN_UNREGISTERED, lying),
        (verbs.STORAGE_DOMAIN_REGISTER_VM, register),
        (verbs.STORAGE_DOMAIN_WRITE_OVF, write_ovf),
    ):
        face.bind(routes, verb, handler)
    return routes
