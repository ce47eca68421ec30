"""What operations refuse, and what is so already."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from node.storage.disks.chain import Image
from node.storage.formats.disk_options import DiskOptions
from node.storage.formats.volume_meta import Allocation, Format
from node.storage.operations import (
    add_volume,
    change,
    copy,
    create,
    delete,
    discard,
    live_merge,
    merge,
    move,
    plan,
    record_size,
    resize,
    sparsify,
)
from node.storage.operations.copy import CopyOf
from node.storage.operations.facts import Disk, Place, Site
from node.storage.operations.plan import Plan, Verb
from node.storage.operations.volumes import NewVolume
from node.units import GiB
from tests.contract import disks
from tests.unit.node.storage import images
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, OTHER_SD, SD
from tests.unit.node.storage.images import (
    LEAF,
    SHARED,
    illegal,
    name,
    volume,
    with_meta,
)

SITE = Site(SD)
NEW = NewVolume(IMAGE, name(9), GiB, Format.COW, Allocation.SPARSE, 0)
EMPTY = Place(SITE, IMAGE)
ELSEWHERE = Place(Site(OTHER_SD), IMAGE)


def disk(image: Image) -> Disk:
    formats = dict.fromkeys(image.volumes, "qcow2")
    return Disk(SITE, image, formats)


def place(*volumes: Any, **fields: Any) -> Place:
    image = images.image(*volumes, **fields)
    return Place(SITE, IMAGE, disk(image))


CHAIN = place(volume(0, None), volume(1, 0), volume(2, 1, LEAF))
SINGLE = place(volume(0, None, LEAF))
CLONE = place(images.template(0), volume(1, 0, LEAF))
TEMPLATE = disk(replace(images.image(volume(0, None, SHARED, links=2)), image_id=IMAGE))
FULL = place(with_meta(volume(0, None, LEAF), allocation=Allocation.PREALLOCATED))
BROKEN = place(illegal(volume(0, None, LEAF)))
PREVIEW = place(
    *(volume(0, None), volume(1, 0), volume(2, 1, LEAF), volume(3, 0, LEAF)),
    wanted=(2, 3),
)
TARGET = Place(Site(OTHER_SD), OTHER_IMAGE)
COPY = CopyOf(OTHER_IMAGE, name(9), 0)
GOING = replace(EMPTY, has_remains=True)


def new(**fields: Any) -> NewVolume:
    return replace(NEW, **fields)


CASES: dict[str, tuple[Callable[[], Plan], str]] = {
    **{
        f"create-size-{size}": (
            partial(create.make, EMPTY, new(size_bytes=size)),
            "bad_disk_size",
        )
        for size in (0, -512, 513, 2**63, 2**51 + 512)
    },
    "create-4k-sector": (
        lambda: create.make(replace(EMPTY, site=Site(SD, 4096)), new(size_bytes=512)),
        "bad_disk_size",
    ),
    "create-bad-image": (
        lambda: create.make(EMPTY, new(image_id="../x")),
        "bad_storage_id",
    ),
    "create-bad-volume": (
        lambda: create.make(EMPTY, new(volume_id="x/y")),
        "bad_storage_id",
    ),
    "create-long-name": (
        lambda: create.make(EMPTY, new(description="x" * 211)),
        "long_volume_metadata",
    ),
    "create-name-of-two-lines": (
        lambda: create.make(EMPTY, new(description="x\nLEGALITY=ILLEGAL")),
        "unwritable_metadata",
    ),
    "create-other-exists": (lambda: create.make(SINGLE, NEW), "disk_exists"),
    "create-removal-under-way": (lambda: create.make(GOING, NEW), "disk_going"),
    "clone-of-no-template": (
        lambda: create.make(EMPTY, NEW, SINGLE.disk),
        "not_a_template",
    ),
    "clone-on-other-storage-domain": (
        lambda: create.make(ELSEWHERE, NEW, TEMPLATE),
        "not_a_template",
    ),
    "clone-smaller": (
        lambda: create.make(EMPTY, new(size_bytes=GiB // 2), TEMPLATE),
        "bad_disk_size",
    ),
    "clone-raw": (
        lambda: create.make(EMPTY, new(volume_format=Format.RAW), TEMPLATE),
        "bad_disk_allocation",
    ),
    "delete-template-in-use": (
        lambda: delete.make(Place(SITE, IMAGE, TEMPLATE), users=[OTHER_IMAGE]),
        "template_in_use",
    ),
    "delete-template-with-links": (
        lambda: delete.make(Place(SITE, IMAGE, TEMPLATE)),
        "template_in_use",
    ),
    "resize-shrinks": (lambda: resize.make(SINGLE, name(0), GiB // 2), "disk_shrinks"),
    "resize-size": (lambda: resize.make(SINGLE, name(0), GiB + 1), "bad_disk_size"),
    "resize-inner": (lambda: resize.make(CHAIN, name(1), 2 * GiB), "not_a_leaf"),
    "resize-template": (
        lambda: resize.make(CLONE, name(0), 2 * GiB),
        "disk_of_template",
    ),
    "resize-illegal": (lambda: resize.make(BROKEN, name(0), 2 * GiB), "image_damaged"),
    "resize-no-disk": (lambda: resize.make(EMPTY, name(0), 2 * GiB), "disk_missing"),
    "resize-no-volume": (lambda: resize.make(SINGLE, name(5), GiB), "volume_missing"),
    "record-size": (
        lambda: record_size.make(SINGLE, name(0), GiB + 1),
        "bad_disk_size",
    ),
    "record-inner": (
        lambda: record_size.make(CHAIN, name(1), 2 * GiB),
        "not_a_leaf",
    ),
    "record-no-disk": (
        lambda: record_size.make(EMPTY, name(0), 2 * GiB),
        "disk_missing",
    ),
    "describe-long": (
        lambda: change.describe(SINGLE, name(0), "x" * 211),
        "long_volume_metadata",
    ),
    "make-template-of-chain": (
        lambda: change.make_template(CHAIN, name(2)),
        "not_a_leaf",
    ),
    "add-volume-on-template": (
        lambda: add_volume.make(CLONE, NEW, name(0)),
        "not_a_leaf",
    ),
    "add-volume-taken": (
        lambda: add_volume.make(CHAIN, new(volume_id=name(1)), name(2)),
        "volume_exists",
    ),
    "merge-with-preview": (
        lambda: merge.make(PREVIEW, name(0), name(1)),
        "not_mergeable",
    ),
    "merge-no-pair": (lambda: merge.make(CHAIN, name(0), name(2)), "not_mergeable"),
    "merge-into-template": (
        lambda: merge.make(CLONE, name(0), name(1)),
        "disk_of_template",
    ),
    "live-merge-before-the-pivot": (
        lambda: live_merge.finish(CHAIN, name(1), name(2)),
        "volume_still_read",
    ),
    "live-merge-header-still-there": (
        lambda: live_merge.finish(CHAIN, name(0), name(1)),
        "volume_still_read",
    ),
    "discard-inner": (lambda: discard.make(CHAIN, name(1), name(0)), "not_a_leaf"),
    "discard-kept": (
        lambda: discard.make(CHAIN, name(2), name(2)),
        "would_lose_kept_volume",
    ),
    "copy-exists": (
        lambda: copy.make(SINGLE.require(), name(0), CHAIN, CopyOf(IMAGE, name(9), 0)),
        "disk_exists",
    ),
    "copy-damaged": (
        lambda: copy.make(BROKEN.require(), name(0), EMPTY, CopyOf(IMAGE, name(9), 0)),
        "image_damaged",
    ),
    "move-same": (lambda: move.make(SINGLE, SINGLE), "disk_is_there"),
    "move-exists": (
        lambda: move.make(SINGLE, replace(ELSEWHERE, disk=SINGLE.disk)),
        "disk_exists",
    ),
    "move-without-template": (
        lambda: move.make(CLONE, ELSEWHERE),
        "template_elsewhere",
    ),
    "move-template-in-use": (
        lambda: move.make(Place(SITE, IMAGE, TEMPLATE), ELSEWHERE),
        "template_in_use",
    ),
    "sparsify-preallocated": (
        lambda: sparsify.make(FULL, name(0)),
        "disk_is_preallocated",
    ),
    "sparsify-damaged": (lambda: sparsify.make(BROKEN, name(0)), "image_damaged"),
}


@pytest.mark.parametrize(("make", "code"), CASES.values(), ids=CASES)
def test_operation_refuses(make: Callable[[], Plan], code: str) -> None:
    assert disks.code_of(make) == code


SO_ALREADY: dict[str, Callable[[], Plan]] = {
    "record-size": lambda: record_size.make(SINGLE, name(0), GiB),
    "create": lambda: create.make(SINGLE, new(volume_id=name(0))),
    "delete": lambda: delete.make(EMPTY),
    "resize": lambda: resize.make(SINGLE, name(0), GiB),
    "describe": lambda: change.describe(SINGLE, name(0), ""),
    "make-template": lambda: change.make_template(
        Place(SITE, IMAGE, TEMPLATE), name(0)
    ),
    "add-volume": lambda: add_volume.make(CHAIN, new(volume_id=name(2)), name(1)),
    "discard": lambda: discard.make(SINGLE, name(5), name(0)),
    "live-merge": lambda: live_merge.finish(SINGLE, name(0), name(5)),
    "abandon": lambda: live_merge.abandon(SINGLE, name(0)),
    "move": lambda: move.make(EMPTY, replace(ELSEWHERE, disk=SINGLE.disk)),
}


@pytest.mark.parametrize("make", SO_ALREADY.values(), ids=SO_ALREADY)
def test_operation_plans_nothing_when_it_is_so_already(
    make: Callable[[], Plan],
) -> None:
    assert make() == Plan()


def test_delete_names_the_users_and_never_wipes_a_template() -> None:
    with pytest.raises(delete.TemplateInUse, match=OTHER_IMAGE):
        delete.make(Place(SITE, IMAGE, TEMPLATE), users=[OTHER_IMAGE])
    wiped = [
        action.path.rpartition("/")[2]
        for action in delete.make(CLONE, is_wiped=True).actions()
        if action.verb is Verb.WIPE
    ]
    assert wiped == [name(1)]


def test_every_plan_may_be_journalled() -> None:
    made = (
        create.make(EMPTY, NEW),
        create.make(EMPTY, NEW, TEMPLATE),
        delete.make(CHAIN, is_wiped=True),
        resize.make(CHAIN, name(2), 2 * GiB),
        add_volume.make(CHAIN, NEW, name(2)),
        merge.make(CHAIN, name(0), name(1)),
        move.make(CHAIN, ELSEWHERE),
        sparsify.make(CHAIN, name(2)),
    )
    for each in made:
        plan.check(each)
        assert each.steps


@pytest.mark.parametrize(
    ("make", "gone"),
    [
        pytest.param(lambda at: merge.make(at, name(0), name(1)), [1], id="merge"),
        pytest.param(lambda at: discard.make(at, name(2), name(0)), [2, 1], id="cut"),
        pytest.param(
            lambda at: live_merge.finish(_pivoted(at), name(1), name(2)),
            [2],
            id="live-merge",
        ),
    ],
)
@pytest.mark.parametrize("is_wiped", [True, False], ids=["wiped", "as-it-is"])
def test_volumes_that_go_are_wiped_before_if_their_disk_asks_for_it(
    make: Callable[[Place], Plan], gone: list[int], is_wiped: bool
) -> None:
    at = replace(CHAIN, options=DiskOptions(wipe_after_delete=is_wiped))
    found = [
        (action.verb, action.path.rpartition("/")[2])
        for step in make(at).steps
        for action in step.do
        if action.verb is Verb.WIPE
        or (action.verb is Verb.REMOVE and "." not in action.path.rpartition("/")[2])
    ]
    verbs = (Verb.WIPE, Verb.REMOVE) if is_wiped else (Verb.REMOVE,)
    assert found == [(verb, name(each)) for each in gone for verb in verbs]


def _pivoted(at: Place) -> Place:
    """Return a place whose leaf a guest has turned away from."""
    found = at.require()
    leaf = illegal(found.image.volumes[name(2)])
    volumes = {**found.image.volumes, name(2): leaf}
    return replace(at, disk=replace(found, image=replace(found.image, volumes=volumes)))


def test_delete_never_wipes_what_has_another_name() -> None:
    linked = place(volume(0, None), volume(1, 0, LEAF, links=2))
    wiped = [
        action.path.rpartition("/")[2]
        for action in delete.make(linked, is_wiped=True).actions()
        if action.verb is Verb.WIPE
    ]
    assert wiped == [name(0)]


COMMITS: dict[str, tuple[Plan, str]] = {
    "create": (create.make(EMPTY, NEW), "publish"),
    "delete": (delete.make(CHAIN), "purge"),
    "resize": (resize.make(CHAIN, name(2), 2 * GiB), "grow"),
    "merge": (merge.make(CHAIN, name(0), name(1)), "commit"),
    "discard": (discard.make(CHAIN, name(2), name(1)), f"discard {name(2)}"),
    "make-template": (change.make_template(SINGLE, name(0)), "share"),
    "copy": (copy.make(SINGLE.require(), name(0), TARGET, COPY), "publish"),
    "move": (move.make(CHAIN, ELSEWHERE), "publish"),
    "sparsify": (sparsify.make(CHAIN, name(2)), "retire"),
}


@pytest.mark.parametrize(("made", "first"), COMMITS.values(), ids=COMMITS)
def test_operation_is_finished_from_a_step_on(made: Plan, first: str) -> None:
    assert made.steps[made.commit].name == first
    refusable = [step.name for step in made.steps if step.may_refuse]
    assert refusable == [name for name in ("grow", "commit") if name == first]


def test_copy_freezes_a_leaf_and_nothing_else() -> None:
    for source, volume_id, is_frozen in (
        (CHAIN.require(), name(2), True),
        (CHAIN.require(), name(1), False),
        (TEMPLATE, name(0), False),
    ):
        names = [step.name for step in copy.make(source, volume_id, TARGET, COPY).steps]
        assert ("freeze" in names, "thaw" in names) == (is_frozen, is_frozen)


def test_delete_takes_the_name_away_before_it_counts() -> None:
    damaged = place(replace(volume(0, None), meta=None), volume(1, 0, LEAF))
    for each in (CHAIN, damaged, place()):
        made = delete.make(each)
        (back,) = made.way_back(0)
        assert (back.verb, back.target) == (Verb.RENAME, str(each.folder))
        assert [step.name for step in made.steps] == ["retire", "purge"]


def test_programs_that_change_a_disk_in_place_write_directly() -> None:
    raw = place(with_meta(volume(0, None, LEAF), volume_format=Format.RAW))
    commands = [
        action.words
        for made in (
            merge.make(CHAIN, name(0), name(1)),
            resize.make(CHAIN, name(2), 2 * GiB),
            resize.make(raw, name(0), 2 * GiB),
        )
        for action in made.actions()
        if action.verb is Verb.QEMU_IMG
    ]
    assert sorted(words[0] for words in commands) == [
        *("commit", "rebase", "resize", "resize")
    ]
    for words in commands:
        is_direct = ("-t", "none") in pairwise(words)
        assert is_direct or "cache.direct=on" in words[-2], words


MERGING = place(volume(0, None), illegal(volume(1, 0, LEAF)))


def test_settle_follows_the_definition() -> None:
    settle = partial(live_merge.settle, MERGING, name(0), name(1))
    assert settle(name(0)) == live_merge.finish(MERGING, name(0), name(1))
    assert settle(name(1)) == live_merge.abandon(MERGING, name(1))
    assert disks.code_of(lambda: settle(name(5))) == "not_mergeable"


NAMED = '{"DiskAlias":"root"}'


def test_new_leaf_says_what_the_disk_is_called() -> None:
    base = with_meta(volume(0, None, LEAF), description=NAMED)
    made = add_volume.make(place(base), new(volume_id=name(9)), name(0))
    actions = (each for step in made.steps for each in step.do)
    written = [each.text for each in actions if each.path.endswith(f"{name(9)}.meta")]
    assert written
    assert all(NAMED in each for each in written)


@pytest.mark.parametrize(
    ("of_leaf", "kept"),
    [pytest.param("", NAMED, id="none"), pytest.param("{}", "{}", id="another")],
)
def test_merge_keeps_what_the_disk_is_called(of_leaf: str, kept: str) -> None:
    base = with_meta(volume(0, None), description=NAMED)
    top = with_meta(volume(1, 0, LEAF), description=of_leaf)
    chain = disk(images.image(base, top))
    assert merge.merged(chain, name(0), name(1)).description == kept
