"""Ask for the limits of a disk, read the answer, write limits for people. Pure.

Nothing typed is no limit. Rates are in MB, a million bytes, a second.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.dashboard import figures
from aggregator.dashboard.drafts import BadDraft
from aggregator.dashboard.questions import Field, Kind
from node.model.storage import DiskQos

_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class _Limit:
    name: str  # of the field of DiskQos
    label: str
    what: str  # in a list of limits
    unit: int = 1  # how many of what is stored one of what is typed is


_LIMITS: Final = (
    _Limit("total_iops", "Operations a second", "operations"),
    _Limit("read_iops", "or: reads a second", "reads"),
    _Limit("write_iops", "and: writes a second", "writes"),
    _Limit("total_bytes_s", "MB a second", "", _MB),
    _Limit("read_bytes_s", "or: MB read a second", "read", _MB),
    _Limit("write_bytes_s", "and: MB written a second", "written", _MB),
)
_NUMBER: Final = re.compile(r"\d{1,12}(?:[.,]\d{1,6})?", re.ASCII)


def fields(now: DiskQos) -> tuple[Field, ...]:
    """Return the question, filled in with what holds now."""
    return tuple(
        Field(each.name, each.label, _shown(each, now), Kind.NUMBER, is_optional=True)
        for each in _LIMITS
    )


def read(form: Mapping[str, str]) -> DiskQos:
    """Return the limits that are wanted; BadDraft names the first that is wrong."""
    return DiskQos(
        **{each.name: _typed(each, form.get(each.name, "")) for each in _LIMITS}
    )


def text(limits: DiskQos) -> str:
    """Return limits as a list; empty: there are none."""
    return ", ".join(_listed(limits))


def _listed(limits: DiskQos) -> Iterator[str]:
    for each in _LIMITS:
        value: int = getattr(limits, each.name)
        if value and each.unit == _MB:
            yield f"{figures.rate(value)} {each.what}".strip()
        elif value:
            yield f"{figures.count(value)} {each.what}/s"


def _shown(limit: _Limit, now: DiskQos) -> str:
    value: int = getattr(now, limit.name)
    exact = f"{value / limit.unit:.6f}".rstrip("0").rstrip(".")
    return exact if value else ""


def _typed(limit: _Limit, typed: str) -> int:
    if not typed.strip():
        return 0
    if not _NUMBER.fullmatch(typed.strip()):
        raise BadDraft(f"“{limit.label}” must be a number", field=limit.name)
    return round(float(typed.strip().replace(",", ".")) * limit.unit)
