"""Plan what surrounds an upload: the disk is unusable until all of it has come.

Pure. The volume is ILLEGAL from before the first byte, so no guest starts with a
mixture, whoever dies meanwhile. What comes is written by qemu-nbd, between the two
plans. As guests see it (`raw`), it goes through the volume's format; a qcow2 file
comes as it is, so its volume is emptied, and looked at before it is believed.
Sizes are bytes.
"""

from typing import Final

from node.errors import Conflict, Unsupported
from node.storage.disks import chain
from node.storage.disks.chain import ImageDamaged
from node.storage.disks.chain_problems import Kind
from node.storage.formats.volume_meta import Allocation, Format, Legality, VolumeRole
from node.storage.operations import facts, plan, volumes
from node.storage.operations.facts import Disk, IsTemplate, NotALeaf, Place
from node.storage.operations.plan import Plan, Step


class DiskHasSnapshots(Conflict):
    """Snapshots would lie under what comes, and mean nothing."""

    code = "upload_over_snapshots"
    remedy = "Upload to a new disk, or delete the snapshots first."


class FileNotFitting(Unsupported):
    """A qcow2 file is a whole disk's, and can only be the data of such a one."""

    code = "transfer_format_unsupported"
    remedy = "Transfer it as raw: it is turned into the disk's own format."


# Upload again, and it is whole: that is what these say.
_UNFINISHED: Final = frozenset(
    {Kind.ILLEGAL_ALONE, Kind.ILLEGAL_LEAF, Kind.LEASE_MISSING}
)
# What a file may be that is emptied first.
_EMPTIED: Final = frozenset({Kind.NOT_QCOW2, Kind.FOREIGN_BACKING, Kind.BACKING_LOST})


def check(place: Place, volume_id: str, *, is_file: bool) -> Disk:
    """Return a disk that may be overwritten.

    Raises DiskHasSnapshots, IsTemplate, NotALeaf, FileNotFitting, ImageDamaged.
    """
    disk = place.require()
    meta = facts.meta_of(disk, volume_id)
    if meta.role is VolumeRole.SHARED:
        raise IsTemplate(f"volume {volume_id} is a template's", volume_id=volume_id)
    if len(disk.own()) != 1:
        raise DiskHasSnapshots(
            f"disk {disk.image_id} has {len(disk.own())} volumes", id=disk.image_id
        )
    if meta.role is not VolumeRole.LEAF or disk.image.readers(volume_id):
        raise NotALeaf(f"volume {volume_id} is no leaf", volume_id=volume_id)
    if is_file:
        check_file(disk, volume_id)
    _check_well(disk, _UNFINISHED | _EMPTIED if is_file else _UNFINISHED)
    return disk


def check_file(disk: Disk, volume_id: str) -> None:
    """Refuse a volume whose file is no whole qcow2 disk; FileNotFitting."""
    meta = facts.meta_of(disk, volume_id)
    if meta.volume_format is not Format.COW or meta.parent_id is not None:
        raise FileNotFitting(
            f"disk {disk.image_id} is raw or built on another one", id=disk.image_id
        )
    if meta.allocation is not Allocation.SPARSE:
        raise FileNotFitting(f"disk {disk.image_id} is preallocated", id=disk.image_id)


def begin(place: Place, volume_id: str, file_bytes: int | None) -> Plan:
    """Return the plan after which data may come.

    `file_bytes`: a qcow2 file of at most that size comes; None: what guests see.
    """
    disk = check(place, volume_id, is_file=file_bytes is not None)
    illegal = volumes.mark(disk, volume_id, Legality.ILLEGAL)
    steps = [Step("close", (illegal,), (volumes.rewrite(disk, volume_id),))]
    if file_bytes is not None:
        words = ("resize", "-q", "-f", "raw", volume_id, file_bytes)
        empty = volumes.make_empty(place.folder / volume_id)
        steps.append(Step("empty", (empty, plan.qemu_img(place.folder, *words))))
    elif facts.meta_of(disk, volume_id).legality is Legality.ILLEGAL:
        return Plan()
    return Plan(tuple(steps), commit=1)


def end(place: Place, volume_id: str) -> Plan:
    """Return the plan after which guests may start with what came; ImageDamaged."""
    disk = place.require()
    meta = facts.meta_of(disk, volume_id)
    _check_well(disk, _UNFINISHED)
    if meta.legality is Legality.LEGAL:
        return Plan()
    legal = volumes.mark(disk, volume_id, Legality.LEGAL)
    undo = volumes.rewrite(disk, volume_id)
    return Plan((Step("open", (legal,), (undo,)),), commit=1)


def _check_well(disk: Disk, accepted: frozenset[Kind]) -> None:
    for problem in chain.examine(disk.image):
        if problem.kind not in accepted:
            raise ImageDamaged(
                f"disk {disk.image_id}, volume {problem.volume_id or '(none)'}: "
                f"{problem.explanation}",
                image_id=disk.image_id,
                problem=problem.kind,
            )
