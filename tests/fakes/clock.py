"""A clock that stands still until the test moves it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from node.clock import Clock

_START = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


@dataclass(slots=True)
class FakeClock:
    wall: datetime = _START
    elapsed_s: float = 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.elapsed_s

    def advance(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.elapsed_s += seconds


_typed: Clock = FakeClock()
