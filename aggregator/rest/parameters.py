"""Read what a request asks besides its path: query, then matrix, then headers.

Pure. As oVirt does: numbers that are none are passed over, a parameter without
a value is true, and an empty `follow` or `search` is none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Union

from node.model.ids import CorrelationId

_NOT_ALLOWED: Final = re.compile(r"[^0-9a-zA-Z_-]")
_CORRELATION_MAX: Final = 36
_TRUE: Final = frozenset({"", "true", "t", "yes", "y", "1"})
_FOLLOW_DEPTH_MAX: Final = 8  # nothing has longer chains of links

Follow = Mapping[str, Union["Follow", Mapping[str, object]]]


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one request, by name in lower case."""

    values: Mapping[str, str] = field(default_factory=dict)

    def flag(self, name: str) -> bool:
        """Tell whether a parameter is there and does not say no."""
        value = self.values.get(name.lower())
        return value is not None and value.strip().lower() in _TRUE

    def denies(self, name: str) -> bool:
        """Tell whether a parameter is there and says no."""
        return name.lower() in self.values and not self.flag(name)

    def number(self, name: str) -> int | None:
        """Return a whole number of at least 0, or None."""
        value = self.values.get(name.lower(), "").strip()
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            return None
        return int(value)

    def text(self, name: str) -> str:
        return self.values.get(name.lower(), "").strip()


def split_matrix(path: str) -> tuple[str, dict[str, str]]:
    """Return a path without its matrix parameters, and those: `events;max=1`."""
    found: dict[str, str] = {}
    segments = []
    for segment in path.split("/"):
        name, *pairs = segment.split(";")
        segments.append(name)
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key:
                found[key.strip().lower()] = value
    return "/".join(segments), found


def follow_tree(text: str) -> Follow:
    """Return what `follow=a.b,c` names, as a tree; names are normalised."""
    tree: dict[str, dict[str, object]] = {}
    for path in text.split(","):
        place = tree
        for name in path.split(".")[:_FOLLOW_DEPTH_MAX]:
            if normal := normalise(name):
                place = place.setdefault(normal, {})  # type: ignore[assignment]  # a tree of one shape
    return tree


def normalise(name: str) -> str:
    """Return a link's name without case and underscores."""
    return name.strip().lower().replace("_", "")


def correlation(text: str, fresh: str) -> CorrelationId:
    """Return the correlation id that was sent, cleaned, or the fresh one."""
    return CorrelationId(_NOT_ALLOWED.sub("", text)[:_CORRELATION_MAX] or fresh)
