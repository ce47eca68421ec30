"""Slow down whoever guesses passwords: a bounded memory of failed logins.

Counts failures for each key (user and address). Times are monotonic seconds.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from node.clock import Clock
from node.errors import Busy

FAILURES_MAX: Final = 5  # a person who mistypes is let through
WINDOW_S: Final = 60.0  # 5 a minute leave 8 random characters safe for centuries
KEYS_MAX: Final = 4096  # about 1 MiB; the longest unused is forgotten

Key = tuple[str, str]


class TooManyLogins(Busy):
    code = "too_many_logins"
    remedy = "Wait a minute, then log in with the right password."


@dataclass(slots=True)
class _Failures:
    count: int
    until: float


class LoginLimiter:
    def __init__(self, clock: Clock, keys_max: int = KEYS_MAX) -> None:
        self._clock = clock
        self._keys_max = keys_max
        self._lock = threading.Lock()
        self._failures: OrderedDict[Key, _Failures] = OrderedDict()

    def begin(self, key: Key) -> None:
        """Count an attempt as failed until it succeeds; TooManyLogins if too many.

        Counted before the slow check, so that parallel guesses do not slip by.
        """
        now = self._clock.monotonic()
        with self._lock:
            failures = self._failures.get(key)
            if failures is None or failures.until <= now:
                failures = self._failures[key] = _Failures(0, now + WINDOW_S)
            self._failures.move_to_end(key)
            if failures.count >= FAILURES_MAX:
                raise TooManyLogins(
                    "too many failed logins", wait_s=round(failures.until - now, 1)
                )
            failures.count += 1
            while len(self._failures) > self._keys_max:
                self._failures.popitem(last=False)

    def succeed(self, key: Key) -> None:
        """Forget the failures of a key."""
        with self._lock:
            self._failures.pop(key, None)
