"""Ask the right node about a transfer: the manager of its disk's pool.

Nothing is kept but which node serves which: after a restart the lock on the disk tells
that again. A transfer whose manager changed is over; the new manager begins another.
"""

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

from aggregator.control import routes
from aggregator.federation.view import View
from node import wire
from node.errors import Error, NotFound
from node.model import storage_requests as bodies
from node.model import transfer_verbs as verbs
from node.model.ids import NodeId, TransferId
from node.model.storage import DiskDocument, DiskState, Transfer
from node.model.verb import Verb

log = logging.getLogger(__name__)

T = TypeVar("T")

# More than run at once on all nodes that anybody looks at.
KNOWN_MAX: Final = 1000
# How many nodes are asked for a list: each may take its time.
NODES_MAX: Final = 16


class TransferNotFound(NotFound):
    code = "transfer_not_found"
    remedy = "List the transfers: those that ended are kept for an hour."


class Client(Protocol):
    """What is used of `node.http.client.NodeClient`."""

    def call(
        self,
        verb: Verb,
        kind: type[T],
        request: object = None,
        *,
        query: Mapping[str, object] | None = None,
        wait_s: float = 0.0,
        **path: str,
    ) -> T: ...


class Transfers:
    """The transfers of the fleet. Any thread may call."""

    def __init__(
        self, view: Callable[[], View], client: Callable[[NodeId], Client]
    ) -> None:
        """`view` is the newest, `client` a member's own API."""
        self._view = view
        self._client = client
        self._lock = threading.Lock()
        self._nodes: OrderedDict[TransferId, NodeId] = OrderedDict()
        self._ports: dict[NodeId, int] = {}  # where nodes serve, as they said

    def create(self, request: bodies.CreateTransfer) -> Transfer:
        """Begin a transfer where its disk is managed; asked twice, it is one."""
        view = self._view()
        row = routes.disk(view, request.disk_id)
        if row.pool_id is None:
            raise routes.PoolNotFound(f"disk {row.name} belongs to no pool")
        if request.snapshot_id is None:  # what a snapshot keeps, no guest changes
            routes.check_idle(view, row)
        node_id = routes.manager(view, row.pool_id)
        made = self._client(node_id).call(verbs.TRANSFER_CREATE, Transfer, request)
        self._note(made.transfer_id, node_id)
        return self._heard(node_id, made)

    def show(self, transfer_id: TransferId) -> Transfer:
        """Return a transfer as its node tells of it; TransferNotFound."""
        return self.act(verbs.TRANSFER_SHOW, transfer_id, None)

    def act(self, verb: Verb, transfer_id: TransferId, request: object) -> Transfer:
        """Ask a transfer's node; TransferNotFound, and what the node refuses."""
        node_id = self._node_of(transfer_id)
        client = self._client(node_id)
        told = client.call(verb, Transfer, request, transfer_id=transfer_id)
        return self._heard(node_id, told)

    def port(self, node_id: NodeId) -> int | None:
        """Return where a node serves transfers; None: it has told of none."""
        with self._lock:
            return self._ports.get(node_id)

    def list(self) -> tuple[Transfer, ...]:
        """Return what the nodes tell that serve some; a silent one tells nothing."""
        found: dict[TransferId, Transfer] = {}
        for node_id in sorted(self._serving())[:NODES_MAX]:
            try:
                told = self._client(node_id).call(
                    verbs.TRANSFER_LIST, bodies.TransferList
                )
            except Error as error:
                log.info("node %s tells of no transfers: %s", node_id, error)
                continue
            for each in told.transfers:
                self._note(each.transfer_id, node_id)
                found[each.transfer_id] = each
        return tuple(sorted(found.values(), key=lambda each: each.since))

    def _node_of(self, transfer_id: TransferId) -> NodeId:
        with self._lock:
            known = self._nodes.get(transfer_id)
        if known is not None:
            return known
        for node_id, owner in self._locked():
            if owner == transfer_id:
                self._note(transfer_id, node_id)
                return node_id
        raise TransferNotFound(
            f"there is no transfer {transfer_id}", transfer_id=transfer_id
        )

    def _serving(self) -> frozenset[NodeId]:
        with self._lock:
            known = frozenset(self._nodes.values())
        return known | {node_id for node_id, _ in self._locked()}

    def _locked(self) -> Iterable[tuple[NodeId, str]]:
        """Yield who tells of a locked disk, and whose lock it is."""
        for row in self._view().disks.values():
            if row.state is DiskState.LOCKED:
                document = wire.decode(DiskDocument, row.document, strict=False)
                if document.lock_owner is not None:
                    yield row.node_id, document.lock_owner

    def _heard(self, node_id: NodeId, told: Transfer) -> Transfer:
        with contextlib.suppress(ValueError):
            if port := urlsplit(told.url).port:
                with self._lock:
                    self._ports[node_id] = port
        return told

    def _note(self, transfer_id: TransferId, node_id: NodeId) -> None:
        with self._lock:
            self._nodes[transfer_id] = node_id
            self._nodes.move_to_end(transfer_id)
            while len(self._nodes) > KNOWN_MAX:
                self._nodes.popitem(last=False)
