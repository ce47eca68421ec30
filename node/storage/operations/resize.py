"""Plan the growth of a disk that no guest uses; disks never shrink.

Pure. The leaf is ILLEGAL meanwhile, so that no guest runs when a crash in it is
finished. What the storage refuses leaves the disk as it was.
"""

from dataclasses import replace

from node.errors import Invalid
from node.storage.formats.volume_meta import (
    Allocation,
    Format,
    Legality,
    VolumeMeta,
    next_generation,
)
from node.storage.operations import facts, plan, volumes
from node.storage.operations.facts import QEMU_FORMATS, Place
from node.storage.operations.plan import Action, Plan, Step


class DiskShrinks(Invalid):
    code = "disk_shrinks"
    remedy = "Disks only grow; copy the data to a smaller disk."


def make(place: Place, volume_id: str, size_bytes: int) -> Plan:
    """Return the plan, which is empty if the disk is as large already.

    `volume_id` is the leaf. Raises BadSize, DiskShrinks, NotALeaf, ImageDamaged.
    """
    facts.check_size(place.site, size_bytes)
    disk = place.require()
    meta = facts.leaf_of(disk, volume_id)
    if size_bytes < meta.capacity_bytes:
        raise DiskShrinks(
            f"disk {place.image_id} has {meta.capacity_bytes} bytes",
            size_bytes=meta.capacity_bytes,
        )
    if size_bytes == meta.capacity_bytes:
        return Plan()
    grown = replace(
        meta,
        capacity_bytes=size_bytes,
        generation=next_generation(meta.generation),
    )
    return Plan(
        (
            Step(
                "freeze",
                (volumes.mark(disk, volume_id, Legality.ILLEGAL),),
                (volumes.rewrite(disk, volume_id),),
            ),
            Step(
                "grow",
                (_grow(place, volume_id, meta, size_bytes),),
                may_refuse=True,
            ),
            Step("thaw", (volumes.write_meta(place.folder, volume_id, grown),)),
        ),
        commit=1,
    )


def _grow(place: Place, volume_id: str, meta: VolumeMeta, size_bytes: int) -> Action:
    """Return what grows the file; asked for twice it does not complain.

    qemu-img would of a preallocated one. What a qcow2 file grows by is thin.
    """
    if (meta.volume_format, meta.allocation) == (Format.RAW, Allocation.PREALLOCATED):
        return plan.allocate(place.folder / volume_id, size_bytes)
    # `resize` takes no -t: direct I/O is an option of the image (see volumes.DIRECT).
    image = ",".join(
        (
            f"driver={QEMU_FORMATS[meta.volume_format]}",
            "file.driver=file",
            f"file.filename={volume_id}",
            "cache.direct=on",
        )
    )
    words = ("resize", "-q", "--image-opts", image, size_bytes)
    return plan.qemu_img(place.folder, *words)
