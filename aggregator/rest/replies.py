"""Answer what was ordered: done, on its way, or failed as the node said it."""

import itertools
from collections.abc import Callable
from typing import Final

from aggregator.control.orders import Order
from aggregator.federation.view import View
from aggregator.rest import element, faults
from aggregator.rest.call import Call, Reply
from aggregator.rest.element import Element
from node.errors import Conflict, Unsupported
from node.model.ids import NodeId
from node.model.job import JobState
from node.model.verb import Verb

# An order that fails does so at once; whoever waits longer polls the object.
ACT_S: Final = 2.0
# How long what was done may take to be in the View, and how many other changes of it
# are looked at: a large fleet changes all the time.
_VIEW_S: Final = 2.0
_CHANGES_MAX: Final = 10


class NotDoneYet(Unsupported):
    """oVirt can do it, this product cannot."""

    code = "not_supported"
    remedy = "Do without it; the documentation lists what is supported."


def storage_order(
    call: Call,
    verb: Verb,
    object_id: str,
    request: object,
    node_id: NodeId | None = None,
) -> Order:
    """Order a change of storage; None asks the manager of its pool."""
    return call.services.orders.act_on_storage(
        verb, object_id, request, call.origin, node_id
    )


def wait(
    call: Call, order: Order, seconds: float = ACT_S, *, is_needed: bool = False
) -> Order:
    """Return an order as it is after a while; raise its error if it failed.

    Whoever asked not to wait is told of a failure only if it came at once; unless
    it is needed, for what follows depends on it.
    """
    if is_needed or not call.is_async:
        order = call.services.orders.wait(order.order_id, seconds)
    raise_failure(order)
    return order


def raise_failure(order: Order) -> None:
    """Raise the error of an order that failed."""
    if order.state in (JobState.FAILED, JobState.CANCELLED):
        if order.error is not None:
            raise faults.revived(order.error)
        raise Conflict(f"{order.verb} of {order.name} was cancelled")


def follow(call: Call, order: Order) -> Reply:
    """Answer an action: with its failure if it fails at once."""
    return Reply(action(call, wait(call, order)))


def see(call: Call, is_there: Callable[[View], bool]) -> View:
    """Give the View a moment to show what was done; return the newest."""
    mirror = call.services.mirror
    view = mirror.view
    for _ in itertools.repeat(None, _CHANGES_MAX):
        if is_there(view):
            break
        newer = mirror.wait(view.revision, _VIEW_S)
        if newer.revision == view.revision:
            break
        view = newer
    return view


def action(call: Call, order: Order | None) -> Element:
    """Return the action's own representation; None: there was nothing to do."""
    is_done = order is None or order.state is JobState.DONE
    children = [Element("status", "complete" if is_done else "in_progress")]
    if order is not None:
        href = f"{call.context.base}/jobs/{order.order_id}"
        children.append(element.reference("job", href, order.order_id))
    return Element("action", children=tuple(children))
