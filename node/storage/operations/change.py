"""Plan changes of a disk's metadata alone: its label, or that it is a template's.

Pure. Each is one write, so a disk is either as it was or as it shall be. What becomes
a template is ILLEGAL before that: a guest that runs would go on changing it.
"""

from dataclasses import replace
from typing import Final

from node.storage.formats import disk_options, volume_meta
from node.storage.formats.disk_options import OptionsChange
from node.storage.formats.volume_meta import Legality, VolumeRole
from node.storage.operations import facts, volumes
from node.storage.operations.facts import NotALeaf, Place
from node.storage.operations.plan import Plan, Step

_AS_IT_IS: Final = OptionsChange()


def describe(
    place: Place,
    volume_id: str,
    description: str,
    change: OptionsChange = _AS_IT_IS,
) -> Plan:
    """Return the plan to change a description and options.

    See node.storage.ovf.description. Raises BadDiskQos, NotShareable.
    """
    volume_meta.check_description(description)
    meta = facts.meta_of(place.require(), volume_id)
    changed = replace(meta, description=description)
    before = place.options or disk_options.DEFAULT
    options = disk_options.changed(before, change)
    if options != before:
        disk_options.check(options, meta.volume_format)
    keep, forget = volumes.set_options(place, options)
    if changed == meta and not keep:
        return Plan()
    action = volumes.write_meta(place.folder, volume_id, changed)
    undo = volumes.write_meta(place.folder, volume_id, meta)
    return Plan((Step("record", (action, *keep), (undo, *forget)),), commit=1)


def make_template(place: Place, volume_id: str) -> Plan:
    """Return the plan to let other disks be built on this one, for good.

    Its only volume is the leaf, or a template's already. Raises NotALeaf and
    ImageDamaged.
    """
    disk = place.require()
    meta = facts.meta_of(disk, volume_id)
    if meta.role is not VolumeRole.SHARED:
        facts.leaf_of(disk, volume_id)
    if len(disk.image.volumes) != 1:
        raise NotALeaf(
            f"disk {place.image_id} has {len(disk.image.volumes)} volumes: "
            "a template's has one; copy it",
            volume_id=volume_id,
        )
    if meta.role is VolumeRole.SHARED:
        return Plan()
    shared = replace(meta, role=VolumeRole.SHARED)
    return Plan(
        (
            Step(
                "freeze",
                (volumes.mark(disk, volume_id, Legality.ILLEGAL),),
                (volumes.rewrite(disk, volume_id),),
            ),
            Step("share", (volumes.write_meta(place.folder, volume_id, shared),)),
        ),
        commit=1,
    )
