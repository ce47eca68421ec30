"""What a manager does about nodes that fail, fall silent, come late, or hold on."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import pytest

from node import jobs
from node.errors import Error
from node.model.ids import NodeId
from node.storage.data.assigner import Member
from node.storage.data.slots import Orders, Work
from node.storage.disks.executor import Executor, Outcome
from node.storage.formats import journal as journals
from node.storage.formats.journal import Journal, Order
from node.storage.operations import plan as moves
from node.storage.operations.plan import Plan
from node.storage.process.protocol import StepState
from tests.contract import disks
from tests.fakes.guard import Outcome as Ended
from tests.unit.node.storage.data.test_data_crashes import (
    CASES,
    OTHER,
    build,
    has_copied,
    has_merged,
)
from tests.unit.node.storage.data.world import (
    JOB,
    PATIENCE,
    V1,
    V2,
    V3,
    Line,
    World,
    execute,
)
from tests.unit.node.storage.examples import OTHER_SD, SD

THIRD = Member(NodeId("node-3"), 3)


@dataclass(slots=True)
class Watcher:
    """Hears what is said, and does something then."""

    on_step: Callable[[str], None] = lambda _text: None
    error: Error | None = None
    said: list[str] = field(default_factory=list)

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def step(self, percent: int, text: str, data_node_id: NodeId | None = None) -> None:
        told = text if data_node_id is None else f"{text} on {data_node_id}"
        self.said.append(told)
        self.on_step(told)


@dataclass(slots=True)
class Scene:
    world: World
    plan: Plan
    executor: Executor

    def journal(self) -> Journal | None:
        folder = Path(self.world.house.root(SD), "dom_md", "skerry", "journals")
        found = [journals.parse(each.read_bytes()) for each in folder.iterdir()]
        return found[0] if found else None

    @property
    def hosts(self) -> list[int]:
        return [host_id for host_id, _ in self.world.witness.runs]

    def check_end(self, *, is_done: bool) -> None:
        world = self.world
        world.settle_down()
        assert world.witness.overlaps == []
        assert world.witness.writing == {}
        assert world.house.leftovers() == []
        assert world.volume_leases() == []
        assert world.orders() == []
        if is_done:
            assert has_copied(world.house)
        else:
            assert world.house.look(OTHER, OTHER_SD).disk is None


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Return a manager with a copy to make, and a hand on the second host."""
    world, plan = build(tmp_path / "storage", CASES["copy"])
    executor = world.executor(Line(world.machines[1]), 1)
    world.start_hand(Line(world.machines[2]))
    return Scene(world, plan, executor)


def test_journal_names_the_node_while_it_works(scene: Scene) -> None:
    seen: list[Journal] = []

    def look(text: str) -> None:
        found = scene.journal()
        if "on node-2" in text and found is not None:
            seen.append(found)

    watcher = Watcher(look)
    execute(scene.executor, scene.plan, watcher)
    assert seen[0].schema == 2
    assert seen[0].assigned is not None
    assert seen[0].assigned.order.action.target.endswith(V3)
    assert any("on node-2" in each for each in watcher.said)
    scene.check_end(is_done=True)


def test_silent_node_is_given_up_and_the_manager_does_it(scene: Scene) -> None:
    scene.world.hand = None
    execute(scene.executor, scene.plan)
    assert scene.hosts == [1]
    scene.check_end(is_done=True)


def test_nodes_are_tried_one_after_the_other(scene: Scene) -> None:
    scene.world.hand = None
    scene.world.chosen = (*scene.world.chosen, THIRD)

    def wake(text: str) -> None:
        if "node-3" in text and scene.world.hand is None:
            scene.world.start_hand(Line(scene.world.machines[3]), 3)

    execute(scene.executor, scene.plan, Watcher(wake))
    assert scene.hosts == [3]
    scene.check_end(is_done=True)


def test_late_node_finds_no_order_while_the_manager_writes(scene: Scene) -> None:
    """At each of its calls: it goes on when the manager's own program runs."""
    world = scene.world
    line = world.hand_line
    assert line is not None
    line.holds_at = 0  # before it has taken the lease
    released: list[bool] = []

    def release(_text: str) -> None:
        runs = [each.state for each in world.machines[1].steps()]
        if StepState.RUNNING in runs and not released:
            released.append(True)
            world.let_go_on()

    execute(scene.executor, scene.plan, Watcher(release))
    assert released
    assert scene.hosts == [1]
    scene.check_end(is_done=True)


def test_program_that_fails_elsewhere_is_run_here(scene: Scene) -> None:
    """That node's path to the storage may be broken."""
    scene.world.machines[2].fails = Ended(1, stderr="Input/output error")
    execute(scene.executor, scene.plan)
    assert scene.hosts == [2, 1]
    scene.check_end(is_done=True)


def test_merge_goes_on_here_when_it_broke_elsewhere(tmp_path: Path) -> None:
    """In its middle: the lower volume holds some of the upper one's data."""
    world, plan = build(tmp_path / "merge", CASES["merge"])
    world.start_hand(Line(world.machines[2]))
    world.machines[2].fails = Ended(1, stderr="Input/output error")
    execute(world.executor(Line(world.machines[1]), 1), plan)
    assert [host_id for host_id, _ in world.witness.runs] == [2, 1]
    assert has_merged(world.house)


def test_program_that_fails_here_too_fails_the_job(scene: Scene) -> None:
    for host_id in (1, 2):
        scene.world.machines[host_id].fails = Ended(1, stderr="bad image")
    with pytest.raises(Error, match="bad image") as error:
        execute(scene.executor, scene.plan)
    assert error.value.code == "storage_program_failed"
    assert scene.hosts == [2, 1]
    scene.check_end(is_done=False)


def test_storage_that_is_full_for_the_other_node_is_told_as_such(scene: Scene) -> None:
    scene.world.machines[2].fails = Ended(1, stderr="No space left on device")
    with pytest.raises(Error) as error:
        execute(scene.executor, scene.plan)
    assert error.value.code == "storage_full"
    scene.check_end(is_done=False)


def test_cancelled_job_ends_the_program_and_is_undone(scene: Scene) -> None:
    watcher = Watcher()

    def cancel(_text: str) -> None:
        if scene.world.witness.writing:
            watcher.error = jobs.Cancelled("no")

    watcher.on_step = cancel
    with pytest.raises(jobs.Cancelled):
        execute(scene.executor, scene.plan, watcher)
    scene.check_end(is_done=False)


def stop_while_it_runs(scene: Scene) -> None:
    """Let the manager's agent stop while the other node's program runs."""
    watcher = Watcher()

    def stop(_text: str) -> None:
        if scene.world.witness.writing:
            watcher.error = jobs.AgentStopping("now")

    watcher.on_step = stop
    with pytest.raises(jobs.AgentStopping):
        execute(scene.executor, scene.plan, watcher)
    assert scene.world.witness.writing


def test_order_stands_while_the_managers_agent_restarts(scene: Scene) -> None:
    stop_while_it_runs(scene)
    again = scene.world.executor(Line(scene.world.machines[1]), 1)
    assert again.resume(JOB, Watcher()) is Outcome.FINISHED
    assert scene.hosts == [2]
    scene.check_end(is_done=True)


def test_program_is_told_of_while_its_storage_hangs(scene: Scene) -> None:
    """It may be slow only: it is for the program to fail, not for who looks."""
    stop_while_it_runs(scene)
    world = scene.world
    world.machines[2].hanging.add(OTHER_SD)
    world.look()
    said = world.board(world.machines[1]).reports(2)
    assert said is not None
    assert [each.work for each in said.reports] == [Work.RUNNING]


def test_orders_of_who_has_the_host_id_by_now_stand(scene: Scene) -> None:
    """The assignment is of the node that had it: it is silent."""
    stop_while_it_runs(scene)
    world = scene.world
    journal = scene.journal()
    assert journal is not None
    assert journal.assigned is not None
    board = world.board(world.machines[1])
    theirs = replace(journal.assigned.order, order_id=V3)
    board.put_orders(2, Orders(NodeId("node-9"), (theirs,)))
    again = world.executor(Line(world.machines[1]), 1)
    assert again.resume(JOB, Watcher()) is Outcome.FINISHED
    assert scene.hosts == [2, 1]
    assert board.orders(2) == Orders(NodeId("node-9"), (theirs,))


def test_half_a_slot_is_ordered_in_when_it_is_whole(scene: Scene) -> None:
    world = scene.world
    board = world.board(world.machines[1])
    board.make()
    folder = PurePosixPath("/", OTHER_SD, "images", f"_remove_me_{V1}")
    action = moves.move_data(folder / V2, "convert", "source", V2)
    orders = Orders(NodeId("node-2"), (Order(V1, V1, action, 0, 0),))
    board.put_orders(2, orders)
    path = Path(world.house.root(SD), "dom_md", "skerry", "data_jobs")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"convert", b"CONVERT"))

    def mend(text: str) -> None:
        if "on node-2" in text and board.orders(2) is None:
            path.write_bytes(whole)

    execute(scene.executor, scene.plan, Watcher(mend))
    assert scene.hosts == [2]
    assert board.orders(2) == orders


def test_node_that_holds_the_volume_keeps_the_job_from_being_undone(
    scene: Scene,
) -> None:
    """Its agent is dead, and its program runs: nothing may be removed under it."""
    stop_while_it_runs(scene)
    hand, scene.world.hand = scene.world.hand, None
    again = scene.world.executor(Line(scene.world.machines[1]), 1)
    refused = disks.code_of(lambda: again.resume(JOB, Watcher(error=jobs.Cancelled())))
    assert refused == "job_cancelled"
    assert scene.world.witness.writing
    assert scene.journal() is not None
    scene.world.hand = hand
    (recovery,) = disks.recover(again)
    assert recovery.outcome is Outcome.UNDONE
    scene.check_end(is_done=False)


def test_agent_stops_while_it_waits_for_a_node_that_holds_on(scene: Scene) -> None:
    stop_while_it_runs(scene)
    world = scene.world
    world.hand = None
    again = world.executor(Line(world.machines[1]), 1)
    began = world.clock.monotonic()
    cancelled = Watcher(error=jobs.Cancelled())

    def stop() -> None:
        cancelled.error = jobs.AgentStopping("now")

    world.on_pause = stop
    refused = disks.code_of(lambda: again.resume(JOB, cancelled))
    assert refused == "job_cancelled"
    assert world.clock.monotonic() - began < 5
    refused = disks.code_of(lambda: again.resume(JOB, cancelled))
    assert refused == "agent_stopping"
    assert world.clock.monotonic() - began < 5
    assert world.witness.writing


def test_manager_that_leaves_does_not_wait_for_a_node_that_holds_on(
    scene: Scene,
) -> None:
    """The next one waits instead: that may take until a person looks at the node."""
    stop_while_it_runs(scene)
    world = scene.world
    hand, world.hand = world.hand, None
    began = world.clock.monotonic()

    def leave() -> None:
        world.is_leaving = world.clock.monotonic() - began > PATIENCE.silence_s + 5

    world.on_pause = leave
    again = world.executor(Line(world.machines[1]), 1)
    assert disks.code_of(lambda: again.resume(JOB, Watcher())) == "spm_lost"
    assert world.clock.monotonic() - began < PATIENCE.silence_s + 10
    world.die(1)
    world.hand, world.is_leaving, world.on_pause = hand, False, lambda: None
    following = world.executor(Line(world.machines[3]), 3)
    assert following.resume(JOB, Watcher()) is Outcome.FINISHED
    scene.check_end(is_done=True)


def test_lease_of_a_host_that_lives_is_not_asked_for(scene: Scene) -> None:
    """Sanlock would wait for minutes, with all of the lockspace behind it."""
    stop_while_it_runs(scene)
    world = scene.world
    world.hand = None
    line = Line(world.machines[1])
    again = world.executor(line, 1)
    disks.code_of(lambda: again.resume(JOB, Watcher(error=jobs.Cancelled())))
    assert "acquire" not in line.told
    world.die(2)
    (recovery,) = disks.recover(again)
    assert recovery.outcome is Outcome.UNDONE
    assert "acquire" in line.told
    scene.check_end(is_done=False)


def test_undo_that_was_blocked_stays_blocked(scene: Scene) -> None:
    """However often it is tried, and whoever tries: the program writes still."""
    stop_while_it_runs(scene)
    world = scene.world
    hand, world.hand = world.hand, None
    again = world.executor(Line(world.machines[1]), 1)
    disks.code_of(lambda: again.resume(JOB, Watcher(error=jobs.Cancelled())))
    root = Path(world.house.root(OTHER_SD))
    workshop = root / "images" / f"_remove_me_{OTHER}"
    for host_id in (1, 3):
        if host_id == 3:
            world.die(1)
        again = world.executor(Line(world.machines[host_id]), host_id)
        (recovery,) = disks.recover(again)
        assert recovery.error is not None
        assert recovery.error.code == "data_node_holds_volume"
        assert world.witness.writing
        assert workshop.exists()
        assert set().union(*again.places()) == {(OTHER_SD, OTHER)}
    world.hand = hand
    (recovery,) = disks.recover(again)
    assert recovery.outcome is Outcome.UNDONE
    scene.check_end(is_done=False)


def test_fence_sees_the_program_of_an_agent_that_is_gone(scene: Scene) -> None:
    """The manager is on the very host whose storage process has the lease."""
    stop_while_it_runs(scene)
    world = scene.world
    world.hand = None
    world.die(1)
    world.shared.pop(2)
    again = world.executor(Line(world.machines[2]), 2)
    began = world.clock.monotonic()
    refused = disks.code_of(lambda: again.resume(JOB, Watcher(error=jobs.Cancelled())))
    assert refused == "job_cancelled"
    assert world.clock.monotonic() - began >= PATIENCE.fence_s
    assert world.witness.writing  # it waited for the program, in vain
    world.start_hand(Line(world.machines[2]), leases=world.shared[2])
    (recovery,) = disks.recover(again)
    assert recovery.outcome is Outcome.UNDONE
    scene.check_end(is_done=False)
