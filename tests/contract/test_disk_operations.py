"""What is left of each operation on disks, wherever its manager stops.

With the real qemu-img. Each operation is carried out once to count its points; then
once for each point, and somebody else goes on. What else is asked of each point (a
guest starts, the storage is full, recovery stops as well) is asked of some of them, of
others for each operation; of all with SKERRY_ALL_POINTS=1, which takes ten minutes:

    SKERRY_ALL_POINTS=1 pytest -n 4 tests/contract/test_disk_operations.py
"""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from node.errors import Error
from node.model.storage import DiskQos
from node.storage.disks import chain
from node.storage.disks.actions import ProgramFailed
from node.storage.formats.disk_options import DiskOptions, OptionsChange
from node.storage.formats.volume_meta import Allocation, Format, VolumeRole
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
    record_size,
    resize,
    sparsify,
)
from node.storage.operations import plan as plans
from node.storage.operations.copy import CopyOf
from node.storage.operations.facts import Place
from node.storage.operations.plan import Plan, Verb
from node.units import MiB
from tests.contract import disks, stages
from tests.contract.disks import Crash, House, Manager, State, make_disk, new, qemu_io
from tests.unit.node.storage import images
from tests.unit.node.storage.examples import OTHER_SD, SD

DISK = "d15c0000-0000-4000-8000-000000000001"
OTHER = "d15c0000-0000-4000-8000-000000000002"
TEMPLATE = "d15c0000-0000-4000-8000-000000000003"
V1, V2, V3, V4, T1 = (f"70100000-0000-4000-8000-00000000000{n}" for n in range(1, 6))

pytestmark = disks.NEED_QEMU_UTILS


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    prepare: Callable[[House], object]
    plan: Callable[[House], Plan]
    # The leaves that VMs name, by image: of an image with several leaves.
    wanted: Mapping[str, Sequence[str]] = field(default_factory=dict)


def blank(house: House) -> None:
    house.make()


def one_disk(house: House, **fields: Any) -> None:
    house.make()
    make_disk(house, DISK, V1, "write -P 1 0 1M", "write -P 0 2M 1M", **fields)


def snapshots(house: House, **fields: Any) -> None:
    """Make a chain of three volumes, each with data of its own."""
    one_disk(house, **fields)
    for number, (parent, volume_id) in enumerate([(V1, V2), (V2, V3)], 2):
        request = new(DISK, volume_id)
        house.run(add_volume.make(house.look(DISK), request, parent))
        offset = number * 64
        path = house.volume(DISK, volume_id)
        writes = (f"write -P {number} {offset}k 128k", "write -P 0 3M 512k")
        qemu_io(path, Format.COW, *writes)


def preview(house: House) -> None:
    """Make a second leaf over the first snapshot."""
    snapshots(house)
    house.run(add_volume.make(house.look(DISK, SD, [V3]), new(DISK, V4), V1))
    qemu_io(house.volume(DISK, V4), Format.COW, "write -P 9 0 64k")


def template(house: House, storage_domain_id: str = SD) -> None:
    house.make()
    make_disk(house, TEMPLATE, T1, "write -P 7 0 1M")
    house.run(change.make_template(house.look(TEMPLATE), T1))
    if storage_domain_id != SD:
        source = house.look(TEMPLATE).require()
        place = house.look(TEMPLATE, storage_domain_id)
        request = CopyOf(TEMPLATE, T1, 1, is_template=True)
        house.run(copy.make(source, T1, place, request))


def clone(house: House) -> None:
    template(house, OTHER_SD)
    request = new(DISK, V1)
    place = house.look(DISK)
    house.run(create.make(place, request, house.look(TEMPLATE).require()))
    qemu_io(house.volume(DISK, V1), Format.COW, "write -P 1 512k 1M")


def closing(house: House) -> None:
    """Take a live merge of the leaf to its pivot: QEMU copied the data down."""
    snapshots(house)
    house.run(live_merge.prepare(house.look(DISK), V2, V3))
    disks.run("qemu-img", "commit", "-q", "-d", str(house.volume(DISK, V3)))


def committed(house: House) -> None:
    """Let QEMU merge the middle volume, header above it included."""
    snapshots(house)
    house.run(live_merge.prepare(house.look(DISK), V1, V2))
    disks.run("qemu-img", "commit", "-q", "-d", str(house.volume(DISK, V2)))
    words = ("rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", V1)
    disks.run("qemu-img", *words, str(house.volume(DISK, V3)))


def make_new(house: House, **fields: Any) -> Plan:
    return create.make(house.look(DISK), new(DISK, V1, **fields))


def with_options(house: House) -> None:
    """Make a raw disk that is shared, wiped when it is deleted, and limited."""
    house.make()
    house.run(create.make(house.look(DISK), new(DISK, V1, **RAW), options=OPTIONS))
    qemu_io(house.volume(DISK, V1), Format.RAW, "write -P 1 0 1M")


def options_change(house: House) -> Plan:
    wanted = OptionsChange(is_shared=False, wipe_after_delete=False)
    return change.describe(house.look(DISK), V1, "x", wanted)


def make_clone(house: House) -> Plan:
    base = house.look(TEMPLATE).require()
    return create.make(house.look(DISK), new(DISK, V1, size_bytes=8 * MiB), base)


def base_image(house: House) -> None:
    """Put an image there that is half as large as a disk."""
    house.make()
    house.images.mkdir()
    path = house.images / "debian.qcow2"
    disks.run("qemu-img", "create", "-q", "-f", "qcow2", str(path), "2M")
    qemu_io(path, Format.COW, "write -P 5 0 512k", "write -P 6 1536k 512k")


def of_image(house: House, **fields: Any) -> Plan:
    return create.make(house.look(DISK), new(DISK, V1, **fields), image="debian")


def copy_to(house: House, volume_id: str, **fields: Any) -> Plan:
    source = house.look(DISK).require()
    request = CopyOf(OTHER, V4, 1, **fields)
    options = house.look(DISK).options
    return copy.make(source, volume_id, house.look(OTHER, OTHER_SD), request, options)


def wiping(place: Place) -> Place:
    """Return an image whose disk wants to be wiped when it goes."""
    return replace(place, options=DiskOptions(wipe_after_delete=True))


def move_it(house: House, *, is_wiped: bool = False) -> Plan:
    linked = house.look(TEMPLATE, OTHER_SD).disk
    source, target = house.look(DISK), house.look(DISK, OTHER_SD)
    return move.make(source, target, linked, is_wiped=is_wiped)


RAW = {"volume_format": Format.RAW}
OPTIONS = DiskOptions(True, True, DiskQos(total_iops=500))
FULL = {"allocation": Allocation.PREALLOCATED}
CASES = (
    Case("create-qcow2", blank, make_new),
    Case("create-raw", blank, lambda house: make_new(house, **RAW)),
    Case("create-raw-full", blank, lambda house: make_new(house, **RAW, **FULL)),
    Case("create-qcow2-full", blank, lambda house: make_new(house, **FULL)),
    Case(
        "create-with-options",
        blank,
        lambda house: create.make(
            house.look(DISK), new(DISK, V1, **RAW), options=OPTIONS
        ),
    ),
    Case("create-of-image", base_image, of_image),
    Case("create-of-image-raw", base_image, lambda house: of_image(house, **RAW)),
    Case(
        "create-of-image-full",
        base_image,
        lambda house: of_image(house, **RAW, **FULL),
    ),
    Case("change-options", with_options, options_change),
    Case("delete-with-options", with_options, lambda h: delete.make(h.look(DISK))),
    Case(
        "copy-with-options",
        with_options,
        lambda house: copy_to(house, V1, volume_format=Format.COW),
    ),
    Case("move-with-options", with_options, move_it),
    Case("clone", template, make_clone),
    Case("delete", snapshots, lambda house: delete.make(house.look(DISK))),
    Case(
        "delete-wiped",
        clone,
        lambda house: delete.make(house.look(DISK), is_wiped=True),
    ),
    Case(
        "resize-qcow2",
        snapshots,
        lambda house: resize.make(house.look(DISK), V3, 8 * MiB),
    ),
    Case(
        "resize-raw-full",
        lambda house: one_disk(house, **RAW, **FULL),
        lambda house: resize.make(house.look(DISK), V1, 8 * MiB),
    ),
    Case(
        "record-size",
        snapshots,
        lambda house: record_size.make(house.look(DISK), V3, 8 * MiB),
    ),
    Case(
        "describe", one_disk, lambda house: change.describe(house.look(DISK), V1, "x")
    ),
    Case(
        "make-template",
        one_disk,
        lambda house: change.make_template(house.look(DISK), V1),
    ),
    Case(
        "add-volume",
        snapshots,
        lambda house: add_volume.make(house.look(DISK), new(DISK, V4), V3),
    ),
    Case(
        "add-volume-on-raw",
        lambda house: one_disk(house, **RAW),
        lambda house: add_volume.make(house.look(DISK), new(DISK, V4), V1),
    ),
    Case(
        "merge-leaf",
        snapshots,
        lambda house: merge.make(house.look(DISK), V2, V3),
    ),
    Case(
        "merge-middle",
        snapshots,
        lambda house: merge.make(house.look(DISK), V1, V2),
    ),
    Case(
        "merge-wiped",
        snapshots,
        lambda house: merge.make(wiping(house.look(DISK)), V1, V2),
    ),
    Case(
        "merge-into-raw",
        lambda house: snapshots(house, **RAW),
        lambda house: merge.make(house.look(DISK), V1, V2),
    ),
    Case(
        "live-merge-finish-leaf",
        closing,
        lambda house: live_merge.finish(house.look(DISK), V2, V3),
    ),
    Case(
        "live-merge-finish-middle",
        committed,
        lambda house: live_merge.finish(house.look(DISK), V1, V2),
    ),
    Case(
        "live-merge-abandon",
        closing,
        lambda house: live_merge.abandon(house.look(DISK), V3),
    ),
    Case(
        "undo-preview",
        preview,
        lambda house: discard.make(house.look(DISK, SD, [V3, V4]), V4, V3),
        {DISK: [V3, V4]},
    ),
    Case(
        "commit-preview",
        preview,
        lambda house: discard.make(house.look(DISK, SD, [V3, V4]), V3, V4),
        {DISK: [V3, V4]},
    ),
    Case(
        "discard-wiped",
        preview,
        lambda house: discard.make(wiping(house.look(DISK, SD, [V3, V4])), V3, V1),
        {DISK: [V3, V4]},
    ),
    Case(
        "discard-failed-snapshot",
        snapshots,
        lambda house: discard.make(house.look(DISK), V3, V2),
    ),
    Case("copy-to-raw", snapshots, lambda house: copy_to(house, V3, **RAW)),
    Case(
        "copy-clone-of-snapshot",
        clone,
        lambda house: copy_to(house, V1, is_template=True),
    ),
    Case("move", snapshots, move_it),
    Case("move-clone-wiped", clone, lambda house: move_it(house, is_wiped=True)),
    Case(
        "move-raw-full",
        lambda house: one_disk(house, **RAW, **FULL),
        move_it,
    ),
    Case("sparsify", snapshots, lambda house: sparsify.make(house.look(DISK), V3)),
    Case(
        "sparsify-raw",
        lambda house: one_disk(house, **RAW),
        lambda house: sparsify.make(house.look(DISK), V1, is_wiped=True),
    ),
)
BY_NAME = {case.name: case for case in CASES}
# Those whose plan is about two storage domains.
SPANNING = [case for case in CASES if case.name.startswith(("copy", "move"))]
CAN_BE_ILLEGAL = frozenset({"live-merge-finish-leaf", "live-merge-abandon"})


@dataclass(frozen=True, slots=True)
class Stage(stages.Stage):
    """One operation: the house before it, its plan, and both ends."""

    case: Case
    before: State
    after: State
    actions: int

    def check(self, house: House, manager: Manager, where: str) -> bool:
        """Check that one of both ends is there and nothing else; True: the later."""
        assert house.leftovers() == [], where
        assert manager.guard.steps() == (), where
        state = house.state()
        ends = {"before": self.before, "after": self.after}
        end = [name for name, each in ends.items() if is_same(state, each)]
        assert end, f"{where}: {state}"
        if end[-1] == "after" or self.case.name not in (
            CAN_BE_ILLEGAL | {"live-merge-finish-middle"}
        ):
            assert house.problems(self.case.wanted) == [], where
        return end[-1] == "after"


def is_same(one: State, other: State) -> bool:
    """Tell whether volumes, metadata, contents and space are the same."""
    return one.keys() == other.keys() and all(
        meta == other[key][0]
        and content == other[key][1]
        and abs(space - other[key][2]) <= 64 * 1024
        for key, (meta, content, space) in one.items()
    )


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def stage(request: pytest.FixtureRequest, folder: Path) -> Stage:
    case: Case = request.param
    house = House(folder / "house")
    case.prepare(house)
    plan = plans.joined(case.plan(house))
    assert plan.steps
    assert (plan.storage_domains() == {SD, OTHER_SD}) == (case in SPANNING)
    done = house.copy(folder / "done")
    before = done.state()
    manager = Manager.of(done)
    manager.execute(plan)
    after = done.state()
    assert not is_same(before, after)
    moments, actions = manager.guard.moments, manager.guard.actions
    made = Stage(house, plan, folder, moments, case, before, after, actions)
    assert made.check(done, manager, "undisturbed")
    return made


def test_operation_ends_whole_wherever_its_manager_stops(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    ends = []
    for point in range(stage.moments):
        house, manager, where = stage.stop(point)
        later = manager.next(house)
        found = later.recover()
        assert [each.error for each in found if each.error] == [], where
        ends.append(stage.check(house, later, where))
        assert later.recover() == (), where
        if not ends[-1] and point % AGAIN == 0:
            later.execute(stage.case.plan(house))
            assert stage.check(house, later, f"{where}, again")
    record_property("points", stage.moments)
    assert ends[-1], "the last point is after the end"
    assert ends == sorted(ends), "it goes on once it has been decided"


@pytest.mark.parametrize("volume_format", [Format.COW, Format.RAW])
def test_disk_of_an_image_reads_as_the_image_and_zeros(
    folder: Path, volume_format: Format
) -> None:
    house = House(folder / "house")
    base_image(house)
    house.run(of_image(house, volume_format=volume_format))
    reads = ("read -P 5 0 512k", "read -P 0 512k 1M", "read -P 6 1536k 512k")
    qemu_io(house.volume(DISK, V1), volume_format, *reads, "read -P 0 2M 2M")
    qemu_io(house.images / "debian.qcow2", Format.COW, *reads)


@pytest.mark.parametrize("secret_format", ["raw", "qcow2"])
def test_disk_of_an_image_takes_nothing_that_the_image_names(
    folder: Path, secret_format: str
) -> None:
    """The file was another one when its header was read."""
    house = House(folder / "house")
    base_image(house)
    secret = folder / "secret"
    disks.run("qemu-img", "create", "-q", "-f", secret_format, str(secret), "2M")
    secret_kind = {"raw": Format.RAW, "qcow2": Format.COW}[secret_format]
    qemu_io(secret, secret_kind, "write -P 7 0 2M")
    words = ["-q", "-f", "qcow2", "-F", secret_format, "-b", str(secret)]
    disks.run("qemu-img", "create", *words, str(house.images / "debian.qcow2"))
    house.run(of_image(house))
    qemu_io(house.volume(DISK, V1), Format.COW, "read -P 0 0 4M")


def test_image_that_is_no_qcow2_any_more_becomes_no_disk(folder: Path) -> None:
    house = House(folder / "house")
    base_image(house)
    (house.images / "debian.qcow2").write_bytes(b"s" * 2 * MiB)
    with pytest.raises(ProgramFailed):
        house.run(of_image(house))
    assert house.leftovers() == []
    assert house.look(DISK).disk is None


def some(stage: Stage, count: int, stride: int = 1) -> range:
    """Return the numbers to try, of so many: each operation begins with another."""
    if not ALL_POINTS:
        stride *= STRIDE_QUICK
    return range(CASES.index(stage.case) % min(stride, count), count, stride)


def test_guest_that_starts_at_any_point_keeps_its_disk(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    """What may be started by the metadata alone is touched by nobody afterwards."""
    started = 0
    roles = {key: meta.role for key, (meta, *_) in stage.before.items()}
    for point in some(stage, stage.moments):
        house, manager, where = stage.stop(point)
        # VMs name the leaves that were: until it has ended they know of no other.
        files = {
            path: disks.identity(path)
            for place, image_id, chain in house.startable()
            if roles.get((place, image_id, chain[0])) is VolumeRole.LEAF
            for path in (house.volume(image_id, each, place) for each in chain)
        }
        later = manager.next(house)
        assert [each.error for each in later.recover() if each.error] == [], where
        assert {path: disks.identity(path) for path in files} == files, where
        started += bool(files)
    record_property("started", f"{started} of {len(some(stage, stage.moments))}")


@pytest.mark.parametrize("stage", SPANNING, ids=lambda case: case.name, indirect=True)
def test_undo_holds_no_storage_domain_for_another_that_is_gone(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    points = 0
    for point in some(stage, stage.moments):
        house, manager, where = stage.stop(point)
        later = manager.next(house)
        alone = Manager(
            later.guard, disks.executor(house, later.guard, later.version, {SD}), 0
        )
        found, _ = alone.executor.claim()
        alone.recover()
        if not found or found[0].is_committed:
            continue
        points += 1
        for each in alone.executor.places():
            assert {domain for domain, _ in each} == {OTHER_SD}, where
        here = {key: each for key, each in house.state().items() if key[0] == SD}
        before = {key: each for key, each in stage.before.items() if key[0] == SD}
        assert is_same(here, before), where
        # Who comes after that ends the rest.
        assert [each.error for each in later.recover() if each.error] == [], where
        assert not stage.check(house, later, where)
    record_property("points", points)
    assert points


def test_operation_that_found_no_space_ends_whole_wherever_it_stops_then(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    points = 0
    for action in some(stage, stage.actions, STRIDE_FULL):
        for point in itertools.count(3 * action):
            house, manager = stage.start()
            manager.guard.refuse_at, manager.guard.stays_full = action, True
            manager.guard.stop_at = point
            try:
                manager.execute(stage.plan)
            except Crash as crash:
                where = f"action {action} refused, {crash}"
            except Error:
                break
            points += 1
            later = manager.next(house)
            manager.guard.stays_full = False
            assert [each.error for each in later.recover() if each.error] == [], where
            stage.check(house, later, where)
    record_property("points", points)


def test_operation_goes_on_when_only_the_agent_stopped(stage: Stage) -> None:
    for point in some(stage, stage.moments):
        house, manager, where = stage.stop(point)
        later = manager.again(house)
        found = later.recover()
        assert [each.error for each in found if each.error] == [], where
        is_after = stage.check(house, later, where)
        has_run = any(f", after {each}" in where for each in ("qemu-img", "allocate"))
        assert is_after or not has_run, f"{where}: its program had ended"


def test_recovery_ends_whole_wherever_it_stops(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    points = 0
    for point in some(stage, stage.moments, STRIDE):
        for again in itertools.count(point % STRIDE_AGAIN, STRIDE_AGAIN):
            house, manager, where = stage.stop(point)
            second = manager.next(house)
            second.guard.stop_at = again
            try:
                second.recover()
            except Crash as crash:
                where += f", {crash}"
            third = second.again(house)
            assert [each.error for each in third.recover() if each.error] == [], where
            stage.check(house, third, where)
            points += 1
            if second.guard.moments < again:
                break
    record_property("points", points)


@pytest.mark.parametrize("stays_full", [False, True], ids=["once", "stays"])
def test_operation_is_undone_or_finished_when_there_is_no_space(
    stage: Stage, stays_full: bool, record_property: Callable[[str, object], None]
) -> None:
    undone = 0
    undoes = [action.verb for step in stage.plan.steps for action in step.undo]
    needs_space = stays_full and Verb.WRITE in undoes
    for action in some(stage, stage.actions):
        house, manager = stage.start()
        manager.guard.refuse_at = action
        manager.guard.stays_full = stays_full
        execute = manager.execute
        assert disks.code_of(partial(execute, stage.plan)) == "storage_full"
        where = f"action {action}, {manager.guard.told[action]}"
        is_left = bool(house.leftovers())
        assert needs_space or is_left == (action >= decided_at(stage.plan)), where
        later = manager.again(house)
        assert [each.error for each in later.recover() if each.error] == [], where
        is_after = stage.check(house, later, where)
        assert is_left or not is_after, where
        undone += not is_left
    record_property("undone", f"{undone} of {len(some(stage, stage.actions))}")


def decided_at(plan: Plan) -> int:
    """Return the first action whose refusal is no reason to undo."""
    before, rest = plan.steps[: plan.commit], plan.steps[plan.commit :]
    # Each with the journal that is written after it, and the first of all.
    actions = 1 + sum(len(step.do) + 1 for step in before)
    if not rest:
        return actions - 1  # the journal is removed instead
    return actions + (len(rest[0].do) if rest[0].may_refuse else 0)


@pytest.mark.parametrize(
    "stage",
    [case for case in CASES if case.name.startswith(("add-volume", "merge"))],
    ids=lambda case: case.name,
    indirect=True,
)
def test_metadata_alone_tell_what_to_repair(stage: Stage) -> None:
    for point in range(stage.moments):
        house, _, where = stage.stop(point)
        image = house.look(DISK).require().image
        for _ in range(REPAIRS_MAX):
            problems = chain.examine(image)
            steps = next((each.repair for each in problems if each.repair), ())
            for step in steps:
                image = images.apply(image, step)
        assert chain.examine(image) == (), where


# More than any of them needs: one for each volume and its parent.
REPAIRS_MAX = 10
# Of the points at which nothing was left, those from which it is begun anew.
AGAIN = 5
# Of the points of an operation, and of its recovery, those that are paired.
STRIDE, STRIDE_AGAIN = 4, 5
# Of the actions for which there is no space.
STRIDE_FULL = 2
# Of all these in `make test`.
STRIDE_QUICK = 4
ALL_POINTS = os.environ.get("SKERRY_ALL_POINTS") == "1"
