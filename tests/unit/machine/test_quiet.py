"""Check that the machine's policy comes back, whenever a run ends."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import quiet

FORMER = "#!/bin/sh\nexit 104\n"

# Enters the guard, says so, and waits to be killed.
HOLD = """
import sys
from pathlib import Path
from tests.machine import quiet
with quiet.services_forbidden(quiet.Policy(Path(sys.argv[1]))):
    print("holding", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def policy(tmp_path: Path) -> quiet.Policy:
    return quiet.Policy(tmp_path / "policy-rc.d")


def _files(policy: quiet.Policy) -> dict[str, str]:
    folder = policy.path.parent
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def _kill_a_run(policy: quiet.Policy) -> None:
    argv = (sys.executable, "-c", HOLD, os.fspath(policy.path))
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "holding\n"
        run.send_signal(signal.SIGKILL)
        run.wait(timeout=10)


def test_services_forbidden_runs_a_policy_that_forbids(policy: quiet.Policy) -> None:
    with quiet.services_forbidden(policy):
        assert subprocess.run([policy.path], check=False).returncode == 101


def test_services_forbidden_leaves_nothing_when_nothing_was_there(
    policy: quiet.Policy,
) -> None:
    with quiet.services_forbidden(policy):
        pass
    assert _files(policy) == {}


def test_services_forbidden_brings_the_former_policy_back(
    policy: quiet.Policy,
) -> None:
    policy.path.write_text(FORMER)
    policy.path.chmod(0o750)
    with quiet.services_forbidden(policy):
        assert policy.path.read_text() == quiet.FORBID
    assert _files(policy) == {"policy-rc.d": FORMER}
    assert policy.path.stat().st_mode & 0o777 == 0o750


def test_services_forbidden_brings_a_link_back_as_a_link(policy: quiet.Policy) -> None:
    policy.path.symlink_to("nowhere")
    with quiet.services_forbidden(policy):
        assert not policy.path.is_symlink()
    assert os.fspath(policy.path.readlink()) == "nowhere"


def test_services_forbidden_restores_when_the_work_fails(policy: quiet.Policy) -> None:
    policy.path.write_text(FORMER)
    with pytest.raises(ZeroDivisionError), quiet.services_forbidden(policy):
        raise ZeroDivisionError
    assert _files(policy) == {"policy-rc.d": FORMER}


@pytest.mark.parametrize("before", [{}, {"policy-rc.d": FORMER}], ids=["none", "some"])
def test_services_forbidden_repairs_after_a_killed_run(
    policy: quiet.Policy, before: dict[str, str]
) -> None:
    for name, text in before.items():
        (policy.path.parent / name).write_text(text)
    _kill_a_run(policy)
    assert policy.path.read_text() == quiet.FORBID
    with quiet.services_forbidden(policy):
        pass
    assert _files(policy) == before


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({"now": FORMER}, {"now": FORMER}, id="nobody-at-work"),
        pytest.param({"now": quiet.FORBID}, {}, id="killed-none-before"),
        pytest.param(
            {"now": FORMER, "former": FORMER}, {"now": FORMER}, id="killed-at-start"
        ),
        pytest.param(
            {"now": quiet.FORBID, "former": FORMER}, {"now": FORMER}, id="killed-later"
        ),
        pytest.param({"former": FORMER}, {"now": FORMER}, id="ours-was-removed"),
        pytest.param(
            {"now": "theirs", "former": FORMER}, {"now": "theirs"}, id="replaced-since"
        ),
    ],
)
def test_restore_ends_well_from_every_state(
    policy: quiet.Policy, found: dict[str, str], expected: dict[str, str]
) -> None:
    places = {"now": policy.path, "former": policy.former}
    for place, text in found.items():
        places[place].write_text(text)
    quiet.restore(policy)
    quiet.restore(policy)
    assert _files(policy) == {
        places[place].name: text for place, text in expected.items()
    }


def test_services_forbidden_locks_the_folder(policy: quiet.Policy) -> None:
    descriptor = os.open(policy.path.parent, os.O_RDONLY)
    try:
        with quiet.services_forbidden(policy), pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)
