"""Let disks pass the aggregator: for clients who do not reach the nodes, as browsers.

nginx carries the data (`aggregator/nginx.py`) and asks here only where the node is.
What a client may do with a disk is in the ticket, which is the secret part of the
path, and the node's matter. Who reaches the node goes there: `Transfer.url`.
"""

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib import parse as urls

from node.clock import Clock
from node.model.ids import NodeId
from node.model.storage import Transfer

PREFIX: Final = "/transfers"  # of what clients ask for
WHERE: Final = "/passage"  # what nginx asks, and nobody else
NODE: Final = "X-Skerry-Passage"  # whose place it asks for
PLACE: Final = "X-Skerry-Place"  # the answer: address and port
_NODE: Final = "HTTP_X_SKERRY_PASSAGE"
# nginx asks with each request for data, which may come by the hundred each second.
KEPT_S: Final = 60.0


def path(transfer: Transfer) -> str:
    """Return where a transfer's disk is reached at any aggregator; empty: nowhere."""
    found = urls.urlsplit(transfer.url)
    if transfer.node_id is None or not found.path:
        return ""
    return f"{PREFIX}/{transfer.node_id}{found.path}"


def _look_up(name: str) -> str:
    """Return a name's address, for nginx; empty: it has none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # the latter: it cannot be a name
        return ""
    return _written(str(found[0][4][0]))


def _written(text: str) -> str:
    """Return a numeric address as nginx reads it; empty: it is a name."""
    try:
        numeric = ipaddress.ip_address(text)
    except ValueError:
        return ""
    is_long = isinstance(numeric, ipaddress.IPv6Address)
    return f"[{numeric}]" if is_long else str(numeric)


@dataclass(frozen=True, slots=True)
class _Known:
    """What a node's name meant when it was looked up last."""

    name: str
    place: str
    until: float  # by the clock, it is believed


class Passage:
    """Answers nginx. Any thread may call."""

    def __init__(
        self,
        address: Callable[[NodeId], str | None],
        port: Callable[[NodeId], int | None],
        clock: Clock,
        look_up: Callable[[str], str] = _look_up,
    ) -> None:
        """`address` is that of a member, `port` where it serves transfers, if any."""
        self._address = address
        self._port = port
        self._clock = clock
        self._look_up = look_up
        self._lock = threading.Lock()
        self._known: dict[NodeId, _Known] = {}

    def __call__(
        self, environ: Mapping[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        node_id = NodeId(environ.get(_NODE, ""))
        address, port = self._address(node_id), self._port(node_id)
        place = self._numeric(node_id, address) if address and port else ""
        if place:
            start_response("204 No Content", [(PLACE, f"{place}:{port}")])
        else:
            start_response("403 Forbidden", [("Content-Length", "0")])
        return ()

    def _numeric(self, node_id: NodeId, address: str) -> str:
        """Return an address that nginx can use, who asks for no names; empty: none.

        A name is looked up by one thread at a time; the others take what was found
        last, and wait for a resolver that is slow only if nothing was.
        """
        if numeric := _written(address):
            return numeric
        known = self._known.get(node_id)
        if known is not None and known.name != address:
            known = None
        if known is not None and self._clock.monotonic() < known.until:
            return known.place
        if not self._lock.acquire(blocking=known is None):
            assert known is not None, "else it waits"
            return known.place
        try:
            place = self._look_up(address) or (known.place if known is not None else "")
            until = self._clock.monotonic() + KEPT_S
            if place:
                self._known[node_id] = _Known(address, place, until)
        finally:
            self._lock.release()
        return place
