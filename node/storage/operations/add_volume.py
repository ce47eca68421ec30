"""Plan a new leaf over the old one: the structural half of a snapshot.

Pure. The new leaf is not usable until it is complete; then it is, and its parent
becomes internal: before a guest may write to it. After each action the metadata
alone tell what to repair (docs/formats/storage-domain.md).
"""

from dataclasses import replace

from node.errors import Conflict
from node.storage.formats.volume_meta import Allocation, Format, Legality, VolumeRole
from node.storage.operations import facts, volumes
from node.storage.operations.facts import NotALeaf, Place
from node.storage.operations.plan import Plan, Step
from node.storage.operations.volumes import NewVolume


class VolumeExists(Conflict):
    """The disk has a volume of that id, on another parent or of another size."""

    code = "volume_exists"
    remedy = "Choose a new random UUID for each volume."


def make(place: Place, request: NewVolume, parent_id: str) -> Plan:
    """Return the plan, which is empty if the leaf is there already.

    `parent_id` is the leaf until now, or the volume that a preview is built on; of
    `request` the size counts only if it is larger. Raises VolumeExists,
    NotALeaf (it is somebody's template) and ImageDamaged.
    """
    disk = place.require()
    parent = facts.meta_of(disk, parent_id)
    facts.check_usable(disk)
    if parent_id not in disk.own() or parent.role is VolumeRole.SHARED:
        raise NotALeaf(f"volume {parent_id} is a template's", volume_id=parent_id)
    wanted = replace(
        request,
        image_id=place.image_id,
        size_bytes=max(request.size_bytes, parent.capacity_bytes),
        volume_format=Format.COW,
        allocation=Allocation.SPARSE,
        description=parent.description,  # the leaf says what the disk is called
    )
    facts.check_size(place.site, wanted.size_bytes)
    sequences = [facts.meta_of(disk, each).sequence for each in disk.own()]
    meta = replace(wanted.meta(place.site, parent_id), sequence=1 + max(sequences))
    folder, volume_id = place.folder, request.volume_id
    if volume_id in disk.image.volumes:
        found = facts.meta_of(disk, volume_id)
        if (found.parent_id, found.capacity_bytes) != (parent_id, wanted.size_bytes):
            raise VolumeExists(f"volume {volume_id} exists", id=volume_id)
        return Plan()
    illegal = replace(meta, legality=Legality.ILLEGAL)
    lease_file, lease = volumes.make_lease(place.site, folder, volume_id)
    return Plan(
        (
            Step(
                "build",
                (
                    volumes.write_meta(folder, volume_id, illegal),
                    lease_file,
                    *volumes.make_data(folder, volume_id, meta, parent.volume_format),
                    lease,
                ),
                volumes.remove_volume(folder, volume_id),
            ),
            Step(
                "switch",
                (
                    volumes.write_meta(folder, volume_id, meta),
                    volumes.mark(disk, parent_id, Legality.LEGAL, VolumeRole.INTERNAL),
                ),
                (
                    volumes.rewrite(disk, parent_id),
                    volumes.write_meta(folder, volume_id, illegal),
                ),
            ),
        ),
        commit=2,
    )
