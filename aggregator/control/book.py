"""Keep the orders: memory holds what the records hold, and is written second.

Thread-safe: whoever reads and then writes holds `changed`, which is reentrant.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Final

from aggregator import db
from aggregator.control import actions, order
from aggregator.control.order import Entry, Order
from aggregator.federation.view import View
from node.clock import Clock
from node.errors import Invalid, NotFound
from node.model.ids import JobId, VmId
from node.model.job import JobState

log = logging.getLogger(__name__)

# Ended orders are history that people read: some pages of it.
KEPT: Final = 1000
_PRUNE_SLACK: Final = 100
# How long a made VM counts as promised if the View never shows it.
_UNSEEN_S: Final = 60.0


class OrderNotFound(NotFound):
    code = "order_not_found"
    remedy = "Check the id; orders that ended long ago are forgotten."


class Book:
    def __init__(self, records: db.Records, clock: Clock) -> None:
        self.changed = threading.Condition()
        self._records = records
        self._clock = clock
        self._entries = {
            entry.order.order_id: entry
            for entry in sorted(_read(records), key=lambda each: each.order.created_at)
        }
        # created, but perhaps not in the View yet: until when they count
        self._unseen_until: dict[JobId, float] = {}

    def put(self, entry: Entry) -> Entry:
        """Write an entry; when this returns it is on disk."""
        order_id = entry.order.order_id
        with self.changed:
            before = self._entries.get(order_id)
            if entry == before:
                return entry
            self._records.put(order_id, order.to_body(entry))
            self._entries[order_id] = entry
            if entry.is_ended and isinstance(entry.action, actions.CreateVm):
                self._unseen_until[order_id] = self._clock.monotonic() + _UNSEEN_S
            if entry.is_ended and isinstance(entry.action, actions.DeleteVm):
                self._forget_creation(entry.action.vm_id)
            self._prune()
            self.changed.notify_all()
        return entry

    def entry(self, order_id: JobId) -> Entry:
        """Return an entry; OrderNotFound."""
        with self.changed:
            entry = self._entries.get(order_id)
        if entry is None:
            raise OrderNotFound(f"there is no order {order_id}", order_id=order_id)
        return entry

    def orders(self, maximum: int) -> tuple[Order, ...]:
        """Return orders, the newest first."""
        with self.changed:
            found = [entry.order for entry in self._entries.values()]
        found.sort(key=lambda each: each.created_at)
        return tuple(reversed(found))[:maximum]

    def entries(self, verbs: Collection[str]) -> tuple[Entry, ...]:
        """Return what was ordered lately by some verbs, ended or not."""
        with self.changed:
            return tuple(
                each for each in self._entries.values() if each.order.verb in verbs
            )

    def open_entries(self) -> tuple[Entry, ...]:
        """Return what has not ended."""
        with self.changed:
            return tuple(each for each in self._entries.values() if not each.is_ended)

    def under_way(self, view: View) -> tuple[Entry, ...]:
        """Return what has not ended, and what ended but the View may not show."""
        now = self._clock.monotonic()
        with self.changed:
            for order_id, until in list(self._unseen_until.items()):
                entry = self._entries.get(order_id)
                if entry is None or until <= now or _is_seen(entry, view):
                    del self._unseen_until[order_id]
            return tuple(
                entry
                for entry in self._entries.values()
                if not entry.is_ended
                or (entry.order.order_id in self._unseen_until and not entry.is_refused)
            )

    def creation_of(self, vm_id: VmId, view: View) -> Entry | None:
        """Return the order under way that makes this VM; None if there is none."""
        for entry in self.under_way(view):
            if isinstance(entry.action, actions.CreateVm) and (
                entry.action.vm_id == vm_id
            ):
                return entry
        return None

    def open_creations(self, vm_id: VmId) -> tuple[Entry, ...]:
        """Return the orders to make this VM that have not ended."""
        return tuple(
            entry
            for entry in self.open_entries()
            if isinstance(entry.action, actions.CreateVm)
            and entry.action.vm_id == vm_id
        )

    def was_deleted(self, vm_id: VmId) -> bool:
        """Tell whether an order that is still remembered deleted this VM."""
        with self.changed:
            return any(
                isinstance(entry.action, actions.DeleteVm)
                and entry.action.vm_id == vm_id
                and entry.order.state is JobState.DONE
                for entry in self._entries.values()
            )

    def wait(
        self, order_id: JobId, timeout_s: float, is_enough: Callable[[Entry], bool]
    ) -> Entry:
        """Return the entry once it is as wanted, or when the time is over."""
        with self.changed:
            self.changed.wait_for(
                lambda: is_enough(self.entry(order_id)), timeout=timeout_s
            )
            return self.entry(order_id)

    def _forget_creation(self, vm_id: VmId) -> None:
        """Expect a VM no more: it was seen, and deleted since."""
        for order_id in list(self._unseen_until):
            entry = self._entries.get(order_id)
            if entry is not None and actions.vm_of(entry.action) == vm_id:
                del self._unseen_until[order_id]

    def _prune(self) -> None:
        if len(self._entries) <= KEPT + _PRUNE_SLACK:
            return
        ended = [each for each in self._entries.values() if each.is_ended]
        ended.sort(key=lambda each: each.order.created_at)
        for entry in ended[: len(self._entries) - KEPT]:
            self._records.delete(entry.order.order_id)
            del self._entries[entry.order.order_id]


def _is_seen(entry: Entry, view: View) -> bool:
    return actions.vm_of(entry.action) in view.vms


def _read(records: db.Records) -> Iterator[Entry]:
    for record in records.list():
        try:
            yield order.from_body(record.body)
        except (Invalid, KeyError) as error:
            log.error(
                "order %s cannot be read, and is left alone: %s", record.id, error
            )
