"""The two ends of the feed together: a node's store and an aggregator's View."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from werkzeug.test import Client

from aggregator import db
from aggregator.federation import ingest
from aggregator.federation import view as views
from aggregator.federation.events import EventLog
from aggregator.federation.mirror import Mirror
from aggregator.federation.view import NodeState
from node import feed, wire
from node.clock import SystemClock
from node.http import face
from node.http.client import Reply, error_of
from node.model.feed import DeltaReply, Kind
from node.model.fleet import AggregatorAddress
from node.model.ids import Fingerprint, VmId
from node.model.storage import DomainState, PoolMark
from node.model.vm import VmState
from node.store import Store
from tests.fakes import fleet
from tests.unit.aggregator.federation.test_mirror import Member

ONE = fleet.node_id(1)
ADDRESS = AggregatorAddress("boss", "10.0.0.9", 7442, 7443, Fingerprint("0" * 64))
WAIT_S = 20.0


class Ends:
    """A node that pushes, and an aggregator that can be made anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clock = SystemClock()
        self._made = 0
        self._sending = threading.Lock()
        self.store = Store(folder / "node.db", self._clock, ONE, "boot-1")
        self.replies: list[DeltaReply] = []
        self.open_aggregator()
        self.feed = feed.Feed(
            self.store,
            self._clock,
            lambda: (ADDRESS,),
            lambda _address: self,
            lambda: None,
            lambda _address, reply: self.replies.append(reply),
            0.1,
        )

    def open_aggregator(self) -> None:
        """Begin with an empty database, as after a loss."""
        self._made += 1
        path = self._folder / f"aggregator{self._made}.db"
        self.database = db.Database(db.sqlite_url(path))
        self.events = EventLog(self.database, self._clock)
        self.mirror = Mirror(self.database, self.events, self._clock)
        self.mirror.set_members([Member(ONE, "n1")])
        pushes = ingest.Ingest(self.mirror, lambda _node_id: True, lambda: None)
        others = face.create_app("others", (), lambda _verb, _path: None)
        self._client = Client(pushes.before(others))

    def lose_aggregator(self) -> None:
        with self._sending:
            self.database.close()
            self.open_aggregator()

    def close(self) -> None:
        """Nothing is kept between pushes."""

    def send(self, body: bytes) -> DeltaReply:
        headers = {ingest.ROLE: "node", ingest.SUBJECT: ONE}
        with self._sending:
            found = self._client.post("/v1/feed/delta", data=body, headers=headers)
        if found.status_code >= 400:
            raise error_of(Reply(found.status_code, "", found.data))
        return wire.decode(DeltaReply, found.data, strict=False)

    def put(self, number: int, state: VmState = VmState.DOWN, *, event: bool) -> None:
        with self.store.change() as change:
            change.put(Kind.NODE, ONE, fleet.facts(1))
            change.put(Kind.VM, fleet.vm_id(number), fleet.vm(number))
            change.put(Kind.VM_RUN, fleet.vm_id(number), fleet.run(number, 1, state))
            if event:
                change.event("vm_created", vm_id=fleet.vm_id(number), name="vm")

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until the View is as wanted."""
        view = self.mirror.view
        for _ in range(1000):
            if is_so():
                return
            view = self.mirror.wait(view.revision, WAIT_S / 1000)
        raise AssertionError("the View did not become as wanted")

    def shows(self, number: int, state: VmState) -> bool:
        vm = self.mirror.view.vms.get(VmId(fleet.vm_id(number)))
        return vm is not None and vm.state is state


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    made = Ends(tmp_path)
    made.feed.start()
    yield made
    made.feed.stop(5.0)
    made.store.close()
    made.database.close()


def test_change_on_the_node_is_in_the_view(ends: Ends) -> None:
    ends.put(1, event=True)
    ends.wait_for(lambda: ends.shows(1, VmState.DOWN))
    ends.put(1, VmState.UP, event=False)
    ends.wait_for(lambda: ends.shows(1, VmState.UP))
    assert ends.mirror.view.nodes[ONE].state is NodeState.UP


def test_deletion_on_the_node_is_in_the_view(ends: Ends) -> None:
    ends.put(1, event=False)
    ends.wait_for(lambda: ends.shows(1, VmState.DOWN))
    with ends.store.change() as change:
        change.delete(Kind.VM, fleet.vm_id(1))
        change.delete(Kind.VM_RUN, fleet.vm_id(1))
    ends.wait_for(lambda: not ends.mirror.view.vms)


def test_empty_aggregator_hears_everything_again(ends: Ends) -> None:
    for number in range(1, 40):
        ends.put(number, event=True)
    ends.wait_for(lambda: len(ends.mirror.view.vms) == 39)
    ends.lose_aggregator()
    ends.wait_for(lambda: len(ends.mirror.view.vms) == 39)


def test_events_arrive_once_each(ends: Ends) -> None:
    for number in range(1, 6):
        ends.put(number, event=True)
    ends.wait_for(lambda: ends.store.acknowledged("boss") == 5)
    codes = [event.code for event in ends.events.list()]
    assert codes.count("vm_created") == 5


def test_parts_of_a_large_node_are_joined(ends: Ends) -> None:
    text = "a long description " * 100
    count = 2 * feed.PART_MAX // len(text)
    with ends.store.change() as change:
        for number in range(count):
            spec = fleet.spec(number, description=text)
            change.put(Kind.VM, spec.vm_id, fleet.vm(number, spec=spec))
    ends.wait_for(lambda: len(ends.mirror.view.vms) == count)


def test_storage_on_the_node_is_in_the_view(ends: Ends) -> None:
    mark = PoolMark(1, 1)
    with ends.store.change() as change:
        change.put(Kind.NODE, ONE, fleet.facts(1))
        change.put(Kind.POOL, fleet.pool_id(), fleet.pool(1, mark=mark))
        change.put(
            Kind.STORAGE_DOMAIN, fleet.domain_id(), fleet.storage_domain(1, mark=mark)
        )
        change.put(Kind.DISK, fleet.disk_id(1), fleet.disk(1, mark=mark))
    ends.wait_for(lambda: len(ends.mirror.view.disks) == 1)
    view = ends.mirror.view
    assert views.manager_of(view, fleet.pool_id()) == ONE
    assert view.storage_domains[fleet.domain_id()].state is DomainState.ACTIVE
    with ends.store.change() as change:
        change.delete(Kind.DISK, fleet.disk_id(1))
    ends.wait_for(lambda: not ends.mirror.view.disks)


def test_storage_is_there_again_after_a_restart_of_the_aggregator(ends: Ends) -> None:
    mark = PoolMark(1, 1)
    with ends.store.change() as change:
        change.put(Kind.NODE, ONE, fleet.facts(1))
        change.put(Kind.POOL, fleet.pool_id(), fleet.pool(1, mark=mark))
        for number in range(50):
            disk_id = fleet.disk_id(number)
            change.put(Kind.DISK, disk_id, fleet.disk(number, mark=mark))
    ends.wait_for(lambda: len(ends.mirror.view.disks) == 50)
    before = ends.mirror.view
    again = Mirror(ends.database, ends.events, SystemClock()).view
    assert (again.disks, again.disk_order) == (before.disks, before.disk_order)
    assert again.pools == before.pools
