"""Read and write `<volume>.meta`, which says what a volume of an image is.

Pure. Sorted KEY=VALUE lines, then `EOF`; at most 512 bytes, so that a sector of
a block storage domain holds it. What comes after `EOF` does not count. Keys that
are not known here are kept; those of older versions are dropped, as oVirt does.
Sizes are bytes. Source: oVirt's format V5, docs/formats/storage-domain.md.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from node.errors import Invalid
from node.storage.formats import key_values
from node.storage.formats.key_values import NUMBER_MAX, MetadataDamaged
from node.storage.formats.layout import NO_PARENT

SIZE_MAX: Final = 512  # one sector: it is written whole or not at all
DESCRIPTION_MAX: Final = 210  # bytes; what is left for it in the longest meta
GENERATION_MAX: Final = 999  # three digits; then it starts again with 0
_READ_MAX: Final = 8192  # a slot of a block storage domain, filled with zeros
_BLOCK = 512  # the unit of SIZE before V5

_EOF = "EOF"
_KNOWN: Final = frozenset(
    {
        "CAP",
        "CTIME",
        "DESCRIPTION",
        "DISKTYPE",
        "DOMAIN",
        "FORMAT",
        "GEN",
        "IMAGE",
        "LEGALITY",
        "PUUID",
        "SEQ",
        "TYPE",
        "VOLTYPE",
    }
)
_OLD: Final = frozenset({"MTIME", "POOL_UUID", "SIZE"})


class LongMetadata(Invalid):
    """The metadata of a volume would not fit into one sector."""

    code = "long_volume_metadata"
    remedy = f"Choose a description of at most {DESCRIPTION_MAX} bytes."


class Format(StrEnum):
    RAW = "RAW"
    COW = "COW"  # qcow2


class Allocation(StrEnum):
    PREALLOCATED = "PREALLOCATED"
    SPARSE = "SPARSE"


class VolumeRole(StrEnum):
    LEAF = "LEAF"  # guests write to it
    INTERNAL = "INTERNAL"  # others are built on it
    SHARED = "SHARED"  # a template: other images are built on it, too


class Legality(StrEnum):
    LEGAL = "LEGAL"
    ILLEGAL = "ILLEGAL"  # its content must not be used
    FAKE = "FAKE"  # stands in for a template that lies on another storage domain


@dataclass(frozen=True, slots=True)
class VolumeMeta:
    storage_domain_id: str
    image_id: str
    capacity_bytes: int  # what the guest sees
    volume_format: Format
    allocation: Allocation
    role: VolumeRole
    created_at_s: int  # since 1970
    parent_id: str | None = None  # None: the base of its chain
    legality: Legality = Legality.LEGAL
    disk_type: str = "DATA"  # oVirt's word for what the disk is used for
    description: str = ""  # oVirt's engine puts JSON there
    generation: int = 0  # counts the jobs that changed the volume
    sequence: int = 0  # of the snapshot, within the image
    others: tuple[tuple[str, str], ...] = ()  # sorted by key


def parse(data: bytes) -> VolumeMeta:
    """Return what a metadata file says; MetadataDamaged if it cannot be that."""
    above, end, _ = (b"\n" + data).partition(f"\n{_EOF}".encode())
    if not end:
        raise MetadataDamaged("the file was cut off: its last line is not EOF")
    entries = key_values.parse(key_values.decode(above, _READ_MAX))
    parent_id = key_values.identifier(entries, "PUUID")
    return VolumeMeta(
        key_values.identifier(entries, "DOMAIN"),
        key_values.identifier(entries, "IMAGE"),
        _capacity(entries),
        key_values.choice(Format, entries, "FORMAT"),
        key_values.choice(Allocation, entries, "TYPE"),
        key_values.choice(VolumeRole, entries, "VOLTYPE"),
        key_values.number(entries, "CTIME"),
        None if parent_id == NO_PARENT else parent_id,
        key_values.choice(Legality, entries, "LEGALITY"),
        key_values.required(entries, "DISKTYPE"),
        key_values.required(entries, "DESCRIPTION"),
        _later(entries, "GEN", GENERATION_MAX),
        _later(entries, "SEQ", NUMBER_MAX),
        tuple(sorted((k, v) for k, v in entries.items() if k not in _KNOWN | _OLD)),
    )


def write(meta: VolumeMeta, *, is_exported: bool = False) -> bytes:
    """Return the metadata file; LongMetadata or UnwritableValue if it cannot be.

    `is_exported`: for an export storage domain, whose metadata are older.
    """
    entries = {
        **dict(meta.others),
        **(_old_size(meta) if is_exported else {"CAP": str(meta.capacity_bytes)}),
        "CTIME": str(meta.created_at_s),
        "DESCRIPTION": meta.description,
        "DISKTYPE": meta.disk_type,
        "DOMAIN": meta.storage_domain_id,
        "FORMAT": meta.volume_format,
        "GEN": str(meta.generation),
        "IMAGE": meta.image_id,
        "LEGALITY": meta.legality,
        "PUUID": meta.parent_id or NO_PARENT,
        "SEQ": str(meta.sequence),
        "TYPE": meta.allocation,
        "VOLTYPE": meta.role,
    }
    lines = [*key_values.lines(entries), _EOF]
    data = "".join(f"{line}\n" for line in lines).encode()
    if len(data) > SIZE_MAX:
        raise LongMetadata(
            f"the metadata has {len(data)} bytes, at most {SIZE_MAX} fit",
            size_bytes=len(data),
        )
    return data


def check_description(text: str) -> None:
    """Refuse a description that some storage domain could not hold."""
    length = len(text.encode())
    if length > DESCRIPTION_MAX:
        raise LongMetadata(f"the description has {length} bytes", size_bytes=length)
    key_values.lines({"DESCRIPTION": text})


def next_generation(generation: int) -> int:
    """Return the generation after a job; it wraps to 0 after 999."""
    return (generation + 1) % (GENERATION_MAX + 1)


def _capacity(entries: dict[str, str]) -> int:
    """Return the size in bytes; export domains still have it in blocks."""
    if "CAP" not in entries and "SIZE" in entries:
        return key_values.number(entries, "SIZE", NUMBER_MAX // _BLOCK) * _BLOCK
    return key_values.number(entries, "CAP")


def _old_size(meta: VolumeMeta) -> dict[str, str]:
    """Return the size as it was written before V5, with what stood beside it."""
    return {"MTIME": "0", "SIZE": str(meta.capacity_bytes // _BLOCK)}


def _later(entries: dict[str, str], key: str, maximum: int) -> int:
    """Return a number that oVirt began to write later: 0 if it is not there."""
    return key_values.number(entries, key, maximum) if key in entries else 0
