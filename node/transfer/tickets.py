"""Hold the tickets: who may move which bytes of which image, and until when.

A ticket's id is all that a client needs, so it is a secret: logs name the transfer.
Tickets live in memory; the agent installs them again after a restart, which changes
nothing where they are. Words and fields are imageio's (docs/formats/transfers.md).
"""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from node.clock import Clock
from node.errors import Busy, Conflict, Denied, Invalid, NotFound
from node.transfer.nbd import Nbd
from node.transfer.pool import Pool
from node.transfer.ranges import Ranges

log = logging.getLogger(__name__)

PREFIX: Final = "/tickets/"  # of the paths on the agent's socket
TICKETS_MAX: Final = 1_000
# How long a removal waits for requests that are under way.
REMOVE_S: Final = 30.0
INACTIVITY_S: Final = 60
# How many ranges an answer about a ticket names.
_RANGES_SHOWN: Final = 1_000

_URL: Final = re.compile(r"nbd:unix:(/[^:]{1,106})(?::exportname=(.{0,255}))?")
_ID: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class TicketWrong(Invalid):
    code = "ticket_wrong"
    remedy = "Correct the field named in the message and install it again."


class TicketUnknown(NotFound):
    code = "ticket_unknown"
    remedy = "Install the ticket first."


class TicketDiffers(Conflict):
    """Another ticket has this id."""

    code = "ticket_differs"
    remedy = "Remove the old one first, or take another id."


class TicketInUse(Conflict):
    """Requests of a cancelled ticket have not ended yet."""

    code = "ticket_in_use"
    remedy = "Remove it again, or end its qemu-nbd first."


class TooManyTickets(Busy):
    code = "too_many_tickets"
    remedy = "Remove tickets that are not used."


class NotAllowed(Denied):
    """No ticket of this id allows it: whether there is one is not told."""

    code = "not_allowed"
    remedy = "Do not send it again: ask for another transfer."


class Cancelled(Denied):
    code = "transfer_cancelled"
    remedy = "Do not send it again: the transfer is over."


class Op(StrEnum):
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Extension:
    timeout: int  # seconds from now


@dataclass(frozen=True, slots=True)
class TicketRequest:
    """What the agent installs; sizes are bytes, times seconds."""

    uuid: str
    size: int
    url: str  # nbd:unix:/path or nbd:unix:/path:exportname=name
    timeout: int  # it ends so long after its last use
    ops: tuple[Op, ...]
    inactivity_timeout: int = INACTIVITY_S  # of a client in the middle of a request
    sparse: bool = False  # zeroing gives the space back
    dirty: bool = False  # the image's server exports a bitmap of changes
    transfer_id: str = ""
    filename: str = ""  # that a browser saves a download as


@dataclass(frozen=True, slots=True)
class TicketInfo:
    """What the agent is told."""

    uuid: str
    size: int
    url: str
    timeout: int
    ops: tuple[Op, ...]
    inactivity_timeout: int
    sparse: bool
    dirty: bool
    transfer_id: str
    filename: str
    active: bool
    canceled: bool
    connections: int  # to the image
    expires: int  # by the clock that only grows
    idle_time: int
    transferred: int | None  # None: it may read and write
    ranges: tuple[tuple[int, int], ...]  # the first of those transferred


@dataclass(slots=True, eq=False)
class Operation:
    """A request under way: from `start`, so far."""

    ticket: "Ticket"
    start: int = 0
    done: int = 0

    def check(self) -> None:
        """Raise Cancelled when the ticket is."""
        self.ticket.check()


class Ticket:
    def __init__(self, request: TicketRequest, clock: Clock) -> None:
        """Take a request that `check_request` has let pass."""
        self.request = request
        self.name = request.transfer_id or f"of {request.url}"
        found = _URL.fullmatch(request.url)
        assert found is not None, "the request was checked"
        path, export = found[1], found[2] or ""
        self.pool = Pool(lambda: Nbd(path, export, request.dirty, clock), clock)
        self._clock = clock
        self._changed = threading.Condition()
        self._ongoing: set[Operation] = set()
        self._completed = Ranges()
        self._is_cancelled = False
        self._used_at = clock.monotonic()
        self._expires_at = self._used_at + request.timeout

    def may(self, op: Op) -> bool:
        """Tell whether the ticket allows it; who may write may read."""
        return op in self.request.ops or (
            op is Op.READ and Op.WRITE in self.request.ops
        )

    @property
    def is_expired(self) -> bool:
        return self._clock.monotonic() >= self._expires_at

    def check(self) -> None:
        """Raise Cancelled when the ticket is."""
        if self._is_cancelled:
            raise Cancelled("the transfer was cancelled")

    def touch(self) -> None:
        """Begin its time anew."""
        with self._changed:
            self._used_at = self._clock.monotonic()
            self._expires_at = self._used_at + self.request.timeout

    def extend(self, timeout_s: int) -> None:
        """Let it end so long after now."""
        with self._changed:
            self._expires_at = self._clock.monotonic() + timeout_s

    @contextlib.contextmanager
    def operate(self, start: int = 0, is_transfer: bool = True) -> Iterator[Operation]:
        """Have a request under way; what it has done counts, however it ends."""
        operation = Operation(self, start)
        with self._changed:
            self.check()
            self._ongoing.add(operation)
        try:
            yield operation
        finally:
            with self._changed:
                self._ongoing.remove(operation)
                if is_transfer:
                    self._completed.add(start, start + operation.done)
                self._changed.notify_all()
            self.touch()

    def cancel(self, timeout_s: float) -> None:
        """Allow nothing more, and return when no request is under way."""
        deadline = self._clock.monotonic() + timeout_s
        with self._changed:
            self._is_cancelled = True
            while self._ongoing:
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    count = len(self._ongoing)
                    raise TicketInUse(f"{count} requests have not ended", count=count)
                self._changed.wait(left)
        self.pool.close()

    def info(self) -> TicketInfo:
        """Return what is known of it now."""
        with self._changed:
            moved = Ranges(self._completed)
            ongoing = [(each.start, each.start + each.done) for each in self._ongoing]
            used_at, expires_at = self._used_at, self._expires_at
        for start, end in ongoing:
            moved.add(start, end)
        given = self.request
        idle_s = 0.0 if ongoing else self._clock.monotonic() - used_at
        return TicketInfo(
            *(given.uuid, given.size, given.url, given.timeout, given.ops),
            *(given.inactivity_timeout, given.sparse, given.dirty),
            *(given.transfer_id, given.filename),
            active=bool(ongoing),
            canceled=self._is_cancelled,
            connections=self.pool.open,
            expires=int(expires_at),
            idle_time=int(idle_s),
            transferred=moved.total if len(given.ops) == 1 else None,
            ranges=moved.first(_RANGES_SHOWN),
        )


@dataclass(slots=True)
class Tickets:
    """All tickets, by their ids."""

    clock: Clock
    remove_s: float = REMOVE_S
    _tickets: dict[str, Ticket] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def install(self, request: TicketRequest) -> None:
        """Add a ticket; the same one again only begins its time anew."""
        check_request(request)
        with self._lock:
            known = self._tickets.get(request.uuid)
            if known is None:
                if len(self._tickets) >= TICKETS_MAX:
                    raise TooManyTickets(f"there are {TICKETS_MAX} tickets")
                self._tickets[request.uuid] = Ticket(request, self.clock)
        if known is None:
            log.info("transfer %s may %s", request.transfer_id, "/".join(request.ops))
            return
        known.check()
        if known.request != request:
            raise TicketDiffers("another ticket has this id")
        known.touch()

    def get(self, ticket_id: str) -> Ticket:
        """Return a ticket; TicketUnknown."""
        with self._lock:
            ticket = self._tickets.get(ticket_id)
        if ticket is None:
            raise TicketUnknown("there is no such ticket")
        return ticket

    def authorize(self, ticket_id: str, op: Op) -> Ticket:
        """Return the ticket that allows this; NotAllowed or Cancelled."""
        with self._lock:
            ticket = self._tickets.get(ticket_id)
        if ticket is None:
            raise NotAllowed("there is no such ticket")
        ticket.check()
        if ticket.is_expired:
            raise NotAllowed("the ticket has expired")
        if not ticket.may(op):
            raise NotAllowed(f"the ticket does not allow to {op}")
        return ticket

    def remove(self, ticket_id: str) -> None:
        """Cancel a ticket, wait for its requests, forget it; it may be gone."""
        with self._lock:
            ticket = self._tickets.get(ticket_id)
        if ticket is None:
            return
        ticket.cancel(self.remove_s)
        with self._lock:
            self._tickets.pop(ticket_id, None)
        log.info("transfer %s is over", ticket.name)


def check_request(request: TicketRequest) -> None:
    """Raise TicketWrong if a ticket makes no sense."""
    for name, is_right in (
        ("uuid", _ID.fullmatch(request.uuid)),
        ("size", request.size >= 0),
        ("url", _URL.fullmatch(request.url)),
        ("timeout", request.timeout > 0),
        ("ops", request.ops),
        ("inactivity_timeout", request.inactivity_timeout > 0),
        ("transfer_id", not _CONTROL.search(request.transfer_id)),
        ("filename", not _CONTROL.search(request.filename)),
    ):
        if not is_right:
            raise TicketWrong(f"{name} is wrong", field=name)
