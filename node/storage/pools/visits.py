"""Count who is at work at a place, so that nobody unmounts it under another.

What is watched all the time is known by the roster; here are verbs that are under way.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(slots=True)
class _Place:
    """Its lock is held while it is closed: a visit begins before that or after."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    visits: int = 0


class Visits:
    """The verbs at work, by the folder that a connection leads to. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[PurePosixPath, _Place] = {}  # as many as connections

    @contextmanager
    def at(self, folder: PurePosixPath) -> Iterator[None]:
        """Be at a place: it is not closed meanwhile."""
        place = self._place(folder)
        with place.lock:
            place.visits += 1
        try:
            yield
        finally:
            with place.lock:
                place.visits -= 1

    def close(self, folder: PurePosixPath, close: Callable[[], None]) -> bool:
        """Close a place unless somebody is there; tell whether it was closed."""
        place = self._place(folder)
        with place.lock:
            if place.visits:
                return False
            close()
        return True

    def _place(self, folder: PurePosixPath) -> _Place:
        with self._lock:
            return self._places.setdefault(folder, _Place())
