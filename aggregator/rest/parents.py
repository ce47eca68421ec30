"""Find what a request names by id or name: a host, a storage domain. Pure."""

from collections.abc import Iterable
from typing import TypeVar

from aggregator.federation.view import NodeView, StorageDomainRow
from aggregator.rest import storage
from aggregator.rest.body import Body
from aggregator.rest.resource import Context
from node.errors import Invalid

R = TypeVar("R")


class NoSuchParent(Invalid):
    """The request names something that is not there."""

    code = "no_such_parent"
    remedy = "Correct the id or name that the message tells."


def node(context: Context, body: Body) -> NodeView | None:
    """Return the host that a request names; None if it names none."""
    nodes = context.view.nodes.values()
    return _named("host", body, ((each.node_id, each.name, each) for each in nodes))


def node_called(context: Context, text: str) -> NodeView | None:
    """Return the host of an id or name in a query; None if the text is empty."""
    if not text:
        return None
    for each in context.view.nodes.values():
        if text in (each.node_id, each.name):
            return each
    raise NoSuchParent(f"there is no host {text}")


def storage_domain(context: Context, body: Body) -> StorageDomainRow | None:
    """Return the storage domain that a request names; None if it names none."""
    rows = storage.domain_rows(context)
    found = ((each.storage_domain_id, each.name, each) for each in rows)
    return _named("storage domain", body, found)


def _named(what: str, body: Body, rows: Iterable[tuple[str, str, R]]) -> R | None:
    """Return the row that an element names by its id, else by its name."""
    wanted_id, name = body.object_id(), body.string("name")
    if not wanted_id and not name:
        return None
    for object_id, object_name, row in rows:
        if object_id == wanted_id if wanted_id else object_name == name:
            return row
    raise NoSuchParent(f"there is no {what} {wanted_id or name}")
