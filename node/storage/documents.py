"""Say what is known of pools, storage domains and disks as documents for the feed.

Pure: sights in, documents out, and which of them changed. All that the manager says
bears its mark, so that the aggregator believes the newest manager; what a node sees
for itself bears none. `since` stays while a state stays. Times are RFC 3339.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from node.model.ids import (
    DiskId,
    JobId,
    NodeId,
    PoolId,
    StorageDomainId,
    TemplateId,
    VmId,
    VolumeId,
)
from node.model.reason import Reason
from node.model.storage import (
    Allocation,
    ChainSummary,
    DiskDocument,
    DiskState,
    DomainClass,
    DomainRole,
    DomainState,
    PoolDocument,
    PoolDomain,
    PoolMark,
    PoolMember,
    PoolState,
    SpmState,
    SpmView,
    StorageDomainDocument,
)
from node.storage.disks import sights
from node.storage.disks.sights import DomainSight, Finding, ImageSight
from node.storage.formats import domain_meta, pool_map
from node.storage.formats.pool_map import PoolDomainState, PoolMap
from node.storage.spm import pool_rules

T = TypeVar("T")

_CLASSES: Final = {
    domain_meta.DomainClass.DATA: DomainClass.DATA,
    domain_meta.DomainClass.ISO: DomainClass.ISO,
    domain_meta.DomainClass.BACKUP: DomainClass.EXPORT,
}
_STATES: Final = {
    PoolDomainState.ACTIVE: DomainState.ACTIVE,
    PoolDomainState.MAINTENANCE: DomainState.MAINTENANCE,
}


@dataclass(frozen=True, slots=True)
class PoolSight:
    """What one node knows of one pool."""

    pool_id: PoolId
    name: str
    node_id: NodeId
    is_local: bool
    known: PoolMap | None  # None: no map was ever read
    is_read: bool  # some storage domain gave its map in the last round
    spm: SpmView  # of this node
    holder: NodeId | None = None  # who serves, as the storage tells
    members: tuple[PoolMember, ...] = ()
    reason: Reason | None = None  # why this node came forward, or did not
    mark: PoolMark | None = None  # None: this node does not manage it


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What is known of disks beside their images."""

    owners: Mapping[str, JobId] = field(default_factory=dict)  # jobs, by disk
    vms: Mapping[str, tuple[VmId, ...]] = field(default_factory=dict)  # by disk
    templates: Mapping[str, TemplateId] = field(default_factory=dict)  # by disk
    away: frozenset[str] = frozenset()  # storage domains that cannot be read
    mark: PoolMark | None = None
    pool_id: PoolId | None = None


def pool(before: PoolDocument | None, sight: PoolSight, at: str) -> PoolDocument:
    """Return the document of a pool as this node sees it."""
    known, spm = sight.known, sight.spm
    if spm.holder is None and sight.holder is not None:
        spm = replace(spm, holder=sight.holder)
    state = _pool_state(sight, spm)
    is_same = before is not None and before.state is state
    return PoolDocument(
        sight.pool_id,
        sight.name,
        sight.node_id,
        sight.is_local,
        state,
        before.since if before is not None and is_same else at,
        StorageDomainId(known.master_id) if known is not None else None,
        known.master_version if known is not None else 0,
        known.generation if known is not None else 0,
        spm,
        tuple(map(pool_domain, known.domains)) if known is not None else (),
        sight.members,
        sight.reason if state is not PoolState.UP else None,
        sight.mark,
    )


def storage_domain(
    checked: StorageDomainDocument,
    known: PoolMap | None,
    content: DomainSight | None = None,
    host_id: int | None = None,
    mark: PoolMark | None = None,
) -> StorageDomainDocument:
    """Return a monitor's document with what the pool and the catalog know.

    `content` None: nothing was read there, and what its disks may grow to stays.
    """
    named = checked.storage_domain
    if known is not None:
        named = replace(
            named,
            role=role(known, named.storage_domain_id),
            pool_id=PoolId(known.pool_id),
        )
        if (entry := pool_rules.find(known, named.storage_domain_id)) is not None:
            named = replace(
                named,
                name=entry.name or named.name,
                description=entry.description,
                wipe_after_delete=entry.wipe_after_delete,
            )
    committed_bytes = checked.committed_bytes
    if content is not None:
        committed_bytes = sum(map(_growth, content.images.values()))
    return replace(
        checked,
        storage_domain=named,
        host_id=host_id,
        committed_bytes=committed_bytes,
        mark=mark,
    )


def disks(
    before: Mapping[DiskId, DiskDocument],
    content: Iterable[DomainSight],
    facts: DiskFacts,
    at: str,
) -> Mapping[DiskId, DiskDocument]:
    """Return the documents of all disks on the active storage domains."""
    by_id: dict[DiskId, list[ImageSight]] = {}
    for each in content:
        for image_id, sight in each.images.items():
            by_id.setdefault(DiskId(image_id), []).append(sight)
    return {
        disk_id: disk(before.get(disk_id), found, facts, at)
        for disk_id, found in sorted(by_id.items())
    }


def disk(
    before: DiskDocument | None,
    found: Sequence[ImageSight],
    facts: DiskFacts,
    at: str,
) -> DiskDocument:
    """Return the document of one disk; `found` are its copies, at least one."""
    copies = sorted(found, key=lambda each: each.storage_domain_id)
    # One that is whole speaks for the others: copies of a template are equal.
    sight = min(copies, key=_illness)
    disk_id = DiskId(sight.image_id)
    state, reason = _disk_state(sight, copies, facts, at)
    if before is not None and before.state is state:
        since = before.since
        if reason and before.reason and _says_same(reason, before.reason):
            reason = before.reason
    else:
        since = at
    return DiskDocument(
        disk_id,
        sight.name or (before.name if before is not None and sight.error else ""),
        sight.size_bytes,
        sight.allocated_bytes,
        sight.disk_format,
        sight.allocation,
        tuple(StorageDomainId(each.storage_domain_id) for each in copies),
        state,
        since,
        ChainSummary(
            tuple(map(VolumeId, sight.volumes)),
            VolumeId(sight.template) if sight.template is not None else None,
            tuple(_problem(each, sight, since) for each in sights.findings(sight)),
        ),
        reason,
        facts.owners.get(disk_id),
        sight.description,
        sight.content,
        sight.options.is_shared,
        sight.options.wipe_after_delete,
        sight.options.qos,
        vm_ids=facts.vms.get(disk_id, ()),
        template_id=facts.templates.get(disk_id),
        mark=facts.mark,
        pool_id=facts.pool_id,
    )


def difference(
    before: Mapping[str, T], after: Mapping[str, T]
) -> tuple[Mapping[str, T], frozenset[str]]:
    """Return which documents to put into the store, and which to delete there."""
    changed = {key: each for key, each in after.items() if before.get(key) != each}
    return changed, frozenset(before) - frozenset(after)


def _pool_state(sight: PoolSight, spm: SpmView) -> PoolState:
    known = sight.known
    if known is None or not sight.is_read:
        return PoolState.UNREACHABLE
    if spm.state in (SpmState.MANAGER, SpmState.LEAVING) or spm.holder is not None:
        return PoolState.UP
    if sight.reason is not None and sight.reason.code == "spm_master_lost":
        return PoolState.MASTER_LOST
    return PoolState.CONTENDING


def pool_domain(entry: pool_map.PoolDomain) -> PoolDomain:
    """Return an entry of the pool's map as the API spells it."""
    return PoolDomain(
        StorageDomainId(entry.storage_domain_id),
        domain_class(entry.domain_class),
        _STATES[entry.state],
        entry.name,
        entry.connection,
    )


def domain_class(stored: domain_meta.DomainClass) -> DomainClass:
    """Return a class as the API spells it; metadata call export `Backup`."""
    return _CLASSES[stored]


def stored_class(wanted: DomainClass) -> domain_meta.DomainClass:
    """Return a class as metadata spell it."""
    return next(stored for stored, each in _CLASSES.items() if each is wanted)


def role(known: PoolMap, storage_domain_id: str) -> DomainRole:
    """Return what a storage domain is in its pool."""
    return DomainRole(known.role(storage_domain_id).value.lower())


def _growth(sight: ImageSight) -> int:
    """Return what a thin disk may still grow by."""
    if sight.allocation is not Allocation.THIN or sight.is_template:
        return 0
    return max(sight.size_bytes - sight.allocated_bytes, 0)


def _illness(sight: ImageSight) -> tuple[bool, int, str]:
    return bool(sight.error), len(sight.problems), sight.storage_domain_id


def _disk_state(
    sight: ImageSight, copies: Sequence[ImageSight], facts: DiskFacts, at: str
) -> tuple[DiskState, Reason | None]:
    """Return a disk's state and why it is not the wanted one, the gravest first."""
    name = sight.name or sight.image_id
    owner = facts.owners.get(sight.image_id)
    if all(each.storage_domain_id in facts.away for each in copies):
        fields = {"name": sight.storage_domain_id, "detail": "it does not answer"}
        return DiskState.UNREACHABLE, Reason("storage_domain_unreachable", at, fields)
    if owner is not None:
        # While a job works on it, what looks like a problem is its doing.
        return DiskState.LOCKED, Reason("disk_is_locked", at, {"job": owner})
    wrong = sights.findings(sight)
    if wrong:
        fields = {"name": name, "detail": wrong[0].explanation}
        return DiskState.ILLEGAL, Reason("disk_chain_illegal", at, fields)
    return DiskState.OK, None


def _problem(finding: Finding, sight: ImageSight, since: str) -> Reason:
    fields = {
        "name": sight.name or sight.image_id,
        "detail": finding.explanation,
        "problem": finding.kind,
        "volume": finding.volume_id,
    }
    return Reason("disk_chain_illegal", since, fields)


def _says_same(first: Reason, second: Reason) -> bool:
    return (first.code, first.fields) == (second.code, second.fields)
