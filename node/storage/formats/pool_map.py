"""Read, write and compare the pool's map, which every active data domain carries.

Pure. The map says which storage domains are in the pool, how to reach them, and
which is the master; oVirt keeps this in its engine. The file is one line of JSON
and one line `sha256=` with the digest of the first, without its newline. The
highest (master version, generation) wins. Source: docs/formats/storage-domain.md.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from node import wire
from node.errors import Conflict, Failed, Invalid, Unsupported
from node.model.storage import Connection
from node.storage.formats import layout
from node.storage.formats.domain_meta import DomainClass, DomainRole
from node.units import KiB

SCHEMA: Final = 1
DOMAINS_MAX: Final = 100  # of one pool; oVirt's limit
NAME_MAX: Final = 255  # bytes of a pool's or a storage domain's name
DESCRIPTION_MAX: Final = 1024  # bytes of what is said of a storage domain
CONNECTION_MAX: Final = 2 * KiB  # bytes of JSON; a path has at most 1 KiB with NFS
SIZE_MAX: Final = 384 * KiB  # 100 storage domains need 350 KiB at most
_DIGEST = re.compile(rb"(.*)\nsha256=([0-9a-f]{64})\n")
_SCHEMA = re.compile(rb'\{"schema":([0-9]{1,9})[,}]')


class PoolMapDamaged(Failed):
    """A storage domain's copy of the pool's map cannot be believed."""

    code = "pool_map_damaged"
    remedy = (
        "Nothing was changed. The pool goes on with the copy of another storage "
        "domain; if there is none, reconstruct the master."
    )


class NewerPoolMap(Unsupported):
    """The map was written by a newer version of the node."""

    code = "newer_pool_map"
    remedy = "Upgrade this node."


class BadPoolMap(Invalid):
    """What should be written cannot be the map of a pool."""

    code = "bad_pool_map"
    remedy = "Correct what the message names."


class LongSaid(Invalid):
    code = "long_storage_domain_description"
    remedy = f"Use at most {DESCRIPTION_MAX} bytes."


class PoolMapsDiffer(Conflict):
    """Two storage domains have different maps with the same numbers."""

    code = "pool_maps_differ"
    remedy = (
        "Two managers wrote, or a storage domain was copied. Detach the copy, or "
        "reconstruct the master from the storage domain that you trust."
    )


class OtherPool(Conflict):
    """A storage domain belongs to another pool."""

    code = "storage_domain_of_other_pool"
    remedy = "Detach it there before it is attached here."


class PoolDomainState(StrEnum):
    ACTIVE = "active"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class PoolDomain:
    storage_domain_id: str
    domain_class: DomainClass
    state: PoolDomainState
    name: str = ""
    connection: Connection | None = None  # how nodes reach it; None: an older map
    description: str = ""
    wipe_after_delete: bool = False  # what new disks on it start with


@dataclass(frozen=True, slots=True)
class PoolMap:
    schema: int  # stays the first field: it is read before the others
    pool_id: str
    master_version: int  # grows when another storage domain becomes the master
    generation: int  # grows with every change
    master_id: str
    domains: tuple[PoolDomain, ...]  # sorted by id
    name: str = ""  # of the pool

    @property
    def version(self) -> tuple[int, int]:
        return self.master_version, self.generation

    def role(self, storage_domain_id: str) -> DomainRole:
        """Return the role that a storage domain's own metadata should name."""
        is_master = storage_domain_id == self.master_id
        return DomainRole.MASTER if is_master else DomainRole.REGULAR


def parse(data: bytes) -> PoolMap:
    """Return the map in a file; PoolMapDamaged or NewerPoolMap if it cannot be."""
    found = _DIGEST.fullmatch(data) if len(data) <= SIZE_MAX else None
    if found is None:
        raise PoolMapDamaged("the file is no map of a pool", size_bytes=len(data))
    body, digest = found[1], found[2].decode()
    if hashlib.sha256(body).hexdigest() != digest:
        raise PoolMapDamaged("the content does not have the digest that it names")
    schema = _SCHEMA.match(body)
    if schema and int(schema[1]) > SCHEMA:
        raise NewerPoolMap(f"the map has schema {int(schema[1])}, this node {SCHEMA}")
    try:
        pool_map = wire.decode(PoolMap, body)
        check(pool_map)
    except Invalid as error:
        raise PoolMapDamaged(f"the map says what cannot be: {error}") from error
    return pool_map


def write(pool_map: PoolMap) -> bytes:
    """Return the file of a map; BadPoolMap if it says what cannot be."""
    check(pool_map)
    body = wire.encode(pool_map)
    return b"%b\nsha256=%b\n" % (body, hashlib.sha256(body).hexdigest().encode())


def check(pool_map: PoolMap) -> None:
    """Refuse what no pool can be."""
    ids = [domain.storage_domain_id for domain in pool_map.domains]
    names = [pool_map.name, *(domain.name for domain in pool_map.domains)]
    connections = [domain.connection for domain in pool_map.domains]
    descriptions = [domain.description.encode() for domain in pool_map.domains]
    master = [d for d in pool_map.domains if d.storage_domain_id == pool_map.master_id]
    rules = (
        (pool_map.schema == SCHEMA, f"its schema is not {SCHEMA}"),
        (all(map(layout.is_id, (pool_map.pool_id, *ids))), "an id is no UUID"),
        (ids == sorted(set(ids)), "the storage domains are not sorted, or not unique"),
        (len(ids) <= DOMAINS_MAX, f"it has more than {DOMAINS_MAX} storage domains"),
        (min(pool_map.version) >= 1, "its versions do not start with 1"),
        (
            max(len(each.encode()) for each in names) <= NAME_MAX,
            f"a name is longer than {NAME_MAX} bytes",
        ),
        (
            max(map(len, descriptions)) <= DESCRIPTION_MAX,
            f"a description is longer than {DESCRIPTION_MAX} bytes",
        ),
        (
            max(len(wire.encode(each)) for each in connections) <= CONNECTION_MAX,
            f"a connection is longer than {CONNECTION_MAX} bytes",
        ),
        (
            [domain.domain_class for domain in master] == [DomainClass.DATA],
            "the master is not one of its data domains",
        ),
    )
    for is_kept, complaint in rules:
        if not is_kept:
            raise BadPoolMap(f"the map of pool {pool_map.pool_id[:80]}: {complaint}")


def check_said(description: str) -> None:
    """Refuse what the map has no room for; LongSaid."""
    if len(description.encode()) > DESCRIPTION_MAX:
        raise LongSaid(f"the description has {len(description.encode())} bytes")


def newest(copies: Mapping[str, PoolMap]) -> PoolMap | None:
    """Return the map that wins; None if there is none.

    `copies` are by the storage domain that carries them. Raises OtherPool, or
    PoolMapsDiffer if two that would win have other contents.
    """
    winner: str | None = None
    for carrier in sorted(copies):
        if winner is None:
            winner = carrier
            continue
        ours, other = copies[winner], copies[carrier]
        if ours.pool_id != other.pool_id:
            raise OtherPool(
                f"storage domain {carrier} is of pool {other.pool_id}, "
                f"{winner} of {ours.pool_id}",
                storage_domain_id=carrier,
                pool_id=other.pool_id,
            )
        if other.version > ours.version:
            winner = carrier
    if winner is None:
        return None
    _check_agreement(winner, copies)
    return copies[winner]


def _check_agreement(winner: str, copies: Mapping[str, PoolMap]) -> None:
    pool_map = copies[winner]
    for carrier in sorted(copies):
        other = copies[carrier]
        if other.version == pool_map.version and other != pool_map:
            raise PoolMapsDiffer(
                f"storage domains {winner} and {carrier} have different maps "
                f"with master version {pool_map.master_version} and "
                f"generation {pool_map.generation}",
                first=winner,
                second=carrier,
            )
