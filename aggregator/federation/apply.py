"""Make the next View from what a node said, or from its silence.

Pure. Costs O(changes · log n), and a copy of the order of names when a name
comes or goes. A VM is shown while a node has its definition or its run; what
several nodes claim is decided by `federation.conflicts`. Pools, storage domains
and disks: `federation.storage_draft`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from immutables import Map

from aggregator.federation import conflicts, reading
from aggregator.federation.naming import Naming
from aggregator.federation.storage_draft import Dispute, StorageDraft
from aggregator.federation.view import NodeState, NodeView, View, VmView
from node.model.feed import Kind
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
from node.model.vm import Wanted

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Said:
    """A document that a node pushed; without a body it is gone."""

    kind: str
    id: str
    body: bytes | None  # JSON


@dataclass(frozen=True, slots=True)
class Rivalry:
    """A node claims a VM that another claims too, or runs one that another runs."""

    vm_id: VmId
    name: str
    believed: NodeId
    other: NodeId


Trouble = Rivalry | Dispute


def add_node(
    view: View, node_id: NodeId, name: str, address: str, now: str, reason: Reason
) -> View:
    """Return the View with a node that has not spoken yet."""
    node = NodeView(node_id, name, address, NodeState.CONNECTING, now, reason)
    return _next(view, nodes=view.nodes.set(node_id, node))


def rename_node(view: View, node_id: NodeId, name: str, address: str) -> View:
    """Return the View with what the registry calls a node; its own facts win."""
    old = view.nodes[node_id]
    if (old.name, old.address) == (name, address):
        return view
    node = replace(old, name=name, address=address)
    return _next(view, nodes=view.nodes.set(node_id, node))


def remove_node(view: View, node_id: NodeId) -> View:
    """Return the View without a node and all that it said."""
    emptied, _ = set_documents(view, node_id, (), is_complete=True)
    return _next(emptied, nodes=emptied.nodes.delete(node_id))


def set_state(
    view: View, node_id: NodeId, state: NodeState, reason: Reason | None, now: str
) -> View:
    """Return the View with a node in another state.

    The VMs of an unreachable node are unknown, for a reason that names it.
    """
    old = view.nodes[node_id]
    node = replace(old, state=state, reason=reason, since=now)
    draft = _Draft(view, node)
    if NodeState.UNREACHABLE in (old.state, state):
        for vm_id in node.vm_ids:
            claim = draft.claim(vm_id)
            assert claim is not None, "a node's VM ids are those of its claims"
            draft.read_vm(vm_id, claim.vm_document, claim.run_document)
        draft.storage.hush()
    return draft.finish()


def set_documents(
    view: View, node_id: NodeId, said: Iterable[Said], *, is_complete: bool = False
) -> tuple[View, tuple[Trouble, ...]]:
    """Return the View with what a node said, and the troubles that are new.

    Complete: whatever it did not say is gone.
    """
    draft = _Draft(view, view.nodes[node_id])
    said = tuple(said)
    if is_complete:
        kept = {(each.kind, each.id) for each in said if each.body is not None}
        for kind, identity in draft.known():
            if (kind, identity) not in kept:
                draft.take(Said(kind, identity, None))
    for each in said:
        draft.take(each)
    return draft.finish(), (*draft.rivalries, *draft.storage.disputes)


def set_stats(
    view: View,
    node_id: NodeId,
    stats: NodeStats,
    vm_stats: Mapping[VmId, VmStats],
    skew_s: float,
) -> View:
    """Return the View with newer figures: they stay with their node."""
    node = replace(view.nodes[node_id], stats=stats, vm_stats=vm_stats, skew_s=skew_s)
    return replace(
        view,
        stats_revision=view.stats_revision + 1,
        nodes=view.nodes.set(node_id, node),
    )


def _next(view: View, *, nodes: Map[NodeId, NodeView]) -> View:
    return replace(view, revision=view.revision + 1, nodes=nodes)


class _Draft:
    """The next View while one node's documents go in."""

    def __init__(self, view: View, node: NodeView) -> None:
        self.rivalries: list[Rivalry] = []
        self.storage = StorageDraft(
            view, node, is_silent=node.state is NodeState.UNREACHABLE
        )
        self._view = view
        self._node = node
        self._vms = view.vms.mutate()
        self._vm_claims = view.vm_claims
        self._vm_names = Naming(view.vm_order)
        self._disk_users = view.disk_users.mutate()
        self._jobs = view.jobs.mutate()
        self._moved_jobs = view.moved_jobs
        self._devices = node.device_documents
        self._images = node.image_names
        self._vm_ids = set(node.vm_ids)
        self._job_ids = set(node.job_ids)
        self._running = node.vms_running
        self._promised = node.vms_promised
        self._memory_bytes = node.memory_promised_bytes
        self._vcpus = node.vcpus_promised

    def known(self) -> list[tuple[str, str]]:
        """Return (kind, id) of what the node has said so far."""
        return [
            *((Kind.VM, vm_id) for vm_id in self._vm_ids),
            *((Kind.VM_RUN, vm_id) for vm_id in self._vm_ids),
            *((Kind.DEVICE, device_id) for device_id in self._devices),
            *((Kind.IMAGE, image_id) for image_id in self._images),
            *((Kind.JOB, job_id) for job_id in self._job_ids),
            *self.storage.known(),
        ]

    def take(self, said: Said) -> None:
        """Put a document in, or out; kinds that we do not know are passed over."""
        match said.kind:
            case Kind.NODE:
                self._take_node(said.body)
            case Kind.VM:
                claim = self.claim(VmId(said.id))
                run = claim.run_document if claim else b""
                self.read_vm(VmId(said.id), said.body or b"", run)
            case Kind.VM_RUN:
                claim = self.claim(VmId(said.id))
                vm = claim.vm_document if claim else b""
                self.read_vm(VmId(said.id), vm, said.body or b"")
            case Kind.DEVICE:
                self._devices = _set(self._devices, said.id, said.body)
            case Kind.IMAGE:
                name = reading.read_name(said.body, said.id) if said.body else None
                self._images = _set(self._images, said.id, name)
            case Kind.JOB:
                self._take_job(JobId(said.id), said.body)
            case Kind.POOL:
                self.storage.take_pool(PoolId(said.id), said.body)
            case Kind.STORAGE_DOMAIN:
                self.storage.take_domain(StorageDomainId(said.id), said.body)
            case Kind.DISK:
                self.storage.take_disk(DiskId(said.id), said.body)
            case Kind.TEMPLATE:
                self.storage.templates.take(TemplateId(said.id), said.body)

    def claim(self, vm_id: VmId) -> VmView | None:
        """Return what this node has said of a VM."""
        for claim in self._claims(vm_id):
            if claim.node_id == self._node.node_id:
                return claim
        return None

    def read_vm(self, vm_id: VmId, vm_document: bytes, run_document: bytes) -> None:
        """Replace what this node says of a VM; two empty documents: nothing."""
        claim = None
        if vm_document or run_document:
            claim = reading.read_vm(
                vm_id, self._node.node_id, vm_document, run_document, self._silence()
            )
        self._set_claim(vm_id, claim)

    def finish(self) -> View:
        """Return the View that holds it all."""
        fields = self.storage.finish()
        node = replace(
            self._node,
            device_documents=self._devices,
            image_names=self._images,
            vm_ids=frozenset(self._vm_ids),
            job_ids=frozenset(self._job_ids),
            vms_running=self._running,
            vms_promised=self._promised,
            memory_promised_bytes=self._memory_bytes,
            vcpus_promised=self._vcpus,
            **self.storage.finish_node(),
        )
        return replace(
            self._view,
            revision=self._view.revision + 1,
            nodes=self._view.nodes.set(node.node_id, node),
            vms=self._vms.finish(),
            vm_claims=self._vm_claims,
            vm_order=self._vm_names.finish(),
            jobs=self._jobs.finish(),
            moved_jobs=self._moved_jobs,
            disk_users=self._disk_users.finish(),
            **fields,
        )

    def _take_node(self, body: bytes | None) -> None:
        facts = None if body is None else reading.read_facts(body)
        if facts is not None:
            self._node = replace(
                self._node,
                facts=facts,
                name=facts.name or self._node.name,
                address=facts.address or self._node.address,
            )

    def _take_job(self, job_id: JobId, body: bytes | None) -> None:
        """Keep a job to the node that told it first; who comes second is kept apart."""
        is_ours = job_id in self._job_ids
        key = (self._node.node_id, job_id)
        is_second = key in self._moved_jobs if is_ours else job_id in self._jobs
        if body is not None:
            self._job_ids.add(job_id)
        elif is_ours:
            self._job_ids.discard(job_id)
        else:
            return
        if is_second:
            self._moved_jobs = _set(self._moved_jobs, key, body)
        elif body is not None:
            self._jobs[job_id] = body
        else:
            del self._jobs[job_id]
            self._promote(job_id)

    def _promote(self, job_id: JobId) -> None:
        """Let the job of another node be the first, after the first is gone."""
        keys = sorted(key for key in self._moved_jobs if key[1] == job_id)
        for key in keys[:1]:
            self._jobs[job_id] = self._moved_jobs[key]
            self._moved_jobs = self._moved_jobs.delete(key)

    def _silence(self) -> Reason | None:
        node = self._node
        if node.state is not NodeState.UNREACHABLE:
            return None
        return Reason("vm_node_silent", node.since, {"node": node.name}, node.reason)

    def _claims(self, vm_id: VmId) -> tuple[VmView, ...]:
        """Return all claims of a VM."""
        claims = self._vm_claims.get(vm_id)
        if claims is not None:
            return claims
        shown = self._vms.get(vm_id)
        return () if shown is None else (shown,)

    def _set_claim(self, vm_id: VmId, claim: VmView | None) -> None:
        before = self._claims(vm_id)
        self._count(self.claim(vm_id), -1)
        self._count(claim, 1)
        claims = [each for each in before if each.node_id != self._node.node_id]
        if claim is None:
            self._vm_ids.discard(vm_id)
        else:
            self._vm_ids.add(vm_id)
            claims.append(claim)
        claims.sort(key=lambda each: each.node_id)
        shown = conflicts.believed(claims) if claims else None
        self._show(vm_id, shown)
        is_plain = not claims or claims == [shown]
        self._vm_claims = _set(
            self._vm_claims, vm_id, None if is_plain else tuple(claims)
        )
        if shown is None or claim is None:
            return
        rivals = conflicts.rivals(claims)
        if len(rivals) > max(1, len(conflicts.rivals(before))):
            others = [each for each in rivals if each.node_id != shown.node_id]
            other = others[0] if claim.node_id == shown.node_id else claim
            self.rivalries.append(
                Rivalry(vm_id, shown.name, shown.node_id, other.node_id)
            )

    def _show(self, vm_id: VmId, shown: VmView | None) -> None:
        before = self._vms.get(vm_id)
        if shown is not None:
            self._vms[vm_id] = shown
        elif before is not None:
            del self._vms[vm_id]
        self._vm_names.change(
            vm_id, before.name if before else None, shown.name if shown else None
        )
        used = shown.disk_ids if shown is not None else ()
        was_used = before.disk_ids if before is not None else ()
        if used != was_used:
            self._use_disks(vm_id, was_used, used)

    def _use_disks(
        self, vm_id: VmId, before: Iterable[DiskId], after: Iterable[DiskId]
    ) -> None:
        for disk_id in before:
            users = tuple(
                each for each in self._disk_users.get(disk_id, ()) if each != vm_id
            )
            if users:
                self._disk_users[disk_id] = users
            elif disk_id in self._disk_users:
                del self._disk_users[disk_id]
        for disk_id in after:
            known = self._disk_users.get(disk_id, ())
            self._disk_users[disk_id] = tuple(sorted({*known, vm_id}))

    def _count(self, claim: VmView | None, sign: int) -> None:
        """Add a claim to the node's sums, or take it out.

        Of a VM of a shared pool only what runs here counts: its definition is told by
        the pool's manager, whose memory it does not take.
        """
        if claim is None:
            return
        is_running = conflicts.is_running(claim)
        self._running += sign * is_running
        is_wanted = claim.wanted is not Wanted.DOWN and claim.is_tied
        if is_running or is_wanted:
            self._promised += sign
            self._memory_bytes += sign * claim.memory_bytes
            self._vcpus += sign * claim.vcpus


def _set(entries: Map[K, V], key: K, value: V | None) -> Map[K, V]:
    """Return the map with another value; None: without the key."""
    if value is not None:
        return entries.set(key, value)
    return entries.delete(key) if key in entries else entries
