"""Look again and again, never longer than a deadline; the caller says what failed."""

import time
from collections import abc

INTERVAL_S = 0.02  # short beside what is waited for, long beside one look


def until(
    is_reached: abc.Callable[[], bool], timeout_s: float, interval_s: float = INTERVAL_S
) -> bool:
    """Wait until it is true; tell whether it became so before the deadline."""
    deadline = time.monotonic() + timeout_s
    while not is_reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True
