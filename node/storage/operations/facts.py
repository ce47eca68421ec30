"""Say what operations on disks are planned from: what lies where.

Pure; `node.storage.domains.file` looks. Sizes are bytes, times seconds since 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from node.errors import Busy, Conflict, Invalid, NotFound
from node.storage.disks import chain
from node.storage.disks.chain import ImageDamaged
from node.storage.formats.disk_options import DiskOptions
from node.storage.formats.layout import Layout
from node.storage.formats.volume_meta import Format, VolumeMeta, VolumeRole
from node.units import MiB

SECTOR_BYTES: Final = 512
# Where qcow2 ends with clusters of 64 KiB: 32 MiB of pointers to its tables.
SIZE_MAX: Final = 1 << 51
QEMU_FORMATS: Final = {Format.RAW: "raw", Format.COW: "qcow2"}


class BadSize(Invalid):
    """A disk cannot have that size."""

    code = "bad_disk_size"
    remedy = "Choose a positive multiple of the sector, at most 2 PiB."


class DiskMissing(NotFound):
    code = "disk_missing"
    remedy = "Check the disk's id and its storage domain."


class VolumeMissing(NotFound):
    code = "volume_missing"
    remedy = "Look at the disk's chain: the volume may have been merged already."


class DiskExists(Conflict):
    """Another disk has that id."""

    code = "disk_exists"
    remedy = "Choose a new random UUID for each disk."


class DiskGoing(Busy):
    """What had that id is still being removed."""

    code = "disk_going"
    remedy = "Wait until the removal has ended, or choose another id."


class NotATemplate(Conflict):
    """A disk can be built on a template's only volume, on the same storage domain."""

    code = "not_a_template"
    remedy = "Make a template of the disk first, or copy it to this storage domain."


class NotALeaf(Conflict):
    """The volume is not the one that guests write to."""

    code = "not_a_leaf"
    remedy = "Name the disk's newest volume."


class IsTemplate(Conflict):
    """Others may be built on the volume: it never changes."""

    code = "disk_of_template"
    remedy = "Work on a copy of the disk."


@dataclass(frozen=True, slots=True)
class Site:
    """A storage domain, as far as the making of files there depends on it."""

    storage_domain_id: str
    sector_bytes: int = SECTOR_BYTES
    alignment_bytes: int = MiB  # of a lease
    # Export storage domains have none; metadata there count sizes in blocks.
    has_leases: bool = True

    @property
    def layout(self) -> Layout:
        """The paths of a plan: see `plan`."""
        return Layout(PurePosixPath("/", self.storage_domain_id))


@dataclass(frozen=True, slots=True)
class Disk:
    """An image as it was seen, with all its volumes."""

    site: Site
    image: chain.Image
    # What a qcow2 header says of its backing's format; None: nothing.
    backing_formats: Mapping[str, str | None]

    @property
    def image_id(self) -> str:
        return self.image.image_id

    @property
    def folder(self) -> PurePosixPath:
        return self.site.layout.image(self.image_id)

    def own(self) -> tuple[str, ...]:
        """Return its volumes without the template's that are linked into it."""
        return tuple(
            volume_id
            for volume_id, volume in sorted(self.image.volumes.items())
            if volume.meta is None or volume.meta.image_id == self.image_id
        )

    def linked(self) -> tuple[str, ...]:
        """Return the template's volumes that are linked into it."""
        return tuple(sorted(set(self.image.volumes) - set(self.own())))


@dataclass(frozen=True, slots=True)
class Place:
    """What is where an image lies or shall lie."""

    site: Site
    image_id: str
    disk: Disk | None = None  # None: nothing
    has_remains: bool = False  # of one that is being removed, or made
    options: DiskOptions | None = None  # None: there is no file, they are the default

    @property
    def folder(self) -> PurePosixPath:
        return self.site.layout.image(self.image_id)

    @property
    def workshop(self) -> PurePosixPath:
        """The folder that oVirt passes over: what is made or removed lies there."""
        return self.site.layout.removed_image(self.image_id)

    def require(self) -> Disk:
        """Return the disk there; DiskMissing, or DiskGoing."""
        if self.disk is None:
            raise DiskMissing(f"disk {self.image_id} is not there", id=self.image_id)
        self.check_remains()
        return self.disk

    def check_remains(self) -> None:
        """Refuse to work where a removal is under way."""
        if self.has_remains:
            raise DiskGoing(f"disk {self.image_id} is being removed", id=self.image_id)


def check_size(site: Site, size_bytes: int) -> None:
    """Refuse a size that no disk there can have."""
    if not 0 < size_bytes <= SIZE_MAX or size_bytes % site.sector_bytes:
        raise BadSize(
            f"a disk cannot have {size_bytes} bytes",
            size_bytes=str(size_bytes),
            sector_bytes=site.sector_bytes,
        )


def meta_of(disk: Disk, volume_id: str) -> VolumeMeta:
    """Return a volume's metadata; VolumeMissing, or ImageDamaged."""
    volume = disk.image.volumes.get(volume_id)
    if volume is None:
        raise VolumeMissing(
            f"disk {disk.image_id} has no volume {volume_id}",
            image_id=disk.image_id,
            volume_id=volume_id,
        )
    if volume.meta is None:
        raise ImageDamaged(
            f"volume {volume_id} of disk {disk.image_id} has no readable metadata",
            image_id=disk.image_id,
            volume_id=volume_id,
        )
    return volume.meta


def check_usable(disk: Disk) -> None:
    """Refuse a disk that QEMU must not open: ImageDamaged."""
    problems = chain.examine(disk.image)
    if problems:
        raise ImageDamaged(
            f"disk {disk.image_id}, volume {problems[0].volume_id or '(none)'}: "
            f"{problems[0].explanation}",
            image_id=disk.image_id,
            problem=problems[0].kind,
        )
    for volume_id in sorted(disk.image.volumes):
        parent_id = disk.image.volumes[volume_id].parent_id
        if parent_id is None:
            continue
        parent = meta_of(disk, parent_id)
        if disk.backing_formats.get(volume_id) != QEMU_FORMATS[parent.volume_format]:
            raise ImageDamaged(
                f"the header of volume {volume_id} of disk {disk.image_id} does not "
                f"say that {parent_id} is {parent.volume_format}: QEMU would guess",
                image_id=disk.image_id,
                volume_id=volume_id,
            )


def leaf_of(disk: Disk, volume_id: str) -> VolumeMeta:
    """Return the metadata of a usable leaf; NotALeaf, IsTemplate, ImageDamaged."""
    meta = meta_of(disk, volume_id)
    if meta.role is VolumeRole.SHARED:
        raise IsTemplate(f"volume {volume_id} is a template's", volume_id=volume_id)
    if meta.role is not VolumeRole.LEAF or disk.image.readers(volume_id):
        raise NotALeaf(f"volume {volume_id} is no leaf", volume_id=volume_id)
    check_usable(disk)
    return meta


def template_of(site: Site, template: Disk) -> str:
    """Return the only volume of a template on a storage domain; NotATemplate."""
    volumes = template.own()
    if (
        template.site.storage_domain_id != site.storage_domain_id
        or len(template.image.volumes) != 1
        or len(volumes) != 1
        or not template.image.volumes[volumes[0]].is_template
    ):
        raise NotATemplate(
            f"disk {template.image_id} is no template on storage domain "
            f"{site.storage_domain_id}",
            image_id=template.image_id,
        )
    check_usable(template)
    return volumes[0]
