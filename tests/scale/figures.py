"""Sum samples up into figures and show them beside what was promised. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.wire import Json

_MISSING = "-"


@dataclass(frozen=True, slots=True)
class Spread:
    """How samples lie: the median, the slowest hundredth, the worst."""

    count: int
    p50: float
    p99: float
    highest: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; `limit` and `floor` are the most and the least promised.

    None: no promise.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    note: str = ""
    floor: float | None = None

    @property
    def is_kept(self) -> bool:
        is_low_enough = self.limit is None or self.value <= self.limit
        return is_low_enough and (self.floor is None or self.value >= self.floor)

    @property
    def promise(self) -> str:
        """Return what was promised, as a person reads it; empty: nothing."""
        said = [("≤", self.limit), ("≥", self.floor)]
        return ", ".join(
            f"{sign} {number(end)}" for sign, end in said if end is not None
        )


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    figures: tuple[Figure, ...]
    remarks: tuple[str, ...] = ()


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that this share of them does not exceed."""
    assert samples, "no samples, no percentile"
    assert 0 < percent <= 100, "a share of the samples, in percent"
    rank = math.ceil(len(samples) * percent / 100)
    return sorted(samples)[rank - 1]


def spread(samples: Iterable[float]) -> Spread:
    """Return how samples lie."""
    found = sorted(samples)
    return Spread(len(found), percentile(found, 50), percentile(found, 99), found[-1])


def latency(
    name: str,
    seconds: Iterable[float],
    limit_ms: float | None = None,
    note: str = "",
) -> tuple[Figure, Figure]:
    """Return p50 and p99 of times in seconds, in milliseconds; p99 is promised."""
    found = spread(seconds)
    counted = f"{found.count} samples"
    return (
        Figure(f"{name}, p50", found.p50 * 1000, "ms"),
        Figure(
            f"{name}, p99",
            found.p99 * 1000,
            "ms",
            limit_ms,
            f"{counted}; {note}" if note else counted,
        ),
    )


def render(sections: Sequence[Section]) -> str:
    """Return the table that a person reads."""
    rows = [_row(figure) for section in sections for figure in section.figures]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    lines = []
    for section in sections:
        lines += ["", section.title]
        lines += [_line(_row(figure), widths) for figure in section.figures]
        lines += [f"  ({remark})" for remark in section.remarks]
    return "\n".join(lines).lstrip("\n")


def to_json(sections: Sequence[Section]) -> Json:
    """Return what build/bench.json holds."""
    return [
        {
            "title": section.title,
            "figures": [
                {
                    "name": figure.name,
                    "value": round(figure.value, 3),
                    "unit": figure.unit,
                    "limit": figure.limit,
                    "floor": figure.floor,
                    "is_kept": figure.is_kept,
                    "note": figure.note,
                }
                for figure in section.figures
            ],
            "remarks": list(section.remarks),
        }
        for section in sections
    ]


def missed(sections: Sequence[Section]) -> tuple[Figure, ...]:
    """Return the figures that do not keep what was promised."""
    return tuple(
        figure
        for section in sections
        for figure in section.figures
        if not figure.is_kept
    )


def number(value: float) -> str:
    """Return three significant digits: nobody reads more."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _row(figure: Figure) -> tuple[str, str, str, str, str]:
    verdict = "" if not figure.promise else "kept" if figure.is_kept else "MISSED"
    shown = f"{number(figure.value)} {figure.unit}"
    return figure.name, shown, figure.promise or _MISSING, verdict, figure.note


def _line(row: tuple[str, str, str, str, str], widths: Sequence[int]) -> str:
    name, value, promise, verdict, note = row
    return (
        f"  {name:<{widths[0]}}  {value:>{widths[1]}}  "
        f"{promise:>{widths[2]}}  {verdict:<{widths[3]}}  {note}"
    ).rstrip()
