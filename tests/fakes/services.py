"""The aggregator's services made of simple parts in memory, for its faces.

Three nodes (oak, elm, ash: ash is unreachable) and five VMs (web1, web2, db,
build, old). Orders end at once and change the View, as nodes would; with
`orders.is_held` they stay under way until `orders.finish`.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from immutables import Map

from aggregator import access
from aggregator.access import defaults, passwords
from aggregator.access.identity import ADMINISTRATOR
from aggregator.config import Config
from aggregator.control import hook_bundles
from aggregator.control.orders import Making, Order, Orders, Origin
from aggregator.control.transfers import Transfers
from aggregator.db import Database, Record, StaleRecord
from aggregator.federation.events import EventLog, LoggedEvent
from aggregator.federation.mirror import Mirror
from aggregator.federation.view import NodeState, NodeView, View, VmView, fold
from aggregator.fleet.disk_profiles import DiskProfiles
from aggregator.fleet.hook_rules import HookRules
from aggregator.fleet.pools import Pools
from aggregator.fleet.properties import Properties
from aggregator.fleet.term import Leadership
from aggregator.hooks.center import CenterHooks
from aggregator.registry import Candidate, Member, Registry, Token
from aggregator.scheduling.place import Placement, Verdict
from aggregator.services import Services
from node import hook_bundle, wire
from node.clock import rfc3339
from node.errors import Conflict, Invalid, NotFound, revive
from node.http.client import NodeClient
from node.log import Secret
from node.model import requests, template_verbs
from node.model.feed import FleetMark
from node.model.hooks import (
    HookBundle,
    HookBundles,
    HookScript,
    ReceiveHooks,
    RemoveHooks,
)
from node.model.host import (
    CpuFacts,
    Device,
    DeviceKind,
    FirmwareFacts,
    KvmFacts,
    NodeFacts,
    Versions,
)
from node.model.ids import (
    CorrelationId,
    DiskId,
    Fingerprint,
    FleetId,
    JobId,
    NicId,
    NodeId,
    VmId,
)
from node.model.job import ErrorReport, JobState
from node.model.reason import Reason
from node.model.requests import StopManner
from node.model.stats import NodeStats, VmStats
from node.model.templates import CloneVm, SnapshotCopied
from node.model.verb import Verb
from node.model.vm import (
    Cpu,
    Disk,
    EndCause,
    GuestFacts,
    Nic,
    Vm,
    VmEnd,
    VmRun,
    VmSpec,
    VmState,
    Wanted,
)
from node.units import GiB
from node.vm.definition import with_properties
from tests.fakes import storage_orders
from tests.fakes.center_hooks import FakeCenterHooks
from tests.fakes.clock import FakeClock
from tests.fakes.storage_orders import FakeStorageNode, FakeStorageOrders

PASSWORD = "correct horse"
CHEAP = passwords.Cost(n=16, r=1, p=1)  # tests prove no strength
AT = "2026-11-22T07:00:00.000Z"

OAK = NodeId("11111111-1111-4111-8111-111111111111")
ELM = NodeId("22222222-2222-4222-8222-222222222222")
ASH = NodeId("33333333-3333-4333-8333-333333333333")
_SMBIOS = HookScript(
    "before_vm_start", "50_smbios", "/etc/skerry/hooks/a", 2048, "ab" * 32, "cd" * 16
)
HOOKS = {  # elm lacks one, and one must not run
    OAK: (
        HookScript(
            *("after_vm_start", "90_site", "/etc/skerry/hooks/b", 99, "ef" * 32),
            "ab" * 16,
            "anybody may write to it: chmod o-w",
        ),
        _SMBIOS,
    ),
    ELM: (_SMBIOS,),
}
WEB1 = VmId("aaaaaaaa-0000-4000-8000-000000000001")
WEB2 = VmId("aaaaaaaa-0000-4000-8000-000000000002")
DB = VmId("aaaaaaaa-0000-4000-8000-000000000003")
BUILD = VmId("aaaaaaaa-0000-4000-8000-000000000004")
OLD = VmId("aaaaaaaa-0000-4000-8000-000000000005")

CA = "-----BEGIN CERTIFICATE-----\nZmFrZQ==\n-----END CERTIFICATE-----\n"
# One transparent pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d4944415478da6364f8ffbf1e0005000201a0d9d2a50000000049454e44ae426082"
)


class NoSuchVm(NotFound):
    code = "no_such_vm"


class NoSuchOrder(NotFound):
    code = "no_such_order"


class VmRuns(Conflict):
    code = "vm_runs"
    remedy = "Stop the VM first."


class NameTaken(Conflict):
    code = "name_taken"
    remedy = "Choose another name."


class FingerprintDiffers(Invalid):
    code = "fingerprint_differs"


# records


class FakeRecords:
    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._lock = threading.Lock()

    def get(self, record_id: str) -> Record | None:
        return self._records.get(record_id)

    def list(self) -> tuple[Record, ...]:
        with self._lock:
            return tuple(self._records[key] for key in sorted(self._records))

    def put(
        self, record_id: str, body: Any, expected_version: int | None = None
    ) -> Record:
        with self._lock:
            present = self._records.get(record_id)
            version = present.version if present else 0
            if expected_version not in (None, version):
                raise StaleRecord(f"{record_id} has version {version}")
            body = wire.parse(wire.encode(body))
            record = Record(record_id, version + 1, body)
            self._records[record_id] = record
            return record

    def delete(self, record_id: str) -> bool:
        with self._lock:
            return self._records.pop(record_id, None) is not None


class FakeDatabase:
    def __init__(self) -> None:
        self._collections: dict[str, FakeRecords] = {}

    def records(self, collection: str) -> FakeRecords:
        return self._collections.setdefault(collection, FakeRecords())


# the view and what happened


class FakeMirror:
    def __init__(self, view: View) -> None:
        self._view = view
        self._changed = threading.Condition()

    @property
    def view(self) -> View:
        return self._view

    def change(self, **fields: Any) -> None:
        """Put a View in place that differs in these fields."""
        with self._changed:
            self._view = replace(self._view, revision=self._view.revision + 1, **fields)
            self._changed.notify_all()

    def put_vm(self, vm: VmView) -> None:
        vms = self._view.vms.set(vm.vm_id, vm)
        self._put_vms(vms)

    def put_node(self, node: NodeView) -> None:
        self.change(nodes=self._view.nodes.set(node.node_id, node))

    def remove_vm(self, vm_id: VmId) -> None:
        self._put_vms(self._view.vms.delete(vm_id))

    def wait(self, since_revision: int, timeout_s: float) -> View:
        with self._changed:
            self._changed.wait_for(
                lambda: self._view.revision > since_revision, timeout_s
            )
            return self._view

    def _put_vms(self, vms: "Map[VmId, VmView]") -> None:
        self.change(vms=vms, vm_order=order_of(vms), nodes=_nodes_with(self, vms))


class FakeEvents:
    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._events: list[LoggedEvent] = []
        self._changed = threading.Condition()

    def record(
        self,
        code: str,
        *,
        node_id: NodeId | None = None,
        vm_id: VmId | None = None,
        user: str | None = None,
        correlation_id: CorrelationId | None = None,
        **fields: Any,
    ) -> LoggedEvent:
        if user is not None:
            fields["user"] = user
        with self._changed:
            event = LoggedEvent(
                len(self._events) + 1,
                rfc3339(self._clock.now()),
                code,
                fields,
                node_id,
                vm_id,
                user,
                correlation_id,
            )
            self._events.append(event)
            self._changed.notify_all()
            return event

    def list(
        self,
        *,
        before: int | None = None,
        after: int | None = None,
        maximum: int = 100,
        node_id: NodeId | None = None,
        vm_id: VmId | None = None,
    ) -> tuple[LoggedEvent, ...]:
        found = [
            event
            for event in reversed(self._events)
            if (before is None or event.seq < before)
            and (after is None or event.seq > after)
            and (node_id is None or event.node_id == node_id)
            and (vm_id is None or event.vm_id == vm_id)
        ]
        return tuple(found[:maximum])

    def wait(self, after: int, timeout_s: float) -> tuple[LoggedEvent, ...]:
        with self._changed:
            self._changed.wait_for(lambda: len(self._events) > after, timeout_s)
        return tuple(reversed(self.list(after=after)))


# orders


class FakeOrders:
    def __init__(
        self, mirror: FakeMirror, events: FakeEvents, clock: FakeClock
    ) -> None:
        self.is_held = False
        self.away: set[VmId] = set()  # VMs with disks where nothing is active
        self.waits: list[float] = []  # how long was to be waited for orders
        self.pools: Pools
        self.profiles: DiskProfiles
        self.properties: Properties
        self._mirror = mirror
        self._events = events
        self._clock = clock
        self._orders: dict[JobId, Order] = {}
        self._effects: dict[JobId, Callable[[], None]] = {}
        self._lock = threading.RLock()
        self.storage = FakeStorageOrders(mirror, self._take_storage)

    def create_vm(
        self, spec: VmSpec, origin: Origin, node_id: NodeId | None = None
    ) -> Order:
        if any(vm.name == spec.name for vm in self._mirror.view.vms.values()):
            raise NameTaken(f"there is a VM {spec.name} already", name=spec.name)
        self.properties.check_new(self._mirror.view, spec)
        chosen = node_id or self.explain(spec).node_id or OAK
        vm = vm_view(spec, chosen, VmState.DOWN, at=rfc3339(self._clock.now()))
        return self._order(
            "vm_create", vm, origin, "vm_created", lambda: self._mirror.put_vm(vm)
        )

    def clone_vm(
        self,
        spec: VmSpec,
        origin: Origin,
        snapshot: SnapshotCopied | None = None,
        data_node_id: NodeId | None = None,
    ) -> Order:
        request = CloneVm(spec, snapshot=snapshot, data_node_id=data_node_id)
        return self.storage.act(template_verbs.VM_CLONE, spec.vm_id, request, origin)

    def was_deleted(self, vm_id: VmId) -> bool:
        done = (e for e in self._orders.values() if e.order_id not in self._effects)
        return any((e.verb, e.vm_id) == ("vm_delete", vm_id) for e in done)

    def making(self, verb: str, object_id: str) -> Making | None:
        for order in self._orders.values():
            asked = [e for e in self.storage.asked if e[:2] == (verb, object_id)]
            is_its = (order.verb, order.object_id) == (verb, object_id)
            if is_its and order.order_id in self._effects and asked:
                return Making(order, asked[-1][2])
        return None

    def start_vm(
        self,
        vm_id: VmId,
        origin: Origin,
        *,
        is_paused: bool = False,
        discard_memory: bool = False,
    ) -> Order:
        state = VmState.PAUSED if is_paused else VmState.UP
        wanted = Wanted.PAUSED if is_paused else Wanted.UP
        return self._turn(vm_id, "vm_start", origin, "vm_started", state, wanted)

    def stop_vm(
        self,
        vm_id: VmId,
        origin: Origin,
        *,
        manner: StopManner,
        deadline_s: float = 60.0,
    ) -> Order:
        code = "vm_killed" if manner is StopManner.FORCE else "vm_stopped"
        return self._turn(vm_id, "vm_stop", origin, code, VmState.DOWN, Wanted.DOWN)

    def suspend_vm(self, vm_id: VmId, origin: Origin) -> Order:
        return self._turn(
            vm_id, "vm_suspend", origin, "vm_suspended", VmState.DOWN, Wanted.DOWN
        )

    def pause_vm(self, vm_id: VmId, origin: Origin) -> Order:
        return self._turn(
            vm_id, "vm_pause", origin, "vm_paused", VmState.PAUSED, Wanted.PAUSED
        )

    def resume_vm(self, vm_id: VmId, origin: Origin) -> Order:
        return self._turn(
            vm_id, "vm_resume", origin, "vm_resumed", VmState.UP, Wanted.UP
        )

    def reset_vm(self, vm_id: VmId, origin: Origin) -> Order:
        return self._turn(vm_id, "vm_reset", origin, "vm_reset", VmState.UP, Wanted.UP)

    def delete_vm(
        self, vm_id: VmId, origin: Origin, *, may_leave_disks: bool = False
    ) -> Order:
        vm = self._find(vm_id)
        if vm.state is not VmState.DOWN:
            raise VmRuns(f"VM {vm.name} runs", name=vm.name)
        if vm_id in self.away and not may_leave_disks:
            raise revive("conflict", "vm_disks_away", "disks would stay", "")
        return self._order(
            "vm_delete",
            vm,
            origin,
            "vm_deleted",
            lambda: self._mirror.remove_vm(vm_id),
        )

    def attach_disk(
        self, vm_id: VmId, disk: Disk, origin: Origin, node_id: NodeId | None = None
    ) -> Order:
        self.storage.asked.append(("vm_attach_disk", vm_id, disk, node_id))
        return self._change_disks(
            vm_id,
            "vm_attach_disk",
            "disk_attached",
            lambda disks: (*(e for e in disks if e.disk_id != disk.disk_id), disk),
            origin,
        )

    def resize_disk(
        self,
        vm_id: VmId,
        disk_id: DiskId,
        size_bytes: int,
        origin: Origin,
        node_id: NodeId | None = None,
        lease_version: int | None = None,
    ) -> Order:
        vm = self._find(vm_id)
        request = requests.ResizeVmDisk(
            disk_id, size_bytes, lease_version=lease_version
        )
        self.storage.asked.append(("vm_resize_disk", vm_id, request, node_id))
        return self._order(
            "vm_resize_disk",
            vm,
            origin,
            "disk_resized",
            lambda: storage_orders.resize(self._mirror, disk_id, size_bytes),
        )

    def detach_disk(
        self,
        vm_id: VmId,
        disk_id: DiskId,
        origin: Origin,
        node_id: NodeId | None = None,
        lease_version: int | None = None,
    ) -> Order:
        self.storage.asked.append(("vm_detach_disk", vm_id, disk_id, node_id))
        return self._change_disks(
            vm_id,
            "vm_detach_disk",
            "disk_detached",
            lambda disks: tuple(each for each in disks if each.disk_id != disk_id),
            origin,
        )

    def set_properties(
        self, vm_id: VmId, request: requests.SetProperties, origin: Origin
    ) -> Order:
        vm = self._find(vm_id)
        definition = wire.decode(Vm, vm.vm_document)
        self.properties.check_change(definition.spec, request)
        self.storage.asked.append(("vm_set_properties", vm_id, request, None))
        words = (request.device_id, request.custom_properties)
        changed = replace(
            definition,
            spec=with_properties(definition.spec, *words),
            generation=definition.generation + 1,
        )
        return self._order(
            "vm_set_properties",
            vm,
            origin,
            "vm_changed",
            lambda: storage_orders.say(self._mirror, vm.node_id, changed),
        )

    def act_on_storage(
        self,
        verb: Verb,
        object_id: str,
        request: object,
        origin: Origin,
        node_id: NodeId | None = None,
    ) -> Order:
        return self.storage.act(verb, object_id, request, origin, node_id)

    def explain(self, spec: VmSpec) -> Placement:
        """Take the first node that is up and has the memory and the images."""
        verdicts = []
        chosen = None
        nodes = sorted(self._mirror.view.nodes.values(), key=lambda node: node.name)
        for node in nodes:
            reasons = tuple(_objections(node, spec))
            verdicts.append(Verdict(node.node_id, node.name, not reasons, reasons, 1.0))
            if not reasons and chosen is None:
                chosen = node.node_id
        return Placement(chosen, tuple(verdicts))

    def get(self, order_id: JobId) -> Order:
        order = self._orders.get(order_id)
        if order is None:
            raise NoSuchOrder(f"there is no order {order_id}", order_id=order_id)
        return order

    def list(self, maximum: int = 100) -> tuple[Order, ...]:
        return tuple(reversed(self._orders.values()))[:maximum]

    def wait(self, order_id: JobId, timeout_s: float) -> Order:
        self.waits.append(timeout_s)
        return self.get(order_id)

    def finish(self, order_id: JobId, error: ErrorReport | None = None) -> Order:
        """End an order that was held: done, or failed with an error."""
        with self._lock:
            effect = self._effects.pop(order_id, None)
            if effect is not None and error is None:
                effect()
            order = replace(
                self._orders[order_id],
                state=JobState.FAILED if error else JobState.DONE,
                ended_at=rfc3339(self._clock.now()),
                progress_percent=100,
                error=error,
            )
            self._orders[order_id] = order
            return order

    def _change_disks(
        self,
        vm_id: VmId,
        verb: str,
        code: str,
        change: Callable[[tuple[Disk, ...]], tuple[Disk, ...]],
        origin: Origin,
    ) -> Order:
        vm = self._find(vm_id)

        def effect() -> None:
            definition = wire.decode(Vm, vm.vm_document)
            spec = definition.spec
            changed = replace(
                definition,
                spec=replace(spec, disks=change(spec.disks)),
                generation=definition.generation + 1,
            )
            storage_orders.say(self._mirror, vm.node_id, changed)

        return self._order(verb, vm, origin, code, effect)

    def _turn(
        self,
        vm_id: VmId,
        verb: str,
        origin: Origin,
        code: str,
        state: VmState,
        wanted: Wanted,
    ) -> Order:
        vm = self._find(vm_id)
        now = rfc3339(self._clock.now())
        return self._order(
            verb,
            vm,
            origin,
            code,
            lambda: self._mirror.put_vm(turned(vm, state, wanted, now)),
        )

    def _order(
        self,
        verb: str,
        vm: VmView,
        origin: Origin,
        code: str,
        effect: Callable[[], None],
    ) -> Order:
        node = self._mirror.view.nodes[vm.node_id]
        order = Order(
            order_id=JobId(str(uuid.uuid4())),
            verb=verb,
            vm_id=vm.vm_id,
            node_id=vm.node_id,
            name=vm.name,
            state=JobState.RUNNING,
            created_at=rfc3339(self._clock.now()),
            ended_at=None,
            progress_percent=0,
            step="",
            error=None,
            user=origin.user,
            correlation_id=origin.correlation_id,
        )

        def act() -> None:
            effect()
            self._events.record(
                code,
                node_id=vm.node_id,
                vm_id=vm.vm_id,
                user=origin.user,
                correlation_id=origin.correlation_id,
                name=vm.name,
                node=node.name,
            )

        return self._take(order, act)

    def _take_storage(
        self,
        verb: str,
        object_id: str,
        node_id: NodeId,
        name: str,
        origin: Origin,
        effect: Callable[[], None],
    ) -> Order:
        order = Order(
            JobId(str(uuid.uuid4())),
            verb,
            VmId(object_id) if verb.startswith("vm_") else None,
            node_id,
            name,
            JobState.RUNNING,
            rfc3339(self._clock.now()),
            user=origin.user,
            correlation_id=origin.correlation_id,
            object_id=object_id,
        )
        return self._take(order, effect)

    def _take(self, order: Order, act: Callable[[], None]) -> Order:
        with self._lock:
            self._orders[order.order_id] = order
            self._effects[order.order_id] = act
        return order if self.is_held else self.finish(order.order_id)

    def _find(self, vm_id: VmId) -> VmView:
        vm = self._mirror.view.vms.get(vm_id)
        if vm is None:
            raise NoSuchVm(f"there is no VM {vm_id}", vm_id=vm_id)
        return vm


# membership


class FakeRegistry:
    def __init__(self, mirror: FakeMirror, events: FakeEvents) -> None:
        self._mirror = mirror
        self._events = events
        self._candidates = {candidate.node_id: candidate for candidate in _CANDIDATES}
        self._members = {
            node.node_id: _member(node) for node in mirror.view.nodes.values()
        }
        self._callbacks: list[Callable[[], None]] = []
        self.told: list[NodeId] = []  # who knows what all members are to know

    def member(self, node_id: NodeId) -> Member | None:
        return self._members.get(node_id)

    def tell_anew(self) -> None:
        self.told.clear()

    def untold(self) -> tuple[Member, ...]:
        return tuple(e for e in self._members.values() if e.node_id not in self.told)

    def tell(self, member: Member) -> None:
        self.told.append(member.node_id)

    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(self._candidates.values())

    def members(self) -> tuple[Member, ...]:
        return tuple(self._members.values())

    def admit(
        self, node_id: NodeId, fingerprint: Fingerprint, origin: Origin
    ) -> Member:
        candidate = self._candidates.get(node_id)
        if candidate is None:
            raise NotFound(f"there is no candidate {node_id}")
        if candidate.fingerprint != fingerprint:
            raise FingerprintDiffers("the node shows another fingerprint")
        del self._candidates[node_id]
        node = NodeView(
            node_id, candidate.name, candidate.address, NodeState.CONNECTING, AT
        )
        self._mirror.put_node(node)
        self._members[node_id] = _member(node)
        self._events.record(
            "node_admitted", node_id=node_id, user=origin.user, node=node.name
        )
        self._tell()
        return self._members[node_id]

    def admit_address(
        self, address: str, fingerprint: Fingerprint, origin: Origin
    ) -> Member:
        for candidate in self._candidates.values():
            if candidate.address == address:
                return self.admit(candidate.node_id, fingerprint, origin)
        raise NotFound(f"nothing answers at {address}")

    def remove(
        self, node_id: NodeId, origin: Origin, *, is_forced: bool = False
    ) -> Member:
        member = self._members.pop(node_id, None)
        if member is None:
            raise NotFound(f"there is no member {node_id}")
        self._mirror.change(nodes=self._mirror.view.nodes.delete(node_id))
        self._events.record("node_removed", user=origin.user, node=member.name)
        self._tell()
        return member

    def make_token(self, lifetime_s: float, origin: Origin) -> Token:
        return Token("0123", "0123-secret", AT, f"192.0.2.250:7443,{'ef' * 32}")

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def _tell(self) -> None:
        for callback in self._callbacks:
            callback()


class FakeLeadership:
    def __init__(self) -> None:
        self.fleet_id = FleetId("f1ee7000-0000-4000-8000-000000000000")
        self.term = 1
        self.is_leading = True

    def mark(self) -> FleetMark:
        return FleetMark(self.fleet_id, self.term, 1)

    def promote(self) -> None:
        self.term += 1


# the fleet that everything starts from


@dataclass(frozen=True, slots=True)
class FakeHookNode:
    """Keeps bundles of hooks by name."""

    node_id: NodeId
    bundles: dict[NodeId, dict[str, str]]  # of all nodes

    def hook_receive(self, request: ReceiveHooks) -> HookBundle:
        read, _ = hook_bundle.read(request.bundle.encode())
        self._own()[read.name] = read.version
        return HookBundle(read.name, read.version, "")

    def hook_remove(self, request: RemoveHooks) -> HookBundles:
        if self._own().pop(request.name, None) is None:
            raise NotFound(f"there is no hook bundle {request.name}")
        return HookBundles(())

    def _own(self) -> dict[str, str]:
        return self.bundles.setdefault(self.node_id, {})


@dataclass(slots=True)
class Fleet:
    """The parts, so that a test can turn them; `services` is what faces get."""

    clock: FakeClock
    mirror: FakeMirror
    events: FakeEvents
    orders: FakeOrders
    registry: FakeRegistry
    leadership: FakeLeadership
    database: FakeDatabase
    access: access.Access
    node: FakeStorageNode = field(default_factory=FakeStorageNode)  # every node
    bundles: dict[NodeId, dict[str, str]] = field(default_factory=dict)
    hook_rules: HookRules = field(init=False)
    center_hooks: FakeCenterHooks = field(default_factory=FakeCenterHooks)
    services: Services = field(init=False)

    def __post_init__(self) -> None:
        self.orders.pools = Pools(cast(Database, self.database))
        self.orders.profiles = DiskProfiles(cast(Database, self.database))
        self.orders.properties = Properties(cast(Database, self.database))
        self.hook_rules = HookRules(
            cast(Database, self.database), cast(EventLog, self.events)
        )
        self.hook_rules.on_change(self.registry.tell_anew)
        self.services = Services(
            config=Config(name="skerry-test", address="aggregator.test"),
            clock=self.clock,
            database=cast(Database, self.database),
            mirror=cast(Mirror, self.mirror),
            events=cast(EventLog, self.events),
            orders=cast(Orders, self.orders),
            registry=cast(Registry, self.registry),
            leadership=cast(Leadership, self.leadership),
            access=self.access,
            ca_certificate=lambda: CA,
            screenshot=lambda vm_id: PNG,
            serial=lambda vm_id, tail_bytes: b"skerry login: \r\n"[-tail_bytes:],
            node=lambda node_id: cast(NodeClient, self.node),
            transfers=Transfers(lambda: self.mirror.view, lambda node_id: self.node),
            hook_rules=self.hook_rules,
            hook_bundles=hook_bundles.HookBundles(
                cast(Registry, self.registry),
                self.hook_rules,
                lambda node_id: cast(NodeClient, FakeHookNode(node_id, self.bundles)),
            ),
            center_hooks=cast(CenterHooks, self.center_hooks),
        )


def make_fleet(view: View | None = None) -> Fleet:
    """Return a fleet with its administrator, whose password is PASSWORD."""
    clock = FakeClock()
    mirror = FakeMirror(make_view() if view is None else view)
    events = FakeEvents(clock)
    events.record("aggregator_started", aggregator="skerry-test", term=1)
    events.record(
        "vm_started", node_id=OAK, vm_id=WEB1, user=None, name="web1", node="oak"
    )
    events.record("node_unreachable", node_id=ASH, node="ash", silence_s=31)
    database = FakeDatabase()
    defaults.ensure_defaults(cast(Database, database))
    door = access.Access(
        cast(Database, database), clock, cast(EventLog, events), cost=CHEAP
    )
    door.set_password(ADMINISTRATOR, Secret(PASSWORD))
    return Fleet(
        clock,
        mirror,
        events,
        FakeOrders(mirror, events, clock),
        FakeRegistry(mirror, events),
        FakeLeadership(),
        database,
        door,
    )


def make_view() -> View:
    """Return the View of the three nodes and five VMs."""
    silent = Reason("node_unreachable", AT, {"node": "ash", "silence_s": 31})
    nodes = (
        NodeView(
            OAK, "oak", "192.0.2.1", NodeState.UP, AT,
            facts=facts(OAK, "oak", "192.0.2.1"),
            stats=NodeStats(12.5, 0.75, 6 * GiB, 26 * GiB, 0, 125000, 64000,
                            100 * GiB, 40 * GiB),
            image_names=_images("debian-12", "fedora-43"),
            device_documents=Map(
                {device.device_id: wire.encode(device) for device in _DEVICES}
            ),
        ),
        NodeView(
            ELM, "elm", "192.0.2.2", NodeState.UP, AT,
            facts=facts(ELM, "elm", "192.0.2.2"),
            stats=NodeStats(3.0, 0.1, 2 * GiB, 30 * GiB, 0, 1000, 2000,
                            100 * GiB, 10 * GiB),
            image_names=_images("debian-12"),
        ),
        NodeView(
            ASH, "ash", "192.0.2.3", NodeState.UNREACHABLE, AT, silent,
            facts=facts(ASH, "ash", "192.0.2.3"),
        ),
    )  # fmt: skip
    vms = Map(
        {
            vm.vm_id: vm
            for vm in (
                vm_view(
                    spec(WEB1, "web1", image="debian-12"), OAK, VmState.UP,
                    addresses=("10.0.0.11", "fd00::11"),
                ),
                vm_view(spec(WEB2, "web2", image="debian-12"), ELM, VmState.DOWN),
                vm_view(spec(DB, "db", cores=4), OAK, VmState.PAUSED),
                vm_view(
                    spec(BUILD, "build"), ELM, VmState.DOWN,
                    end=VmEnd(EndCause.CRASHED, AT, "qemu: killed by signal 11"),
                ),
                replace(
                    vm_view(spec(OLD, "old"), ASH, VmState.UNKNOWN),
                    reason=Reason("vm_node_silent", AT, {"node": "ash"}, silent),
                ),
            )
        }
    )  # fmt: skip
    by_id = Map({node.node_id: node for node in nodes})
    return View(
        revision=1,
        nodes=_counted(by_id, vms),
        vms=vms,
        vm_order=order_of(vms),
    )


def facts(node_id: NodeId, name: str, address: str) -> NodeFacts:
    return NodeFacts(
        node_id,
        name,
        address,
        boot_id="b0070000-0000-4000-8000-000000000000",
        booted_at="2026-11-20T06:00:00.000Z",
        versions=Versions("0.1.0", "6.12.48", "Debian 13.2", "11.3.0", "10.0.2"),
        features=(),
        memory_bytes=32 * GiB,
        cpu=CpuFacts(
            "AMD EPYC 7313", "AMD", "EPYC-Milan", ("svm", "aes"), 1, 8, 2, 1, 3000
        ),
        kvm=KvmFacts(True, "ok"),
        firmware=FirmwareFacts(
            "American Megatrends", "2.1", "X12", "Supermicro", "S42", True
        ),
        networks=("skerry",),
        machines=("pc-q35-10.0",),
        hooks=HOOKS.get(node_id, ()),
    )


def spec(vm_id: VmId, name: str, *, image: str | None = None, cores: int = 2) -> VmSpec:
    tail = vm_id[-2:]
    return VmSpec(
        vm_id,
        name,
        2 * GiB,
        Cpu(cores=cores),
        disks=(
            Disk(
                DiskId(f"dddddddd-0000-4000-8000-0000000000{tail}"),
                "system",
                8 * GiB,
                image,
                is_bootable=True,
            ),
        ),
        nics=(
            Nic(
                NicId(f"eeeeeeee-0000-4000-8000-0000000000{tail}"),
                "nic1",
                f"56:6f:00:00:00:{tail}",
                "skerry",
            ),
        ),
        description=f"the {name} machine",
        machine="pc-q35-10.0",
    )


def vm_view(
    of: VmSpec,
    node_id: NodeId,
    state: VmState,
    *,
    addresses: tuple[str, ...] = (),
    end: VmEnd | None = None,
    at: str = AT,
) -> VmView:
    """Return the row and the documents of a VM in a state."""
    wanted = _WANTED.get(state, Wanted.UP)
    vm = VmView(
        of.vm_id,
        of.name,
        node_id,
        state,
        wanted,
        at,
        None,
        of.memory_bytes,
        of.cpu.count,
        addresses,
        of.description,
        vm_document=wire.encode(Vm(of, 1, at, wanted)),
        run_document=wire.encode(VmRun(of.vm_id, node_id, state, at, end=end)),
        last_state=state,
        generation=1,
        created_at=at,
        template_id=None if of.is_clone else of.template_id,
    )
    return turned(vm, state, wanted, at)


def turned(vm: VmView, state: VmState, wanted: Wanted, at: str) -> VmView:
    """Return a VM in another state, its documents with it."""
    is_running = state not in (VmState.DOWN, VmState.UNKNOWN)
    was = wire.decode(VmRun, vm.run_document)
    guest = GuestFacts(at, f"{vm.name}.test", "Debian 13", vm.addresses)
    run = replace(
        was,
        state=state,
        since=at,
        started_at=(was.started_at or at) if is_running else None,
        generation=1,
        vnc_port=5900 if is_running else None,
        guest=guest if state is VmState.UP and vm.addresses else None,
        end=None if is_running else was.end,
    )
    definition = replace(wire.decode(Vm, vm.vm_document), wanted=wanted)
    return replace(
        vm,
        state=state,
        wanted=wanted,
        since=at,
        last_state=state,
        vm_document=wire.encode(definition),
        run_document=wire.encode(run),
    )


def order_of(vms: Mapping[VmId, VmView]) -> tuple[tuple[str, VmId], ...]:
    return tuple(sorted((fold(vm.name), vm_id) for vm_id, vm in vms.items()))


def _images(*names: str) -> "Map[str, str]":
    return Map({f"image-{name}": name for name in names})


_WANTED: Mapping[VmState, Wanted] = {
    VmState.DOWN: Wanted.DOWN,
    VmState.PAUSED: Wanted.PAUSED,
}

_DEVICES = (
    Device("nic-eth0", DeviceKind.NIC, "eth0", driver="ixgbe",
           mac="3c:ec:ef:00:00:01", mtu=1500, speed_bps=10_000_000_000, is_up=True),
    Device("nic-eth1", DeviceKind.NIC, "eth1", mac="3c:ec:ef:00:00:02", mtu=1500),
    Device("disk-sda", DeviceKind.DISK, "sda", "Samsung", "PM893",
           size_bytes=480 * GiB),
    Device("pci-0000:01:00.0", DeviceKind.PCI, "0000:01:00.0", "Intel", "X550",
           "ixgbe"),
)  # fmt: skip

_CANDIDATES = (
    Candidate(
        node_id=NodeId("44444444-4444-4444-8444-444444444444"),
        name="fir",
        address="192.0.2.4",
        admission_port=7443,
        version="0.1.0",
        fingerprint=Fingerprint("ab" * 32),
        first_seen=AT,
        last_seen=AT,
        problem=None,
    ),
    Candidate(
        node_id=NodeId("55555555-5555-4555-8555-555555555555"),
        name="yew",
        address="192.0.2.5",
        admission_port=7443,
        version="0.1.0",
        fingerprint=Fingerprint("cd" * 32),
        first_seen=AT,
        last_seen=AT,
        problem=Reason("node_identity_changed", AT, {"node": "yew"}),
    ),
)


def _member(node: NodeView) -> Member:
    return Member(
        node_id=node.node_id,
        name=node.name,
        address=node.address,
        api_port=7441,
        fingerprint=Fingerprint("ef" * 32),
        admitted_at=AT,
        admitted_by=ADMINISTRATOR,
    )


def _objections(node: NodeView, wish: VmSpec) -> list[Any]:
    objections = []
    if node.state is not NodeState.UP:
        objections.append(Reason("node_unreachable", AT, {"node": node.name}))
    if wish.memory_bytes > (node.stats.memory_free_bytes if node.stats else 0):
        objections.append(Reason("storage_full", AT, {"path": "memory"}))
    for disk in wish.disks:
        if disk.image is not None and disk.image not in node.images:
            objections.append(Reason("vm_not_placed", AT, {"name": wish.name}))
    return objections


def _nodes_with(
    mirror: FakeMirror, vms: "Map[VmId, VmView]"
) -> "Map[NodeId, NodeView]":
    return _counted(mirror.view.nodes, vms)


def _counted(
    nodes: "Map[NodeId, NodeView]", vms: "Map[VmId, VmView]"
) -> "Map[NodeId, NodeView]":
    """Return the nodes with the sums over their VMs."""
    counted = {}
    for node in nodes.values():
        own = [vm for vm in vms.values() if vm.node_id == node.node_id]
        running = [vm for vm in own if vm.state is not VmState.DOWN]
        counted[node.node_id] = replace(
            node,
            vm_ids=frozenset(vm.vm_id for vm in own),
            vm_stats={
                vm.vm_id: VmStats(
                    vm.vm_id, 1.0, 20.0, GiB, 1000, 2000, 3000, 4000, 3600
                )
                for vm in own
                if vm.state not in (VmState.DOWN, VmState.UNKNOWN)
            },
            vms_running=len(running),
            vms_promised=len(running),
            memory_promised_bytes=sum(vm.memory_bytes for vm in running),
            vcpus_promised=sum(vm.vcpus for vm in running),
        )
    return Map(counted)
