"""Make the next View's pools, storage domains and disks while one node speaks.

Pure but for its own draft. Costs O(changes · log n); who is believed is weighed anew
among a pool's nodes only when a mark, a state or a silence changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from immutables import Map

from aggregator.federation import beliefs, storage_reading
from aggregator.federation.naming import Naming
from aggregator.federation.templates_draft import TemplatesDraft
from aggregator.federation.view import (
    DiskRow,
    DomainSight,
    NodeView,
    PoolRow,
    PoolSight,
    StorageDomainRow,
    View,
)
from node.model.feed import Kind
from node.model.ids import DiskId, NodeId, PoolId, StorageDomainId

NO_LEASE: Final = -1  # below that of a document without a mark


@dataclass(frozen=True, slots=True)
class Dispute:
    """Two nodes say different things with one mark."""

    kind: Kind
    name: str
    node_id: NodeId
    other: NodeId


class StorageDraft:
    def __init__(self, view: View, node: NodeView, *, is_silent: bool) -> None:
        self.disputes: list[Dispute] = []
        self._view = view
        self._node_id = node.node_id
        self._is_silent = is_silent
        self._pools = view.pools
        self._pool_names = Naming(view.pool_order)
        self._domains = view.storage_domains
        self._domain_names = Naming(view.storage_domain_order)
        self._disks = view.disks.mutate()
        self._claims = view.disk_claims.mutate()
        self._disk_names = Naming(view.disk_order)
        self._leases = view.disk_leases
        self._raised: set[PoolId] = set()
        self._pool_ids = set(node.pool_ids)
        self._domain_ids = set(node.storage_domain_ids)
        self._disk_pools = node.disk_pools
        self.templates = TemplatesDraft(view, node)

    def known(self) -> list[tuple[str, str]]:
        """Return (kind, id) of what the node has said so far."""
        return [
            *((Kind.POOL, pool_id) for pool_id in self._pool_ids),
            *((Kind.STORAGE_DOMAIN, domain_id) for domain_id in self._domain_ids),
            *((Kind.DISK, disk_id) for disk_id in self._disk_pools),
            *self.templates.known(),
        ]

    def take_pool(self, pool_id: PoolId, body: bytes | None) -> None:
        """Put a node's document of a pool in, or out."""
        row = self._pools.get(pool_id)
        sights: Map[NodeId, PoolSight] = Map() if row is None else row.sights
        before = sights.get(self._node_id)
        if body is None:
            if before is None:
                return
            self._pool_ids.discard(pool_id)
            sights = sights.delete(self._node_id)
            self._show_pool(pool_id, beliefs.pool(pool_id, sights) if sights else None)
            return
        self._pool_ids.add(pool_id)
        sight = storage_reading.read_pool_sight(
            self._node_id, body, is_silent=self._is_silent
        )
        sights = sights.set(self._node_id, sight)
        is_shown = row is not None and self._node_id in (row.node_id, row.speaker)
        if row is None or is_shown or beliefs.has_other_weight(before, sight):
            self._show_pool(pool_id, beliefs.pool(pool_id, sights))
        else:
            self._show_pool(pool_id, replace(row, sights=sights))

    def take_domain(self, domain_id: StorageDomainId, body: bytes | None) -> None:
        """Put a node's document of a storage domain in, or out."""
        row = self._domains.get(domain_id)
        sights: Map[NodeId, DomainSight] = Map() if row is None else row.sights
        before = sights.get(self._node_id)
        if body is None:
            if before is None:
                return
            self._domain_ids.discard(domain_id)
            sights = sights.delete(self._node_id)
            after = beliefs.storage_domain(domain_id, sights) if sights else None
            self._show_domain(domain_id, after)
            return
        self._domain_ids.add(domain_id)
        sight = storage_reading.read_domain_sight(
            self._node_id, body, is_silent=self._is_silent
        )
        sights = sights.set(self._node_id, sight)
        is_shown = row is not None and self._node_id in (row.node_id, row.speaker)
        if row is None or is_shown or beliefs.has_other_weight(before, sight):
            self._show_domain(domain_id, beliefs.storage_domain(domain_id, sights))
        else:
            self._show_domain(domain_id, replace(row, sights=sights))

    def take_disk(self, disk_id: DiskId, body: bytes | None) -> None:
        """Put a disk in as a node says, or out."""
        claim = None
        if body is None and (left := self._left(disk_id)) is not None:
            claim = left
        elif body is not None:
            claim = storage_reading.read_disk(disk_id, self._node_id, body)
            self._disk_pools = self._disk_pools.set(disk_id, claim.pool_id or "")
            if claim.mark is not None and claim.pool_id is not None:
                self._raise_lease(claim.pool_id, claim.mark.lease_version)
        elif disk_id in self._disk_pools:
            self._disk_pools = self._disk_pools.delete(disk_id)
        else:
            return
        claims = [each for each in self._all(disk_id) if each.node_id != self._node_id]
        if claim is not None:
            claims.append(claim)
        self._set_claims(disk_id, claims)

    def hush(self) -> None:
        """Note in all that the node said whether it is silent now."""
        for pool_id in self._pool_ids:
            pool = self._pools[pool_id]
            sight = pool.sights[self._node_id]
            sights = pool.sights.set(
                self._node_id, replace(sight, is_silent=self._is_silent)
            )
            self._show_pool(pool_id, beliefs.pool(pool_id, sights))
        for domain_id in self._domain_ids:
            domain = self._domains[domain_id]
            seen = domain.sights[self._node_id]
            seen_by = domain.sights.set(
                self._node_id, replace(seen, is_silent=self._is_silent)
            )
            self._show_domain(domain_id, beliefs.storage_domain(domain_id, seen_by))

    def finish(self) -> dict[str, Any]:
        """Return the fields of the View that hold it all."""
        for pool_id in self._raised:
            self._void(pool_id)
        return {
            "pools": self._pools,
            "pool_order": self._pool_names.finish(),
            "storage_domains": self._domains,
            "storage_domain_order": self._domain_names.finish(),
            "disks": self._disks.finish(),
            "disk_claims": self._claims.finish(),
            "disk_order": self._disk_names.finish(),
            "disk_leases": self._leases,
            **self.templates.finish(self._pools, self._leases, self._raised),
        }

    def finish_node(self) -> dict[str, Any]:
        """Return the fields of the node that tell what it said."""
        return {
            "pool_ids": frozenset(self._pool_ids),
            "storage_domain_ids": frozenset(self._domain_ids),
            "disk_pools": self._disk_pools,
            **self.templates.finish_node(),
        }

    def _left(self, disk_id: DiskId) -> DiskRow | None:
        """Return a disk that its former manager tells no more; None: it is gone.

        Only the manager deletes disks. Who is manager no more, and says nothing of
        them, leaves them to the next one, which may need seconds to read them.
        """
        of_pool = self._disk_pools.get(disk_id)
        pool = self._pools.get(PoolId(of_pool)) if of_pool else None
        sight = None if pool is None else pool.sights.get(self._node_id)
        if sight is None or sight.mark is not None:
            return None
        own = [each for each in self._all(disk_id) if each.node_id == self._node_id]
        lease = self._leases.get(PoolId(of_pool or ""), NO_LEASE)
        if not own or beliefs.disk(own, lease) is None:
            return None
        return replace(own[0], is_left=True)

    def _raise_lease(self, pool_id: PoolId, lease: int) -> None:
        pool = self._pools.get(pool_id)
        if pool is not None and pool.is_local:
            return  # made anew on an empty disk, it counts from the beginning
        if lease > self._leases.get(pool_id, NO_LEASE):
            self._leases = self._leases.set(pool_id, lease)
            self._raised.add(pool_id)

    def _void(self, pool_id: PoolId) -> None:
        """Weigh anew what the pool's other nodes said of its disks."""
        pool = self._pools.get(pool_id)
        for node_id in () if pool is None else pool.sights:
            disk_pools = self._view.nodes[node_id].disk_pools
            if node_id == self._node_id:
                continue
            for disk_id, of_pool in disk_pools.items():
                if of_pool == pool_id:
                    self._set_claims(disk_id, list(self._all(disk_id)))

    def _all(self, disk_id: DiskId) -> tuple[DiskRow, ...]:
        """Return all claims of a disk."""
        claims = self._claims.get(disk_id)
        if claims is not None:
            return claims
        shown = self._disks.get(disk_id)
        return () if shown is None else (shown,)

    def _set_claims(self, disk_id: DiskId, claims: list[DiskRow]) -> None:
        """Show what is believed of these claims."""
        lease = max(
            (
                self._leases.get(each.pool_id, NO_LEASE)
                for each in claims
                if each.pool_id
            ),
            default=NO_LEASE,
        )
        # What a former manager left behind is of no use once the next has spoken.
        claims = [each for each in claims if not each.is_left or _counts(each, lease)]
        before, shown = self._disks.get(disk_id), beliefs.disk(claims, lease)
        if shown is not None:
            self._disks[disk_id] = shown
        elif before is not None:
            del self._disks[disk_id]
        if claims and claims != [shown]:
            self._claims[disk_id] = tuple(sorted(claims, key=lambda each: each.node_id))
        elif disk_id in self._claims:
            del self._claims[disk_id]
        self._disk_names.change(disk_id, *map(_disk_name, (before, shown)))
        if shown is not None and shown.is_disputed and not _is_disputed(before):
            self.disputes += _disputes(Kind.DISK, shown.name, shown, claims)

    def _show_pool(self, pool_id: PoolId, after: PoolRow | None) -> None:
        before = self._pools.get(pool_id)
        if after is None:
            self._pools = self._pools.delete(pool_id)
        else:
            self._pools = self._pools.set(pool_id, after)
        if (after is None or after.is_local) and pool_id in self._leases:
            self._leases = self._leases.delete(pool_id)
        self._pool_names.change(pool_id, *map(_name, (before, after)))
        if after is not None and after.is_disputed and not _is_disputed(before):
            sights = after.sights.values()
            self.disputes += _disputes(Kind.POOL, after.name, after, sights)

    def _show_domain(
        self, domain_id: StorageDomainId, after: StorageDomainRow | None
    ) -> None:
        before = self._domains.get(domain_id)
        if after is None:
            self._domains = self._domains.delete(domain_id)
        else:
            self._domains = self._domains.set(domain_id, after)
        self._domain_names.change(domain_id, *map(_name, (before, after)))
        if after is not None and after.is_disputed and not _is_disputed(before):
            sights = after.sights.values()
            kind = Kind.STORAGE_DOMAIN
            self.disputes += _disputes(kind, after.name, after, sights)


_Row = PoolRow | StorageDomainRow | DiskRow


def _counts(claim: DiskRow, lease: int) -> bool:
    return beliefs.disk((claim,), lease) is not None


def _disk_name(row: DiskRow | None) -> str | None:
    """Return by what name a disk is listed; None: it is not."""
    return None if row is None or row.is_ovf_store else row.name


def _name(row: _Row | None) -> str | None:
    return None if row is None else row.name


def _is_disputed(row: _Row | None) -> bool:
    return row is not None and row.is_disputed


def _disputes(kind: Kind, name: str, shown: _Row, claims: Any) -> Iterator[Dispute]:
    """Yield the dispute of the one that is shown with another of the same mark."""
    for each in claims:
        if each.mark == shown.mark and each.node_id != shown.node_id:
            yield Dispute(kind, name, shown.node_id, each.node_id)
            return
