"""Say how the volumes of one image hang together, what is wrong, and what mends it.

Pure. An image is a chain of volumes, leaf to base; a preview adds a second leaf,
a template's base is hard-linked into the folder. QEMU follows the qcow2 headers,
people and other software follow the metadata: a repair makes the metadata say
what the headers say, and never takes away what a usable volume is built on. What
could lose data is left to a person. The image must not be in use meanwhile.
Source: docs/formats/storage-domain.md.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from node.errors import Conflict
from node.storage.disks.chain_problems import Kind, Problem, Step, Verb
from node.storage.formats import layout
from node.storage.formats.volume_meta import Format, Legality, VolumeMeta, VolumeRole


class ImageDamaged(Conflict):
    """The volumes of an image do not form a chain that may be used."""

    code = "image_damaged"
    remedy = "See what `skerry-node storage check` says of the image."


@dataclass(frozen=True, slots=True)
class Header:
    """What a confined look into a qcow2 file found."""

    is_qcow2: bool
    backing: str | None = None  # the file it names, as it stands there


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume as its files in the image's folder were seen."""

    volume_id: str
    meta: VolumeMeta | None  # None: not there, or damaged
    has_data: bool = True
    has_lease: bool = True
    is_meta_damaged: bool = False
    links: int = 1  # names that the data file has; 0 if it is not there
    header: Header | None = None  # None: not looked at; a raw one is never

    @property
    def is_legal(self) -> bool:
        return self.meta is not None and self.meta.legality is not Legality.ILLEGAL

    @property
    def is_template(self) -> bool:
        return self.meta is not None and self.meta.role is VolumeRole.SHARED

    @property
    def parent_id(self) -> str | None:
        return self.meta.parent_id if self.meta else None

    @property
    def backing_id(self) -> str | None:
        """The volume that the header names, if it names one of ours."""
        if self.header is None or self.header.backing is None:
            return None
        return layout.read_backing(self.header.backing)


@dataclass(frozen=True, slots=True)
class Image:
    storage_domain_id: str
    image_id: str
    volumes: Mapping[str, Volume]
    # Leaves that VM definitions name: one, or two while a snapshot is previewed.
    wanted: frozenset[str] = frozenset()
    # Template volumes of the storage domain, and the image that each lies in.
    templates: Mapping[str, str] = field(default_factory=dict)

    def children(self, volume_id: str) -> tuple[str, ...]:
        """Return the volumes whose metadata name this one as parent, sorted."""
        return tuple(
            sorted(
                v.volume_id for v in self.volumes.values() if v.parent_id == volume_id
            )
        )

    def readers(self, volume_id: str) -> tuple[str, ...]:
        """Return the volumes that are built on this one by metadata or header."""
        return tuple(
            sorted(
                v.volume_id
                for v in self.volumes.values()
                if volume_id in (v.parent_id, v.backing_id)
            )
        )


def walk(image: Image, leaf_id: str) -> tuple[str, ...]:
    """Return a chain, leaf to base; ImageDamaged if it does not reach a base."""
    chain: list[str] = []
    step: str | None = leaf_id
    while step is not None:
        if step in chain or step not in image.volumes:
            what = "comes round to" if step in chain else "misses"
            raise ImageDamaged(
                f"the chain of {leaf_id} in image {image.image_id} {what} {step}",
                image_id=image.image_id,
                volume_id=step,
            )
        chain.append(step)
        step = image.volumes[step].parent_id
    return tuple(chain)


def leaves(image: Image) -> tuple[str, ...]:
    """Return the volumes that nothing is built on, sorted."""
    return tuple(sorted(v for v in image.volumes if not image.readers(v)))


def examine(image: Image) -> tuple[Problem, ...]:
    """Return what is wrong with an image, in the order in which to mend it.

    Mend the first problem that has a repair, look again, and so on: a later one
    may be gone then.
    """
    if not image.volumes:
        repair = () if image.wanted else (Step(Verb.REMOVE_IMAGE),)
        return (Problem(Kind.NO_VOLUMES, repair=repair),)
    problems = [
        *_check_wanted(image),
        *(p for v in _sorted(image) for p in _check_files(image, v)),
        *(p for v in _sorted(image) for p in _check_owner(image, v)),
        *(p for v in _sorted(image) for p in _check_parent(image, v)),
        *_check_cycles(image),
        *_check_leaves(image),
        *(p for v in _sorted(image) for p in _check_role(image, v)),
    ]
    return tuple(problems)


def examine_remains(image: Image | None) -> Problem:
    """Return the problem of a `_remove_me_` folder that no journal names.

    `image` is what bears the name without that, None: nothing.
    """
    is_whole = image is None or not examine(image)
    purge = Step(Verb.PURGE_REMAINS)
    return Problem(Kind.REMAINS, repair=(purge,) if is_whole else ())


def examine_options(*, has_disk: bool, is_damaged: bool) -> Problem | None:
    """Return the problem of the options that are kept of a disk."""
    if not has_disk:
        return Problem(Kind.OPTIONS_LEFT, repair=(Step(Verb.FORGET_OPTIONS),))
    return Problem(Kind.OPTIONS_DAMAGED) if is_damaged else None


def _sorted(image: Image) -> list[Volume]:
    return [image.volumes[volume_id] for volume_id in sorted(image.volumes)]


def _check_wanted(image: Image) -> Iterator[Problem]:
    for volume_id in sorted(image.wanted - set(image.volumes)):
        yield Problem(Kind.WANTED_MISSING, volume_id)


def _check_files(image: Image, volume: Volume) -> Iterator[Problem]:
    """Complain about files of a volume that are not there."""
    volume_id, meta = volume.volume_id, volume.meta
    is_needed = volume_id in image.wanted or bool(image.readers(volume_id))
    if meta is None and not volume.has_data and not volume.is_meta_damaged:
        repair = () if is_needed else (Step(Verb.REMOVE_LEASE, volume_id),)
        yield Problem(Kind.LEASE_ALONE, volume_id, repair=repair)
    elif meta is None:
        damaged = volume.is_meta_damaged
        yield Problem(Kind.META_DAMAGED if damaged else Kind.META_MISSING, volume_id)
    elif not volume.has_data and not volume.is_legal and not is_needed:
        remove = (Step(Verb.REMOVE_VOLUME, volume_id),)
        yield Problem(Kind.UNFINISHED_CREATION, volume_id, repair=remove)
    elif not volume.has_data:
        yield Problem(Kind.DATA_MISSING, volume_id)
    elif not volume.has_lease:
        make = (Step(Verb.MAKE_LEASE, volume_id),)
        yield Problem(Kind.LEASE_MISSING, volume_id, repair=make)


def _check_owner(image: Image, volume: Volume) -> Iterator[Problem]:
    """Complain about a volume that says it belongs elsewhere."""
    meta = volume.meta
    if meta is None:
        return
    if meta.storage_domain_id != image.storage_domain_id:
        yield Problem(Kind.WRONG_DOMAIN, volume.volume_id, meta.storage_domain_id)
    if meta.image_id == image.image_id:
        return
    if not volume.is_template:
        yield Problem(Kind.WRONG_IMAGE, volume.volume_id, meta.image_id)
    elif volume.has_data and volume.links < 2:
        yield Problem(Kind.TEMPLATE_NOT_LINKED, volume.volume_id, meta.image_id)


def _check_parent(image: Image, volume: Volume) -> Iterator[Problem]:
    """Complain about what a volume is built on."""
    meta = volume.meta
    if meta is None:
        return
    if meta.volume_format is Format.RAW:
        if meta.parent_id is not None:
            yield Problem(Kind.RAW_WITH_PARENT, volume.volume_id, meta.parent_id)
        return
    if volume.has_data and volume.header is not None:
        yield from _check_header(image, volume, meta, volume.header)
    elif meta.parent_id is not None and meta.parent_id not in image.volumes:
        yield _missing(image, volume.volume_id, meta.parent_id)


def _check_header(
    image: Image, volume: Volume, meta: VolumeMeta, header: Header
) -> Iterator[Problem]:
    """Compare the parent in the metadata with the one that QEMU reads."""
    volume_id, backing_id = volume.volume_id, volume.backing_id
    if not header.is_qcow2:
        yield Problem(Kind.NOT_QCOW2, volume_id)
    elif header.backing is None and meta.parent_id is None:
        return
    elif header.backing is None:
        yield Problem(Kind.BACKING_LOST, volume_id, meta.parent_id or "")
    elif backing_id is None or backing_id == volume_id:
        yield Problem(Kind.FOREIGN_BACKING, volume_id, ascii(header.backing[:80]))
    elif backing_id not in image.volumes:
        yield _missing(image, volume_id, backing_id, is_read=True)
    elif backing_id != meta.parent_id:
        yield _differs(image, volume, backing_id)


def _missing(
    image: Image, volume_id: str, parent_id: str, *, is_read: bool = False
) -> Problem:
    """Return the problem of a parent that is not in the folder."""
    if parent_id in image.templates:
        source = image.templates[parent_id]
        link = (Step(Verb.LINK_TEMPLATE, parent_id, image_id=source),)
        return Problem(Kind.TEMPLATE_MISSING, volume_id, parent_id, link)
    kind = Kind.BACKING_GONE if is_read else Kind.PARENT_MISSING
    return Problem(kind, volume_id, parent_id)


def _differs(image: Image, volume: Volume, backing_id: str) -> Problem:
    """Return the problem of a header that names another volume of the image."""
    volume_id = volume.volume_id
    follow = Step(Verb.SET_PARENT, volume_id, parent_id=backing_id)
    merged = image.volumes.get(volume.parent_id or "")
    is_merge = (
        merged is not None
        and merged.meta is not None
        and merged.meta.role is VolumeRole.INTERNAL
        and merged.parent_id == backing_id
        and image.readers(merged.volume_id) == (volume_id,)
        and merged.volume_id not in image.wanted
    )
    if merged is None or not is_merge:
        return Problem(Kind.BACKING_DIFFERS, volume_id, backing_id, (follow,))
    mark = Step(Verb.SET_LEGALITY, merged.volume_id, legality=Legality.ILLEGAL)
    return Problem(Kind.MERGE_NOT_RECORDED, volume_id, merged.volume_id, (mark, follow))


def _check_cycles(image: Image) -> Iterator[Problem]:
    """Complain about chains that come round to themselves, once for each."""
    seen: set[str] = set()
    for volume_id in sorted(image.volumes):
        path: list[str] = []
        step: str | None = volume_id
        while step in image.volumes and step is not None and step not in seen:
            seen.add(step)
            path.append(step)
            step = image.volumes[step].parent_id
        if step in path:
            yield Problem(Kind.CYCLE, min(path[path.index(step) :]))


def _check_leaves(image: Image) -> Iterator[Problem]:
    """Complain about what must not be used, and about leaves that nobody expects."""
    for volume in _sorted(image):
        if volume.meta is not None and volume.has_data and not volume.is_legal:
            yield _illegal(image, volume)
    usable = [v for v in leaves(image) if image.volumes[v].is_legal]
    extra = sorted(set(usable) - image.wanted)
    if len(usable) > 1 and extra:
        for volume_id in extra:
            yield Problem(Kind.TWO_LEAVES, volume_id)


def _illegal(image: Image, volume: Volume) -> Problem:
    """Return the problem of a volume that says its content must not be used."""
    volume_id, readers = volume.volume_id, image.readers(volume.volume_id)
    if readers:
        return _illegal_with_readers(image, volume, readers)
    parent = image.volumes.get(volume.parent_id or "")
    if volume_id in image.wanted or parent is None:
        kind = Kind.ILLEGAL_ALONE if parent is None else Kind.ILLEGAL_LEAF
        return Problem(kind, volume_id)
    if not _stands_without(image, parent, volume_id):
        return Problem(Kind.ILLEGAL_LEAF, volume_id)
    remove = (Step(Verb.REMOVE_VOLUME, volume_id),)
    return Problem(Kind.MERGED_VOLUME_LEFT, volume_id, parent.volume_id, remove)


def _illegal_with_readers(
    image: Image, volume: Volume, readers: tuple[str, ...]
) -> Problem:
    """Return the problem of an unusable volume that others are built on.

    Usable again only if the header of a usable one says that QEMU reads it: then a
    merge did not get so far that it was taken out.
    """
    is_read = any(
        image.volumes[reader].is_legal
        and image.volumes[reader].backing_id == volume.volume_id
        for reader in readers
    )
    allow = Step(Verb.SET_LEGALITY, volume.volume_id, legality=Legality.LEGAL)
    return Problem(
        Kind.ILLEGAL_BUT_READ,
        volume.volume_id,
        readers[0],
        (allow,) if is_read and not volume.is_template else (),
    )


def _stands_without(image: Image, parent: Volume, volume_id: str) -> bool:
    """Tell whether the disk is whole without a volume that nobody reads.

    It is if another usable volume is built on the same parent, by its header too;
    or if the parent is marked as the leaf: guests write to a new leaf only after
    its parent became internal, and a merge undoes that only after its pivot.
    """
    if parent.is_legal and parent.meta and parent.meta.role is VolumeRole.LEAF:
        return parent.has_data
    return any(
        sibling.is_legal and sibling.has_data and sibling.backing_id == parent.volume_id
        for sibling in image.volumes.values()
        if sibling.volume_id != volume_id and sibling.parent_id == parent.volume_id
    )


def _check_role(image: Image, volume: Volume) -> Iterator[Problem]:
    """Complain about a leaf that is not marked as one, and the other way round."""
    meta = volume.meta
    if meta is None or meta.role is VolumeRole.SHARED or not volume.is_legal:
        return
    readers = image.readers(volume.volume_id)
    if readers and meta.role is VolumeRole.LEAF:
        if any(image.volumes[reader].is_legal for reader in readers):
            mark = Step(Verb.SET_ROLE, volume.volume_id, role=VolumeRole.INTERNAL)
            yield Problem(Kind.PARENT_NOT_MARKED, volume.volume_id, repair=(mark,))
    elif not readers and meta.role is VolumeRole.INTERNAL:
        mark = Step(Verb.SET_ROLE, volume.volume_id, role=VolumeRole.LEAF)
        is_only = not image.wanted and len(leaves(image)) == 1
        is_clear = is_only or volume.volume_id in image.wanted
        repair = (mark,) if is_clear and volume.has_data else ()
        yield Problem(Kind.LEAF_NOT_MARKED, volume.volume_id, repair=repair)
