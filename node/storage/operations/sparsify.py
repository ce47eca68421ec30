"""Plan to give back what a disk's leaf holds of zeros; no guest runs.

Pure. The leaf is copied beside itself without its zeros, then takes its place. It is
ILLEGAL meanwhile, so that nobody writes to what will go.
"""

from dataclasses import replace

from node.errors import Conflict
from node.storage.formats.volume_meta import (
    Allocation,
    Format,
    Legality,
    VolumeMeta,
    next_generation,
)
from node.storage.operations import facts, plan, volumes
from node.storage.operations.facts import QEMU_FORMATS, Disk, Place
from node.storage.operations.plan import Action, Plan, Step
from node.storage.operations.volumes import DIRECT


class IsPreallocated(Conflict):
    code = "disk_is_preallocated"
    remedy = "Copy the disk to a thin one."


def make(place: Place, volume_id: str, *, is_wiped: bool = False) -> Plan:
    """Return the plan to sparsify the leaf.

    Raises NotALeaf, IsTemplate, IsPreallocated, DiskGoing and ImageDamaged.
    """
    disk = place.require()
    meta = facts.leaf_of(disk, volume_id)
    if meta.allocation is Allocation.PREALLOCATED:
        raise IsPreallocated(f"volume {volume_id} is preallocated", id=place.image_id)
    volume = place.folder / volume_id
    new = volumes.beside(place.folder, volume_id)
    old = place.workshop / volume_id
    done = replace(meta, generation=next_generation(meta.generation))
    is_only_name = disk.image.volumes[volume_id].links == 1
    wipes = (Step("wipe", (plan.wipe(old),)),) if is_wiped and is_only_name else ()
    return Plan(
        (
            Step(
                "freeze",
                (volumes.mark(disk, volume_id, Legality.ILLEGAL),),
                (volumes.rewrite(disk, volume_id),),
            ),
            Step(
                "convert",
                (volumes.make_empty(new), _convert(disk, volume_id, meta, new.name)),
                (plan.remove(new), plan.remove(new.with_name(f"{new.name}.new"))),
            ),
            Step(
                "retire", (plan.make_folder(place.workshop), plan.rename(volume, old))
            ),
            Step("publish", (plan.rename(new, volume),)),
            Step("thaw", (volumes.write_meta(place.folder, volume_id, done),)),
            *wipes,
            Step("purge", (plan.remove_tree(place.workshop),)),
        ),
        commit=2,
    )


def _convert(disk: Disk, volume_id: str, meta: VolumeMeta, new: str) -> Action:
    words = ["convert", "-p", *DIRECT, "-f", QEMU_FORMATS[meta.volume_format]]
    words += ["-O", QEMU_FORMATS[meta.volume_format], *volumes.options(meta)]
    if meta.volume_format is Format.COW and meta.parent_id is not None:
        parent = facts.meta_of(disk, meta.parent_id)
        words += ["-B", meta.parent_id, "-F", QEMU_FORMATS[parent.volume_format]]
    return plan.move_data(disk.folder / volume_id, *words, volume_id, new)
