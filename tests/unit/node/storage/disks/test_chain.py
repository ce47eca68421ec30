"""What is wrong with the volumes of an image, and what mends it.

The properties at the end hold for every image: a repair ends, and never takes
away or changes what a usable volume is built on.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.storage.disks import chain
from node.storage.disks.chain import Header, Image, ImageDamaged, Volume
from node.storage.disks.chain_problems import EXPLANATIONS, Kind, Problem, Step, Verb
from node.storage.formats.volume_meta import Format, Legality
from tests.unit.node.storage.examples import OTHER_IMAGE, OTHER_SD
from tests.unit.node.storage.images import (
    INTERNAL,
    LEAF,
    SHARED,
    any_images,
    apply,
    illegal,
    image,
    legal_images,
    name,
    reads,
    template,
    volume,
    with_meta,
)

BASE = volume(0, None)
MIDDLE = volume(1, 0)
TOP = volume(2, 1, LEAF)

LEGAL = Step(Verb.SET_LEGALITY, name(1), legality=Legality.LEGAL)
ILLEGAL = Step(Verb.SET_LEGALITY, name(1), legality=Legality.ILLEGAL)
TO_BASE = Step(Verb.SET_PARENT, name(2), parent_id=name(0))


def test_walk_goes_from_leaf_to_base() -> None:
    assert chain.walk(image(BASE, MIDDLE, TOP), name(2)) == (name(2), name(1), name(0))


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(image(BASE, TOP), id="parent-missing"),
        pytest.param(image(volume(1, 2), volume(2, 1)), id="cycle"),
    ],
)
def test_walk_refuses(damaged: Image) -> None:
    with pytest.raises(ImageDamaged):
        chain.walk(damaged, name(2))


def test_leaves_are_two_in_a_preview() -> None:
    preview = image(BASE, MIDDLE, TOP, volume(3, 1, LEAF))
    assert chain.leaves(preview) == (name(2), name(3))


@pytest.mark.parametrize(
    ("fine"),
    [
        pytest.param(image(BASE, MIDDLE, TOP, wanted=(2,)), id="chain"),
        pytest.param(image(BASE, MIDDLE, TOP), id="no-vm-names-it"),
        pytest.param(
            image(BASE, MIDDLE, TOP, volume(3, 0, LEAF), wanted=(2, 3)), id="preview"
        ),
        pytest.param(image(template(0), volume(1, 0, LEAF)), id="thin-clone"),
        pytest.param(image(volume(0, None, SHARED)), id="template-itself"),
        pytest.param(
            image(reads(TOP, 1), MIDDLE, replace(BASE, header=None)), id="not-looked-at"
        ),
    ],
)
def test_examine_finds_nothing(fine: Image) -> None:
    assert chain.examine(fine) == ()


@pytest.mark.parametrize(
    ("damaged", "kind", "steps"),
    [
        pytest.param(
            image(), Kind.NO_VOLUMES, (Step(Verb.REMOVE_IMAGE),), id="empty-folder"
        ),
        pytest.param(image(wanted=(0,)), Kind.NO_VOLUMES, (), id="empty-but-wanted"),
        pytest.param(
            image(replace(BASE, meta=None), MIDDLE, TOP),
            Kind.META_MISSING,
            (),
            id="no-meta-for-data",
        ),
        pytest.param(
            image(BASE, MIDDLE, replace(TOP, meta=None, is_meta_damaged=True)),
            Kind.META_DAMAGED,
            (),
            id="damaged-meta",
        ),
        pytest.param(
            image(BASE, MIDDLE, replace(TOP, has_data=False)),
            Kind.DATA_MISSING,
            (),
            id="meta-without-data",
        ),
        pytest.param(
            image(
                BASE,
                with_meta(MIDDLE, role=LEAF),
                illegal(replace(TOP, has_data=False, header=None)),
            ),
            Kind.UNFINISHED_CREATION,
            (Step(Verb.REMOVE_VOLUME, name(2)),),
            id="unfinished-creation",
        ),
        pytest.param(
            image(BASE, MIDDLE, replace(TOP, has_lease=False)),
            Kind.LEASE_MISSING,
            (Step(Verb.MAKE_LEASE, name(2)),),
            id="no-lease",
        ),
        pytest.param(
            image(volume(0, None, LEAF), Volume(name(9), None, has_data=False)),
            Kind.LEASE_ALONE,
            (Step(Verb.REMOVE_LEASE, name(9)),),
            id="lease-alone",
        ),
        pytest.param(
            image(with_meta(volume(0, None, LEAF), storage_domain_id=OTHER_SD)),
            Kind.WRONG_DOMAIN,
            (),
            id="copied-storage-domain",
        ),
        pytest.param(
            image(with_meta(volume(0, None, LEAF), image_id=OTHER_IMAGE)),
            Kind.WRONG_IMAGE,
            (),
            id="moved-by-hand",
        ),
        pytest.param(
            image(replace(template(0), links=1), volume(1, 0, LEAF)),
            Kind.TEMPLATE_NOT_LINKED,
            (),
            id="copy-of-a-template",
        ),
        pytest.param(
            image(volume(1, 0, LEAF), templates={name(0): OTHER_IMAGE}),
            Kind.TEMPLATE_MISSING,
            (Step(Verb.LINK_TEMPLATE, name(0), image_id=OTHER_IMAGE),),
            id="template-link-gone",
        ),
        pytest.param(
            image(replace(volume(1, 0, LEAF), header=None)),
            Kind.PARENT_MISSING,
            (),
            id="parent-gone",
        ),
        pytest.param(
            image(volume(1, 0, LEAF)), Kind.BACKING_GONE, (), id="backing-gone"
        ),
        pytest.param(
            image(volume(1, 2), volume(2, 1)), Kind.CYCLE, (), id="ring-of-two"
        ),
        pytest.param(
            image(replace(with_meta(TOP, volume_format=Format.RAW), header=None)),
            Kind.RAW_WITH_PARENT,
            (),
            id="raw-with-parent",
        ),
        pytest.param(
            image(replace(volume(0, None, LEAF), header=Header(False))),
            Kind.NOT_QCOW2,
            (),
            id="overwritten-header",
        ),
        pytest.param(
            image(BASE, replace(TOP, header=Header(True, "/etc/shadow"))),
            Kind.FOREIGN_BACKING,
            (),
            id="hostile-backing",
        ),
        pytest.param(
            image(reads(volume(1, 1, LEAF), 1)),
            Kind.FOREIGN_BACKING,
            (),
            id="built-on-itself",
        ),
        pytest.param(
            image(BASE, MIDDLE, reads(TOP, None)), Kind.BACKING_LOST, (), id="flattened"
        ),
        pytest.param(
            image(BASE, with_meta(volume(2, 0, LEAF), parent_id=None)),
            Kind.BACKING_DIFFERS,
            (TO_BASE,),
            id="meta-has-no-parent",
        ),
        pytest.param(
            image(BASE, reads(TOP, 0)),
            Kind.BACKING_DIFFERS,
            (TO_BASE,),
            id="merged-volume-is-gone",
        ),
        pytest.param(
            image(BASE, with_meta(MIDDLE, role=LEAF), reads(TOP, 0)),
            Kind.BACKING_DIFFERS,
            (TO_BASE,),
            id="skipped-volume-was-a-leaf",
        ),
        pytest.param(
            image(BASE, MIDDLE, reads(TOP, 0), volume(3, 1, LEAF), wanted=(2, 3)),
            Kind.BACKING_DIFFERS,
            (TO_BASE,),
            id="skipped-volume-has-another-reader",
        ),
        pytest.param(
            image(BASE, MIDDLE, reads(TOP, 0), wanted=(1, 2)),
            Kind.BACKING_DIFFERS,
            (TO_BASE,),
            id="a-vm-names-the-skipped-volume",
        ),
        pytest.param(
            image(BASE, MIDDLE, reads(TOP, 0)),
            Kind.MERGE_NOT_RECORDED,
            (ILLEGAL, TO_BASE),
            id="merge-not-recorded",
        ),
        pytest.param(
            image(BASE, illegal(MIDDLE), reads(TOP, 0)),
            Kind.MERGE_NOT_RECORDED,
            (ILLEGAL, TO_BASE),
            id="merge-half-recorded",
        ),
        pytest.param(
            image(BASE, illegal(MIDDLE), volume(2, 0, LEAF)),
            Kind.MERGED_VOLUME_LEFT,
            (Step(Verb.REMOVE_VOLUME, name(1)),),
            id="merged-volume-left",
        ),
        pytest.param(
            image(with_meta(BASE, role=LEAF), illegal(volume(1, 0, LEAF))),
            Kind.MERGED_VOLUME_LEFT,
            (Step(Verb.REMOVE_VOLUME, name(1)),),
            id="merged-leaf-left-after-the-pivot",
        ),
        pytest.param(
            image(BASE, illegal(MIDDLE), TOP),
            Kind.ILLEGAL_BUT_READ,
            (LEGAL,),
            id="merge-stopped-before-the-end",
        ),
        pytest.param(
            image(BASE, illegal(MIDDLE), replace(TOP, header=None)),
            Kind.ILLEGAL_BUT_READ,
            (),
            id="illegal-parent-header-unknown",
        ),
        pytest.param(
            image(BASE, illegal(volume(1, 0, LEAF))),
            Kind.ILLEGAL_LEAF,
            (),
            id="live-merge-around-its-pivot",
        ),
        pytest.param(
            image(with_meta(BASE, role=LEAF), illegal(volume(1, 0, LEAF)), wanted=(1,)),
            Kind.ILLEGAL_LEAF,
            (),
            id="illegal-leaf-that-a-vm-names",
        ),
        pytest.param(
            image(illegal(volume(0, None, LEAF))),
            Kind.ILLEGAL_ALONE,
            (),
            id="unfinished-upload",
        ),
        pytest.param(
            image(BASE, volume(1, 0, LEAF), volume(2, 0, LEAF), wanted=(1,)),
            Kind.TWO_LEAVES,
            (),
            id="two-leaves",
        ),
        pytest.param(
            image(BASE, MIDDLE),
            Kind.LEAF_NOT_MARKED,
            (Step(Verb.SET_ROLE, name(1), role=LEAF),),
            id="snapshot-not-finished",
        ),
        pytest.param(
            image(BASE, with_meta(MIDDLE, role=LEAF), TOP),
            Kind.PARENT_NOT_MARKED,
            (Step(Verb.SET_ROLE, name(1), role=INTERNAL),),
            id="parent-marked-as-leaf",
        ),
    ],
)
def test_examine_names_the_problem_and_its_repair(
    damaged: Image, kind: Kind, steps: tuple[Step, ...]
) -> None:
    first = chain.examine(damaged)[0]
    assert (first.kind, first.repair) == (kind, steps)


def test_examine_does_not_mark_a_leaf_when_the_wanted_one_is_gone() -> None:
    problems = chain.examine(image(BASE, MIDDLE, wanted=(2,)))
    assert [(p.kind, p.repair) for p in problems] == [
        (Kind.WANTED_MISSING, ()),
        (Kind.LEAF_NOT_MARKED, ()),
    ]


def test_every_kind_has_an_explanation() -> None:
    assert set(EXPLANATIONS) == set(Kind)
    assert all(Problem(kind).explanation for kind in Kind)


@given(legal_images())
def test_examine_finds_nothing_in_a_legal_image(fine: Image) -> None:
    assert chain.examine(fine) == ()
    for leaf in fine.wanted:
        assert fine.volumes[chain.walk(fine, leaf)[-1]].parent_id is None


def _without(each: Volume, piece: str) -> Volume | None:
    """Return a volume without one of its pieces; None if nothing is left."""
    if piece == "meta":
        return replace(each, meta=None)
    if piece == "data":
        return replace(each, has_data=False, links=0, header=None)
    if piece == "lease":
        return replace(each, has_lease=False)
    return None


@given(
    legal_images(), some.data(), some.sampled_from(["meta", "data", "lease", "volume"])
)
def test_examine_misses_every_piece(
    fine: Image, draw: some.DataObject, piece: str
) -> None:
    lost = draw.draw(some.sampled_from(sorted(fine.volumes)))
    volumes = dict(fine.volumes)
    rest = _without(volumes.pop(lost), piece)
    if rest is not None:
        volumes[lost] = rest
    assert chain.examine(replace(fine, volumes=volumes))


def _usable(of: Image) -> dict[str, tuple[str, ...]]:
    """Return what QEMU reads of each usable volume: it and its backings."""
    return {
        each.volume_id: _read_by_qemu(of, each)
        for each in of.volumes.values()
        if each.is_legal and each.has_data
    }


def _read_by_qemu(of: Image, each: Volume) -> tuple[str, ...]:
    found: list[str] = []
    step: Volume | None = each
    while step is not None and step.volume_id not in found:
        found.append(step.volume_id)
        step = of.volumes.get(step.backing_id or "")
    return tuple(found)


# The longest repair mends each volume once for each of its faults.
_ROUNDS_MAX = 60


@given(any_images())
def test_repairs_end_and_keep_what_a_usable_volume_reads(damaged: Image) -> None:
    now = damaged
    for _ in range(_ROUNDS_MAX):
        repair = next((p.repair for p in chain.examine(now) if p.repair), None)
        if repair is None or repair[0].verb is Verb.REMOVE_IMAGE:
            break
        for step in repair:
            before, now = now, apply(now, step)
            _check_step(before, now, step)
    else:
        pytest.fail("the repairs go round in a circle")


def _check_step(before: Image, after: Image, step: Step) -> None:
    gone = set(before.volumes) - set(after.volumes)
    for volume_id in gone:
        assert not before.volumes[volume_id].is_legal
        assert not before.readers(volume_id)
        assert volume_id not in before.wanted
    was, now = _usable(before), _usable(after)
    for volume_id, volumes in was.items():
        if step != Step(Verb.SET_LEGALITY, volume_id, legality=Legality.ILLEGAL):
            assert now[volume_id][: len(volumes)] == volumes
        else:  # merged: no usable volume reads it
            assert not any(volume_id in each for each in now.values())


@given(any_images(), some.data())
def test_repairs_may_stop_after_any_step(damaged: Image, draw: some.DataObject) -> None:
    repair = next((p.repair for p in chain.examine(damaged) if p.repair), ())
    stop = draw.draw(some.integers(0, len(repair)))
    now = damaged
    for step in repair[:stop]:
        now = apply(now, step)
    if 0 < stop < len(repair):
        assert any(p.repair[-1:] == repair[-1:] for p in chain.examine(now))
