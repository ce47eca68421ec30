"""Lend the connections to one image, a bounded number of them.

Behind nginx a client's requests come by any of its connections, so connections to an
image belong to its ticket. One that did not end its work well is closed, not kept.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Final

from node.clock import Clock
from node.errors import Busy, Conflict
from node.transfer.nbd import Nbd

# qemu-nbd is started with --shared of at least as many.
CONNECTIONS_MAX: Final = 8
# How long a request beyond waits for its turn.
WAIT_S: Final = 5.0


class TooManyAtOnce(Busy):
    """All connections to the image are in use."""

    code = "too_many_at_once"
    remedy = "Use at most max_readers and max_writers connections, and send it again."


class PoolClosed(Conflict):
    code = "pool_closed"
    remedy = "The transfer is over."


class Pool:
    def __init__(
        self, connect: Callable[[], Nbd], clock: Clock, wait_s: float = WAIT_S
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._idle: list[Nbd] = []
        self._open = 0
        self._limit = 1
        self._is_limit_known = False  # a connection tells whether it may be shared
        self._is_closed = False

    def limit(self) -> int:
        """Return how many may use the image at once; the first asks the image."""
        if not self._is_limit_known:
            with self.borrow():
                pass
        return self._limit

    @property
    def open(self) -> int:
        """Return how many connections there are."""
        return self._open

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Nbd]:
        """Yield a connection that nobody else uses."""
        image = self._take()
        try:
            yield image
        finally:
            self._give(image)

    def close(self) -> None:
        """Close what is idle now, and the others when they come back."""
        with self._changed:
            self._is_closed = True
            idle, self._idle = self._idle, []
            self._open -= len(idle)
            self._changed.notify_all()
        for image in idle:
            image.close()

    def _take(self) -> Nbd:
        self._wait_for_turn()
        try:
            return self._idle_or_new()
        except BaseException:
            self._leave()
            raise

    def _wait_for_turn(self) -> None:
        """Count as one that is open, or raise."""
        deadline = self._clock.monotonic() + self._wait_s
        with self._changed:
            while not self._is_closed and self._open - len(self._idle) >= self._limit:
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    raise TooManyAtOnce(f"{self._limit} requests use the image already")
                self._changed.wait(left)
            if self._is_closed:
                raise PoolClosed("the transfer was cancelled")
            self._open += 1

    def _idle_or_new(self) -> Nbd:
        while True:
            with self._changed:
                image = self._idle.pop() if self._idle else None
                self._open -= image is not None
            if image is None:
                break
            if image.is_usable:
                return image
            image.close()  # its qemu-nbd has ended
        image = self._connect()
        with self._changed:
            self._limit = CONNECTIONS_MAX if image.may_share else 1
            self._is_limit_known = True
            self._changed.notify_all()
        return image

    def _give(self, image: Nbd) -> None:
        is_usable = image.is_usable
        with self._changed:
            is_kept = is_usable and not self._is_closed
            if is_kept:
                self._idle.append(image)
                self._changed.notify()
        if not is_kept:
            image.close()
            self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify()
