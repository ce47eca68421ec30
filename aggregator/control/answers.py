"""Wait until a node has said something to an order, and raise what it refused."""

from typing import Final

from aggregator.control import order
from aggregator.control.book import Book
from aggregator.control.order import Entry, Order
from node.model.ids import JobId
from node.model.job import JobState

# The client's deadline (10 s) and a turn in the executor's queue.
_REPLY_S: Final = 15.0
# Who asked holds a connection that others need: scripts may take a minute.
_SCRIPTS_S: Final = 3.0


def first(book: Book, order_id: JobId) -> Order:
    """Wait for what scripts, and then the node, say first; raise a refusal."""
    entry = book.wait(order_id, _SCRIPTS_S, lambda each: not _is_asked(each))
    if not _is_asked(entry):
        entry = book.wait(order_id, _REPLY_S, _is_answered)
    if entry.is_refused and entry.order.error is not None:
        raise order.error_of(entry.order.error)
    return entry.order


def _is_asked(entry: Entry) -> bool:
    """Say whether scripts have not permitted it yet, nor forbidden."""
    return not entry.is_permitted and not entry.is_ended


def _is_answered(entry: Entry) -> bool:
    """Say whether the node has answered, or was silent: then a step says so."""
    return entry.order.state is not JobState.QUEUED or bool(entry.order.step)
