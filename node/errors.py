"""Say what went wrong in eight kinds, each naming whose move is next.

A kind is a base class and fixes the HTTP status. What is raised is a
subclass, defined beside the code that raises it, with a stable `code`. The
fields travel to the caller; `remedy` says what to do. Source: DESIGN section 7.
"""

from collections.abc import Mapping
from typing import ClassVar

Field = str | int | float | bool | None


class Error(Exception):
    """The root of all errors that a caller should expect."""

    status: ClassVar[int]
    kind: ClassVar[str]
    code: str = "error"
    remedy: str = ""

    def __init__(self, message: str = "", **fields: Field) -> None:
        super().__init__(message)
        self.message = message or self.code.replace("_", " ")
        self.fields: Mapping[str, Field] = fields

    def __str__(self) -> str:
        return self.message


class Invalid(Error):
    """The request is malformed: amend it."""

    status, kind, code = 400, "invalid", "invalid"


class Denied(Error):
    """The caller may not do this."""

    status, kind, code = 403, "denied", "denied"


class NotFound(Error):
    """There is no such thing here."""

    status, kind, code = 404, "not_found", "not_found"


class Conflict(Error):
    """The state of the thing forbids it."""

    status, kind, code = 409, "conflict", "conflict"


class Busy(Error):
    """Something else is under way: retry."""

    status, kind, code = 423, "busy", "busy"


class Failed(Error):
    """We tried and it did not take."""

    status, kind, code = 500, "failed", "failed"


class Unsupported(Error):
    """This machine or version cannot do it."""

    status, kind, code = 501, "unsupported", "unsupported"


class Unavailable(Error):
    """Something that we depend on is down: retry later."""

    status, kind, code = 503, "unavailable", "unavailable"


KINDS: Mapping[str, type[Error]] = {
    kind.kind: kind
    for kind in (
        Invalid,
        Denied,
        NotFound,
        Conflict,
        Busy,
        Failed,
        Unsupported,
        Unavailable,
    )
}


def revive(kind: str, code: str, message: str, remedy: str, **fields: Field) -> Error:
    """Return the error that a peer reported, as the kind it had there."""
    error = KINDS.get(kind, Failed)(message, **fields)
    error.code = code
    error.remedy = remedy
    return error
