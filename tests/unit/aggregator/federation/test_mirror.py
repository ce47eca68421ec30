"""Pushes become the View, on disk before they are answered."""

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy

from aggregator import db
from aggregator.federation import slots
from aggregator.federation.events import EventLog
from aggregator.federation.mirror import (
    BadPart,
    Mirror,
    NotAMember,
    SpeaksForAnother,
    TooManyResyncs,
)
from aggregator.federation.view import NodeState
from node.model.feed import Delta, DeltaOutcome, DeltaReply, Document
from node.model.ids import NodeId
from node.model.reason import chain
from node.model.storage import PoolMark
from node.model.vm import VmState
from tests.fakes import fleet
from tests.fakes.clock import FakeClock

ONE, TWO = fleet.node_id(1), fleet.node_id(2)
WEB = fleet.vm_id(1)


@dataclass(frozen=True, slots=True)
class Member:
    node_id: NodeId
    name: str
    address: str = "10.0.0.1"


class Parts:
    """A mirror with what it stands on; `restart` is a new one on the same disk."""

    def __init__(self, path: Path, members: int = 2) -> None:
        self.path = path / "aggregator.db"
        self.url = db.sqlite_url(self.path)
        self.clock = FakeClock()
        self.members = [
            Member(fleet.node_id(i + 1), f"n{i + 1}") for i in range(members)
        ]
        self.open()

    def open(self) -> None:
        self.database = db.Database(self.url)
        self.events = EventLog(self.database, self.clock)
        self.mirror = Mirror(self.database, self.events, self.clock)
        self.mirror.set_members(self.members)

    def restart(self) -> None:
        self.database.close()
        self.open()

    def hear(self, number: int, *values: object) -> DeltaReply:
        """Let a node tell everything."""
        delta = fleet.delta(0, 10, fleet.facts(number), *values)
        return self.mirror.push(fleet.node_id(number), delta)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.mirror.look()

    def codes(self) -> list[str]:
        return [event.code for event in reversed(self.events.list())]

    def state(self, node_id: NodeId = ONE) -> NodeState:
        return self.mirror.view.nodes[node_id].state


def _break_disk(parts: Parts) -> None:
    """Take the tables away, as a dead disk would."""
    _execute(parts, "ALTER TABLE feeds RENAME TO lost")


def _mend_disk(parts: Parts) -> None:
    _execute(parts, "ALTER TABLE lost RENAME TO feeds")


def _execute(parts: Parts, statement: str) -> None:
    connection = sqlite3.connect(parts.path)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = Parts(tmp_path)
    yield made
    made.database.close()


def test_push_shows_a_node_that_told_everything(parts: Parts) -> None:
    reply = parts.hear(1, fleet.up(1, "web"), fleet.run(1, 1, VmState.UP))
    assert (reply.outcome, reply.to_rev) == (DeltaOutcome.OK, 10)
    assert parts.state() is NodeState.UP
    assert parts.mirror.view.vms[WEB].state is VmState.UP


def test_push_is_on_disk_when_it_is_answered(parts: Parts) -> None:
    parts.hear(1, fleet.vm(1))
    with_restart = db.Database(parts.url)
    assert {row.id for row in with_restart.documents()} == {ONE, WEB}
    with_restart.close()


def test_push_asks_for_everything_when_it_does_not_know_the_node(parts: Parts) -> None:
    reply = parts.mirror.push(ONE, fleet.delta(7, 8, fleet.vm(1)))
    assert reply.outcome is DeltaOutcome.RESYNC
    assert not parts.mirror.view.vms
    assert parts.state() is NodeState.CONNECTING


def test_push_goes_on_from_the_last(parts: Parts) -> None:
    parts.hear(1, fleet.vm(1))
    reply = parts.mirror.push(ONE, fleet.delta(10, 11, fleet.vm(2), gone=[fleet.vm(1)]))
    assert (reply.outcome, reply.to_rev) == (DeltaOutcome.OK, 11)
    assert set(parts.mirror.view.vms) == {fleet.vm_id(2)}


def test_push_takes_a_repeated_push_once(parts: Parts) -> None:
    parts.hear(1)
    delta = fleet.delta(10, 11, fleet.vm(1), events=[fleet.event(1, 1)])
    first, second = parts.mirror.push(ONE, delta), parts.mirror.push(ONE, delta)
    assert first == second
    assert parts.codes().count("vm_created") == 1


def test_push_passes_over_what_is_older_than_it_knows(parts: Parts) -> None:
    parts.hear(1, fleet.vm(1, "new"))
    old = fleet.document(fleet.vm(1, "old"), rev=9)
    delta = fleet.delta(8, 12, fleet.vm(2))
    delta = Delta(delta.epoch, 8, 12, delta.boot_id, (old, *delta.changed))
    parts.mirror.push(ONE, delta)
    assert parts.mirror.view.vms[WEB].name == "new"
    assert fleet.vm_id(2) in parts.mirror.view.vms


def test_push_replaces_the_old_state_only_after_the_last_part(parts: Parts) -> None:
    parts.hear(1, fleet.vm(1))
    first = fleet.delta(0, 20, fleet.vm(2), epoch="epoch-2", part=1, parts=2)
    last = fleet.delta(0, 20, fleet.vm(3), epoch="epoch-2", part=2, parts=2)
    assert parts.mirror.push(ONE, first).outcome is DeltaOutcome.OK
    assert set(parts.mirror.view.vms) == {WEB}
    assert parts.mirror.push(ONE, last).to_rev == 20
    assert set(parts.mirror.view.vms) == {fleet.vm_id(2), fleet.vm_id(3)}


def test_push_asks_anew_when_a_part_is_missing(parts: Parts) -> None:
    parts.mirror.push(ONE, fleet.delta(0, 20, fleet.vm(2), part=1, parts=3))
    reply = parts.mirror.push(ONE, fleet.delta(0, 20, fleet.vm(3), part=3, parts=3))
    assert reply.outcome is DeltaOutcome.RESYNC
    assert not parts.mirror.view.vms


def test_push_acknowledges_committed_events(parts: Parts) -> None:
    parts.hear(1)
    events = [fleet.event(1, 1), fleet.event(2, 1)]
    reply = parts.mirror.push(ONE, fleet.delta(10, 10, events=events))
    assert reply.events_acknowledged == 2
    assert parts.codes().count("vm_created") == 2
    assert parts.mirror.push(ONE, fleet.delta(10, 10)).events_acknowledged == 2


def test_push_wakes_those_who_wait_for_events(parts: Parts) -> None:
    parts.hear(1)
    seen: list[int] = []
    last = parts.database.last_event()
    waiter = threading.Thread(
        target=lambda: seen.append(len(parts.events.wait(last, 10.0)))
    )
    waiter.start()
    parts.mirror.push(ONE, fleet.delta(10, 10, events=[fleet.event(1, 1)]))
    waiter.join(10.0)
    assert seen == [1]


def test_push_refuses_who_is_no_member(parts: Parts) -> None:
    with pytest.raises(NotAMember):
        parts.hear(9)


@pytest.mark.parametrize(
    "delta",
    [
        pytest.param(fleet.delta(0, 1, fleet.facts(2)), id="its-own-facts"),
        pytest.param(fleet.delta(0, 1, fleet.run(1, 2)), id="a-run"),
        pytest.param(fleet.delta(0, 1, events=[fleet.event(1, 2)]), id="an-event"),
        pytest.param(
            Delta("e", 0, 1, "b", (Document("telepathy", "x", 1, {"node_id": TWO}),)),
            id="an-unknown-kind",
        ),
    ],
)
def test_push_refuses_what_is_said_for_another_node(parts: Parts, delta: Delta) -> None:
    with pytest.raises(SpeaksForAnother):
        parts.mirror.push(ONE, delta)
    assert not parts.mirror.view.vms


def test_push_keeps_kinds_that_it_does_not_know(parts: Parts) -> None:
    document = Document("telepathy", "x", 10, {"colour": "blue"})
    parts.mirror.push(ONE, Delta("epoch-1", 0, 10, "boot-1", (document,)))
    (row,) = parts.database.documents(ONE)
    assert (row.kind, row.body) == ("telepathy", '{"colour":"blue"}')


@pytest.mark.parametrize(
    ("part", "count"), [(0, 1), (2, 1), (1, 65)], ids=["zero", "past", "too-many"]
)
def test_push_refuses_parts_out_of_range(parts: Parts, part: int, count: int) -> None:
    with pytest.raises(BadPart):
        parts.mirror.push(ONE, fleet.delta(0, 1, part=part, parts=count))


def test_push_lets_only_a_few_nodes_tell_everything(tmp_path: Path) -> None:
    parts = Parts(tmp_path, members=slots.SLOTS + 1)
    for number in range(1, slots.SLOTS + 1):
        parts.mirror.push(fleet.node_id(number), fleet.delta(7, 8))
    late = fleet.node_id(slots.SLOTS + 1)
    with pytest.raises(TooManyResyncs) as caught:
        parts.mirror.push(late, fleet.delta(7, 8))
    assert caught.value.fields["retry_after_s"] == slots.RETRY_S
    parts.hear(1)
    assert parts.mirror.push(late, fleet.delta(7, 8)).outcome is DeltaOutcome.RESYNC
    parts.database.close()


def test_make_room_tells_who_must_come_later(tmp_path: Path) -> None:
    parts = Parts(tmp_path, members=slots.SLOTS + 1)
    for number in range(1, slots.SLOTS + 1):
        parts.mirror.make_room(fleet.node_id(number))
    with pytest.raises(TooManyResyncs):
        parts.mirror.make_room(fleet.node_id(slots.SLOTS + 1))
    parts.hear(1)
    parts.mirror.make_room(fleet.node_id(slots.SLOTS + 1))
    parts.database.close()


def test_make_room_hears_a_node_that_must_come_later(tmp_path: Path) -> None:
    parts = Parts(tmp_path, members=slots.SLOTS + 1)
    late = fleet.node_id(slots.SLOTS + 1)
    for _ in range(30):
        for number in range(1, slots.SLOTS + 1):
            parts.mirror.make_room(fleet.node_id(number))
        with pytest.raises(TooManyResyncs):
            parts.mirror.make_room(late)
        parts.pass_time(1)
    assert parts.state(late) is NodeState.CONNECTING
    parts.database.close()


def test_push_commits_those_who_come_together_at_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path, members=8)
    threads = [
        threading.Thread(target=parts.hear, args=(number, fleet.vm(number)))
        for number in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert len(parts.mirror.view.vms) == 8
    assert {row.rev for row in parts.database.feeds()} == {10}
    parts.database.close()


def test_push_leaves_the_view_alone_when_the_disk_fails(parts: Parts) -> None:
    parts.hear(1, fleet.vm(1))
    before = parts.mirror.view
    _break_disk(parts)
    with pytest.raises(db.DatabaseDown):
        parts.mirror.push(ONE, fleet.delta(10, 11, fleet.vm(2)))
    _mend_disk(parts)
    assert parts.mirror.view is before
    reply = parts.mirror.push(ONE, fleet.delta(10, 11, fleet.vm(2)))
    assert reply.to_rev == 11


def test_push_answers_a_heartbeat_without_the_database(parts: Parts) -> None:
    parts.hear(1)
    _break_disk(parts)
    reply = parts.mirror.push(ONE, fleet.delta(10, 10, stats=fleet.stats()))
    assert reply.outcome is DeltaOutcome.OK
    assert parts.mirror.view.nodes[ONE].stats is not None


def test_push_tells_of_a_clock_that_is_off_once(parts: Parts) -> None:
    parts.hear(1)
    late = "2026-11-22T08:05:00.000Z"
    for _ in range(2):
        parts.mirror.push(ONE, fleet.delta(10, 10, stats=fleet.stats(at=late)))
    assert parts.codes().count("clock_skew") == 1
    assert parts.mirror.view.nodes[ONE].skew_s == 300.0


def test_push_tells_of_two_nodes_that_claim_one_vm(parts: Parts) -> None:
    parts.hear(1, fleet.vm(1), fleet.run(1, 1))
    parts.hear(2, fleet.up(1), fleet.run(1, 2, VmState.UP))
    assert "documents_conflict" in parts.codes()
    assert parts.mirror.view.vms[WEB].node_id == TWO


def test_push_tells_of_two_managers_of_one_pool_once(parts: Parts) -> None:
    mark = PoolMark(1, 1)
    parts.hear(1, fleet.pool(1, mark=mark))
    parts.hear(2, fleet.pool(2, mark=mark))
    (event,) = [
        each for each in parts.events.list() if each.code == "documents_conflict"
    ]
    assert (event.fields["kind"], event.fields["id"]) == ("pool", "pool1")
    assert (event.fields["node"], event.fields["other"]) == ("n1", "n2")


def test_look_follows_a_silent_node_and_its_vms(parts: Parts) -> None:
    parts.hear(1, fleet.up(1), fleet.run(1, 1, VmState.UP))
    parts.pass_time(12)
    assert parts.state() is NodeState.SUSPECT
    assert parts.mirror.view.vms[WEB].state is VmState.UP
    parts.pass_time(13)
    assert parts.state() is NodeState.UNREACHABLE
    vm = parts.mirror.view.vms[WEB]
    assert vm.state is VmState.UNKNOWN
    assert [each.code for each in chain(vm.reason)] == [
        "vm_node_silent",
        "node_unreachable",
    ]
    parts.mirror.push(ONE, fleet.delta(10, 10))
    assert parts.state() is NodeState.UP
    assert parts.mirror.view.vms[WEB].state is VmState.UP
    of_one = [e.code for e in reversed(parts.events.list(node_id=ONE))]
    assert of_one == ["node_up", "node_suspect", "node_unreachable", "node_up"]


def test_look_blames_no_node_for_a_stopped_aggregator(parts: Parts) -> None:
    parts.hear(1)
    parts.pass_time(11)
    parts.clock.advance(300.0)
    parts.mirror.look()
    assert parts.state() is NodeState.UP
    parts.pass_time(12)
    assert parts.state() is NodeState.SUSPECT


def test_look_blames_no_node_while_pushes_wait(parts: Parts) -> None:
    parts.hear(1)
    waiting = [100]
    parts.mirror.watch(lambda: waiting[0])
    parts.pass_time(60)
    assert parts.state() is NodeState.UP
    waiting[0] = 0
    parts.pass_time(11)
    assert parts.state() is NodeState.UP
    parts.pass_time(1)
    assert parts.state() is NodeState.SUSPECT


def test_look_commits_all_that_fell_silent_at_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path, members=20)
    for number in range(1, 21):
        parts.hear(number)
    commits: list[object] = []
    sqlalchemy.event.listen(parts.database._engine, "commit", commits.append)
    parts.pass_time(12)
    assert parts.codes().count("node_suspect") == 20
    assert len(commits) == 1
    parts.database.close()


def test_look_gives_up_a_node_that_is_never_heard(parts: Parts) -> None:
    parts.pass_time(25)
    node = parts.mirror.view.nodes[ONE]
    assert node.state is NodeState.UNREACHABLE
    assert node.reason is not None
    assert node.reason.code == "node_never_heard"


def test_look_keeps_a_node_that_waits_for_its_turn(parts: Parts) -> None:
    for _ in range(30):
        parts.pass_time(1)
        parts.mirror.push(ONE, fleet.delta(7, 8))
    assert parts.state() is NodeState.CONNECTING


def test_restart_shows_what_was_and_goes_on(parts: Parts) -> None:
    parts.hear(1, fleet.up(1, "web"), fleet.run(1, 1, VmState.UP))
    parts.restart()
    assert parts.state() is NodeState.CONNECTING
    vm = parts.mirror.view.vms[WEB]
    assert (vm.name, vm.state) == ("web", VmState.UP)
    reply = parts.mirror.push(ONE, fleet.delta(10, 11, fleet.vm(2)))
    assert reply.outcome is DeltaOutcome.OK
    assert parts.state() is NodeState.UP
    assert len(parts.mirror.view.vms) == 2


def test_set_members_forgets_who_was_removed(parts: Parts) -> None:
    parts.hear(1, fleet.vm(1))
    parts.mirror.set_members(parts.members[1:])
    assert set(parts.mirror.view.nodes) == {TWO}
    assert not parts.mirror.view.vms
    assert not parts.database.feeds()
    assert not list(parts.database.documents())
    with pytest.raises(NotAMember):
        parts.hear(1)


def test_set_members_resyncs_who_comes_back(parts: Parts) -> None:
    parts.hear(1, fleet.vm(1))
    parts.mirror.set_members([])
    parts.mirror.set_members(parts.members)
    reply = parts.mirror.push(ONE, fleet.delta(10, 11))
    assert reply.outcome is DeltaOutcome.RESYNC


def test_wait_returns_as_soon_as_the_view_changes(parts: Parts) -> None:
    revision = parts.mirror.view.revision
    seen: list[int] = []
    waiter = threading.Thread(
        target=lambda: seen.append(parts.mirror.wait(revision, 10.0).revision)
    )
    waiter.start()
    parts.hear(1)
    waiter.join(10.0)
    assert seen
    assert seen[0] > revision


def test_wait_returns_the_same_view_when_the_time_is_over(parts: Parts) -> None:
    view = parts.mirror.view
    assert parts.mirror.wait(view.revision, 0.01) is view


def test_stop_lets_go_of_those_who_wait(parts: Parts) -> None:
    parts.mirror.start()
    revision = parts.mirror.view.revision
    waiter = threading.Thread(target=parts.mirror.wait, args=(revision, 60.0))
    waiter.start()
    parts.mirror.stop()
    waiter.join(10.0)
    assert not waiter.is_alive()
