"""Do long things aside, one of each kind at a time, so that rounds go on.

Joining a lockspace, becoming manager or giving a lease back may take minutes; a node
that falls silent meanwhile would be taken for dead.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import TypeVar

from node.errors import Error

log = logging.getLogger(__name__)

T = TypeVar("T")

Deed = Callable[[], None]


class Aside:
    """Threads that each do one thing and end. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}

    def do(self, kind: str, deed: Deed) -> bool:
        """Begin a deed; False: one of its kind is under way, ask again later.

        What goes wrong is logged: whoever needs to know looks at what came of it.
        """
        with self._lock:
            running = self._threads.get(kind)
            if running is not None and running.is_alive():
                return False
            thread = threading.Thread(
                target=_try, args=(kind, deed), name=kind, daemon=True
            )
            self._threads[kind] = thread
            thread.start()
        return True

    def wait(self, timeout_s: float) -> None:
        """Wait for what is under way."""
        for each in tuple(self._threads.values()):
            each.join(timeout_s)


def at_once(
    what: str, calls: Sequence[Callable[[], T]], timeout_s: float
) -> tuple[Future[T], ...]:
    """Make all calls at the same time, and wait until they end or the time is over.

    What has not ended goes on by itself; it does not keep the agent from ending.
    """
    futures = tuple(Future[T]() for _ in calls)
    for future, call in zip(futures, calls, strict=True):
        threading.Thread(
            target=_fulfil, args=(future, call), name=what, daemon=True
        ).start()
    wait(futures, timeout_s)
    return futures


def _fulfil(future: Future[T], call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
        future.set_exception(error)


def _try(kind: str, deed: Deed) -> None:
    try:
        deed()
    except Error as error:
        log.info("%s: %s: %s", kind, error.code, error)
    except Exception:
        log.exception("%s failed", kind)
