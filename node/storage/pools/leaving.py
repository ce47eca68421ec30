"""Say which disks a VM that is deleted would leave behind.

Pure. A disk goes with its VM only where its storage domain is active. Others stay, and
nothing would say that they are nobody's: so that is refused, or told.
"""

from collections.abc import Iterable, Sequence

from node.contract.volumes import DisksAway
from node.model.vm import Disk, Vm
from node.storage.formats.domain_meta import DomainClass
from node.storage.formats.pool_map import PoolDomainState, PoolMap
from node.storage.spm import pool_rules


def away(known: PoolMap, disks: Iterable[Disk]) -> tuple[Disk, ...]:
    """Return the disks that cannot be removed now; on an ISO domain they never are."""
    return tuple(disk for disk in disks if _is_away(known, disk.storage_domain_id))


def check(vm: Vm, disks: Sequence[Disk]) -> None:
    """Refuse to leave disks; DisksAway."""
    if disks:
        named = (f"{each.disk_id} on {each.storage_domain_id}" for each in disks)
        raise DisksAway(
            f"disks of VM {vm.spec.name} would stay: {', '.join(named)}",
            vm_id=vm.spec.vm_id,
        )


def _is_away(known: PoolMap, storage_domain_id: str | None) -> bool:
    if storage_domain_id is None:
        return False
    entry = pool_rules.find(known, storage_domain_id)
    if entry is None:
        return True  # it was detached, or is lost
    is_active = entry.state is PoolDomainState.ACTIVE
    return entry.domain_class is DomainClass.DATA and not is_active
