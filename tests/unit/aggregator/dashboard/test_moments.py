"""Tests of aggregator.dashboard.moments."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from aggregator.control.orders import Origin
from aggregator.dashboard.moments import LIFE_S, Moments
from aggregator.federation.mirror import Mirror
from aggregator.federation.view import View
from node.model.ids import CorrelationId
from node.model.reason import Reason
from node.model.vm import VmState
from tests.fakes import fleet_storage, storage_orders
from tests.fakes import services as fakes
from tests.fakes.services import AT

ORIGIN = Origin("admin@internal", "local", CorrelationId("c1"))
DEADLINE_S = 30.0  # a test that waits longer has failed


def _vm_goes_down(fleet: fakes.Fleet) -> None:
    vm = fleet.mirror.view.vms[fakes.WEB1]
    fleet.mirror.put_vm(replace(vm, state=VmState.DOWN))


def _order_begins(fleet: fakes.Fleet) -> None:
    fleet.orders.is_held = True
    fleet.orders.reset_vm(fakes.WEB1, ORIGIN)


def _candidate_leaves(fleet: fakes.Fleet) -> None:
    candidate = fleet.registry.candidates()[0]
    fleet.registry.admit(candidate.node_id, candidate.fingerprint, ORIGIN)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_vm_goes_down, id="view"),
        pytest.param(_order_begins, id="order"),
        pytest.param(_candidate_leaves, id="candidate"),
        pytest.param(lambda fleet: fleet.events.record("node_up"), id="event"),
        pytest.param(
            lambda fleet: fleet.mirror.change(
                stats_revision=fleet.mirror.view.stats_revision + 1
            ),
            id="figures",
        ),
    ],
)
def test_a_moment_differs_after_a_change(change: Callable[[fakes.Fleet], None]) -> None:
    fleet = fakes.make_fleet()
    moments = Moments(fleet.services, 1)
    before = moments.now()
    change(fleet)
    fleet.clock.advance(LIFE_S)
    assert moments.now().token != before.token


def test_a_moment_is_kept_for_its_life() -> None:
    fleet = fakes.make_fleet()
    moments = Moments(fleet.services, 1)
    before = moments.now()
    _vm_goes_down(fleet)
    assert moments.now() is before


def test_a_moment_is_the_same_when_nothing_changed() -> None:
    fleet = fakes.make_fleet()
    moments = Moments(fleet.services, 1)
    before = moments.now()
    fleet.clock.advance(LIFE_S)
    assert moments.now() is before


def test_forget_looks_anew_at_once() -> None:
    fleet = fakes.make_fleet()
    moments = Moments(fleet.services, 1)
    before = moments.now()
    _vm_goes_down(fleet)
    moments.forget()
    assert moments.now().token != before.token


def test_wait_answers_at_once_when_the_caller_is_behind() -> None:
    moments = Moments(fakes.make_fleet().services, 1)
    moment, has_waited = moments.wait("old", 20)
    assert (moment, has_waited) == (moments.now(), False)


class SlowMirror(fakes.FakeMirror):
    """A mirror that tells when somebody waits, and moves the clock for them."""

    def __init__(self, fleet: fakes.Fleet) -> None:
        super().__init__(fleet.mirror.view)
        self._clock = fleet.clock
        self.is_waiting = threading.Event()
        self.may_return = threading.Event()

    def wait(self, since_revision: int, timeout_s: float) -> View:
        self.is_waiting.set()
        assert self.may_return.wait(DEADLINE_S)
        self._clock.advance(timeout_s)
        return self.view


def _moments(fleet: fakes.Fleet, mirror: SlowMirror) -> Moments:
    return Moments(replace(fleet.services, mirror=cast(Mirror, mirror)), 1)


def test_wait_answers_at_once_when_all_places_are_taken() -> None:
    fleet = fakes.make_fleet()
    mirror = SlowMirror(fleet)
    moments = _moments(fleet, mirror)
    token = moments.now().token
    first = threading.Thread(target=moments.wait, args=(token, 1.0))
    first.start()
    try:
        assert mirror.is_waiting.wait(DEADLINE_S)
        _, has_waited = moments.wait(token, 1.0)
    finally:
        mirror.may_return.set()
        first.join(DEADLINE_S)
    assert not has_waited


def test_wait_gives_its_place_back() -> None:
    fleet = fakes.make_fleet()
    mirror = SlowMirror(fleet)
    mirror.may_return.set()
    moments = _moments(fleet, mirror)
    token = moments.now().token
    assert [moments.wait(token, 1.0)[1] for _ in range(3)] == [True] * 3


def test_wait_ends_with_the_change() -> None:
    fleet = fakes.make_fleet()
    mirror = SlowMirror(fleet)
    mirror.may_return.set()
    moments = _moments(fleet, mirror)
    token = moments.now().token
    _order_begins(fleet)
    moment, has_waited = moments.wait(token, 20.0)
    assert (moment.token != token, has_waited) == (True, True)


def test_alarms_of_the_storage_stay_when_something_else_changes() -> None:
    fleet = fleet_storage.make_fleet()
    moments = Moments(fleet.services, 1)
    moments.now()
    low = Reason("storage_domain_low", AT, {"name": "data1", "free_mib": 1})
    told = fleet_storage.domain(fakes.OAK, fleet_storage.DATA1, problems=(low,))
    storage_orders.say(fleet.mirror, fakes.OAK, told)
    fleet.clock.advance(LIFE_S)
    found = [moments.now()]
    _vm_goes_down(fleet)
    fleet.clock.advance(LIFE_S)
    found.append(moments.now())
    assert all(low in [why.reason for why in each.alarms] for each in found)
    assert found[0].storage_alarms is found[1].storage_alarms
