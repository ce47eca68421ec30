"""Look at the disks in a file domain: what operations are planned from.

Reads only, through the files that it is given. Headers of qcow2 files are looked at
by ourselves, confined to their first bytes, and only where the metadata say qcow2;
what they name is never opened. Sizes are bytes. Source: docs/formats/storage-domain.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from node.errors import Error
from node.storage.disks import chain, turned
from node.storage.domains import DomainFiles, Entry, FileKind, Surveyed
from node.storage.formats import disk_options, layout, qcow2, volume_meta
from node.storage.formats.disk_options import DiskOptions
from node.storage.formats.key_values import MetadataDamaged
from node.storage.formats.layout import FolderKind, Layout, VolumePart
from node.storage.formats.volume_meta import Format, VolumeMeta
from node.storage.operations.facts import Disk, Place, Site
from node.storage.process.file_operations import FileMissing, FileTooLarge
from node.units import KiB

_META_MAX: Final = 8 * KiB  # what is read of a metadata file
# What is left of a volume that is gone.
_REMAINS: Final = frozenset({VolumePart.UNFINISHED, VolumePart.TURNED})
_DATA_FILE: Final = "(a data file)"  # what a header names that has one


@dataclass(slots=True)
class _Found:
    """The files of one volume."""

    parts: dict[VolumePart, Surveyed] = field(default_factory=dict)


class FileDomain:
    """One storage domain, by the files in it."""

    def __init__(self, files: DomainFiles, root: PurePosixPath, site: Site) -> None:
        assert root.name == site.storage_domain_id
        self._files = files
        self._layout = Layout(root)
        self._site = site

    def images(self) -> tuple[str, ...]:
        """Return the ids of all images, ISO files' aside."""
        found = (layout.read_image_name(name) for name in self._names())
        return tuple(
            each.image_id
            for each in found
            if each is not None
            and each.kind is FolderKind.IMAGE
            and each.image_id != layout.ISO_IMAGE
        )

    def look(self, image_id: str, wanted: Iterable[str] = ()) -> Place:
        """Return what is at an image's place; `wanted`: the leaves that VMs name."""
        removed = self._layout.removed_image(image_id)
        entries = self._survey(self._layout.image(image_id))
        return Place(
            self._site,
            image_id,
            None if entries is None else self._disk(image_id, entries, wanted),
            self._list(removed) is not None,
            self.options(image_id),
        )

    def options(self, image_id: str) -> DiskOptions | None:
        """Return what is kept of a disk; None: nothing. NewerDiskOptions."""
        path = str(self._layout.disk_options(image_id))
        try:
            data = self._files.read(path, disk_options.SIZE_MAX)
        except Error as error:
            if error.code == FileMissing.code:
                return None
            if error.code == FileTooLarge.code:
                return disk_options.DAMAGED
            raise
        return disk_options.parse(data, image_id)

    def users(self, image_id: str) -> tuple[str, ...]:
        """Return the other images that hold a volume of this one: its clones."""
        disk = self.look(image_id).disk
        if disk is None:
            return ()
        shared = [each for each in disk.own() if disk.image.volumes[each].links > 1]
        return tuple(
            other
            for other in self.images()
            if shared and other != image_id and self._holds(other, shared)
        )

    def _holds(self, image_id: str, volume_ids: list[str]) -> bool:
        entries = self._list(self._layout.image(image_id)) or ()
        return bool({entry.name for entry in entries} & set(volume_ids))

    def _names(self) -> tuple[str, ...]:
        entries = self._files.list(str(self._layout.images))
        return tuple(each.name for each in entries if each.kind is FileKind.FOLDER)

    def _list(self, folder: PurePosixPath) -> tuple[Entry, ...] | None:
        """Return what is in a folder; None if it is not there."""
        try:
            return self._files.list(str(folder))
        except Error as error:
            if error.code == FileMissing.code:
                return None
            raise

    def _survey(self, folder: PurePosixPath) -> tuple[Surveyed, ...] | None:
        """Return what is in an image's folder, mostly read; None: it is not there."""
        try:
            return self._files.survey(
                str(folder), layout.META, _META_MAX, qcow2.START_BYTES
            )
        except Error as error:
            if error.code == FileMissing.code:
                return None
            raise

    def _disk(
        self, image_id: str, surveyed: Iterable[Surveyed], wanted: Iterable[str]
    ) -> Disk:
        found: dict[str, _Found] = {}
        for each in surveyed:
            name = layout.read_volume_name(each.entry.name)
            if name is not None and each.entry.kind is FileKind.FILE:
                files = found.setdefault(name.volume_id, _Found())
                files.parts[name.part] = each
        volumes = {}
        formats: dict[str, str | None] = {}
        for volume_id, files in found.items():
            if files.parts.keys() <= _REMAINS:
                continue
            volumes[volume_id], header = self._volume(image_id, volume_id, files)
            formats[volume_id] = header.backing_format if header else None
        image = chain.Image(
            self._site.storage_domain_id, image_id, volumes, frozenset(wanted)
        )
        return Disk(self._site, image, formats)

    def _volume(
        self, image_id: str, volume_id: str, found: _Found
    ) -> tuple[chain.Volume, qcow2.Header | None]:
        data = found.parts.get(VolumePart.DATA)
        meta, is_damaged = None, False
        if (described := found.parts.get(VolumePart.META)) is not None:
            meta = self._meta(image_id, volume_id, described.whole)
            is_damaged = meta is None
        if meta is not None and VolumePart.TURNED in found.parts:
            meta = turned.close(meta)  # whatever was written since
        is_qcow2 = meta is not None and meta.volume_format is Format.COW
        header = None
        if is_qcow2 and data is not None:
            header = self._header(image_id, volume_id, data.start)
        volume = chain.Volume(
            volume_id,
            meta,
            data is not None,
            VolumePart.LEASE in found.parts,
            is_damaged,
            data.entry.links if data else 0,
            _seen(header) if is_qcow2 and data else None,
        )
        return volume, header

    def _meta(
        self, image_id: str, volume_id: str, data: bytes | None
    ) -> VolumeMeta | None:
        """Return a volume's metadata, if read already; None if they are damaged."""
        path = self._layout.volume_meta(image_id, volume_id)
        if data is None:
            data = self._files.read(str(path), _META_MAX)
        try:
            return volume_meta.parse(data)
        except MetadataDamaged:
            return None

    def _header(
        self, image_id: str, volume_id: str, start: bytes | None
    ) -> qcow2.Header | None:
        path = str(self._layout.volume(image_id, volume_id))
        if start is None:
            start = self._files.read_at(path, 0, qcow2.START_BYTES)
        if qcow2.needed(start) > len(start) == qcow2.START_BYTES:
            start = self._files.read_at(path, 0, qcow2.needed(start))
        return qcow2.read(start)


def _seen(header: qcow2.Header | None) -> chain.Header:
    """Return what a chain is judged by."""
    if header is None:
        return chain.Header(is_qcow2=False)
    backing = _DATA_FILE if header.has_data_file else header.backing
    return chain.Header(is_qcow2=True, backing=backing)
