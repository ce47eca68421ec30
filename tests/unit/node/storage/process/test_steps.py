"""Run steps in a real storage process; only sanlock is a fake."""

import functools
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from node.errors import Error
from node.storage.guard import SocketGuard
from node.storage.process import kill
from node.storage.process.protocol import Step, StepState
from tests.fakes.storage_process import wait_until
from tests.unit.node.storage.process.conftest import Lease

END_S = 20.0


@pytest.fixture
def step_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def held(shared: SocketGuard) -> Lease:
    return Lease(shared, str(uuid.uuid4()))


def test_run_runs_as_the_storage_user_in_its_folder(
    shared: SocketGuard, step_id: str, domain: Path
) -> None:
    asks = "id -u; id -g; id -G; umask; pwd; echo lost >&2; exit 3"
    shared.run(step_id, ["sh", "-c", asks], folder=str(domain))
    step = shared.wait(step_id, END_S)
    assert step.stdout.split() == ["36", "36", "36", "0007", str(domain)]
    assert (step.exit_status, step.stderr) == (3, "lost\n")


def test_run_gives_a_program_nothing_of_ours(shared: SocketGuard, step_id: str) -> None:
    shared.run(step_id, ["sh", "-c", "ls /proc/$$/fd; env | grep -v ^_="])
    step = shared.wait(step_id, END_S)
    given = set(step.stdout.split())
    assert {each for each in given if "=" not in each} == {"0", "1", "2"}
    names = {each.partition("=")[0] for each in given if "=" in each}
    assert names <= {"PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL"}


def test_run_runs_once_for_one_id_whoever_asks(
    shared: SocketGuard, step_id: str, domain: Path
) -> None:
    def ask(_number: int) -> Step:
        return shared.run(step_id, ["sh", "-c", 'echo x >>"$0"', str(domain / "runs")])

    with ThreadPoolExecutor(8) as pool:
        assert {step.step_id for step in pool.map(ask, range(24))} == {step_id}
    assert shared.wait(step_id, END_S).exit_status == 0
    assert ask(0).state is StepState.ENDED
    assert (domain / "runs").read_text() == "x\n"


def test_run_refuses_another_step_of_the_same_id(
    shared: SocketGuard, step_id: str
) -> None:
    shared.run(step_id, ["true"])
    assert refusal(lambda: shared.run(step_id, ["false"])) == "step_differs"


def test_run_refuses_a_version_that_is_not_held(
    shared: SocketGuard, step_id: str, held: Lease
) -> None:
    for change in (-1, 1):
        asked = [held.need, replace(held.need, version=held.version + change)]
        run = functools.partial(shared.run, step_id, ["true"], asked)
        assert refusal(run) == "stale_lease"
    assert step_id not in {step.step_id for step in shared.steps()}


def test_run_returns_a_known_step_when_its_lease_is_gone(
    shared: SocketGuard, step_id: str, held: Lease
) -> None:
    shared.run(step_id, ["true"], [held.need])
    shared.wait(step_id, END_S)
    shared.release(held.resource)
    assert shared.run(step_id, ["true"], [held.need]).exit_status == 0


def test_release_is_refused_while_a_step_needs_the_lease(
    shared: SocketGuard, step_id: str, held: Lease
) -> None:
    shared.run(step_id, ["sleep", "1000"], [held.need])
    assert refusal(lambda: shared.release(held.resource)) == "lease_in_use"
    assert refusal(lambda: shared.leave(held.lockspace, 1)) == "lease_in_use"
    assert shared.cancel(step_id).exit_status == -15
    shared.release(held.resource)
    shared.leave(held.lockspace, 1)


def test_run_ends_what_the_program_leaves_behind(
    shared: SocketGuard, step_id: str, domain: Path
) -> None:
    pid = domain / "pid"
    leaves = 'setsid sleep 1000 & echo $! >"$0"'
    shared.run(step_id, ["sh", "-c", leaves, str(pid)])
    assert shared.wait(step_id, END_S).exit_status == 0
    # Nobody may have asked for its status yet; it does nothing any more.
    assert kill.start_time(int(pid.read_text())) == "" or is_zombie(pid.read_text())


def test_run_says_when_the_program_is_not_there(
    shared: SocketGuard, step_id: str
) -> None:
    shared.run(step_id, ["/no/such/program"])
    step = shared.wait(step_id, END_S)
    assert step.exit_status == 127
    assert "/no/such/program" in step.stderr


def test_wait_returns_a_running_step_in_time(shared: SocketGuard, step_id: str) -> None:
    shared.run(step_id, ["sleep", "1000"])
    assert shared.wait(step_id, 0.05).state is StepState.RUNNING
    assert refusal(lambda: shared.forget(step_id)) == "step_runs"
    shared.cancel(step_id)


def test_wait_keeps_the_end_of_a_long_output(shared: SocketGuard, step_id: str) -> None:
    shared.run(step_id, ["sh", "-c", "seq 1 100000; seq 1 100000 >&2"])
    step = shared.wait(step_id, END_S)
    assert step.stdout.endswith("\n99999\n100000\n")
    assert step.stderr.endswith("\n99999\n100000\n")
    assert len(step.stdout) < 10_000


def test_progress_is_the_last_line(shared: SocketGuard, step_id: str) -> None:
    shows = r'printf "\r    (10.00/100%%)\r    (57.41/100%%)\r"; sleep 1000'
    shared.run(step_id, ["sh", "-c", shows])
    wait_until(lambda: shared.progress(step_id) == "(57.41/100%)")
    shared.cancel(step_id)


def test_forget_forgets_and_says_so_afterwards(
    shared: SocketGuard, step_id: str
) -> None:
    shared.run(step_id, ["true"])
    shared.wait(step_id, END_S)
    shared.forget(step_id)
    shared.forget(step_id)
    assert refusal(lambda: shared.wait(step_id, 0)) == "step_unknown"


@pytest.mark.parametrize(
    ("argv", "folder"),
    [
        pytest.param([], "/", id="no-words"),
        pytest.param([""], "/", id="empty-program"),
        pytest.param(["x"] * 300, "/", id="too-many-words"),
        pytest.param(["true"], "relative", id="relative-folder"),
    ],
)
def test_run_refuses_what_makes_no_sense(
    shared: SocketGuard, step_id: str, argv: list[str], folder: str
) -> None:
    asked = refusal(lambda: shared.run(step_id, argv, folder=folder))
    assert asked == "step_malformed"


def is_zombie(pid: str) -> bool:
    status = Path("/proc", pid.strip(), "stat").read_text()
    return status.rpartition(")")[2].split()[0] == "Z"


def refusal(ask: object) -> str:
    """Return the code of the error that something raises."""
    assert callable(ask)
    with pytest.raises(Error) as caught:
        ask()
    return caught.value.code
