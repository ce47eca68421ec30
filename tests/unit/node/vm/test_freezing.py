"""A guest that was frozen goes on, whatever happened meanwhile."""

import pytest

from node.model.ids import VmId
from node.system.hypervisor import Activity, Domain, HypervisorRefused
from node.vm.freezing import Freezer
from tests.fakes.hypervisor import FakeHypervisor

_ID = VmId("aaaaaaaa-0000-4000-8000-000000000001")


@pytest.fixture
def hypervisor() -> FakeHypervisor:
    fake = FakeHypervisor()
    fake.open(lambda event: None, lambda is_connected: None)
    fake.add(Domain(_ID, "web", Activity.RUNNING, "<domain/>"))
    fake.set_guest(_ID, {"guest-ping": {}})
    return fake


def test_guest_stands_still_meanwhile_and_goes_on(hypervisor: FakeHypervisor) -> None:
    seen: list[bool] = []
    is_whole = Freezer(hypervisor).is_whole_during(
        _ID, lambda: seen.append(hypervisor.is_frozen(_ID))
    )
    assert (is_whole, seen, hypervisor.is_frozen(_ID)) == (True, [True], False)


def test_guest_goes_on_when_its_snapshot_fails(hypervisor: FakeHypervisor) -> None:
    hypervisor.refusal = "no"
    with pytest.raises(HypervisorRefused):
        Freezer(hypervisor).is_whole_during(
            _ID, lambda: hypervisor.snapshot(_ID, {"ua-x": "/x"})
        )
    assert not hypervisor.is_frozen(_ID)


def test_freeze_that_is_not_heard_of_is_undone(hypervisor: FakeHypervisor) -> None:
    hypervisor.unheard = frozenset({"freeze"})
    assert not Freezer(hypervisor).is_whole_during(_ID, lambda: None)
    assert not hypervisor.is_frozen(_ID)


def test_guest_that_went_on_too_early_is_not_whole(hypervisor: FakeHypervisor) -> None:
    assert not Freezer(hypervisor).is_whole_during(
        _ID, lambda: [hypervisor.thaw(_ID)].clear()
    )


def test_mend_thaws_what_was_left_frozen(hypervisor: FakeHypervisor) -> None:
    hypervisor.unheard = frozenset({"thaw"})
    Freezer(hypervisor).is_whole_during(_ID, lambda: None)
    hypervisor.unheard = frozenset()
    # Also after a restart of the agent.
    Freezer(hypervisor).mend(_ID)
    assert not hypervisor.is_frozen(_ID)


def test_mend_leaves_a_guest_alone_during_its_snapshot(
    hypervisor: FakeHypervisor,
) -> None:
    freezer = Freezer(hypervisor)
    assert freezer.is_whole_during(_ID, lambda: freezer.mend(_ID))


def test_mend_asks_no_thaw_of_a_guest_that_is_not_frozen(
    hypervisor: FakeHypervisor,
) -> None:
    Freezer(hypervisor).mend(_ID)
    assert "thaw" not in hypervisor.calls
