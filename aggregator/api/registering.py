"""Serve what came with storage domains, and order that it is registered."""

import flask

from aggregator import registering
from aggregator.api import caller, orders, storage
from aggregator.api import register_verbs as verbs
from aggregator.api.model import OrderLine
from aggregator.api.register_model import RegisterNewcomer
from aggregator.api.storage_model import ActOnStorage
from aggregator.services import Services
from node.http import face
from node.model import register_verbs as node_verbs
from node.model.ids import StorageDomainId
from node.model.storage_requests import ActOnStorageDomain
from node.model.unregistered import Unregistered


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes below /v1/storage-domains/{storage_domain_id}."""
    routes = flask.Blueprint("registering", __name__)

    def show(storage_domain_id: str) -> Unregistered:
        return registering.lying(services, StorageDomainId(storage_domain_id))

    def add(request: RegisterNewcomer, storage_domain_id: str) -> OrderLine:
        where = StorageDomainId(storage_domain_id)
        made = registering.register(
            services,
            where,
            request.vm,
            caller.origin(),
            renews_macs=request.renews_macs,
        )
        return orders.line(services.mirror.view, made)

    def write_ovf(request: ActOnStorage, storage_domain_id: str) -> OrderLine:
        verb = node_verbs.STORAGE_DOMAIN_WRITE_OVF
        return storage.order(services, verb, storage_domain_id, ActOnStorageDomain())

    face.bind(routes, verbs.STORAGE_DOMAIN_UNREGISTERED, show)
    face.bind(routes, verbs.STORAGE_DOMAIN_REGISTER_VM, add)
    face.bind(routes, verbs.STORAGE_DOMAIN_WRITE_OVF, write_ovf)
    return routes
