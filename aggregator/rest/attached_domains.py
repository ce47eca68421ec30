"""Show and change the storage domains that are attached to a data center."""

from collections.abc import Callable, Iterable
from typing import Final

from aggregator.control.orders import Order
from aggregator.federation.view import StorageDomainRow
from aggregator.rest import parents, replies, storage, storage_domains
from aggregator.rest.body import Incomplete
from aggregator.rest.call import PARAMETER, Call, Deed, NoSuchObject, Reply
from aggregator.rest.fleet import DataCenter
from aggregator.rest.resource import Below, Context, Entity, Field, Reference, Resource
from aggregator.rest.storage import Domain
from node.errors import Conflict
from node.model import storage_verbs as verbs
from node.model.job import JobState
from node.model.storage import DomainState, DomainType
from node.model.storage_requests import ActOnStorageDomain, AttachStorageDomain
from node.model.verb import Verb
from node.model.verbs import ActionGroup

_REL: Final = "storagedomains"
# Both write some small files; clients expect a detached one to be gone.
_ATTACH_S: Final = 10.0
_DETACH_S: Final = 10.0


class AlreadyAttached(Conflict):
    code = "storage_domain_attached"
    remedy = "Detach it from the other data center first."


class NoLocalPool(Conflict):
    code = "no_local_pool"
    remedy = "Let the host have a folder for its local pool."


class NotInMaintenance(Conflict):
    code = "storage_domain_not_in_maintenance"
    remedy = "Deactivate it first, and wait until it is in maintenance."


def _status(context: Context, row: Domain) -> str:
    """Return how it is; nobody knows while all who said so are silent."""
    if all(sight.is_silent for sight in row.row.sights.values()):
        return "unknown"
    return storage_domains.STATUS[row.row.state]


RESOURCE: Final[Resource[Domain]] = Resource(
    "storage_domain",
    "storage_domains",
    lambda row: row.row.storage_domain_id,
    (*storage_domains.FIELDS, Field("status", _status)),
    (
        Reference("host", storage_domains.host),
        Reference("data_center", lambda context, row: _data_center(context, row)),
    ),
    (storage_domains.DISKS,),
    ("activate", "deactivate"),
)


def _data_center(context: Context, row: Domain) -> str:
    return f"datacenters/{storage.data_center_of_pool(context, row.row.pool_id)}"


def _of(context: Context, row: DataCenter) -> Iterable[Domain]:
    found = storage.domains_of(context, row.data_center_id)
    return map(storage.domain_of, found)


BELOW: Final[Below[DataCenter]] = Below(_REL, RESOURCE, _of)


def _attach(call: Call, data_center: DataCenter, ids: tuple[str, ...]) -> Reply:
    row = parents.storage_domain(call.context, call.body)
    if row is None:
        raise Incomplete("StorageDomain [id|name] required for add")
    if row.pool_id is not None:
        raise AlreadyAttached(
            f"Cannot attach Storage. Storage domain {row.name} is attached already.",
            name=row.name,
        )
    order = replies.wait(call, _order_to_attach(call, data_center, row))
    if order.state is JobState.DONE:
        replies.see(
            call,
            lambda view: (
                view.storage_domains[row.storage_domain_id].pool_id is not None
            ),
        )
    newest = call.services.mirror.view.storage_domains.get(row.storage_domain_id, row)
    return Reply(_entity(data_center, newest), 202)


def _order_to_attach(
    call: Call, data_center: DataCenter, row: StorageDomainRow
) -> Order:
    """Attach to the pool that is shared; a folder of a host to that host's own."""
    if row.kind is not DomainType.LOCALFS:
        return call.services.orders.storage.attach_domain(
            row.storage_domain_id,
            call.origin,
            data_center_id=data_center.data_center_id,
        )
    pool = storage.local_pool(call.context, row.node_id)
    if pool is None:
        raise NoLocalPool(f"the host of storage domain {row.name} has no local pool")
    connection = storage.domain_of(row).document.storage_domain.connection
    attach = AttachStorageDomain(pool.pool_id, connection)
    verb = verbs.STORAGE_DOMAIN_ATTACH
    storage_domain_id = row.storage_domain_id
    order = replies.storage_order(call, verb, storage_domain_id, attach)
    if replies.wait(call, order, _ATTACH_S).state is not JobState.DONE:
        return order
    verb = verbs.STORAGE_DOMAIN_ACTIVATE
    return replies.storage_order(call, verb, storage_domain_id, ActOnStorageDomain())


def _detach(call: Call, data_center: DataCenter, ids: tuple[str, ...]) -> Reply:
    row = _row(call, data_center, ids[0])
    is_forced = call.parameters.flag("force")
    if row.state is not DomainState.MAINTENANCE and not is_forced:
        raise NotInMaintenance(
            f"Cannot detach Storage. Storage domain {row.name} is not in maintenance.",
            name=row.name,
        )
    request = ActOnStorageDomain(is_forced=is_forced)
    storage_domain_id = row.storage_domain_id
    verb = verbs.STORAGE_DOMAIN_DETACH
    order = replies.storage_order(call, verb, storage_domain_id, request)
    order = replies.wait(call, order, _DETACH_S)
    if order.state is JobState.DONE:
        replies.see(
            call,
            lambda view: view.storage_domains[storage_domain_id].pool_id is None,
        )
    return Reply(replies.action(call, order))


def _turn(verb: Verb) -> Callable[[Call, DataCenter, tuple[str, ...]], Reply]:
    def run(call: Call, data_center: DataCenter, ids: tuple[str, ...]) -> Reply:
        row = _row(call, data_center, ids[0])
        request = ActOnStorageDomain(is_forced=bool(call.body.boolean("force")))
        storage_domain_id = row.storage_domain_id
        order = replies.storage_order(call, verb, storage_domain_id, request)
        return replies.follow(call, order)

    return run


def _row(call: Call, data_center: DataCenter, object_id: str) -> StorageDomainRow:
    for row in storage.domains_of(call.context, data_center.data_center_id):
        if row.storage_domain_id == object_id:
            return row
    text = f"storage domain {object_id} is not attached to {data_center.name}"
    raise NoSuchObject(text, storage_domain_id=object_id)


def _entity(data_center: DataCenter, row: StorageDomainRow) -> Entity:
    path = f"datacenters/{data_center.data_center_id}/{_REL}/{row.storage_domain_id}"
    return Entity(RESOURCE, storage.domain_of(row), path)


_MANIPULATE: Final = ActionGroup.MANIPULATE_STORAGE_DOMAIN
_ONE: Final = (_REL, PARAMETER)

DEEDS: Final[tuple[Deed[DataCenter], ...]] = (
    Deed("POST", (_REL,), _MANIPULATE, _attach),
    Deed("DELETE", _ONE, _MANIPULATE, _detach),
    Deed(
        "POST",
        (*_ONE, "activate"),
        _MANIPULATE,
        _turn(verbs.STORAGE_DOMAIN_ACTIVATE),
    ),
    Deed(
        "POST",
        (*_ONE, "deactivate"),
        _MANIPULATE,
        _turn(verbs.STORAGE_DOMAIN_MAINTAIN),
    ),
)
