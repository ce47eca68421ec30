"""Say of a disk's volumes what others need to know of them. Pure. Sizes are bytes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from node.clock import rfc3339
from node.model.ids import DiskId, StorageDomainId, VolumeId
from node.model.storage import ActualVolume, Legality, VolumeKind
from node.storage.disks import sights
from node.storage.formats import volume_meta
from node.storage.formats.volume_meta import VolumeMeta
from node.storage.operations.facts import Disk

_KINDS: Final = {
    volume_meta.VolumeRole.LEAF: VolumeKind.LEAF,
    volume_meta.VolumeRole.INTERNAL: VolumeKind.INTERNAL,
    volume_meta.VolumeRole.SHARED: VolumeKind.SHARED,
}
_LEGALITIES: Final = {
    volume_meta.Legality.LEGAL: Legality.LEGAL,
    volume_meta.Legality.ILLEGAL: Legality.ILLEGAL,
    volume_meta.Legality.FAKE: Legality.FAKE,
}


def volumes(disk: Disk, allocated: Mapping[str, int]) -> tuple[ActualVolume, ...]:
    """Return a disk's own volumes that have metadata, each after its parent.

    `allocated` is what the data of each take. One whose parent is missing, or that
    is its own ancestor, is left out: nobody may run on it.
    """
    metas = {
        volume_id: meta
        for volume_id in disk.own()
        if (meta := disk.image.volumes[volume_id].meta) is not None
    }
    below = set(disk.linked())
    found: list[ActualVolume] = []
    waiting = dict(metas)
    while ready := [
        key
        for key, meta in waiting.items()
        if meta.parent_id is None or meta.parent_id in below
    ]:
        for key in ready:
            below.add(key)
            found.append(_actual(disk, key, waiting.pop(key), allocated.get(key, 0)))
    return tuple(found)


def _actual(
    disk: Disk, volume_id: str, meta: VolumeMeta, allocated_bytes: int
) -> ActualVolume:
    return ActualVolume(
        VolumeId(volume_id),
        DiskId(disk.image_id),
        StorageDomainId(disk.image.storage_domain_id),
        meta.capacity_bytes,
        allocated_bytes,
        sights.FORMATS[meta.volume_format],
        sights.ALLOCATIONS[meta.allocation],
        _KINDS[meta.role],
        VolumeId(meta.parent_id) if meta.parent_id is not None else None,
        legality=_LEGALITIES[meta.legality],
        description=meta.description,
        created_at=_moment(meta.created_at_s),
        generation=meta.generation,
        sequence=meta.sequence,
        has_data=disk.image.volumes[volume_id].has_data,
    )


def _moment(created_at_s: int) -> str | None:
    """Return a number of seconds as a date; None: no calendar has it."""
    try:
        return rfc3339(datetime.fromtimestamp(created_at_s, UTC))
    except (OverflowError, ValueError, OSError):
        return None
