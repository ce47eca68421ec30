"""Plan what a live merge does to the metadata: before libvirt's pivot, and after it.

Pure. The guest's QEMU copies the data. If the newest volume is merged, it is marked
ILLEGAL before the pivot, and its parent LEAF only after the guest has turned to it:
in between the metadata do not tell where the newest data are. The VM's definition
does, by one rule for the node that runs the guest:

    ready    hold    pivot    definition names the parent    let go
    ────────►├───────────────────────┼──────────────────────┤
     newest: the leaf     both alike      the parent

The guest is held (paused) from before the pivot until the definition is written. So
while it names the leaf nothing was written past it, whether the pivot came or not;
and whoever finds the guest dead `settle`s by it. No wait for the manager lies between.
An inner volume is out of the chain when QEMU has rewritten the header above it.
"""

from collections.abc import Iterator
from dataclasses import replace

from node.errors import Conflict
from node.storage.formats.volume_meta import Legality, VolumeRole
from node.storage.operations import facts, merge, volumes
from node.storage.operations.facts import Disk, Place
from node.storage.operations.merge import NotMergeable
from node.storage.operations.plan import Action, Plan, Step


class StillRead(Conflict):
    """QEMU has not taken the volume out of the chain yet."""

    code = "volume_still_read"
    remedy = "Finish the guest's block job first."


def prepare(place: Place, base_id: str, top_id: str) -> Plan:
    """Return the plan before the pivot; empty for an inner volume.

    Raises VolumeMissing, IsTemplate, NotMergeable and ImageDamaged.
    """
    disk = place.require()
    _, top = merge.check_pair(disk, base_id, top_id)
    if top.role is not VolumeRole.LEAF:
        facts.check_usable(disk)
        return Plan()
    if top.legality is Legality.ILLEGAL:
        return Plan()
    facts.check_usable(disk)
    action = volumes.mark(disk, top_id, Legality.ILLEGAL)
    return Plan((Step("close", (action,), (volumes.rewrite(disk, top_id),)),), 1)


def abandon(place: Place, top_id: str) -> Plan:
    """Return the plan if the guest did not turn away from the volume."""
    disk = place.require()
    meta = facts.meta_of(disk, top_id)
    if meta.role is not VolumeRole.LEAF:
        raise NotMergeable(f"volume {top_id} is no leaf", volume_id=top_id)
    if meta.legality is Legality.LEGAL:
        return Plan()
    return Plan((Step("open", (volumes.mark(disk, top_id, Legality.LEGAL),)),))


def settle(place: Place, base_id: str, top_id: str, named_id: str) -> Plan:
    """Return the plan that ends the merge of a leaf whose guest has died.

    `named_id` is the leaf that the VM's definition names. Raises NotMergeable if it
    names neither, and as `finish` and `abandon`.
    """
    if named_id == base_id:
        return finish(place, base_id, top_id)
    if named_id == top_id:
        return abandon(place, top_id)
    raise NotMergeable(
        f"the VM names {named_id}, not {base_id} or {top_id}", volume_id=named_id
    )


def finish(place: Place, base_id: str, top_id: str) -> Plan:
    """Return the plan after the pivot; empty if the volume is gone.

    The caller has seen that the guest's block job ended well. Raises StillRead,
    IsTemplate and NotMergeable.
    """
    disk = place.require()
    facts.meta_of(disk, base_id)
    if top_id not in disk.image.volumes:
        return Plan()
    _, top = merge.check_pair(disk, base_id, top_id)
    if top.role is VolumeRole.LEAF:
        if top.legality is not Legality.ILLEGAL:
            raise StillRead(f"volume {top_id} is in use", volume_id=top_id)
        switch: tuple[Action, ...] = (_take_up(disk, base_id, top_id),)
    else:
        switch = tuple(_follow_headers(disk, base_id, top_id))
    remove = volumes.drop(place, top_id, "remove")
    return Plan((Step("switch", switch), *remove))


def _take_up(disk: Disk, base_id: str, top_id: str) -> Action:
    meta = merge.merged(disk, base_id, top_id)
    return volumes.write_meta(disk.folder, base_id, meta)


def _follow_headers(disk: Disk, base_id: str, top_id: str) -> Iterator[Action]:
    """Yield what writes down that QEMU has taken out an inner volume."""
    volumes_above = disk.image.children(top_id)
    for volume_id in volumes_above:
        if disk.image.volumes[volume_id].backing_id != base_id:
            raise StillRead(f"volume {volume_id} reads {top_id}", volume_id=top_id)
    yield volumes.mark(disk, top_id, Legality.ILLEGAL)
    for volume_id in volumes_above:
        meta = facts.meta_of(disk, volume_id)
        yield volumes.write_meta(
            disk.folder, volume_id, replace(meta, parent_id=base_id)
        )
    yield _take_up(disk, base_id, top_id)
