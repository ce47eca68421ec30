"""Read what waits on storage domains, and order its registration: for all faces."""

from aggregator.control import registering, routes
from aggregator.control.order import Order, Origin
from aggregator.services import Services
from node.model import register_verbs as node_verbs
from node.model.ids import NodeId, StorageDomainId
from node.model.unregistered import RegisterVm, Unregistered


def lying(services: Services, storage_domain_id: StorageDomainId) -> Unregistered:
    """Return what waits on a storage domain, as the pool's manager reads it."""
    node_id = _manager(services, storage_domain_id)
    return services.node(node_id).storage_domain_unregistered(storage_domain_id)


def register(
    services: Services,
    storage_domain_id: StorageDomainId,
    asked: RegisterVm,
    origin: Origin,
    *,
    renews_macs: bool,
) -> Order:
    """Order that a VM which waits becomes one of the pool.

    VmNotLying, NameTaken, and what the manager refuses with.
    """
    found = registering.find(lying(services, storage_domain_id), asked.vm_id)
    request = registering.request(
        services.mirror.view, found, asked, renews_macs=renews_macs
    )
    verb = node_verbs.STORAGE_DOMAIN_REGISTER_VM
    return services.orders.act_on_storage(verb, storage_domain_id, request, origin)


def _manager(services: Services, storage_domain_id: StorageDomainId) -> NodeId:
    view = services.mirror.view
    row = routes.domain(view, storage_domain_id)
    if row.pool_id is None:
        return routes.up(view, row.node_id).node_id
    return routes.manager(view, row.pool_id)
