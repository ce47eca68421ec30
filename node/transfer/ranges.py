"""Remember which ranges of an image were transferred, however often. Pure.

Ranges are (start, end) in bytes, half open, apart from one another and in order.
"""

import bisect
from typing import Final

# Of 16 bytes and their list's share: a few MiB. A range beyond is not remembered, so
# that progress falls behind, and never runs ahead.
RANGES_MAX: Final = 65_536


class Ranges:
    def __init__(self, ranges: "Ranges | None" = None) -> None:
        """Start empty, or as a copy."""
        self._starts: list[int] = list(ranges._starts) if ranges else []
        self._ends: list[int] = list(ranges._ends) if ranges else []
        self._total: int = ranges._total if ranges else 0

    def add(self, start: int, end: int) -> None:
        """Add a range, joining it with those that it touches."""
        if start >= end:
            return
        first = bisect.bisect_left(self._ends, start)
        last = bisect.bisect_right(self._starts, end)
        if first == last and len(self._starts) >= RANGES_MAX:
            return
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._total -= sum(self._ends[first:last]) - sum(self._starts[first:last])
        self._total += end - start
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    @property
    def total(self) -> int:
        """Return the bytes in all ranges."""
        return self._total

    def first(self, count: int) -> tuple[tuple[int, int], ...]:
        """Return the first ranges."""
        return tuple(zip(self._starts[:count], self._ends[:count], strict=True))
