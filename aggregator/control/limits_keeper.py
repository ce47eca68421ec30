"""Let disks have the limits of their disk profiles, whoever changed which of both.

One thread; the policy is pure (`policies.disk_limits`), and what it wants is ordered
like what people want. Only an aggregator that leads does so. Times are seconds.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aggregator.control.actions import StorageAction
from aggregator.control.book import Book
from aggregator.control.order import Entry, Origin
from aggregator.control.storage_orders import StorageOrders
from aggregator.federation.view import View, Viewer
from aggregator.fleet.disk_profiles import DiskProfiles
from aggregator.policies import disk_limits
from aggregator.policies.disk_limits import Limit
from node import clock as clocks
from node.clock import Clock
from node.errors import Error
from node.model import storage_verbs
from node.model.ids import CorrelationId, DiskId
from node.units import DAY_S

log = logging.getLogger(__name__)

_PERIOD_S: Final = 2.0
# What failed, or is not shown yet, is not asked for again at once.
_REST_S: Final = 30.0
# A disk that is away for so long was deleted, or is another fleet's.
_FORGOTTEN_S: Final = DAY_S
_VERB: Final = storage_verbs.DISK_CHANGE
_ORIGIN: Final = Origin("", "", CorrelationId("policy"))


class LimitsKeeper:
    def __init__(
        self,
        book: Book,
        orders: StorageOrders,
        profiles: DiskProfiles,
        viewer: Viewer,
        clock: Clock,
        is_leading: Callable[[], bool],
    ) -> None:
        self._book = book
        self._orders = orders
        self._profiles = profiles
        self._viewer = viewer
        self._clock = clock
        self._is_leading = is_leading
        self._away: Mapping[DiskId, float] = {}  # since when, of those chosen for
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk-limits")

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float = 5.0) -> None:
        """Stop after the turn under way."""
        self._is_stopping.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def cycle(self) -> None:
        """Observe, decide and order once."""
        if not self._is_leading():
            return
        view, profiles = self._viewer.view, self._profiles.now()
        self._forget(view, profiles.choices)
        wanted = disk_limits.decide(view, profiles)
        entries = self._book.entries({_VERB.name}) if wanted else ()
        for each in wanted:
            if isinstance(each, Limit):
                if not self._rests(each, entries):
                    self._limit(each)
            else:
                self._profiles.mark(each.disk_id, is_limited=each.is_limited)

    def _limit(self, wanted: Limit) -> None:
        try:
            self._orders.limit(wanted.disk_id, wanted.limits, _ORIGIN)
        except Error as error:
            log.info("disk %s is not limited yet: %s", wanted.disk_id, error)

    def _rests(self, wanted: Limit, entries: Iterable[Entry]) -> bool:
        """Tell whether the same was asked for a moment ago, or anything is just now."""
        return any(
            not entry.is_ended
            or (_is_for(entry, wanted) and self._age_s(entry) < _REST_S)
            for entry in entries
            if entry.order.object_id == wanted.disk_id
        )

    def _age_s(self, entry: Entry) -> float:
        told = entry.order.ended_at or entry.order.created_at
        return (self._clock.now() - clocks.parse_rfc3339(told)).total_seconds()

    def _forget(self, view: View, chosen: Iterable[DiskId]) -> None:
        """Forget what was chosen for disks that have been away for long."""
        now = self._clock.monotonic()
        away = (each for each in chosen if each not in view.disks)
        self._away = {each: self._away.get(each, now) for each in away}
        for disk_id, since in self._away.items():
            if now - since > _FORGOTTEN_S:
                self._profiles.forget(disk_id)

    def _run(self) -> None:
        while not self._is_stopping.wait(_PERIOD_S):
            try:
                self.cycle()
            except Error as error:
                log.warning("limits of disks wait: %s", error)


def _is_for(entry: Entry, wanted: Limit) -> bool:
    action = entry.action
    return isinstance(action, StorageAction) and action.request.qos == wanted.limits
