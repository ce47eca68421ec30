"""Show one disk profile for each data storage domain: no disk is limited by it."""

from collections.abc import Iterable, Mapping
from typing import Final

from aggregator.federation.view import StorageDomainRow
from aggregator.rest import permissions, select, storage
from aggregator.rest.call import Call, Collection
from aggregator.rest.resource import Below, Context, Field, Reference, Resource
from aggregator.rest.search import Query, SearchField
from aggregator.services import Services
from node.model.storage import DomainClass
from node.model.verbs import Object

RESOURCE: Final[Resource[StorageDomainRow]] = Resource(
    "disk_profile",
    "disk_profiles",
    lambda row: storage.profile_id(row.storage_domain_id),
    (Field("name", lambda context, row: row.name),),
    (
        Reference(
            "storage_domain",
            lambda context, row: f"storagedomains/{row.storage_domain_id}",
        ),
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

_FIELDS: Final[Mapping[str, SearchField[StorageDomainRow]]] = {
    "name": SearchField(lambda row: row.name)
}


def of(row: StorageDomainRow) -> tuple[StorageDomainRow, ...]:
    """Return the profiles of a storage domain: only data has one."""
    return (row,) if row.domain_class is DomainClass.DATA else ()


def _all(context: Context) -> Iterable[StorageDomainRow]:
    return (each for row in storage.domain_rows(context) for each in of(row))


def _find(
    services: Services, context: Context, object_id: str
) -> StorageDomainRow | None:
    return next(
        (row for row in _all(context) if RESOURCE.object_id(row) == object_id), None
    )


def _select(
    call: Call, query: Query, maximum: int | None
) -> Iterable[StorageDomainRow]:
    return select.rows(_all(call.context), query, maximum, _FIELDS)


COLLECTION: Final = Collection(
    "diskprofiles", RESOURCE, Object.FLEET, _find, _select, is_searchable=False
)
