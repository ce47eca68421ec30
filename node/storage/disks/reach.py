"""Say where the manager of a pool may write, and by which leases.

An export storage domain has no lease of its own: it belongs to one pool, so who has
the lease of that pool's master is the only one that writes there.
"""

from collections.abc import Mapping

from node.storage.disks.actions import Home
from node.storage.process.protocol import Need
from node.storage.spm import pool_rules
from node.storage.spm.pool import Pool
from node.storage.spm.term import Term


def homes(pool: Pool, term: Term) -> Mapping[str, Home]:
    """Return the storage domains that plans may touch, within this node's reach."""
    exports = pool_rules.active_exports(pool.map)
    used = {*pool_rules.active_data(pool.map), *exports}
    return {
        each.storage_domain_id: Home(
            str(each.layout.root), each.sector_bytes, each.alignment_bytes
        )
        for each in pool.reached()
        if each.storage_domain_id in used
        and (each.storage_domain_id in term.held or each.storage_domain_id in exports)
    }


def needs(
    storage_domains: Mapping[str, Home], term: Term
) -> Mapping[str, tuple[Need, ...]]:
    """Return what the storage process must hold while it writes to each of them."""
    return {
        each: term.needs(each if each in term.held else term.master_id)
        for each in storage_domains
    }
