"""Read the fleet's own documents: data centers, clusters, users, permissions.

Pure but for `load`.
"""

import functools
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from aggregator import db
from aggregator.access import permissions
from aggregator.access.permissions import Role
from aggregator.fleet import disk_profiles, properties
from aggregator.policies.profiles import Profiles
from aggregator.policies.properties import Declarations
from node import wire
from node.model.storage import Connection

# Makes ids of what has none of its own: networks, templates, statistics.
_NAMESPACE: Final = uuid.UUID("0b7e1d6a-3a3b-4a60-8a4e-6a0c7e7f3a51")
# Internal users belong to this domain in oVirt, and scripts name it.
AUTHORIZATION: Final = "internal-authz"


@dataclass(frozen=True, slots=True)
class DataCenter:
    data_center_id: str
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Cluster:
    cluster_id: str
    name: str
    description: str
    data_center_id: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class StoragePool:
    """The pool that the nodes of a data center share."""

    pool_id: str
    name: str
    data_center_id: str


@dataclass(frozen=True, slots=True)
class StorageConnection:
    """Where a storage domain may be made: known before there is one."""

    connection_id: str
    connection: Connection


@dataclass(frozen=True, slots=True)
class User:
    user_id: str
    user: str  # admin@internal
    is_enabled: bool

    @property
    def name(self) -> str:
        return self.user.rpartition("@")[0]


@dataclass(frozen=True, slots=True)
class Permission:
    permission_id: str
    user_id: str
    role_id: str
    object: str  # of node.model.verbs.Object
    object_id: str | None


@dataclass(frozen=True, slots=True)
class Fleet:
    data_centers: tuple[DataCenter, ...]
    clusters: tuple[Cluster, ...]
    users: tuple[User, ...]
    permissions: tuple[Permission, ...]
    roles: tuple[Role, ...]
    pools: tuple[StoragePool, ...] = ()
    connections: tuple[StorageConnection, ...] = ()
    profiles: Profiles = field(default_factory=Profiles)
    properties: Declarations = field(default_factory=dict)

    def cluster_of(self, object_id: str) -> Cluster:
        """Return the cluster of a VM or node: so far the default has them all."""
        return next(
            (cluster for cluster in self.clusters if cluster.is_default),
            self.clusters[0],
        )

    def data_center_of(self, cluster: Cluster) -> DataCenter:
        return next(
            each
            for each in self.data_centers
            if each.data_center_id == cluster.data_center_id
        )


def load(database: db.Database) -> Fleet:
    """Return the fleet's documents as they are now."""
    return read(database.records("fleet").list())


def read(records: Iterable[db.Record]) -> Fleet:
    """Return the documents in the fleet's records."""
    found = tuple(records)
    data_centers, clusters, users, granted = [], [], [], []
    pools, connections = [], []
    for record in found:
        kind, _, object_id = record.id.partition("/")
        body = record.body
        if kind == "data_center":
            description = body.get("description", "")
            data_centers.append(DataCenter(object_id, body["name"], description))
        elif kind == "cluster":
            clusters.append(
                Cluster(
                    object_id,
                    body["name"],
                    body.get("description", ""),
                    body["data_center_id"],
                    bool(body.get("is_default")),
                )
            )
        elif kind == "user":
            is_enabled = bool(body.get("is_enabled", True))
            users.append(User(object_id, body["user"], is_enabled))
        elif kind == "permission":
            granted.append(
                Permission(
                    object_id,
                    body["user_id"],
                    body["role_id"],
                    body["object"],
                    body.get("object_id"),
                )
            )
        elif kind == "pool":
            pools.append(StoragePool(object_id, body["name"], body["data_center_id"]))
        elif kind == "storage_connection":
            connection = wire.from_json(Connection, body, strict=False)
            connections.append(StorageConnection(object_id, connection))
    return Fleet(
        tuple(data_centers),
        tuple(clusters),
        tuple(users),
        tuple(granted),
        tuple(permissions.ROLES.values()),
        tuple(pools),
        tuple(connections),
        disk_profiles.read(found),
        properties.read(found),
    )


def connection_record(connection_id: str) -> str:
    """Return the record's id of a storage connection."""
    return f"storage_connection/{connection_id}"


@functools.lru_cache(maxsize=10_000)  # some pages: it is a checksum, and never changes
def derived_id(*parts: str) -> str:
    """Return the id of something that is named by its parts: always the same."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))
