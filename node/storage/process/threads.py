"""Let no thread of the storage process end unnoticed.

What the world does (an error of ours, or of the system) costs a round, is logged, and
the next round comes. A mistake of ours ends the whole process: its writers die with
it, and it is started again; a process that half works would hold leases and see
nothing.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from node.errors import Error

log = logging.getLogger(__name__)

# Of sysexits.h: a mistake in the software.
BROKEN: Final = 70
# So that what fails for long does not burn a processor.
PAUSE_S: Final = 0.5


def start(name: str, act: Callable[[], None]) -> None:
    """Start a thread that may return, and ends the process if it raises."""

    def run() -> None:
        with vital():
            act()

    threading.Thread(target=run, name=name, daemon=True).start()


@contextlib.contextmanager
def vital() -> Iterator[None]:
    """End the process at once if what is within raises."""
    try:
        yield
    except BaseException:
        log.critical("a mistake of ours: the process ends", exc_info=True)
        os._exit(BROKEN)


@contextlib.contextmanager
def surviving(pause_s: float = PAUSE_S) -> Iterator[None]:
    """Log what the world did in one round, wait a little, and go on."""
    try:
        yield
    except (Error, OSError) as error:
        log.warning("a round failed: %s", error, exc_info=True)
        time.sleep(pause_s)
