"""The manager's states; the pool around it is a small stand-in where it can be."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import TypeVar

import pytest

from node.errors import Conflict, Failed
from node.model.ids import NodeId
from node.model.reason import Reason
from node.model.storage import SpmState
from node.storage.process.holdings import StaleLease
from node.storage.process.protocol import LockspaceAt, Need
from node.storage.spm import structure_lease
from node.storage.spm import term as spm
from node.storage.spm.states import TRANSITIONS, Event, State
from node.storage.spm.structure_lease import SpmHeld, SpmMoved
from node.storage.spm.term import (
    NotSpm,
    SpmChanging,
    SpmLost,
    SpmStandsBack,
    StorageDomainNotHeld,
    Term,
    WorkUnderWay,
)
from node.system.leases import LeaseFailed, Resource
from tests.fakes.pool_guard import PoolGuard
from tests.fakes.pool_nodes import PoolNode, PoolWorld
from tests.unit.node.storage.examples import OTHER_SD, POOL, SD

T = TypeVar("T")

LONG_S = 10.0


@pytest.fixture
def world(tmp_path: Path) -> PoolWorld:
    return PoolWorld(tmp_path, POOL)


@pytest.fixture
def one(world: PoolWorld) -> PoolNode:
    """Return a manager of a pool with two active data storage domains."""
    node = world.node("node-1")
    node.pool.create(world.make(node, SD))
    node.pool.attach(world.make(node, OTHER_SD))
    node.pool.activate(OTHER_SD)
    return node


@pytest.fixture
def two(world: PoolWorld, one: PoolNode) -> PoolNode:
    """Return another node of the pool."""
    return connected(world, world.node("node-2"))


def connected(world: PoolWorld, node: PoolNode) -> PoolNode:
    for each in (SD, OTHER_SD):
        node.pool.connect(world.access(each))
    node.pool.refresh()
    return node


def held(node: PoolNode) -> set[str]:
    return {each.lockspace for each in node.guard.leases().held}


def test_every_state_can_be_left_and_reached() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert set(TRANSITIONS.values()) == set(State)


@pytest.mark.parametrize(
    "state", [State.RECOVERING, State.SERVING, State.RELEASING], ids=str
)
def test_loss_makes_free_wherever_a_lease_is_held(state: State) -> None:
    assert TRANSITIONS[state, Event.LOST] is State.FREE


def test_term_grows_with_the_master_whatever_its_lease_counts() -> None:
    def term(master_version: int, lease_version: int) -> Term:
        need = Need(SD, "SDM", lease_version)
        return Term(NodeId("n"), SD, master_version, {SD: need})

    assert astuple(term(2, 1).mark(1)) > astuple(term(1, 900).mark(7))
    assert term(1, 2).number > term(1, 1).number


def test_become_is_refused_while_another_node_holds(two: PoolNode) -> None:
    with pytest.raises(SpmHeld):
        two.pool.spm.become()
    assert two.pool.spm.state is State.FREE
    assert held(two) == set()


def test_become_twice_is_one_term(one: PoolNode) -> None:
    term = one.pool.spm.term()
    assert one.pool.spm.become() == term
    assert len(one.recovered) == 1


def test_leave_hands_over(one: PoolNode, two: PoolNode) -> None:
    one.pool.spm.leave()
    one.pool.spm.leave()
    assert (one.pool.spm.state, held(one)) == (State.FREE, set())
    term = two.pool.spm.become()
    assert term.lease_version == 2
    assert held(two) == {SD, OTHER_SD}
    assert two.recovered == [term]
    view = two.pool.spm.view()
    assert (view.state, view.holder) == (SpmState.MANAGER, "node-2")
    assert view.lease_version == 2
    with pytest.raises(NotSpm):
        one.pool.spm.term()


def test_leave_stands_back(one: PoolNode) -> None:
    one.pool.spm.leave(stand_back_s=120)
    one.clock.advance(119)
    with pytest.raises(SpmStandsBack):
        one.pool.spm.become()
    one.clock.advance(2)
    one.pool.spm.become()


def test_become_is_refused_when_the_lease_moved(one: PoolNode, two: PoolNode) -> None:
    one.pool.spm.leave()
    two.pool.spm.become()
    one.guard.storage.die(SD, 2)
    one.guard.storage.die(OTHER_SD, 2)
    with pytest.raises(SpmMoved):
        one.pool.spm.become(1)
    assert one.pool.spm.become(2).lease_version == 3


def test_leave_waits_for_the_work_and_serves_on_if_it_does_not_end(
    one: PoolNode,
) -> None:
    term = one.pool.spm.term()
    one.guard.programs["sleep"] = lambda _argv: None
    one.guard.run("long", ["sleep"], term.needs(SD))
    with pytest.raises(SpmChanging):
        one.pool.spm.leave(finish_s=0.0)
    assert one.pool.spm.state is State.SERVING
    assert held(one) == {SD, OTHER_SD}
    one.guard.cancel("long")
    one.pool.spm.leave(finish_s=0.0)
    assert held(one) == set()


def test_work_is_waited_for_too(one: PoolNode) -> None:
    with one.pool.spm.work(), pytest.raises(SpmChanging):
        one.pool.spm.leave(finish_s=0.0)
    one.pool.spm.leave(finish_s=0.0)


def test_lost_lease_ends_all_work(one: PoolNode, world: PoolWorld) -> None:
    access = world.access(SD)

    def write_on() -> None:
        with one.pool.spm.work() as term:
            one.guard.lose(SD)
            files = access.files(one.guard, term.needs(SD))
            files.write_whole(str(access.layout.images / "x"), b"x", 0o660)

    with pytest.raises(SpmLost):
        write_on()
    assert not Path(access.layout.images / "x").exists()
    assert one.pool.spm.state is State.FREE
    assert held(one) == set()
    reason = one.pool.spm.view().reason
    assert isinstance(reason, Reason)
    assert reason.code == "spm_lost"
    with pytest.raises(SpmLost):
        one.pool.maintain(OTHER_SD)


def test_check_notes_a_loss(one: PoolNode, two: PoolNode) -> None:
    assert one.pool.spm.check()
    one.guard.lose(SD)
    assert not one.pool.spm.check()
    assert not two.pool.spm.check()
    assert two.pool.spm.view().reason is None


def test_manager_that_cannot_recover_gives_the_leases_back(
    world: PoolWorld, one: PoolNode
) -> None:
    def fail(_term: Term) -> None:
        raise Failed("a journal is damaged")

    other = connected(world, world.node("node-2", fail))
    one.pool.spm.leave()
    with pytest.raises(Failed):
        other.pool.spm.become()
    assert (other.pool.spm.state, held(other)) == (State.FREE, set())
    one.pool.spm.become()


def test_manager_without_a_storage_domain_cannot_write_there(
    one: PoolNode, two: PoolNode
) -> None:
    one.pool.spm.leave()
    two.guard.hanging.add(OTHER_SD)
    term = two.pool.spm.become()
    assert set(term.held) == {SD}
    with pytest.raises(StorageDomainNotHeld):
        term.needs(OTHER_SD)


def test_node_that_took_the_old_master_gives_it_back(
    world: PoolWorld, one: PoolNode, two: PoolNode
) -> None:
    one.pool.move_master(OTHER_SD)
    one.pool.spm.let_go(world.access(SD), one.pool.spm.term())
    with pytest.raises(SpmHeld):
        two.pool.spm.become()
    assert held(two) == set()


def test_agent_that_starts_again_is_what_it_was(
    world: PoolWorld, one: PoolNode
) -> None:
    again = connected(world, world.node("node-1", guard=one.guard))
    assert again.pool.spm.is_left_over()
    assert again.pool.spm.become().lease_version == 1
    assert held(one) == {SD, OTHER_SD}
    assert not again.pool.spm.is_left_over()


def test_tidy_returns_what_a_lost_management_left(one: PoolNode) -> None:
    one.guard.programs["sleep"] = lambda _argv: None
    term = one.pool.spm.term()
    one.guard.run("long", ["sleep"], (term.held[OTHER_SD],))
    one.guard.lose(SD)
    assert not one.pool.spm.check()
    assert held(one) == {OTHER_SD}
    one.guard.cancel("long")
    one.pool.spm.tidy()
    assert held(one) == set()


def test_tidy_returns_the_lease_of_what_is_not_in_use(
    world: PoolWorld, one: PoolNode
) -> None:
    one.pool.maintain(OTHER_SD)
    one.pool.spm.leave()
    access = world.access(OTHER_SD)
    structure_lease.join(one.guard, access, one.node_id)
    structure_lease.acquire(one.guard, access)
    one.pool.spm.tidy()
    assert held(one) == set()


def test_tidy_returns_what_could_not_be_released(
    one: PoolNode, two: PoolNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = one.guard._door

    def fail(_resource: Resource) -> None:
        raise LeaseFailed("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(door, "release", fail)
        one.pool.spm.leave()
    assert (one.pool.spm.state, held(one)) == (State.FREE, set())
    with pytest.raises(SpmHeld):
        two.pool.spm.become()
    one.pool.spm.tidy()
    two.pool.spm.become()


def test_become_waits_for_who_tidies(one: PoolNode, two: PoolNode) -> None:
    tidies = threading.Event()

    def tidy() -> None:
        with two.pool.spm.alone():
            tidies.set()
            threading.Event().wait(0.05)  # for a moment

    one.pool.spm.leave()
    tidying = in_thread(tidy)
    assert tidies.wait(LONG_S)
    assert two.pool.spm.become().lease_version == 2
    tidying.result(LONG_S)


def test_loss_while_recovering_ends_free(world: PoolWorld, one: PoolNode) -> None:
    lost: list[PoolNode] = []

    def lose(_term: Term) -> None:
        lost[0].guard.lose(SD)
        assert not lost[0].pool.spm.check()

    one.pool.spm.leave()
    two = connected(world, world.node("node-2", lose))
    lost.append(two)
    with pytest.raises(SpmLost):
        two.pool.spm.become()
    assert (two.pool.spm.state, held(two)) == (State.FREE, set())
    one.pool.spm.become()


def test_loss_while_leaving_ends_free(one: PoolNode) -> None:
    one.guard.programs["sleep"] = lambda _argv: None
    one.guard.run("long", ["sleep"], one.pool.spm.term().needs(SD))
    leaving = in_thread(one.pool.spm.leave)
    wait_until(lambda: one.pool.spm.state is State.RELEASING)
    one.guard.lose(SD)
    one.pool.spm.check()
    leaving.result(LONG_S)
    assert (one.pool.spm.state, held(one)) == (State.FREE, set())


def test_loss_is_noted_once_by_however_many(one: PoolNode) -> None:
    one.guard.lose(SD)
    barrier = threading.Barrier(8)

    def check() -> bool:
        barrier.wait(LONG_S)
        return one.pool.spm.check()

    answers = [in_thread(check) for _ in range(8)]
    assert [each.result(LONG_S) for each in answers] == 8 * [False]
    assert (one.pool.spm.state, held(one)) == (State.FREE, set())


def test_loss_is_noted_although_the_master_is_not_known(one: PoolNode) -> None:
    one.guard.lose(SD)
    one.pool._memory._map = None
    assert not one.pool.spm.check()
    assert one.pool.spm.state is State.FREE


def test_leave_lets_work_end_and_none_begin(world: PoolWorld, one: PoolNode) -> None:
    began, may_end = threading.Event(), threading.Event()
    access = world.access(OTHER_SD)

    def work() -> None:
        with one.pool.spm.work() as term:
            began.set()
            assert may_end.wait(LONG_S)
            term = one.pool.spm.hold(access, term)
            files = access.files(one.guard, term.needs(OTHER_SD))
            files.write_whole(str(access.layout.images / "x"), b"x", 0o660)

    working = in_thread(work)
    assert began.wait(LONG_S)
    leaving = in_thread(one.pool.spm.leave)
    wait_until(lambda: one.pool.spm.state is State.RELEASING)
    with pytest.raises(NotSpm), one.pool.spm.work():
        pass
    may_end.set()
    working.result(LONG_S)
    leaving.result(LONG_S)
    assert Path(access.layout.images / "x").exists()
    assert (one.pool.spm.state, held(one)) == (State.FREE, set())


def test_leave_that_fails_stands_not_back(one: PoolNode) -> None:
    with one.pool.spm.work(), pytest.raises(SpmChanging):
        one.pool.spm.leave(stand_back_s=120.0, finish_s=0.0)
    assert one.pool.spm.stands_back_until <= one.clock.monotonic()
    assert one.pool.spm.become() == one.pool.spm.term()


def test_lost_lease_of_another_storage_domain_is_refused_then_taken_anew(
    world: PoolWorld, one: PoolNode
) -> None:
    before = one.pool.spm.term()
    one.guard.lose(OTHER_SD)
    one.guard.hanging.add(OTHER_SD)
    one.pool.mend()
    with pytest.raises(StorageDomainNotHeld):
        one.pool.spm.term().needs(OTHER_SD)
    assert one.pool.spm.term().number == before.number
    one.guard.hanging.clear()
    one.pool.mend()
    now = one.pool.spm.term()
    assert now.held[OTHER_SD].version > before.held[OTHER_SD].version
    access = world.access(OTHER_SD)
    access.files(one.guard, now.needs(OTHER_SD)).remove(str(access.layout.images / "x"))


def test_hold_of_an_ended_management_gives_the_lease_back(
    world: PoolWorld, one: PoolNode
) -> None:
    term = one.pool.spm.term()
    one.pool.spm.leave()
    with pytest.raises(SpmLost):
        one.pool.spm.hold(world.access(OTHER_SD), term)
    assert held(one) == set()


def test_work_waits_until_the_master_has_moved(one: PoolNode) -> None:
    def work() -> int:
        with one.pool.spm.work() as term:
            return term.lease_version

    with one.pool.spm.quiet():
        working = in_thread(work)
        with pytest.raises(TimeoutError):
            working.result(0.05)
    assert working.result(LONG_S) == 1


def test_quiet_is_refused_while_others_work(
    one: PoolNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spm, "TURN_S", 0.0)
    with (
        one.pool.spm.work(),
        one.pool.spm.work(),
        pytest.raises(WorkUnderWay),
        one.pool.spm.quiet(timeout_s=0.0),
    ):
        pass
    with one.pool.spm.work(), one.pool.spm.quiet():
        with pytest.raises(SpmChanging), one.pool.spm.work():
            pass
        assert one.pool.spm.term().held
    with one.pool.spm.work():
        pass


def test_one_that_hangs_does_not_hold_up_who_becomes(
    world: PoolWorld, one: PoolNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = threading.Event()

    class Slow(PoolGuard):
        """Joins one lockspace for as long as sanlock takes after a crash."""

        def join(
            self, lockspace: LockspaceAt, host_id: int, io_timeout_s: int = 10
        ) -> None:
            if lockspace.name == OTHER_SD:
                assert joined.wait(LONG_S)
            PoolGuard.join(self, lockspace, host_id, io_timeout_s)

    monkeypatch.setattr(spm, "OTHERS_S", 0.1)
    one.pool.spm.leave()
    guard = Slow(storage=world.storage, machine="node-2")
    two = connected(world, world.node("node-2", guard=guard))
    assert set(two.pool.spm.become().held) == {SD}
    joined.set()
    wait_until(lambda: set(two.pool.spm.term().held) == {SD, OTHER_SD})


def in_thread(call: Callable[[], T]) -> Future[T]:
    """Call in a thread of its own; the future has what comes of it."""
    threads = ThreadPoolExecutor(1)
    future = threads.submit(call)
    threads.shutdown(wait=False)
    return future


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so; fail after a while."""
    deadline = time.monotonic() + LONG_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@pytest.mark.parametrize("lost", [SD, OTHER_SD], ids=["master", "another"])
def test_work_that_meets_a_lost_lease_is_heard_of(one: PoolNode, lost: str) -> None:
    seen: list[State] = []
    one.pool.spm.on_stale = lambda: seen.append(one.pool.spm.state)
    one.guard.lose(lost)
    with pytest.raises(Conflict), one.pool.spm.work():
        raise StaleLease("it is gone")
    assert seen == [State.FREE if lost == SD else State.SERVING]


def test_work_that_fails_otherwise_is_no_news_of_leases(one: PoolNode) -> None:
    seen: list[str] = []
    one.pool.spm.on_stale = lambda: seen.append("stale")
    with pytest.raises(Conflict), one.pool.spm.work():
        raise Conflict("no")
    assert seen == []
