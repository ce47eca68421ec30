"""Find out how something ended of which scripts are to be told."""

from collections.abc import Callable

from aggregator.control import order
from aggregator.control.book import Book, OrderNotFound
from aggregator.federation.view import View
from aggregator.hooks import deeds
from aggregator.hooks.deeds import Deed, Ending
from node.model.ids import JobId, NodeId
from node.model.job import JobState


def of(
    deed: Deed, book: Book, view: View, is_member: Callable[[NodeId], bool]
) -> Ending | None:
    """Return how it ended; None while it is under way.

    What no order was for has ended one way or the other when nobody is at it: the
    fleet is as it is.
    """
    if not deed.is_order:
        wanted = deed.action == "node_admit"
        return Ending(is_member(NodeId(deed.object.id)) is wanted)
    try:
        entry = book.entry(JobId(deed.deed_id))
    except OrderNotFound as error:  # it ended long ago
        return Ending(False, order.report(error))
    if not entry.is_ended:
        return None
    is_done = entry.order.state is JobState.DONE
    return Ending(is_done, entry.order.error, deeds.node(view, entry.action.node_id))
