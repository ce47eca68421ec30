"""Describe a question that a page asks before something is ordered. Pure.

One template draws them all, in a dialog or, without scripts, as a page.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    TEXT = "text"
    NUMBER = "number"
    CHOICE = "choice"
    TICK = "tick"
    HIDDEN = "hidden"
    AREA = "area"  # several lines
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    label: str
    value: str = ""
    kind: Kind = Kind.TEXT
    choices: tuple[tuple[str, str], ...] = ()  # (value, text)
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    title: str
    label: str  # of the button that says yes
    address: str  # where the answer goes
    back: str  # where a no leads
    meaning: str = ""
    fields: tuple[Field, ...] = ()
    is_dangerous: bool = False
    onward: str = ""  # where a yes leads; empty: back

    @property
    def has_file(self) -> bool:
        return any(each.kind is Kind.FILE for each in self.fields)

    @property
    def is_possible(self) -> bool:
        """Say whether there is something to choose wherever there is a choice."""
        return all(each.choices for each in self.fields if each.kind is Kind.CHOICE)


def choice(
    name: str, label: str, choices: Iterable[tuple[str, str]], value: str = ""
) -> Field:
    """Return a field that offers some values."""
    return Field(name, label, value, Kind.CHOICE, tuple(choices))


def hidden(name: str, value: str) -> Field:
    """Return a field that goes along unseen."""
    return Field(name, "", value, Kind.HIDDEN)


def tick(name: str, label: str) -> Field:
    """Return a box that is not ticked."""
    return Field(name, label, "yes", Kind.TICK)
