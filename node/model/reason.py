"""Explain a state: a code, its fields, since when, and what caused it.

The text is made at the faces from `node.model.messages`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Optional

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Reason:
    code: str  # a code of node.model.messages
    since: str  # RFC 3339
    fields: Mapping[str, Scalar] = field(default_factory=dict)
    cause: Optional["Reason"] = None


def chain(reason: Reason | None) -> Iterator[Reason]:
    """Yield the reason, then its cause, then the cause of that."""
    while reason is not None:
        yield reason
        reason = reason.cause
