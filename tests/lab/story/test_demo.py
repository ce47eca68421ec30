"""`make demo` brings a fleet up, again after a kill, and leaves nothing behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import lab, layout, requirements
from tests.ports import free_port

UP_TIMEOUT_S = 240.0  # a minute on an idle machine
DOWN_TIMEOUT_S = 60.0
REFUSAL_TIMEOUT_S = 20.0  # nothing is built or booted


@pytest.fixture
def demo(
    turn: None, lab_environment: dict[str, str], tmp_path: Path
) -> Iterator[dict[str, str]]:
    """Return the environment of a demo of the tests' own; take it down at the end."""
    if lacks := requirements.missing():
        pytest.skip(requirements.describe(lacks))
    environment = dict(os.environ) | {
        "SKERRY_LAB_ID": f"{lab_environment['SKERRY_LAB_ID']}-demo",
        "SKERRY_LAB_SUBNET": "",
        "SKERRY_DEMO_PORT": str(free_port()),
        "SKERRY_DEMO_FOLDER": str(tmp_path / "demo"),
    }
    yield environment
    lab.take_down(layout.read_settings(environment))


def _demo(environment: dict[str, str], command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # Whoever runs the tests in the background lets them ignore Ctrl-C.
        [
            "env",
            "--default-signal=INT",
            sys.executable,
            "-m",
            "tests.lab.demo",
            command,
        ],
        env=environment,
        cwd=layout.CHECKOUT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _finish(process: subprocess.Popen[str], timeout_s: float, status: int = 0) -> str:
    output, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == status, output
    return output


def _interrupt(process: subprocess.Popen[str], after: str, number: int) -> None:
    """Send a signal as soon as a line was printed."""
    assert process.stdout is not None
    next(line for line in process.stdout if after in line)
    process.send_signal(number)


@contextlib.contextmanager
def _broken(disk: Path) -> Iterator[None]:
    """Let a host die at boot: a file lies where its logs belong."""
    logs = disk / "var.u/log/lab"
    kept = logs.rename(logs.with_name("kept"))
    logs.touch()
    yield
    logs.unlink()
    kept.rename(logs)


def test_demo_comes_up_after_a_kill_and_leaves_nothing(demo: dict[str, str]) -> None:
    first = _demo(demo, "up")
    _interrupt(first, "admitted", signal.SIGKILL)
    first.communicate()
    one = lab.Lab.load(layout.read_settings(demo))
    one.member("h3").kill()
    with _broken(one.plan.member_directory("h3")):
        output = _finish(_demo(demo, "up"), UP_TIMEOUT_S, status=1)
    assert "\n  h3 boots\n" in output
    assert "\nfailed: h3: its PID 1 died at boot" in output
    assert f"\n  log: {one.member('h3').console}\n  remedy: " in output
    assert "make demo-down" in output
    output = _finish(_demo(demo, "up"), UP_TIMEOUT_S)
    assert f"https://127.0.0.1:{demo['SKERRY_DEMO_PORT']}/" in output
    assert "demo" in output
    output = _finish(_demo(demo, "down"), DOWN_TIMEOUT_S)
    assert "`make clean`" in output
    assert lab.leftovers(layout.read_settings(demo)) == []
    assert not Path(demo["SKERRY_DEMO_FOLDER"]).exists()


def test_demo_refuses_a_taken_port_before_it_begins(demo: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        process = _demo(demo | {"SKERRY_DEMO_PORT": port}, "up")
        output = _finish(process, REFUSAL_TIMEOUT_S, status=1)
    assert f"port {port} of this machine is taken" in output
    assert "make demo SKERRY_DEMO_PORT=" in output
    assert lab.leftovers(layout.read_settings(demo)) == []


@pytest.mark.parametrize("port", ["0", "65536", "web"])
def test_demo_refuses_what_is_no_port(port: str) -> None:
    process = _demo(dict(os.environ) | {"SKERRY_DEMO_PORT": port}, "up")
    assert "SKERRY_DEMO_PORT" in _finish(process, REFUSAL_TIMEOUT_S, status=2)


def test_demo_says_what_stays_when_it_is_interrupted(demo: dict[str, str]) -> None:
    process = _demo(demo, "up")
    _interrupt(process, "three hosts", signal.SIGINT)
    output = _finish(process, DOWN_TIMEOUT_S, status=130)
    assert "make demo-down" in output
    assert "Traceback" not in output


def test_demo_says_what_the_machine_refuses(
    demo: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "demo")
    process = _demo(demo | {"SKERRY_DEMO_FOLDER": folder}, "down")
    output = _finish(process, DOWN_TIMEOUT_S, status=1)
    assert "\nfailed: [Errno 20] Not a directory" in output
    assert "remedy: " in output
