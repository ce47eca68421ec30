"""Name the pool of a node's own disk: its ids follow from the node's. Pure.

So who hears of a VM knows from its pool alone whether it is tied to its node.
"""

import uuid

from node.model.ids import NodeId, PoolId, StorageDomainId


def pool_id(node_id: NodeId) -> PoolId:
    """Return the pool that one node is in, and no other."""
    return PoolId(_derived(node_id, "local pool"))


def storage_domain_id(node_id: NodeId) -> StorageDomainId:
    """Return the storage domain that the pool was founded with."""
    return StorageDomainId(_derived(node_id, "local storage domain"))


def _derived(node_id: NodeId, part: str) -> str:
    return str(uuid.uuid5(uuid.UUID(node_id), part))
