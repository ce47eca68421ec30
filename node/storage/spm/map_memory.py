"""Know the newest map of a pool: what was read last, or remembered from before.

Never an older one: a node that sees only old maps says so, and waits.
"""

import threading
from collections.abc import Callable, Mapping

from node.errors import Unavailable
from node.storage.formats import pool_map
from node.storage.formats.pool_map import PoolMap, PoolMapsDiffer
from node.storage.spm import pool_rules


class PoolLost(Unavailable):
    """No storage domain within reach has the pool's map."""

    code = "pool_map_lost"
    remedy = "Repair the storage, or reconstruct the master on another storage domain."


class MapMemory:
    """What one node knows of one pool's map. Any thread may call."""

    def __init__(
        self, pool_id: str, remember: Callable[[PoolMap], None], known: PoolMap | None
    ) -> None:
        """`known` is the map that this node remembered last."""
        self._pool_id = pool_id
        self._remember = remember
        self._lock = threading.Lock()
        self._map = known

    @property
    def known(self) -> PoolMap | None:
        """The newest map; None: nothing was ever read."""
        return self._map

    def require(self) -> PoolMap:
        """Return the newest map; PoolLost."""
        if self._map is None:
            raise PoolLost(f"nothing is known of pool {self._pool_id}")
        return self._map

    def names(self, storage_domain_id: str) -> bool:
        """Tell whether a storage domain is of the pool, as far as is known."""
        known = self._map
        found = None if known is None else pool_rules.find(known, storage_domain_id)
        return found is not None

    def believe(self, found: PoolMap) -> PoolMap:
        """Know a map from now on, and return it; PoolLost if we know a newer one."""
        with self._lock:
            if self._map is not None and self._map.version > found.version:
                raise PoolLost(
                    f"only older maps than {self._map.version} are within reach"
                )
            is_news = self._map != found
            self._map = found
        if is_news:
            self._remember(found)
        return found

    def believe_newest(self, found: Mapping[str, PoolMap | None]) -> PoolMap:
        """Know the newest of those that were read. Raises PoolLost, PoolMapsDiffer."""
        return self.believe(self._newest(found))

    def best(self, found: Mapping[str, PoolMap | None], trusted_id: str) -> PoolMap:
        """Return the newest map that was read or remembered; PoolLost.

        Where two contradict each other, that of the trusted storage domain.
        """
        trusted = found.get(trusted_id)
        try:
            newest = self._newest(found)
        except PoolMapsDiffer:
            if trusted is None:
                raise
            newest = trusted
        except PoolLost:
            return self.require()
        if self._map is not None and self._map.version > newest.version:
            return self._map
        return newest

    def _newest(self, found: Mapping[str, PoolMap | None]) -> PoolMap:
        newest = pool_map.newest({k: v for k, v in found.items() if v is not None})
        if newest is None:
            raise PoolLost(f"no storage domain has the map of pool {self._pool_id}")
        return newest
