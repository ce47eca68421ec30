"""Keep things sorted by name while some come and go. Pure.

Costs a copy of the order when a name comes or goes, and nothing otherwise.
"""

import bisect
from collections import Counter
from typing import Generic, TypeVar

from aggregator.federation import view as views

I = TypeVar("I", bound=str)  # noqa: E741  # an id


class Naming(Generic[I]):
    """What comes and goes, to be put into an order of (folded name, id) at once."""

    def __init__(self, order: tuple[tuple[str, I], ...]) -> None:
        self._order = order
        # One thing may come and go several times: only the sum counts.
        self._changes: Counter[tuple[str, I]] = Counter()

    def change(self, identity: I, before: str | None, after: str | None) -> None:
        """Note that a thing has another name; None: it is not there."""
        if before == after:
            return
        if before is not None:
            self._changes[views.fold(before), identity] -= 1
        if after is not None:
            self._changes[views.fold(after), identity] += 1

    def finish(self) -> tuple[tuple[str, I], ...]:
        """Return the sorted order after all that."""
        changes = [change for change in self._changes.items() if change[1]]
        if not changes:
            return self._order
        names = list(self._order)
        for name, count in changes:
            place = bisect.bisect_left(names, name)
            if count > 0:
                names.insert(place, name)
            else:
                del names[place]
        return tuple(names)
