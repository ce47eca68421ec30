"""Say what this node has of each pool, for those who serve VMs and templates."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from node.contract.volumes import OwnPool
from node.model.ids import PoolId, StorageDomainId
from node.storage.disks.verbs import Disks
from node.storage.domains.catalog import Catalog
from node.storage.spm.pool import Pool
from node.storage.spm.states import State
from node.storage.spm.vm_store import VmStore


def _nothing() -> None:
    """Hear that definitions of VMs are others."""


@dataclass(frozen=True, slots=True)
class Part:
    """What this node has of one pool."""

    pool: Pool
    vms: VmStore
    catalog: Catalog
    disks: Disks
    is_local: bool
    on_change: Callable[[], None] = _nothing  # definitions of VMs are others
    # What is known of the pool is true, also after a restart of the agent.
    is_settled: Callable[[], bool] = lambda: True
    trouble: Callable[[], str] = lambda: ""  # what went wrong last, while it lasts


def own(parts: Iterable[Part]) -> OwnPool | None:
    """Return the pool of this node's own disk; None: there is none."""
    for part in parts:
        if part.is_local:
            pool_id = PoolId(part.pool.pool_id)
            if part.pool.spm.state is not State.SERVING:
                return OwnPool(pool_id, None, part.trouble())
            return OwnPool(pool_id, StorageDomainId(part.pool.map.master_id))
    return None
