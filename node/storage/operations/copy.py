"""Plan the copy of a disk's state to a new disk of one volume.

Pure. The copy holds what a guest would read, so it stands without the original's
snapshots and template. A leaf is ILLEGAL while it is copied: a guest that started
would tear the copy. qemu-img reads formats from our metadata and headers only. What
comes from an export storage domain is left as it is, and may be larger than it says:
the copy is made first, with the size that was told, and only filled then.
"""

from dataclasses import dataclass, replace

from node.storage.formats.disk_options import DiskOptions
from node.storage.formats.volume_meta import Allocation, Format, Legality, VolumeRole
from node.storage.operations import create, facts, plan, volumes
from node.storage.operations.create import check_same
from node.storage.operations.facts import QEMU_FORMATS, Disk, Place
from node.storage.operations.plan import Action, Plan, Step
from node.storage.operations.volumes import DIRECT, NewVolume


@dataclass(frozen=True, slots=True)
class CopyOf:
    """A new disk; what is not said is as in the original."""

    image_id: str
    volume_id: str
    created_at_s: int
    volume_format: Format | None = None
    allocation: Allocation | None = None
    description: str | None = None
    is_template: bool = False


def make(
    source: Disk,
    volume_id: str,
    place: Place,
    request: CopyOf,
    options: DiskOptions | None = None,
) -> Plan:
    """Return the plan, which is empty if the copy is there already.

    `volume_id` is the state to copy: the leaf, or that of a snapshot or template;
    `options` are the original's.
    Raises VolumeMissing, ImageDamaged, DiskExists and DiskGoing.
    """
    original = facts.meta_of(source, volume_id)
    facts.check_usable(source)
    facts.check_size(place.site, original.capacity_bytes)
    wanted = NewVolume(
        request.image_id,
        request.volume_id,
        original.capacity_bytes,
        request.volume_format or original.volume_format,
        request.allocation or original.allocation,
        request.created_at_s,
        original.description if request.description is None else request.description,
        original.disk_type,
    )
    role = VolumeRole.SHARED if request.is_template else VolumeRole.LEAF
    meta = replace(wanted.meta(place.site), role=role)
    if place.disk is not None:
        check_same(place.disk, request.volume_id, meta)
        return Plan()
    place.check_remains()
    is_import, is_export = not source.site.has_leases, not place.site.has_leases
    words = ["convert", "-p", *DIRECT]
    words += ["-f", QEMU_FORMATS[original.volume_format]]
    words += ["-O", QEMU_FORMATS[meta.volume_format]]
    words += ["-n", "--target-is-zero"] if is_import else volumes.options(meta)
    words += [str(source.folder / volume_id), request.volume_id]
    folder = place.workshop
    target = folder / request.volume_id
    empty: tuple[Action, ...] = (volumes.make_empty(target),)
    if is_import:
        empty = volumes.make_data(folder, request.volume_id, meta, None)
    # Without a lease on what is written, or read, nobody else may do it.
    moved = plan.qemu_img(folder, *words) if is_import or is_export else None
    made = create.publish(
        place,
        (
            *create.outfit(place, request.volume_id, meta),
            *empty,
            moved or plan.move_data(target, *words),
        ),
        None if is_export else _fitting(options, meta.volume_format),
    )
    if is_import or original.role is not VolumeRole.LEAF:
        return made
    thaw = (volumes.rewrite(source, volume_id),)
    freeze = Step("freeze", (volumes.mark(source, volume_id, Legality.ILLEGAL),), thaw)
    return Plan((freeze, *made.steps, Step("thaw", thaw)), commit=made.commit + 1)


def _fitting(options: DiskOptions | None, volume_format: Format) -> DiskOptions | None:
    """Return the options of a copy: only a raw disk may be shared."""
    if options is None or volume_format is Format.RAW:
        return options
    return replace(options, is_shared=False)
