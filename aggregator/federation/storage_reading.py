"""Read what nodes say of pools, storage domains and disks, tolerantly.

Pure. A sight is what one node says; `beliefs` makes rows of sights. What many rows
have in common is kept once: there are as many disks as VMs, and twice that.
"""

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

from aggregator.federation import tolerant
from aggregator.federation.view import DiskRow, DomainSight, PoolSight, TemplateRow
from node.model.ids import DiskId, NodeId, PoolId, StorageDomainId, TemplateId
from node.model.reason import Reason
from node.model.storage import (
    ContentType,
    DiskState,
    DomainClass,
    DomainState,
    Liveness,
    PoolDomain,
    PoolMark,
    PoolState,
    SpmPriority,
    SpmState,
)

T = TypeVar("T")


def read_pool_sight(node_id: NodeId, document: bytes, *, is_silent: bool) -> PoolSight:
    """Return what a node says of a pool."""
    body = tolerant.mapping(document)
    spm = tolerant.inner(body, "spm")
    holder = tolerant.text(spm, "holder")
    members = {
        tolerant.text(each, "node_id"): each
        for each in tolerant.objects(body, "members")
    }
    own: Mapping[str, Any] = members.get(node_id, {})
    host_id = tolerant.number(own, "host_id", 0)
    return PoolSight(
        node_id,
        tolerant.choice(PoolState, body.get("state"), PoolState.UNREACHABLE),
        tolerant.text(body, "since"),
        tolerant.part(Reason, body.get("reason")),
        tolerant.choice(SpmState, spm.get("state"), SpmState.FREE),
        NodeId(holder) if holder else None,
        tolerant.choice(
            Liveness, members.get(holder, {}).get("liveness"), Liveness.UNKNOWN
        ),
        tolerant.number(spm, "lease_version", 0),
        tolerant.number(body, "generation", 0),
        host_id or None,
        tolerant.number(own, "priority", SpmPriority.NORMAL),
        _mark(body),
        document,
        is_silent,
    )


def read_pool_domains(body: Mapping[str, Any]) -> tuple[PoolDomain, ...]:
    """Return the storage domains that a pool's document names."""
    found = (
        tolerant.part(PoolDomain, each) for each in tolerant.items(body, "domains")
    )
    return tuple(each for each in found if each is not None)


def read_domain_sight(
    node_id: NodeId, document: bytes, *, is_silent: bool
) -> DomainSight:
    """Return what a node says of a storage domain."""
    body = tolerant.mapping(document)
    return DomainSight(
        node_id,
        tolerant.choice(DomainState, body.get("state"), DomainState.UNREACHABLE),
        tolerant.text(body, "since"),
        tolerant.part(Reason, body.get("reason")),
        tolerant.seconds(body, "latency_s"),
        tolerant.number(body, "host_id", 0) or None,
        _mark(body),
        document,
        is_silent,
    )


def read_disk(disk_id: DiskId, node_id: NodeId, document: bytes) -> DiskRow:
    """Return a disk as one node says."""
    body = tolerant.mapping(document)
    pool_id = tolerant.text(body, "pool_id")
    places = tolerant.texts(body, "storage_domain_ids")
    return DiskRow(
        disk_id,
        tolerant.text(body, "name"),
        _shared(PoolId(pool_id)) if pool_id else None,
        _shared(tuple(map(StorageDomainId, places))),
        tolerant.choice(DiskState, body.get("state"), DiskState.ILLEGAL),
        tolerant.number(body, "size_bytes", 0),
        tolerant.number(body, "allocated_bytes", 0),
        _mark(body),
        node_id,
        document,
        is_ovf_store=body.get("content") == ContentType.OVF_STORE,
    )


def read_template(
    template_id: TemplateId, node_id: NodeId, document: bytes
) -> TemplateRow:
    """Return a template as one node says."""
    body = tolerant.mapping(document)
    spec = tolerant.inner(body, "spec")
    disks = (tolerant.text(each, "disk_id") for each in tolerant.objects(spec, "disks"))
    return TemplateRow(
        template_id,
        tolerant.text(spec, "name") or template_id,
        tolerant.number(body, "version", 1),
        TemplateId(tolerant.text(body, "base_id")) or None,
        PoolId(tolerant.text(spec, "pool_id")) or None,
        tuple(DiskId(each) for each in disks if each),
        _mark(body),
        node_id,
        document,
    )


def read_domain_class(body: Mapping[str, Any]) -> DomainClass:
    """Return what a storage domain is for."""
    return tolerant.choice(DomainClass, body.get("domain_class"), DomainClass.DATA)


def _mark(body: Mapping[str, Any]) -> PoolMark | None:
    mark = tolerant.part(PoolMark, body.get("mark"))
    return None if mark is None else _shared(mark)


@functools.lru_cache(maxsize=4096)  # more than there are marks and places at a time
def _shared_value(value: Any) -> Any:
    return value


def _shared(value: T) -> T:
    """Return one object for all equal ones."""
    found: T = _shared_value(value)
    return found
