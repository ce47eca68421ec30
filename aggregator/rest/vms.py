"""Show the VMs, make and remove them, and do to them what oVirt's clients ask."""

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.control import templating
from aggregator.control.orders import Order
from aggregator.federation import view as views
from aggregator.federation.view import View, VmView
from aggregator.rest import (
    attachments,
    compatibility,
    devices,
    element,
    new_vm,
    permissions,
    replies,
    search,
    select,
    snapshots,
    statistics,
    templates,
    vm_edits,
    vm_exports,
)
from aggregator.rest.call import Act, Call, Collection, NoSuchObject, Reply, Write
from aggregator.rest.devices import VmRow
from aggregator.rest.element import Content, Element
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
from node.model import template_verbs
from node.model.ids import NodeId, VmId
from node.model.job import JobState
from node.model.requests import StopManner
from node.model.verbs import ActionGroup, Object
from node.model.vm import GuestFacts, Vm, VmSpec, VmState, Wanted

STATUS: Final[Mapping[VmState, str]] = {
    VmState.DOWN: "down",
    VmState.STARTING: "wait_for_launch",
    VmState.POWERING_UP: "powering_up",
    VmState.UP: "up",
    VmState.PAUSED: "paused",
    VmState.REBOOTING: "reboot_in_progress",
    VmState.POWERING_DOWN: "powering_down",
    VmState.NOT_RESPONDING: "not_responding",
    VmState.UNKNOWN: "unknown",
}
# Removing takes as long as deleting files does: clients expect it to be gone.
_REMOVE_S: Final = 10.0


class VmIsRunning(Conflict):
    code = "vm_is_running"
    remedy = "Stop it first, or leave it as it is."


class NothingToBootFrom(Conflict):
    code = "nothing_to_boot_from"
    remedy = "Make the VM with a template or a disk."


# representation


def _detail(context: Context, row: VmRow) -> str | None:
    reason = row.vm.reason
    return None if reason is None else translate.text(reason.code, reason.fields)


def _stop_reason(context: Context, row: VmRow) -> str | None:
    end = row.run.end if row.run is not None else None
    if row.vm.state is not VmState.DOWN or end is None:
        return None
    return end.detail or end.cause.value


def _stop_time(context: Context, row: VmRow) -> Content:
    end = row.run.end if row.run is not None else None
    return element.moment(end.at) if end is not None else None


def _start_time(context: Context, row: VmRow) -> Content:
    return element.moment(row.run.started_at) if row.run is not None else None


def _guest_name(context: Context, row: VmRow) -> str | None:
    guest = row.run.guest if row.run is not None else None
    return (guest.host_name or None) if guest is not None else None


def _guest_os(context: Context, row: VmRow) -> str | None:
    guest = row.run.guest if row.run is not None else None
    return (guest.os or None) if guest is not None else None


def _firmware(context: Context, row: VmRow) -> str | None:
    if row.definition is None:
        return None
    return compatibility.bios_type(row.definition.spec)


def _resume_behavior(context: Context, row: VmRow) -> str | None:
    """Return what becomes of it when its storage is away; oVirt's words are ours."""
    spec = row.definition.spec if row.definition is not None else None
    return spec.resume_behavior.value if spec is not None else None


def _lease(context: Context, row: VmRow) -> Element | None:
    """Return where its lease lies, if that was chosen."""
    spec = row.definition.spec if row.definition is not None else None
    if spec is None or spec.lease_domain_id is None:
        return None
    href = f"{context.base}/storagedomains/{spec.lease_domain_id}"
    return element.reference("storage_domain", href, spec.lease_domain_id)


def _display_port(context: Context, row: VmRow) -> int | None:
    return row.run.vnc_port if row.run is not None else None


def _host(context: Context, row: VmRow) -> str | None:
    """Return where it runs; a VM that is down is nowhere."""
    return None if row.vm.state is VmState.DOWN else f"hosts/{row.vm.node_id}"


def _template(context: Context, row: VmRow) -> str:
    needed, _ = templates.of_vm(context, row.spec)
    return f"templates/{needed.template_id}"


def _original(context: Context, row: VmRow) -> str:
    _, original = templates.of_vm(context, row.spec)
    return f"templates/{original.template_id}"


def _status(context: Context, row: VmRow) -> str:
    return "image_locked" if row.is_locked else _state(row.vm)


def _state(vm: VmView) -> str:
    return "suspended" if vm.is_suspended else STATUS[vm.state]


def _machine(context: Context, row: VmRow) -> str | None:
    return row.definition.spec.machine if row.definition is not None else None


ACTIONS: Final = (
    "start",
    "stop",
    "shutdown",
    "reboot",
    "reset",
    "suspend",
    "previewsnapshot",
    "commitsnapshot",
    "undosnapshot",
)
# What oVirt can do besides: clients get a text instead of a riddle.
_UNSUPPORTED: Final[Mapping[str, ActionGroup]] = {
    "migrate": ActionGroup.RUN_VM,
    "cancelmigration": ActionGroup.RUN_VM,
    "detach": ActionGroup.EDIT_FLEET,
    "ticket": ActionGroup.CONNECT_TO_VM,
    "logon": ActionGroup.CONNECT_TO_VM,
    "clone": ActionGroup.CREATE_VM,
    "freezefilesystems": ActionGroup.EDIT_FLEET,
    "thawfilesystems": ActionGroup.EDIT_FLEET,
    "maintenance": ActionGroup.EDIT_FLEET,
    "reordermacaddresses": ActionGroup.EDIT_FLEET,
    "screenshot": ActionGroup.CONNECT_TO_VM,
}

RESOURCE: Final[Resource[VmRow]] = Resource(
    "vm",
    "vms",
    lambda row: row.vm.vm_id,
    (
        Field("name", lambda context, row: row.vm.name),
        Field("description", lambda context, row: row.vm.description),
        Field("comment", lambda context, row: ""),
        Field("status", _status),
        Field("status_detail", _detail),
        *templates.machine_fields(
            lambda row: row.vm.memory_bytes,
            lambda row: (
                row.definition.spec.cpu if row.definition is not None else templates.CPU
            ),
        ),
        Field("storage_error_resume_behaviour", _resume_behavior),
        Field("bios/type", _firmware),
        Field("custom_emulated_machine", _machine),
        Field("display/port", _display_port),
        Field("creation_time", lambda context, row: element.moment(row.vm.created_at)),
        Field("start_time", _start_time),
        Field("stop_time", _stop_time),
        Field("stop_reason", _stop_reason),
        Field("fqdn", _guest_name),
        Field("guest_operating_system/distribution", _guest_os),
        Field(
            "next_run_configuration_exists",
            lambda context, row: _is_newer(
                row.vm, row.run.generation if row.run else 0
            ),
        ),
        Field("lease/storage_domain", _lease),
        Field("run_once", lambda context, row: False),
        *templates.all_content_fields(),
    ),
    (
        Reference(
            "cluster",
            lambda context, row: (
                f"clusters/{context.fleet.cluster_of(row.vm.vm_id).cluster_id}"
            ),
        ),
        Reference("host", _host),
        Reference("template", _template),
        Reference("original_template", _original),
    ),
    (
        Below("nics", devices.NIC, devices.nics),
        Below("diskattachments", devices.ATTACHMENT, devices.disks),
        Below("graphicsconsoles", devices.CONSOLE, devices.consoles),
        Below("reporteddevices", devices.GUEST_DEVICE, devices.guest_devices),
        Below("snapshots", snapshots.RESOURCE, snapshots.of_vm),
        Below(
            "statistics",
            statistics.RESOURCE,
            lambda context, row: statistics.of_vm(context.view, row.vm),
        ),
        Below(
            "permissions",
            permissions.RESOURCE,
            lambda context, row: permissions.on(context, Object.VM, row.vm.vm_id),
        ),
        empty("affinitylabels", "affinity_labels", "affinity_label"),
        empty("backups", "backups", "backup"),
        empty("cdroms", "cdroms", "cdrom"),
        empty("checkpoints", "checkpoints", "checkpoint"),
        empty("hostdevices", "host_devices", "host_device"),
        empty("numanodes", "vm_numa_nodes", "vm_numa_node"),
        empty("tags", "tags", "tag"),
        empty("watchdogs", "watchdogs", "watchdog"),
    ),
    ACTIONS,
)


# finding


@dataclass(frozen=True, slots=True)
class _RunBrief:
    """What searches look at in a run; reading all of it takes ten times longer."""

    generation: int = 0
    guest: GuestFacts | None = None


@dataclass(frozen=True, slots=True)
class _DiskBrief:
    image: str | None = None


@dataclass(frozen=True, slots=True)
class _SpecBrief:
    disks: tuple[_DiskBrief, ...] = ()


@dataclass(frozen=True, slots=True)
class _VmBrief:
    spec: _SpecBrief = _SpecBrief()


def _run_of(vm: VmView) -> _RunBrief:
    document = vm.run_document or b"{}"
    return wire.decode(_RunBrief, document, strict=False)


def _fqdn(vm: VmView) -> str | None:
    guest = _run_of(vm).guest
    return guest.host_name if guest is not None else None


def _is_newer_defined(vm: VmView) -> bool:
    """Tell whether the definition changed since the VM was started."""
    return _is_newer(vm, _run_of(vm).generation)


def _is_newer(vm: VmView, started: int) -> bool:
    """Tell whether the definition is newer than the one that was started; 0: none."""
    return vm.state is not VmState.DOWN and started not in (0, vm.generation)


def _image(vm: VmView) -> str | None:
    brief = wire.decode(_VmBrief, vm.vm_document or b"{}", strict=False)
    return next((disk.image for disk in brief.spec.disks if disk.image), None)


def find(services: Services, context: Context, object_id: str) -> VmRow | None:
    """Return the object of an id, or None if there is none."""
    vm = context.view.vms.get(VmId(object_id))
    return devices.row_of(vm) if vm is not None else _coming(services, object_id)


def _coming(services: Services, object_id: str) -> VmRow | None:
    """Return a full clone whose disks are being copied; None: there is none."""
    making = services.orders.making(template_verbs.VM_CLONE.name, object_id)
    if making is None:
        return None
    spec: VmSpec = making.request.spec
    view = VmView(
        spec.vm_id,
        spec.name,
        making.order.node_id or NodeId(""),
        VmState.DOWN,
        Wanted.DOWN,
        making.order.created_at,
        None,
        spec.memory_bytes,
        spec.cpu.count,
        created_at=making.order.created_at,
    )
    return VmRow(view, Vm(spec, 1, view.created_at), None, is_locked=True)


def _template_name(view: View, row: VmView) -> str:
    kept = view.templates.get(row.template_id) if row.template_id else None
    return kept.name if kept is not None else templates.of_image(_image(row)).name


def _fields(context: Context) -> Mapping[str, SearchField[VmView]]:
    view = context.view

    def host(row: VmView) -> str | None:
        node = view.nodes.get(row.node_id)
        is_there = row.state is not VmState.DOWN and node is not None
        return node.name if is_there and node is not None else None

    def cluster(row: VmView) -> str:
        return context.fleet.cluster_of(row.vm_id).name

    def data_center(row: VmView) -> str:
        return context.fleet.data_center_of(context.fleet.cluster_of(row.vm_id)).name

    def storage_names(row: VmView) -> tuple[str, ...]:
        found = (view.disks.get(disk_id) for disk_id in row.disk_ids)
        ids = {each for disk in found if disk for each in disk.storage_domain_ids}
        domains = (view.storage_domains.get(each) for each in ids)
        return tuple(each.name for each in domains if each is not None)

    def figure(name: str) -> SearchField[VmView]:
        def read(row: VmView) -> float | None:
            stats = views.stats_of(view, row.vm_id)
            return getattr(stats, name) if stats is not None else None

        return SearchField(read, Kind.NUMBER)

    def memory_percent(row: VmView) -> float | None:
        stats = views.stats_of(view, row.vm_id)
        if stats is None or not row.memory_bytes:
            return None
        return 100 * stats.memory_used_bytes / row.memory_bytes

    return {
        "id": SearchField(lambda row: row.vm_id),
        "name": SearchField(lambda row: row.name),
        "comment": SearchField(lambda row: "", is_free=False),
        "description": SearchField(lambda row: row.description),
        "status": SearchField(_state, Kind.STATUS),
        "ip": SearchField(lambda row: row.addresses),
        "fqdn": SearchField(_fqdn, is_free=False),
        "host": SearchField(host),
        "host.name": SearchField(host),
        "cluster": SearchField(cluster),
        "cluster.name": SearchField(cluster),
        "datacenter": SearchField(data_center),
        "datacenter.name": SearchField(data_center),
        "template.name": SearchField(lambda row: _template_name(view, row)),
        "storage": SearchField(storage_names),
        "storage.name": SearchField(storage_names),
        "memory": SearchField(lambda row: row.memory_bytes, Kind.NUMBER),
        "guaranteed_memory": SearchField(lambda row: row.memory_bytes, Kind.NUMBER),
        "vcpus": SearchField(lambda row: row.vcpus, Kind.NUMBER),
        "cpu_usage": figure("cpu_percent"),
        "uptime": figure("uptime_s"),
        "mem_usage": SearchField(memory_percent, Kind.NUMBER),
        "creationdate": SearchField(
            lambda row: element.moment(row.created_at), Kind.TIME
        ),
        "architecture": SearchField(lambda row: "x86_64", is_free=False),
        "type": SearchField(lambda row: "server", is_free=False),
        "origin": SearchField(lambda row: "ovirt", is_free=False),
        "next_run_config_exists": SearchField(_is_newer_defined, Kind.TRUTH),
        # Nothing can be tagged or pooled: a search for it finds nothing.
        "tag": SearchField(lambda row: None),
        "pool": SearchField(lambda row: None),
    }


def _select(call: Call, query: Query, maximum: int | None) -> Iterator[VmRow]:
    """Yield a page; the usual questions touch only the rows they show."""
    context = call.context
    if not query.alternatives and query.sort_field is None and maximum is not None:
        start = (query.page - 1) * maximum
        return map(devices.row_of, views.page(context.view, start, maximum))
    found = select.rows(
        _candidates(context, query),
        query,
        maximum,
        _fields(context),
        is_case_sensitive=call.parameters.flag("case_sensitive"),
    )
    return map(devices.row_of, found)


def _candidates(context: Context, query: Query) -> Iterable[VmView]:
    """Return, in order of names, as few VMs as the search allows."""
    view = context.view
    vm_id = VmId((search.prefix(query, "id") or "").lower())
    if vm_id in view.vms:
        return (view.vms[vm_id],)
    name = search.prefix(query, "name")
    if name:
        return _named_from(view, name)
    return (view.vms[each] for _, each in view.vm_order)


def _named_from(view: View, prefix: str) -> Iterator[VmView]:
    """Yield the VMs whose names start so, whatever the case: by the index."""
    folded = views.fold(prefix)
    start = bisect.bisect_left(view.vm_order, (folded, VmId("")))
    for key, vm_id in itertools.islice(view.vm_order, start, None):
        if not key.startswith(folded):
            return
        yield view.vms[vm_id]


# doing


def _add(call: Call, path: tuple[str, ...]) -> Reply:
    spec, order = snapshots.clone(call) or _make(call)
    replies.raise_failure(order)
    row = call.services.mirror.view.vms.get(spec.vm_id)
    location = f"{call.context.base}/vms/{spec.vm_id}"
    if row is None:
        # Its node has not told of it yet: it is under way, as oVirt has it.
        return Reply(_under_way(call, spec.vm_id, spec.name), 202)
    entity = Entity(RESOURCE, devices.row_of(row), f"vms/{spec.vm_id}")
    return Reply(entity, 201, {"Location": location})


def _make(call: Call) -> tuple[VmSpec, Order]:
    """Order a VM as it is described, of a template or none."""
    is_clone = call.parameters.flag("clone")
    spec = new_vm.spec(call.context, call.body, is_clone=is_clone)
    return spec, templating.make_vm(call.services.orders, spec, call.origin)


def _under_way(call: Call, vm_id: VmId, name: str) -> Element:
    href = f"{call.context.base}/vms/{vm_id}"
    return Element(
        "vm",
        attributes=(("href", href), ("id", vm_id)),
        children=(Element("name", name), Element("status", "image_locked")),
    )


def _remove(call: Call, path: tuple[str, ...]) -> Reply:
    row = _row(call, path[0])
    if row.vm.state is not VmState.DOWN:
        raise VmIsRunning(
            f"Cannot remove VM. VM {row.vm.name} is running.", name=row.vm.name
        )
    if call.parameters.flag("detach_only"):
        attachments.detach_all(call, row)
    is_forced = call.parameters.flag("force")
    order = call.services.orders.delete_vm(
        row.vm.vm_id, call.origin, may_leave_disks=is_forced
    )
    order = replies.wait(call, order, _REMOVE_S)
    if order.state is JobState.DONE:
        replies.see(call, lambda view: row.vm.vm_id not in view.vms)
    return Reply(replies.action(call, order))


def _start(call: Call, row: VmRow) -> Reply:
    orders = call.services.orders
    if row.vm.state is VmState.PAUSED:
        return replies.follow(call, orders.resume_vm(row.vm.vm_id, call.origin))
    if row.vm.state is not VmState.DOWN:
        raise VmIsRunning(
            f"Cannot run VM. VM {row.vm.name} is running.", name=row.vm.name
        )
    spec = row.definition.spec if row.definition is not None else None
    if spec is not None and not spec.disks and not spec.nics:
        raise NothingToBootFrom(
            "Cannot run VM without at least one bootable disk.", name=row.vm.name
        )
    is_paused = bool(call.body.boolean("pause"))
    order = orders.start_vm(row.vm.vm_id, call.origin, is_paused=is_paused)
    return replies.follow(call, order)


def _stop(call: Call, row: VmRow) -> Reply:
    return _end(call, row, StopManner.FORCE)


def _shut_down(call: Call, row: VmRow) -> Reply:
    is_forced = bool(call.body.boolean("force"))
    manner = StopManner.FORCE if is_forced else StopManner.SHUTDOWN
    return _end(call, row, manner)


def _end(call: Call, row: VmRow, manner: StopManner) -> Reply:
    """Stop a VM; one that is down has been, which oVirt's clients rely on.

    To stop a suspended one discards its memory.
    """
    discards = row.vm.is_suspended and manner is StopManner.FORCE
    if row.vm.state is VmState.DOWN and not discards:
        return Reply(replies.action(call, None))
    order = call.services.orders.stop_vm(row.vm.vm_id, call.origin, manner=manner)
    return replies.follow(call, order)


def _reset(call: Call, row: VmRow) -> Reply:
    if row.vm.state is VmState.DOWN:
        raise Conflict(
            f"Cannot reset VM. VM {row.vm.name} is not running.", name=row.vm.name
        )
    return replies.follow(
        call, call.services.orders.reset_vm(row.vm.vm_id, call.origin)
    )


def _suspend(call: Call, row: VmRow) -> Reply:
    if row.vm.state is VmState.DOWN:
        raise Conflict(
            f"Cannot hibernate VM. VM {row.vm.name} is not running.", name=row.vm.name
        )
    return replies.follow(
        call, call.services.orders.suspend_vm(row.vm.vm_id, call.origin)
    )


def _refuse(name: str) -> Callable[[Call, VmRow], Reply]:
    def run(call: Call, row: VmRow) -> Reply:
        raise replies.NotDoneYet(f"{name} of a VM is not supported")

    return run


def _row(call: Call, object_id: str) -> VmRow:
    row = find(call.services, call.context, object_id)
    if row is None:
        raise NoSuchObject(f"there is no VM {object_id}", vm_id=object_id)
    return row


COLLECTION: Final = Collection(
    "vms",
    RESOURCE,
    Object.VM,
    find,
    _select,
    acts=(
        Act("start", ActionGroup.RUN_VM, _start),
        Act("stop", ActionGroup.STOP_VM, _stop),
        Act("shutdown", ActionGroup.STOP_VM, _shut_down),
        Act("reboot", ActionGroup.RESET_VM, _reset),
        Act("reset", ActionGroup.RESET_VM, _reset),
        Act("suspend", ActionGroup.STOP_VM, _suspend),
        Act("export", ActionGroup.EXPORT_VM, vm_exports.export),
        *snapshots.ACTS,
        *(Act(name, group, _refuse(name)) for name, group in _UNSUPPORTED.items()),
    ),
    deeds=(*attachments.DEEDS, *snapshots.DEEDS),
    add=Write(ActionGroup.CREATE_VM, _add),
    update=vm_edits.update(RESOURCE, find),
    remove=Write(ActionGroup.DELETE_VM, _remove),
)
