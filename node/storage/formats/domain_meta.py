"""Read and write `dom_md/metadata`, which says what a storage domain is.

Pure. The last line is `_SHA_CKSUM=` and the SHA-1 of all other lines, sorted,
put together without their newlines, other characters than ASCII as `&#…;`.
Keys that are not known here are kept. Sizes are bytes. Source: oVirt's format
V5, docs/formats/storage-domain.md.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from node.errors import Invalid, Unsupported
from node.storage.formats import key_values, layout
from node.storage.formats.key_values import MetadataDamaged
from node.units import KiB, MiB

SIZE_MAX: Final = 64 * KiB  # one of ours has 400 bytes; more is no metadata file
DESCRIPTION_MAX: Final = 50  # characters; oVirt refuses longer ones

VERSION: Final = 5
# ISO and export domains never left version 0. Data in older formats has other
# units and leases: oVirt itself upgrades those.
_VERSIONS: Final = (0, 2, 3, 4, 5)

# How many hosts sanlock can hold apart, by sector and alignment.
HOSTS_MAX: Final = {
    (512, MiB): 2000,
    (4096, MiB): 250,
    (4096, 2 * MiB): 500,
    (4096, 4 * MiB): 1000,
    (4096, 8 * MiB): 2000,
}

_CHECKSUM = "_SHA_CKSUM"
_KNOWN: Final = frozenset(
    {
        "ALIGNMENT",
        "BLOCK_SIZE",
        "CLASS",
        "DESCRIPTION",
        "POOL_UUID",
        "REMOTE_PATH",
        "ROLE",
        "SDUUID",
        "TYPE",
        "VERSION",
    }
)
# Written into every new storage domain because oVirt does; sanlock uses none.
LOCK_DEFAULTS: Final = (
    ("IOOPTIMEOUTSEC", "10"),
    ("LEASERETRIES", "3"),
    ("LEASETIMESEC", "60"),
    ("LOCKPOLICY", ""),
    ("LOCKRENEWALINTERVALSEC", "5"),
)


class WrongChecksum(MetadataDamaged):
    """The file was changed by something that did not seal it again."""

    code = "storage_metadata_checksum"
    remedy = (
        "Compare the file with a backup. If its content is right, write the "
        "checksum that this error names into its last line."
    )


class OldFormat(Unsupported):
    """The storage domain has a format that only oVirt can read and upgrade."""

    code = "old_storage_format"
    remedy = (
        "Attach it to an oVirt data center of level 4.3 or later, which upgrades it."
    )


class LongDescription(Invalid):
    """oVirt would refuse the storage domain's name."""

    code = "long_storage_description"
    remedy = f"Choose a name of at most {DESCRIPTION_MAX} characters."


class DomainType(StrEnum):
    NFS = "NFS"
    FCP = "FCP"
    ISCSI = "ISCSI"
    LOCALFS = "LOCALFS"
    CIFS = "CIFS"
    POSIXFS = "POSIXFS"
    GLUSTERFS = "GLUSTERFS"


class DomainClass(StrEnum):
    DATA = "Data"
    ISO = "Iso"
    BACKUP = "Backup"  # an export domain


class DomainRole(StrEnum):
    MASTER = "Master"
    REGULAR = "Regular"


@dataclass(frozen=True, slots=True)
class DomainMeta:
    storage_domain_id: str
    domain_type: DomainType
    domain_class: DomainClass
    description: str
    remote_path: str
    role: DomainRole = DomainRole.REGULAR
    pool_ids: tuple[str, ...] = ()  # none: not attached; only ISO has several
    version: int = VERSION
    sector_size: int = 512
    alignment: int = MiB
    others: tuple[tuple[str, str], ...] = LOCK_DEFAULTS  # sorted by key


def parse(data: bytes) -> DomainMeta:
    """Return what a metadata file says.

    Raises MetadataDamaged, WrongChecksum or OldFormat.
    """
    entries = key_values.parse(key_values.decode(data, SIZE_MAX))
    if not entries:
        raise MetadataDamaged("the file is empty")
    declared = entries.pop(_CHECKSUM, None)
    computed = checksum(entries)
    if declared != computed:
        raise WrongChecksum(
            f"the checksum is {key_values.shown(declared or 'missing')}, "
            f"the content's is {computed}",
            computed=computed,
        )
    return _read(entries)


def write(meta: DomainMeta) -> bytes:
    """Return the metadata file; UnwritableValue if a text does not fit on a line."""
    entries = {
        **dict(meta.others),
        "CLASS": meta.domain_class,
        "DESCRIPTION": meta.description,
        "POOL_UUID": ",".join(meta.pool_ids),
        "REMOTE_PATH": meta.remote_path,
        "ROLE": meta.role,
        "SDUUID": meta.storage_domain_id,
        "TYPE": meta.domain_type,
        "VERSION": str(meta.version),
    }
    if meta.version >= VERSION:
        entries["ALIGNMENT"] = str(meta.alignment)
        entries["BLOCK_SIZE"] = str(meta.sector_size)
    lines = [*key_values.lines(entries), f"{_CHECKSUM}={checksum(entries)}"]
    return "".join(f"{line}\n" for line in lines).encode()


def checksum(entries: dict[str, str]) -> str:
    """Return the seal of entries: 40 hex digits."""
    text = "".join(f"{key}={entries[key]}" for key in sorted(entries))
    return hashlib.sha1(text.encode("ascii", "xmlcharrefreplace")).hexdigest()


def check_description(text: str) -> None:
    """Refuse a name that oVirt or the file could not hold."""
    if len(text) > DESCRIPTION_MAX:
        raise LongDescription(f"the name has {len(text)} characters", length=len(text))
    key_values.lines({"DESCRIPTION": text})


def _read(entries: dict[str, str]) -> DomainMeta:
    """Return the meaning of entries; it takes out those that it knows."""
    version = key_values.number(entries, "VERSION")
    domain_class = key_values.choice(DomainClass, entries, "CLASS")
    _check_version(version, domain_class)
    sector_size, alignment = _geometry(entries, version)
    return DomainMeta(
        key_values.identifier(entries, "SDUUID"),
        key_values.choice(DomainType, entries, "TYPE"),
        domain_class,
        key_values.required(entries, "DESCRIPTION"),
        entries.get("REMOTE_PATH", ""),
        key_values.choice(DomainRole, entries, "ROLE"),
        _pools(entries),
        version,
        sector_size,
        alignment,
        tuple(sorted((k, v) for k, v in entries.items() if k not in _KNOWN)),
    )


def _check_version(version: int, domain_class: DomainClass) -> None:
    if version not in _VERSIONS:
        raise key_values.wrong("VERSION", str(version), f"one of {_VERSIONS}")
    if domain_class is DomainClass.DATA and version != VERSION:
        raise OldFormat(f"the data is in format V{version}", version=version)


def _geometry(entries: dict[str, str], version: int) -> tuple[int, int]:
    """Return sector size and alignment; older versions have only one."""
    if version < VERSION:
        return 512, MiB
    sector_size = key_values.number(entries, "BLOCK_SIZE")
    alignment = key_values.number(entries, "ALIGNMENT")
    if (sector_size, alignment) not in HOSTS_MAX:
        raise MetadataDamaged(
            f"sanlock has no leases with sectors of {sector_size} bytes, "
            f"{alignment} bytes apart",
            key="ALIGNMENT",
        )
    return sector_size, alignment


def _pools(entries: dict[str, str]) -> tuple[str, ...]:
    """Return the pools it is attached to; oVirt may write the blank id for none."""
    text = entries.get("POOL_UUID", "")
    pool_ids = tuple(pool_id for pool_id in text.split(",") if pool_id)
    for pool_id in pool_ids:
        if not layout.is_id(pool_id):
            raise key_values.wrong("POOL_UUID", pool_id, "a UUID")
    return tuple(pool_id for pool_id in pool_ids if pool_id != layout.NO_PARENT)
