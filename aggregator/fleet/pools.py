"""Keep which pool the nodes of a data center share.

One shared pool a data center, whose id is chosen once: its storage domains name it.
Part of the fleet's documents, so that every node keeps a sealed copy.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aggregator import db
from node import wire
from node.errors import Conflict, NotFound
from node.model.ids import NodeId, PoolId, StorageDomainId

_PREFIX: Final = "pool/"


class DataCenterNotFound(NotFound):
    code = "data_center_not_found"
    remedy = "Check the id; see the fleet's data centers."


class OtherPoolFounded(Conflict):
    """The pool is being made on another storage domain."""

    code = "pool_founded_elsewhere"
    remedy = "Wait until the pool is there, then attach the storage domain to it."


@dataclass(frozen=True, slots=True)
class StoragePoolDocument:
    pool_id: PoolId
    name: str
    data_center_id: str
    # The storage domain that it was or is being made on; None: nobody began.
    founded_on: StorageDomainId | None = None


class Pools:
    def __init__(
        self,
        database: db.Database,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._records = database.records("fleet")
        self._new_id = new_id

    def list(self) -> tuple[StoragePoolDocument, ...]:
        """Return the pools of all data centers."""
        return tuple(
            wire.from_json(
                StoragePoolDocument,
                {**record.body, "pool_id": record.id.removeprefix(_PREFIX)},
                strict=False,
            )
            for record in self._records.list()
            if record.id.startswith(_PREFIX)
        )

    def of(self, data_center_id: str) -> StoragePoolDocument | None:
        """Return the pool of a data center; None if it has none."""
        return next(
            (each for each in self.list() if each.data_center_id == data_center_id),
            None,
        )

    def named(self, name: str) -> StoragePoolDocument | None:
        """Return the pool of that name that is a data center's; None: there is none."""
        return next((each for each in self.list() if each.name == name), None)

    def ensure(self, data_center_id: str) -> StoragePoolDocument:
        """Return the pool of a data center; choose its id if it has none."""
        known = self.of(data_center_id)
        if known is not None:
            return known
        name = self.data_centers().get(data_center_id)
        if name is None:
            raise DataCenterNotFound(f"there is no data center {data_center_id}")
        return self.adopt(PoolId(self._new_id()), name, data_center_id)

    def adopt(
        self, pool_id: PoolId, name: str, data_center_id: str
    ) -> StoragePoolDocument:
        """Make a pool that of a data center; one that nobody began to make goes."""
        known = self.of(data_center_id)
        if known is not None and known.founded_on is None:
            self._records.delete(f"{_PREFIX}{known.pool_id}")
        document = StoragePoolDocument(pool_id, name, data_center_id)
        self._put(document)
        return document

    def renew(self, pool: StoragePoolDocument) -> StoragePoolDocument:
        """Return a pool in the place of one that is no more; its id is another."""
        self._records.delete(f"{_PREFIX}{pool.pool_id}")
        return self.ensure(pool.data_center_id)

    def founded_on(self, pool_id: PoolId) -> StorageDomainId | None:
        """Return the storage domain that a pool was or is being made on."""
        document = self._get(pool_id)
        return None if document is None else document.founded_on

    def found(self, pool_id: PoolId, master: StorageDomainId) -> None:
        """Note that a pool is about to be made: OtherPoolFounded, if elsewhere.

        Before anything is sent: two pools of one id would never be told apart.
        """
        document = self._get(pool_id)
        if document is None:
            return
        if document.founded_on not in (None, master):
            raise OtherPoolFounded(
                f"pool {document.name} is being made on {document.founded_on}"
            )
        self._put(
            StoragePoolDocument(pool_id, document.name, document.data_center_id, master)
        )

    def unfound(self, pool_id: PoolId, master: StorageDomainId) -> None:
        """Note that a pool was not made there after all."""
        document = self._get(pool_id)
        if document is not None and document.founded_on == master:
            self._put(
                StoragePoolDocument(pool_id, document.name, document.data_center_id)
            )

    def data_center_of(self, node_id: NodeId) -> str:
        """Return the data center of a node: so far the default cluster has all."""
        return self.default_data_center()

    def default_data_center(self) -> str:
        """Return the data center of the default cluster."""
        clusters = {
            record.id: record.body
            for record in self._records.list()
            if record.id.startswith("cluster/")
        }
        default = next(
            (body for body in clusters.values() if body.get("is_default")),
            next(iter(clusters.values())),
        )
        return str(default["data_center_id"])

    def data_centers(self) -> dict[str, str]:
        """Return the names of data centers by their ids."""
        prefix = "data_center/"
        return {
            record.id.removeprefix(prefix): record.body["name"]
            for record in self._records.list()
            if record.id.startswith(prefix)
        }

    def _get(self, pool_id: PoolId) -> StoragePoolDocument | None:
        return next((each for each in self.list() if each.pool_id == pool_id), None)

    def _put(self, document: StoragePoolDocument) -> None:
        body = wire.to_json(document)
        del body["pool_id"]
        self._records.put(f"{_PREFIX}{document.pool_id}", body)
