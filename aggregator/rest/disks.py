"""Show the disks of the fleet, as the managers of their pools tell of them."""

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.federation import view as views
from aggregator.federation.view import DiskRow, View
from aggregator.rest import (
    disk_profiles,
    element,
    new_disk,
    permissions,
    search,
    select,
    statistics,
    storage,
)
from aggregator.rest.call import Call
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
from aggregator.rest.statistics import Statistic
from aggregator.services import Services
from node import wire
from node.model.ids import DiskId, StorageDomainId, VmId
from node.model.storage import (
    Allocation,
    ContentType,
    DiskDocument,
    DiskFormat,
    DiskState,
)
from node.model.verbs import Object
from node.model.vm import Vm

_OVF_STORE: Final = views.fold("OVF_STORE")  # what oVirt calls them
STATUS: Final[Mapping[DiskState, str]] = {
    DiskState.OK: "ok",
    DiskState.LOCKED: "locked",
    DiskState.ILLEGAL: "illegal",
    # oVirt has no word for it; what is locked may be used again later.
    DiskState.UNREACHABLE: "locked",
}
FORMAT: Final[Mapping[DiskFormat, str]] = {
    disk_format: name for name, disk_format in new_disk.FORMATS.items()
}
_CONTENT: Final[Mapping[ContentType, str]] = {
    ContentType.MEMORY_DUMP: "memory_dump_volume",
    ContentType.MEMORY_METADATA: "memory_metadata_volume",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A disk with its document read, and the VMs that have it."""

    document: DiskDocument
    vm_ids: tuple[VmId, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What searches look at; a document is read only if they must."""

    disk_id: DiskId
    name: str
    size_bytes: int
    allocated_bytes: int
    state: DiskState
    storage_domain_ids: tuple[StorageDomainId, ...]
    vm_ids: tuple[VmId, ...]
    read: Callable[[], DiskDocument]

    @property
    def entry(self) -> Entry:
        return Entry(self.read(), self.vm_ids)


def entry_of(view: View, row: DiskRow) -> Entry:
    """Return a disk with its document read."""
    return _candidate(view, row).entry


# representation


def _total(context: Context, row: Entry) -> int:
    """Return what it takes on the storage; clients insist on more than nothing."""
    return row.document.allocated_bytes or row.document.size_bytes


def _image(context: Context, row: Entry) -> str:
    volumes = row.document.chain.volumes
    return volumes[-1] if volumes else row.document.disk_id


def _content(context: Context, row: Entry) -> str:
    content = row.document.content
    return _CONTENT.get(content, content.value)


def _references(
    context: Context, name: str, tag: str, rel: str, ids: Iterable[str]
) -> Element:
    return element.listed(
        name,
        (element.reference(tag, f"{context.base}/{rel}/{each}", each) for each in ids),
    )


def _vms(context: Context, row: Entry) -> Element | None:
    if not row.vm_ids:
        return None
    return _references(context, "vms", "vm", "vms", row.vm_ids)


def _storage_domains(context: Context, row: Entry) -> Element | None:
    ids = row.document.storage_domain_ids
    if not ids:
        return None
    names = ("storage_domains", "storage_domain", "storagedomains")
    return _references(context, *names, ids)


def _profile(context: Context, row: Entry) -> str | None:
    document = row.document
    return disk_profiles.of_disk(context, document.disk_id, document.storage_domain_ids)


def _statistics(context: Context, row: Entry) -> Iterator[Statistic]:
    """Yield the rates of a VM's only disk: they are measured for all together."""
    vm = context.view.vms.get(row.vm_ids[0]) if len(row.vm_ids) == 1 else None
    if vm is None or not vm.vm_document:
        return
    definition = wire.decode(Vm, vm.vm_document, strict=False)
    if len(definition.spec.disks) != 1:
        return
    for statistic in statistics.of_vm(context.view, vm):
        if statistic.figure in (statistics.DISK_READ, statistics.DISK_WRITE):
            yield statistic


RESOURCE: Final[Resource[Entry]] = Resource(
    "disk",
    "disks",
    lambda row: row.document.disk_id,
    (
        Field("name", lambda context, row: row.document.name),
        Field("alias", lambda context, row: row.document.name),
        Field("description", lambda context, row: row.document.description),
        Field("provisioned_size", lambda context, row: row.document.size_bytes),
        Field("actual_size", lambda context, row: row.document.allocated_bytes),
        Field("total_size", _total),
        Field("status", lambda context, row: STATUS[row.document.state]),
        Field("format", lambda context, row: FORMAT[row.document.disk_format]),
        Field(
            "sparse",
            lambda context, row: row.document.allocation is Allocation.THIN,
        ),
        Field("storage_type", lambda context, row: "image"),
        Field("content_type", _content),
        Field("image_id", _image),
        Field("shareable", lambda context, row: row.document.is_shared),
        Field("wipe_after_delete", lambda context, row: row.document.wipe_after_delete),
        Field("propagate_errors", lambda context, row: False),
        Field("backup", lambda context, row: "none"),
        Field("storage_domains", _storage_domains),
        Field("vms", _vms),
    ),
    (Reference("disk_profile", _profile),),
    (
        Below("statistics", statistics.RESOURCE, _statistics),
        Below(
            "permissions",
            permissions.RESOURCE,
            lambda context, row: permissions.on(
                context, Object.DISK, row.document.disk_id
            ),
        ),
        empty("disksnapshots", "disk_snapshots", "disk_snapshot"),
    ),
    ("copy", "move", "sparsify"),
)


# finding


def find(services: Services, context: Context, object_id: str) -> Entry | None:
    """Return the object of an id, or None if there is none."""
    row = context.view.disks.get(DiskId(object_id))
    return entry_of(context.view, row) if row is not None else None


def on(context: Context, storage_domain_id: StorageDomainId) -> Iterator[Entry]:
    """Yield the disks on a storage domain, by name."""
    view = context.view
    for _, disk_id in view.disk_order:
        row = view.disks[disk_id]
        if storage_domain_id in row.storage_domain_ids:
            yield entry_of(view, row)
    for row in _ovf_stores(view):
        if storage_domain_id in row.storage_domain_ids:
            yield entry_of(view, row)


def _ovf_stores(view: View) -> Iterator[DiskRow]:
    """Yield the disks that only oVirt's clients are shown, as oVirt does."""
    return (row for row in view.disks.values() if row.is_ovf_store)


def _candidate(view: View, row: DiskRow) -> _Candidate:
    return _Candidate(
        row.disk_id,
        row.name,
        row.size_bytes,
        row.allocated_bytes,
        row.state,
        row.storage_domain_ids,
        view.disk_users.get(row.disk_id, ()),
        lambda: storage.disk_document(row),
    )


def _fields(context: Context) -> Mapping[str, SearchField[_Candidate]]:
    view = context.view

    def vm_names(row: _Candidate) -> tuple[str, ...]:
        found = (view.vms.get(vm_id) for vm_id in row.vm_ids)
        return tuple(vm.name for vm in found if vm is not None)

    def storage_names(row: _Candidate) -> tuple[str, ...]:
        found = (view.storage_domains.get(each) for each in row.storage_domain_ids)
        return tuple(each.name for each in found if each is not None)

    def content(row: _Candidate) -> str:
        return _content(context, row.entry)

    return {
        "id": SearchField(lambda row: row.disk_id),
        "name": SearchField(lambda row: row.name),
        "alias": SearchField(lambda row: row.name),
        "description": SearchField(lambda row: row.read().description, is_free=False),
        "status": SearchField(lambda row: STATUS[row.state], Kind.STATUS),
        "disk_type": SearchField(lambda row: "image"),
        "disk_content_type": SearchField(content, is_free=False),
        "allocation_policy": SearchField(
            lambda row: row.read().allocation.value, is_free=False
        ),
        "provisioned_size": SearchField(lambda row: row.size_bytes, Kind.NUMBER),
        "size": SearchField(lambda row: row.size_bytes, Kind.NUMBER),
        "actual_size": SearchField(lambda row: row.allocated_bytes, Kind.NUMBER),
        "number_of_vms": SearchField(lambda row: len(row.vm_ids), Kind.NUMBER),
        "vm_names": SearchField(vm_names),
        "vm.name": SearchField(vm_names),
        "vm.id": SearchField(lambda row: tuple(row.vm_ids)),
        "storage": SearchField(storage_names),
        "storage.name": SearchField(storage_names),
        "storage.id": SearchField(lambda row: tuple(row.storage_domain_ids)),
        "wipe_after_delete": SearchField(
            lambda row: row.read().wipe_after_delete, Kind.TRUTH
        ),
        "shareable": SearchField(lambda row: row.read().is_shared, Kind.TRUTH),
        # There are no quotas: a search for one finds nothing.
        "quota": SearchField(lambda row: None),
    }


def rows(call: Call, query: Query, maximum: int | None) -> Iterable[Entry]:
    """Return the disks that are asked for; a page of all touches no others."""
    view = call.context.view
    if not query.alternatives and query.sort_field is None and maximum is not None:
        start = (query.page - 1) * maximum
        if start + maximum <= len(view.disk_order):
            page = view.disk_order[start : start + maximum]
            return (entry_of(view, view.disks[disk_id]) for _, disk_id in page)
    found = select.rows(
        _candidates(view, query),
        query,
        maximum,
        _fields(call.context),
        is_case_sensitive=call.parameters.flag("case_sensitive"),
    )
    return (candidate.entry for candidate in found)


def _candidates(view: View, query: Query) -> Iterator[_Candidate]:
    """Yield as few disks as the search allows, by name."""
    disk_id = DiskId((search.prefix(query, "id") or "").lower())
    if disk_id in view.disks:
        yield _candidate(view, view.disks[disk_id])
        return
    folded = views.fold(
        search.prefix(query, "name") or search.prefix(query, "alias") or ""
    )
    start = bisect.bisect_left(view.disk_order, (folded, DiskId("")))
    for key, disk_id in itertools.islice(view.disk_order, start, None):
        if not key.startswith(folded):
            break
        yield _candidate(view, view.disks[disk_id])
    if _OVF_STORE.startswith(folded):
        yield from (_candidate(view, row) for row in _ovf_stores(view))
