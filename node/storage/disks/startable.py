"""Decide whether a guest may be started on a disk as it lies on the storage.

Pure. A volume that is ILLEGAL holds a mixture, or is being copied, merged or moved:
a guest's writes would be lost. And QEMU opens what qcow2 headers name, so they must
say what the metadata say. Source: docs/formats/storage-domain.md.
"""

import itertools
from typing import Final

from node.errors import Conflict
from node.storage.disks import chain
from node.storage.disks.chain import ImageDamaged
from node.storage.disks.chain_problems import Kind
from node.storage.formats.volume_meta import Legality, VolumeRole
from node.storage.operations import facts
from node.storage.operations.facts import QEMU_FORMATS, Disk, NotALeaf


class VolumeIllegal(Conflict):
    """A volume of the disk's chain must not be used now."""

    code = "volume_illegal"
    remedy = (
        "Wait if a job works on the disk; if none does, see what "
        "`skerry-node storage check` says of it."
    )


def startable(disk: Disk, leaf_id: str) -> tuple[str, ...]:
    """Return the chain that a guest may write to, leaf to base.

    What QEMU has merged and taken out of the headers is no part of it, though nobody
    has written that down yet: the manager does, whether a guest runs or not.
    Raises VolumeMissing, VolumeIllegal, NotALeaf (a snapshot's, or a template's), and
    ImageDamaged. What is wrong beside the chain does not count.
    """
    meta = facts.meta_of(disk, leaf_id)
    problems = chain.examine(disk.image)
    merged = {e.other for e in problems if e.kind is Kind.MERGE_NOT_RECORDED}
    walked = chain.walk(disk.image, leaf_id)
    volumes = tuple(each for each in walked if each not in merged)
    for volume_id in volumes:
        legality = facts.meta_of(disk, volume_id).legality
        if legality is not Legality.LEGAL:
            raise VolumeIllegal(
                f"volume {volume_id} of disk {disk.image_id} is {legality}",
                image_id=disk.image_id,
                volume_id=volume_id,
            )
    if meta.role is not VolumeRole.LEAF or disk.image.readers(leaf_id):
        raise NotALeaf(f"volume {leaf_id} is no leaf", volume_id=leaf_id)
    for problem in problems:
        if problem.volume_id in volumes and problem.kind not in _HARMLESS:
            raise ImageDamaged(
                f"disk {disk.image_id}, volume {problem.volume_id}: "
                f"{problem.explanation}",
                image_id=disk.image_id,
                problem=problem.kind,
            )
    _check_formats(disk, volumes)
    return volumes


def _check_formats(disk: Disk, volumes: tuple[str, ...]) -> None:
    """Refuse a header that does not say what its backing is: QEMU would guess."""
    for volume_id, parent_id in itertools.pairwise(volumes):
        volume_format = facts.meta_of(disk, parent_id).volume_format
        if disk.backing_formats.get(volume_id) != QEMU_FORMATS[volume_format]:
            raise ImageDamaged(
                f"the header of volume {volume_id} of disk {disk.image_id} does not "
                f"say that {parent_id} is {volume_format}",
                image_id=disk.image_id,
                volume_id=volume_id,
            )


# They concern no data that the guest reads, or volumes that it does not.
_HARMLESS: Final = frozenset(
    {Kind.LEASE_MISSING, Kind.TWO_LEAVES, Kind.MERGE_NOT_RECORDED}
)
