"""What travels on /v1 of an aggregator."""

from dataclasses import dataclass, field

from aggregator.policies.hook_differences import HookRow
from node.model.ids import (
    CorrelationId,
    DiskId,
    Fingerprint,
    NodeId,
    SnapshotId,
    StorageDomainId,
    VmId,
)
from node.model.job import ErrorReport, JobState
from node.model.properties import CustomProperty
from node.model.reason import Reason, Scalar
from node.model.stats import NodeStats, VmStats
from node.model.vm import Cpu, DiskInterface, Firmware, VmEntry, VmState, Wanted


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Token:
    token: str
    expires_at: str
    user: str


@dataclass(frozen=True, slots=True)
class NodeLine:
    node_id: NodeId
    name: str
    address: str
    state: str  # a NodeState
    since: str
    reason: Reason | None = None
    version: str = ""
    vms_running: int = 0
    vcpus: int = 0
    memory_bytes: int = 0
    memory_promised_bytes: int = 0
    is_emulating: bool = False
    images: tuple[str, ...] = ()
    stats: NodeStats | None = None


@dataclass(frozen=True, slots=True)
class CandidateLine:
    node_id: NodeId
    name: str
    address: str
    version: str
    fingerprint: Fingerprint
    last_seen: str
    problem: Reason | None = None


@dataclass(frozen=True, slots=True)
class NodeLines:
    nodes: tuple[NodeLine, ...]
    candidates: tuple[CandidateLine, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetHooks:
    hooks: tuple[HookRow, ...]
    unheard: tuple[str, ...] = ()  # nodes that have not said what they have


@dataclass(frozen=True, slots=True)
class AdmitNode:
    """Either a candidate's id or an address; the fingerprint is compared."""

    fingerprint: Fingerprint
    node_id: NodeId | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class RemoveNode:
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class MakeToken:
    lifetime_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    token: str  # shown once
    expires_at: str
    aggregator: str  # host:port,fingerprint for the node's skerry.aggregator=


@dataclass(frozen=True, slots=True)
class VmLine:
    vm_id: VmId
    name: str
    node: str
    state: VmState
    wanted: Wanted
    since: str
    memory_bytes: int
    vcpus: int
    addresses: tuple[str, ...] = ()
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class VmLines:
    vms: tuple[VmLine, ...]
    total: int


@dataclass(frozen=True, slots=True)
class VmDetail:
    node: str
    entry: VmEntry
    state: VmState  # as this aggregator believes it
    reason: Reason | None = None
    stats: VmStats | None = None


@dataclass(frozen=True, slots=True)
class NewVm:
    """A VM as a person asks for it: the rest has defaults."""

    name: str
    image: str | None = None
    vm_id: VmId | None = None  # chosen by the caller: asked twice, it is one VM
    memory_bytes: int = 512 * 1024 * 1024
    cpu: Cpu = field(default_factory=Cpu)
    disk_bytes: int = 0  # 0: as large as the image
    firmware: Firmware = Firmware.BIOS
    network: str = "ovirtmgmt"
    description: str = ""
    node_id: NodeId | None = None  # None: placed by the aggregator
    # where its disk lies; None: on the local pool of its node
    storage_domain_id: StorageDomainId | None = None
    interface: DiskInterface = DiskInterface.VIRTIO  # the bus of its disk
    custom_properties: tuple[CustomProperty, ...] = ()


@dataclass(frozen=True, slots=True)
class AttachVmDisk:
    """Give a VM a disk of its pool; at once if it runs."""

    disk_id: DiskId
    is_bootable: bool = False
    is_read_only: bool = False
    interface: DiskInterface = DiskInterface.VIRTIO


@dataclass(frozen=True, slots=True)
class CloneSnapshot:
    """A new VM that is what another one was."""

    snapshot_id: SnapshotId
    name: str
    vm_id: VmId | None = None  # chosen by the caller: asked twice, it is one VM
    data_node_id: NodeId | None = None  # copies the disks; None: one is chosen


@dataclass(frozen=True, slots=True)
class DetachVmDisk:
    """Take a disk away from a VM; its data stay."""

    disk_id: DiskId


@dataclass(frozen=True, slots=True)
class VerdictLine:
    node: str
    is_accepted: bool
    score: float = 0.0
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacementLines:
    chosen: str | None
    verdicts: tuple[VerdictLine, ...]


@dataclass(frozen=True, slots=True)
class OrderLine:
    order_id: str
    verb: str
    name: str
    state: JobState
    created_at: str
    progress_percent: int = 0
    step: str = ""
    vm_id: VmId | None = None
    node: str | None = None
    ended_at: str | None = None
    error: ErrorReport | None = None
    user: str = ""
    object_id: str = ""  # of what it is about
    data_node: str | None = None  # another one, which moves data for its node


@dataclass(frozen=True, slots=True)
class OrderLines:
    orders: tuple[OrderLine, ...]


@dataclass(frozen=True, slots=True)
class EventLine:
    number: int
    at: str
    code: str
    severity: str
    text: str
    fields: dict[str, Scalar] = field(default_factory=dict)
    node_id: NodeId | None = None
    vm_id: VmId | None = None
    user: str | None = None
    correlation_id: CorrelationId | None = None


@dataclass(frozen=True, slots=True)
class EventLines:
    events: tuple[EventLine, ...]


@dataclass(frozen=True, slots=True)
class AggregatorStatus:
    name: str
    version: str
    fleet_id: str
    term: int
    is_leading: bool
    nodes: int
    nodes_up: int
    vms: int
    vms_up: int
    candidates: int
