"""Name what can be wrong with the volumes of an image, and what mends it.

Pure: words and tables only; `chain` finds the problems. A problem without a repair
needs a person, and its explanation says why. Source: docs/formats/storage-domain.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from node.storage.formats.volume_meta import Legality, VolumeRole


class Kind(StrEnum):
    """What can be wrong with an image."""

    REMAINS = "remains"
    OPTIONS_LEFT = "options_left"
    OPTIONS_DAMAGED = "options_damaged"
    NO_VOLUMES = "no_volumes"
    WANTED_MISSING = "wanted_missing"
    META_MISSING = "meta_missing"
    META_DAMAGED = "meta_damaged"
    DATA_MISSING = "data_missing"
    UNFINISHED_CREATION = "unfinished_creation"
    LEASE_MISSING = "lease_missing"
    LEASE_ALONE = "lease_alone"
    WRONG_DOMAIN = "wrong_domain"
    WRONG_IMAGE = "wrong_image"
    TEMPLATE_NOT_LINKED = "template_not_linked"
    TEMPLATE_MISSING = "template_missing"
    PARENT_MISSING = "parent_missing"
    CYCLE = "cycle"
    RAW_WITH_PARENT = "raw_with_parent"
    NOT_QCOW2 = "not_qcow2"
    FOREIGN_BACKING = "foreign_backing"
    BACKING_GONE = "backing_gone"
    BACKING_LOST = "backing_lost"
    BACKING_DIFFERS = "backing_differs"
    MERGE_NOT_RECORDED = "merge_not_recorded"
    MERGED_VOLUME_LEFT = "merged_volume_left"
    ILLEGAL_BUT_READ = "illegal_but_read"
    ILLEGAL_LEAF = "illegal_leaf"
    ILLEGAL_ALONE = "illegal_alone"
    TWO_LEAVES = "two_leaves"
    LEAF_NOT_MARKED = "leaf_not_marked"
    PARENT_NOT_MARKED = "parent_not_marked"


class Verb(StrEnum):
    """What one step of a repair does to a volume."""

    SET_PARENT = "set_parent"  # in the metadata, to `parent_id`
    SET_ROLE = "set_role"  # to `role`
    SET_LEGALITY = "set_legality"  # to `legality`
    MAKE_LEASE = "make_lease"
    REMOVE_LEASE = "remove_lease"
    REMOVE_VOLUME = "remove_volume"  # data, lease, then meta
    LINK_TEMPLATE = "link_template"  # data, meta and lease, from its own image
    REMOVE_IMAGE = "remove_image"  # its empty folder
    PURGE_REMAINS = "purge_remains"  # the folder `_remove_me_` of the image
    FORGET_OPTIONS = "forget_options"  # the file in `dom_md/skerry/disks`


@dataclass(frozen=True, slots=True)
class Step:
    verb: Verb
    volume_id: str = ""
    parent_id: str = ""  # of SET_PARENT
    image_id: str = ""  # of LINK_TEMPLATE: where the template lies
    role: VolumeRole | None = None
    legality: Legality | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    kind: Kind
    volume_id: str = ""  # "": the image
    other: str = ""  # the volume, image or name that it is about
    repair: tuple[Step, ...] = ()  # in this order; none: a person has to decide

    @property
    def explanation(self) -> str:
        """What is the matter, and why the repair is safe, or not ours to make."""
        return EXPLANATIONS[self.kind]


EXPLANATIONS: Final[Mapping[Kind, str]] = {
    Kind.REMAINS: (
        "A disk that was removed, or never finished, and no journal says that it is "
        "still worked on. If the image itself is whole or gone, purging what is left "
        "loses nothing; else mend the image first: its data may lie there."
    ),
    Kind.OPTIONS_LEFT: (
        "Options are kept for a disk that is not on this storage domain, and no "
        "journal says that one comes or goes. They hold no data: removing them loses "
        "nothing."
    ),
    Kind.OPTIONS_DAMAGED: (
        "The file that says whether the disk is shared, wiped when it is deleted, and "
        "limited cannot be read; until it is written anew the disk counts as one to "
        "wipe. Change the disk's options: only a person knows what they were."
    ),
    Kind.NO_VOLUMES: (
        "The image's folder has no volume. If no VM names the disk, removing the "
        "folder loses nothing; else restore the disk from a backup."
    ),
    Kind.WANTED_MISSING: (
        "A VM names this volume, and none of its files is there. Restore it from a "
        "backup, or detach the disk from the VM."
    ),
    Kind.META_MISSING: (
        "There is data without metadata: an unfinished creation, or the newest data "
        "of a disk whose metadata was lost. Only a person can tell: compare with a "
        "backup, then restore the metadata or remove the file."
    ),
    Kind.META_DAMAGED: (
        "The metadata cannot be read, so nothing is known that could be put in its "
        "place. Restore the file from a backup."
    ),
    Kind.DATA_MISSING: (
        "The metadata call the volume usable, or others need it, and its data are "
        "gone. Restore the file from a backup: a repair would hide the loss."
    ),
    Kind.UNFINISHED_CREATION: (
        "The volume was never usable, has no data, and nothing needs it: a creation "
        "or a removal was interrupted. Removing what is left loses nothing."
    ),
    Kind.LEASE_MISSING: (
        "The volume has no lease file. A lease holds no data: it is made anew."
    ),
    Kind.LEASE_ALONE: (
        "There is a lease without a volume. It holds no data; if nothing needs the "
        "volume it is removed, else restore the volume from a backup."
    ),
    Kind.WRONG_DOMAIN: (
        "The volume says that it belongs to another storage domain. The file or the "
        "whole storage domain was copied by hand, and the original may be in use "
        "elsewhere. Remove the copy, or import the original."
    ),
    Kind.WRONG_IMAGE: (
        "The volume says that it belongs to another image and is no template. It was "
        "moved or copied by hand. Put it back where it came from."
    ),
    Kind.TEMPLATE_NOT_LINKED: (
        "The template's volume is a copy here, no hard link to the template. The "
        "disk can be read, but the template may have changed since. Compare the two, "
        "then link the template by hand."
    ),
    Kind.TEMPLATE_MISSING: (
        "The disk is built on a template that is on this storage domain, but the "
        "link to it is gone. Linking it again changes no data."
    ),
    Kind.PARENT_MISSING: (
        "The metadata name a parent that is not there, and what QEMU would read is "
        "not known. Restore the parent from a backup."
    ),
    Kind.CYCLE: (
        "By the metadata the volumes are built on one another in a ring. Where the "
        "qcow2 headers say otherwise, the repair of that comes first; if they form "
        "the ring too, restore the image from a backup."
    ),
    Kind.RAW_WITH_PARENT: (
        "A raw volume cannot be built on another, so its metadata name the wrong "
        "format or the wrong parent. Restore the metadata from a backup: a wrong "
        "guess would let a guest choose which file the host opens."
    ),
    Kind.NOT_QCOW2: (
        "The metadata call the volume qcow2, and its data are not. They were "
        "overwritten or never written. Restore the volume from a backup."
    ),
    Kind.FOREIGN_BACKING: (
        "The qcow2 header names a file that is no volume of this image: QEMU must "
        "not open it. Find out who wrote that, and restore the volume."
    ),
    Kind.BACKING_GONE: (
        "QEMU would read a volume that is not there. Restore it from a backup."
    ),
    Kind.BACKING_LOST: (
        "The metadata name a parent, and the qcow2 header none. Either all data were "
        "copied into the volume, or its header is damaged and reads as zeros what "
        "lies in the parent. Compare with a backup."
    ),
    Kind.BACKING_DIFFERS: (
        "The qcow2 header names another volume of the image than the metadata do. "
        "QEMU reads by the header, so the metadata follow it: what guests see stays."
    ),
    Kind.MERGE_NOT_RECORDED: (
        "A merge was finished in the data and not in the metadata: the header names "
        "the grandparent already, which is written only when it has all data. The "
        "metadata follow, and the merged volume is marked as unusable."
    ),
    Kind.MERGED_VOLUME_LEFT: (
        "An unusable volume that nothing reads, while the disk is whole without it: "
        "what is left of a merge or a removal. Removing it loses nothing."
    ),
    Kind.ILLEGAL_BUT_READ: (
        "An unusable volume that others are built on. If the header of a usable one "
        "names it, a merge stopped before it was taken out, its data are intact, and "
        "it is marked as usable. Else nothing tells whether its data are whole: "
        "compare with a backup."
    ),
    Kind.ILLEGAL_LEAF: (
        "A live merge of the active layer was interrupted around its pivot. Before "
        "it the newest data are in this leaf, after it in its parent; what was "
        "written last to the wrong one is lost. Our own merges have a journal that "
        "tells. Else compare when the two files changed last, copy both, and choose."
    ),
    Kind.ILLEGAL_ALONE: (
        "The volume was never finished (an upload, copy or restore), or a person "
        "marked it. Nothing tells whether its data are whole: make it again, or "
        "remove the disk."
    ),
    Kind.TWO_LEAVES: (
        "The image has several leaves, and no VM names this one: a preview that was "
        "not ended, or new data of a disk that was interrupted between two steps. "
        "Attach it to a VM to look, then commit or remove it."
    ),
    Kind.LEAF_NOT_MARKED: (
        "Nothing is built on the volume, and it is not marked as a leaf: a snapshot "
        "was not finished, or a removal not recorded. If it is the only leaf or a VM "
        "names it, it becomes the leaf again; its data do not change."
    ),
    Kind.PARENT_NOT_MARKED: (
        "Others are built on the volume, and it is marked as a leaf. It becomes "
        "internal, so that nobody writes to it; its data do not change."
    ),
}
