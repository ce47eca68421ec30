"""What a node does with orders that are not as they should be, and which it reports."""

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from node.model.ids import NodeId
from node.storage.data.hand import SILENCE_S
from node.storage.data.slots import Orders, Report, Work
from node.storage.data.volume_leases import Volume
from node.storage.domains.access import LOOK_S
from node.storage.formats import volume_meta
from node.storage.formats.journal import Order
from node.storage.formats.volume_meta import (
    Allocation,
    Format,
    Legality,
    VolumeMeta,
    VolumeRole,
)
from node.storage.operations import plan
from node.storage.operations.plan import Action
from node.storage.process.protocol import ResourceAt
from tests.fakes.guard import Outcome
from tests.unit.node.storage.data.world import LOOKS, Line, World
from tests.unit.node.storage.examples import OTHER_SD, SD

DISK = "d15c0000-0000-4000-8000-000000000001"
V1, V2 = (f"70100000-0000-4000-8000-00000000000{n}" for n in (1, 2))
JOB = "5cc55a2c-0000-4000-8000-000000000001"
ORDER = "0de50000-0000-4000-8000-000000000001"
WORKSHOP = PurePosixPath("/", SD, "images", f"_remove_me_{DISK}")
CONVERT = plan.move_data(WORKSHOP / V1, "convert", "-f", "raw", "source", V1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return hosts with a volume in a workshop, and a hand on the second."""
    made = World.make(tmp_path)
    folder = Path(made.house.root(SD), "images", f"_remove_me_{DISK}")
    folder.mkdir()
    (folder / "source").write_bytes(b"data")
    (folder / V1).touch()
    (folder / f"{V1}.lease").touch()
    write_meta(made)
    made.machines[1].write_resource(lease(made))
    made.start_hand(Line(made.machines[2]))
    made.board(made.machines[1]).make()
    return made


def write_meta(world: World, **fields: object) -> None:
    meta = VolumeMeta(SD, DISK, 512, Format.RAW, Allocation.SPARSE, VolumeRole.LEAF, 1)
    meta = replace(meta, **fields)  # type: ignore[arg-type]  # what a test names
    path = Path(world.house.root(SD), "images", f"_remove_me_{DISK}", f"{V1}.meta")
    path.write_bytes(volume_meta.write(meta))


def lease(world: World) -> ResourceAt:
    path = Path(world.house.root(SD), "images", f"_remove_me_{DISK}", f"{V1}.lease")
    return ResourceAt(SD, V1, str(path), 0)


def order(world: World, node: str = "node-2", **fields: object) -> None:
    """Order the copy; its lease was never held."""
    made = Order(ORDER, JOB, CONVERT, 0, 0)
    made = replace(made, **fields)  # type: ignore[arg-type]  # what a test names
    orders = Orders(NodeId(node), (made,))
    world.board(world.machines[1]).put_orders(2, orders)


def report(world: World) -> Report | None:
    world.settle_down()
    said = world.board(world.machines[1]).reports(2)
    assert said is not None
    return said.find(ORDER)


def has_run(world: World) -> bool:
    return bool(world.witness.runs)


def test_order_is_carried_out(world: World) -> None:
    order(world)
    done = report(world)
    assert done is not None
    assert done.work is Work.DONE
    volume = Path(world.house.root(SD), "images", WORKSHOP.name, V1)
    assert volume.read_bytes() == b"data"
    assert volume_meta.parse(Path(f"{volume}.meta").read_bytes()).generation == 1
    assert world.volume_leases() == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"generation": 7}, "data_order_stale", id="generation"),
        pytest.param({"lease_version": 3}, "lease_moved", id="lease-version"),
        pytest.param(
            {"action": replace(CONVERT, words=("convert", "a", V2))},
            "bad_plan",
            id="fills-another-volume",
        ),
        pytest.param(
            {"action": replace(CONVERT, words=("convert", "json:{}", V1))},
            "bad_plan",
            id="foreign-words",
        ),
        pytest.param(
            {"action": plan.remove_tree(WORKSHOP)}, "bad_plan", id="structure"
        ),
        pytest.param(
            {"action": replace(CONVERT, target="")}, "bad_plan", id="no-volume"
        ),
        pytest.param(
            {"action": plan.move_data(WORKSHOP / V2, "convert", "source", V2)},
            "lease_failed",
            id="volume-gone",
        ),
    ],
)
def test_wrong_order_is_refused(
    world: World, fields: dict[str, Any], code: str
) -> None:
    order(world, **fields)
    said = report(world)
    assert said is not None
    assert said.work is Work.REFUSED
    assert said.code in (code, "not_a_lease" if code == "lease_failed" else code)
    assert not has_run(world)
    assert world.volume_leases() == []


def test_volume_in_use_is_not_filled(world: World) -> None:
    folder = Path(world.house.root(SD), "images")
    (folder / WORKSHOP.name).rename(folder / DISK)
    write = plan.move_data(
        PurePosixPath("/", SD, "images", DISK, V1), "convert", "source", V1
    )
    order(world, action=write)
    said = report(world)
    assert said is not None
    assert (said.work, said.code) == (Work.REFUSED, "data_order_stale")
    assert not has_run(world)


def test_illegal_volume_is_filled(world: World) -> None:
    write_meta(world, legality=Legality.ILLEGAL)
    folder = Path(world.house.root(SD), "images")
    (folder / WORKSHOP.name).rename(folder / DISK)
    write = plan.move_data(
        PurePosixPath("/", SD, "images", DISK, V1), "convert", "source", V1
    )
    order(world, action=write)
    said = report(world)
    assert said is not None
    assert said.work is Work.DONE


def test_lease_that_a_third_holds_is_waited_for(world: World) -> None:
    third = world.machines[3]
    third.acquire(lease(world))
    order(world, lease_version=1)
    said = report(world)
    assert said is not None
    assert (said.work, said.code) == (Work.WAITING, "lease_held")
    third.release(lease(world))
    said = report(world)
    assert said is not None
    assert said.work is Work.DONE


def test_orders_of_another_node_with_that_host_id_are_not_ours(world: World) -> None:
    order(world, "node-9")
    assert report(world) is None
    assert not has_run(world)


def test_storage_domain_that_is_not_here_is_waited_for(world: World) -> None:
    away = "99999999-c7d8-43d6-a663-4e52160de620"
    path = PurePosixPath("/", away, "images", f"_remove_me_{DISK}", V1)
    order(world, action=plan.move_data(path, "convert", "source", V1))
    said = report(world)
    assert said is not None
    assert (said.work, said.code) == (Work.WAITING, "storage_domain_away")


def test_program_that_fails_is_told_with_what_it_said(world: World) -> None:
    world.machines[2].fails = Outcome(1, stderr="x\nbad image\n")
    order(world)
    said = report(world)
    assert said is not None
    assert (said.work, said.code) == (Work.FAILED, "storage_program_failed")
    assert "bad image" in said.detail
    assert world.volume_leases() == []


def test_lost_lease_ends_the_program_and_is_told(world: World) -> None:
    order(world)
    world.look()
    assert world.witness.writing
    world.machines[2].lose(SD)
    assert world.witness.writing == {}
    said = report(world)
    assert said is not None
    assert said.work in (Work.LOST, Work.REFUSED, Work.WAITING)
    assert len(world.witness.runs) == 1


def test_half_a_slot_withdraws_nothing(world: World) -> None:
    order(world)
    world.look()
    path = Path(world.house.root(SD), "dom_md", "skerry", "data_jobs")
    whole = path.read_bytes()
    start = 32 * 1024
    path.write_bytes(whole[: start + 100] + b"\1" + whole[start + 101 :])
    for _ in range(LOOKS):
        world.look()
    assert world.witness.writing  # it runs on
    path.write_bytes(whole)
    said = report(world)
    assert said is not None
    assert said.work is Work.DONE


def test_new_agent_ends_what_it_has_no_order_for(world: World) -> None:
    order(world)
    world.look()
    world.board(world.machines[1]).put_orders(2, Orders(NodeId("node-2")))
    world.start_hand(Line(world.machines[2]))
    world.look()
    world.settle_down()
    assert world.witness.writing == {}
    assert world.machines[2].steps() == ()
    assert world.volume_leases() == []


def test_new_agent_knows_how_an_order_ended(world: World) -> None:
    order(world)
    assert report(world) is not None
    world.start_hand(Line(world.machines[2]))
    said = report(world)
    assert said is not None
    assert said.work is Work.DONE


def test_volume_names_its_lease_and_its_storage_domain() -> None:
    action: Action = CONVERT
    volume = Volume(PurePosixPath(action.target))
    assert volume.key == (SD, V1)
    assert volume.is_in_workshop
    assert OTHER_SD not in volume.lease_path


def test_order_that_is_withdrawn_before_its_lease_is_taken_is_not_done(
    world: World,
) -> None:
    """Also if nobody else had the lease meanwhile."""
    line = world.hand_line
    assert line is not None
    line.holds_at = 0  # before it takes the lease
    order(world)
    world.look()
    world.board(world.machines[1]).put_orders(2, Orders(NodeId("node-2")))
    world.let_go_on()
    assert not has_run(world)
    assert world.volume_leases() == []


def test_volumes_metadata_are_not_waited_for_as_long_as_the_manager_waits(
    world: World,
) -> None:
    order(world)
    assert report(world) is not None
    assert set(world.machines[2].meta_waits_s) == {LOOK_S}


def test_each_order_is_told_of_before_the_next_one_is_looked_at(world: World) -> None:
    line = world.hand_line
    assert line is not None
    two = (Order(ORDER, JOB, CONVERT, 0, 0), Order(JOB, JOB, CONVERT, 0, 0))
    other = replace(two[1], action=plan.move_data(WORKSHOP / V2, "convert", "s", V2))
    orders = Orders(NodeId("node-2"), (two[0], other))
    world.board(world.machines[1]).put_orders(2, orders)
    world.look()
    assert line.told == ["acquire", "run", "write_at", "acquire", "write_at"]


def test_program_that_does_not_die_keeps_nothing_but_itself(world: World) -> None:
    machine = world.machines[2]
    for name in ("hangs", "ends"):
        words = ("qemu-img", "convert", "source", name)
        folder = Path(world.house.root(SD), "images", WORKSHOP.name)
        machine.run(f"data.pool.{name}", words, folder=str(folder))
    machine.undying.add("data.pool.hangs")
    machine.acquire(lease(world))
    world.look()
    assert [each.step_id for each in machine.steps()] == ["data.pool.hangs"]
    assert world.volume_leases() == []


def test_program_that_does_not_die_is_waited_for_but_once(world: World) -> None:
    machine, line = world.machines[2], world.hand_line
    assert line is not None
    folder = Path(world.house.root(SD), "images", WORKSHOP.name)
    words = ("qemu-img", "convert", "source", "target")
    machine.run("data.pool.hangs", words, folder=str(folder))
    machine.undying.add("data.pool.hangs")
    for _ in range(20):
        world.look()
    assert line.told.count("cancel") == 1
    machine.undying.clear()
    machine.finish("data.pool.hangs", Outcome(-9))
    for _ in range(5):
        world.look()
    assert machine.steps() == ()


@pytest.mark.parametrize("is_new", [False, True], ids=["agent", "new-agent"])
@pytest.mark.parametrize("is_gone", [False, True], ids=["cannot-be-read", "gone"])
def test_all_is_dropped_when_the_manager_cannot_be_heard_for_long(
    world: World, is_gone: bool, is_new: bool
) -> None:
    """So that its lease is free although the node lives."""
    order(world)
    world.look()
    if is_gone:
        world.is_master_gone = True
    else:
        path = Path(world.house.root(SD), "dom_md", "skerry", "data_jobs")
        path.write_bytes(path.read_bytes().replace(b"convert", b"CONVERT"))
    if is_new:
        world.start_hand(Line(world.machines[2]))
    world.clock.advance(SILENCE_S - 1)
    world.look()
    assert world.witness.writing  # it may be back in a moment
    world.clock.advance(1)
    world.look()
    assert world.witness.writing == {}
    assert world.machines[2].steps() == ()
    assert world.volume_leases() == []


def test_order_that_was_dropped_is_not_begun_again(world: World) -> None:
    order(world)
    world.look()
    world.is_master_gone = True
    world.clock.advance(SILENCE_S)
    world.look()
    world.is_master_gone = False
    said = report(world)
    assert said is not None
    assert (said.work, said.code) == (Work.REFUSED, "lease_moved")
    assert len(world.witness.runs) == 1


def test_programs_of_another_pool_go_on(world: World) -> None:
    machine = world.machines[2]
    machine.run("data.other.1", ("qemu-img", "convert", "x"))
    world.settle_down()
    (step,) = machine.steps()
    assert step.step_id == "data.other.1"


def test_abandon_ends_what_is_under_way(world: World) -> None:
    order(world)
    world.look()
    assert world.witness.writing
    assert world.hand is not None
    world.hand.abandon()
    assert world.witness.writing == {}
    assert world.machines[2].steps() == ()
    assert world.volume_leases() == []
