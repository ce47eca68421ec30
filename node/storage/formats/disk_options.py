"""Keep what a disk is besides its volumes: shared, wiped when deleted, limited.

Pure. oVirt's format has no place for it in a volume's metadata (its engine's database
has it), so it lies in `dom_md/skerry/disks/<disk id>` of the disk's storage domain:
one line of JSON and one line `sha256=` with the digest of the first, without its
newline. No file: nothing of it is so. Fields that we do not know are kept. A file
that cannot be read counts as one that asks for wiping, until the options are set
anew: what is wiped in vain is lost to nobody.
Source: docs/formats/storage-domain.md.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from node import wire
from node.errors import Conflict, Invalid, Unsupported
from node.model.storage import DiskQos, check_limits
from node.storage.formats.volume_meta import Format
from node.units import KiB

SCHEMA: Final = 1
SIZE_MAX: Final = 16 * KiB
_DIGEST = re.compile(rb"(.*)\nsha256=([0-9a-f]{64})\n")


class NotShareable(Conflict):
    """Two QEMUs that grow one qcow2 file destroy it."""

    code = "disk_not_shareable"
    remedy = "Make a raw disk, or copy this one as raw."


class NewerDiskOptions(Unsupported):
    """A newer version of the node wrote the file."""

    code = "newer_disk_options"
    remedy = "Upgrade this node, or let an upgraded one become the manager."


@dataclass(frozen=True, slots=True)
class DiskOptions:
    is_shared: bool = False
    wipe_after_delete: bool = False
    qos: DiskQos = field(default_factory=DiskQos)
    others: str = ""  # the fields that we do not know, as a JSON object
    is_damaged: bool = False


DEFAULT: Final = DiskOptions()
DAMAGED: Final = DiskOptions(wipe_after_delete=True, is_damaged=True)


@dataclass(frozen=True, slots=True)
class OptionsChange:
    """What is to be otherwise; None: as it is."""

    is_shared: bool | None = None
    wipe_after_delete: bool | None = None
    qos: DiskQos | None = None


@dataclass(frozen=True, slots=True)
class _File:
    schema: int
    disk_id: str
    is_shared: bool = False
    wipe_after_delete: bool = False
    qos: DiskQos = field(default_factory=DiskQos)


_KNOWN: Final = frozenset(each.name for each in fields(_File))


def parse(data: bytes, disk_id: str) -> DiskOptions:
    """Return what a disk's file says, DAMAGED if it says nothing; NewerDiskOptions."""
    found = _DIGEST.fullmatch(data)
    if found is None or hashlib.sha256(found[1]).hexdigest().encode() != found[2]:
        return DAMAGED
    try:
        said: Mapping[str, Any] = wire.parse(found[1])
        file = wire.from_json(_File, said, strict=False)
    except Invalid:
        return DAMAGED
    if file.schema > SCHEMA:
        raise NewerDiskOptions(
            f"disk {disk_id}: schema {file.schema}, ours is {SCHEMA}"
        )
    if file.disk_id != disk_id:
        return DAMAGED
    others = {key: said[key] for key in sorted(said.keys() - _KNOWN)}
    text = wire.encode(others).decode() if others else ""
    return DiskOptions(file.is_shared, file.wipe_after_delete, file.qos, text)


def write(disk_id: str, options: DiskOptions) -> str:
    """Return the file of a disk."""
    file = _File(
        SCHEMA, disk_id, options.is_shared, options.wipe_after_delete, options.qos
    )
    others = wire.parse(options.others.encode()) if options.others else {}
    body = wire.encode({**wire.to_json(file), **others})
    return f"{body.decode()}\nsha256={hashlib.sha256(body).hexdigest()}\n"


def changed(before: DiskOptions, change: OptionsChange) -> DiskOptions:
    """Return options after a change; what was damaged is whole then."""
    is_shared, is_wiped, qos = change.is_shared, change.wipe_after_delete, change.qos
    return replace(
        before,
        is_shared=before.is_shared if is_shared is None else is_shared,
        wipe_after_delete=before.wipe_after_delete if is_wiped is None else is_wiped,
        qos=before.qos if qos is None else qos,
        is_damaged=before.is_damaged and change == OptionsChange(),
    )


def limits(options: DiskOptions | None, last: DiskQos) -> DiskQos:
    """Return the limits of a disk; the last ones known if its file is damaged."""
    known = options or DEFAULT
    return last if known.is_damaged else known.qos


def check(options: DiskOptions, volume_format: Format) -> None:
    """Refuse what no disk, or none of that format, can be; BadDiskQos, NotShareable."""
    check_limits(options.qos)
    if options.is_shared and volume_format is not Format.RAW:
        raise NotShareable("only a raw disk may be shared")
