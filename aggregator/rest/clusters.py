"""Show the clusters of the fleet.

What a cluster is capable of is read from its nodes; policies that the product
does not have are shown as off.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from aggregator.federation.view import NodeView
from aggregator.rest import compatibility, element, networks, permissions, select
from aggregator.rest.call import Call, Collection
from aggregator.rest.element import Element
from aggregator.rest.fleet import Cluster
from aggregator.rest.resource import (
    Below,
    Context,
    Field,
    Reference,
    Resource,
    empty,
)
from aggregator.rest.search import Query, SearchField
from aggregator.services import Services
from node.model.verbs import Object


def nodes_of(context: Context, cluster: Cluster) -> Iterable[NodeView]:
    """Yield the nodes of a cluster."""
    for node in context.view.nodes.values():
        if context.fleet.cluster_of(node.node_id) == cluster:
            yield node


def _cpu_type(context: Context, cluster: Cluster) -> str | None:
    """Return the CPU model that all of its nodes have, if there is one."""
    models = {
        node.facts.cpu.libvirt_model
        for node in nodes_of(context, cluster)
        if node.facts is not None
    }
    return models.pop() if len(models) == 1 else None


def _architecture(context: Context, cluster: Cluster) -> str:
    """Return what its nodes are: those that run are x86-64, no other is built."""
    has_facts = any(node.facts is not None for node in nodes_of(context, cluster))
    return "x86_64" if has_facts else "undefined"


def _rng_sources(context: Context, cluster: Cluster) -> Element:
    return element.texts("required_rng_sources", "required_rng_source", ("urandom",))


RESOURCE: Final[Resource[Cluster]] = Resource(
    "cluster",
    "clusters",
    lambda cluster: cluster.cluster_id,
    (
        Field("name", lambda context, row: row.name),
        Field("description", lambda context, row: row.description),
        Field("cpu/architecture", _architecture),
        Field("cpu/type", _cpu_type),
        Field("version/major", lambda context, row: compatibility.LEVEL_MAJOR),
        Field("version/minor", lambda context, row: compatibility.LEVEL_MINOR),
        Field("virt_service", lambda context, row: True),
        Field("gluster_service", lambda context, row: False),
        Field("trusted_service", lambda context, row: False),
        Field("ballooning_enabled", lambda context, row: False),
        Field("ha_reservation", lambda context, row: False),
        Field("threads_as_cores", lambda context, row: True),
        Field("optional_reason", lambda context, row: False),
        Field("maintenance_reason_required", lambda context, row: False),
        Field("switch_type", lambda context, row: "legacy"),
        Field("ksm/enabled", lambda context, row: False),
        Field("ksm/merge_across_nodes", lambda context, row: False),
        Field("memory_policy/over_commit/percent", lambda context, row: 100),
        Field("memory_policy/transparent_hugepages/enabled", lambda context, row: True),
        Field("error_handling/on_error", lambda context, row: "do_not_migrate"),
        Field("fencing_policy/enabled", lambda context, row: False),
        Field("fencing_policy/skip_if_sd_active/enabled", lambda context, row: False),
        Field(
            "fencing_policy/skip_if_connectivity_broken/enabled",
            lambda context, row: False,
        ),
        Field(
            "fencing_policy/skip_if_connectivity_broken/threshold",
            lambda context, row: 50,
        ),
        Field("migration/auto_converge", lambda context, row: "false"),
        Field("migration/compressed", lambda context, row: "false"),
        Field("migration/encrypted", lambda context, row: "false"),
        Field("migration/bandwidth/assignment_method", lambda context, row: "auto"),
        Field("required_rng_sources", _rng_sources),
    ),
    (
        Reference(
            "data_center", lambda context, row: f"datacenters/{row.data_center_id}"
        ),
        Reference("mac_pool", lambda context, row: f"macpools/{networks.MAC_POOL_ID}"),
    ),
    (
        Below(
            "networks", networks.RESOURCE, lambda context, row: networks.in_use(context)
        ),
        Below(
            "permissions",
            permissions.RESOURCE,
            lambda context, row: permissions.on(
                context, Object.CLUSTER, row.cluster_id
            ),
        ),
        empty("affinitygroups", "affinity_groups", "affinity_group"),
        empty("cpuprofiles", "cpu_profiles", "cpu_profile"),
        empty("enabledfeatures", "cluster_features", "cluster_feature"),
        empty("glusterhooks", "gluster_hooks", "gluster_hook"),
        empty("glustervolumes", "gluster_volumes", "gluster_volume"),
        empty("externalnetworkproviders", "external_providers", "external_provider"),
    ),
)


def find(services: Services, context: Context, object_id: str) -> Cluster | None:
    """Return the object of an id, or None if there is none."""
    return next(
        (each for each in context.fleet.clusters if each.cluster_id == object_id), None
    )


def _fields(context: Context) -> Mapping[str, SearchField[Cluster]]:
    def data_center(row: Cluster) -> str:
        return context.fleet.data_center_of(row).name

    return {
        "id": SearchField(lambda row: row.cluster_id),
        "name": SearchField(lambda row: row.name),
        "description": SearchField(lambda row: row.description),
        "comment": SearchField(lambda row: ""),
        "architecture": SearchField(lambda row: _architecture(context, row)),
        "cpu_type": SearchField(lambda row: _cpu_type(context, row)),
        "datacenter": SearchField(data_center),
        "datacenter.name": SearchField(data_center),
        "host.name": SearchField(
            lambda row: tuple(node.name for node in nodes_of(context, row))
        ),
    }


def _select(call: Call, query: Query, maximum: int | None) -> Iterable[Cluster]:
    return select.rows(
        sorted(call.context.fleet.clusters, key=lambda row: row.name.casefold()),
        query,
        maximum,
        _fields(call.context),
        is_case_sensitive=call.parameters.flag("case_sensitive"),
    )


COLLECTION: Final = Collection("clusters", RESOURCE, Object.CLUSTER, find, _select)
