"""Describe configuration once: name, type, unit, default, restart, consequence.

The file, kernel arguments, the command line and the documentation are all read
from the fields of one dataclass. Pure.
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from node.errors import Invalid

T = TypeVar("T")

# Of what `cells` returns.
HEADERS: Final = ("OPTION", "TYPE", "UNIT", "DEFAULT", "RESTART", "MEANING")

_TRUE = frozenset({"yes", "true", "on", "1"})
_FALSE = frozenset({"no", "false", "off", "0"})
_SPELT = {True: "yes", False: "no"}


class BadOption(Invalid):
    code = "bad_option"
    remedy = "Correct the option in the configuration file and start again."


@dataclass(frozen=True, slots=True)
class Option:
    name: str
    kind: type
    default: Any
    unit: str
    consequence: str
    needs_restart: bool


def option(
    default: Any, unit: str, consequence: str, *, needs_restart: bool = True
) -> Any:
    """Return a dataclass field that is an option."""
    return dataclasses.field(
        default=default,
        metadata={
            "unit": unit,
            "consequence": consequence,
            "needs_restart": needs_restart,
        },
    )


def describe(schema: type) -> tuple[Option, ...]:
    """Return the options of a schema, in its order."""
    hints = typing.get_type_hints(schema)
    return tuple(
        Option(
            field.name,
            hints[field.name],
            field.default,
            field.metadata["unit"],
            field.metadata["consequence"],
            field.metadata["needs_restart"],
        )
        for field in dataclasses.fields(schema)
    )


def rows(schema: type) -> list[dict[str, Any]]:
    """Return all that is said of each option, as JSON shows it."""
    return [
        {
            "name": each.name,
            "type": each.kind.__name__,
            "unit": each.unit,
            "default": each.default,
            "needs_restart": each.needs_restart,
            "consequence": each.consequence,
        }
        for each in describe(schema)
    ]


def cells(schema: type) -> list[tuple[object, ...]]:
    """Return the same for a table: truths as the file spells them."""
    return [
        tuple(_SPELT[value] if type(value) is bool else value for value in row.values())
        for row in rows(schema)
    ]


def read(schema: type[T], settings: Mapping[str, str]) -> T:
    """Return the configuration that texts describe; BadOption names what is wrong."""
    options = {option.name: option for option in describe(schema)}
    for name in settings:
        if name not in options:
            raise BadOption(f"there is no option {name}", option=name)
    return schema(
        **{name: _value(options[name], text) for name, text in settings.items()}
    )


def _value(option: Option, text: str) -> Any:
    try:
        if option.kind is bool:
            return _truth(text)
        return option.kind(text)
    except ValueError as error:
        raise BadOption(
            f"option {option.name} must be {option.kind.__name__}, not {text!r}",
            option=option.name,
        ) from error


def _truth(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)
