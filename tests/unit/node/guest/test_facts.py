"""When guests are asked, and what is made of the answers."""

import threading

import pytest

from node.guest import facts, qga
from node.guest.facts import GuestPoller
from node.model.ids import VmId
from node.model.vm import GuestFacts
from node.system.hypervisor import Activity, Domain, GuestSilent
from tests.fakes.clock import FakeClock
from tests.fakes.hypervisor import FakeHypervisor

_AT = "2026-11-22T08:00:00.000Z"
_ID = VmId("aaaaaaaa-0000-4000-8000-000000000001")
_REPLIES = {
    qga.INTERFACES: [{"ip-addresses": [{"ip-address": "192.0.2.7"}]}],
    qga.HOST_NAME: {"host-name": "web"},
    qga.OS: {"pretty-name": "Debian 13"},
}


@pytest.fixture
def hypervisor() -> FakeHypervisor:
    fake = FakeHypervisor()
    fake.open(lambda event: None, lambda is_connected: None)
    fake.add(Domain(_ID, "web", Activity.RUNNING, "<domain/>"))
    return fake


def test_ask_returns_what_the_guest_says(hypervisor: FakeHypervisor) -> None:
    hypervisor.set_guest(_ID, _REPLIES)
    told = facts.ask(hypervisor, _ID, _AT)
    assert told == GuestFacts(_AT, "web", "Debian 13", ("192.0.2.7",))


def test_ask_copes_with_an_old_agent(hypervisor: FakeHypervisor) -> None:
    hypervisor.set_guest(_ID, {qga.INTERFACES: []})
    assert facts.ask(hypervisor, _ID, _AT) == GuestFacts(_AT)


def test_ask_raises_when_there_is_no_agent(hypervisor: FakeHypervisor) -> None:
    with pytest.raises(GuestSilent):
        facts.ask(hypervisor, _ID, _AT)


class _Asked:
    """A poller on a clock that stands still, and how often it asked."""

    def __init__(self, hypervisor: FakeHypervisor, *, is_awaited: bool) -> None:
        self.clock = FakeClock()
        self.answers = threading.Semaphore(0)
        hypervisor.set_guest(_ID, _REPLIES)
        self.poller = GuestPoller(
            hypervisor,
            self.clock,
            lambda: {_ID: is_awaited},
            lambda vm_id, said: self.answers.release(),
            lambda vm_id: None,
        )

    def poll_after(self, seconds: float) -> bool:
        """Return whether the guest was asked, after it has answered."""
        self.clock.advance(seconds)
        is_asked = self.poller.poll() > 0
        assert not is_asked or self.answers.acquire(timeout=10)
        return is_asked


def test_poll_asks_a_guest_that_is_awaited_every_second(
    hypervisor: FakeHypervisor,
) -> None:
    asked = _Asked(hypervisor, is_awaited=True)
    assert [asked.poll_after(each) for each in (0, 0.5, 0.5)] == [True, False, True]


def test_poll_asks_a_guest_that_is_known_every_ten_seconds(
    hypervisor: FakeHypervisor,
) -> None:
    asked = _Asked(hypervisor, is_awaited=False)
    assert [asked.poll_after(each) for each in (0, 9, 1)] == [True, False, True]


def test_poke_lets_a_guest_be_asked_at_once(hypervisor: FakeHypervisor) -> None:
    asked = _Asked(hypervisor, is_awaited=False)
    asked.poll_after(0)
    asked.poller.poke(_ID)
    assert asked.poll_after(0.1)
