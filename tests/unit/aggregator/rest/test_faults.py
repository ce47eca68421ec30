"""Tests of faults."""

import pytest

from aggregator.rest import faults, serialise
from aggregator.rest.body import Incomplete
from node.errors import KINDS, Busy, Conflict
from node.model.job import ErrorReport


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("invalid", 400),
        ("denied", 403),
        ("not_found", 404),
        ("conflict", 409),
        ("busy", 409),
        ("failed", 500),
        ("unsupported", 501),
        ("unavailable", 503),
    ],
)
def test_status_of_each_kind(kind: str, status: int) -> None:
    assert faults.status_of(KINDS[kind]("text")) == status


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_fault_tells_what_happened_and_what_to_do(kind: str) -> None:
    error = KINDS[kind]("the disk is red")
    error.remedy = "Paint it."
    text = serialise.to_xml(faults.fault_of(error))
    assert "the disk is red" in text
    assert "Paint it." in text


def test_fault_of_missing_fields_has_its_own_reason() -> None:
    fault = serialise.to_json(faults.fault_of(Incomplete("Vm [name] required for add")))
    assert fault == {
        "detail": "Vm [name] required for add",
        "reason": "Incomplete parameters",
    }


def test_fault_of_something_busy_has_the_phrase_that_clients_retry_on() -> None:
    fault = serialise.to_json(faults.fault_of(Busy("VM is locked")))
    assert "Related operation is currently in progress." in fault["detail"]


def test_revived_is_the_error_that_a_node_reported() -> None:
    report = ErrorReport("conflict", "vm_runs", "it runs", "Stop it.", {"name": "a"})
    error = faults.revived(report)
    assert isinstance(error, Conflict)
    assert (error.code, error.remedy, error.fields) == (
        "vm_runs",
        "Stop it.",
        {"name": "a"},
    )
