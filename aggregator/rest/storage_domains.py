"""Show the storage domains of the fleet, with what is on them.

Whether one is attached, and how it is there, oVirt tells below its data center:
here a status is said only of those that are attached to none.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from aggregator.federation.view import StorageDomainRow
from aggregator.rest import (
    devices,
    disk_profiles,
    disks,
    element,
    newcomers,
    permissions,
    select,
    storage,
    storage_connections,
    templates,
    vms,
)
from aggregator.rest.call import Call
from aggregator.rest.devices import VmRow
from aggregator.rest.disks import Entry
from aggregator.rest.element import Element
from aggregator.rest.resource import (
    Below,
    Context,
    Field,
    Reference,
    Resource,
    empty,
)
from aggregator.rest.search import Kind, Query, SearchField
from aggregator.rest.storage import Domain
from aggregator.services import Services
from node.model.ids import StorageDomainId
from node.model.storage import ContentType, DomainClass, DomainState
from node.model.verbs import Object

STATUS: Final[Mapping[DomainState, str]] = {
    DomainState.UNATTACHED: "unattached",
    DomainState.ACTIVATING: "activating",
    DomainState.ACTIVE: "active",
    DomainState.UNREACHABLE: "inactive",
    DomainState.DEACTIVATING: "preparing_for_maintenance",
    DomainState.MAINTENANCE: "maintenance",
    DomainState.DETACHING: "detaching",
    DomainState.LOCKED: "locked",
}
# oVirt's names of layouts: ISO and export domains never had another.
_FORMATS: Final[Mapping[DomainClass, str]] = {
    DomainClass.DATA: "v5",
    DomainClass.ISO: "v1",
    DomainClass.EXPORT: "v1",
}


def _used(row: StorageDomainRow) -> int:
    return row.total_bytes - row.free_bytes


def _committed(row: StorageDomainRow) -> int:
    """Return what is taken, and what thin disks may still take."""
    return _used(row) + row.committed_bytes


def _external_status(row: StorageDomainRow) -> str:
    return "ok" if row.reason is None else "warning"


def _if_measured(context: Context, row: Domain) -> bool:
    """Tell whether a node has ever measured it; the sizes are 0 before."""
    return row.row.total_bytes > 0


def _is_master(context: Context, row: Domain) -> bool:
    """Tell whether it is the master of a data center's pool: there is but one."""
    pool_id = row.row.pool_id
    pool = context.view.pools.get(pool_id) if pool_id is not None else None
    if pool is None or pool.is_local:
        return False
    return pool.master == row.row.storage_domain_id


def _unattached(context: Context, row: Domain) -> str | None:
    return STATUS[DomainState.UNATTACHED] if row.row.pool_id is None else None


def _data_centers(context: Context, row: Domain) -> Element | None:
    data_center_id = storage.data_center_of_pool(context, row.row.pool_id)
    if data_center_id is None:
        return None
    href = f"{context.base}/datacenters/{data_center_id}"
    one = element.reference("data_center", href, data_center_id)
    return element.listed("data_centers", (one,))


def host(context: Context, row: Domain) -> str | None:
    """Return the only host that reaches a storage domain, if it is one's alone."""
    is_local = storage.is_local(context, row.row)
    return f"hosts/{row.row.node_id}" if is_local else None


FIELDS: Final[tuple[Field[Domain], ...]] = (
    Field("name", lambda context, row: row.row.name),
    Field("description", lambda context, row: row.row.description),
    Field("comment", lambda context, row: ""),
    Field("type", lambda context, row: row.row.domain_class.value),
    Field("master", _is_master),
    Field("external_status", lambda context, row: _external_status(row.row)),
    Field(
        "storage",
        lambda context, row: storage_connections.as_storage(
            row.document.storage_domain.connection
        ),
    ),
    Field("storage_format", lambda context, row: _FORMATS[row.row.domain_class]),
    Field(
        "available",
        lambda context, row: row.row.free_bytes if _if_measured(context, row) else None,
    ),
    Field(
        "used",
        lambda context, row: _used(row.row) if _if_measured(context, row) else None,
    ),
    Field("committed", lambda context, row: _committed(row.row)),
    Field("block_size", lambda context, row: row.document.storage_domain.sector_bytes),
    Field(
        "wipe_after_delete",
        lambda context, row: row.document.storage_domain.wipe_after_delete,
    ),
    Field("discard_after_delete", lambda context, row: False),
    Field("supports_discard", lambda context, row: False),
    Field("supports_discard_zeroes_data", lambda context, row: False),
    Field("backup", lambda context, row: False),
    # Nothing is held back when it gets full; its health check warns.
    Field("warning_low_space_indicator", lambda context, row: 0),
    Field("critical_space_action_blocker", lambda context, row: 0),
)


# what is on it


def _disks(context: Context, row: Domain) -> Iterable[Entry]:
    """Yield its disks; all are known, so that none waits to be registered."""
    if context.is_unregistered:
        return ()
    return disks.on(context, row.row.storage_domain_id)


def _vms(context: Context, row: Domain) -> Iterable[VmRow]:
    """Yield the VMs that have a disk on it, or those that wait or are kept there."""
    if context.is_unregistered or _is_export(row):
        yield from newcomers.rows(context, row)
        return
    view = context.view
    found = {
        vm_id
        for disk_id, disk in view.disks.items()
        if row.row.storage_domain_id in disk.storage_domain_ids
        for vm_id in view.disk_users.get(disk_id, ())
    }
    for _, vm_id in view.vm_order:
        if vm_id in found:
            yield devices.row_of(view.vms[vm_id])


def _templates(context: Context, row: Domain) -> Iterable[templates.Template]:
    """Yield the templates with a disk on it, or those that wait or are kept there."""
    if context.is_unregistered or _is_export(row):
        yield from newcomers.template_rows(context, row)
        return
    view, here = context.view, row.row.storage_domain_id
    for each in view.templates.values():
        disks = (view.disks.get(disk_id) for disk_id in each.disk_ids)
        if any(disk and here in disk.storage_domain_ids for disk in disks):
            yield templates.of_row(each)


def _is_export(row: Domain) -> bool:
    return row.row.domain_class is DomainClass.EXPORT


def _files(context: Context, row: Domain) -> Iterable[Entry]:
    """Yield the CD images on it."""
    for entry in disks.on(context, row.row.storage_domain_id):
        if entry.document.content is ContentType.ISO:
            yield entry


FILE: Final[Resource[Entry]] = Resource(
    "file",
    "files",
    lambda row: row.document.disk_id,
    (
        Field("name", lambda context, row: row.document.name),
        Field("type", lambda context, row: "iso"),
    ),
    (
        Reference(
            "storage_domain",
            lambda context, row: next(
                (f"storagedomains/{each}" for each in row.document.storage_domain_ids),
                None,
            ),
        ),
    ),
)

DISKS: Final[Below[Domain]] = Below("disks", disks.RESOURCE, _disks)

RESOURCE: Final[Resource[Domain]] = Resource(
    "storage_domain",
    "storage_domains",
    lambda row: row.row.storage_domain_id,
    (
        *FIELDS,
        Field("status", _unattached),
        Field("data_centers", _data_centers),
    ),
    (Reference("host", host),),
    (
        DISKS,
        Below("files", FILE, _files),
        Below("vms", vms.RESOURCE, _vms),
        Below("templates", templates.RESOURCE, _templates),
        Below(
            "storageconnections",
            storage_connections.RESOURCE,
            storage_connections.of_domain,
        ),
        Below(
            "diskprofiles",
            disk_profiles.RESOURCE,
            lambda context, row: disk_profiles.of(context, row.row),
        ),
        empty("disksnapshots", "disk_snapshots", "disk_snapshot"),
        Below(
            "permissions",
            permissions.RESOURCE,
            lambda context, row: permissions.on(
                context, Object.STORAGE_DOMAIN, row.row.storage_domain_id
            ),
        ),
    ),
    ("isattached",),
)


# finding


def find(services: Services, context: Context, object_id: str) -> Domain | None:
    """Return the object of an id, or None if there is none."""
    row = context.view.storage_domains.get(StorageDomainId(object_id))
    return storage.domain_of(row) if row is not None else None


def _fields(context: Context) -> Mapping[str, SearchField[StorageDomainRow]]:
    def data_center(row: StorageDomainRow) -> str | None:
        wanted = storage.data_center_of_pool(context, row.pool_id)
        for each in context.fleet.data_centers:
            if each.data_center_id == wanted:
                return each.name
        return None

    def hosts(row: StorageDomainRow) -> tuple[str, ...]:
        nodes = context.view.nodes
        return tuple(nodes[each].name for each in row.sights if each in nodes)

    status: SearchField[StorageDomainRow] = SearchField(
        lambda row: STATUS[row.state], Kind.STATUS
    )
    return {
        "id": SearchField(lambda row: row.storage_domain_id),
        "name": SearchField(lambda row: row.name),
        "description": SearchField(lambda row: row.description),
        "comment": SearchField(lambda row: "", is_free=False),
        "status": status,
        "shared_status": status,
        "external_status": SearchField(_external_status, Kind.STATUS),
        "type": SearchField(lambda row: row.kind.value),
        "size": SearchField(lambda row: row.total_bytes, Kind.NUMBER),
        "used": SearchField(_used, Kind.NUMBER),
        "committed": SearchField(_committed, Kind.NUMBER),
        "datacenter": SearchField(data_center),
        "datacenter.name": SearchField(data_center),
        "host.name": SearchField(hosts),
    }


def rows(call: Call, query: Query, maximum: int | None) -> Iterable[Domain]:
    """Return the storage domains that are asked for."""
    found = select.rows(
        storage.domain_rows(call.context),
        query,
        maximum,
        _fields(call.context),
        is_case_sensitive=call.parameters.flag("case_sensitive"),
    )
    return map(storage.domain_of, found)
