"""Answer "did anything change?" from memory, for any number of open pages.

One snapshot of the View and of the newest orders and events serves all pages
for a quarter of a second. A few callers at a time may wait for the next change;
the others get their answer at once and ask again: pages that only look must
not use up the threads that serve people.
"""

import hashlib
import threading
from dataclasses import dataclass, replace
from typing import Final

from aggregator.control.orders import Order
from aggregator.dashboard import alarms, rows, storage_alarms, storage_rows
from aggregator.dashboard.alarms import Alarm
from aggregator.dashboard.rows import Tally
from aggregator.federation.view import View
from aggregator.registry import Candidate
from aggregator.services import Services

WAIT_MAX_S: Final = 20.0  # proxies end a silent request after 60 s
LIFE_S: Final = 0.25  # how old what a page shows may be, beside the feed's delay
ORDERS_SHOWN: Final = 20
_SEQUENCE_START: Final = 0
# What the storage's alarms are made of: a large fleet has a lot of disks, and most of
# what changes is something else. A node that is renamed shows with the next change.
_STORED: Final = ("pools", "storage_domains", "disks")


@dataclass(frozen=True, slots=True)
class Moment:
    """All that every page shows, at one moment."""

    token: str  # differs from another moment's if anything else does
    view: View
    orders: tuple[Order, ...]
    candidates: tuple[Candidate, ...]
    alarms: tuple[Alarm, ...]
    nodes: Tally
    vms: Tally
    storage: Tally  # domains
    storage_alarms: tuple[Alarm, ...] = ()  # part of the alarms


class Moments:
    """Keep the newest moment; let `waiters` callers wait for the next."""

    def __init__(self, services: Services, waiters: int) -> None:
        self._services = services
        self._slots = threading.BoundedSemaphore(waiters)
        self._lock = threading.Lock()
        self._newest: Moment | None = None
        self._made_at = 0.0

    def now(self) -> Moment:
        """Return a moment that is at most LIFE_S old."""
        with self._lock:
            now = self._services.clock.monotonic()
            if self._newest is None or now - self._made_at >= LIFE_S:
                self._newest = self._make(self._newest)
                self._made_at = now
            return self._newest

    def forget(self) -> None:
        """Look anew next time: this process has just changed something itself."""
        with self._lock:
            self._made_at -= LIFE_S

    def wait(self, token: str, timeout_s: float) -> tuple[Moment, bool]:
        """Return a moment other than the token's, waiting if there is a place.

        The flag says whether the caller has waited; if not, it should pause
        before it asks again. After the timeout the same moment comes back.
        """
        moment = self.now()
        if moment.token != token or timeout_s <= 0:
            return moment, False
        if not self._slots.acquire(blocking=False):
            return moment, False
        try:
            return self._wait(token, min(timeout_s, WAIT_MAX_S)), True
        finally:
            self._slots.release()

    def _wait(self, token: str, timeout_s: float) -> Moment:
        clock = self._services.clock
        deadline = clock.monotonic() + timeout_s
        moment = self.now()
        while moment.token == token and clock.monotonic() < deadline:
            # orders and candidates have no bell of their own
            self._services.mirror.wait(moment.view.revision, LIFE_S)
            moment = self.now()
        return moment

    def _make(self, old: Moment | None) -> Moment:
        services = self._services
        view = services.mirror.view
        orders = services.orders.list(maximum=ORDERS_SHOWN)
        candidates = services.registry.candidates()
        newest = services.events.list(maximum=1)
        token = _digest(
            view.revision,
            view.stats_revision,
            newest[0].seq if newest else _SEQUENCE_START,
            [(each.order_id, each.state, each.progress_percent) for each in orders],
            [each.step for each in orders],
            [(each.node_id, each.fingerprint, each.problem) for each in candidates],
        )
        if old is not None and old.token == token:
            return old
        if old is not None and old.view.revision == view.revision:
            return replace(
                old, token=token, view=view, orders=orders, candidates=candidates
            )
        of_storage = _of_storage(old, view)
        found = alarms.in_order((*alarms.alarms(view), *of_storage))
        return Moment(
            token,
            view,
            orders,
            candidates,
            found,
            rows.node_tally(view.nodes.values(), found),
            rows.vm_tally(view.vms.values(), found),
            storage_rows.domain_tally(view.storage_domains.values(), found),
            of_storage,
        )


def _of_storage(old: Moment | None, view: View) -> tuple[Alarm, ...]:
    """Return the storage's alarms; those of before if nothing there has changed."""
    if old is not None and all(
        getattr(old.view, name) is getattr(view, name) for name in _STORED
    ):
        return old.storage_alarms
    return storage_alarms.alarms(view)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
