"""Let the manager of a pool and its nodes talk of data to be moved, on the storage.

`dom_md/skerry/data_jobs` of the master has two slots for each host id: in the first
the manager says what that node shall do, in the second the node says how far it is.

    (N - 1) × 32 KiB        orders: written by the manager, under its leases
    (N - 1) × 32 KiB + 16   reports: written by the node with host id N

A slot is one line of JSON and one line `sha256=` with the digest of the first, then
zeros. It is longer than a sector: who finds half of one looks again. An order that is
not there any more is withdrawn. Sizes are bytes.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from node import wire
from node.errors import Error, Invalid
from node.model.ids import NodeId
from node.storage.domains import DomainFiles
from node.storage.domains.host_ids import HOST_ID_MAX
from node.storage.formats.journal import Order
from node.storage.formats.layout import FILE_MODE
from node.storage.process.file_operations import FileMissing
from node.units import KiB

SLOT_BYTES: Final = 16 * KiB
AREA_BYTES: Final = 2 * HOST_ID_MAX * SLOT_BYTES
ORDERS_MAX: Final = 8  # of one node; each takes less than a KiB, and twice that fits
_LINES = re.compile(rb"([^\n]*)\nsha256=([0-9a-f]{64})\n\0*")

T = TypeVar("T")


class SlotFull(Invalid):
    """More is ordered of one node than its slot holds."""

    code = "data_slot_full"
    remedy = "Wait until the node has ended some of its data jobs."


class Work(StrEnum):
    """How far a node is with an order."""

    WAITING = "waiting"  # it cannot begin yet
    RUNNING = "running"
    DONE = "done"  # and the volume has the next generation
    FAILED = "failed"  # the program ended with an error
    LOST = "lost"  # the program was killed, or its lease is gone
    REFUSED = "refused"  # what lies there is not what the order says


ENDED: Final = frozenset({Work.DONE, Work.FAILED, Work.LOST, Work.REFUSED})


@dataclass(frozen=True, slots=True)
class Orders:
    """What the manager wants of a node."""

    node_id: NodeId
    orders: tuple[Order, ...] = ()
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    order_id: str
    work: Work
    percent: int = 0
    code: str = ""  # of the error; empty: none
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reports:
    """What a node says of its orders."""

    node_id: NodeId
    counter: int = 0  # grows with each publication
    reports: tuple[Report, ...] = ()
    schema: int = 1

    def find(self, order_id: str) -> Report | None:
        return next((each for each in self.reports if each.order_id == order_id), None)


def write(value: Orders | Reports) -> bytes:
    """Return a slot; SlotFull."""
    body = wire.encode(value)
    text = b"%b\nsha256=%b\n" % (body, hashlib.sha256(body).hexdigest().encode())
    if len(text) > SLOT_BYTES:
        raise SlotFull(f"{len(text)} bytes are more than a slot", size_bytes=len(text))
    return text.ljust(SLOT_BYTES, b"\0")


def parse(kind: type[T], slot: bytes) -> T | None:
    """Return what a slot says; None if nobody speaks there, or not to us."""
    found = _LINES.fullmatch(slot)
    if found is None or hashlib.sha256(found[1]).hexdigest().encode() != found[2]:
        return None
    try:
        return wire.decode(kind, found[1], strict=False)
    except Invalid:
        return None


_NO_ORDERS: Final = Orders(NodeId(""))
_NO_REPORTS: Final = Reports(NodeId(""))


class Board:
    """The slots of one pool, as the storage has them now."""

    def __init__(self, files: DomainFiles, path: str) -> None:
        """`files` are the master's, with the leases under which we write, if any."""
        self._files = files
        self._path = path

    def make(self) -> None:
        """Make the file unless it is there."""
        self._files.make_file(self._path, AREA_BYTES, FILE_MODE, is_preallocated=False)

    def orders(self, host_id: int) -> Orders | None:
        """Return what a node shall do; None: it cannot be read just now."""
        slot = self._read(_offset(host_id))
        return parse(Orders, slot) if any(slot) else _NO_ORDERS

    def put_orders(self, host_id: int, orders: Orders) -> None:
        assert len(orders.orders) <= ORDERS_MAX, "the assigner counts them"
        self._files.write_at(self._path, _offset(host_id), write(orders))

    def reports(self, host_id: int) -> Reports | None:
        """Return what a node says; None: it cannot be read just now."""
        slot = self._read(_offset(host_id) + SLOT_BYTES)
        return parse(Reports, slot) if any(slot) else _NO_REPORTS

    def put_reports(self, host_id: int, reports: Reports) -> None:
        self._files.write_at(self._path, _offset(host_id) + SLOT_BYTES, write(reports))

    def _read(self, offset: int) -> bytes:
        try:
            return self._files.read_at(self._path, offset, SLOT_BYTES)
        except Error as error:
            if error.code != FileMissing.code:
                raise
            return b""  # nothing was ever ordered in this pool


def _offset(host_id: int) -> int:
    return (host_id - 1) * 2 * SLOT_BYTES
