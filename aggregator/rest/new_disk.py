"""Understand what oVirt's clients send to make, change or copy a disk.

Pure. Required as in oVirt: a size, a format, and a storage domain.
"""

import unicodedata
from collections.abc import Mapping
from typing import Final, TypeVar

from aggregator.federation.view import StorageDomainRow
from aggregator.rest import parents
from aggregator.rest.body import BadValue, Body, Incomplete
from aggregator.rest.resource import Context
from node.errors import Unsupported
from node.model.ids import DiskId, StorageDomainId
from node.model.storage import Allocation, ContentType, DiskDocument, DiskFormat
from node.model.storage_requests import ChangeDisk, CopyDisk, CreateDisk

T = TypeVar("T")

_NAME_BYTES_MAX: Final = 255
FORMATS: Final[Mapping[str, DiskFormat]] = {
    "cow": DiskFormat.QCOW2,
    "raw": DiskFormat.RAW,
}
_CONTENTS: Final[Mapping[str, ContentType]] = {
    "data": ContentType.DATA,
    "iso": ContentType.ISO,
    "hosted_engine": ContentType.HOSTED_ENGINE,
    "hosted_engine_sanlock": ContentType.HOSTED_ENGINE_SANLOCK,
    "hosted_engine_metadata": ContentType.HOSTED_ENGINE_METADATA,
    "hosted_engine_configuration": ContentType.HOSTED_ENGINE_CONFIGURATION,
    "backup_scratch": ContentType.BACKUP_SCRATCH,
}


class DirectLunNotSupported(Unsupported):
    code = "direct_lun_not_supported"
    remedy = "Make a disk on a storage domain instead."


def creation(context: Context, body: Body, disk_id: DiskId) -> CreateDisk:
    """Return the request for a disk; Incomplete or BadValue if it is none."""
    if body.child("lun_storage").is_present:
        raise DirectLunNotSupported("a LUN cannot be used as a disk directly")
    size_bytes = size(body)
    if size_bytes is None:
        raise Incomplete("Disk [provisioned_size] required for add")
    wanted_format = disk_format(body)
    if wanted_format is None:
        raise Incomplete("Disk [format] required for add")
    content = body.string("content_type") or "data"
    if content not in _CONTENTS:
        raise BadValue(f"a disk cannot be made for {content!r}", field="content_type")
    return CreateDisk(
        disk_id,
        name(body) or f"disk-{disk_id[:8]}",
        storage_domain(context, body),
        size_bytes,
        wanted_format,
        allocation(body) or Allocation.THIN,
        body.string("description") or "",
        _CONTENTS[content],
        bool(body.boolean("shareable")),
        body.boolean("wipe_after_delete"),
    )


def change(body: Body, now: DiskDocument) -> ChangeDisk | None:
    """Return the request for what differs; None if nothing does."""
    wanted = ChangeDisk(
        _if_other(name(body), now.name),
        _if_other(body.string("description"), now.description),
        _if_other(body.boolean("shareable"), now.is_shared),
        _if_other(body.boolean("wipe_after_delete"), now.wipe_after_delete),
    )
    return None if wanted == ChangeDisk() else wanted


def copy(context: Context, body: Body, copy_id: DiskId, now: DiskDocument) -> CopyDisk:
    """Return the request for a copy; an action's body names what differs in it."""
    wanted = body.child("disk")
    return CopyDisk(
        copy_id,
        storage_domain(context, body),
        name(wanted) or now.name,
        disk_format(wanted),
        allocation(wanted),
    )


def storage_domain(context: Context, body: Body) -> StorageDomainId:
    """Return where a disk goes; Incomplete if it is not said."""
    row = storage_domain_row(context, body)
    if row is None:
        raise Incomplete("Disk [storageDomain.id|name] required for add")
    return row.storage_domain_id


def storage_domain_row(context: Context, body: Body) -> StorageDomainRow | None:
    """Return where a disk goes: `storage_domain`, or the only one of a list."""
    wanted = [*body.all("storage_domains/storage_domain")]
    if len(wanted) > 1:
        raise BadValue("a disk goes to one storage domain", field="storage_domains")
    here = wanted[0] if wanted else body.child("storage_domain")
    return parents.storage_domain(context, here)


def name(body: Body) -> str | None:
    """Return what a disk is called; its alias, if it says both."""
    text = body.string("alias") or body.string("name")
    if text is None or not text.strip():
        return None
    normal = unicodedata.normalize("NFC", text.strip())
    if len(normal.encode("utf-8")) > _NAME_BYTES_MAX:
        raise BadValue(f"name is longer than {_NAME_BYTES_MAX} bytes", field="name")
    return normal


def size(body: Body) -> int | None:
    """Return the virtual size; None if it is not said."""
    size_bytes = body.integer("provisioned_size")
    if size_bytes is not None and size_bytes <= 0:
        raise BadValue("provisioned_size must be greater than 0", field="disk")
    return size_bytes


def allocation(body: Body) -> Allocation | None:
    """Return whether space is taken beforehand; None if it is not said."""
    is_sparse = body.boolean("sparse")
    if is_sparse is None:
        return None
    return Allocation.THIN if is_sparse else Allocation.PREALLOCATED


def disk_format(body: Body) -> DiskFormat | None:
    """Return the format; None if it is not said."""
    text = body.string("format")
    if text is None:
        return None
    if text not in FORMATS:
        raise BadValue(f"format must be cow or raw, not {text!r}", field="format")
    return FORMATS[text]


def _if_other(wanted: T | None, now: T) -> T | None:
    return wanted if wanted != now else None
