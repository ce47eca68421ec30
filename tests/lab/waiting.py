"""Wait for something to become true, with a deadline and a name for it."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from node.errors import Error
from tests.lab import errors, polling

log = logging.getLogger(__name__)

T = TypeVar("T")

POLL_S = 0.2  # a look costs the aggregator a TLS connection


def until(
    what: str,
    look: Callable[[], T | None],
    *,
    timeout_s: float = 60.0,  # others use the machine too
    poll_s: float = POLL_S,
    remedy: str = "read the logs: python -m tests.lab logs MEMBER",
    log_path: Path | None = None,
) -> T:
    """Return the first true answer of `look`; TimedOut names what was waited for.

    Errors that the product reports count as "not yet": the last one is told, with
    the log that says more.
    """
    begin = time.monotonic()
    found: list[T] = []
    told: list[Error] = []

    def is_reached() -> bool:
        try:
            answer = look()
        except Error as error:
            told[:] = [error]
            return False
        found[:] = [answer] if answer else []
        return bool(found)

    if not polling.until(is_reached, timeout_s, poll_s):
        last = f" ({told[0]})" if told else ""
        problem = f"not after {timeout_s:.0f} s{last}"
        raise errors.TimedOut(what, problem, remedy=remedy, log=log_path)
    log.info("%s (%.1f s)", what, time.monotonic() - begin)
    return found[0]
