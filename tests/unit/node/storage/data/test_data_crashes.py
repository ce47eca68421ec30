"""Whoever dies at whatever moment of a data job: one writer at a time, one end.

Moments are before and after each call that changes something, of the manager's agent
and of the agent of the node that moves the data. They are counted, not listed.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.errors import Error
from node.storage.data.slots import ENDED
from node.storage.formats.volume_meta import Format, Legality
from node.storage.operations import add_volume, copy, create, merge, move, sparsify
from node.storage.operations.copy import CopyOf
from node.storage.operations.plan import Plan
from node.storage.process.protocol import ResourceAt
from tests.contract import disks
from tests.contract.disks import Crash, House, new
from tests.unit.node.storage import strides
from tests.unit.node.storage.data.world import V1, V2, V3, Line, World, execute
from tests.unit.node.storage.examples import OTHER_SD, SD
from tests.unit.node.storage.small_qemu import write_qcow2

DISK = "d15c0000-0000-4000-8000-000000000001"
OTHER = "d15c0000-0000-4000-8000-000000000002"
RESTART_S = 4  # looks until an agent that died is started again


def one_disk(house: House) -> None:
    house.run(create.make(house.look(DISK), new(DISK, V1, volume_format=Format.RAW)))
    with house.volume(DISK, V1).open("r+b") as file:
        file.write(b"precious")


def two_volumes(house: House) -> None:
    one_disk(house)
    house.run(add_volume.make(house.look(DISK), new(DISK, V2), V1))
    write_qcow2(house.volume(DISK, V2), V1, "raw")
    with house.volume(DISK, V2).open("ab") as file:
        file.write(b"precious")


def plan_copy(house: House) -> Plan:
    source = house.look(DISK).require()
    request = CopyOf(OTHER, V3, 1, Format.RAW)
    return copy.make(source, V1, house.look(OTHER, OTHER_SD), request)


def plan_move(house: House) -> Plan:
    return move.make(house.look(DISK), house.look(DISK, OTHER_SD))


def plan_sparsify(house: House) -> Plan:
    return sparsify.make(house.look(DISK), V1)


def plan_merge(house: House) -> Plan:
    return merge.make(house.look(DISK), V1, V2)


def has_copied(house: House) -> bool:
    return house.volume(OTHER, V3, OTHER_SD).read_bytes().startswith(b"precious")


def has_moved(house: House) -> bool:
    if house.look(DISK, OTHER_SD).disk is None:
        return False
    assert house.look(DISK).disk is None, "it is in both places"
    if not house.volume(DISK, V2, OTHER_SD).read_bytes().endswith(b"precious"):
        return False
    return house.volume(DISK, V1, OTHER_SD).read_bytes().startswith(b"precious")


def has_sparsified(house: House) -> bool:
    return _generation(house) == 1


def has_merged(house: House) -> bool:
    if not house.volume(DISK, V1).read_bytes().startswith(b"merged"):
        return False
    assert not house.volume(DISK, V2).exists(), "the upper volume is left"
    return True


def _generation(house: House) -> int:
    meta = house.look(DISK).require().image.volumes[V1].meta
    assert meta is not None
    return meta.generation


@dataclass(frozen=True, slots=True)
class Case:
    prepare: Callable[[House], None]
    plan: Callable[[House], Plan]
    is_done: Callable[[House], bool]
    own: frozenset[str] = frozenset()  # volumes that the manager fills itself


CASES = {
    "copy": Case(one_disk, plan_copy, has_copied),
    "move": Case(two_volumes, plan_move, has_moved),
    "sparsify": Case(one_disk, plan_sparsify, has_sparsified),
    "merge": Case(two_volumes, plan_merge, has_merged),
}
# One step with a program of the manager's and one of the other node's, in both orders.
MIXED = {
    "manager-first": Case(two_volumes, plan_move, has_moved, frozenset({V1})),
    "node-first": Case(two_volumes, plan_move, has_moved, frozenset({V2})),
}


@dataclass(slots=True)
class Played:
    world: World
    manager: Line
    hand: Line
    runs: list[tuple[int, str]]
    is_done: bool


def build(folder: Path, case: Case) -> tuple[World, Plan]:
    folder.mkdir()
    world = World.make(folder)
    world.own = case.own
    case.prepare(world.house)
    plan = case.plan(world.house)
    for site in world.house.sites:  # what `prepare` made has leases on the storage
        for image_id in world.house.domain(site.storage_domain_id).images():
            disk = world.house.look(image_id, site.storage_domain_id).require()
            for volume_id in disk.image.volumes:
                path = world.house.volume(image_id, volume_id, site.storage_domain_id)
                world.machines[1].write_resource(
                    ResourceAt(site.storage_domain_id, volume_id, f"{path}.lease", 0)
                )
    return world, plan


def play(
    folder: Path,
    case: Case,
    *,
    manager_breaks: int | None = None,
    successor: int = 1,
    away_s: int = 0,
    hand_breaks: int | None = None,
    is_power_cut: bool = False,
    hand_holds: int | None = None,
) -> Played:
    """Play a job with one accident, then let everybody tidy up, and judge.

    `successor`: the host that manages after the manager died, and so much later; 1:
    its agent restarts.
    """
    world, plan = build(folder, case)
    manager, hand = Line(world.machines[1]), Line(world.machines[2])
    manager.breaks_at, hand.breaks_at, hand.holds_at = (
        *(manager_breaks, hand_breaks),
        hand_holds,
    )
    executor = world.executor(manager, 1)
    manager.moments, manager.told[:] = 0, []
    world.start_hand(hand)
    world.on_pause = functools.partial(_revive, world, is_power_cut, [RESTART_S])
    try:
        execute(executor, plan)
    except Crash:
        if successor != 1:
            world.die(1)
        for _ in range(away_s):
            world.pass_time(1.0)
        line = Line(world.machines[successor])
        _recover(world, line, successor)
    except Error:
        _recover(world, Line(world.machines[1]), 1)
    if hand.holds_at is not None:
        world.let_go_on()
        if _journals(world):
            _recover(world, Line(world.machines[1]), 1)
    world.settle_down()
    return _judge(world, case, manager, hand)


def _recover(world: World, line: Line, host_id: int) -> None:
    executor = world.executor(line, host_id)
    world.tidy(line, host_id)
    for _ in range(4):
        if all(each.error is None for each in disks.recover(executor)):
            return
        world.pass_time(1.0)


def _revive(world: World, is_power_cut: bool, left: list[int]) -> None:
    """Start the agent of the hand again some time after it died, or cut its power."""
    line = world.hand_line
    if line is None or not line.is_broken:
        return
    left[0] -= 1
    if left[0] == 0 and is_power_cut:
        world.die(2)
    elif left[0] == 0:
        world.start_hand(Line(line.machine))


def _judge(world: World, case: Case, manager: Line, hand: Line) -> Played:
    house = world.house
    assert world.witness.overlaps == []
    assert world.witness.writing == {}
    assert house.leftovers() == []
    assert world.volume_leases() == []
    assert world.orders() == []
    for host_id in (1, 2, 3):
        if world.lives(host_id):
            assert world.machines[host_id].steps() == ()
    found = [
        volume.meta.legality
        for site in house.sites
        for image_id in house.domain(site.storage_domain_id).images()
        for volume in house.look(image_id, site.storage_domain_id)
        .require()
        .image.volumes.values()
        if volume.meta is not None
    ]
    assert set(found) == {Legality.LEGAL}
    is_done = bool(_try(lambda: case.is_done(house)))
    if not is_done:
        assert house.volume(DISK, V1).read_bytes().startswith(b"precious")
        assert not house.volume(OTHER, V3, OTHER_SD).exists()
    return Played(world, manager, hand, world.witness.runs, is_done)


def _try(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except FileNotFoundError:
        return False


def _journals(world: World) -> list[Path]:
    folder = world.house.folder / SD / "dom_md" / "skerry" / "journals"
    return list(folder.iterdir())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_job_is_done_by_the_other_node(tmp_path: Path, case: Case) -> None:
    played = play(tmp_path / "x", case)
    assert played.is_done
    assert {host_id for host_id, _ in played.runs} == {2}


def wrong(points: range, play_at: Callable[[int], None]) -> dict[int, AssertionError]:
    """Return what was wrong with a job that met an accident at one of the moments."""
    found = {}
    for moment in points:
        try:
            play_at(moment)
        except AssertionError as error:
            found[moment] = error
    return found


@strides.each()
@pytest.mark.parametrize("successor", [1, 2, 3])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_manager_dies_at_any_moment(
    tmp_path: Path, case: Case, successor: int, stride: int
) -> None:
    def die(moment: int) -> None:
        folder = tmp_path / str(moment)
        play(folder, case, manager_breaks=moment, successor=successor)

    moments = play(tmp_path / "whole", case).manager.moments
    assert moments > 20
    assert wrong(strides.points(moments, stride, successor), die) == {}


@strides.each()
@pytest.mark.parametrize("case", MIXED.values(), ids=MIXED)
def test_manager_restarts_in_a_step_that_both_work_on(
    tmp_path: Path, case: Case, stride: int
) -> None:
    def restart(moment: int) -> None:
        folder = tmp_path / str(moment)  # the other one runs while it is away
        play(folder, case, manager_breaks=moment, away_s=2)

    whole = play(tmp_path / "whole", case)
    assert {host_id for host_id, _ in whole.runs} == {1, 2}
    begin = whole.manager.told.index("run") * 2
    assert wrong(range(begin, whole.manager.moments, stride), restart) == {}


@strides.each()
@pytest.mark.parametrize("is_power_cut", [False, True], ids=["agent", "power"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_data_node_dies_at_any_moment(
    tmp_path: Path, case: Case, is_power_cut: bool, stride: int
) -> None:
    def die(moment: int) -> None:
        folder = tmp_path / str(moment)
        played = play(folder, case, hand_breaks=moment, is_power_cut=is_power_cut)
        assert played.is_done

    moments = play(tmp_path / "whole", case).hand.moments
    assert moments > 10
    assert wrong(strides.points(moments, stride, int(is_power_cut)), die) == {}


@strides.each()
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_data_node_is_held_up_at_any_moment(
    tmp_path: Path, case: Case, stride: int
) -> None:
    """It goes on when the manager has done all that it does without it."""

    def hold_up(moment: int) -> None:
        assert play(tmp_path / str(moment), case, hand_holds=moment).is_done

    moments = play(tmp_path / "whole", case).hand.moments
    assert wrong(strides.points(moments, stride, 2), hold_up) == {}


def test_reports_end(tmp_path: Path) -> None:
    played = play(tmp_path / "x", CASES["copy"])
    said = played.world.board(played.world.machines[3]).reports(2)
    assert said is not None
    assert not [each for each in said.reports if each.work not in ENDED]
