"""Show the logical networks: the names of the bridges that nodes offer.

Each has one vNIC profile of its own name. All MAC addresses come from one pool.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aggregator import macs
from aggregator.rest import element, fleet, select
from aggregator.rest.call import Call, Collection
from aggregator.rest.element import Element
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


@dataclass(frozen=True, slots=True)
class Network:
    name: str
    data_center_id: str

    @property
    def network_id(self) -> str:
        return network_id(self.name)

    @property
    def profile_id(self) -> str:
        return profile_id(self.name)


@dataclass(frozen=True, slots=True)
class MacPool:
    first: str
    last: str


MAC_POOL_ID: Final = fleet.derived_id("macpool", macs.PREFIX)
_MAC_POOL: Final = MacPool(macs.FIRST, macs.LAST)


def network_id(name: str) -> str:
    """Return the id of the network of a name."""
    return fleet.derived_id("network", name)


def profile_id(name: str) -> str:
    """Return the id of the vNIC profile of a network."""
    return fleet.derived_id("vnicprofile", name)


def in_use(context: Context) -> tuple[Network, ...]:
    """Return the networks that at least one node offers, by name."""
    names = {
        name
        for node in context.view.nodes.values()
        if node.facts is not None
        for name in node.facts.networks
    }
    data_center_id = context.fleet.cluster_of("").data_center_id
    return tuple(Network(name, data_center_id) for name in sorted(names))


def _usages(context: Context, network: Network) -> Element:
    return element.texts("usages", "usage", ("vm",))


def _data_center(context: Context, network: Network) -> str:
    return f"datacenters/{network.data_center_id}"


PROFILE: Final[Resource[Network]] = Resource(
    "vnic_profile",
    "vnic_profiles",
    lambda network: network.profile_id,
    (
        Field("name", lambda context, row: row.name),
        Field("pass_through/mode", lambda context, row: "disabled"),
        Field("port_mirroring", lambda context, row: False),
    ),
    (Reference("network", lambda context, row: f"networks/{row.network_id}"),),
    (empty("permissions", "permissions", "permission"),),
)

RESOURCE: Final[Resource[Network]] = Resource(
    "network",
    "networks",
    lambda network: network.network_id,
    (
        Field("name", lambda context, row: row.name),
        Field("vdsm_name", lambda context, row: row.name),
        Field("mtu", lambda context, row: 0),
        Field("stp", lambda context, row: False),
        Field("usages", _usages),
    ),
    (Reference("data_center", _data_center),),
    (
        Below("vnicprofiles", PROFILE, lambda context, row: (row,)),
        empty("networklabels", "network_labels", "network_label"),
        empty("permissions", "permissions", "permission"),
    ),
)


def _ranges(context: Context, pool: MacPool) -> Element:
    limits = (Element("from", pool.first), Element("to", pool.last))
    return element.listed("ranges", (Element("range", children=limits),))


_MAC_POOLS: Final[Resource[MacPool]] = Resource(
    "mac_pool",
    "mac_pools",
    lambda pool: MAC_POOL_ID,
    (
        Field("name", lambda context, row: "Default"),
        Field("default_pool", lambda context, row: True),
        Field("allow_duplicates", lambda context, row: False),
        Field("ranges", _ranges),
    ),
)


def find(services: Services, context: Context, object_id: str) -> Network | None:
    """Return the object of an id, or None if there is none."""
    return next(
        (each for each in in_use(context) if each.network_id == object_id), None
    )


def _find_profile(
    services: Services, context: Context, object_id: str
) -> Network | None:
    return next(
        (each for each in in_use(context) if each.profile_id == object_id), None
    )


def _find_pool(services: Services, context: Context, object_id: str) -> MacPool | None:
    return _MAC_POOL if object_id == MAC_POOL_ID else None


def _fields(context: Context) -> Mapping[str, SearchField[Network]]:
    def data_center(row: Network) -> str:
        return context.fleet.data_center_of(context.fleet.cluster_of("")).name

    return {
        "id": SearchField(lambda row: row.network_id),
        "name": SearchField(lambda row: row.name),
        "description": SearchField(lambda row: ""),
        "datacenter": SearchField(data_center),
        "datacenter.name": SearchField(data_center),
    }


def _select(call: Call, query: Query, maximum: int | None) -> Iterable[Network]:
    return select.rows(
        in_use(call.context),
        query,
        maximum,
        _fields(call.context),
        is_case_sensitive=call.parameters.flag("case_sensitive"),
    )


def _select_pools(call: Call, query: Query, maximum: int | None) -> Iterable[MacPool]:
    return select.rows((_MAC_POOL,), query, maximum, {})


COLLECTION: Final = Collection("networks", RESOURCE, Object.FLEET, find, _select)
PROFILES: Final = Collection(
    "vnicprofiles",
    PROFILE,
    Object.FLEET,
    _find_profile,
    _select,
    is_searchable=False,
)
MAC_POOLS: Final = Collection(
    "macpools",
    _MAC_POOLS,
    Object.FLEET,
    _find_pool,
    _select_pools,
    is_searchable=False,
)
