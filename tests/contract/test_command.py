"""What the command door promises: on the fake, and on real programs."""

import os
import time
from pathlib import Path

import pytest

from node.system import command
from node.system.command import CommandFailed, CommandMissing, CommandTimedOut
from tests.fakes.command import FakeCommands, output

_FAKE = FakeCommands(
    {
        "sh": lambda argv, input: {
            "cat": output(input or b""),
            "echo out; echo err >&2; exit 3": output(b"out\n", 3, b"err\n"),
            "echo; echo one; sleep 60": output(b"one"),
            "exit 0": output(status=1),
        }[argv[2]](argv, input)
    }
)


@pytest.fixture(params=["fake", "real"])
def run(request: pytest.FixtureRequest) -> command.Run:
    return _FAKE.run if request.param == "fake" else command.run


@pytest.fixture(params=["fake", "real"])
def first_line(request: pytest.FixtureRequest) -> command.FirstLine:
    return _FAKE.first_line if request.param == "fake" else command.first_line


def test_run_feeds_input_and_returns_output(run: command.Run) -> None:
    assert run(["sh", "-c", "cat"], timeout_s=10, input=b"hi").stdout == b"hi"


def test_run_raises_with_the_complaint_when_the_program_fails(run: command.Run) -> None:
    with pytest.raises(CommandFailed, match="status 3: err"):
        run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=10)


def test_run_returns_the_failure_when_it_may_fail(run: command.Run) -> None:
    argv = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    result = run(argv, timeout_s=10, may_fail=True)
    assert (result.status, result.stdout, result.stderr) == (3, b"out\n", b"err\n")


def test_run_names_a_program_that_is_missing(run: command.Run) -> None:
    with pytest.raises(CommandMissing, match="no-such-program"):
        run(["no-such-program"], timeout_s=10)


def test_first_line_returns_the_first_line_that_is_not_blank(
    first_line: command.FirstLine,
) -> None:
    result = first_line(["sh", "-c", "echo; echo one; sleep 60"], timeout_s=10)
    assert (result.status, result.stdout) == (0, b"one")


def test_first_line_is_a_failure_when_there_is_none(
    first_line: command.FirstLine,
) -> None:
    assert first_line(["sh", "-c", "exit 0"], timeout_s=10).status != 0


def test_run_kills_what_a_late_program_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {pid_file}; wait"
    with pytest.raises(CommandTimedOut):
        command.run(["sh", "-c", script], timeout_s=2.0)
    assert _ends(int(pid_file.read_text()), within_s=5)


def test_first_line_raises_when_the_program_is_silent() -> None:
    with pytest.raises(CommandTimedOut):
        command.first_line(["sleep", "60"], timeout_s=0.2)


def test_run_sets_the_locale_and_what_the_caller_adds() -> None:
    result = command.run(["env"], timeout_s=10, env={"COLOUR": "blue"})
    assert {"LC_ALL=C.UTF-8", "COLOUR=blue"} <= set(result.text.splitlines())


def _ends(pid: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if " Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        os.sched_yield()
    return False
