"""Rounds of two and three nodes, with no aggregator and no network between them."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from node.errors import Busy, Error
from node.model import reason as reasons
from node.model.ids import NodeId
from node.model.storage import Liveness, PoolMember
from node.policy.spm import Holder
from node.storage.aside import Aside, Deed
from node.storage.process.protocol import LockspaceAt
from node.storage.spm import presence
from node.storage.spm.candidacy import Candidacy, Self, find_holder
from node.storage.spm.presence import Presence
from node.storage.spm.states import State
from node.system.leases import Host, HostsUnknown, Owner
from node.system.leases import Liveness as Told
from tests.fakes.pool_guard import PoolGuard
from tests.fakes.pool_nodes import PoolNode, PoolWorld
from tests.unit.node.storage.examples import OTHER_SD, POOL, SD

ROUND_S = 10.0
LONG_S = 10.0


def at_once(kind: str, deed: Deed) -> bool:
    """Do what would be done aside, as a thread that is quick."""
    with contextlib.suppress(Error):
        deed()
    return True


class Taking:
    """A node that takes part."""

    def __init__(
        self,
        world: PoolWorld,
        node: PoolNode,
        aside: Callable[[str, Deed], bool] = at_once,
    ) -> None:
        self.node = node
        self.hears_leader = False
        self.priority = 5
        self.candidacy = Candidacy(
            *(node.pool, node.guard, node.node_id, world.clock, self._describe),
            aside=aside,
        )

    @property
    def state(self) -> State:
        return self.node.pool.spm.state

    def _describe(self) -> Self:
        return Self(self.node.node_id, self.hears_leader, self.priority)


def wait_for(event: threading.Event) -> None:
    assert event.wait(LONG_S)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so; fail after a while."""
    deadline = time.monotonic() + LONG_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def said(world: PoolWorld, node: PoolNode, host_id: int) -> Presence:
    """Return what a node says of itself."""
    access = world.access(SD)
    files = access.files(node.guard)
    return presence.read(files, str(access.layout.presence), [host_id])[host_id]


@pytest.fixture
def world(tmp_path: Path) -> PoolWorld:
    return PoolWorld(tmp_path, POOL)


@pytest.fixture
def nodes(world: PoolWorld) -> list[Taking]:
    """Return three nodes of a pool that the first one manages."""
    first = world.node("node-1")
    first.pool.create(world.make(first, SD))
    others = [world.node(name) for name in ("node-2", "node-3")]
    for each in others:
        each.pool.connect(world.access(SD))
        each.pool.refresh()
    found = [Taking(world, each) for each in (first, *others)]
    for taking in found:
        taking.candidacy.go_round()
    return found


def pass_time(world: PoolWorld, nodes: Iterable[Taking], seconds: float) -> None:
    """Let nodes do their rounds, one after the other; errors are the next's matter."""
    for _ in range(round(seconds / ROUND_S)):
        world.clock.advance(ROUND_S)
        for each in nodes:
            each.candidacy.go_round()


def test_round_tells_who_is_there_and_who_manages(nodes: list[Taking]) -> None:
    sight = nodes[2].candidacy.go_round()
    assert [(each.node_id, each.host_id) for each in sight.members] == [
        *(("node-1", 1), ("node-2", 2), ("node-3", 3)),
    ]
    assert sight.holder == Holder(nodes[0].node.node_id, Liveness.LIVE, True)
    assert sight.reason is not None
    assert sight.reason.code == "spm_holder_serves"


def test_dead_manager_is_replaced_in_the_order_of_host_ids(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    world.storage.die(SD, 1)
    pass_time(world, nodes[1:], 60)
    assert [each.state for each in nodes[1:]] == [State.FREE, State.FREE]
    pass_time(world, nodes[1:], 60)
    assert [each.state for each in nodes[1:]] == [State.SERVING, State.FREE]
    pass_time(world, nodes[1:], 300)
    assert [each.state for each in nodes[1:]] == [State.SERVING, State.FREE]


def test_nobody_comes_forward_while_a_live_node_hears_a_leader(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    world.storage.die(SD, 1)
    nodes[2].hears_leader = True
    pass_time(world, nodes[1:], 600)
    assert [each.state for each in nodes[1:]] == [State.FREE, State.FREE]
    nodes[2].hears_leader = False
    pass_time(world, nodes[1:], 120)
    assert [each.state for each in nodes[1:]] == [State.SERVING, State.FREE]


def test_manager_that_is_asked_through_the_storage_leaves_and_stands_back(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    version = nodes[0].node.pool.spm.view().lease_version
    nodes[2].hears_leader = True  # it was told to ask
    nodes[2].candidacy.ask(version)
    nodes[2].candidacy.go_round()
    nodes[0].candidacy.go_round()
    assert nodes[0].state is State.FREE
    with pytest.raises(Error) as caught:
        nodes[0].node.pool.spm.become()
    assert caught.value.code == "spm_stands_back"
    nodes[2].node.pool.spm.become(version)
    nodes[2].candidacy.go_round()
    nodes[2].candidacy.go_round()
    assert nodes[2].state is State.SERVING, "it does not ask itself"


def test_question_for_another_lease_moves_nobody(nodes: list[Taking]) -> None:
    version = nodes[0].node.pool.spm.view().lease_version
    nodes[2].candidacy.ask(version + 1)
    nodes[2].candidacy.go_round()
    nodes[0].candidacy.go_round()
    assert nodes[0].state is State.SERVING


def test_silent_manager_that_renews_is_asked(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    nodes[0].candidacy.go_round()
    pass_time(world, nodes[1:], 120)  # its agent does not speak, sanlock renews
    assert [each.state for each in nodes[1:]] == [State.FREE, State.FREE]
    pass_time(world, nodes[1:], 60)
    nodes[0].candidacy.go_round()  # it is back, and hears that it was asked
    assert nodes[0].state is State.FREE
    pass_time(world, nodes, 300)  # three turns; the first node stands back in its own
    states = [each.state for each in nodes]
    assert states[0] is State.FREE
    assert states.count(State.SERVING) == 1


def test_manager_whose_lease_was_lost_knows_it_after_a_round(
    nodes: list[Taking],
) -> None:
    nodes[0].node.guard.lose(SD)
    nodes[0].candidacy.go_round()
    assert nodes[0].state is State.FREE
    reason = nodes[0].node.pool.spm.view().reason
    assert reason is not None
    assert reason.code == "spm_lost"


def test_manager_leaves_when_another_made_a_new_master(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    first, second = nodes[0].node, nodes[1].node
    first.pool.attach(world.make(first, OTHER_SD))
    first.pool.activate(OTHER_SD)
    second.pool.connect(world.access(OTHER_SD))
    # It could not hold it.
    first.pool.spm.let_go(world.access(OTHER_SD), first.pool.spm.term())
    second.guard.hanging.add(SD)
    second.pool.reconstruct(OTHER_SD)
    nodes[0].candidacy.go_round()
    assert nodes[0].state is State.FREE
    assert first.pool.map.master_id == OTHER_SD


def test_agent_that_starts_again_goes_on_as_manager(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    node = world.node("node-1", guard=nodes[0].node.guard)
    node.pool.connect(world.access(SD))
    node.pool.refresh()
    again = Taking(world, node)
    again.candidacy.go_round()
    assert again.state is State.SERVING
    assert node.pool.spm.term().lease_version == 1


class Joining(PoolGuard):
    """Knows of nobody yet, as sanlock before its first renewal."""

    knows = False

    def hosts(self, lockspace: str) -> tuple[Host, ...]:
        if not self.knows:
            raise HostsUnknown(f"{lockspace}: not known yet")
        return PoolGuard.hosts(self, lockspace)


def test_node_that_joined_just_now_publishes_and_waits(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    guard = Joining(storage=world.storage, machine="node-4")
    node = world.node("node-4", guard=guard)
    node.pool.connect(world.access(SD))
    taking = Taking(world, node)
    world.storage.die(SD, 1)
    pass_time(world, [taking], 600)
    sight = taking.candidacy.sight
    assert sight.reason is not None
    assert sight.reason.code == "spm_members_unknown"
    assert {each.liveness for each in sight.members} == {Liveness.UNKNOWN}
    seen = nodes[1].candidacy.go_round()
    assert [each.node_id for each in seen.members][3] == "node-4"
    assert seen.members[3].silence_s == 0.0
    guard.knows = True
    pass_time(world, [taking], 600)
    assert taking.state is State.SERVING


def test_manager_that_knows_nobody_yet_stays(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    guard = Joining(storage=world.storage, machine="node-4")
    node = world.node("node-4", guard=guard)
    node.pool.connect(world.access(SD))
    nodes[0].node.pool.spm.leave()
    node.pool.refresh()
    node.pool.spm.become()
    taking = Taking(world, node)
    taking.hears_leader = True
    nodes[2].hears_leader = True
    nodes[2].candidacy.ask(node.pool.spm.view().lease_version)
    nodes[2].candidacy.go_round()
    states = []
    for guard.knows in (False, True):
        taking.candidacy.go_round()
        states.append(taking.state)
    assert states == [State.SERVING, State.FREE]


def test_node_says_that_it_is_here_while_it_recovers(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    may_end = threading.Event()
    node = world.node("node-4", lambda _term: wait_for(may_end))
    node.pool.connect(world.access(SD))
    aside = Aside()
    taking = Taking(world, node, aside.do)
    taking.candidacy.go_round()
    aside.wait(LONG_S)
    world.storage.die(SD, 1)
    nodes[0].node.pool.spm.leave()

    def become() -> None:
        node.pool.spm.become()

    aside.do("management", become)
    wait_until(lambda: taking.state is State.RECOVERING)
    counters = []
    for _ in range(3):
        taking.candidacy.go_round()
        seen = nodes[1].candidacy.go_round()
        counters.append(said(world, node, 4))
        assert seen.members[3].silence_s == 0.0
    assert len({each.counter for each in counters}) == 3
    assert {each.serves for each in counters} == {0}
    may_end.set()
    wait_until(lambda: taking.state is State.SERVING)


def test_round_goes_on_while_a_storage_domain_takes_long(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    may_end = threading.Event()

    class Slow(PoolGuard):
        """Joins for as long as sanlock does after a crash."""

        def join(
            self, lockspace: LockspaceAt, host_id: int, io_timeout_s: int = 10
        ) -> None:
            wait_for(may_end)
            PoolGuard.join(self, lockspace, host_id, io_timeout_s)

    node = world.node("node-4", guard=Slow(storage=world.storage, machine="node-4"))
    node.pool.connect(world.access(SD))
    aside = Aside()
    taking = Taking(world, node, aside.do)
    for _ in range(2):
        reason = taking.candidacy.go_round().reason
        assert reason is not None
        assert reason.code == "spm_node_not_joined"
    may_end.set()
    aside.wait(LONG_S)
    assert taking.candidacy.go_round().holder is not None


def test_reason_says_why_a_node_cannot_join(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    world.has_watchdog = False
    node = world.node("node-4")
    node.pool.connect(world.access(SD))
    taking = Taking(world, node)
    taking.candidacy.go_round()
    reason = taking.candidacy.go_round().reason
    assert [each.code for each in reasons.chain(reason)] == [
        "spm_node_not_joined",
        "pool_lacks_watchdog",
    ]


class Failing(PoolGuard):
    """Fails once with its error."""

    error: Exception | None = None

    def hosts(self, lockspace: str) -> tuple[Host, ...]:
        error, self.error = self.error, None
        if error is not None:
            raise error
        return PoolGuard.hosts(self, lockspace)


@pytest.mark.parametrize("error", [KeyError("a bug"), Busy("no")], ids=["bug", "error"])
def test_run_goes_on_after_whatever_went_wrong(
    world: PoolWorld, nodes: list[Taking], error: Exception
) -> None:
    class Rounds(threading.Event):
        """Lets so many rounds pass."""

        left = 2

        def wait(self, timeout: float | None = None) -> bool:
            self.left -= 1
            codes.append(reason.code if (reason := candidacy.sight.reason) else "")
            return self.left < 0

    codes: list[str] = []
    guard = Failing(storage=world.storage, machine="node-4")
    guard.error = error
    node = world.node("node-4", guard=guard)
    node.pool.connect(world.access(SD))
    candidacy = Taking(world, node).candidacy
    candidacy.run(Rounds())
    assert codes == ["", "spm_round_failed", "spm_holder_serves"]


def test_round_that_fails_forgets_no_member(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    """Who manages serves on, and refuses orders for who is no member."""
    guard = Failing(storage=world.storage, machine="node-4")
    node = world.node("node-4", guard=guard)
    node.pool.connect(world.access(SD))
    candidacy = Taking(world, node).candidacy
    candidacy.attempt()
    before = candidacy.sight.members
    assert len(before) > len(nodes)
    guard.error = Busy("no")
    candidacy.attempt()
    assert candidacy.sight.reason is not None
    assert candidacy.sight.reason.code == "spm_round_failed"
    assert candidacy.sight.members == before


def test_manager_takes_a_lost_lease_anew_in_its_round(
    world: PoolWorld, nodes: list[Taking]
) -> None:
    first = nodes[0].node
    first.pool.attach(world.make(first, OTHER_SD))
    first.pool.activate(OTHER_SD)
    before = first.pool.spm.term().held[OTHER_SD]
    first.guard.lose(OTHER_SD)
    nodes[0].candidacy.go_round()
    assert first.pool.spm.term().held[OTHER_SD].version > before.version


HOSTS = (Host(1, 4, Told.LIVE, 1), Host(2, 1, Told.DEAD, 1))
MEMBERS = (
    PoolMember(NodeId("a"), 1, Liveness.LIVE),
    PoolMember(NodeId("b"), 2, Liveness.DEAD),
)
FOUND = {1: Presence(NodeId("a"), 1, serves=7), 2: Presence(NodeId("b"), 1, serves=7)}


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        pytest.param(None, None, id="nobody"),
        pytest.param(Owner(1, 4, 7), (Liveness.LIVE, True), id="serves"),
        pytest.param(Owner(1, 4, 6), (Liveness.LIVE, False), id="under-another-lease"),
        pytest.param(Owner(1, 3, 7), (Liveness.FREE, False), id="joined-again-since"),
        pytest.param(Owner(2, 1, 7), (Liveness.DEAD, False), id="dead"),
        pytest.param(Owner(9, 1, 7), None, id="not-known"),
    ],
)
def test_find_holder(
    owner: Owner | None, expected: tuple[Liveness, bool] | None
) -> None:
    holder = find_holder(owner, HOSTS, MEMBERS, FOUND)
    assert (holder and (holder.liveness, holder.is_serving)) == expected


def test_find_holder_calls_nobody_serving_who_is_silent() -> None:
    silent = (replace(MEMBERS[0], silence_s=61.0), MEMBERS[1])
    holder = find_holder(Owner(1, 4, 7), HOSTS, silent, FOUND)
    assert holder == Holder(NodeId("a"), Liveness.LIVE, False)
