"""Read the forms of a new storage domain and a new disk; say what is wrong.

Pure. A draft keeps what was typed, so that a refused form comes back filled in.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from aggregator.dashboard import drafts, questions
from aggregator.dashboard.drafts import BadDraft
from aggregator.dashboard.questions import Field
from aggregator.federation.view import NodeState, View
from node.model.ids import DiskId, StorageDomainId, TransferId
from node.model.storage import (
    Allocation,
    Connection,
    ContentType,
    DiskFormat,
    DomainClass,
    DomainState,
    DomainType,
    StorageDomain,
    TimeoutPolicy,
    TransferDirection,
)
from node.model.storage_requests import (
    ChangeStorageDomain,
    CreateDisk,
    CreateStorageDomain,
    CreateTransfer,
)

_NAME_BYTES_MAX: Final = 255
NFS_VERSIONS: Final = ("", "3", "4", "4.1", "4.2")


@dataclass(frozen=True, slots=True)
class PlaceDraft:
    """Where storage is, and who looks, as text."""

    kind: str = DomainType.NFS.value
    address: str = ""
    path: str = ""
    file_system: str = ""
    nfs_version: str = ""
    options: str = ""
    data_center_id: str = ""
    node_id: str = ""  # empty: one that is up


@dataclass(frozen=True, slots=True)
class DomainDraft:
    """A storage domain to be made at a place, as text."""

    storage_domain_id: str
    name: str = ""
    description: str = ""
    domain_class: str = DomainClass.DATA.value
    wipe: str = ""  # empty: disks are deleted without being overwritten


@dataclass(frozen=True, slots=True)
class DiskDraft:
    """A disk to be made, as text."""

    disk_id: str
    name: str = ""
    description: str = ""
    storage_domain_id: str = ""
    size_gib: str = "10"
    allocation: str = Allocation.THIN.value
    shared: str = ""


@dataclass(frozen=True, slots=True)
class UploadDraft:
    """A disk that a browser is about to send, as text."""

    disk_id: str
    transfer_id: str
    name: str = ""
    storage_domain_id: str = ""
    file_bytes: str = ""
    disk_bytes: str = ""  # what a guest sees of it
    disk_format: str = DiskFormat.RAW.value  # of the file


_D = TypeVar("_D", PlaceDraft, DomainDraft, DiskDraft, UploadDraft)
_IDS: Final = ("storage_domain_id", "disk_id", "transfer_id")
_BYTES: Final = re.compile(r"[1-9]\d{0,15}", re.ASCII)
_SECTOR_BYTES: Final = 512  # disks have whole ones
# Slow lines need a minute and more for one piece.
_INACTIVITY_S: Final = 300.0


def read(kind: type[_D], form: Mapping[str, str]) -> _D:
    """Return the draft that a form holds; a box that is not ticked is absent."""
    names = kind.__dataclass_fields__
    absent = {name: "" for name in ("wipe", "shared", *_IDS) if name in names}
    return kind(**{**absent, **{name: form[name] for name in names if name in form}})


def connection(draft: PlaceDraft) -> Connection:
    """Return the place that is meant; BadDraft names the first field that is wrong."""
    if draft.kind not in (DomainType.NFS, DomainType.POSIXFS):
        raise BadDraft("choose NFS or another file system", field="kind")
    kind = DomainType(draft.kind)
    if not draft.path:
        raise BadDraft("the storage needs a path", field="path")
    if kind is DomainType.POSIXFS:
        return Connection(
            kind, draft.path, file_system=draft.file_system, options=draft.options
        )
    if not draft.address:
        raise BadDraft("the NFS server needs an address", field="address")
    if not draft.path.startswith("/"):
        raise BadDraft("the server's export begins with /", field="path")
    if draft.nfs_version not in NFS_VERSIONS:
        raise BadDraft("there is no such version of NFS", field="nfs_version")
    return Connection(
        kind,
        draft.path,
        draft.address,
        nfs_version=draft.nfs_version,
        options=draft.options,
    )


def to_domain(draft: DomainDraft, place: Connection) -> CreateStorageDomain:
    """Return what is asked for; BadDraft names the first field that is wrong."""
    storage_domain_id = drafts.given_id(draft.storage_domain_id)
    _check_name(draft.name, "storage domain")
    if draft.domain_class not in (DomainClass.DATA, DomainClass.ISO):
        raise BadDraft("it holds data or ISO images", field="domain_class")
    return CreateStorageDomain(
        StorageDomainId(storage_domain_id),
        draft.name,
        place,
        DomainClass(draft.domain_class),
        draft.description,
        wipe_after_delete=bool(draft.wipe),
    )


def change_fields(known: StorageDomain, *, rests: bool) -> tuple[Field, ...]:
    """Return what may be changed of a storage domain; `rests`: in maintenance."""
    place = known.connection
    fields = (
        Field("name", "Name", known.name),
        Field("description", "Description", known.description, is_optional=True),
        questions.choice(
            "wipe",
            "New disks, when deleted",
            (("", "stay as they are until overwritten"), ("yes", "are wiped")),
            "yes" if known.wipe_after_delete else "",
        ),
    )
    if not rests or place.kind is DomainType.LOCALFS:
        return fields
    address = Field("address", "Server", place.address)
    return (
        *fields,
        *((address,) if place.kind is DomainType.NFS else ()),
        Field("path", "Path", place.path),
        Field("options", "Mount options", place.options, is_optional=True),
        questions.hidden("kind", place.kind.value),
        questions.hidden("file_system", place.file_system),
        questions.hidden("nfs_version", place.nfs_version),
    )


def to_change(form: Mapping[str, str]) -> ChangeStorageDomain:
    """Return what a storage domain is to be; BadDraft says what is wrong."""
    name = form.get("name", "").strip()
    _check_name(name, "storage domain")
    place = connection(read(PlaceDraft, form)) if "path" in form else None
    description = form.get("description", "").strip()
    return ChangeStorageDomain(name, description, bool(form.get("wipe")), place)


def to_disk(draft: DiskDraft) -> CreateDisk:
    """Return what is asked for; BadDraft names the first field that is wrong."""
    disk_id = drafts.given_id(draft.disk_id)
    _check_name(draft.name, "disk")
    if not draft.storage_domain_id:
        raise BadDraft("the disk needs a place", field="storage_domain_id")
    size_bytes = drafts.gib(draft.size_gib, "size_gib", "size")
    if size_bytes is None:
        raise BadDraft("the disk needs a size", field="size_gib")
    if draft.allocation not in list(Allocation):
        raise BadDraft("choose thin or preallocated", field="allocation")
    allocation = Allocation(draft.allocation)
    is_thin = allocation is Allocation.THIN
    return CreateDisk(
        DiskId(disk_id),
        draft.name,
        StorageDomainId(draft.storage_domain_id),
        size_bytes,
        DiskFormat.QCOW2 if is_thin and not draft.shared else DiskFormat.RAW,
        allocation,
        draft.description,
        is_shared=bool(draft.shared),
    )


def to_upload(draft: UploadDraft) -> tuple[CreateDisk, CreateTransfer]:
    """Return the disk and the transfer of a file; BadDraft says what is wrong."""
    disk_id = DiskId(drafts.given_id(draft.disk_id))
    transfer_id = TransferId(drafts.given_id(draft.transfer_id))
    _check_name(draft.name, "disk")
    if not draft.storage_domain_id:
        raise BadDraft("the disk needs a place", field="storage_domain_id")
    for text in (draft.file_bytes, draft.disk_bytes):
        if not _BYTES.fullmatch(text):
            raise BadDraft("the file is empty, or its size is not known", field="file")
    if draft.disk_format not in list(DiskFormat):
        raise BadDraft("the file is neither raw nor qcow2", field="file")
    disk_format = DiskFormat(draft.disk_format)
    is_iso = disk_format is DiskFormat.RAW and draft.name.casefold().endswith(".iso")
    disk = CreateDisk(
        disk_id,
        draft.name,
        StorageDomainId(draft.storage_domain_id),
        -(-int(draft.disk_bytes) // _SECTOR_BYTES) * _SECTOR_BYTES,
        disk_format,
        Allocation.THIN,
        content=ContentType.ISO if is_iso else ContentType.DATA,
    )
    transfer = CreateTransfer(
        transfer_id,
        disk_id,
        TransferDirection.UPLOAD,
        disk_format,
        inactivity_s=_INACTIVITY_S,
        timeout_policy=TimeoutPolicy.PAUSE,
        size_bytes=int(draft.file_bytes) if disk_format is DiskFormat.QCOW2 else None,
        removes_disk=True,
    )
    return disk, transfer


def nodes(view: View) -> tuple[tuple[str, str], ...]:
    """Return (id, name) of the nodes that can be asked, by name."""
    found = [each for each in view.nodes.values() if each.state is NodeState.UP]
    found.sort(key=lambda each: each.name.casefold())
    return tuple((each.node_id, each.name) for each in found)


def disk_places(view: View) -> tuple[tuple[str, str, int], ...]:
    """Return (id, name, free bytes) of where disks can be made: shared ones first."""
    named = (view.storage_domains[each] for _, each in view.storage_domain_order)
    found = [
        each
        for each in named
        if each.state is DomainState.ACTIVE
        and each.domain_class is DomainClass.DATA
        and each.pool_id in view.pools
    ]
    found.sort(key=lambda each: each.kind is DomainType.LOCALFS)
    return tuple((each.storage_domain_id, each.name, each.free_bytes) for each in found)


def _check_name(name: str, what: str) -> None:
    if not name or len(name.encode()) > _NAME_BYTES_MAX:
        raise BadDraft(f"the {what} needs a name of 1 to 255 bytes", field="name")
