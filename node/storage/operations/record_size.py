"""Plan to write down that a disk has grown under the guest that runs with it.

Pure. QEMU has made the volume larger already: only its metadata follow. Until then
they say too little, which harms nobody but who would copy the disk.
"""

from dataclasses import replace

from node.storage.formats.volume_meta import VolumeRole, next_generation
from node.storage.operations import facts, volumes
from node.storage.operations.facts import NotALeaf, Place
from node.storage.operations.plan import Plan, Step


def make(place: Place, volume_id: str, size_bytes: int) -> Plan:
    """Return the plan, which is empty if the metadata say so much already.

    `volume_id` is the leaf. Raises BadSize, NotALeaf, DiskMissing.
    """
    facts.check_size(place.site, size_bytes)
    meta = facts.meta_of(place.require(), volume_id)
    if meta.role is not VolumeRole.LEAF:
        raise NotALeaf(f"volume {volume_id} is no leaf", volume_id=volume_id)
    if size_bytes <= meta.capacity_bytes:
        return Plan()
    grown = replace(
        meta,
        capacity_bytes=size_bytes,
        generation=next_generation(meta.generation),
    )
    return Plan(
        (Step("record", (volumes.write_meta(place.folder, volume_id, grown),)),)
    )
