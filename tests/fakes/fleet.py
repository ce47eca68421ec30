"""Nodes and VMs to make Views and pushes of: small, valid, and all alike."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from aggregator.federation.apply import Said
from node import wire
from node.model.event import Event
from node.model.feed import Delta, Document, Kind, Tombstone
from node.model.host import CpuFacts, FirmwareFacts, KvmFacts, NodeFacts, Versions
from node.model.ids import DiskId, JobId, NodeId, PoolId, StorageDomainId, VmId
from node.model.job import Job, JobState
from node.model.stats import NodeStats, Stats, VmStats
from node.model.storage import (
    Allocation,
    Connection,
    DiskDocument,
    DiskFormat,
    DiskState,
    DomainClass,
    DomainState,
    DomainType,
    Liveness,
    PoolDocument,
    PoolDomain,
    PoolMark,
    PoolMember,
    PoolState,
    SpmState,
    SpmView,
    StorageDomain,
    StorageDomainDocument,
)
from node.model.templates import Template
from node.model.vm import Cpu, Vm, VmRun, VmSpec, VmState, Wanted
from node.policy import local_pool
from node.units import GiB, MiB

AT = "2026-11-22T08:00:00.000Z"


def node_id(number: int) -> NodeId:
    return NodeId(str(UUID(int=number)))


def vm_id(number: int) -> VmId:
    return VmId(str(UUID(int=(1 << 64) + number)))


def job_id(number: int) -> JobId:
    return JobId(str(UUID(int=(1 << 65) + number)))


def pool_id(number: int = 1) -> PoolId:
    return PoolId(str(UUID(int=(1 << 66) + number)))


def domain_id(number: int = 1) -> StorageDomainId:
    return StorageDomainId(str(UUID(int=(1 << 67) + number)))


def local_pool_id(of_node: int) -> PoolId:
    return local_pool.pool_id(node_id(of_node))


def disk_id(number: int) -> DiskId:
    return DiskId(str(UUID(int=(1 << 68) + number)))


def facts(number: int, **changes: Any) -> NodeFacts:
    settings = {
        "node_id": node_id(number),
        "name": f"n{number}",
        "address": f"10.0.0.{number % 250}",
        "boot_id": "boot-1",
        "booted_at": AT,
        "versions": Versions("0.1.0", "6.12", "Debian 13", "11.3.0", "10.0.0"),
        "features": ("vm", "feed", "storage"),
        "memory_bytes": 16 * GiB,
        "cpu": CpuFacts(
            "A processor",
            "GenuineIntel",
            "Skylake",
            ("vmx",),
            1,
            4,
            2,
            1,
            2000,
            usable_models=("Haswell", "Skylake"),
        ),
        "kvm": KvmFacts(True, "Linux version 6.12"),
        "firmware": FirmwareFacts(),
        "networks": ("ovirtmgmt",),
        "machines": ("pc-q35-10.0",),
    }
    return NodeFacts(**{**settings, **changes})


def spec(number: int, name: str = "", **changes: Any) -> VmSpec:
    settings = {
        "vm_id": vm_id(number),
        "name": name or f"vm{number}",
        "memory_bytes": 512 * MiB,
        "cpu": Cpu(cores=2),
    }
    return VmSpec(**{**settings, **changes})


def vm(number: int, name: str = "", **changes: Any) -> Vm:
    settings = {"spec": spec(number, name), "generation": 1, "created_at": AT}
    return Vm(**{**settings, **changes})


def run(number: int, of_node: int, state: VmState = VmState.DOWN) -> VmRun:
    return VmRun(vm_id(number), node_id(of_node), state, AT)


def up(number: int, name: str = "") -> Vm:
    return vm(number, name, wanted=Wanted.UP)


def job(number: int, state: JobState = JobState.RUNNING, **changes: Any) -> Job:
    settings = {
        "job_id": job_id(number),
        "verb": "vm_start",
        "object_kind": "vm",
        "object_id": vm_id(1),
        "state": state,
        "created_at": AT,
    }
    return Job(**{**settings, **changes})


def member(number: int, **changes: Any) -> PoolMember:
    settings = {
        "node_id": node_id(number),
        "host_id": number,
        "liveness": Liveness.LIVE,
    }
    return PoolMember(**{**settings, **changes})


def pool(
    of_node: int,
    *,
    holder: int | None = None,
    mark: PoolMark | None = None,
    members: Iterable[int | PoolMember] = (1, 2, 3),
    lease_version: int | None = None,
    **changes: Any,
) -> PoolDocument:
    """Return a node's sight of the pool; with a mark, the node manages it."""
    lease = mark.lease_version if mark is not None else 0
    settings = {
        "pool_id": pool_id(),
        "name": "pool1",
        "node_id": node_id(of_node),
        "is_local": False,
        "state": PoolState.UP if mark or holder else PoolState.CONTENDING,
        "since": AT,
        "master": domain_id(1),
        "master_version": 1,
        "generation": mark.generation if mark is not None else 1,
        "spm": SpmView(
            SpmState.MANAGER if mark is not None else SpmState.FREE,
            node_id(of_node) if mark else node_id(holder) if holder else None,
            lease if lease_version is None else lease_version,
        ),
        "domains": (pool_domain(1),),
        "members": tuple(
            member(each) if isinstance(each, int) else each for each in members
        ),
        "mark": mark,
    }
    return PoolDocument(**{**settings, **changes})


def connection(number: int = 1) -> Connection:
    return Connection(DomainType.NFS, f"/exports/{number}", "nas")


def pool_domain(
    number: int, state: DomainState = DomainState.ACTIVE, **changes: Any
) -> PoolDomain:
    settings = {
        "storage_domain_id": domain_id(number),
        "domain_class": DomainClass.DATA,
        "state": state,
        "name": f"data{number}",
        "connection": connection(number),
    }
    return PoolDomain(**{**settings, **changes})


def storage_domain(
    of_node: int,
    number: int = 1,
    state: DomainState = DomainState.ACTIVE,
    name: str = "",
    pool: PoolId | None = None,
    domain_class: DomainClass = DomainClass.DATA,
    **changes: Any,
) -> StorageDomainDocument:
    """Return a node's sight of a storage domain of the pool."""
    named = StorageDomain(
        domain_id(number),
        name or f"data{number}",
        domain_class,
        connection(number),
        pool_id=None if state is DomainState.UNATTACHED else pool or pool_id(),
    )
    settings = {
        "storage_domain": named,
        "node_id": node_id(of_node),
        "state": state,
        "since": AT,
        "latency_s": 0.001,
        "total_bytes": 100 * GiB,
        "free_bytes": 60 * GiB,
        "host_id": of_node,
    }
    return StorageDomainDocument(**{**settings, **changes})


def disk(number: int, name: str = "", **changes: Any) -> DiskDocument:
    settings = {
        "disk_id": disk_id(number),
        "name": name or f"disk{number}",
        "size_bytes": 10 * GiB,
        "allocated_bytes": GiB,
        "disk_format": DiskFormat.QCOW2,
        "allocation": Allocation.THIN,
        "storage_domain_ids": (domain_id(1),),
        "state": DiskState.OK,
        "since": AT,
        "pool_id": pool_id(),
        "mark": PoolMark(1, 1),
    }
    return DiskDocument(**{**settings, **changes})


def document(value: object, rev: int = 1) -> Document:
    """Return what a node keeps of a value, at a revision."""
    kind, identity = _identity(value)
    return Document(kind, identity, rev, wire.to_json(value))


def said(*values: object) -> tuple[Said, ...]:
    """Return values as a node says them."""
    return tuple(
        Said(each.kind, each.id, wire.encode(each.body))
        for each in map(document, values)
    )


def gone(value: object) -> Said:
    """Return what a node says when it has a value no more."""
    return Said(*_identity(value), None)


def delta(
    from_rev: int,
    to_rev: int,
    *values: object,
    gone: Iterable[object] = (),
    events: Iterable[Event] = (),
    **changes: Any,
) -> Delta:
    """Return a push that brings these values at its last revision."""
    settings = {
        "epoch": "epoch-1",
        "from_rev": from_rev,
        "to_rev": to_rev,
        "boot_id": "boot-1",
        "changed": tuple(document(value, to_rev) for value in values),
        "gone": tuple(Tombstone(*_identity(value), to_rev) for value in gone),
        "events": tuple(events),
    }
    return Delta(**{**settings, **changes})


def event(number: int, of_node: int, boot_id: str = "boot-1") -> Event:
    fields = {"name": f"vm{number}"}
    return Event(node_id(of_node), boot_id, number, AT, "vm_created", fields)


def stats(*numbers: int, at: str = AT) -> Stats:
    figures = NodeStats(cpu_percent=25.0, memory_free_bytes=8 * GiB)
    return Stats(at, figures, tuple(VmStats(vm_id(each)) for each in numbers))


def _identity(value: object) -> tuple[str, str]:
    match value:
        case NodeFacts():
            return Kind.NODE, value.node_id
        case Vm():
            return Kind.VM, value.spec.vm_id
        case VmRun():
            return Kind.VM_RUN, value.vm_id
        case Job():
            return Kind.JOB, value.job_id
        case PoolDocument():
            return Kind.POOL, value.pool_id
        case StorageDomainDocument():
            return Kind.STORAGE_DOMAIN, value.storage_domain.storage_domain_id
        case DiskDocument():
            return Kind.DISK, value.disk_id
        case Template():
            return Kind.TEMPLATE, value.template_id
    raise TypeError(value)
