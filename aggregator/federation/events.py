"""Log what happened in the fleet: the nodes' events and our own, one order.

Kept in the database; whoever waits for news is woken when it is committed.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aggregator import db
from node import clock as clocks
from node.clock import Clock
from node.model import messages
from node.model.ids import CorrelationId, NodeId, VmId
from node.model.messages import Severity
from node.model.reason import Scalar

log = logging.getLogger(__name__)

_LEVELS: Final = {
    Severity.NORMAL: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.ERROR: logging.ERROR,
    Severity.ALERT: logging.ERROR,
}


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    seq: int  # grows in the order of their commits; gaps are possible
    at: str  # RFC 3339, by the clock of who saw it
    code: str  # a code of node.model.messages
    fields: Mapping[str, Scalar]
    node_id: NodeId | None
    vm_id: VmId | None
    user: str | None
    correlation_id: CorrelationId | None


class EventLog:
    def __init__(self, database: db.Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._news = threading.Condition()
        self._last = database.last_event()
        self._is_closed = False

    def record(
        self,
        code: str,
        *,
        node_id: NodeId | None = None,
        vm_id: VmId | None = None,
        user: str | None = None,
        correlation_id: CorrelationId | None = None,
        **fields: Scalar,
    ) -> LoggedEvent:
        """Commit an event of the aggregator itself; its text may name the user."""
        if user is not None:
            fields["user"] = user
        event = db.NewEvent(
            clocks.rfc3339(self._clock.now()),
            code,
            fields,
            node_id,
            vm_id,
            user,
            correlation_id,
        )
        (number,) = self.record_all([event])
        return LoggedEvent(
            number, event.at, code, fields, node_id, vm_id, user, correlation_id
        )

    def record_all(self, events: Sequence[db.NewEvent]) -> tuple[int, ...]:
        """Commit events of the aggregator itself at once, and return their numbers."""
        for event in events:
            level = _LEVELS[messages.severity(event.code)]
            text = messages.text(event.code, event.fields)
            log.log(level, "%s: %s", event.code, text)
        numbers = self._database.add_events(events)
        self.announce()
        return numbers

    def list(
        self,
        *,
        before: int | None = None,
        after: int | None = None,
        maximum: int = 100,
        node_id: NodeId | None = None,
        vm_id: VmId | None = None,
    ) -> tuple[LoggedEvent, ...]:
        """Return events, newest first: of those after and before a number."""
        rows = self._database.events(
            before=before, after=after, maximum=maximum, node_id=node_id, vm_id=vm_id
        )
        return tuple(map(_logged, rows))

    def wait(self, after: int, timeout_s: float) -> tuple[LoggedEvent, ...]:
        """Return the events after a number, oldest first, once there are any.

        At most a thousand at a time; none when the time is over.
        """
        deadline = time.monotonic() + timeout_s
        with self._news:
            while self._last <= after and not self._is_closed:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._news.wait(left_s):
                    break
        rows = self._database.events(
            after=after, maximum=db.EVENTS_PAGE_MAX, is_newest_first=False
        )
        return tuple(map(_logged, rows))

    def announce(self) -> None:
        """Wake those who wait: events were committed."""
        last = self._database.last_event()
        with self._news:
            self._last = max(self._last, last)
            self._news.notify_all()

    def close(self) -> None:
        """Let go of those who wait."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()


def _logged(row: db.EventRow) -> LoggedEvent:
    return LoggedEvent(
        row.seq,
        row.at,
        row.code,
        row.fields,
        None if row.node_id is None else NodeId(row.node_id),
        None if row.vm_id is None else VmId(row.vm_id),
        row.user,
        None if row.correlation_id is None else CorrelationId(row.correlation_id),
    )
