"""Take orders from people, and answer when the node has.

The ids are chosen and recorded before anything is sent, so that an order can
be sent again after a crash and is still done once. What a node refuses reaches
the caller as the node said it; a silent node is asked again by `control.loop`.
"""

import functools
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aggregator import db
from aggregator.control import (
    actions,
    answers,
    order,
    placing,
    pool_vms,
    promises,
    routes,
)
from aggregator.control.actions import Action, StorageAction
from aggregator.control.book import Book
from aggregator.control.dispatch import Dispatch, Gate, open_gate
from aggregator.control.execute import Carrier
from aggregator.control.order import Entry, Order, Origin
from aggregator.control.placing import Placing
from aggregator.control.routes import NodeNotFound, NodeSilent, VmNotFound
from aggregator.control.storage_orders import StorageOrders
from aggregator.federation.events import EventLog
from aggregator.federation.view import NodeState, NodeView, View, Viewer
from aggregator.fleet.disk_profiles import DiskProfiles
from aggregator.fleet.pools import Pools
from aggregator.fleet.properties import Properties
from aggregator.scheduling.place import Placement
from node import clock as clocks
from node.clock import Clock
from node.errors import Conflict
from node.model import property_verbs, snapshot_verbs, template_verbs
from node.model.ids import CorrelationId, DiskId, JobId, NodeId, VmId
from node.model.job import JobState
from node.model.requests import SetProperties, StopManner
from node.model.storage_requests import SuspendVm
from node.model.templates import CloneVm, SnapshotCopied
from node.model.verb import Verb
from node.model.vm import Disk, VmSpec

__all__ = ["Order", "Orders", "Origin", "VmNotFound"]

# A node pushes 200 ms after a change; then the View should show it.
_VIEW_S: Final = 2.0
_SET_PROPERTIES: Final = property_verbs.VM_SET_PROPERTIES

_Make = Callable[[JobId, NodeId, VmId, CorrelationId], Action]


@dataclass(frozen=True, slots=True)
class Making:
    """Something that is not there yet."""

    order: Order
    request: Any  # the verb's body


class VmIdTaken(Conflict):
    """A VM of the same id is being made with another definition."""

    code = "vm_id_taken"
    remedy = "Choose another id, or repeat the first request unchanged."


class VmGone(Conflict):
    """A VM of that id was deleted: it does not come back, on whatever node."""

    code = "vm_gone"
    remedy = "Choose another id for a new VM."


class Orders:
    def __init__(
        self,
        database: db.Database,
        viewer: Viewer,
        events: EventLog,
        executor: Carrier,
        clock: Clock,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        gate: Gate = open_gate,
    ) -> None:
        """`gate` is asked whether an order may be sent."""
        self._viewer = viewer
        self._events = events
        self._clock = clock
        self._new_id = new_id
        self.book = Book(database.records("order"), clock)
        self._placing = Placing(database, clock)
        self.pools = Pools(database)
        self.profiles = DiskProfiles(database)
        self.properties = Properties(database)
        self.dispatch = Dispatch(
            *(self.book, viewer, events, executor, self._placing, self.pools, clock),
            gate,
        )
        self.storage = StorageOrders(
            *(self.book, self.dispatch, viewer, self.pools, self.profiles, clock),
            new_id,
        )

    def create_vm(
        self, spec: VmSpec, origin: Origin, node_id: NodeId | None = None
    ) -> Order:
        """Make a VM on a node that is named or, with None, chosen.

        Asked again with the same VM id, it is the same VM. Errors: NameTaken,
        NoNodeFits, NodeNotFound, VmIdTaken, VmGone, and what the node refuses with. If
        the node does not answer, the order is returned queued: it waits for it.
        """
        with self.book.changed:
            known = self.book.creation_of(spec.vm_id, self._viewer.view)
            if known is None:
                entry = self._record_creation(spec, origin, node_id)
            elif known.action == _with_spec(known.action, spec):
                entry = known
            else:
                raise VmIdTaken(
                    f"VM {spec.vm_id} is being made with another definition",
                    vm_id=spec.vm_id,
                )
        answered = answers.first(self.book, entry.order.order_id)
        if answered.state is JobState.DONE:
            self._await_vm(spec.vm_id)
        return answered

    def clone_vm(
        self,
        spec: VmSpec,
        origin: Origin,
        snapshot: SnapshotCopied | None = None,
        data_node_id: NodeId | None = None,
    ) -> Order:
        """Make a VM whose disks are full copies of its template's, or a snapshot's.

        Errors: NameTaken, NoManager, and what the manager refuses with.
        """
        with self.book.changed:
            view = self._viewer.view
            if spec.vm_id not in view.vms:
                if snapshot is None:  # a state that was kept is what it was
                    self.properties.check_new(view, spec)
                self._definer(spec)
            verb = template_verbs.VM_CLONE
            request = CloneVm(spec, snapshot=snapshot, data_node_id=data_node_id)
            return self.storage.act(verb, spec.vm_id, request, origin)

    def making(self, verb: str, object_id: str) -> Making | None:
        """Return the order under way that makes something; None: there is none."""
        for entry in self.book.open_entries():
            action, its = entry.action, entry.order
            if (its.verb, its.object_id) == (verb, object_id):
                assert isinstance(action, StorageAction), "it is a verb of storage"
                return Making(its, action.request)
        return None

    def start_vm(
        self,
        vm_id: VmId,
        origin: Origin,
        *,
        is_paused: bool = False,
        discard_memory: bool = False,
    ) -> Order:
        """Start a VM where it is; one of a pool, wherever it fits best."""
        make = functools.partial(
            actions.StartVm, is_paused=is_paused, discard_memory=discard_memory
        )
        vm = self._viewer.view.vms.get(vm_id)
        if vm is None or not pool_vms.is_to_be_placed(self._viewer.view, vm):
            return self._act(vm_id, origin, make)
        defined = pool_vms.definition(vm)
        with self.book.changed:
            node = self._choose_host(defined.spec, origin)
            placed = functools.partial(make, vm=defined)
            return self._act(vm_id, origin, placed, node.node_id)

    def stop_vm(
        self,
        vm_id: VmId,
        origin: Origin,
        *,
        manner: StopManner,
        deadline_s: float = 60.0,
    ) -> Order:
        make = functools.partial(actions.StopVm, manner=manner, deadline_s=deadline_s)
        return self._act(vm_id, origin, make)

    def pause_vm(self, vm_id: VmId, origin: Origin) -> Order:
        return self._act(vm_id, origin, actions.PauseVm)

    def suspend_vm(self, vm_id: VmId, origin: Origin) -> Order:
        """Keep the memory of a VM, and end it; VmPoolUnknown."""
        return self.act_on_storage(
            snapshot_verbs.VM_SUSPEND, vm_id, SuspendVm(), origin
        )

    def resume_vm(self, vm_id: VmId, origin: Origin) -> Order:
        return self._act(vm_id, origin, actions.ResumeVm)

    def reset_vm(self, vm_id: VmId, origin: Origin) -> Order:
        return self._act(vm_id, origin, actions.ResetVm)

    def delete_vm(
        self, vm_id: VmId, origin: Origin, *, may_leave_disks: bool = False
    ) -> Order:
        """Delete a VM; `may_leave_disks`: although its storage is away."""
        view = self._viewer.view
        vm = view.vms.get(vm_id)
        definer = None if vm is None else pool_vms.definer(view, vm)
        make = functools.partial(actions.DeleteVm, may_leave_disks=may_leave_disks)
        return self._act(vm_id, origin, make, definer)

    def attach_disk(
        self, vm_id: VmId, disk: Disk, origin: Origin, node_id: NodeId | None = None
    ) -> Order:
        """Give a VM a disk of its pool. The manager of the pool writes it down.

        None: the VM's node, which plugs it in if the VM runs there.
        """
        make = functools.partial(actions.AttachDisk, disk=disk)
        return self._act(vm_id, origin, make, node_id)

    def detach_disk(
        self,
        vm_id: VmId,
        disk_id: DiskId,
        origin: Origin,
        node_id: NodeId | None = None,
        lease_version: int | None = None,
    ) -> Order:
        """Take a disk away from a VM; the nodes are those of `attach_disk`.

        `lease_version`, for the manager: of the run elsewhere that has let it go.
        """
        make = functools.partial(
            actions.DetachDisk, disk_id=disk_id, lease_version=lease_version
        )
        return self._act(vm_id, origin, make, node_id)

    def resize_disk(
        self,
        vm_id: VmId,
        disk_id: DiskId,
        size_bytes: int,
        origin: Origin,
        node_id: NodeId | None = None,
        lease_version: int | None = None,
    ) -> Order:
        """Let a disk grow under the guest that runs with it; see `detach_disk`."""
        make = functools.partial(
            actions.ResizeDisk,
            disk_id=disk_id,
            size_bytes=size_bytes,
            lease_version=lease_version,
        )
        return self._act(vm_id, origin, make, node_id)

    def set_properties(
        self, vm_id: VmId, request: SetProperties, origin: Origin
    ) -> Order:
        """Give a VM, or a device of it, custom properties for its next start.

        VmPoolUnknown, NoSuchDevice, UndeclaredProperty, BadPropertyValue.
        """
        vm = routes.defined_vm(self._viewer.view, vm_id)
        self.properties.check_change(pool_vms.definition(vm).spec, request)
        return self.storage.act(_SET_PROPERTIES, vm_id, request, origin)

    def act_on_storage(
        self,
        verb: Verb,
        object_id: str,
        request: object,
        origin: Origin,
        node_id: NodeId | None = None,
    ) -> Order:
        """Order one verb of storage; None asks the pool's manager, or who fits."""
        return self.storage.act(verb, object_id, request, origin, node_id)

    def explain(self, spec: VmSpec) -> Placement:
        """Say where a VM would go now, and of every node why or why not."""
        view = self._viewer.view
        under_way = self.book.under_way(view)
        return self._placing.place(spec, view.nodes.values(), under_way, view)

    def was_deleted(self, vm_id: VmId) -> bool:
        """Tell whether an order that is still remembered deleted this VM."""
        return self.book.was_deleted(vm_id)

    def get(self, order_id: JobId) -> Order:
        """Return an order; OrderNotFound."""
        return self.book.entry(order_id).order

    def list(self, maximum: int = 100) -> tuple[Order, ...]:
        """Return orders, the newest first."""
        return self.book.orders(maximum)

    def wait(self, order_id: JobId, timeout_s: float) -> Order:
        """Return an order when it has ended, or when the time is over."""
        return self.book.wait(order_id, timeout_s, lambda each: each.is_ended).order

    def _record_creation(
        self, spec: VmSpec, origin: Origin, node_id: NodeId | None
    ) -> Entry:
        view = self._viewer.view
        existing = view.vms.get(spec.vm_id)
        if existing is not None:  # its node says whether it is the same VM
            node = _node(view, existing.node_id)
        elif self.book.was_deleted(spec.vm_id):
            raise VmGone(f"VM {spec.vm_id} was deleted", vm_id=spec.vm_id)
        else:
            self.properties.check_new(view, spec)
            node = (
                self._choose(spec, origin, node_id)
                if spec.pool_id is None
                else self._definer(spec)
            )
        action = actions.CreateVm(
            JobId(self._new_id()),
            node.node_id,
            spec.vm_id,
            origin.correlation_id,
            spec,
        )
        is_pinned = (
            existing is not None or node_id is not None or spec.pool_id is not None
        )
        entry = order.record(
            action, spec.name, origin, self._now(), is_pinned=is_pinned
        )
        self.book.put(entry)
        self.dispatch.announce_placement(entry, node)
        self.dispatch.send(action.order_id)
        return entry

    def _choose(self, spec: VmSpec, origin: Origin, node_id: NodeId | None) -> NodeView:
        view = self._viewer.view
        nodes = view.nodes.values() if node_id is None else [_node(view, node_id)]
        under_way = self.book.under_way(view)
        placement = self._placing.place(spec, nodes, under_way, view)
        return self._placed(spec, origin, placement)

    def _choose_host(self, spec: VmSpec, origin: Origin) -> NodeView:
        """Return the node on which a VM of a pool fits best."""
        view = self._viewer.view
        nodes, under_way = pool_vms.hosts(view, spec), self.book.under_way(view)
        placement = self._placing.place(spec, nodes, under_way, view, is_new=False)
        return self._placed(spec, origin, placement)

    def _definer(self, spec: VmSpec) -> NodeView:
        """Return the manager of a new VM's pool, which writes its definition."""
        assert spec.pool_id is not None, "it is a VM of a pool"
        view = self._viewer.view
        if not promises.is_name_free(spec.name, self.book.under_way(view), view):
            raise placing.NameTaken(
                f"there is already a VM named {spec.name}", name=spec.name
            )
        return view.nodes[routes.manager(view, spec.pool_id)]

    def _placed(self, spec: VmSpec, origin: Origin, placement: Placement) -> NodeView:
        if placement.node_id is not None:
            return self._viewer.view.nodes[placement.node_id]
        error = placing.refusal(spec, placement)
        self._events.record(
            "vm_not_placed",
            user=origin.user,
            correlation_id=origin.correlation_id,
            name=spec.name,
            detail=str(error),
        )
        raise error

    def _act(
        self,
        vm_id: VmId,
        origin: Origin,
        make: _Make,
        chosen: NodeId | None = None,
    ) -> Order:
        with self.book.changed:
            own, name = self._locate(vm_id)
            node_id = chosen or own
            node = _node(self._viewer.view, node_id)
            if node.state is NodeState.UNREACHABLE:
                raise NodeSilent(
                    f"node {node.name}, where VM {name} is, is unreachable",
                    node=node.name,
                    name=name,
                )
            action = make(JobId(self._new_id()), node_id, vm_id, origin.correlation_id)
            self.book.put(order.record(action, name, origin, self._now()))
            self.dispatch.send(action.order_id)
        return answers.first(self.book, action.order_id)

    def _locate(self, vm_id: VmId) -> tuple[NodeId, str]:
        """Return the node and name of a VM, also of one made a moment ago."""
        view = self._viewer.view
        vm = view.vms.get(vm_id)
        if vm is not None:
            return vm.node_id, vm.name
        creation = self.book.creation_of(vm_id, view)
        if creation is None:
            raise VmNotFound(f"there is no VM {vm_id}", vm_id=vm_id)
        return creation.action.node_id, creation.order.name

    def _await_vm(self, vm_id: VmId) -> None:
        """Give the View a moment, so that who asked finds the VM there."""
        deadline = time.monotonic() + _VIEW_S
        view = self._viewer.view
        while vm_id not in view.vms and (left_s := deadline - time.monotonic()) > 0:
            newer = self._viewer.wait(view.revision, left_s)
            if newer.revision == view.revision:
                return
            view = newer

    def _now(self) -> str:
        return clocks.rfc3339(self._clock.now())


def _node(view: View, node_id: NodeId) -> NodeView:
    node = view.nodes.get(node_id)
    if node is None:
        raise NodeNotFound(f"there is no node {node_id}", node_id=node_id)
    return node


def _with_spec(action: Action, spec: VmSpec) -> Action:
    assert isinstance(action, actions.CreateVm), "a creation makes a VM"
    return actions.CreateVm(
        action.order_id, action.node_id, action.vm_id, action.correlation_id, spec
    )
