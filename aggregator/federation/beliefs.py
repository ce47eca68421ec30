"""Decide what we believe of pools, storage domains and disks that many nodes see.

Pure, and the same in whatever order the sights came. Structure is believed by the
highest mark, whoever bears it: only the pool's manager has one. How a thing *is* now
is told by nodes that are heard. Two nodes with one mark are an alarm, and nobody is
chosen between them: the row says that it is disputed. DESIGN section 4.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from immutables import Map

from aggregator.federation import storage_reading, tolerant
from aggregator.federation.view import (
    DiskRow,
    DomainSight,
    PoolRow,
    PoolSight,
    StorageDomainRow,
)
from node.model.ids import NodeId, PoolId, StorageDomainId
from node.model.storage import (
    DomainRole,
    DomainState,
    DomainType,
    PoolMark,
    PoolState,
    SpmState,
)

Sight = PoolSight | DomainSight
_Mark = tuple[int, int]

_NO_MARK: Final[_Mark] = (-1, -1)
_MANAGING: Final = frozenset({SpmState.MANAGER, SpmState.LEAVING})
# What a storage domain is by the pool's map; the rest is how a node fares with it.
_HEALTH: Final = frozenset({DomainState.ACTIVE, DomainState.UNREACHABLE})
# The best first.
_DOMAIN_RANK: Final = {
    state: rank
    for rank, state in enumerate(
        (
            DomainState.ACTIVE,
            DomainState.ACTIVATING,
            DomainState.DEACTIVATING,
            DomainState.LOCKED,
            DomainState.DETACHING,
            DomainState.MAINTENANCE,
            DomainState.UNREACHABLE,
            DomainState.UNATTACHED,
        )
    )
}
_POOL_RANK: Final = {
    state: rank
    for rank, state in enumerate(
        (
            PoolState.UP,
            PoolState.CONTENDING,
            PoolState.MASTER_LOST,
            PoolState.MAINTENANCE,
            PoolState.UNREACHABLE,
        )
    )
}


def pool(pool_id: PoolId, sights: Map[NodeId, PoolSight]) -> PoolRow:
    """Return the row of a pool; there is at least one sight."""
    told = min(sights.values(), key=_pool_authority)
    heard = [each for each in sights.values() if not each.is_silent]
    # While its manager is heard, it knows best; else whoever has the newest map.
    speaker = told
    if heard and (told.is_silent or told.mark is None):
        speaker = min(heard, key=_pool_voice)
    body = tolerant.mapping(told.document)
    master = tolerant.text(body, "master")
    is_manager = told.mark is not None and told.spm_state in _MANAGING
    return PoolRow(
        pool_id,
        tolerant.text(body, "name") or pool_id,
        body.get("is_local") is True,
        speaker.state,
        speaker.since,
        speaker.reason,
        told.node_id if is_manager else None,
        StorageDomainId(master) if master else None,
        tolerant.number(body, "master_version", 0),
        told.generation,
        storage_reading.read_pool_domains(body),
        told.mark,
        told.node_id,
        speaker.node_id,
        told.document,
        sights,
        _is_disputed(told, sights.values()),
    )


def storage_domain(
    storage_domain_id: StorageDomainId, sights: Map[NodeId, DomainSight]
) -> StorageDomainRow:
    """Return the row of a storage domain; there is at least one sight."""
    told = min(sights.values(), key=_domain_authority)
    speaker = _domain_speaker(told, sights.values())
    body = tolerant.mapping(told.document)
    named = tolerant.inner(body, "storage_domain")
    pool_id = tolerant.text(named, "pool_id")
    connection = tolerant.inner(named, "connection")
    return StorageDomainRow(
        storage_domain_id,
        tolerant.text(named, "name") or storage_domain_id,
        tolerant.text(named, "description"),
        storage_reading.read_domain_class(named),
        tolerant.choice(DomainType, connection.get("kind"), DomainType.POSIXFS),
        tolerant.choice(DomainRole, named.get("role"), DomainRole.REGULAR),
        PoolId(pool_id) if pool_id else None,
        speaker.state,
        speaker.since,
        speaker.reason,
        speaker.latency_s,
        tolerant.number(body, "total_bytes", 0),
        tolerant.number(body, "free_bytes", 0),
        tolerant.number(body, "committed_bytes", 0),
        told.mark,
        told.node_id,
        speaker.node_id,
        told.document,
        sights,
        _is_disputed(told, sights.values()),
    )


def disk(claims: Sequence[DiskRow], lease: int) -> DiskRow | None:
    """Return the disk that the View shows; None if all that was said is void.

    `lease` is the newest under which disks of the pool were told: what a manager
    said under an older one, before it fell silent, may be of a disk that is gone.
    """
    valid = [each for each in claims if _order(each.mark)[0] >= lease]
    if not valid:
        return None
    valid.sort(key=lambda each: (_negative(each.mark), each.node_id))
    shown = valid[0]
    is_disputed = any(
        each.mark is not None
        and each.mark == shown.mark
        and each.document != shown.document
        for each in valid[1:]
    )
    return replace(shown, is_disputed=True) if is_disputed else shown


def has_other_weight(before: Sight | None, after: Sight) -> bool:
    """Say whether a newer sight of one node may change who is believed."""
    return before is None or _weight(before) != _weight(after)


def _weight(sight: Sight) -> tuple[object, ...]:
    generation = sight.generation if isinstance(sight, PoolSight) else 0
    return sight.mark, sight.state, sight.is_silent, generation


def _domain_speaker(told: DomainSight, sights: Iterable[DomainSight]) -> DomainSight:
    if not told.is_silent and told.mark is not None and told.state not in _HEALTH:
        return told  # its manager says that the pool does not want it used
    heard = [each for each in sights if not each.is_silent]
    return min(
        heard,
        key=lambda each: (
            _DOMAIN_RANK[each.state],
            each is not told,
            each.node_id,
        ),
        default=told,
    )


def _pool_authority(sight: PoolSight) -> tuple[object, ...]:
    return (
        _negative(sight.mark),
        -sight.generation,
        sight.is_silent,
        _POOL_RANK[sight.state],
        sight.node_id,
    )


def _pool_voice(sight: PoolSight) -> tuple[object, ...]:
    return -sight.generation, _POOL_RANK[sight.state], sight.node_id


def _domain_authority(sight: DomainSight) -> tuple[object, ...]:
    return (
        _negative(sight.mark),
        sight.is_silent,
        _DOMAIN_RANK[sight.state],
        sight.node_id,
    )


def _is_disputed(told: Sight, sights: Iterable[Sight]) -> bool:
    return told.mark is not None and any(
        each.mark == told.mark and each.node_id != told.node_id for each in sights
    )


def _order(mark: PoolMark | None) -> _Mark:
    return _NO_MARK if mark is None else (mark.lease_version, mark.generation)


def _negative(mark: PoolMark | None) -> _Mark:
    lease_version, generation = _order(mark)
    return -lease_version, -generation
