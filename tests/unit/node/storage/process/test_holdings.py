"""Hold, lose and give back leases of the fake sanlock."""

import functools
import threading
from pathlib import Path

import pytest

from node.errors import Failed
from node.storage.process import holdings
from node.storage.process.holdings import Holdings
from node.storage.process.protocol import Need
from node.system import leases
from node.system.leases import Lockspace, Resource
from tests.fakes.leases import FakeLeases, FakeLeaseStorage

SPACE = Lockspace("space", Path("/ids"))
OTHER = Lockspace("other", Path("/other"))
SDM = Resource("space", "SDM", Path("/leases"), 1 << 20)
VOLUME = Resource("space", "volume", Path("/leases"), 2 << 20)
ELSEWHERE = Resource("other", "SDM", Path("/others"), 1 << 20)


class House:
    """Holdings of one host that is in two lockspaces."""

    def __init__(self) -> None:
        self.door = FakeLeases(FakeLeaseStorage(), "one")
        self.holdings = Holdings(self.door)
        for space in (SPACE, OTHER):
            self.door.write_lockspace(space, 10)
            self.door.add_lockspace(space, 1, 10)
        for resource in (SDM, VOLUME, ELSEWHERE):
            self.door.write_resource(resource)

    def take(self, resource: Resource) -> Need:
        version = self.holdings.acquire(resource, None)
        return Need(resource.lockspace, resource.name, version)


@pytest.fixture
def house() -> House:
    return House()


def test_acquire_is_idempotent_and_told(house: House) -> None:
    assert house.take(SDM) == house.take(SDM)
    (held,) = house.holdings.held()
    assert (held.lockspace, held.resource, held.version, held.users) == (
        *("space", "SDM", 1),
        0,
    )


def test_release_waits_for_every_user(house: House) -> None:
    need = house.take(SDM)
    first, second = (house.holdings.use((need,)) for _ in range(2))
    for use in (first, second):
        with pytest.raises(leases.LeaseInUse):
            house.holdings.release(SDM)
        use.end()
        use.end()
    house.holdings.release(SDM)
    house.holdings.release(SDM)
    assert house.holdings.held() == ()
    assert house.door.read_owner(SDM) is None


def test_use_refuses_all_if_one_need_is_stale(house: House) -> None:
    need, other = house.take(SDM), house.take(VOLUME)
    stale = Need(other.lockspace, other.resource, other.version + 1)
    with pytest.raises(holdings.StaleLease):
        house.holdings.use((need, stale))
    assert [held.users for held in house.holdings.held()] == [0, 0]


def test_use_refuses_a_lease_that_is_being_released(house: House) -> None:
    need = house.take(SDM)
    refused = []

    class Slow(FakeLeases):
        def release(self, resource: Resource) -> None:
            with pytest.raises(holdings.StaleLease):
                house.holdings.use((need,))
            refused.append(resource)
            super().release(resource)

    house.door.__class__ = Slow
    house.holdings.release(SDM)
    assert refused == [SDM]


def test_release_that_failed_is_told_and_asked_again(house: House) -> None:
    need = house.take(SDM)
    house.door.release_fails = True
    for _ in range(2):
        with pytest.raises(leases.LeaseFailed):
            house.holdings.release(SDM)
        assert (house.holdings.held(), house.holdings.unsettled()) == ((), (need,))
        with pytest.raises(holdings.StaleLease):
            house.holdings.use((need,))
    house.door.release_fails = False
    house.holdings.release(SDM)
    assert house.holdings.unsettled() == ()
    assert house.door.read_owner(SDM) is None


def test_acquire_asks_sanlock_what_became_of_a_failed_release(house: House) -> None:
    need = house.take(SDM)
    house.door.release_fails = True
    with pytest.raises(leases.LeaseFailed):
        house.holdings.release(SDM)
    house.door.release_fails = False
    assert house.take(SDM) == need  # sanlock holds it still
    house.holdings.use((need,)).end()
    house.door.release_fails = True
    with pytest.raises(leases.LeaseFailed):
        house.holdings.release(SDM)
    house.door.release_fails = False
    house.door.release(SDM)  # it came through after all
    assert house.take(SDM).version == need.version + 1
    assert house.holdings.unsettled() == ()


def test_write_is_refused_without_its_needs(house: House) -> None:
    stale = house.take(ELSEWHERE)
    house.holdings.release(ELSEWHERE)
    house.take(SDM)
    with pytest.raises(holdings.StaleLease):
        house.holdings.write_resource(SDM, (stale,))
    with pytest.raises(holdings.StaleLease):
        house.holdings.write_lockspace(SPACE, 10, (stale,))
    assert house.door.read_owner(SDM) is not None
    assert len(house.door.hosts("space")) == 1


def test_write_keeps_its_needs_until_it_has_ended(house: House) -> None:
    need = house.take(ELSEWHERE)
    refused = []

    class Slow(FakeLeases):
        def write_resource(self, resource: Resource) -> None:
            with pytest.raises(leases.LeaseInUse):
                house.holdings.release(ELSEWHERE)
            refused.append(resource)

    house.door.__class__ = Slow
    house.holdings.write_resource(SDM, (need,))
    assert refused == [SDM]
    house.holdings.release(ELSEWHERE)


class Gone:
    """Whoever asked is served so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Failed("gone")


def test_nothing_is_begun_for_who_is_gone(house: House) -> None:
    need = house.take(SDM)
    for act in (
        lambda: house.holdings.acquire(VOLUME, None, Gone(0)),
        lambda: house.holdings.release(SDM, Gone(0)),
        lambda: house.holdings.leave(OTHER, 1, Gone(0)),
        lambda: house.holdings.write_resource(VOLUME, (need,), Gone(0)),
        lambda: house.holdings.write_lockspace(OTHER, 10, (need,), Gone(0)),
    ):
        with pytest.raises(Failed, match="gone"):
            act()
    assert [held.resource for held in house.holdings.held()] == ["SDM"]
    assert len(house.door.hosts("other")) == 1


def test_acquire_gives_back_what_came_too_late(house: House) -> None:
    with pytest.raises(Failed, match="gone"):
        house.holdings.acquire(SDM, None, Gone(1))
    assert house.holdings.held() == ()
    assert house.door.read_owner(SDM) is None


def test_forget_lost_looks_at_all_when_it_cannot_tell_of_one(house: House) -> None:
    class Blind(FakeLeases):
        def is_lost(self, resource: Resource) -> bool:
            if resource == SDM:
                raise leases.LeaseBusy("not now")
            return super().is_lost(resource)

    house.take(SDM), house.take(ELSEWHERE)
    house.door.lose("other")
    house.door.__class__ = Blind
    with pytest.raises(leases.LeaseBusy):
        house.holdings.forget_lost()
    assert [each.lockspace for each in house.holdings.lost()] == ["other"]


def test_writer_that_hangs_blocks_writes_of_its_domain_until_it_ends(
    house: House,
) -> None:
    need, other = house.take(SDM), house.take(ELSEWHERE)
    hanging = house.holdings.use((need, other), "space")
    hanging.hang()
    for needs, domain in (((need,), ""), ((), "space"), ((), "local:space")):
        with pytest.raises(holdings.WriterHangs):
            house.holdings.use(needs, domain)
        house.holdings.use(needs, domain, is_reading=True).end()
    with pytest.raises(holdings.WriterHangs):
        house.holdings.write_resource(VOLUME, (need,))
    house.holdings.use((other,), "other").end()  # it needed that lease, too
    hanging.end()
    hanging.hang()
    house.holdings.use((need,), "space").end()


def test_reader_that_hangs_blocks_nobody(house: House) -> None:
    need = house.take(SDM)
    house.holdings.use((need,), "space", is_reading=True).hang()
    house.holdings.use((need,), "space").end()


def test_forget_lost_kills_the_users_of_that_lockspace_only(house: House) -> None:
    killed: list[Resource] = []
    for resource in (SDM, VOLUME, ELSEWHERE):
        use = house.holdings.use((house.take(resource),))
        use.bind(functools.partial(killed.append, resource))
    house.door.lose("space")
    house.holdings.forget_lost()
    assert killed == [SDM, VOLUME]
    assert [each.lockspace for each in house.holdings.held()] == ["other"]
    assert {each.resource for each in house.holdings.lost()} == {"SDM", "volume"}


def test_give_up_lost_keeps_a_lease_until_its_user_is_gone(house: House) -> None:
    use = house.holdings.use((house.take(SDM),))
    house.door.lose("space")
    house.holdings.forget_lost()
    house.holdings.give_up_lost(0.0)
    assert house.door.read_owner(SDM) is not None
    with pytest.raises(leases.LeaseBusy):
        house.take(SDM)
    threading.Timer(0.05, use.end).start()
    house.holdings.give_up_lost(10.0)
    assert house.door.read_owner(SDM) is None


def test_bind_kills_at_once_what_started_while_its_lease_was_lost(house: House) -> None:
    use = house.holdings.use((house.take(SDM),))
    house.door.lose("space")
    house.holdings.forget_lost()
    killed: list[bool] = []
    use.bind(lambda: killed.append(True))
    assert killed == [True]
    assert use.is_lost


def test_acquire_clears_what_was_lost(house: House) -> None:
    lost = house.take(SDM)
    house.door.lose("space")
    house.holdings.forget_lost()
    house.holdings.give_up_lost(0.0)
    assert house.holdings.lost() == (lost,)
    house.door.add_lockspace(SPACE, 1, 10)
    assert house.take(SDM).version > lost.version
    assert house.holdings.lost() == ()


def test_leave_is_refused_while_a_lease_is_held_there(house: House) -> None:
    house.take(SDM)
    with pytest.raises(leases.LeaseInUse):
        house.holdings.leave(SPACE, 1)
    house.holdings.leave(OTHER, 1)
    house.holdings.release(SDM)
    house.holdings.leave(SPACE, 1)
    assert house.door.joined() == ()
