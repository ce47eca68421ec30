"""Strangers are answered and logged, but do not fill the log."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from node.http import refusals
from tests.fakes.clock import FakeClock

REFUSED = {"HTTP_X_SKERRY_REFUSED": "NONE", "HTTP_X_REAL_IP": "192.0.2.7"}


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"served"]


def ask(served: refusals.Application, environ: dict[str, Any]) -> tuple[str, bytes]:
    statuses: list[str] = []
    body = served(environ, lambda status, headers: statuses.append(status))
    return statuses[0], b"".join(body)


def test_behind_serves_who_was_not_refused() -> None:
    served = refusals.Refusals(FakeClock()).behind(application)
    assert ask(served, {"HTTP_X_SKERRY_REFUSED": ""}) == ("200 OK", b"served")
    assert ask(served, {}) == ("200 OK", b"served")


def test_behind_answers_who_was_refused() -> None:
    served = refusals.Refusals(FakeClock()).behind(application)
    status, body = ask(served, REFUSED)
    assert status == "403 Forbidden"
    assert json.loads(body)["error"]["code"] == "certificate_refused"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        pytest.param("NONE", "refused 192.0.2.7: it has no certificate", id="missing"),
        pytest.param("FAILED:revoked", "refused 192.0.2.7: FAILED:revoked", id="bad"),
    ],
)
def test_note_logs_who_and_why(
    caplog: pytest.LogCaptureFixture, reason: str, told: str
) -> None:
    refusals.Refusals(FakeClock()).note("192.0.2.7", reason)
    assert told in caplog.text


def test_note_counts_what_it_does_not_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    doorman = refusals.Refusals(clock)
    for _ in range(5):
        doorman.note("192.0.2.7", "NONE")
    assert len(caplog.records) == 1
    clock.advance(refusals.LOG_EVERY_S)
    doorman.note("192.0.2.7", "NONE")
    assert caplog.messages[-1].endswith("(4 more before)")
