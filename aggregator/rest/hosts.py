"""Show the nodes as oVirt's hosts, with their cards, devices and figures."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.federation import view as views
from aggregator.federation.view import (
    NodeState,
    NodeView,
    PoolRow,
    PoolSight,
    View,
)
from aggregator.rest import (
    fleet,
    host_hooks,
    permissions,
    replies,
    select,
    statistics,
    storage,
)
from aggregator.rest.body import BadValue
from aggregator.rest.call import Act, Call, Collection, NoSuchObject, Reply, Write
from aggregator.rest.element import Content
from aggregator.rest.resource import (
    Below,
    Context,
    Entity,
    Field,
    Reference,
    Resource,
    empty,
)
from aggregator.rest.search import Kind, Query, SearchField
from aggregator.services import Services
from node import translate, wire
from node.errors import Conflict
from node.model import storage_verbs as verbs
from node.model.host import Device, DeviceKind, NodeFacts
from node.model.ids import NodeId
from node.model.storage import SPM_PRIORITY_MAX, SpmPriority, SpmState
from node.model.storage_requests import SetSpmPriority
from node.model.verbs import ActionGroup, Object

STATUS: Final[Mapping[NodeState, str]] = {
    NodeState.UP: "up",
    NodeState.SUSPECT: "connecting",
    NodeState.UNREACHABLE: "non_responsive",
    NodeState.CONNECTING: "connecting",
}


@dataclass(frozen=True, slots=True)
class NodeDevice:
    node_id: NodeId
    device: Device

    @property
    def device_id(self) -> str:
        return fleet.derived_id(self.node_id, self.device.device_id)


def devices_of(node: NodeView, *kinds: DeviceKind) -> Iterable[NodeDevice]:
    """Yield the devices of some kinds."""
    for document in node.devices:
        device = wire.decode(Device, document, strict=False)
        if device.kind in kinds:
            yield NodeDevice(node.node_id, device)


def _fact(
    read: Callable[[NodeFacts], Content],
) -> Callable[[Context, NodeView], Content]:
    """Return a field's reader that is silent until the node has spoken."""

    def read_fact(context: Context, node: NodeView) -> Content:
        return None if node.facts is None else read(node.facts)

    return read_fact


def _detail(context: Context, node: NodeView) -> str | None:
    reason = node.reason
    return None if reason is None else translate.text(reason.code, reason.fields)


def _schedulable(context: Context, node: NodeView) -> int | None:
    """Return what no VM was promised yet."""
    if node.facts is None:
        return None
    return max(0, node.facts.memory_bytes - node.memory_promised_bytes)


def _external_status(context: Context, node: NodeView) -> str:
    is_well = node.facts is None or not node.facts.problems
    return "ok" if is_well else "warning"


def _migrating(context: Context, node: NodeView) -> int:
    """Return how many VMs move: none, for they cannot yet."""
    return 0


def _sight(context: Context, node: NodeView) -> PoolSight | None:
    """Return what a node says of the pool that it shares; None if it is in none."""
    pool = _pool(context, node)
    return pool.sights.get(node.node_id) if pool is not None else None


def _pool(context: Context, node: NodeView) -> PoolRow | None:
    cluster = context.fleet.cluster_of(node.node_id)
    return storage.shared_pool(context, cluster.data_center_id)


def _priority(context: Context, node: NodeView) -> int:
    sight = _sight(context, node)
    return sight.priority if sight is not None else SpmPriority.NORMAL


def _spm_status(context: Context, node: NodeView) -> str:
    """Return what a node is in the pool that it shares; its own does not count."""
    pool, sight = _pool(context, node), _sight(context, node)
    if pool is not None and views.manager_of(context.view, pool.pool_id) == (
        node.node_id
    ):
        return "spm"
    is_contending = sight is not None and sight.spm_state is SpmState.CONTENDING
    return "contending" if is_contending else "none"


NIC: Final[Resource[NodeDevice]] = Resource(
    "host_nic",
    "host_nics",
    lambda row: row.device_id,
    (
        Field("name", lambda context, row: row.device.name),
        Field("mac/address", lambda context, row: row.device.mac or None),
        Field("mtu", lambda context, row: row.device.mtu or None),
        Field("speed", lambda context, row: row.device.speed_bps or None),
        Field("status", lambda context, row: "up" if row.device.is_up else "down"),
    ),
    (Reference("host", lambda context, row: f"hosts/{row.node_id}"),),
)

DEVICE: Final[Resource[NodeDevice]] = Resource(
    "host_device",
    "host_devices",
    lambda row: row.device_id,
    (
        Field("name", lambda context, row: row.device.device_id.replace("-", "_", 1)),
        Field("capability", lambda context, row: _CAPABILITIES[row.device.kind]),
        Field("driver", lambda context, row: row.device.driver or None),
        Field("vendor/name", lambda context, row: row.device.vendor or None),
        Field("product/name", lambda context, row: row.device.model or None),
    ),
    (Reference("host", lambda context, row: f"hosts/{row.node_id}"),),
)
_CAPABILITIES: Final[Mapping[DeviceKind, str]] = {
    DeviceKind.PCI: "pci",
    DeviceKind.DISK: "storage",
    DeviceKind.NIC: "net",
}

RESOURCE: Final[Resource[NodeView]] = Resource(
    "host",
    "hosts",
    lambda node: node.node_id,
    (
        Field("name", lambda context, row: row.name),
        Field("address", lambda context, row: row.address),
        Field("comment", lambda context, row: ""),
        Field("status", lambda context, row: STATUS[row.state]),
        Field("status_detail", _detail),
        Field("external_status", _external_status),
        Field("type", lambda context, row: "ovirt_node"),
        Field("memory", _fact(lambda facts: facts.memory_bytes)),
        Field("max_scheduling_memory", _schedulable),
        Field("cpu/name", _fact(lambda facts: facts.cpu.model)),
        Field("cpu/speed", _fact(lambda facts: float(facts.cpu.mhz))),
        Field("cpu/type", _fact(lambda facts: facts.cpu.libvirt_model)),
        Field("cpu/topology/sockets", _fact(lambda facts: facts.cpu.sockets)),
        Field("cpu/topology/cores", _fact(lambda facts: facts.cpu.cores)),
        Field("cpu/topology/threads", _fact(lambda facts: facts.cpu.threads)),
        Field("summary/total", lambda context, row: len(row.vm_ids)),
        Field("summary/active", lambda context, row: row.vms_running),
        Field("summary/migrating", _migrating),
        Field("os/type", _fact(lambda facts: facts.versions.os)),
        Field("os/version/full_version", _fact(lambda facts: facts.versions.kernel)),
        # Clients ask for it to be there; none is set through us.
        Field("os/custom_kernel_cmdline", lambda context, row: ""),
        Field("version/full_version", _fact(lambda facts: facts.versions.agent)),
        Field(
            "libvirt_version/full_version",
            _fact(lambda facts: facts.versions.libvirt),
        ),
        Field(
            "hardware_information/manufacturer",
            _fact(lambda facts: facts.firmware.manufacturer or None),
        ),
        Field(
            "hardware_information/product_name",
            _fact(lambda facts: facts.firmware.product or None),
        ),
        Field(
            "hardware_information/serial_number",
            _fact(lambda facts: facts.firmware.serial or None),
        ),
        Field("hardware_information/uuid", lambda context, row: row.node_id),
        Field("power_management/enabled", lambda context, row: False),
        Field("power_management/kdump_detection", lambda context, row: False),
        Field("kdump_status", lambda context, row: "disabled"),
        Field("ksm/enabled", lambda context, row: False),
        Field("spm/priority", _priority),
        Field("spm/status", _spm_status),
        Field("vgpu_placement", lambda context, row: "consolidated"),
        Field("update_available", lambda context, row: False),
        Field("numa_supported", _fact(lambda facts: facts.cpu.numa_nodes > 1)),
    ),
    (
        Reference(
            "cluster",
            lambda context, row: (
                f"clusters/{context.fleet.cluster_of(row.node_id).cluster_id}"
            ),
        ),
    ),
    (
        statistics.OF_NODE,
        Below("nics", NIC, lambda context, row: devices_of(row, DeviceKind.NIC)),
        Below("devices", DEVICE, lambda context, row: devices_of(row, *DeviceKind)),
        Below(
            "permissions",
            permissions.RESOURCE,
            lambda context, row: permissions.on(context, Object.NODE, row.node_id),
        ),
        empty("affinitylabels", "affinity_labels", "affinity_label"),
        empty("fenceagents", "agents", "agent"),
        Below("hooks", host_hooks.HOOK, lambda context, row: host_hooks.of_node(row)),
        empty("katelloerrata", "katello_errata", "katello_erratum"),
        # LUNs: none are used, for storage is mounted.
        empty("storage", "host_storages", "host_storage"),
        empty("tags", "tags", "tag"),
        empty(
            "storageconnectionextensions",
            "storage_connection_extensions",
            "storage_connection_extension",
        ),
    ),
    ("forceselectspm",),
)


def find(services: Services, context: Context, object_id: str) -> NodeView | None:
    """Return the object of an id, or None if there is none."""
    return context.view.nodes.get(NodeId(object_id))


def _fields(context: Context) -> Mapping[str, SearchField[NodeView]]:
    def cluster(row: NodeView) -> str:
        return context.fleet.cluster_of(row.node_id).name

    def data_center(row: NodeView) -> str:
        return context.fleet.data_center_of(context.fleet.cluster_of(row.node_id)).name

    def vm_facts(row: NodeView, name: str) -> tuple[str, ...]:
        vms = context.view.vms
        return tuple(getattr(vms[vm_id], name) for vm_id in row.vm_ids if vm_id in vms)

    def storage_names(row: NodeView) -> tuple[str, ...]:
        domains = context.view.storage_domains
        found = (domains.get(each) for each in row.storage_domain_ids)
        return tuple(each.name for each in found if each is not None)

    return {
        "id": SearchField(lambda row: row.node_id),
        "hw_id": SearchField(lambda row: row.node_id),
        "name": SearchField(lambda row: row.name),
        "comment": SearchField(lambda row: ""),
        "address": SearchField(lambda row: row.address),
        "status": SearchField(lambda row: STATUS[row.state], Kind.STATUS),
        "external_status": SearchField(
            lambda row: _external_status(context, row), Kind.STATUS
        ),
        "cluster": SearchField(cluster),
        "cluster.name": SearchField(cluster),
        "datacenter": SearchField(data_center),
        "datacenter.name": SearchField(data_center),
        "version": SearchField(
            lambda row: row.facts.versions.agent if row.facts else None
        ),
        "memory": SearchField(
            lambda row: row.facts.memory_bytes if row.facts else None, Kind.NUMBER
        ),
        "cpus": SearchField(
            lambda row: row.facts.cpu.count if row.facts else None, Kind.NUMBER
        ),
        "cpu_model": SearchField(
            lambda row: row.facts.cpu.model if row.facts else None
        ),
        "cpu_speed": SearchField(
            lambda row: row.facts.cpu.mhz if row.facts else None, Kind.NUMBER
        ),
        "cpu_usage": SearchField(
            lambda row: row.stats.cpu_percent if row.stats else None, Kind.NUMBER
        ),
        "active_vms": SearchField(lambda row: row.vms_running, Kind.NUMBER),
        "committed_mem": SearchField(
            lambda row: row.memory_promised_bytes, Kind.NUMBER
        ),
        "storage": SearchField(storage_names),
        "storage.name": SearchField(storage_names),
        "update_available": SearchField(lambda row: False, Kind.TRUTH),
        "vm.name": SearchField(lambda row: vm_facts(row, "name")),
        "vm.id": SearchField(lambda row: tuple(row.vm_ids)),
        "vm.status": SearchField(lambda row: vm_facts(row, "state"), Kind.STATUS),
    }


def _select(call: Call, query: Query, maximum: int | None) -> Iterable[NodeView]:
    nodes = call.context.view.nodes.values()
    return select.rows(
        sorted(nodes, key=lambda node: (node.name.casefold(), node.node_id)),
        query,
        maximum,
        _fields(call.context),
        is_case_sensitive=call.parameters.flag("case_sensitive"),
    )


class NotInPool(Conflict):
    code = "node_not_in_pool"
    remedy = "Wait until the host has joined the pool of its data center."


def _select_spm(call: Call, row: NodeView) -> Reply:
    """Make a host the manager of the pool that it shares."""
    pool = _joined(call, row)
    if views.manager_of(call.context.view, pool.pool_id) == row.node_id:
        return Reply(replies.action(call, None))
    orders = call.services.orders.storage
    return replies.follow(call, orders.elect(pool.pool_id, row.node_id, call.origin))


def _update(call: Call, path: tuple[str, ...]) -> Reply:
    """Change a host's priority as manager: the node has no verb for more."""
    row = find(call.services, call.context, path[0])
    if row is None:
        raise NoSuchObject(f"there is no host {path[0]}", node_id=path[0])
    for name, now in (("name", row.name), ("address", row.address), ("comment", "")):
        if call.body.string(name) not in (None, now):
            raise replies.NotDoneYet(f"{name} of a host cannot be changed")
    priority = call.body.integer("spm/priority")
    if priority is not None and priority != _priority(call.context, row):
        if not SpmPriority.NEVER <= priority <= SPM_PRIORITY_MAX:
            text = f"spm.priority must be {SpmPriority.NEVER:d} to {SPM_PRIORITY_MAX}"
            raise BadValue(text, field="spm.priority")
        pool = _joined(call, row)
        request = SetSpmPriority(priority)
        order = replies.storage_order(
            call, verbs.SPM_PRIORITY, pool.pool_id, request, row.node_id
        )
        replies.wait(call, order)
        replies.see(call, lambda view: _published(view, pool, row) == priority)
    return Reply(Entity(RESOURCE, row, f"hosts/{path[0]}"))


def _published(view: View, pool: PoolRow, node: NodeView) -> int | None:
    """Return the priority that a node tells the others, as far as is known."""
    newer = view.pools.get(pool.pool_id)
    sight = newer.sights.get(node.node_id) if newer is not None else None
    return sight.priority if sight is not None else None


def _joined(call: Call, node: NodeView) -> PoolRow:
    pool = _pool(call.context, node)
    if pool is None or node.node_id not in pool.sights:
        raise NotInPool(f"host {node.name} is in no storage pool", node=node.name)
    return pool


COLLECTION: Final = Collection(
    "hosts",
    RESOURCE,
    Object.NODE,
    find,
    _select,
    acts=(Act("forceselectspm", ActionGroup.MANIPULATE_HOST, _select_spm),),
    update=Write(ActionGroup.MANIPULATE_HOST, _update),
)
