"""Plan the merge of a volume into the one that it is built on; no guest runs.

Pure. What the upper volume reads as does not change while its data are copied down:
a crash is finished by copying again. But the lower one holds a mixture then, so it
is ILLEGAL meanwhile, and a merge that has begun is not undone. What the storage
refuses ends it: the disk can be used, and the snapshot merged again, no more.
"""

from collections.abc import Iterator
from dataclasses import replace

from node.errors import Conflict
from node.storage.formats.volume_meta import (
    Legality,
    VolumeMeta,
    VolumeRole,
    next_generation,
)
from node.storage.operations import facts, plan, volumes
from node.storage.operations.facts import QEMU_FORMATS, Disk, IsTemplate, Place
from node.storage.operations.plan import Action, Plan, Step


class NotMergeable(Conflict):
    """Another volume is built on the lower one and would change with it."""

    code = "not_mergeable"
    remedy = "Commit or undo the preview first."


def make(place: Place, base_id: str, top_id: str) -> Plan:
    """Return the plan to merge `top_id` into its parent `base_id`.

    Raises VolumeMissing, IsTemplate, NotMergeable and ImageDamaged.
    """
    disk = place.require()
    _, top = check_pair(disk, base_id, top_id)
    facts.check_usable(disk)
    words = ("commit", "-p", "-d", "-t", "none", "-f", QEMU_FORMATS[top.volume_format])
    return Plan(
        (
            Step(
                "freeze",
                (volumes.mark(disk, base_id, Legality.ILLEGAL),),
                (volumes.rewrite(disk, base_id),),
            ),
            Step(
                "commit",
                (plan.move_data(disk.folder / base_id, *words, top_id),),
                may_refuse=True,
            ),
            *_switch(disk, base_id, top_id),
            *volumes.drop(place, top_id, "remove"),
        ),
        commit=1,
    )


def check_pair(disk: Disk, base_id: str, top_id: str) -> tuple[VolumeMeta, VolumeMeta]:
    """Return the metadata of two volumes of which one can take up the other."""
    base, top = facts.meta_of(disk, base_id), facts.meta_of(disk, top_id)
    for volume_id, meta in ((base_id, base), (top_id, top)):
        if meta.role is VolumeRole.SHARED or volume_id not in disk.own():
            raise IsTemplate(f"volume {volume_id} is a template's", volume_id=volume_id)
    if top.parent_id != base_id:
        raise NotMergeable(
            f"volume {top_id} is not built on {base_id}", volume_id=top_id
        )
    others = set(disk.image.children(base_id)) - {top_id}
    if others:
        raise NotMergeable(
            f"{', '.join(sorted(others))} is built on {base_id} too", volume_id=base_id
        )
    return base, top


def merged(disk: Disk, base_id: str, top_id: str) -> VolumeMeta:
    """Return the metadata of the lower volume when it has taken up the upper one."""
    base, top = facts.meta_of(disk, base_id), facts.meta_of(disk, top_id)
    is_leaf = top.role is VolumeRole.LEAF
    return replace(
        base,
        role=top.role,
        legality=Legality.LEGAL,
        capacity_bytes=max(base.capacity_bytes, top.capacity_bytes),
        description=(is_leaf and top.description) or base.description,
        generation=next_generation(base.generation),
    )


def _switch(disk: Disk, base_id: str, top_id: str) -> Iterator[Step]:
    """Yield the steps that take the upper volume out of its chain."""
    taken_up = volumes.write_meta(disk.folder, base_id, merged(disk, base_id, top_id))
    illegal = volumes.mark(disk, top_id, Legality.ILLEGAL)
    if not disk.image.children(top_id):
        # The lower one first: it is repaired to what was before.
        yield Step("switch", (taken_up, illegal))
        return
    yield Step("switch", (illegal, *_lift(disk, base_id, top_id)))
    # A step of its own: a guest may start then, and headers are written no more.
    yield Step("thaw", (taken_up,))


def _lift(disk: Disk, base_id: str, top_id: str) -> Iterator[Action]:
    """Yield what puts the volumes above on the lower one."""
    folder, base = disk.folder, facts.meta_of(disk, base_id)
    for volume_id in disk.image.children(top_id):
        yield plan.qemu_img(
            folder,
            *("rebase", "-u", "-t", "none", "-f", "qcow2"),
            *("-b", base_id, "-F", QEMU_FORMATS[base.volume_format], volume_id),
        )
        meta = facts.meta_of(disk, volume_id)
        yield volumes.write_meta(folder, volume_id, replace(meta, parent_id=base_id))
