"""Take orders for storage: each is recorded, then sent where it belongs.

To make a storage domain part of a data center takes several verbs: that is one order
with a plan (`control.plans`), which an aggregator that died goes on with.
"""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from aggregator.control import answers, founding, order, plans, routes
from aggregator.control.actions import StorageAction
from aggregator.control.book import Book
from aggregator.control.dispatch import Dispatch
from aggregator.control.order import Entry, Order, Origin
from aggregator.control.plans import Goal, Plan
from aggregator.control.routes import Route
from aggregator.federation import conflicts
from aggregator.federation import view as views
from aggregator.federation.view import View, Viewer
from aggregator.fleet.disk_profiles import DiskProfiles
from aggregator.fleet.pools import Pools, StoragePoolDocument
from aggregator.policies import data_nodes
from aggregator.policies.data_nodes import Move
from node import clock as clocks
from node import wire
from node.clock import Clock
from node.errors import Conflict
from node.model import snapshot_verbs, storage_verbs
from node.model import storage_requests as bodies
from node.model.ids import DiskId, JobId, NodeId, PoolId, StorageDomainId, VmId
from node.model.storage import (
    DiskQos,
    DomainClass,
    StorageDomain,
    StorageDomainDocument,
    check_named,
)
from node.model.verb import Verb
from node.policy.spm import Timing

STAND_BACK_S: Final = Timing().stand_back_s


class NameTaken(Conflict):
    code = "storage_domain_name_taken"
    remedy = "Choose another name."


class NotAttached(Conflict):
    code = "storage_domain_of_no_pool"
    remedy = "Attach it to a data center first."


class FirstNeedsData(Conflict):
    """A pool begins with a data domain."""

    code = "pool_needs_data"
    remedy = "Attach a data storage domain to the data center first."


class StorageOrders:
    def __init__(
        self,
        book: Book,
        dispatch: Dispatch,
        viewer: Viewer,
        pools: Pools,
        profiles: DiskProfiles,
        clock: Clock,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._book = book
        self._dispatch = dispatch
        self._viewer = viewer
        self._pools = pools
        self._profiles = profiles
        self._clock = clock
        self._new_id = new_id

    def act(
        self,
        verb: Verb,
        object_id: str,
        request: Any,
        origin: Origin,
        node_id: NodeId | None = None,
        *,
        is_awaited: bool = True,
    ) -> Order:
        """Order one verb; None asks whoever is the right one: see `routes`.

        Not awaited: it is returned as it was recorded, and nobody hears a refusal.
        """
        view = self._viewer.view
        route = routes.route(view, verb.name, object_id, request, node_id)
        self._check_limits(view, verb, DiskId(object_id), request)
        chosen = None
        if _moves_data(view, verb, object_id) and request.data_node_id is None:
            chosen = self._data_node(view, route)
        if chosen is not None:
            request = replace(request, data_node_id=chosen)
        begun = plans.beginning(view, verb.name, VmId(object_id), request)
        plan = None
        if begun is not request and route.pool_id is not None:
            pool, vm_id = routes.pool(view, route.pool_id), VmId(object_id)
            parts = (Goal.WITH_GUEST, pool.pool_id, pool.name, route.node_id)
            plan = Plan(*parts, vm_id=vm_id)
        recorded = self._record(
            *(verb, object_id, begun, origin, route, plan),
            is_data_node_chosen=chosen is not None,
        )
        return self._answer(recorded) if is_awaited else recorded

    def limit(self, disk_id: DiskId, limits: DiskQos, origin: Origin) -> None:
        """Let a disk have the limits of its profile; nobody waits for it."""
        verb, request = storage_verbs.DISK_CHANGE, bodies.ChangeDisk(qos=limits)
        route = routes.route(self._viewer.view, verb.name, disk_id, request, None)
        self._record(verb, disk_id, request, origin, route)

    def restore(
        self, vm_id: VmId, request: bodies.PreviewSnapshot, origin: Origin
    ) -> Order:
        """Let a VM go back to a snapshot for good: preview it, then commit."""
        view, verb = self._viewer.view, snapshot_verbs.VM_SNAPSHOT_PREVIEW
        route = routes.route(view, verb.name, vm_id, request, None)
        assert route.pool_id is not None, "snapshots lie on pools"
        name = routes.pool(view, route.pool_id).name
        plan = Plan(Goal.RESTORE, route.pool_id, name, route.node_id, vm_id=vm_id)
        return self._order(verb, vm_id, request, origin, route, plan)

    def create_domain(
        self,
        request: bodies.CreateStorageDomain,
        origin: Origin,
        *,
        data_center_id: str | None = None,
        node_id: NodeId | None = None,
    ) -> Order:
        """Make a storage domain and attach it to a data center's pool.

        The first data domain of a data center makes its pool. None: the data center
        of the node; the pool's manager, or a node that is up.
        """
        self._check_name(request.name, request.storage_domain_id)
        node_id, pool = self._place(data_center_id, node_id)
        plan = Plan(
            Goal.JOIN_POOL,
            pool.pool_id,
            pool.name,
            node_id,
            request.storage_domain_id,
            request.domain_class,
            request.connection,
            description=request.description,
            wipe_after_delete=request.wipe_after_delete,
        )
        return self._order(
            storage_verbs.STORAGE_DOMAIN_CREATE,
            request.storage_domain_id,
            request,
            origin,
            Route(node_id, request.name),
            plan,
        )

    def import_domain(
        self,
        request: bodies.ImportStorageDomain,
        found: StorageDomain,
        origin: Origin,
        *,
        data_center_id: str | None = None,
        node_id: NodeId | None = None,
    ) -> Order:
        """Take a storage domain that was found, with its disks and VMs."""
        node_id, pool = self._place(data_center_id, node_id)
        plan = Plan(
            Goal.JOIN_POOL,
            pool.pool_id,
            pool.name,
            node_id,
            found.storage_domain_id,
            found.domain_class,
            request.connection,
        )
        view = self._viewer.view
        route = Route(node_id, found.name)
        request = replace(request, storage_domain_id=found.storage_domain_id)
        if pool.pool_id in view.pools:
            manager = routes.manager(view, pool.pool_id)
            route = Route(manager, found.name, pool.pool_id)
            request = replace(request, pool_id=pool.pool_id)
        return self._order(
            storage_verbs.STORAGE_DOMAIN_IMPORT,
            found.storage_domain_id,
            request,
            origin,
            route,
            plan,
        )

    def attach_domain(
        self,
        storage_domain_id: StorageDomainId,
        origin: Origin,
        *,
        data_center_id: str | None = None,
    ) -> Order:
        """Attach a storage domain that is there to a data center, and activate it."""
        view = self._viewer.view
        row = routes.domain(view, storage_domain_id)
        named = wire.decode(
            StorageDomainDocument, row.document, strict=False
        ).storage_domain
        node_id, pool = self._place(data_center_id, row.speaker)
        if pool.pool_id in view.pools:
            plan = Plan(
                Goal.JOIN_POOL,
                pool.pool_id,
                pool.name,
                node_id,
                storage_domain_id,
                row.domain_class,
                named.connection,
            )
            attach = bodies.AttachStorageDomain(
                pool.pool_id,
                named.connection,
                description=named.description,
                wipe_after_delete=named.wipe_after_delete,
            )
            route = Route(routes.manager(view, pool.pool_id), row.name, pool.pool_id)
            return self._order(
                storage_verbs.STORAGE_DOMAIN_ATTACH,
                storage_domain_id,
                attach,
                origin,
                route,
                plan,
            )
        if row.domain_class is not DomainClass.DATA:
            raise FirstNeedsData(f"{row.name} is no data storage domain")
        request = bodies.CreatePool(pool.pool_id, pool.name, storage_domain_id)
        return self.act(
            storage_verbs.POOL_CREATE, pool.pool_id, request, origin, row.speaker
        )

    def change_domain(
        self,
        storage_domain_id: StorageDomainId,
        request: bodies.ChangeStorageDomain,
        origin: Origin,
    ) -> Order:
        """Call a storage domain something else, or reach it another way.

        NameTaken, and NotAttached: the pool's map says what it is called.
        """
        row = routes.domain(self._viewer.view, storage_domain_id)
        if row.pool_id is None:
            raise NotAttached(f"{row.name} belongs to no pool", name=row.name)
        if request.name is not None:
            self._check_name(request.name, storage_domain_id)
        verb = storage_verbs.STORAGE_DOMAIN_CHANGE
        return self.act(verb, storage_domain_id, request, origin)

    def elect(
        self,
        pool_id: PoolId,
        node_id: NodeId,
        origin: Origin,
        *,
        asks: bool = False,
        is_awaited: bool = True,
    ) -> Order:
        """Let a node become manager: the present one is told to leave first.

        `asks`: the holder is out of reach, and asked through the storage.
        """
        view = self._viewer.view
        row = routes.pool(view, pool_id)
        node = routes.up(view, node_id)
        lease = max((each.lease_version for each in row.sights.values()), default=0)
        holder = views.manager_of(view, pool_id)
        become = bodies.BecomeSpm(lease, ask_holder=asks)
        if holder is None or holder == node.node_id:
            recorded = self._record(
                storage_verbs.SPM_BECOME,
                pool_id,
                become,
                origin,
                Route(node.node_id, row.name),
            )
        else:
            goal = Goal.HAND_OVER
            recorded = self._record(
                storage_verbs.SPM_LEAVE,
                pool_id,
                bodies.LeaveSpm(lease, STAND_BACK_S),
                origin,
                Route(holder, row.name),
                Plan(
                    goal,
                    pool_id,
                    row.name,
                    node.node_id,
                    lease_version=lease,
                    leaver=holder,
                ),
            )
        return self._answer(recorded) if is_awaited else recorded

    def _data_node(self, view: View, route: Route) -> NodeId | None:
        """Return the node that had better move the data; None: whoever is asked."""
        if route.pool_id is None:
            return None
        moves = (
            Move(each.action.node_id, each.action.request.data_node_id)
            for each in self._book.open_entries()
            if isinstance(each.action, StorageAction)
            and each.action.verb in data_nodes.VERBS
            and each.action.pool_id == route.pool_id
        )
        return data_nodes.choose(view, route.pool_id, route.node_id, moves)

    def _order(
        self,
        verb: Verb,
        object_id: str,
        request: Any,
        origin: Origin,
        route: Route,
        plan: Plan | None = None,
    ) -> Order:
        recorded = self._record(verb, object_id, request, origin, route, plan)
        return self._answer(recorded)

    def _record(
        self,
        verb: Verb,
        object_id: str,
        request: Any,
        origin: Origin,
        route: Route,
        plan: Plan | None = None,
        *,
        is_data_node_chosen: bool = False,
    ) -> Order:
        with self._book.changed:
            action = StorageAction(
                JobId(self._new_id()),
                route.node_id,
                object_id,
                origin.correlation_id,
                verb.name,
                request,
                route.pool_id,
                is_data_node_chosen,
            )
            if verb is storage_verbs.POOL_CREATE:
                self._pools.found(request.pool_id, request.master)
            now = clocks.rfc3339(self._clock.now())
            entry = order.record(action, route.name, origin, now, plan=plan)
            self._book.put(entry)
            self._dispatch.send(action.order_id)
        return entry.order

    def _check_limits(
        self, view: View, verb: Verb, disk_id: DiskId, request: Any
    ) -> None:
        """Refuse limits of a disk's own that would not last; LimitedByProfile."""
        if verb is storage_verbs.DISK_CREATE and request.qos != DiskQos():
            self._profiles.check_own(view, disk_id, (request.storage_domain_id,))
        elif verb is storage_verbs.DISK_CHANGE and request.qos is not None:
            self._profiles.check_own(view, disk_id)

    def _answer(self, recorded: Order) -> Order:
        return answers.first(self._book, recorded.order_id)

    def _place(
        self, data_center_id: str | None, node_id: NodeId | None
    ) -> tuple[NodeId, StoragePoolDocument]:
        """Return the node to ask and the pool that is meant."""
        view = self._viewer.view
        node = routes.any_node(view) if node_id is None else routes.up(view, node_id)
        data_center_id = data_center_id or self._pools.data_center_of(node.node_id)
        known = self._pools.of(data_center_id)
        if node_id is None and known is not None:
            manager = views.manager_of(view, known.pool_id)
            node = view.nodes[manager] if manager is not None else node
        pool = self._pools.ensure(data_center_id)
        if self._is_gone(pool):
            pool = self._pools.renew(pool)
        return node.node_id, pool

    def _is_gone(self, pool: StoragePoolDocument) -> bool:
        """Tell whether a pool is no more, and no order makes it or waits for it."""
        is_being_made = any(
            entry.order.object_id == pool.pool_id or _joins(entry, pool.pool_id)
            for entry in self._book.open_entries()
        )
        return not is_being_made and founding.is_gone(pool, self._viewer.view)

    def _check_name(self, wanted: str, its_id: StorageDomainId) -> None:
        check_named(wanted)
        for name, storage_domain_id in self._viewer.view.storage_domain_order:
            if name == views.fold(wanted) and storage_domain_id != its_id:
                raise NameTaken(f"there is already a storage domain {wanted}")


def _moves_data(view: View, verb: Verb, object_id: str) -> bool:
    """Tell whether a verb has data moved: QEMU merges snapshots of a running VM."""
    if verb is not snapshot_verbs.VM_SNAPSHOT_DELETE:
        return verb.name in data_nodes.VERBS
    vm = view.vms.get(VmId(object_id))
    return vm is not None and not conflicts.is_running(vm)


def _joins(entry: Entry, pool_id: PoolId) -> bool:
    return entry.plan is not None and entry.plan.pool_id == pool_id
