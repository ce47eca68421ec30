"""The register of VMs: what is written, when, and what is not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.model.ids import VmId
from node.model.vm import EndCause, GuestFacts, VmEnd, VmEntry, VmState, Wanted
from node.store import Store
from node.vm.register import Sight, VmRegister, VmUnknown
from node.vm.states import Seen
from tests.fakes.clock import FakeClock
from tests.unit.node.vm.examples import AT, DOWN, NODE_ID, VM, VM_ID

_GUEST = GuestFacts(AT, "web", "Debian 13", ("192.0.2.7",))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> Iterator[Store]:
    made = Store(tmp_path / "store.db", clock, NODE_ID, "boot-1")
    yield made
    made.close()


@pytest.fixture
def register(store: Store, clock: FakeClock) -> VmRegister:
    made = VmRegister(store, clock, lambda: "oak", guest_wait_s=60)
    made.add(VmEntry(VM, DOWN), None)
    return made


def _up(register: VmRegister) -> None:
    register.apply(VM_ID, Sight(Seen.START_ASKED, wanted=Wanted.UP))
    register.apply(VM_ID, Sight(Seen.RUNS, started_at=AT, generation=1))
    register.apply(VM_ID, Sight(Seen.GUEST_ANSWERED, guest=_GUEST))


def test_apply_keeps_what_came_with_the_sight(register: VmRegister) -> None:
    _up(register)
    run = register.get(VM_ID).run
    assert (run.state, run.started_at, run.generation, run.guest) == (
        VmState.UP,
        AT,
        1,
        _GUEST,
    )


def test_what_is_applied_is_on_disk(register: VmRegister, store: Store) -> None:
    _up(register)
    again = VmRegister(store, FakeClock(), lambda: "oak", guest_wait_s=60)
    assert again.list() == register.list()


@pytest.mark.parametrize(
    "sight",
    [
        pytest.param(Sight(Seen.RUNS, started_at="later"), id="runs"),
        pytest.param(
            Sight(Seen.GUEST_ANSWERED, guest=replace(_GUEST, at="later")), id="guest"
        ),
    ],
)
def test_apply_writes_nothing_when_nothing_is_new(
    register: VmRegister, store: Store, sight: Sight
) -> None:
    _up(register)
    rev = store.rev
    register.apply(VM_ID, sight)
    assert store.rev == rev


def test_apply_believes_the_first_who_tells_of_an_end(register: VmRegister) -> None:
    _up(register)
    first = VmEnd(EndCause.CRASHED, AT, "signal 11")
    register.apply(VM_ID, Sight(Seen.ENDED, end=first))
    register.apply(VM_ID, Sight(Seen.ENDED, end=VmEnd(EndCause.UNKNOWN, AT)))
    assert register.get(VM_ID).run.end == first


def test_apply_takes_no_late_word_of_a_guest(register: VmRegister) -> None:
    register.apply(VM_ID, Sight(Seen.GUEST_ANSWERED, guest=_GUEST))
    assert register.get(VM_ID).run == DOWN


def test_apply_passes_by_what_does_not_hold_any_more(register: VmRegister) -> None:
    sight = Sight(Seen.START_ASKED)
    assert register.apply(VM_ID, sight, only_if=lambda entry: False) is None
    assert register.apply(VmId("none"), sight) is None
    assert register.get(VM_ID).run == DOWN


def test_apply_changes_nothing_when_it_cannot_be_written(
    register: VmRegister, store: Store
) -> None:
    store.close()
    with pytest.raises(Exception, match="closed"):
        register.apply(VM_ID, Sight(Seen.START_ASKED))
    assert register.get(VM_ID).run == DOWN


def test_a_resumed_vm_whose_guest_is_known_is_up_at_once(register: VmRegister) -> None:
    _up(register)
    register.apply(VM_ID, Sight(Seen.PAUSED))
    register.apply(VM_ID, Sight(Seen.RUNS))
    assert register.get(VM_ID).run.state is VmState.UP


def test_tick_lets_a_vm_without_an_agent_be_up(
    register: VmRegister, clock: FakeClock
) -> None:
    register.apply(VM_ID, Sight(Seen.RUNS, started_at=AT))
    clock.advance(59)
    register.tick()
    assert register.get(VM_ID).run.state is VmState.POWERING_UP
    clock.advance(1)
    register.tick()
    assert register.get(VM_ID).run.state is VmState.UP


def test_wait_ends_when_the_vm_is_gone(register: VmRegister) -> None:
    register.remove(VM_ID, None)
    assert register.wait(VM_ID, lambda run: False, 0)
    with pytest.raises(VmUnknown):
        register.get(VM_ID)


def test_wait_gives_up_at_its_deadline(register: VmRegister) -> None:
    assert not register.wait(VM_ID, lambda run: False, 0)


def test_adopt_takes_on_a_vm_that_is_new_here(store: Store, clock: FakeClock) -> None:
    register = VmRegister(store, clock, lambda: "oak", guest_wait_s=60)
    entry = register.adopt(replace(VM, wanted=Wanted.UP), DOWN)
    assert entry == VmEntry(VM, DOWN)  # what is wanted elsewhere is not our matter
    again = VmRegister(store, clock, lambda: "oak", guest_wait_s=60)
    assert again.list() == (entry,)


@pytest.mark.parametrize(("generation", "is_taken"), [(1, False), (2, True)])
def test_adopt_takes_only_what_is_newer(
    register: VmRegister, generation: int, is_taken: bool
) -> None:
    _up(register)
    before = register.get(VM_ID)
    spec = replace(VM.spec, name="db")
    register.adopt(replace(VM, spec=spec, generation=generation), DOWN)
    after = register.get(VM_ID)
    assert (after.vm.spec.name == "db") is is_taken
    assert (after.run, after.vm.wanted) == (before.run, Wanted.UP)


def test_forget_lets_a_vm_go_that_may_come_back(
    register: VmRegister, store: Store
) -> None:
    assert not register.forget(VM_ID, lambda entry: False)
    assert register.forget(VM_ID)
    assert not register.forget(VM_ID)
    assert register.list() == ()
    assert not register.was_deleted(VM_ID)
    register.adopt(VM, DOWN)
    assert VmRegister(store, FakeClock(), lambda: "oak", 60).list() != ()


def test_leased_brings_a_version_and_no_news(register: VmRegister) -> None:
    _up(register)
    before = register.get(VM_ID).run
    register.apply(VM_ID, Sight(Seen.LEASED, lease_version=7))
    assert register.get(VM_ID).run == replace(before, lease_version=7)
