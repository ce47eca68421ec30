"""Take values out of documents that another version may have written.

Pure. What is missing, or of another type, is as if it were not there.
"""

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, TypeVar

from node import wire
from node.errors import Invalid

E = TypeVar("E", bound=Enum)
T = TypeVar("T")

_NOTHING: Final[Mapping[str, Any]] = {}


def mapping(document: bytes) -> Mapping[str, Any]:
    """Return the JSON object of a document; empty if there is none."""
    value = json.loads(document) if document else _NOTHING
    return value if isinstance(value, dict) else _NOTHING


def inner(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object in another."""
    found = value.get(name)
    return found if isinstance(found, dict) else _NOTHING


def items(value: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list."""
    found = value.get(name)
    return found if isinstance(found, list) else []


def objects(value: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects of a list."""
    return [each for each in items(value, name) if isinstance(each, dict)]


def texts(value: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the texts of a list."""
    return tuple(each for each in items(value, name) if isinstance(each, str))


def text(value: Mapping[str, Any], name: str) -> str:
    """Return a text."""
    found = value.get(name)
    return found if isinstance(found, str) else ""


def number(value: Mapping[str, Any], name: str, default: int) -> int:
    """Return a whole number."""
    found = value.get(name)
    return found if type(found) is int else default


def seconds(value: Mapping[str, Any], name: str) -> float | None:
    """Return a number of seconds; None if there is none."""
    found = value.get(name)
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return found if is_number else None


def choice(kind: type[E], value: Any, default: E) -> E:
    """Return the member of an enum with a value."""
    try:
        return kind(value)
    except ValueError:
        return default


def part(kind: type[T], value: Any) -> T | None:
    """Return a part of a document as its dataclass; None if it cannot be read."""
    if value is None:
        return None
    try:
        return wire.from_json(kind, value, strict=False)
    except Invalid:
        return None
