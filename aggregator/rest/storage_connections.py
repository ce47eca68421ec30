"""Show where storage lies, as oVirt's storage connections.

A connection is told of before there is something on it, and kept with the fleet's
documents, or it is that of a storage domain and goes with it. Where storage domains
lie is changed while all that lie there are in maintenance, as in oVirt.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from aggregator.federation.view import StorageDomainRow, View
from aggregator.rest import element, fleet, replies, select, storage
from aggregator.rest.body import BadValue, Body, Incomplete
from aggregator.rest.call import Call, Collection, NoSuchObject, Reply, Write
from aggregator.rest.element import Content, Element
from aggregator.rest.new_vm import random_id
from aggregator.rest.resource import Context, Entity, Field, Resource
from aggregator.rest.search import Query, SearchField
from aggregator.rest.storage import Domain
from aggregator.services import Services
from node import wire
from node.errors import Conflict, Unsupported
from node.model.storage import Connection, DomainState, DomainType
from node.model.storage_requests import ChangeStorageDomain
from node.model.verbs import ActionGroup, Object

_KINDS: Final[Mapping[str, DomainType]] = {
    "localfs": DomainType.LOCALFS,
    "nfs": DomainType.NFS,
    "posixfs": DomainType.POSIXFS,
}
_OTHER_KINDS: Final = frozenset(
    {"cinder", "fcp", "glance", "glusterfs", "iscsi", "managed_block_storage"}
)
_NFS_VERSIONS: Final[Mapping[str, str]] = {
    "auto": "",
    "v3": "3",
    "v4": "4",
    "v4_0": "4.0",
    "v4_1": "4.1",
    "v4_2": "4.2",
}
# What each kind cannot do without.
_NEEDED: Final[Mapping[DomainType, tuple[str, ...]]] = {
    DomainType.LOCALFS: ("path",),
    DomainType.NFS: ("address", "path"),
    DomainType.POSIXFS: ("path",),
}
_VERSION_NAMES: Final = {version: name for name, version in _NFS_VERSIONS.items()}
_NAMES: Final = (
    "type",
    "address",
    "path",
    "vfs_type",
    "nfs_version",
    "mount_options",
)


# Another place is mounted and joined, which takes sanlock a while.
_MOVE_S: Final = 60.0


class KindNotSupported(Unsupported):
    code = "storage_kind_not_supported"
    remedy = "Use NFS, a POSIX file system or a folder of the host."


class ConnectionInUse(Conflict):
    code = "storage_connection_in_use"
    remedy = "Put the storage domains there into maintenance first, or remove them."


@dataclass(frozen=True, slots=True)
class Place:
    connection_id: str
    connection: Connection
    domains: tuple[StorageDomainRow, ...] = ()  # that lie there

    @property
    def names(self) -> str:
        return ", ".join(each.name for each in self.domains)


def read(body: Body) -> Connection:
    """Return where the storage is; Incomplete or BadValue if it does not say."""
    kind = body.string("type")
    if kind is None:
        raise Incomplete("StorageDomain [storage.type] required for add")
    if kind in _OTHER_KINDS:
        raise KindNotSupported(f"storage of type {kind} is not supported", kind=kind)
    if kind not in _KINDS:
        raise BadValue(f"there is no storage type {kind!r}", field=f"{body.path}.type")
    found = _KINDS[kind]
    absent = [name for name in _NEEDED[found] if not body.string(name)]
    if absent:
        raise Incomplete(f"HostStorage [{', '.join(absent)}] required for add")
    version = body.string("nfs_version")
    if version is not None and version not in _NFS_VERSIONS:
        raise BadValue(f"there is no NFS version {version!r}", field="nfs_version")
    is_nfs, is_posix = found is DomainType.NFS, found is DomainType.POSIXFS
    address, path = body.string("address") or "", body.string("path") or ""
    return Connection(
        found,
        f"{address}:{path}" if address and is_posix else path,
        address=address if is_nfs else "",
        file_system=(body.string("vfs_type") or "") if is_posix else "",
        nfs_version=_NFS_VERSIONS[version or "auto"] if is_nfs else "",
        options=_options(body, is_nfs),
    )


def _options(body: Body, is_nfs: bool) -> str:
    """Return all options for mount; retries and timeouts are fields in oVirt."""
    options = [body.string("mount_options") or ""]
    if is_nfs:
        for name, option in (("nfs_retrans", "retrans"), ("nfs_timeo", "timeo")):
            number = body.integer(name)
            options.append(f"{option}={number}" if number is not None else "")
    return ",".join(filter(None, options))


def fields(connection: Connection) -> dict[str, Content]:
    """Return what oVirt shows of a connection, by name."""
    address, path = connection.address, connection.path
    if connection.kind is DomainType.POSIXFS and ":" in path:
        address, _, path = path.partition(":")
    is_nfs = connection.kind is DomainType.NFS
    return {
        "type": connection.kind.value,
        "address": address or None,
        "path": path,
        "vfs_type": connection.file_system or None,
        "nfs_version": _VERSION_NAMES.get(connection.nfs_version) if is_nfs else None,
        "mount_options": connection.options or None,
    }


def as_storage(connection: Connection) -> Element:
    """Return the `storage` of a storage domain."""
    shown = fields(connection).items()
    return Element("storage", children=element.nested(shown))


def wanted(context: Context, body: Body) -> Connection:
    """Return where a new storage domain shall be: a known connection, or another."""
    connection_id = body.object_id()
    if connection_id is None:
        return read(body)
    found = _find_place(context, connection_id)
    if found is None:
        text = f"there is no storage connection {connection_id}"
        raise NoSuchObject(text, connection_id=connection_id)
    return found.connection


def of_domain(context: Context, domain: Domain) -> tuple[Place, ...]:
    """Return the connection of a storage domain."""
    connection = domain.document.storage_domain.connection
    connection_id = next(
        (
            each.connection_id
            for each in context.fleet.connections
            if each.connection == connection
        ),
        fleet.derived_id("storageconnection", *map(str, fields(connection).values())),
    )
    return (Place(connection_id, connection, (domain.row,)),)


def places(context: Context) -> Iterator[Place]:
    """Yield all connections: those of storage domains once each, then the others."""
    found: dict[str, Place] = {}
    for row in storage.domain_rows(context):
        for place in of_domain(context, storage.domain_of(row)):
            before = found.get(place.connection_id)
            rows = (*before.domains, *place.domains) if before else place.domains
            found[place.connection_id] = replace(place, domains=rows)
    yield from found.values()
    for each in context.fleet.connections:
        if each.connection_id not in found:
            yield Place(each.connection_id, each.connection)


def _field(name: str) -> Field[Place]:
    return Field(name, lambda context, row: fields(row.connection)[name])


RESOURCE: Final[Resource[Place]] = Resource(
    "storage_connection",
    "storage_connections",
    lambda place: place.connection_id,
    tuple(map(_field, _NAMES)),
)

_FIELDS: Final[Mapping[str, SearchField[Place]]] = {
    "id": SearchField(lambda row: row.connection_id)
}


def _find_place(context: Context, object_id: str) -> Place | None:
    return next(
        (each for each in places(context) if each.connection_id == object_id), None
    )


def _find(services: Services, context: Context, object_id: str) -> Place | None:
    return _find_place(context, object_id)


def _select(call: Call, query: Query, maximum: int | None) -> Iterable[Place]:
    return select.rows(places(call.context), query, maximum, _FIELDS)


def _add(call: Call, path: tuple[str, ...]) -> Reply:
    connection = read(call.body)
    known = next((e for e in places(call.context) if e.connection == connection), None)
    if known is not None:
        raise Conflict(
            "Cannot add Storage Connection. Storage connection already exists."
        )
    return Reply(_put(call, random_id(), connection), 201)


def _update(call: Call, path: tuple[str, ...]) -> Reply:
    place = _place(call, path[0])
    if any(each.state is not DomainState.MAINTENANCE for each in place.domains):
        raise _in_use("edit", place)
    connection = _merged(place, call.body)
    if connection != place.connection:
        for row in place.domains:
            _move(call, row, connection)
    return Reply(_put(call, path[0], connection))


def _move(call: Call, row: StorageDomainRow, connection: Connection) -> None:
    """Let a storage domain in maintenance be reached by another connection."""
    request = ChangeStorageDomain(connection=connection)
    storage_domain_id = row.storage_domain_id
    orders = call.services.orders.storage
    order = orders.change_domain(storage_domain_id, request, call.origin)
    replies.wait(call, order, _MOVE_S, is_needed=True)

    def is_moved(view: View) -> bool:
        now = storage.domain_of(view.storage_domains[storage_domain_id])
        return now.document.storage_domain.connection == connection

    replies.see(call, is_moved)


def _remove(call: Call, path: tuple[str, ...]) -> Reply:
    place = _place(call, path[0])
    if place.domains:
        raise _in_use("remove", place)
    call.services.database.records("fleet").delete(fleet.connection_record(path[0]))
    return Reply(replies.action(call, None))


def _merged(place: Place, body: Body) -> Connection:
    """Return a connection with what a body says of it in place of what it was."""
    shown = fields(place.connection).items()
    before = tuple((key, Body(key, str(each))) for key, each in shown if each)
    return read(Body(body.path, None, (), (*body.children, *before)))


def _place(call: Call, object_id: str) -> Place:
    place = _find_place(call.context, object_id)
    if place is None:
        text = f"there is no storage connection {object_id}"
        raise NoSuchObject(text, connection_id=object_id)
    return place


def _in_use(verb: str, place: Place) -> ConnectionInUse:
    return ConnectionInUse(
        f"Cannot {verb} Storage Connection. Storage connection parameters are used"
        f" by the following storage domains : {place.names}."
    )


def _put(call: Call, connection_id: str, connection: Connection) -> Entity:
    """Keep a connection with the fleet's documents."""
    records = call.services.database.records("fleet")
    records.put(fleet.connection_record(connection_id), wire.to_json(connection))
    place = Place(connection_id, connection)
    return Entity(RESOURCE, place, f"storageconnections/{connection_id}")


COLLECTION: Final = Collection(
    "storageconnections",
    RESOURCE,
    Object.FLEET,
    _find,
    _select,
    add=Write(ActionGroup.CREATE_STORAGE_DOMAIN, _add),
    update=Write(ActionGroup.EDIT_STORAGE_DOMAIN, _update),
    remove=Write(ActionGroup.DELETE_STORAGE_DOMAIN, _remove),
    is_searchable=False,
)
