"""Fence what an earlier run of the agent asked from what the present one asks.

A session is one run of the agent; its number grows with each run (the agent takes the
machine's monotonic clock), 0 is a client without one. What was asked waits, for a
domain's turn or a lockspace's, and may wait longer than its agent lives. So a new
agent could look at the storage, recover it, and then meet an order of the old one.
It cannot, since

1. nothing is begun for a session older than the newest that has spoken, nor for a
   client that has hung up: looked at after the last wait, in one step with `begin`;
2. what an older session has begun is cut off when a newer one speaks: its worker is
   killed, and writes to that domain wait until it is gone (workers.py);
3. no request of the newer session is looked at before that has ended.

A program that runs already goes on: its step is known by its id to whoever asks. An
acquisition that ends after its agent is given back at once (holdings.py).
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from node.errors import Busy, Conflict, Invalid

log = logging.getLogger(__name__)

# A worker that is cut off is given up after 1 s, a program starts in milliseconds; and
# it is less than a client waits for its answer.
ADMIT_S: Final = 8.0


class SessionOver(Conflict):
    """A later run of the agent has spoken: this one may change nothing more."""

    code = "session_over"
    remedy = "End this agent: another one runs."


class AskerGone(Conflict):
    """Whoever asked has hung up before it was begun."""

    code = "asker_gone"
    remedy = "Ask again, and wait for the answer."


class SessionMalformed(Invalid):
    code = "session_malformed"
    remedy = "Number the agent's runs by its monotonic clock, in nanoseconds."


class SessionWaits(Busy):
    """What an earlier run of the agent began has not ended yet."""

    code = "session_waits"
    remedy = "Try again in a moment."


def _is_never_gone() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose request it is."""

    session: int = 0
    is_gone: Callable[[], bool] = _is_never_gone


ANYBODY: Final = Asker()
# The storage process itself, for whoever it does it: no session is newer.
OURSELVES: Final = Asker(sys.maxsize)


class Work:
    """Something that was begun for a session."""

    def __init__(self, session: int) -> None:
        self.session = session
        self._lock = threading.Lock()
        self._interrupt: Callable[[], None] | None = None
        self._is_cut = False

    def bind(self, interrupt: Callable[[], None]) -> None:
        """Say how to end it early; done at once if that was asked meanwhile."""
        with self._lock:
            self._interrupt = interrupt
            is_cut = self._is_cut
        if is_cut:
            interrupt()

    def cut_off(self) -> None:
        """End it early, if it can be."""
        with self._lock:
            self._is_cut = True
            interrupt = self._interrupt
        if interrupt is not None:
            interrupt()


class Sessions:
    """Which session is served, and what was begun for each."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest = 0
        self._works: set[Work] = set()

    def admit(self, asker: Asker, timeout_s: float = ADMIT_S) -> None:
        """Wait until nothing of an older session is under way; SessionWaits."""
        if not 0 <= asker.session < OURSELVES.session:
            raise SessionMalformed(f"{asker.session} is no session")
        with self._changed:
            if asker.session > self._newest:
                log.info("session %d begins", asker.session)
                self._newest = asker.session
            older = self._older(asker.session)
        if not older:
            return
        for work in older:
            work.cut_off()
        with self._changed:
            if not self._changed.wait_for(
                lambda: not self._older(asker.session), timeout_s
            ):
                raise SessionWaits("what the agent before began has not ended")

    def check(self, asker: Asker) -> None:
        """Raise SessionOver or AskerGone if nothing may be begun for it any more."""
        if asker.session < self._newest:
            raise SessionOver("a later run of the agent is served now")
        if asker.is_gone():
            raise AskerGone("the client hung up before it was begun")

    @contextlib.contextmanager
    def begin(self, asker: Asker) -> Iterator[Work]:
        """Be known as begun for a session until the end; as `check`."""
        work = Work(asker.session)
        with self._changed:
            self.check(asker)
            self._works.add(work)
        try:
            yield work
        finally:
            with self._changed:
                self._works.discard(work)
                self._changed.notify_all()

    def _older(self, session: int) -> list[Work]:
        return [work for work in self._works if work.session < session]
