"""The contract of the guard: the fake, and the real process on a fake sanlock."""

import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.errors import Error
from node.storage.guard import Guard, GuardFiles
from node.storage.process.launch import STORAGE_ID
from node.storage.process.protocol import LockspaceAt, Need, ResourceAt, StepState
from tests.fakes import storage_process
from tests.fakes.guard import FakeGuard, Outcome
from tests.fakes.storage_process import wait_until

END_S = 20.0
KINDS = ["fake", pytest.param("process", marks=pytest.mark.real)]


@dataclass(frozen=True, slots=True)
class House:
    """A guard, a folder for a domain, and the way to lose every lockspace."""

    guard: Guard
    domain: Path
    lose: Callable[[str], None]

    def take(self) -> tuple[ResourceAt, Need]:
        """Return a lease that is held, in a lockspace of its own."""
        name = str(uuid.uuid4())
        lockspace = LockspaceAt(name, f"/nowhere/{name}")
        resource = ResourceAt(name, "SDM", f"/nowhere/{name}", 1 << 20)
        self.guard.write_lockspace(lockspace)
        self.guard.join(lockspace, 1)
        self.guard.write_resource(resource)
        return resource, Need(name, "SDM", self.guard.acquire(resource))


def words(argv: tuple[str, ...]) -> Outcome:
    return Outcome(0, " ".join(argv[1:]) + "\n")


@pytest.fixture(params=KINDS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    if request.param == "fake":
        fake = FakeGuard(
            {
                "true": lambda _argv: Outcome(),
                "false": lambda _argv: Outcome(1),
                "echo": words,
                "sleep": lambda _argv: None,
            }
        )
        yield House(fake, tmp_path, fake.lose)
        return
    if why_not := storage_process.why_not():
        pytest.skip(why_not)
    with (
        tempfile.TemporaryDirectory() as folder,
        storage_process.instances(tmp_path) as instances,
    ):
        storage_process.give(Path(folder), STORAGE_ID)
        guard = instances.start()
        yield House(guard, Path(folder), lambda _space: instances.lose())


def test_run_runs_once_and_keeps_the_result(house: House) -> None:
    guard = house.guard
    for _ in range(3):
        guard.run("a", ["echo", "hello", "you"])
    step = guard.wait("a", END_S)
    assert (step.state, step.exit_status) == (StepState.ENDED, 0)
    assert step.stdout == "hello you\n"
    assert [each.step_id for each in guard.steps()] == ["a"]
    assert refusal(lambda: guard.run("a", ["true"])) == "step_differs"
    guard.forget("a")
    guard.forget("a")
    assert refusal(lambda: guard.wait("a", 0)) == "step_unknown"


def test_run_tells_how_a_program_ended(house: House) -> None:
    house.guard.run("a", ["false"])
    assert house.guard.wait("a", END_S).exit_status == 1
    house.guard.run("b", ["no-such-program"])
    assert house.guard.wait("b", END_S).exit_status == 127


def test_cancel_ends_a_step(house: House) -> None:
    guard = house.guard
    guard.run("a", ["sleep", "1000"])
    assert guard.wait("a", 0).state is StepState.RUNNING
    assert refusal(lambda: guard.forget("a")) == "step_runs"
    assert guard.cancel("a").exit_status == -15
    assert refusal(lambda: guard.cancel("b")) == "step_unknown"


def test_needs_hold_the_lease(house: House) -> None:
    guard = house.guard
    resource, need = house.take()
    guard.run("a", ["sleep", "1000"], [need])
    assert [held.users for held in guard.leases().held] == [1]
    assert refusal(lambda: guard.release(resource)) == "lease_in_use"
    guard.cancel("a")
    guard.release(resource)
    assert guard.leases().held == ()
    assert refusal(lambda: guard.run("b", ["true"], [need])) == "stale_lease"


def test_release_lets_another_version_come(house: House) -> None:
    guard = house.guard
    resource, need = house.take()
    assert guard.acquire(resource) == need.version
    owner = guard.read_owner(resource)
    assert owner is not None
    assert owner.version == need.version
    guard.release(resource)
    assert guard.read_owner(resource) is None
    later = Need(need.lockspace, need.resource, guard.acquire(resource))
    assert later.version > need.version
    assert refusal(lambda: guard.run("a", ["true"], [need])) == "stale_lease"
    guard.run("a", ["true"], [later])


def test_lost_lockspace_kills_its_steps_and_is_told(house: House) -> None:
    guard = house.guard
    _, need = house.take()
    guard.run("a", ["sleep", "1000"], [need])
    house.lose(need.lockspace)
    step = guard.wait("a", END_S)
    assert (step.exit_status, step.was_lost) == (-9, True)
    wait_until(lambda: guard.leases().lost == (need,))
    assert guard.leases().held == ()
    wait_until(lambda: guard.lockspaces() == ())
    assert refusal(lambda: guard.run("b", ["true"], [need])) == "stale_lease"


def test_leases_are_formatted_only_under_those_that_are_held(house: House) -> None:
    guard = house.guard
    resource, need = house.take()
    other, held = house.take()
    assert refusal(lambda: guard.write_resource(resource, [held])) == ""
    guard.release(other)
    stale = [need, held]
    assert refusal(lambda: guard.write_resource(resource, stale)) == "stale_lease"
    space = LockspaceAt(str(uuid.uuid4()), "/nowhere/at-all")
    asked = refusal(lambda: guard.write_lockspace(space, needs=stale))
    assert asked == "stale_lease"
    assert refusal(lambda: guard.join(space, 1)) == "not_a_lease"
    guard.write_lockspace(space, needs=[need])
    guard.join(space, 1)


def test_files_are_read_and_written_under_a_lease(house: House) -> None:
    resource, need = house.take()
    path = str(house.domain / "metadata")
    files = GuardFiles(house.guard, "d", str(house.domain), [need])
    files.write_whole(path, b"\0\xff", 0o660)
    assert files.read(path, 10) == b"\0\xff"
    assert [entry.name for entry in files.list(str(house.domain))] == ["metadata"]
    assert files.make_file(path, 2, 0o660, False).is_done_before
    assert refusal(lambda: files.read(path + "x", 10)) == "file_missing"
    house.guard.release(resource)
    assert refusal(lambda: files.remove(path)) == "stale_lease"
    assert (house.domain / "metadata").exists()


def refusal(ask: Callable[[], object]) -> str:
    """Return the code of the error that a call ends with; empty: none."""
    try:
        ask()
    except Error as error:
        return error.code
    return ""
