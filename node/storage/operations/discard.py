"""Plan the removal of a branch: a preview undone or committed, a failed snapshot.

Pure. What the kept leaf is built on stays. Volumes go from the leaf down: the one
below is marked as the leaf first, then the one above as unusable, then it goes. The
leaf is unusable before it is decided that all go: no guest starts with it in between.
"""

from collections.abc import Iterator

from node.errors import Conflict
from node.storage.disks import chain
from node.storage.formats.volume_meta import Legality, VolumeRole
from node.storage.operations import facts, volumes
from node.storage.operations.facts import Disk, Place
from node.storage.operations.plan import Action, Plan, Step


class WouldLoseKept(Conflict):
    """The volume that shall go is part of what shall stay."""

    code = "would_lose_kept_volume"
    remedy = "Name the leaf to discard, and a volume that is not built on it."


def make(place: Place, leaf_id: str, kept_id: str) -> Plan:
    """Return the plan to remove a leaf and what only it is built on.

    `kept_id` is what the disk becomes: another leaf, or what the leaf is built on.
    The plan is empty if the leaf is gone. Raises NotALeaf, WouldLoseKept and
    ImageDamaged.
    """
    disk = place.require()
    facts.meta_of(disk, kept_id)
    if leaf_id not in disk.image.volumes:
        return Plan()
    facts.leaf_of(disk, leaf_id)
    kept = chain.walk(disk.image, kept_id)
    branch: list[str] = []
    for volume_id in chain.walk(disk.image, leaf_id):
        if volume_id in kept or set(disk.image.readers(volume_id)) - set(branch):
            break
        branch.append(volume_id)
    if not branch:
        raise WouldLoseKept(
            f"volume {kept_id} is built on {leaf_id}", volume_id=kept_id
        )
    return Plan((_close(disk, leaf_id), *_removals(place, branch)), commit=1)


def _close(disk: Disk, leaf_id: str) -> Step:
    """Return what makes the leaf unusable, and what is below it the leaf."""
    uncover = tuple(_uncover(disk, leaf_id))
    parent_id = disk.image.volumes[leaf_id].parent_id
    cover = tuple(volumes.rewrite(disk, str(parent_id)) for _ in uncover)
    return Step(
        "close",
        (*uncover, volumes.mark(disk, leaf_id, Legality.ILLEGAL)),
        (*cover, volumes.rewrite(disk, leaf_id)),
    )


def _removals(place: Place, branch: list[str]) -> Iterator[Step]:
    disk = place.require()
    leaf_id, *rest = branch
    yield from volumes.drop(place, leaf_id, f"discard {leaf_id}")
    for volume_id in rest:
        before = (
            *_uncover(disk, volume_id),
            volumes.mark(disk, volume_id, Legality.ILLEGAL, VolumeRole.LEAF),
        )
        yield from volumes.drop(place, volume_id, f"discard {volume_id}", before)


def _uncover(disk: Disk, volume_id: str) -> Iterator[Action]:
    """Yield what makes a leaf of what only this volume is built on."""
    parent_id = disk.image.volumes[volume_id].parent_id
    if parent_id not in disk.own() or parent_id is None:
        return
    if disk.image.readers(parent_id) == (volume_id,):
        yield volumes.mark(disk, parent_id, Legality.LEGAL, VolumeRole.LEAF)
