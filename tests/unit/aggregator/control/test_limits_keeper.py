"""Disks get the limits of their profiles, also after whatever was cut short."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.access.defaults import ensure_defaults
from aggregator.control.limits_keeper import LimitsKeeper
from aggregator.fleet.disk_profiles import LimitedByProfile
from aggregator.policies.profiles import Choice, default_id
from node.errors import Failed
from node.model import storage_requests as bodies
from node.model import storage_verbs as verbs
from node.model.job import JobState
from node.model.storage import DiskQos, PoolMark
from node.units import DAY_S
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, Parts

DATA, DISK = fleet.domain_id(1), fleet.disk_id(1)
SLOW, SLOWER = DiskQos(total_iops=100), DiskQos(total_iops=10)


class Kept(Parts):
    def open(self) -> None:
        super().open()
        ensure_defaults(self.database)
        self.profiles = self.orders.profiles
        self.is_leading = True
        self.keeper = LimitsKeeper(
            self.orders.book,
            self.orders.storage,
            self.profiles,
            self.viewer,
            self.clock,
            lambda: self.is_leading,
        )

    @property
    def asked(self) -> list[DiskQos]:
        """Return the limits that were ordered so far, the oldest first."""
        entries = self.orders.book.entries({"disk_change"})
        found = sorted(entries, key=lambda each: each.order.created_at)
        return [each.action.request.qos for each in found]  # type: ignore[union-attr]  # they are of storage

    def tell(self, limits: DiskQos) -> None:
        self.say(1, fleet.disk(1, mark=PoolMark(1, 1), qos=limits))

    def turn(self, seconds: float = 60.0) -> list[DiskQos]:
        """Let time pass; return what is ordered then."""
        before = len(self.asked)
        self.clock.advance(seconds)
        self.keeper.cycle()
        return self.asked[before:]


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    made.say(1, fleet.pool(1, mark=PoolMark(1, 1), members=(1, 2)))
    made.say(1, fleet.storage_domain(1, 1))
    made.tell(DiskQos())
    made.nodes[ONE].job_state = JobState.DONE
    yield made
    made.database.close()


@pytest.fixture
def qos_id(parts: Kept) -> str:
    """Return the QoS of the default profile of the disk's storage domain."""
    center = parts.orders.pools.data_center_of(ONE)
    made = parts.profiles.make_qos("slow", center, "", SLOW)
    parts.profiles.change(parts.viewer.view, default_id(DATA), qos_id=made.qos_id)
    return made.qos_id


def test_disk_without_a_qos_keeps_its_own_limits(parts: Kept) -> None:
    parts.tell(SLOW)
    assert parts.turn() == []


def test_disk_follows_its_profile_until_that_has_no_qos(
    parts: Kept, qos_id: str
) -> None:
    assert parts.turn() == [SLOW]
    assert parts.turn(1.0) == []  # it is not shown yet
    parts.tell(SLOW)
    assert parts.turn() == []
    parts.profiles.change_qos(qos_id, limits=SLOWER)
    assert parts.turn(1.0) == [SLOWER]
    parts.tell(SLOWER)
    parts.restart()
    parts.profiles.change(parts.viewer.view, default_id(DATA), qos_id="")
    assert parts.turn(1.0) == [DiskQos()]
    parts.tell(DiskQos())
    assert parts.turn() == []
    parts.tell(SLOW)  # its own again
    assert parts.turn() == []
    assert parts.profiles.now().choices == {}


def test_disk_that_gets_another_profile_gets_its_limits(
    parts: Kept, qos_id: str
) -> None:
    view = parts.viewer.view
    made = parts.profiles.make(view, "free", DATA)
    parts.profiles.choose(view, DISK, made.profile_id, {DATA})
    assert parts.turn() == []
    parts.profiles.change(view, made.profile_id, qos_id=qos_id)
    assert parts.turn() == [SLOW]
    parts.tell(SLOW)
    assert parts.turn() == []
    parts.profiles.change(view, made.profile_id, qos_id="")
    assert parts.turn() == [DiskQos()]


def test_refused_limits_are_ordered_again_after_a_while(
    parts: Kept, qos_id: str
) -> None:
    parts.nodes[ONE].refusal = Failed("the disk is away")
    assert parts.turn() == [SLOW]
    assert parts.turn(1.0) == []
    parts.nodes[ONE].refusal = None
    assert parts.turn(40.0) == [SLOW]


def test_only_who_leads_limits_disks(parts: Kept, qos_id: str) -> None:
    parts.is_leading = False
    assert parts.turn() == []


def test_limits_of_its_own_are_refused_where_a_profile_has_some(
    parts: Kept, qos_id: str
) -> None:
    act = parts.orders.storage.act
    change = bodies.ChangeDisk(qos=SLOWER)
    with pytest.raises(LimitedByProfile):
        act(verbs.DISK_CHANGE, DISK, change, ORIGIN)
    new = bodies.CreateDisk(fleet.disk_id(2), "new", DATA, 1, qos=SLOWER)
    with pytest.raises(LimitedByProfile):
        act(verbs.DISK_CREATE, new.disk_id, new, ORIGIN)
    act(verbs.DISK_CHANGE, DISK, bodies.ChangeDisk(name="other"), ORIGIN)
    parts.profiles.change(parts.viewer.view, default_id(DATA), qos_id="")
    act(verbs.DISK_CHANGE, DISK, change, ORIGIN)


def test_choice_for_a_disk_that_is_gone_is_forgotten(parts: Kept) -> None:
    gone = fleet.disk_id(7)
    view = parts.viewer.view
    parts.profiles.choose(view, gone, default_id(DATA), {DATA})
    parts.turn()
    assert parts.profiles.now().choices == {gone: Choice(gone, default_id(DATA))}
    parts.turn(2 * DAY_S)
    assert parts.profiles.now().choices == {}
