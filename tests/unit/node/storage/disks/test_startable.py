"""With which disks a guest may be started."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given

from node.errors import Error
from node.storage.disks import chain
from node.storage.disks.chain import Image
from node.storage.disks.startable import startable
from node.storage.formats.volume_meta import Format, Legality
from node.storage.operations.facts import Disk, Site
from tests.contract.disks import code_of
from tests.unit.node.storage import images
from tests.unit.node.storage.examples import SD
from tests.unit.node.storage.images import (
    LEAF,
    SHARED,
    illegal,
    name,
    reads,
    template,
    volume,
    with_meta,
)


def disk(image: Image, said: str | None = "qcow2") -> Disk:
    return Disk(Site(SD), image, dict.fromkeys(image.volumes, said))


CHAIN = images.image(volume(0, None), volume(1, 0), volume(2, 1, LEAF))
PREVIEW = images.image(volume(0, None), volume(1, 0, LEAF), volume(2, 0, LEAF))

GOOD = {
    "chain": (CHAIN, (2, 1, 0)),
    "clone": (images.image(template(0), volume(1, 0, LEAF)), (1, 0)),
    "one-of-two-leaves": (PREVIEW, (2, 0)),
    "merge-not-recorded": (
        images.image(volume(0, None), volume(1, 0), reads(volume(2, 1, LEAF), 0)),
        (2, 0),
    ),
    "merge-half-recorded": (
        images.image(
            volume(0, None), illegal(volume(1, 0)), reads(volume(2, 1, LEAF), 0)
        ),
        (2, 0),
    ),
    "lease-missing": (images.image(volume(0, None, LEAF, has_lease=False)), (0,)),
    "other-leaf-illegal": (
        images.image(volume(0, None), volume(2, 0, LEAF), illegal(volume(1, 0, LEAF))),
        (2, 0),
    ),
}


@pytest.mark.parametrize(("image", "numbers"), GOOD.values(), ids=GOOD)
def test_startable_returns_the_chain(image: Image, numbers: tuple[int, ...]) -> None:
    assert startable(disk(image), name(numbers[0])) == tuple(map(name, numbers))


def _chain(place: int, change: Callable[[chain.Volume], chain.Volume]) -> Image:
    volumes = dict(CHAIN.volumes)
    volumes[name(place)] = change(volumes[name(place)])
    return replace(CHAIN, volumes=volumes)


def _fake(each: chain.Volume) -> chain.Volume:
    return with_meta(each, legality=Legality.FAKE)


BAD = {
    "illegal-leaf": (_chain(2, illegal), 2, "volume_illegal"),
    "illegal-inside": (_chain(1, illegal), 2, "volume_illegal"),
    "illegal-base": (_chain(0, illegal), 2, "volume_illegal"),
    "fake-base": (_chain(0, _fake), 2, "volume_illegal"),
    "no-leaf": (CHAIN, 1, "not_a_leaf"),
    "a-template": (images.image(volume(0, None, SHARED, links=2)), 0, "not_a_leaf"),
    "no-such-volume": (CHAIN, 7, "volume_missing"),
    "parent-gone": (images.image(volume(2, 1, LEAF)), 2, "image_damaged"),
    "no-data": (
        _chain(1, partial(replace, has_data=False)),
        2,
        "image_damaged",
    ),
    "header-differs": (
        images.image(
            *(volume(0, None), volume(1, 0), volume(2, 1)),
            reads(volume(3, 2, LEAF), 0),
        ),
        3,
        "image_damaged",
    ),
    "not-marked-as-leaf": (images.image(volume(0, None)), 0, "not_a_leaf"),
}


@pytest.mark.parametrize(("image", "leaf", "code"), BAD.values(), ids=BAD)
def test_startable_refuses(image: Image, leaf: int, code: str) -> None:
    assert code_of(lambda: startable(disk(image), name(leaf))) == code


def test_startable_refuses_a_backing_that_qemu_would_guess() -> None:
    assert code_of(lambda: startable(disk(CHAIN, None), name(2))) == "image_damaged"
    raw = with_meta(CHAIN.volumes[name(0)], volume_format=Format.RAW)
    guessed = _chain(0, lambda _each: replace(raw, header=None))
    assert code_of(lambda: startable(disk(guessed), name(2))) == "image_damaged"


@given(images.any_images())
def test_startable_never_lets_an_illegal_volume_pass(image: Image) -> None:
    for leaf_id in image.volumes:
        try:
            volumes = startable(disk(image), leaf_id)
        except Error:
            continue
        assert all(image.volumes[each].is_legal for each in volumes)
        assert not image.readers(leaf_id)
