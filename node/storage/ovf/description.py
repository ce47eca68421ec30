"""Write and read the JSON in a volume's DESCRIPTION, as oVirt's engine does.

A disk's volume bears the disk's name and description; an OVF_STORE's says how
current it is. oVirt cuts a DESCRIPTION at 210 bytes: ours fit. Pure.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from node.model.ids import StorageDomainId

DESCRIPTION_MAX: Final = 210  # bytes

OVF_STORE: Final = "OVF_STORE"
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# fmt: off
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)
# fmt: on
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class DiskLabel:
    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class StoreLabel:
    """False while it is being written: then the other OVF_STORE counts."""

    is_updated: bool
    size_bytes: int | None = None  # of the tar; the volume may be larger
    updated_at: str | None = None  # RFC 3339
    storage_domain_ids: tuple[StorageDomainId, ...] = ()


def write_disk(label: DiskLabel) -> str:
    """Return the description of a disk's volume, cut so that it fits."""
    name, description = label.name, label.description
    while len(text := _disk_json(name, description)) > DESCRIPTION_MAX:
        if description:
            description = description[:-1]
        else:
            name = name[:-1]
    return text


def write_store(label: StoreLabel) -> str:
    """Return the description of an OVF_STORE's volume."""
    at = label.updated_at
    written = java_date(datetime.fromisoformat(at)) if at else None
    fields: dict[str, Any] = {"Updated": label.is_updated}
    if label.size_bytes is not None:
        fields["Size"] = label.size_bytes
    fields["Last Updated"] = written
    fields["Storage Domains"] = [{"uuid": each} for each in label.storage_domain_ids]
    fields["Disk Description"] = OVF_STORE
    return json.dumps(fields, separators=(",", ":"))


def read(text: str) -> DiskLabel | StoreLabel:
    """Return what a description says; any other text is a disk's name."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return DiskLabel(text)
    if not isinstance(fields, dict):
        return DiskLabel(text)
    if fields.get("Disk Description") == OVF_STORE:
        return _store(fields)
    name, description = (
        value if isinstance(value := fields.get(key), str) else ""
        for key in ("DiskAlias", "DiskDescription")
    )
    return DiskLabel(name, description)


def java_date(moment: datetime) -> str:
    """Return a moment as Java prints a Date: Sun Nov 22 08:00:00 UTC 2026."""
    at = moment.astimezone(UTC)
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day} {month} {at.day:02} {at:%H:%M:%S} UTC {at.year:04}"


def moment_of(text: object) -> str | None:
    """Return Java's date as RFC 3339, taken as UTC; None if it is none.

    An engine writes its own time zone's short name, which says little: two
    dates of one engine compare well, others only by the day.
    """
    words = text.split() if isinstance(text, str) else []
    if len(words) != 6 or words[1] not in _MONTHS:
        return None
    _day, month, number, time, _zone, year = words
    number_of_month = _MONTHS.index(month) + 1
    try:
        at = datetime.fromisoformat(f"{year}-{number_of_month:02}-{number}T{time}")
    except ValueError:
        return None
    return f"{at.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _disk_json(name: str, description: str) -> str:
    return json.dumps(
        {"DiskAlias": name, "DiskDescription": description}, separators=(",", ":")
    )


def _store(fields: dict[str, Any]) -> StoreLabel:
    size = fields.get("Size")
    return StoreLabel(
        fields.get("Updated") is True,
        size if type(size) is int and size >= 0 else None,
        moment_of(fields.get("Last Updated")),
        storage_domains_of(fields.get("Storage Domains")),
    )


def storage_domains_of(value: object) -> tuple[StorageDomainId, ...]:
    """Return ids of a JSON list: oVirt writes objects, older engines strings."""
    listed: Sequence[Any] = value if isinstance(value, list) else ()
    ids = (each.get("uuid") if isinstance(each, dict) else each for each in listed)
    return tuple(
        StorageDomainId(each)
        for each in ids
        if isinstance(each, str) and _UUID.fullmatch(each)
    )
