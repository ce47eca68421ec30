"""Test what waiting tells when its deadline passes."""

from pathlib import Path

import pytest

from node.errors import Unavailable
from tests.lab import errors, waiting


def test_until_returns_the_first_answer() -> None:
    answers = iter([None, "", "here"])
    assert waiting.until("an answer", lambda: next(answers), poll_s=0.0) == "here"


def test_until_names_what_it_waited_for_the_log_and_the_remedy() -> None:
    def look() -> str:
        raise Unavailable("nobody answers")

    with pytest.raises(errors.TimedOut) as late:
        waiting.until(
            "a login at a1",
            look,
            timeout_s=0.01,
            poll_s=0.0,
            remedy="look there",
            log_path=Path("/logs/a1.log"),
        )
    assert str(late.value).splitlines() == [
        "a login at a1: not after 0 s (nobody answers)",
        "  log: /logs/a1.log",
        "  remedy: look there",
    ]
