"""Say what a storage domain must be to play a part in a pool, and change the map.

Pure: maps and metadata in, maps or refusals out.
"""

from dataclasses import dataclass, replace

from node.errors import Conflict, NotFound
from node.model.storage import Connection, StorageDomain
from node.storage.formats import domain_meta
from node.storage.formats.domain_meta import DomainClass, DomainMeta, DomainRole
from node.storage.formats.pool_map import (
    SCHEMA,
    OtherPool,
    PoolDomain,
    PoolDomainState,
    PoolMap,
)


class NotInPool(NotFound):
    code = "storage_domain_not_in_pool"
    remedy = "Attach the storage domain to the pool first."


class PoolMoved(Conflict):
    """The pool's map changed since the caller looked."""

    code = "pool_moved"
    remedy = "Look at the pool again, and decide anew."


class PoolExists(Conflict):
    """The pool has been made already, of another storage domain."""

    code = "pool_exists"
    remedy = "Attach the storage domain to the pool instead."


class StorageDomainCopied(Conflict):
    """The storage domain says that it lies elsewhere: this may be a copy."""

    code = "storage_domain_copied"
    remedy = (
        "Never use a copy beside the original: its leases protect nothing. If the "
        "storage was moved and the original is gone, import it with force."
    )


class StorageDomainActive(Conflict):
    code = "storage_domain_active"
    remedy = "Put the storage domain into maintenance first."


class MasterInUse(Conflict):
    """The pool needs its master."""

    code = "storage_domain_is_master"
    remedy = "Make another data storage domain the master first."


class NotAData(Conflict):
    """Only a data storage domain can do this."""

    code = "storage_domain_holds_no_data"
    remedy = "Choose an active data storage domain of the pool."


def find(known: PoolMap, storage_domain_id: str) -> PoolDomain | None:
    """Return a storage domain's entry; None: the pool does not have it."""
    for each in known.domains:
        if each.storage_domain_id == storage_domain_id:
            return each
    return None


def entry(known: PoolMap, storage_domain_id: str) -> PoolDomain:
    """Return a storage domain's entry; NotInPool."""
    found = find(known, storage_domain_id)
    if found is None:
        raise NotInPool(
            f"storage domain {storage_domain_id} is not in pool {known.pool_id}",
            storage_domain_id=storage_domain_id,
        )
    return found


def active(known: PoolMap) -> tuple[str, ...]:
    """Return the storage domains that nodes use."""
    return tuple(
        each.storage_domain_id
        for each in known.domains
        if each.state is PoolDomainState.ACTIVE
    )


def active_data(known: PoolMap) -> tuple[str, ...]:
    """Return the storage domains that carry the map, the master first."""
    found = [
        each.storage_domain_id
        for each in known.domains
        if each.state is PoolDomainState.ACTIVE
        and each.domain_class is DomainClass.DATA
    ]
    return tuple(sorted(found, key=lambda each: (each != known.master_id, each)))


def active_exports(known: PoolMap) -> tuple[str, ...]:
    """Return the export storage domains that nodes use."""
    return tuple(
        each.storage_domain_id
        for each in known.domains
        if each.state is PoolDomainState.ACTIVE
        and each.domain_class is DomainClass.BACKUP
    )


def with_entry(known: PoolMap, new: PoolDomain) -> PoolMap:
    """Return the map with an entry added or put in the place of the old one."""
    rest = without_entry(known, new.storage_domain_id).domains
    domains = sorted((*rest, new), key=lambda each: each.storage_domain_id)
    return replace(known, domains=tuple(domains))


def without_entry(known: PoolMap, storage_domain_id: str) -> PoolMap:
    """Return the map without a storage domain that may be in it."""
    rest = (d for d in known.domains if d.storage_domain_id != storage_domain_id)
    return replace(known, domains=tuple(rest))


@dataclass(frozen=True, slots=True)
class Said:
    """What people say of a storage domain, beside its name."""

    description: str = ""
    wipe_after_delete: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What a storage domain is from now on; None: as it was."""

    name: str | None = None
    description: str | None = None
    wipe_after_delete: bool | None = None


def said_of(known: StorageDomain) -> Said:
    """Return what is said of a storage domain that was made or detached here."""
    return Said(known.description, known.wipe_after_delete)


def new_entry(
    meta: DomainMeta, connection: Connection | None, said: Said = Said()
) -> PoolDomain:
    """Return what the map says of a storage domain that was attached just now."""
    return PoolDomain(
        *(meta.storage_domain_id, meta.domain_class, PoolDomainState.MAINTENANCE),
        meta.description,
        connection,
        said.description,
        said.wipe_after_delete,
    )


def changed_entry(
    entry: PoolDomain, change: Change, connection: Connection | None
) -> PoolDomain:
    """Return an entry that was changed; StorageDomainActive: nodes are on its way."""
    is_active = entry.state is PoolDomainState.ACTIVE
    if entry.connection is not None and connection != entry.connection and is_active:
        raise StorageDomainActive(f"{entry.storage_domain_id} is active")
    said, is_wiped = change.description, change.wipe_after_delete
    return replace(
        entry,
        connection=connection,
        name=entry.name if change.name is None else change.name,
        description=entry.description if said is None else said,
        wipe_after_delete=entry.wipe_after_delete if is_wiped is None else is_wiped,
    )


def new_map(
    pool_id: str,
    meta: DomainMeta,
    connection: Connection | None,
    name: str,
    said: Said = Said(),
) -> PoolMap:
    """Return the first map of a pool, with its master."""
    master = replace(new_entry(meta, connection, said), state=PoolDomainState.ACTIVE)
    return PoolMap(SCHEMA, pool_id, 1, 1, meta.storage_domain_id, (master,), name)


def has_leases(meta: DomainMeta) -> bool:
    """Tell whether sanlock's leases are there; oVirt's ISO domains have none."""
    return meta.version >= domain_meta.VERSION


def claimed(meta: DomainMeta, pool_id: str, source: str) -> DomainMeta:
    """Return the metadata of a storage domain that this pool takes.

    An ISO storage domain stays with the other pools that it has.
    """
    others = tuple(each for each in meta.pool_ids if each != pool_id)
    is_shared = meta.domain_class is DomainClass.ISO
    return replace(
        meta,
        pool_ids=(*others, pool_id) if is_shared else (pool_id,),
        role=DomainRole.REGULAR,
        remote_path=source,
    )


def disclaimed(meta: DomainMeta, pool_id: str) -> DomainMeta:
    """Return the metadata of a storage domain that this pool lets go."""
    others = tuple(each for each in meta.pool_ids if each != pool_id)
    return replace(meta, pool_ids=others, role=DomainRole.REGULAR)


def check_free(meta: DomainMeta, pool_id: str) -> None:
    """Refuse a storage domain of another pool; an ISO one may have several."""
    others = [each for each in meta.pool_ids if each != pool_id]
    if others and meta.domain_class is not DomainClass.ISO:
        raise OtherPool(
            f"storage domain {meta.storage_domain_id} belongs to pool {others[0]}",
            storage_domain_id=meta.storage_domain_id,
            pool_id=others[0],
        )


def check_ours(meta: DomainMeta, pool_id: str) -> None:
    """Refuse a storage domain that does not say that it is this pool's."""
    check_free(meta, pool_id)
    if pool_id not in meta.pool_ids:
        raise NotInPool(
            f"storage domain {meta.storage_domain_id} does not name pool {pool_id}",
            storage_domain_id=meta.storage_domain_id,
        )


def check_itself(meta: DomainMeta, storage_domain_id: str, pool_id: str) -> None:
    """Refuse what is not the pool's storage domain of that id, wherever it lies."""
    if meta.storage_domain_id != storage_domain_id:
        raise StorageDomainCopied(
            f"what lies there as {storage_domain_id} says that it is "
            f"{meta.storage_domain_id}",
            storage_domain_id=storage_domain_id,
        )
    check_ours(meta, pool_id)


def check_place(meta: DomainMeta, storage_domain_id: str, source: str) -> None:
    """Refuse a storage domain that says that it lies elsewhere: a copy."""
    if meta.storage_domain_id != storage_domain_id or meta.remote_path != source:
        raise StorageDomainCopied(
            f"what lies at {source} as {storage_domain_id} says that it is "
            f"{meta.storage_domain_id} at {meta.remote_path}",
            storage_domain_id=storage_domain_id,
            source=source,
        )


def check_data(meta: DomainMeta) -> None:
    """Refuse ISO and export storage domains."""
    if meta.domain_class is not DomainClass.DATA:
        raise NotAData(f"storage domain {meta.storage_domain_id} holds no data")


def check_master(candidate: PoolDomain) -> None:
    """Refuse what cannot become the master."""
    is_active = candidate.state is PoolDomainState.ACTIVE
    if candidate.domain_class is not DomainClass.DATA or not is_active:
        raise NotAData(
            f"storage domain {candidate.storage_domain_id} cannot be the master: it "
            f"is {candidate.domain_class}, {candidate.state}"
        )
