"""Test what the command line prints."""

import dataclasses

import pytest

from tests.lab import cli, control

RUNS = control.State("dbus", 7, True, False, True, "", 1, None)


def test_table_aligns_columns_without_trailing_blanks() -> None:
    assert cli.table([("A", "BB"), ("long", "x")]) == "A     BB\nlong  x"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "dbus"),
        ({"starts": 4}, "dbus (4 starts)"),
        ({"pid": 0, "is_wanted": False}, "stopped: dbus"),
        ({"pid": 0, "is_waiting": True}, "waiting: dbus"),
        ({"pid": 0}, "failing: dbus"),
    ],
    ids=["runs", "restarted", "stopped", "waiting", "failing"],
)
def test_summary_says_what_a_service_does(
    changes: dict[str, int], expected: str
) -> None:
    state = dataclasses.replace(RUNS, **changes)  # type: ignore[arg-type]  # a table
    assert cli.summary([state]) == expected


def test_main_fails_with_remedy_when_no_lab_is_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKERRY_LAB_ID", "none-such")
    monkeypatch.delenv("SKERRY_LAB_DIR", raising=False)
    assert cli.main(["status"]) == 1
    assert "remedy: python -m tests.lab up" in capsys.readouterr().err
