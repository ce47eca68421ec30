"""Keep what lies on active storage domains: their images, by what was read of them.

An image is read again when its folder's time of change moved, and for a few seconds
after that (two changes may bear one time). Data grow and headers change without
moving it, so each round also reads some of those that were read longest ago, images
with problems first. What a hostile image holds becomes a problem of that image; a
storage that does not answer leaves what is known as it was. Reads only.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from node.clock import Clock
from node.errors import Error, Failed, Unavailable
from node.model.storage import ActualVolume
from node.storage.disks import actual, chain, sights
from node.storage.disks.sights import DomainSight, Finding, ImageSight
from node.storage.domains import Entry, FileKind
from node.storage.domains.access import Access
from node.storage.domains.file import FileDomain
from node.storage.formats import disk_options, layout
from node.storage.formats.disk_options import DiskOptions
from node.storage.formats.layout import FolderKind, VolumePart
from node.storage.guard import Guard
from node.storage.operations.facts import Place, Site
from node.storage.process.file_operations import FileMissing

log = logging.getLogger(__name__)

# One answer of a storage that is well takes milliseconds.
DEADLINE_S: Final = 10.0
# Of one storage domain; 10 MiB of memory. oVirt's users have a tenth.
IMAGES_MAX: Final = 10_000
# Files in one image's folder: some 600 volumes, where QEMU opens 200.
FILES_MAX: Final = 2_000
# Images that are read again in a round although they seem to be as they were.
AGAIN_MAX: Final = 20


class TooManyFiles(Failed):
    code = "too_many_volume_files"
    remedy = "Merge snapshots of the disk, or remove what does not belong there."


class Catalog:
    """What is known of the images of storage domains. Any thread may call."""

    def __init__(
        self,
        guard: Guard,
        clock: Clock,
        leaves: Callable[[str], Iterable[str]] = lambda _image: (),
    ) -> None:
        """`leaves` tells which volumes of an image VM definitions name."""
        self._guard = guard
        self._clock = clock
        self._leaves = leaves
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}  # one reader of each
        self._sights: Mapping[str, DomainSight] = {}

    def sight(self, storage_domain_id: str) -> DomainSight | None:
        """Return what is known of a storage domain; None: it was never read."""
        found = self._sights.get(storage_domain_id)
        return found if found is not None and found.is_whole else None

    def sights(self) -> tuple[DomainSight, ...]:
        return tuple(self._sights.values())

    def find(self, image_id: str) -> tuple[ImageSight, ...]:
        """Return an image's sights on all storage domains: one, or a template's."""
        return tuple(
            each.images[image_id]
            for each in self._sights.values()
            if image_id in each.images
        )

    def place(self, access: Access, image_id: str) -> Place:
        """Look at an image here and now, as operations need it."""
        return self._domain(access).look(image_id, self._leaves(image_id))

    def options(self, access: Access, image_id: str) -> DiskOptions | None:
        """Read what is kept of a disk, and nothing else; None: nothing."""
        return self._domain(access).options(image_id)

    def volumes(self, access: Access, image_id: str) -> tuple[ActualVolume, ...]:
        """Return a disk's volumes here and now, base first; DiskMissing."""
        files = access.files(self._guard, deadline_s=DEADLINE_S)
        disk = self.place(access, image_id).require()
        entries = files.list(str(access.layout.image(image_id)))
        return actual.volumes(disk, _allocated(entries))

    def refresh(self, access: Access) -> DomainSight:
        """Read what changed; Unavailable if the storage does not answer."""
        with self._reader(access):
            return self._refresh(access, _due)

    def read_image(self, access: Access, image_id: str) -> ImageSight | None:
        """Read one image, which an operation has changed; None: it is gone."""
        with self._reader(access):
            known = self._known(access)
            sight = self._read(access, image_id, known.templates())
            images = {k: v for k, v in known.images.items() if k != image_id}
            if sight is not None:
                sight = _dated(sight, known.images.get(image_id))
                images[image_id] = sight
            self._keep(replace(known, images=images))
            return sight

    def check(self, access: Access) -> tuple[Finding, ...]:
        """Read all images anew, and return what is wrong with them."""
        with self._reader(access):
            self._refresh(access, _all)
            # Once more what seemed wrong: all templates are known by now.
            sight = self._refresh(access, _ill)
        return tuple(
            finding
            for _, each in sorted(sight.images.items())
            for finding in sights.findings(each)
        )

    def check_options(self, access: Access) -> Iterator[Finding]:
        """Yield what is wrong with the options of disks; call it after `check`."""
        files = access.files(self._guard, deadline_s=DEADLINE_S)
        try:
            entries = files.list(str(access.layout.disks))
        except Error as error:
            if error.code != FileMissing.code:
                raise
            return  # no disk here has any
        images = self._known(access).images
        for image_id in (each.name for each in entries if layout.is_id(each.name)):
            sight = images.get(image_id)
            is_damaged = sight is not None and sight.options.is_damaged
            problem = chain.examine_options(
                has_disk=sight is not None, is_damaged=is_damaged
            )
            if problem is not None:
                where = (access.storage_domain_id, image_id, problem.kind, "", "")
                yield Finding(*where, problem.explanation, problem.repair)

    def forget(self, storage_domain_id: str) -> None:
        """Forget a storage domain that is not used any more."""
        with self._lock:
            self._sights = {
                key: value
                for key, value in self._sights.items()
                if key != storage_domain_id
            }

    def _refresh(self, access: Access, select: "Select") -> DomainSight:
        began = self._clock.monotonic()
        known = self._known(access)
        files = access.files(self._guard, deadline_s=DEADLINE_S)
        entries = files.list(str(access.layout.images))
        folders, foreign = _sort(entries)
        listed = dict(list(folders.items())[:IMAGES_MAX])
        due = select(listed, known.images)
        templates = known.templates()
        images = {key: each for key, each in known.images.items() if key in listed}
        for image_id in due:
            found = self._read(access, image_id, templates)
            if found is None:
                images.pop(image_id, None)
                continue
            images[image_id] = _dated(found, images.get(image_id))
        sight = DomainSight(
            access.storage_domain_id, images, foreign, len(folders) - len(listed)
        )
        self._keep(sight)
        log.debug(
            "%s: %d of %d images read in %.3f s",
            access.storage_domain_id,
            len(due),
            len(listed),
            self._clock.monotonic() - began,
        )
        return sight

    def _read(
        self, access: Access, image_id: str, templates: Mapping[str, str]
    ) -> ImageSight | None:
        """Read one image; Unavailable, any other complaint is part of the sight."""
        files = access.files(self._guard, deadline_s=DEADLINE_S)
        folder = str(access.layout.image(image_id))
        read_at, modified_at = self._clock.monotonic(), 0.0
        try:
            # The time first: what changes while we read moves it again.
            modified_at = files.stat(folder).modified_at
            entries = files.list(folder)
            if len(entries) > FILES_MAX:
                raise TooManyFiles(f"{folder} has {len(entries)} files")
            place = self.place(access, image_id)
        except Unavailable:
            raise
        except Error as error:
            if error.code == FileMissing.code and not modified_at:
                return None
            where = (access.storage_domain_id, image_id, modified_at)
            return replace(sights.unreadable(*where, error), read_at=read_at)
        if place.disk is None:
            return None
        sight = sights.summarise(
            place.disk, _allocated(entries), modified_at, templates
        )
        options = place.options or disk_options.DEFAULT
        return replace(sight, read_at=read_at, options=options)

    def _domain(self, access: Access) -> FileDomain:
        files = access.files(self._guard, deadline_s=DEADLINE_S)
        return FileDomain(files, access.layout.root, site(access))

    def _known(self, access: Access) -> DomainSight:
        empty = DomainSight(access.storage_domain_id, is_whole=False)
        return self._sights.get(access.storage_domain_id, empty)

    def _keep(self, sight: DomainSight) -> None:
        with self._lock:
            self._sights = {**self._sights, sight.storage_domain_id: sight}

    def _reader(self, access: Access) -> threading.Lock:
        with self._lock:
            key = access.storage_domain_id
            return self._reading.setdefault(key, threading.Lock())


def site(access: Access) -> Site:
    """Return what operations must know of a storage domain."""
    return Site(access.storage_domain_id, access.sector_bytes, access.alignment_bytes)


def _sort(entries: Iterable[Entry]) -> tuple[dict[str, Entry], int]:
    """Return the images' folders by id, and how many names are none of ours."""
    folders, foreign = {}, 0
    for entry in entries:
        found = layout.read_image_name(entry.name)
        if found is None or entry.kind is not FileKind.FOLDER:
            foreign += 1
        elif found.kind is FolderKind.IMAGE and found.image_id != layout.ISO_IMAGE:
            folders[found.image_id] = entry
    return folders, foreign


def _allocated(entries: Iterable[Entry]) -> dict[str, int]:
    """Return what the data of each volume take."""
    found = {}
    for entry in entries:
        name = layout.read_volume_name(entry.name)
        if name is not None and name.part is VolumePart.DATA:
            found[name.volume_id] = entry.allocated_bytes
    return found


Select = Callable[[Mapping[str, Entry], Mapping[str, ImageSight]], list[str]]


def _all(listed: Mapping[str, Entry], _known: Mapping[str, ImageSight]) -> list[str]:
    return list(listed)


def _ill(listed: Mapping[str, Entry], known: Mapping[str, ImageSight]) -> list[str]:
    return [each for each in listed if each not in known or not known[each].is_well]


def _due(listed: Mapping[str, Entry], known: Mapping[str, ImageSight]) -> list[str]:
    """Return which images to read in this round."""
    due, rest = [], []
    for image_id, entry in listed.items():
        sight = known.get(image_id)
        is_same = sight is not None and entry.modified_at == sight.modified_at
        if sight is None or not is_same or not sight.is_settled:
            due.append(image_id)
        else:
            rest.append((sight.is_well, sight.read_at, image_id))
    return [*due, *(image_id for _, _, image_id in sorted(rest)[:AGAIN_MAX])]


def _dated(found: ImageSight, before: ImageSight | None) -> ImageSight:
    """Return a sight with the moment at which its time of change was seen first."""
    is_same = before is not None and before.modified_at == found.modified_at
    seen_at = before.seen_at if before is not None and is_same else found.read_at
    return replace(found, seen_at=seen_at)
