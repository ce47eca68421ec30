"""Show and change the disk profiles of data storage domains."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from aggregator.federation.view import StorageDomainRow
from aggregator.policies.profiles import DiskProfile
from aggregator.rest import parents, permissions, qoss, replies, select
from aggregator.rest.body import Body, Incomplete
from aggregator.rest.call import Call, Collection, Deed, Reply, Write
from aggregator.rest.resource import (
    Below,
    Context,
    Entity,
    Field,
    Reference,
    Resource,
)
from aggregator.rest.search import Query, SearchField
from aggregator.rest.storage import Domain
from aggregator.services import Services
from node.model.ids import DiskId, StorageDomainId
from node.model.verbs import ActionGroup, Object


def _qos(context: Context, row: DiskProfile) -> str | None:
    qos = context.fleet.profiles.qoss.get(row.qos_id or "")
    return qoss.path(qos) if qos is not None else None


RESOURCE: Final[Resource[DiskProfile]] = Resource(
    "disk_profile",
    "disk_profiles",
    lambda row: row.profile_id,
    (
        Field("name", lambda context, row: row.name),
        Field("description", lambda context, row: row.description),
    ),
    (
        Reference(
            "storage_domain",
            lambda context, row: f"storagedomains/{row.storage_domain_id}",
        ),
        Reference("qos", _qos),
    ),
    (
        Below(
            "permissions",
            permissions.RESOURCE,
            lambda context, row: permissions.on(
                context, Object.STORAGE_DOMAIN, row.storage_domain_id
            ),
        ),
    ),
)

_FIELDS: Final[Mapping[str, SearchField[DiskProfile]]] = {
    "name": SearchField(lambda row: row.name)
}


def of(context: Context, row: StorageDomainRow) -> Iterator[DiskProfile]:
    """Return the profiles of a storage domain: only data has some."""
    return context.fleet.profiles.on(row)


def of_disk(
    context: Context, disk_id: DiskId, places: Iterable[StorageDomainId]
) -> str | None:
    """Return where the profile of a disk is found, from the base."""
    profile = context.fleet.profiles.of_disk(context.view, disk_id, places)
    return f"diskprofiles/{profile.profile_id}" if profile is not None else None


def choose(
    call: Call, body: Body, disk_id: DiskId, places: tuple[StorageDomainId, ...]
) -> None:
    """Give a disk the profile that a body of it names, if it names one."""
    wanted = body.child("disk_profile").object_id()
    if wanted is not None:
        profiles = call.services.orders.profiles
        profiles.choose(call.context.view, disk_id, wanted, places)


def _find(services: Services, context: Context, object_id: str) -> DiskProfile | None:
    return context.fleet.profiles.find(context.view, object_id)


def _select(call: Call, query: Query, maximum: int | None) -> Iterable[DiskProfile]:
    found = call.context.fleet.profiles.all(call.context.view)
    return select.rows(found, query, maximum, _FIELDS)


def _add(call: Call, path: tuple[str, ...]) -> Reply:
    where = parents.storage_domain(call.context, call.body.child("storage_domain"))
    if where is None:
        raise Incomplete("DiskProfile [storageDomain.id] required for add")
    return _make(call, where.storage_domain_id)


def _add_to(call: Call, row: Domain, ids: tuple[str, ...]) -> Reply:
    return _make(call, row.row.storage_domain_id)


def _make(call: Call, storage_domain_id: StorageDomainId) -> Reply:
    name = call.body.string("name")
    if not name:
        raise Incomplete("DiskProfile [name] required for add")
    made = call.services.orders.profiles.make(
        call.context.view,
        name,
        storage_domain_id,
        call.body.string("description") or "",
        call.body.child("qos").object_id(),
    )
    return Reply(_entity(made), 201)


def _update(call: Call, path: tuple[str, ...]) -> Reply:
    changed = call.services.orders.profiles.change(
        call.context.view,
        path[0],
        name=call.body.string("name"),
        description=call.body.string("description"),
        qos_id=_wanted_qos(call.body.child("qos")),
    )
    return Reply(_entity(changed))


def _wanted_qos(body: Body) -> str | None:
    """Return the QoS that is named; empty: none, as an empty element says."""
    if not body.is_present:
        return None
    return body.object_id() or ""


def _remove(call: Call, path: tuple[str, ...]) -> Reply:
    call.services.orders.profiles.remove(call.context.view, path[0])
    return Reply(replies.action(call, None))


def _entity(profile: DiskProfile) -> Entity:
    return Entity(RESOURCE, profile, f"diskprofiles/{profile.profile_id}")


_GROUP: Final = ActionGroup.CONFIGURE_DISK_PROFILE
DEEDS: Final[tuple[Deed[Domain], ...]] = (
    Deed("POST", ("diskprofiles",), _GROUP, _add_to),
)
COLLECTION: Final = Collection(
    "diskprofiles",
    RESOURCE,
    Object.FLEET,
    _find,
    _select,
    add=Write(_GROUP, _add),
    update=Write(_GROUP, _update),
    remove=Write(_GROUP, _remove),
    is_searchable=False,
)
