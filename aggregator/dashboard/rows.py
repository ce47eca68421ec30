"""Turn what the View, the orders and the event log hold into rows of a page.

Pure. A row has only what its template shows, in words and figures.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from aggregator.control.orders import Order
from aggregator.dashboard import figures, signs
from aggregator.dashboard.alarms import Alarm
from aggregator.dashboard.signs import Action, Sign
from aggregator.federation import view as views
from aggregator.federation.events import LoggedEvent
from aggregator.federation.view import NodeState, NodeView, View, VmView
from aggregator.registry import Candidate
from aggregator.scheduling.place import Verdict
from node.model import messages, reason
from node.model.ids import NodeId, VmId
from node.model.job import ENDED, ErrorReport, JobState
from node.model.reason import Reason
from node.model.vm import VmState

Translate = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Bar:
    """A share of something, as a bar with its text."""

    label: str
    percent: int
    text: str
    may_be_full: bool = False  # that it is full is no reason to worry

    @property
    def tone(self) -> str:
        if self.may_be_full:
            return "good"
        return "bad" if self.percent >= 95 else "warn" if self.percent >= 85 else "good"


@dataclass(frozen=True, slots=True)
class Why:
    """One link of the chain of causes."""

    sign: Sign
    text: str
    remedy: str
    since: str


@dataclass(frozen=True, slots=True)
class VmRow:
    vm_id: VmId
    name: str
    description: str
    sign: Sign
    why: str
    since: str
    node_id: NodeId
    node_name: str
    addresses: tuple[str, ...]
    vcpus: int
    memory: str
    cpu: Bar | None
    memory_use: Bar | None
    uptime: str
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class NodeRow:
    node_id: NodeId
    name: str
    address: str
    sign: Sign
    why: str
    since: str
    vms_running: int
    vms: int
    cpu: Bar | None
    memory: Bar | None
    storage: Bar | None
    version: str


@dataclass(frozen=True, slots=True)
class CandidateRow:
    node_id: NodeId
    name: str
    address: str
    version: str
    fingerprint: str
    groups: tuple[str, ...]
    first_seen: str
    problem: Why | None


@dataclass(frozen=True, slots=True)
class AlarmRow:
    sign: Sign
    name: str
    page: str  # of what it is about
    text: str
    remedy: str
    since: str
    vms_affected: int


@dataclass(frozen=True, slots=True)
class EventRow:
    seq: int
    at: str
    sign: Sign
    text: str
    remedy: str
    node_id: NodeId | None
    vm_id: VmId | None
    user: str


@dataclass(frozen=True, slots=True)
class TaskRow:
    order_id: str
    sign: Sign
    text: str
    step: str
    percent: int
    is_ended: bool
    page: str  # of what it is about; empty: none
    node_name: str
    user: str
    created_at: str
    ended_at: str | None
    error: ErrorReport | None
    data_node_name: str = ""  # of another one, which moves its data


@dataclass(frozen=True, slots=True)
class VerdictRow:
    node_id: NodeId
    name: str
    is_accepted: bool
    reasons: tuple[Why, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many there are, and how they are."""

    total: int
    up: int
    alert: int
    down: int


def why(cause: Reason, translate: Translate) -> Why:
    """Return one reason in words."""
    return Why(
        signs.SEVERITY_SIGNS[messages.severity(cause.code)],
        messages.text(cause.code, cause.fields, translate),
        messages.remedy(cause.code, cause.fields, translate),
        cause.since,
    )


def whys(first: Reason | None, translate: Translate) -> tuple[Why, ...]:
    """Return a reason and what caused it, in words."""
    return tuple(why(each, translate) for each in reason.chain(first))


def _text_of(cause: Reason | None, translate: Translate) -> str:
    return messages.text(cause.code, cause.fields, translate) if cause else ""


def vm_row(view: View, vm: VmView, translate: Translate) -> VmRow:
    """Return a VM as a row of a list."""
    node = view.nodes.get(vm.node_id)
    stats = views.stats_of(view, vm.vm_id) if signs.has_screen(vm.state) else None
    return VmRow(
        vm.vm_id,
        vm.name,
        vm.description,
        signs.vm_sign(vm),
        _text_of(vm.reason, translate),
        vm.since,
        vm.node_id,
        node.name if node else vm.node_id,
        vm.addresses,
        vm.vcpus,
        figures.size(vm.memory_bytes),
        _percent_bar("CPU", stats.cpu_percent) if stats else None,
        size_bar("Memory", stats.memory_used_bytes, vm.memory_bytes) if stats else None,
        figures.span(stats.uptime_s) if stats else "",
        signs.possible_actions(vm.state, is_suspended=vm.is_suspended),
    )


def node_row(node: NodeView, translate: Translate) -> NodeRow:
    """Return a node as a row of a list."""
    is_heard = node.state in (NodeState.UP, NodeState.SUSPECT)
    problem = node.reason or next(iter(node.facts.problems if node.facts else ()), None)
    return NodeRow(
        node.node_id,
        node.name,
        node.address,
        signs.node_sign(node),
        _text_of(problem, translate),
        node.since,
        node.vms_running if is_heard else 0,
        len(node.vm_ids),
        *(node_bars(node) if is_heard else (None, None, None)),
        node.facts.versions.agent if node.facts else "",
    )


def node_bars(node: NodeView) -> tuple[Bar | None, Bar | None, Bar | None]:
    """Return CPU, memory and storage of a node; None while they are not known."""
    if node.stats is None or node.facts is None:
        return None, None, None
    stats = node.stats
    storage = size_bar("Storage", stats.storage_used_bytes, stats.storage_size_bytes)
    return (
        _percent_bar("CPU", stats.cpu_percent),
        size_bar("Memory", stats.memory_used_bytes, node.facts.memory_bytes),
        storage if stats.storage_size_bytes else None,
    )


def _percent_bar(label: str, percent: float) -> Bar:
    return Bar(label, figures.share(percent, 100), f"{figures.share(percent, 100)} %")


def size_bar(label: str, used_bytes: int, whole_bytes: int) -> Bar:
    """Return how much of a size is used."""
    text = f"{figures.size(used_bytes)} of {figures.size(whole_bytes)}"
    return Bar(label, figures.share(used_bytes, whole_bytes), text)


def capacity(nodes: Iterable[NodeView]) -> tuple[Bar, ...]:
    """Return CPU, memory and storage of all nodes that are up, together."""
    sums: Counter[str] = Counter()
    threads_busy = 0.0
    for node in nodes:
        if node.state is not NodeState.UP or not node.stats or not node.facts:
            continue
        sums["threads"] += node.facts.cpu.count
        threads_busy += node.facts.cpu.count * node.stats.cpu_percent / 100
        sums["memory"] += node.facts.memory_bytes
        sums["memory_used"] += node.stats.memory_used_bytes
        sums["storage"] += node.stats.storage_size_bytes
        sums["storage_used"] += node.stats.storage_used_bytes
    return (
        Bar(
            "CPU",
            figures.share(threads_busy, sums["threads"]),
            f"{threads_busy:.1f} of {figures.count(sums['threads'])} threads",
        ),
        size_bar("Memory", sums["memory_used"], sums["memory"]),
        size_bar("Nodes' disks", sums["storage_used"], sums["storage"]),
    )


def node_tally(nodes: Iterable[NodeView], alarms: Iterable[Alarm]) -> Tally:
    """Count nodes that are up, have an alarm, are out of reach."""
    states = Counter(node.state for node in nodes)
    alarming = {alarm.node_id for alarm in alarms if alarm.node_id}
    return Tally(
        states.total(),
        states[NodeState.UP],
        len(alarming),
        states[NodeState.UNREACHABLE],
    )


def vm_tally(vms: Iterable[VmView], alarms: Iterable[Alarm]) -> Tally:
    """Count VMs that are up, have an alarm, are down."""
    states = Counter(vm.state for vm in vms)
    alert = sum(
        1 if alarm.vm_id else alarm.vms_affected
        for alarm in alarms
        if alarm.vm_id or alarm.vms_affected
    )
    return Tally(states.total(), states[VmState.UP], alert, states[VmState.DOWN])


def alarm_row(alarm: Alarm, translate: Translate) -> AlarmRow:
    """Return an alarm in words."""
    told = why(alarm.reason, translate)
    return AlarmRow(
        signs.SEVERITY_SIGNS[alarm.severity],
        alarm.name,
        _alarm_page(alarm),
        told.text,
        told.remedy,
        told.since,
        alarm.vms_affected,
    )


def _alarm_page(alarm: Alarm) -> str:
    folders = {
        "vms": alarm.vm_id,
        "disks": alarm.disk_id,
        "storage": alarm.storage_domain_id,
        "pools": alarm.pool_id,
        "nodes": alarm.node_id,
    }
    return next(f"/ui/{folder}/{of}" for folder, of in folders.items() if of)


def candidate_row(candidate: Candidate, translate: Translate) -> CandidateRow:
    """Return a node that waits for admission."""
    return CandidateRow(
        candidate.node_id,
        candidate.name,
        candidate.address,
        candidate.version,
        candidate.fingerprint,
        figures.fingerprint_groups(candidate.fingerprint),
        str(candidate.first_seen),
        why(candidate.problem, translate) if candidate.problem else None,
    )


def event_row(event: LoggedEvent, translate: Translate) -> EventRow:
    """Return an event in words."""
    return EventRow(
        event.seq,
        event.at,
        signs.SEVERITY_SIGNS[messages.severity(event.code)],
        messages.text(event.code, event.fields, translate),
        messages.remedy(event.code, event.fields, translate),
        event.node_id,
        event.vm_id,
        event.user or "",
    )


# What the verb of an order is called while it runs and when it has ended.
_TASKS: Mapping[str, str] = {
    "vm_create": "Create VM {name}",
    "vm_start": "Start VM {name}",
    "vm_stop": "Stop VM {name}",
    "vm_pause": "Pause VM {name}",
    "vm_resume": "Resume VM {name}",
    "vm_suspend": "Suspend VM {name}",
    "vm_reset": "Reset VM {name}",
    "vm_delete": "Delete VM {name}",
    "vm_attach_disk": "Attach a disk to VM {name}",
    "vm_detach_disk": "Detach a disk from VM {name}",
    "vm_export": "Export VM {name}",
    "vm_set_properties": "Change custom properties of VM {name}",
    "storage_domain_remove_exported": "Remove an export from {name}",
    "vm_clone": "Create VM {name} as a full copy",
    "template_create": "Make template {name}",
    "template_export": "Export template {name}",
    "template_change": "Change template {name}",
    "template_delete": "Delete template {name}",
    "vm_snapshot_create": "Take a snapshot of VM {name}",
    "vm_snapshot_delete": "Delete a snapshot of VM {name}",
    "vm_snapshot_preview": "Let VM {name} preview a snapshot",
    "vm_snapshot_commit": "Commit the preview of VM {name}",
    "vm_snapshot_undo": "Undo the preview of VM {name}",
    "storage_domain_create": "Make storage domain {name}",
    "storage_domain_import": "Import storage domain {name}",
    "storage_domain_attach": "Attach storage domain {name}",
    "storage_domain_change": "Change storage domain {name}",
    "storage_domain_activate": "Activate storage domain {name}",
    "storage_domain_maintain": "Put storage domain {name} into maintenance",
    "storage_domain_detach": "Detach storage domain {name}",
    "storage_domain_remove": "Remove storage domain {name}",
    "storage_domain_repair": "Repair disks on storage domain {name}",
    "storage_domain_register_vm": "Register a VM of storage domain {name}",
    "storage_domain_write_ovf": "Write definitions to storage domain {name}",
    "pool_create": "Make pool {name}",
    "pool_connect": "Let a node join pool {name}",
    "pool_disconnect": "Let a node leave pool {name}",
    "pool_move_master": "Move the master of pool {name}",
    "spm_become": "Choose a manager for pool {name}",
    "spm_leave": "Hand over the management of pool {name}",
    "spm_priority": "Change a node's priority in pool {name}",
    "disk_create": "Make disk {name}",
    "disk_delete": "Delete disk {name}",
    "disk_resize": "Enlarge disk {name}",
    "disk_change": "Change disk {name}",
    "disk_copy": "Copy disk {name}",
    "disk_move": "Move disk {name}",
    "disk_sparsify": "Give back free space of disk {name}",
}
# What an order with several verbs does now; others say their steps in words.
_STEPS: Mapping[str, str] = {
    "pool_create": "making the pool",
    "storage_domain_attach": "attaching it to the pool",
    "storage_domain_activate": "activating it",
    "spm_become": "the new manager takes over",
    "spm_leave": "the old manager finishes",
    "vm_snapshot_commit": "committing the preview",
    "vm_snapshot_create": "letting the guest turn to its new volumes",
    "vm_snapshot_delete": "merging where the guest runs",
    "vm_suspend": "writing its memory where the guest runs",
}
# Where the pages of what an order is about are, by the beginning of its verb.
_FOLDERS: Mapping[str, str] = {
    "vm": "vms",
    "storage": "storage",
    "pool": "pools",
    "spm": "pools",
    "disk": "disks",
    "template": "templates",
}


def task_row(order: Order, view: View, translate: Translate) -> TaskRow:
    """Return an order as a task that a person follows."""
    node = view.nodes.get(order.node_id) if order.node_id else None
    template = _TASKS.get(order.verb, order.verb + " {name}")
    folder = _FOLDERS.get(order.verb.partition("_")[0], "")
    object_id = order.object_id or order.vm_id
    return TaskRow(
        order.order_id,
        signs.JOB_SIGNS[order.state],
        translate(template).format(name=order.name),
        translate(_STEPS.get(order.step, order.step)) if order.step else "",
        100 if order.state is JobState.DONE else order.progress_percent,
        order.state in ENDED,
        f"/ui/{folder}/{object_id}" if folder and object_id else "",
        node.name if node else "",
        order.user,
        order.created_at,
        order.ended_at,
        order.error,
        views.node_name(view, order.data_node_id) or "",
    )


def verdict_rows(
    verdicts: Iterable[Verdict], translate: Translate
) -> Iterator[VerdictRow]:
    """Yield what each node said to a placement, those that refused it last."""
    for verdict in sorted(verdicts, key=lambda each: not each.is_accepted):
        yield VerdictRow(
            verdict.node_id,
            verdict.name,
            verdict.is_accepted,
            tuple(why(cause, translate) for cause in verdict.reasons),
        )
