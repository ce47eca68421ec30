"""Let only so many jobs work on one thing at once, in the order they were asked. Pure.

A job takes a place at each thing that it works on. While an earlier one waits for a
place, a later one does not overtake it there: else one that needs two places would
wait for ever.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.jobs.workers import Progress


@dataclass(frozen=True, slots=True)
class Place:
    """One of so many places at a thing."""

    key: str
    maximum: int  # jobs at once
    name: str  # of the thing, for people


@dataclass(frozen=True, slots=True)
class Limited:
    """What a job runs, and the places that it takes meanwhile."""

    run: "Callable[[Progress], None]"
    places: tuple[Place, ...]

    def __call__(self, progress: "Progress") -> None:
        self.run(progress)


def places(run: object) -> tuple[Place, ...]:
    """Return the places that a job takes; none, unless it is limited."""
    return run.places if isinstance(run, Limited) else ()


def taken(running: Iterable[object]) -> dict[str, int]:
    """Return how many jobs are at each thing; `running` is what they run."""
    counts: dict[str, int] = {}
    for run in running:
        for place in places(run):
            counts[place.key] = counts.get(place.key, 0) + 1
    return counts


def why_wait(
    wanted: Iterable[Place], counts: Mapping[str, int], reserved: Iterable[str]
) -> str:
    """Return why a job cannot begin yet; empty: it can.

    `reserved` are the things at which an earlier job waits for its place.
    """
    before = frozenset(reserved)
    for place in wanted:
        count = counts.get(place.key, 0)
        if count >= place.maximum:
            return f"waits: {count} jobs work on {place.name}"
        if place.key in before:
            return f"waits: an earlier job is to work on {place.name}"
    return ""
