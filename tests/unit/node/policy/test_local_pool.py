"""What the pool of a node's own disk is called."""

from node.model.ids import NodeId
from node.policy import local_pool


def test_ids_are_what_pools_that_were_made_bear() -> None:
    node_id = NodeId("aaaaaaaa-1111-4222-8333-000000000001")
    found = local_pool.pool_id(node_id), local_pool.storage_domain_id(node_id)
    assert found == (
        "f342fcf7-ed10-5033-b94e-2995c7b278d5",
        "fb3c8a66-a073-5bdf-a84f-123a966b61b0",
    )
