"""Take the lease of a storage domain's structure (SDM), and give it back.

Whoever changes what a storage domain is (its metadata, its map, whether it exists)
holds its own lease meanwhile, the manager of its pool as anybody else: so two pools
never claim one storage domain at once. Source: docs/formats/spm.md.
"""

import contextlib
import logging
from collections.abc import Iterator

from node.errors import Conflict, Error
from node.model.ids import NodeId
from node.storage.domains import host_ids
from node.storage.domains.access import Access
from node.storage.guard import Guard
from node.storage.process.local_leases import HOST_ID
from node.storage.process.protocol import Need
from node.system.leases import IO_TIMEOUT_S, LeaseHeld

log = logging.getLogger(__name__)


class SpmHeld(Conflict):
    """Another node holds the lease, and may be alive."""

    code = "spm_held"
    remedy = "Tell its holder to leave, or wait until its lease is free."


class SpmMoved(Conflict):
    """The lease had another owner since the caller looked."""

    code = "spm_moved"
    remedy = "Look again who manages the pool, and decide anew."


def join(
    guard: Guard, access: Access, node_id: NodeId, io_timeout_s: int = IO_TIMEOUT_S
) -> int:
    """Join a storage domain's lockspace; return our host id. As `host_ids.join`."""
    if access.is_local:
        guard.join(access.lockspace, HOST_ID)
        return HOST_ID
    files = access.files(guard)
    return host_ids.join(guard, files, access.lockspace, node_id, io_timeout_s)


def leave(guard: Guard, access: Access) -> None:
    """Leave the lockspace. Idempotent. LeaseInUse while a lease in it is held."""
    for each in guard.lockspaces():
        if each.name == access.lockspace.name:
            guard.leave(access.lockspace, each.host_id)


def acquire(guard: Guard, access: Access, lease_version: int | None = None) -> int:
    """Take the lease and return its version; idempotent while this node holds it.

    `lease_version` is what the caller saw. Raises SpmHeld and SpmMoved.
    """
    owner = guard.read_owner(access.spm_lease) if lease_version else None
    if owner is not None and owner.version != lease_version:
        raise SpmMoved(
            f"the lease has version {owner.version}, not {lease_version}",
            lease_version=owner.version,
        )
    try:
        return guard.acquire(access.spm_lease)
    except Conflict as error:
        # The error may have travelled: its code says what it is.
        if error.code != LeaseHeld.code:
            raise
        raise SpmHeld(
            f"the lease of storage domain {access.storage_domain_id} is held: {error}",
            storage_domain_id=access.storage_domain_id,
        ) from error


def release(guard: Guard, access: Access) -> bool:
    """Give the lease back; tell whether it is. Idempotent. Raises nothing."""
    try:
        guard.release(access.spm_lease)
    except Error as error:
        # What still writes under it keeps it; the storage process refuses more.
        log.warning("lease of %s: %s", access.storage_domain_id, error)
        return False
    return True


@contextlib.contextmanager
def holding(
    guard: Guard, access: Access, node_id: NodeId, io_timeout_s: int = IO_TIMEOUT_S
) -> Iterator[Need]:
    """Hold the lease for a while, and give it back. Raises SpmHeld, as `join`.

    The lockspace stays joined.
    """
    join(guard, access, node_id, io_timeout_s)
    need = access.need(acquire(guard, access))
    try:
        yield need
    finally:
        release(guard, access)
