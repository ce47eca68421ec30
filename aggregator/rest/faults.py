"""Turn errors into oVirt's faults, in one place. Pure.

Clients look at the status, and some at phrases in the text: those stand here.
"""

from collections.abc import Mapping
from typing import Final

from aggregator.rest import body
from aggregator.rest.element import Element
from node import errors
from node.errors import Busy, Error, Invalid
from node.model.job import ErrorReport

FAILED: Final = "Operation Failed"
INCOMPLETE: Final = "Incomplete parameters"
# oVirt's clients retry a 409, and do not know 423.
_STATUS: Final[Mapping[type[Error], int]] = {Busy: 409}
# What clients find in a fault of something that is busy, and then retry.
_BUSY_PHRASE: Final = "Related operation is currently in progress."


def status_of(error: Error) -> int:
    """Return the HTTP status of an error."""
    for kind, status in _STATUS.items():
        if isinstance(error, kind):
            return status
    return error.status


def fault_of(error: Error) -> Element:
    """Return what a client is told."""
    if isinstance(error, body.Incomplete):
        return fault(INCOMPLETE, str(error))
    if isinstance(error, Invalid):
        return fault(FAILED, _sentences(str(error), error.remedy))
    phrase = _BUSY_PHRASE if isinstance(error, Busy) else ""
    return fault(FAILED, f"[{_sentences(str(error), phrase, error.remedy)}]")


def fault(reason: str, detail: str) -> Element:
    """Return a fault of these texts."""
    children = (Element("detail", detail), Element("reason", reason))
    return Element("fault", children=children)


def revived(report: ErrorReport) -> Error:
    """Return the error that ended an order, as the kind it had."""
    return errors.revive(
        report.kind, report.code, report.message, report.remedy, **report.fields
    )


def _sentences(*parts: str) -> str:
    return " ".join(part for part in parts if part)
