"""The View: all that nodes say at one moment, never changed in place.

Pure. Whoever holds a View reads it without a lock; the next one shares all
that did not change with it. `federation.apply` makes the next one. Documents
are kept as they came, in JSON; a row holds what lists and policies need.
"""

import bisect
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from immutables import Map

from node.model.host import NodeFacts
from node.model.ids import (
    DiskId,
    JobId,
    NodeId,
    PoolId,
    StorageDomainId,
    TemplateId,
    VmId,
)
from node.model.reason import Reason
from node.model.stats import NodeStats, VmStats
from node.model.storage import (
    DiskState,
    DomainClass,
    DomainRole,
    DomainState,
    DomainType,
    Liveness,
    PoolDomain,
    PoolMark,
    PoolState,
    SpmState,
)
from node.model.vm import VmState, Wanted
from node.policy import local_pool


class NodeState(StrEnum):
    UP = "up"
    SUSPECT = "suspect"  # silent for longer than two pushes
    UNREACHABLE = "unreachable"
    CONNECTING = "connecting"  # admitted; has not spoken to this aggregator yet


@dataclass(frozen=True, slots=True)
class VmView:
    """What a list shows of a VM.

    Its figures change all the time and stay with its node: see `stats_of`. A VM of
    a pool has its definition from the pool's manager and its run from `node_id`.
    """

    vm_id: VmId
    name: str
    node_id: NodeId
    state: VmState  # UNKNOWN while its node is unreachable
    wanted: Wanted
    since: str
    reason: Reason | None
    memory_bytes: int
    vcpus: int
    addresses: tuple[str, ...] = ()
    description: str = ""
    vm_document: bytes = b""  # JSON of model.vm.Vm; empty until it came
    run_document: bytes = b""  # JSON of model.vm.VmRun; empty until it came
    last_state: VmState = VmState.UNKNOWN  # as its node said it last
    generation: int = 0
    created_at: str = ""
    pool_id: PoolId | None = None  # None until its definition came
    disk_ids: tuple[DiskId, ...] = ()  # those that are a pool's
    template_id: TemplateId | None = None  # whose disks its own are built on
    keeps_memory: bool = False  # its guest goes on where it was when it starts

    @property
    def is_suspended(self) -> bool:
        return self.keeps_memory and self.state is VmState.DOWN

    @property
    def is_tied(self) -> bool:
        """Tell whether no other node reaches its disks."""
        return self.pool_id in (None, local_pool.pool_id(self.node_id))


@dataclass(frozen=True, slots=True)
class PoolSight:
    """What one node says of a pool."""

    node_id: NodeId
    state: PoolState
    since: str
    reason: Reason | None
    spm_state: SpmState  # what the node itself is
    holder: NodeId | None  # who manages the pool, as this node reads the storage
    holder_liveness: Liveness  # what the lockspace tells it of the holder
    lease_version: int
    generation: int  # of the map that it knows
    host_id: int | None  # its own in the lockspace; None: it has not joined
    priority: int  # its own, as it published it
    mark: PoolMark | None  # it manages the pool
    document: bytes  # JSON of model.storage.PoolDocument
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool: its structure by the highest mark, its state by who is heard."""

    pool_id: PoolId
    name: str
    is_local: bool
    state: PoolState
    since: str
    reason: Reason | None
    manager: NodeId | None  # as told last, see `manager_of`; None: nobody says so
    master: StorageDomainId | None
    master_version: int
    generation: int
    domains: tuple[PoolDomain, ...]
    mark: PoolMark | None
    node_id: NodeId  # whose document it is
    speaker: NodeId  # whose state it is
    document: bytes
    sights: Map[NodeId, PoolSight]
    is_disputed: bool = False  # two nodes bear the highest mark: nobody is believed


@dataclass(frozen=True, slots=True)
class DomainSight:
    """What one node says of a storage domain."""

    node_id: NodeId
    state: DomainState
    since: str
    reason: Reason | None
    latency_s: float | None
    host_id: int | None  # in its lockspace; None: not joined
    mark: PoolMark | None
    document: bytes  # JSON of model.storage.StorageDomainDocument
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class StorageDomainRow:
    """A storage domain: what it is by the highest mark, how it is by who is heard.

    It is as well as the node that sees it best; who sees it worse is in `sights`.
    """

    storage_domain_id: StorageDomainId
    name: str
    description: str
    domain_class: DomainClass
    kind: DomainType
    role: DomainRole
    pool_id: PoolId | None
    state: DomainState
    since: str
    reason: Reason | None
    latency_s: float | None
    total_bytes: int
    free_bytes: int
    committed_bytes: int
    mark: PoolMark | None
    node_id: NodeId  # whose document it is
    speaker: NodeId  # whose state it is
    document: bytes
    sights: Map[NodeId, DomainSight]
    is_disputed: bool = False


@dataclass(frozen=True, slots=True)
class DiskRow:
    """A disk, as the manager of its pool says; who uses it: `View.disk_users`."""

    disk_id: DiskId
    name: str
    pool_id: PoolId | None
    storage_domain_ids: tuple[StorageDomainId, ...]
    state: DiskState
    size_bytes: int
    allocated_bytes: int
    mark: PoolMark | None
    node_id: NodeId  # who said so
    document: bytes  # JSON of model.storage.DiskDocument
    is_disputed: bool = False
    # its teller manages the pool no more; the next manager has not spoken yet
    is_left: bool = False
    is_ovf_store: bool = False  # no user's: in no order of names


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """A template, as the manager of its pool says; its VMs: `VmView.template_id`."""

    template_id: TemplateId
    name: str
    version: int
    base_id: TemplateId | None  # None: it is the first of its versions
    pool_id: PoolId | None
    disk_ids: tuple[DiskId, ...]
    mark: PoolMark | None
    node_id: NodeId  # who said so
    document: bytes  # JSON of model.templates.Template
    is_left: bool = False  # its teller manages the pool no more

    def leave(self) -> "TemplateRow":
        """Return it as a former manager leaves it to the next one."""
        return replace(self, is_left=True)


@dataclass(frozen=True, slots=True)
class NodeView:
    node_id: NodeId
    name: str
    address: str
    state: NodeState
    since: str
    reason: Reason | None = None
    facts: NodeFacts | None = None  # None until its first delta
    stats: NodeStats | None = None
    vm_stats: Mapping[VmId, VmStats] = field(default_factory=dict)
    # JSON of model.host.Device, by the document's id
    device_documents: Map[str, bytes] = field(default_factory=Map)
    image_names: Map[str, str] = field(default_factory=Map)  # by the document's id
    vm_ids: frozenset[VmId] = frozenset()  # those it has a document of
    job_ids: frozenset[JobId] = frozenset()
    pool_ids: frozenset[PoolId] = frozenset()
    storage_domain_ids: frozenset[StorageDomainId] = frozenset()
    # those that it says, and the pool of each; "": of none
    disk_pools: Map[DiskId, str] = field(default_factory=Map)
    template_ids: frozenset[TemplateId] = frozenset()
    vms_running: int = 0
    vms_promised: int = 0  # how many VMs run or are to run
    memory_promised_bytes: int = 0  # to those VMs
    vcpus_promised: int = 0
    skew_s: float = 0.0  # how far its clock is ahead of ours

    @property
    def devices(self) -> tuple[bytes, ...]:
        """Return its devices, JSON of model.host.Device, by id."""
        return tuple(body for _, body in sorted(self.device_documents.items()))

    @property
    def images(self) -> tuple[str, ...]:
        """Return the names of its base images, sorted."""
        return tuple(sorted(self.image_names.values()))


@dataclass(frozen=True, slots=True)
class View:
    """`revision` counts what changed but figures: those have their own count."""

    revision: int = 0
    stats_revision: int = 0
    nodes: Map[NodeId, NodeView] = field(default_factory=Map)
    vms: Map[VmId, VmView] = field(default_factory=Map)
    # (case-folded name, id) of all VMs, sorted: pages are slices of it
    vm_order: tuple[tuple[str, VmId], ...] = ()
    jobs: Map[JobId, bytes] = field(default_factory=Map)  # JSON of model.job.Job
    # the same job by another node: an order moved with its id, see `job_of`
    moved_jobs: Map[tuple[NodeId, JobId], bytes] = field(default_factory=Map)
    # all that nodes say of a VM, unless it is just what `vms` shows
    vm_claims: Map[VmId, tuple[VmView, ...]] = field(default_factory=Map)
    pools: Map[PoolId, PoolRow] = field(default_factory=Map)
    pool_order: tuple[tuple[str, PoolId], ...] = ()
    storage_domains: Map[StorageDomainId, StorageDomainRow] = field(default_factory=Map)
    storage_domain_order: tuple[tuple[str, StorageDomainId], ...] = ()
    disks: Map[DiskId, DiskRow] = field(default_factory=Map)
    disk_order: tuple[tuple[str, DiskId], ...] = ()
    disk_claims: Map[DiskId, tuple[DiskRow, ...]] = field(default_factory=Map)
    # the newest lease under which disks of a pool were told; older words are void
    disk_leases: Map[PoolId, int] = field(default_factory=Map)
    disk_users: Map[DiskId, tuple[VmId, ...]] = field(default_factory=Map)
    templates: Map[TemplateId, TemplateRow] = field(default_factory=Map)
    template_order: tuple[tuple[str, TemplateId], ...] = ()
    # all that nodes say of a template
    template_claims: Map[TemplateId, tuple[TemplateRow, ...]] = field(
        default_factory=Map
    )


class Viewer(Protocol):
    """Whoever has the newest View: the mirror, or a test."""

    @property
    def view(self) -> View: ...

    def wait(self, since_revision: int, timeout_s: float) -> View:
        """Return the View once it is newer, or when the time is over."""


def node_name(view: View, node_id: NodeId | None) -> str | None:
    """Return what a node is called; its id if it is not known."""
    node = view.nodes.get(node_id) if node_id is not None else None
    return node.name if node is not None else node_id


def normal(name: str) -> str:
    """Return the form in which names are compared."""
    return unicodedata.normalize("NFC", name)


def fold(name: str) -> str:
    """Return what names are sorted and looked up by."""
    return normal(name).casefold()


def stats_of(view: View, vm_id: VmId) -> VmStats | None:
    """Return the newest figures of a VM; None if there are none."""
    vm = view.vms.get(vm_id)
    node = None if vm is None else view.nodes.get(vm.node_id)
    return None if node is None else node.vm_stats.get(vm_id)


def job_of(view: View, node_id: NodeId, job_id: JobId) -> bytes | None:
    """Return what one node says of a job; None if it says nothing."""
    node = view.nodes.get(node_id)
    if node is None or job_id not in node.job_ids:
        return None
    return view.moved_jobs.get((node_id, job_id)) or view.jobs.get(job_id)


def manager_of(view: View, pool_id: PoolId) -> NodeId | None:
    """Return the node that manages a pool and can be asked; None if there is none."""
    pool = view.pools.get(pool_id)
    if pool is None or pool.manager is None or pool.is_disputed:
        return None
    node = view.nodes.get(pool.manager)
    is_there = node is not None and node.state is not NodeState.UNREACHABLE
    return pool.manager if is_there else None


def staleness(view: View, row: PoolRow | StorageDomainRow | DiskRow) -> Reason | None:
    """Return why a row may be out of date, such as who told it is silent.

    None: it is what is told now.
    """
    node = view.nodes.get(row.node_id)
    if node is None:
        return None
    fields = {"node": node.name}
    if isinstance(row, DiskRow) and row.is_left:
        return Reason("disk_told_by_former_manager", node.since, fields)
    if node.state is not NodeState.UNREACHABLE:
        return None
    return Reason("storage_told_by_silent_node", node.since, fields, node.reason)


def vms_named(view: View, name: str) -> Iterator[VmView]:
    """Yield the VMs of exactly this name: one, unless two nodes made it apart."""
    folded = fold(name)
    start = bisect.bisect_left(view.vm_order, (folded, VmId("")))
    for key, vm_id in view.vm_order[start : start + 1000]:
        if key != folded:
            return
        vm = view.vms[vm_id]
        if normal(vm.name) == normal(name):
            yield vm


def page(view: View, start: int, count: int) -> tuple[VmView, ...]:
    """Return VMs by name, from a position on."""
    return tuple(view.vms[vm_id] for _, vm_id in view.vm_order[start : start + count])
