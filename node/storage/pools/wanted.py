"""Remember which storage this node shall reach, so that it needs nobody after a boot.

One setting of the store: the pools that this node is in, each with its map as it was
read last, and storage domains of no pool that were made or imported here. What a verb
wants is written down before it is answered.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from node import wire
from node.model.ids import PoolId, StorageDomainId
from node.model.storage import SpmPriority, StorageDomain
from node.storage import documents
from node.storage.formats.pool_map import PoolMap
from node.storage.spm import pool_rules
from node.store import Store

SETTING: Final = "storage"


@dataclass(frozen=True, slots=True)
class WantedPool:
    pool_id: PoolId
    name: str
    is_local: bool = False
    priority: int = SpmPriority.NORMAL  # of this node, as its manager
    # The way in, as the caller told it; the map knows better once it was read.
    domains: tuple[StorageDomain, ...] = ()
    known: PoolMap | None = None

    def reachable(self) -> tuple[StorageDomain, ...]:
        """Return the storage domains of the pool that this node knows a way to."""
        told = {each.storage_domain_id: each for each in self.domains}
        if self.known is None:
            return self.domains
        found = []
        for entry in self.known.domains:
            storage_domain_id = StorageDomainId(entry.storage_domain_id)
            before = told.get(storage_domain_id)
            connection = entry.connection or (before.connection if before else None)
            if connection is None:
                continue
            found.append(
                StorageDomain(
                    storage_domain_id,
                    entry.name or (before.name if before else ""),
                    documents.domain_class(entry.domain_class),
                    connection,
                    documents.role(self.known, storage_domain_id),
                    self.pool_id,
                    entry.description,
                    wipe_after_delete=entry.wipe_after_delete,
                )
            )
        return tuple(found)

    def is_active(self, storage_domain_id: str) -> bool:
        """Tell whether the map wants it to be used; so it is until one was read."""
        if self.known is None:
            return True
        return storage_domain_id in pool_rules.active(self.known)


@dataclass(frozen=True, slots=True)
class Wanted:
    pools: tuple[WantedPool, ...] = ()
    loose: tuple[StorageDomain, ...] = ()  # of no pool
    schema: int = 1

    def pool(self, pool_id: str) -> WantedPool | None:
        return next((each for each in self.pools if each.pool_id == pool_id), None)

    def find_loose(self, storage_domain_id: str) -> StorageDomain | None:
        for each in self.loose:
            if each.storage_domain_id == storage_domain_id:
                return each
        return None

    def with_pool(self, pool: WantedPool) -> "Wanted":
        rest = self.without_pool(pool.pool_id).pools
        return replace(self, pools=(*rest, pool))

    def with_known(self, pool: WantedPool) -> "Wanted":
        """Return it with what is known of a pool by now, if that is wanted still."""
        return self.with_pool(pool) if self.pool(pool.pool_id) else self

    def without_pool(self, pool_id: str) -> "Wanted":
        kept = tuple(each for each in self.pools if each.pool_id != pool_id)
        return replace(self, pools=kept)

    def with_loose(self, storage_domain: StorageDomain) -> "Wanted":
        rest = self.without_loose(storage_domain.storage_domain_id).loose
        return replace(self, loose=(*rest, storage_domain))

    def without_loose(self, storage_domain_id: str) -> "Wanted":
        kept = (e for e in self.loose if e.storage_domain_id != storage_domain_id)
        return replace(self, loose=tuple(kept))


class Memory:
    """What is wanted, in the store. Any thread may call."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        stored = store.setting(SETTING)
        self._wanted = (
            wire.from_json(Wanted, stored, strict=False) if stored else Wanted()
        )

    @property
    def wanted(self) -> Wanted:
        return self._wanted

    def change(self, change: Callable[[Wanted], Wanted]) -> Wanted:
        """Keep what `change` makes of it; raises what the store raises."""
        with self._lock:
            wanted = change(self._wanted)
            if wanted != self._wanted:
                with self._store.change() as transaction:
                    transaction.set(SETTING, wire.to_json(wanted))
                self._wanted = wanted
            return wanted
