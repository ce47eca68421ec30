"""Say which actions make, mark and remove a volume: what the operations share.

Pure. `folder` is where the volume lies: the image's, or its workshop's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from node.errors import Invalid
from node.storage.formats import disk_options, layout, volume_meta
from node.storage.formats.disk_options import DiskOptions
from node.storage.formats.volume_meta import (
    Allocation,
    Format,
    Legality,
    VolumeMeta,
    VolumeRole,
)
from node.storage.operations import plan
from node.storage.operations.facts import QEMU_FORMATS, Disk, Place, Site, meta_of
from node.storage.operations.plan import Action, Step

_NEW: Final = ".new"  # what an interrupted write leaves, and what is made to be swapped
# As oVirt: data go to the storage itself. What is left in a cache is written after the
# program was killed, under a lease that another node may have by then: whatever
# changes a file that will be used needs this.
DIRECT: Final = ("-t", "none", "-T", "none")


class BadAllocation(Invalid):
    """A disk on a template only holds what differs from it."""

    code = "bad_disk_allocation"
    remedy = "Ask for a thin qcow2 disk, or copy the template's disk."


@dataclass(frozen=True, slots=True)
class NewVolume:
    """What is said of a volume that is to be made."""

    image_id: str
    volume_id: str
    size_bytes: int
    volume_format: Format
    allocation: Allocation
    created_at_s: int
    description: str = ""  # see node.storage.ovf.description
    disk_type: str = "DATA"

    def meta(self, site: Site, parent_id: str | None = None) -> VolumeMeta:
        """Return its metadata as that of a leaf."""
        volume_meta.check_description(self.description)
        return VolumeMeta(
            site.storage_domain_id,
            layout.check_id(self.image_id),
            self.size_bytes,
            self.volume_format,
            self.allocation,
            VolumeRole.LEAF,
            self.created_at_s,
            parent_id,
            disk_type=self.disk_type,
            description=self.description,
        )


def write_meta(
    folder: PurePosixPath,
    volume_id: str,
    meta: VolumeMeta,
    *,
    is_exported: bool = False,
) -> Action:
    """Return what puts metadata in place, at once."""
    data = volume_meta.write(meta, is_exported=is_exported)
    return plan.write(_meta(folder, volume_id), data.decode())


def make_lease(site: Site, folder: PurePosixPath, volume_id: str) -> tuple[Action, ...]:
    """Return what makes a volume's resource; it may be made again."""
    path = _lease(folder, volume_id)
    return plan.make_file(path, site.alignment_bytes), plan.write_resource(path)


def make_empty(path: PurePosixPath) -> Action:
    """Return what makes the file, with our mode, that qemu-img then fills."""
    return plan.write(path, "")


def make_data(
    folder: PurePosixPath, volume_id: str, meta: VolumeMeta, backing: Format | None
) -> tuple[Action, ...]:
    """Return what makes a volume that reads as zeros, or as what it is built on."""
    path = folder / layout.check_id(volume_id)
    is_thin = meta.allocation is Allocation.SPARSE
    if meta.volume_format is Format.RAW and is_thin:
        return (plan.make_file(path, meta.capacity_bytes),)
    if is_thin:
        built_on = (meta.parent_id, QEMU_FORMATS[backing]) if backing else ()
        return (plan.make_qcow2(path, meta.capacity_bytes, *map(str, built_on)),)
    assert backing is None, "what is built on another volume is thin"
    words = ["create", "-q", "-f", QEMU_FORMATS[meta.volume_format]]
    words += [*options(meta), volume_id, str(meta.capacity_bytes)]
    return make_empty(path), plan.qemu_img(folder, *words)


def options(meta: VolumeMeta) -> list[str]:
    """Return qemu-img's options for a new file of a format and allocation."""
    chosen = ["compat=1.1"] if meta.volume_format is Format.COW else []
    if meta.allocation is Allocation.PREALLOCATED:
        chosen.append("preallocation=falloc")
    return ["-o", ",".join(chosen)] if chosen else []


def link_template(template: Disk, folder: PurePosixPath) -> tuple[Action, ...]:
    """Return what gives an image the volumes of a template: data, lease and meta."""
    return tuple(
        plan.link(place(template.folder, volume_id), place(folder, volume_id))
        for volume_id in template.own()
        for place in (_data, _lease, _meta)
    )


def write_options(place: Place, options: DiskOptions | None) -> tuple[Action, ...]:
    """Return what makes a disk's options so; None: they are forgotten."""
    path = place.site.layout.disk_options(place.image_id)
    if options is None:
        remains = path.with_name(f"{path.name}{_NEW}")
        return plan.remove(remains), plan.remove(path)
    text = disk_options.write(place.image_id, options)
    return plan.make_folder(path.parent), plan.write(path, text)


def set_options(
    place: Place, options: DiskOptions | None
) -> tuple[tuple[Action, ...], tuple[Action, ...]]:
    """Return what gives a disk options instead of what it has, and what undoes that."""
    wanted = None if options == disk_options.DEFAULT else options
    if wanted == place.options:
        return (), ()
    before = place.options if place.disk is not None else None  # else: a leftover
    if before is not None and before.is_damaged:
        return write_options(place, wanted), ()  # what was in there nobody knows
    return write_options(place, wanted), write_options(place, before)


def remove_volume(folder: PurePosixPath, volume_id: str) -> tuple[Action, ...]:
    """Return what removes a volume that is ILLEGAL, its metadata at the end.

    What interrupted writes left goes first: only the metadata tell what it is. That a
    guest has left it is known until it is gone.
    """
    paths = [place(folder, volume_id) for place in (_data, _lease, _meta, _turned)]
    remains = [path.with_name(f"{path.name}{_NEW}") for path in paths]
    return tuple(plan.remove(path) for path in (*remains, *paths))


def drop(
    place: Place, volume_id: str, name: str, before: tuple[Action, ...] = ()
) -> Iterator[Step]:
    """Yield what removes a volume that is ILLEGAL, wiped if its disk asks for that.

    Wiping is a step of its own: it is done again only while there is a file.
    """
    remove = remove_volume(place.folder, volume_id)
    is_asked = place.options is not None and place.options.wipe_after_delete
    ids = tuple(wiped(place.require(), (volume_id,))) if is_asked else ()
    if not ids:
        yield Step(name, (*before, *remove))
        return
    wipes = (wipe(place.folder, each) for each in ids)
    yield Step(f"wipe {volume_id}", (*before, *wipes))
    yield Step(name, remove)


def wiped(disk: Disk, volume_ids: Iterable[str]) -> Iterator[str]:
    """Yield the volumes whose data go when they are wiped."""
    for volume_id in volume_ids:
        volume = disk.image.volumes[volume_id]
        # One with another name holds data of somebody else.
        if volume.has_data and volume.links == 1:
            yield volume_id


def wipe(folder: PurePosixPath, volume_id: str) -> Action:
    """Return what overwrites a volume's data."""
    return plan.wipe(_data(folder, volume_id))


def beside(folder: PurePosixPath, volume_id: str) -> PurePosixPath:
    """Return the name of what is made to take a volume's place."""
    return folder / f"{volume_id}{_NEW}"


def base_of(disk: Disk, volume_id: str) -> str:
    """Return the lowest of a disk's own volumes under (or at) a volume."""
    own = set(disk.own())
    step: str = volume_id
    while (parent := disk.image.volumes[step].parent_id) in own:
        assert parent is not None
        step = parent
    return step


def mark(
    disk: Disk, volume_id: str, legality: Legality, role: VolumeRole | None = None
) -> Action:
    """Return what writes whether a volume may be used, and what it is."""
    meta = meta_of(disk, volume_id)
    changed = replace(meta, legality=legality, role=role or meta.role)
    return write_meta(disk.folder, volume_id, changed)


def rewrite(disk: Disk, volume_id: str) -> Action:
    """Return what writes a volume's metadata as they were."""
    return write_meta(disk.folder, volume_id, meta_of(disk, volume_id))


def _data(folder: PurePosixPath, volume_id: str) -> PurePosixPath:
    return folder / layout.check_id(volume_id)


def _lease(folder: PurePosixPath, volume_id: str) -> PurePosixPath:
    return folder / f"{layout.check_id(volume_id)}.lease"


def _turned(folder: PurePosixPath, volume_id: str) -> PurePosixPath:
    return folder / f"{layout.check_id(volume_id)}.turned"


def _meta(folder: PurePosixPath, volume_id: str) -> PurePosixPath:
    return folder / f"{layout.check_id(volume_id)}.meta"
