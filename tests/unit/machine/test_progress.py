"""Check what a person is told while the machine is prepared."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests.machine import progress


def test_step_prints_one_line_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.step("making tea"):
        pass
    assert re.fullmatch(r"making tea +ok +\d+\.\d s\n", capsys.readouterr().out)


def test_step_says_that_it_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), progress.step("making tea"):
        raise ZeroDivisionError
    assert re.fullmatch(r"making tea +failed +\d+\.\d s\n", capsys.readouterr().out)


def test_run_appends_command_and_output_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log" / "x.log"
    for word in ("one", "two"):
        progress.run(("echo", word), log=log, remedy="none")
    assert log.read_text() == "\n$ echo one\none\n\n$ echo two\ntwo\n"


def test_run_uses_the_environment_and_the_folder(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    program = "import os; print(os.environ['A'], os.getcwd())"
    progress.run(
        (sys.executable, "-c", program),
        log=log,
        remedy="none",
        environment={"A": "b"},
        directory=tmp_path,
    )
    assert log.read_text().endswith(f"b {os.fspath(tmp_path)}\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param(("false",), "false ended with status 1", id="status"),
        pytest.param(("/no/such",), "/no/such could not be started: .*", id="absent"),
    ],
)
def test_run_fails_with_log_and_remedy(
    tmp_path: Path, argv: tuple[str, ...], message: str
) -> None:
    log = tmp_path / "x.log"
    with pytest.raises(progress.StepFailed, match=f"^{message}") as failure:
        progress.run(argv, log=log, remedy="try tea")
    assert (failure.value.log, failure.value.remedy) == (log, "try tea")


def test_explain_shows_the_end_of_the_log_and_the_remedy(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {number}\n\n" for number in range(100)))
    error = progress.StepFailed("tea ended", log=log, remedy="make coffee")
    told = progress.explain(error)
    assert told.startswith(f"error: tea ended\n  log:    {log}\n")
    assert "line 99" in told
    assert "line 9\n" not in told
    assert told.endswith("remedy: make coffee")


def test_explain_copes_with_a_log_that_is_gone(tmp_path: Path) -> None:
    error = progress.StepFailed("tea ended", log=tmp_path / "gone", remedy="r")
    assert "remedy: r" in progress.explain(error)
