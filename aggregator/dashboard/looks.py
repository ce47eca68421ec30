"""Let a few people at a time look at what a node shows of its VMs and storage.

Each look holds a thread that serves people while a node looks for them.
"""

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from node.errors import Busy

T = TypeVar("T")
AT_ONCE: Final = 2


class TooManyLooks(Busy):
    code = "too_many_looks"
    remedy = "Wait a moment: others are looking just now."


class Looks:
    """Count those who look just now."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(AT_ONCE)

    def take(self, look: Callable[[], T]) -> T:
        """Return what is seen; TooManyLooks if too many are looking already."""
        if not self._places.acquire(blocking=False):
            raise TooManyLooks("too many people are looking at once")
        try:
            return look()
        finally:
            self._places.release()
