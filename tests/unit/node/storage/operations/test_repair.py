"""Repairs as plans: what they do, and what they leave to a person."""

from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import assume, given

from node.storage.disks import chain
from node.storage.disks.chain import Image
from node.storage.disks.chain_problems import Kind
from node.storage.formats import volume_meta
from node.storage.operations import plan as plans
from node.storage.operations import repair
from node.storage.operations.facts import Disk, Place, Site
from node.storage.operations.plan import Plan, Verb
from tests.contract.disks import code_of
from tests.unit.node.storage import images
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, SD
from tests.unit.node.storage.images import (
    LEAF,
    SHARED,
    illegal,
    name,
    reads,
    volume,
    with_meta,
)


def place(image: Image) -> Place:
    formats = dict.fromkeys(image.volumes, "qcow2")
    return Place(Site(SD), IMAGE, Disk(Site(SD), image, formats))


def mend(image: Image, kind: Kind, number: int | None = 0) -> Plan:
    volume_id = "" if number is None else name(number)
    return repair.make(place(image), kind, volume_id, {})


def verbs(made: Plan) -> list[tuple[str, str]]:
    return [
        (action.verb.value, PurePosixPath(action.path).name)
        for action in made.actions()
    ]


MERGED = images.image(volume(0, None), volume(1, 0), reads(volume(2, 1, LEAF), 0))
LEFT = images.image(volume(0, None, LEAF), illegal(volume(1, 0, LEAF)))


def test_repair_writes_metadata_in_the_order_of_the_steps() -> None:
    made = mend(MERGED, Kind.MERGE_NOT_RECORDED, 2)
    assert verbs(made) == [
        ("write_whole", f"{name(1)}.meta"),
        ("write_whole", f"{name(2)}.meta"),
    ]
    marked, followed = (
        volume_meta.parse(action.text.encode()) for action in made.actions()
    )
    assert marked.legality is volume_meta.Legality.ILLEGAL
    assert followed.parent_id == name(0)


def test_repair_removes_metadata_last_and_then_the_mark() -> None:
    made = mend(LEFT, Kind.MERGED_VOLUME_LEFT, 1)
    removed = [f"{name(1)}.meta", f"{name(1)}.turned"]
    assert verbs(made)[-2:] == [("remove", each) for each in removed]
    assert ("remove", name(1)) in verbs(made)


def test_repair_makes_a_lease() -> None:
    lost = images.image(volume(0, None, LEAF, has_lease=False))
    made = mend(lost, Kind.LEASE_MISSING)
    assert [verb for verb, _ in verbs(made)] == ["make_file", "write_resource"]


def test_repair_removes_an_empty_folder_only() -> None:
    made = mend(images.image(), Kind.NO_VOLUMES, None)
    assert [action.verb for action in made.actions()] == [Verb.REMOVE]


def test_repair_links_the_template_again() -> None:
    base = images.image(volume(0, None, SHARED, links=2))
    base = replace(base, image_id=OTHER_IMAGE)
    owner = with_meta(base.volumes[name(0)], image_id=OTHER_IMAGE)
    template = Disk(Site(SD), replace(base, volumes={name(0): owner}), {})
    clone = place(images.image(volume(1, 0, LEAF)))
    made = repair.make(clone, Kind.TEMPLATE_MISSING, name(1), {name(0): template})
    assert [action.verb for action in made.actions()] == [Verb.LINK] * 3
    assert all(f"/{IMAGE}/{name(0)}" in action.target for action in made.actions())


@pytest.mark.parametrize(
    ("image", "kind", "number", "code"),
    [
        pytest.param(
            images.image(illegal(volume(0, None, LEAF))),
            Kind.ILLEGAL_ALONE,
            0,
            "repair_needs_person",
            id="person",
        ),
        pytest.param(
            images.image(
                volume(0, None, has_lease=False), volume(1, 0, LEAF, has_lease=False)
            ),
            Kind.LEASE_MISSING,
            1,
            "repair_out_of_turn",
            id="out-of-turn",
        ),
    ],
)
def test_repair_refuses(image: Image, kind: Kind, number: int, code: str) -> None:
    assert code_of(lambda: mend(image, kind, number)) == code


def test_repair_does_nothing_when_the_problem_is_gone() -> None:
    well = images.image(volume(0, None, LEAF))
    assert mend(well, Kind.LEASE_MISSING) == Plan()


@given(images.any_images())
def test_first_repair_of_any_image_is_a_plan_that_journals_take(image: Image) -> None:
    image = replace(image, templates={})
    first = next((each for each in chain.examine(image) if each.repair), None)
    assume(first is not None)
    assert first is not None
    made = repair.make(place(image), first.kind, first.volume_id, {})
    plans.check(made)
    assert made.steps
    assert made.storage_domains() == {SD}


WHOLE = images.image(volume(0, None, LEAF))
GONE = images.image(volume(0, None, LEAF, has_data=False))


@pytest.mark.parametrize(
    ("image", "has_remains", "code", "count"),
    [
        pytest.param(WHOLE, False, "", 0, id="none"),
        pytest.param(WHOLE, True, "", 1, id="beside-a-whole-image"),
        pytest.param(None, True, "", 1, id="alone"),
        pytest.param(GONE, True, "repair_needs_person", 0, id="beside-a-damaged-one"),
    ],
)
def test_remains_are_purged_if_nothing_may_need_them(
    image: Image | None, has_remains: bool, code: str, count: int
) -> None:
    disk = None if image is None else place(image).disk
    where = Place(Site(SD), IMAGE, disk, has_remains)
    made: list[Plan] = []
    found = code_of(lambda: made.append(repair.make(where, Kind.REMAINS, "", {})))
    assert found == code
    purges = [each for one in made for each in verbs(one)]
    assert purges == [("remove_tree", f"_remove_me_{IMAGE}")] * count
