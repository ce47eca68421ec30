"""Show the data centers of the fleet, with their clusters and storage."""

from collections.abc import Iterable, Mapping
from typing import Final

from aggregator.federation.view import NodeState, NodeView
from aggregator.rest import (
    attached_domains,
    clusters,
    compatibility,
    networks,
    parents,
    permissions,
    qoss,
    replies,
    select,
    storage,
)
from aggregator.rest.body import Incomplete
from aggregator.rest.call import Act, Call, Collection, Reply
from aggregator.rest.fleet import DataCenter
from aggregator.rest.resource import (
    Below,
    Context,
    Field,
    Reference,
    Resource,
    empty,
)
from aggregator.rest.search import Kind, Query, SearchField
from aggregator.services import Services
from node.model import storage_verbs as verbs
from node.model.storage import PoolState
from node.model.storage_requests import MoveMaster
from node.model.verbs import ActionGroup, Object

_STATUS: Final[Mapping[PoolState, str]] = {
    PoolState.UP: "up",
    PoolState.CONTENDING: "contend",
    PoolState.MASTER_LOST: "problematic",
    PoolState.MAINTENANCE: "maintenance",
    PoolState.UNREACHABLE: "not_operational",
}
_HEARD: Final = frozenset({NodeState.UP, NodeState.SUSPECT})


def nodes_of(context: Context, data_center: DataCenter) -> Iterable[NodeView]:
    """Yield the nodes that are in a data center's clusters."""
    for node in context.view.nodes.values():
        cluster = context.fleet.cluster_of(node.node_id)
        if cluster.data_center_id == data_center.data_center_id:
            yield node


def status(context: Context, data_center: DataCenter) -> str:
    """Return how a data center is: as its pool is; without one, up while a node is."""
    pool = storage.shared_pool(context, data_center.data_center_id)
    states = {node.state for node in nodes_of(context, data_center)}
    if pool is not None and states & _HEARD:
        return _STATUS[pool.state]
    if not states:
        return "uninitialized"
    return "up" if NodeState.UP in states else "not_operational"


def _is_local(context: Context, data_center: DataCenter) -> bool:
    """Tell whether all disks lie on their nodes' own file systems."""
    return storage.shared_pool(context, data_center.data_center_id) is None


RESOURCE: Final[Resource[DataCenter]] = Resource(
    "data_center",
    "data_centers",
    lambda data_center: data_center.data_center_id,
    (
        Field("name", lambda context, row: row.name),
        Field("description", lambda context, row: row.description),
        Field("comment", lambda context, row: ""),
        Field("local", _is_local),
        Field("quota_mode", lambda context, row: "disabled"),
        Field("status", status),
        Field("storage_format", lambda context, row: "v5"),
        Field("version/major", lambda context, row: compatibility.LEVEL_MAJOR),
        Field("version/minor", lambda context, row: compatibility.LEVEL_MINOR),
    ),
    (Reference("mac_pool", lambda context, row: f"macpools/{networks.MAC_POOL_ID}"),),
    (
        attached_domains.BELOW,
        Below(
            "clusters",
            clusters.RESOURCE,
            lambda context, row: (
                cluster
                for cluster in context.fleet.clusters
                if cluster.data_center_id == row.data_center_id
            ),
        ),
        Below(
            "networks", networks.RESOURCE, lambda context, row: networks.in_use(context)
        ),
        Below(
            "permissions",
            permissions.RESOURCE,
            lambda context, row: permissions.on(
                context, Object.DATA_CENTER, row.data_center_id
            ),
        ),
        empty("quotas", "quotas", "quota"),
        qoss.BELOW,
        empty("iscsibonds", "iscsi_bonds", "iscsi_bond"),
    ),
)


def find(services: Services, context: Context, object_id: str) -> DataCenter | None:
    """Return the object of an id, or None if there is none."""
    return next(
        (
            each
            for each in context.fleet.data_centers
            if each.data_center_id == object_id
        ),
        None,
    )


def _fields(context: Context) -> Mapping[str, SearchField[DataCenter]]:
    def storage_names(row: DataCenter) -> tuple[str, ...]:
        found = storage.domains_of(context, row.data_center_id)
        return tuple(each.name for each in found)

    return {
        "id": SearchField(lambda row: row.data_center_id),
        "name": SearchField(lambda row: row.name),
        "description": SearchField(lambda row: row.description),
        "comment": SearchField(lambda row: ""),
        "local": SearchField(lambda row: _is_local(context, row), Kind.TRUTH),
        "storage": SearchField(storage_names),
        "storage.name": SearchField(storage_names),
        "status": SearchField(lambda row: status(context, row), Kind.STATUS),
        "cluster.name": SearchField(
            lambda row: tuple(
                cluster.name
                for cluster in context.fleet.clusters
                if cluster.data_center_id == row.data_center_id
            )
        ),
    }


def _select(call: Call, query: Query, maximum: int | None) -> Iterable[DataCenter]:
    return select.rows(
        sorted(call.context.fleet.data_centers, key=lambda row: row.name.casefold()),
        query,
        maximum,
        _fields(call.context),
        is_case_sensitive=call.parameters.flag("case_sensitive"),
    )


def _set_master(call: Call, row: DataCenter) -> Reply:
    """Make another storage domain the master of the shared pool."""
    pool = storage.shared_pool(call.context, row.data_center_id)
    wanted = parents.storage_domain(call.context, call.body.child("storage_domain"))
    if wanted is None:
        raise Incomplete("Action [storageDomain.id|name] required for setMaster")
    if pool is None or wanted.pool_id != pool.pool_id:
        raise parents.NoSuchParent(
            f"storage domain {wanted.name} is not attached to {row.name}"
        )
    request = MoveMaster(wanted.storage_domain_id)
    verb = verbs.POOL_MOVE_MASTER
    return replies.follow(
        call, replies.storage_order(call, verb, pool.pool_id, request)
    )


def _clean(call: Call, row: DataCenter) -> Reply:
    """Answer that nothing is left to clean: finished jobs leave nothing behind."""
    return Reply(replies.action(call, None))


COLLECTION: Final = Collection(
    "datacenters",
    RESOURCE,
    Object.DATA_CENTER,
    find,
    _select,
    acts=(
        Act("setmaster", ActionGroup.EDIT_POOL, _set_master),
        Act("cleanfinishedtasks", ActionGroup.EDIT_POOL, _clean),
    ),
    deeds=(*attached_domains.DEEDS, *qoss.DEEDS),
)
