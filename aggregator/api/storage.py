"""Serve pools and storage domains, and what is ordered of them."""

import uuid

import flask

from aggregator.api import caller, orders, storage_lines, storage_verbs
from aggregator.api.model import OrderLine
from aggregator.api.storage_model import (
    ActOnStorage,
    AttachStorage,
    ChangeStorage,
    ImportStorage,
    LookForStorage,
    MovePoolMaster,
    NewStorageDomain,
    NodePriority,
    PoolDetail,
    PoolLines,
    PoolNode,
    RemoveStorage,
    RepairDisks,
    StorageDomainDetail,
    StorageDomainLines,
)
from aggregator.control import routes as control
from aggregator.policies import members
from aggregator.services import Services
from node.errors import Conflict, NotFound
from node.http import face
from node.model import storage_requests as bodies
from node.model import storage_verbs as node_verbs
from node.model.ids import NodeId, PoolId, StorageDomainId
from node.model.storage import StorageDomain
from node.model.verb import Verb


class NothingThere(NotFound):
    code = "no_storage_domain_there"
    remedy = "Check the place; `skerry storage look` shows what lies there."


class SeveralThere(Conflict):
    code = "several_storage_domains"
    remedy = "Say which one by its id; `skerry storage look` shows them."


class NoWayThere(Conflict):
    code = "pool_place_unknown"
    remedy = "Connect the node on its own console: skerry-node pool connect."


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes below /v1/storage-domains and /v1/pools."""
    routes = flask.Blueprint("storage", __name__)
    domains, pools = _Domains(services), _Pools(services)
    for verb in storage_verbs.VERBS:
        prefix = verb.name.partition("_")[0]
        if prefix in ("storage", "pool"):
            face.bind(
                routes, verb, getattr(pools if prefix == "pool" else domains, verb.name)
            )
    return routes


class _Domains:
    def __init__(self, services: Services) -> None:
        self._services = services

    def storage_domain_list(self) -> StorageDomainLines:
        view = self._services.mirror.view
        return StorageDomainLines(
            tuple(
                storage_lines.storage_domain(view, view.storage_domains[each])
                for _, each in view.storage_domain_order
            )
        )

    def storage_domain_show(self, storage_domain_id: str) -> StorageDomainDetail:
        view = self._services.mirror.view
        row = control.domain(view, StorageDomainId(storage_domain_id))
        return storage_lines.storage_domain_detail(view, row)

    def storage_domain_create(self, request: NewStorageDomain) -> OrderLine:
        storage_domain_id = request.storage_domain_id or str(uuid.uuid4())
        create = bodies.CreateStorageDomain(
            StorageDomainId(storage_domain_id),
            request.name,
            request.connection,
            request.domain_class,
            request.description,
            request.sector_bytes,
            request.wipe_after_delete,
        )
        order = self._services.orders.storage.create_domain(
            create,
            caller.origin(),
            data_center_id=request.data_center_id,
            node_id=request.node_id,
        )
        return orders.line(self._services.mirror.view, order)

    def storage_domain_look(
        self, request: LookForStorage
    ) -> bodies.FoundStorageDomains:
        look = bodies.LookForStorageDomains(request.connection)
        return self._services.node(self._who(request.node_id)).storage_domain_look(look)

    def storage_domain_import(self, request: ImportStorage) -> OrderLine:
        node_id = self._who(request.node_id)
        found = self._found(request, node_id)
        order = self._services.orders.storage.import_domain(
            bodies.ImportStorageDomain(
                request.connection,
                found.storage_domain_id,
                is_forced=request.is_forced,
            ),
            found,
            caller.origin(),
            data_center_id=request.data_center_id,
            node_id=node_id,
        )
        return orders.line(self._services.mirror.view, order)

    def storage_domain_attach(
        self, request: AttachStorage, storage_domain_id: str
    ) -> OrderLine:
        order = self._services.orders.storage.attach_domain(
            StorageDomainId(storage_domain_id),
            caller.origin(),
            data_center_id=request.data_center_id,
        )
        return orders.line(self._services.mirror.view, order)

    def storage_domain_change(
        self, request: ChangeStorage, storage_domain_id: str
    ) -> OrderLine:
        order = self._services.orders.storage.change_domain(
            StorageDomainId(storage_domain_id),
            bodies.ChangeStorageDomain(
                request.name,
                request.description,
                request.wipe_after_delete,
                request.connection,
            ),
            caller.origin(),
        )
        return orders.line(self._services.mirror.view, order)

    def storage_domain_activate(
        self, request: ActOnStorage, storage_domain_id: str
    ) -> OrderLine:
        verb = node_verbs.STORAGE_DOMAIN_ACTIVATE
        return self._act(verb, storage_domain_id, request.is_forced)

    def storage_domain_maintain(
        self, request: ActOnStorage, storage_domain_id: str
    ) -> OrderLine:
        verb = node_verbs.STORAGE_DOMAIN_MAINTAIN
        return self._act(verb, storage_domain_id, request.is_forced)

    def storage_domain_detach(
        self, request: ActOnStorage, storage_domain_id: str
    ) -> OrderLine:
        verb = node_verbs.STORAGE_DOMAIN_DETACH
        return self._act(verb, storage_domain_id, request.is_forced)

    def storage_domain_remove(
        self, request: RemoveStorage, storage_domain_id: str
    ) -> OrderLine:
        verb = node_verbs.STORAGE_DOMAIN_REMOVE
        remove = bodies.RemoveStorageDomain(request.is_formatted)
        return order(self._services, verb, storage_domain_id, remove, request.node_id)

    def storage_domain_check(self, storage_domain_id: str) -> bodies.StorageProblems:
        view = self._services.mirror.view
        row = control.domain(view, StorageDomainId(storage_domain_id))
        node_id = row.node_id
        if row.pool_id is not None:
            node_id = control.manager(view, row.pool_id)
        return self._services.node(node_id).storage_domain_check(row.storage_domain_id)

    def storage_domain_repair(
        self, request: RepairDisks, storage_domain_id: str
    ) -> OrderLine:
        verb = node_verbs.STORAGE_DOMAIN_REPAIR
        repair = bodies.RepairStorage(request.disk_id)
        return order(self._services, verb, storage_domain_id, repair)

    def _act(self, verb: Verb, storage_domain_id: str, is_forced: bool) -> OrderLine:
        request = bodies.ActOnStorageDomain(is_forced=is_forced)
        return order(self._services, verb, storage_domain_id, request)

    def _who(self, node_id: NodeId | None) -> NodeId:
        view = self._services.mirror.view
        if node_id is None:
            return control.any_node(view).node_id
        return control.up(view, node_id).node_id

    def _found(self, request: ImportStorage, node_id: NodeId) -> StorageDomain:
        """Return the storage domain that is meant, as its place tells."""
        look = bodies.LookForStorageDomains(request.connection)
        there = self._services.node(node_id).storage_domain_look(look).storage_domains
        wanted = request.storage_domain_id
        found = [each for each in there if wanted in (None, each.storage_domain_id)]
        if not found:
            raise NothingThere(f"{len(there)} storage domains lie there, not this one")
        if len(found) > 1:
            raise SeveralThere(f"{len(found)} storage domains lie there")
        return found[0]


class _Pools:
    def __init__(self, services: Services) -> None:
        self._services = services

    def pool_list(self) -> PoolLines:
        view, centers = self._services.mirror.view, self._data_centers()
        return PoolLines(
            tuple(
                storage_lines.pool(view, view.pools[each], centers.get(each))
                for _, each in view.pool_order
            )
        )

    def pool_show(self, pool_id: str) -> PoolDetail:
        view = self._services.mirror.view
        row = control.pool(view, PoolId(pool_id))
        center = self._data_centers().get(row.pool_id)
        return storage_lines.pool_detail(view, row, center)

    def pool_move_master(self, request: MovePoolMaster, pool_id: str) -> OrderLine:
        move = bodies.MoveMaster(
            request.storage_domain_id, is_reconstruction=request.is_reconstruction
        )
        return order(self._services, node_verbs.POOL_MOVE_MASTER, pool_id, move)

    def pool_elect(self, request: PoolNode, pool_id: str) -> OrderLine:
        elected = self._services.orders.storage.elect(
            PoolId(pool_id), request.node_id, caller.origin()
        )
        return orders.line(self._services.mirror.view, elected)

    def pool_priority(self, request: NodePriority, pool_id: str) -> OrderLine:
        verb, node_id = node_verbs.SPM_PRIORITY, request.node_id
        priority = bodies.SetSpmPriority(request.priority)
        return order(self._services, verb, pool_id, priority, node_id)

    def pool_connect(self, request: PoolNode, pool_id: str) -> OrderLine:
        row = control.pool(self._services.mirror.view, PoolId(pool_id))
        connect = members.connect(row)
        if connect is None:
            raise NoWayThere(f"nobody told how to reach pool {row.name}")
        verb, node_id = node_verbs.POOL_CONNECT, request.node_id
        return order(self._services, verb, pool_id, connect, node_id)

    def pool_disconnect(self, request: PoolNode, pool_id: str) -> OrderLine:
        verb, node_id = node_verbs.POOL_DISCONNECT, request.node_id
        return order(self._services, verb, pool_id, bodies.ActOnPool(), node_id)

    def _data_centers(self) -> dict[PoolId, str]:
        known = self._services.orders.pools.list()
        return {each.pool_id: each.data_center_id for each in known}


def order(
    services: Services,
    verb: Verb,
    object_id: str,
    request: object,
    node_id: NodeId | None = None,
) -> OrderLine:
    """Order a verb of storage; return what a list shows of the order."""
    made = services.orders.act_on_storage(
        verb, object_id, request, caller.origin(), node_id
    )
    return orders.line(services.mirror.view, made)
