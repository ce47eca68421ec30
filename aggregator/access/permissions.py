"""Decide who may: roles give action groups, on an object and all below it.

Pure. The tree is vm → cluster → data center → fleet, node → cluster likewise;
storage domains, pools, disks and templates are in data centers, which nodes of several
clusters share. A grant on an object holds for everything beneath it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.access.identity import UserId
from node.errors import Denied
from node.model.verbs import ActionGroup, Object


class NotPermitted(Denied):
    code = "not_permitted"
    remedy = "Ask an administrator for a role that allows it."


@dataclass(frozen=True, slots=True)
class Place:
    """An object that a grant can be on; the fleet has no id."""

    object: Object
    object_id: str | None = None


@dataclass(frozen=True, slots=True)
class Role:
    role_id: str
    name: str
    groups: frozenset[ActionGroup]


@dataclass(frozen=True, slots=True)
class Grant:
    user_id: UserId
    role_id: str
    place: Place


FLEET: Final = Place(Object.FLEET)

_OF_DATA_CENTERS: Final = frozenset(
    {Object.STORAGE_DOMAIN, Object.POOL, Object.DISK, Object.TEMPLATE}
)

# Ids of roles that come with the program; SuperUser's is the one oVirt gives it.
SUPER_USER: Final = Role(
    "00000000-0000-0000-0000-000000000001", "SuperUser", frozenset(ActionGroup)
)
READ_ONLY_ADMIN: Final = Role(
    "8f2b5a0e-53d3-4b0f-9d5a-6c5f0b7c1a11",
    "ReadOnlyAdmin",
    frozenset({ActionGroup.READ}),
)
ROLES: Final[Mapping[str, Role]] = {
    role.role_id: role for role in (SUPER_USER, READ_ONLY_ADMIN)
}


@dataclass(frozen=True, slots=True)
class Tree:
    """Which cluster and data center things are in.

    VMs and nodes that `clusters` does not name are in the default cluster.
    """

    default_cluster_id: str
    clusters: Mapping[str, str]  # id of a VM or node → its cluster's
    data_centers: Mapping[str, str]  # cluster's id → its data center's

    def upwards(self, place: Place) -> tuple[Place, ...]:
        """Return the place and all that it lies in, up to the fleet."""
        if place.object is Object.FLEET:
            return (FLEET,)
        if place.object is Object.DATA_CENTER:
            return (place, FLEET)
        if place.object is Object.CLUSTER:
            above = self.data_centers.get(place.object_id or "")
            return (place, *self.upwards(Place(Object.DATA_CENTER, above)))
        cluster_id = self.clusters.get(place.object_id or "", self.default_cluster_id)
        if place.object in _OF_DATA_CENTERS:
            above = self.data_centers.get(cluster_id)
            return (place, *self.upwards(Place(Object.DATA_CENTER, above)))
        return (place, *self.upwards(Place(Object.CLUSTER, cluster_id)))


def may(
    user_id: UserId,
    group: ActionGroup,
    path: Collection[Place],
    grants: Iterable[Grant],
    roles: Mapping[str, Role] = ROLES,
) -> bool:
    """Tell whether a grant on one of the places of a path allows the group."""
    return any(
        grant.user_id == user_id
        and grant.place in path
        and grant.role_id in roles
        and group in roles[grant.role_id].groups
        for grant in grants
    )
