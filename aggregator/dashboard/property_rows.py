"""Lay out custom properties as rows of a form, and read what was typed. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from aggregator.policies.properties import Declarations, Holder, Level
from node.errors import Error
from node.model.properties import CustomProperty
from node.policy import properties

_PREFIX: Final = "property/"  # of the names of fields
# A pattern that only lists words is a choice; more of them nobody overlooks.
_WORDS: Final = re.compile(r"\^?\(?(?P<words>[\w.-]+(\|[\w.-]+)+)\)?\$?")
_CHOICES_MAX: Final = 20

Values = Mapping[str, str]
Complaints = Mapping[str, Error]


@dataclass(frozen=True, slots=True)
class PropertyRow:
    field: str  # the name in the form
    key: str  # for ids on the page
    name: str
    value: str
    pattern: str  # empty: it is not declared (any more)
    help: str
    choices: tuple[str, ...] = ()  # empty: any text that the pattern allows
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """The rows of a VM, or of a card or disk of it."""

    level: Level
    device_id: str  # empty: the VM itself
    name: str
    rows: tuple[PropertyRow, ...]


@dataclass(frozen=True, slots=True)
class Typed:
    """What came back in a form, and what is wrong with it."""

    device_id: str
    values: Values
    complaints: Complaints = field(default_factory=dict)


def read(form: Mapping[str, str]) -> Values:
    """Return what stands in the fields of properties, by name."""
    return {
        name.removeprefix(_PREFIX): value
        for name, value in form.items()
        if name.startswith(_PREFIX)
    }


def given(values: Values) -> tuple[CustomProperty, ...]:
    """Return the properties that values say; an empty one says none."""
    return properties.edited((), (CustomProperty(*each) for each in values.items()))


def rows(
    declared: Declarations,
    level: Level,
    held: Values,
    complaints: Complaints | None = None,
    key: str = "",
) -> tuple[PropertyRow, ...]:
    """Return a row for each property that is declared or held."""
    names = [name for of, name in declared if of is level]
    names += sorted(name for name in held if (level, name) not in declared)
    found = complaints or {}
    return tuple(
        _row(declared, level, name, held.get(name, ""), found.get(name), key)
        for name in names
    )


def sections(
    declared: Declarations, holders: Iterable[Holder], typed: Typed | None = None
) -> Iterator[Section]:
    """Yield what of a VM has, or may have, properties."""
    for number, holder in enumerate(holders):
        device_id = holder.device_id or ""
        held: Values = {each.name: each.value for each in holder.properties}
        complaints: Complaints = {}
        if typed is not None and typed.device_id == device_id:
            held, complaints = typed.values, typed.complaints
        found = rows(declared, holder.level, held, complaints, f"{number}-")
        if found:
            yield Section(holder.level, device_id, holder.name, found)


def choices(pattern: str) -> tuple[str, ...]:
    """Return the words that a pattern lists, if it does nothing else."""
    found = _WORDS.fullmatch(pattern)
    words = tuple(found["words"].split("|")) if found else ()
    return words if len(words) <= _CHOICES_MAX else ()


def _row(
    declared: Declarations,
    level: Level,
    name: str,
    value: str,
    complaint: Error | None,
    key: str,
) -> PropertyRow:
    known = declared.get((level, name))
    offered = choices(known.pattern) if known is not None else ()
    return PropertyRow(
        f"{_PREFIX}{name}",
        f"{key}{name}",
        name,
        value,
        known.pattern if known is not None else "",
        known.help if known is not None else "",
        # A value that is not offered has to be seen to be changed.
        offered if value in ("", *offered) else (),
        str(complaint) if complaint is not None else "",
    )
