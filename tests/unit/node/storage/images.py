"""Images of volumes that hang together, and a model of what repairs do to them."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as some

from node.storage.disks.chain import Header, Image, Volume
from node.storage.disks.chain_problems import Step, Verb
from node.storage.formats.volume_meta import (
    Allocation,
    Format,
    Legality,
    VolumeMeta,
    VolumeRole,
)
from node.units import GiB
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, SD

LEAF, INTERNAL, SHARED = VolumeRole.LEAF, VolumeRole.INTERNAL, VolumeRole.SHARED


def name(number: int) -> str:
    """Return the id of a volume."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def volume(
    number: int, parent: int | None, role: VolumeRole = INTERNAL, **fields: Any
) -> Volume:
    """Return a volume whose header says what its metadata say."""
    parent_id = None if parent is None else name(parent)
    meta = VolumeMeta(
        SD,
        IMAGE,
        GiB,
        Format.COW,
        Allocation.SPARSE,
        role,
        0,
        parent_id,
    )
    return Volume(name(number), meta, header=Header(True, parent_id), **fields)


def template(number: int) -> Volume:
    """Return the base of a thin clone: another image's, linked into this one."""
    base = volume(number, None, SHARED, links=3)
    assert base.meta is not None
    return replace(base, meta=replace(base.meta, image_id=OTHER_IMAGE))


def image(*volumes: Volume, wanted: tuple[int, ...] = (), **fields: Any) -> Image:
    by_id = {each.volume_id: each for each in volumes}
    return Image(SD, IMAGE, by_id, frozenset(map(name, wanted)), **fields)


def with_meta(each: Volume, **fields: Any) -> Volume:
    """Return a volume with other metadata."""
    assert each.meta is not None
    return replace(each, meta=replace(each.meta, **fields))


def illegal(each: Volume) -> Volume:
    return with_meta(each, legality=Legality.ILLEGAL)


def reads(each: Volume, number: int | None) -> Volume:
    """Return a volume whose header names another one."""
    backing = None if number is None else name(number)
    return replace(each, header=Header(True, backing))


@some.composite
def legal_images(draw: some.DrawFn) -> Image:
    """Return any image that has nothing wrong: a chain, or a preview's tree."""
    length = draw(some.integers(1, 6))
    base = draw(some.sampled_from(["qcow2", "raw", "template"]))
    volumes = [
        volume(n, n - 1 if n else None, LEAF if n == length - 1 else INTERNAL)
        for n in range(length)
    ]
    if base == "template" and length > 1:
        volumes[0] = template(0)
    elif base == "raw":
        raw = with_meta(volumes[0], volume_format=Format.RAW)
        volumes[0] = replace(raw, header=None)
    wanted = [length - 1]
    if length > 1 and draw(some.booleans()):
        volumes.append(volume(length, draw(some.integers(0, length - 2)), LEAF))
        wanted.append(length)
    return image(*volumes, wanted=tuple(wanted))


@some.composite
def any_images(draw: some.DrawFn) -> Image:
    """Return an image in any state that files can be in."""
    numbers = some.integers(0, 4)
    names = some.none() | numbers.map(name)
    metas = some.builds(
        VolumeMeta,
        some.sampled_from([SD, SD, SD, OTHER_IMAGE]),
        some.sampled_from([IMAGE, IMAGE, IMAGE, OTHER_IMAGE]),
        some.just(GiB),
        some.sampled_from([Format.COW, Format.COW, Format.RAW]),
        some.just(Allocation.SPARSE),
        some.sampled_from(VolumeRole),
        some.just(0),
        names,
        some.sampled_from(Legality),
    )
    headers = some.builds(Header, some.booleans(), names | some.just("/etc/shadow"))
    volumes = [
        Volume(
            name(number),
            draw(some.none() | metas),
            has_data=draw(some.booleans()),
            has_lease=draw(some.booleans()),
            links=draw(some.integers(1, 2)),
            header=draw(some.none() | headers),
        )
        for number in draw(some.sets(numbers))
    ]
    wanted = tuple(draw(some.sets(numbers, max_size=2)))
    templates = draw(some.just({}) | some.just({name(4): OTHER_IMAGE}))
    return image(*volumes, wanted=wanted, templates=templates)


def apply(before: Image, step: Step) -> Image:
    """Return the image after one step of a repair."""
    volumes = dict(before.volumes)
    each = volumes.get(step.volume_id)
    if step.verb is Verb.LINK_TEMPLATE:
        assert step.image_id == before.templates[step.volume_id]
        number = int(step.volume_id[:8], 16)
        volumes[step.volume_id] = template(number)
    elif each is not None:
        if step.verb in (Verb.REMOVE_VOLUME, Verb.REMOVE_LEASE):
            del volumes[step.volume_id]
        else:
            volumes[step.volume_id] = _changed(each, step)
    return replace(before, volumes=volumes)


def _changed(each: Volume, step: Step) -> Volume:
    if step.verb is Verb.MAKE_LEASE:
        return replace(each, has_lease=True)
    if step.verb is Verb.SET_PARENT:
        return with_meta(each, parent_id=step.parent_id)
    if step.verb is Verb.SET_ROLE:
        return with_meta(each, role=step.role)
    assert step.verb is Verb.SET_LEGALITY, step
    return with_meta(each, legality=step.legality)
