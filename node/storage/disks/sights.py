"""Say in short what lies on a storage domain: its images, as they were seen.

Pure; `catalog` looks and keeps. A sight holds what documents tell of an image and
what repairs need, no more: thousands are kept in memory. Sizes are bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from node.errors import Error
from node.model.storage import Allocation, ContentType, DiskFormat
from node.storage.disks import chain
from node.storage.disks.chain import Image, ImageDamaged
from node.storage.disks.chain_problems import Problem, Step
from node.storage.formats import disk_options, volume_meta
from node.storage.formats.disk_options import DiskOptions
from node.storage.operations.facts import Disk
from node.storage.ovf import description
from node.storage.ovf.description import DiskLabel

# What is kept of an image that somebody filled with nonsense.
PROBLEMS_MAX: Final = 20
UNREADABLE: Final = "image_unreadable"
# NFS 3 may tell whole seconds: two changes within one bear the same time.
SETTLE_S: Final = 3.0

FORMATS: Final = {
    volume_meta.Format.RAW: DiskFormat.RAW,
    volume_meta.Format.COW: DiskFormat.QCOW2,
}
ALLOCATIONS: Final = {
    volume_meta.Allocation.SPARSE: Allocation.THIN,
    volume_meta.Allocation.PREALLOCATED: Allocation.PREALLOCATED,
}
# oVirt's words; any other, as the old `2`, is data.
_CONTENTS: Final = {
    "ISOF": ContentType.ISO,
    "MEMD": ContentType.MEMORY_DUMP,
    "MEMM": ContentType.MEMORY_METADATA,
    "OVFS": ContentType.OVF_STORE,
    "HEVD": ContentType.HOSTED_ENGINE,
    "HESD": ContentType.HOSTED_ENGINE_SANLOCK,
    "HEMD": ContentType.HOSTED_ENGINE_METADATA,
    "HECI": ContentType.HOSTED_ENGINE_CONFIGURATION,
    "SCRD": ContentType.BACKUP_SCRATCH,
}


@dataclass(frozen=True, slots=True)
class ImageSight:
    """One image as it was read."""

    storage_domain_id: str
    image_id: str
    modified_at: float  # of its folder, by the storage's clock
    seen_at: float = 0.0  # when that time was seen first, by ours, which only grows
    read_at: float = 0.0
    name: str = ""
    description: str = ""
    size_bytes: int = 0  # virtual, of the leaf
    allocated_bytes: int = 0  # of its own volumes
    disk_format: DiskFormat = DiskFormat.RAW  # of the leaf
    allocation: Allocation = Allocation.THIN
    content: ContentType = ContentType.DATA
    volumes: tuple[str, ...] = ()  # its own, base to leaf; none: there is no chain
    template: str | None = None  # the template's volume that it is built on
    is_template: bool = False
    options: DiskOptions = disk_options.DEFAULT
    problems: tuple[Problem, ...] = ()
    error: str = ""  # why it could not be read

    @property
    def is_well(self) -> bool:
        return not self.problems and not self.error

    @property
    def is_settled(self) -> bool:
        """Whether no change of the folder can hide behind the time that it bears."""
        return self.read_at - self.seen_at >= SETTLE_S


@dataclass(frozen=True, slots=True)
class DomainSight:
    """All images of a storage domain, at the end of a reading."""

    storage_domain_id: str
    images: Mapping[str, ImageSight] = field(default_factory=dict)
    foreign: int = 0  # names among the images that are none
    passed_over: int = 0  # images that are too many
    is_whole: bool = True  # False: single images were read, and never all

    def templates(self) -> dict[str, str]:
        """Return the templates' volumes, and the image that each lies in."""
        return {
            each.volumes[-1]: each.image_id
            for each in self.images.values()
            if each.is_template and each.volumes
        }

    def users(self, image_id: str) -> tuple[str, ...]:
        """Return the images that are built on a template's, sorted."""
        sight = self.images.get(image_id)
        if sight is None or not sight.is_template or not sight.volumes:
            return ()
        volume_id = sight.volumes[-1]
        return tuple(
            sorted(
                each.image_id
                for each in self.images.values()
                if each.template == volume_id
            )
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of one image, why it is one, and what would mend it."""

    storage_domain_id: str
    image_id: str
    kind: str  # of chain_problems.Kind, or UNREADABLE
    volume_id: str  # "": the image
    other: str
    explanation: str
    repair: tuple[Step, ...] = ()  # none: a person has to decide


def summarise(
    disk: Disk,
    allocated: Mapping[str, int],
    modified_at: float,
    templates: Mapping[str, str],
) -> ImageSight:
    """Return what counts of an image.

    `allocated` is what each volume's data take; a template's are not the image's own.
    """
    image = replace(disk.image, templates=templates)
    sight = ImageSight(
        image.storage_domain_id,
        image.image_id,
        modified_at,
        allocated_bytes=sum(allocated.get(each, 0) for each in disk.own()),
        problems=chain.examine(image)[:PROBLEMS_MAX],
    )
    leaf_id = _leaf(image)
    meta = image.volumes[leaf_id].meta if leaf_id is not None else None
    if leaf_id is None or meta is None:
        return sight
    own = set(disk.own())
    volumes = _chain(image, leaf_id)
    base = next((each for each in volumes if each not in own), None)
    label = description.read(
        _described(image, (each for each in volumes if each in own))
    )
    name, text = (
        (label.name, label.description)
        if isinstance(label, DiskLabel)
        else (description.OVF_STORE, "")
    )
    return replace(
        sight,
        name=name,
        description=text,
        size_bytes=meta.capacity_bytes,
        disk_format=FORMATS[meta.volume_format],
        allocation=ALLOCATIONS[meta.allocation],
        content=_CONTENTS.get(meta.disk_type, ContentType.DATA),
        volumes=tuple(each for each in reversed(volumes) if each in own),
        template=base,
        is_template=leaf_id in own and image.volumes[leaf_id].is_template,
    )


def unreadable(
    storage_domain_id: str, image_id: str, modified_at: float, error: Error
) -> ImageSight:
    """Return the sight of an image that could not be read."""
    return ImageSight(storage_domain_id, image_id, modified_at, error=str(error))


def findings(sight: ImageSight) -> tuple[Finding, ...]:
    """Return what is wrong with an image, in the order in which to mend it."""
    where = (sight.storage_domain_id, sight.image_id)
    if sight.error:
        return (Finding(*where, UNREADABLE, "", "", sight.error),)
    return tuple(
        Finding(
            *where,
            each.kind,
            each.volume_id,
            each.other,
            each.explanation,
            each.repair,
        )
        for each in sight.problems
    )


def _described(image: Image, volumes: Iterable[str]) -> str:
    """Return the newest description of a chain: leaves of snapshots may have none."""
    metas = (image.volumes[each].meta for each in volumes)
    return next((each.description for each in metas if each and each.description), "")


def _leaf(image: Image) -> str | None:
    """Return the volume that stands for the disk: usable, wanted, and the newest."""

    def rank(volume_id: str) -> tuple[bool, bool, int, str]:
        volume = image.volumes[volume_id]
        sequence = volume.meta.sequence if volume.meta is not None else -1
        return volume.is_legal, volume_id in image.wanted, sequence, volume_id

    return max(chain.leaves(image), key=rank, default=None)


def _chain(image: Image, leaf_id: str) -> Sequence[str]:
    """Return the chain, leaf to base; nothing if it is broken, which `examine` says."""
    try:
        return chain.walk(image, leaf_id)
    except ImageDamaged:
        return ()
