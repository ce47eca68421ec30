"""Ask an aggregator for what a node needs of it: admission, renewal, papers.

What is pushed, and when, `node.feed` decides; here is only the way there.
"""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from node import wire
from node.http import client, links, pinned
from node.model.feed import DeltaReply
from node.model.fleet import (
    ENROLMENT_PATH,
    RENEWAL_PATH,
    SEALED_PATH,
    Admission,
    AggregatorAddress,
    Enrolment,
    Renewal,
    RenewedCertificate,
    Role,
    SealedFleet,
)
from node.model.ids import Fingerprint

T = TypeVar("T")

# An aggregator under load lets a node wait; it has nothing else to wait for.
_TIMEOUT_S: Final = 15.0
_FEED_PATH: Final = "/v1/feed/delta"
_PUSH_TIMEOUT_S: Final = 10.0  # a node is suspect after 12 s of silence


class Aggregators(Protocol):
    def enrol(
        self, address: str, port: int, pin: Fingerprint, enrolment: Enrolment
    ) -> Admission:
        """Show a token; `pin` is of the aggregator's key or certificate."""

    def renew(
        self, aggregator: AggregatorAddress, renewal: Renewal
    ) -> RenewedCertificate:
        """Ask for a fresh certificate; the aggregator's own may have ended."""

    def sealed(self, aggregator: AggregatorAddress) -> SealedFleet:
        """Fetch the sealed copy, as a member."""


class TlsAggregators:
    """Over the network; `context` returns how a member calls other members."""

    def __init__(self, context: links.Context) -> None:
        self._context = context

    def enrol(
        self, address: str, port: int, pin: Fingerprint, enrolment: Enrolment
    ) -> Admission:
        transport = pinned.PinnedTransport(address, port, pin)
        return _post(transport, ENROLMENT_PATH, enrolment, Admission)

    def renew(
        self, aggregator: AggregatorAddress, renewal: Renewal
    ) -> RenewedCertificate:
        transport = pinned.PinnedTransport(
            aggregator.address, aggregator.admission_port, aggregator.key_fingerprint
        )
        return _post(transport, RENEWAL_PATH, renewal, RenewedCertificate)

    def sealed(self, aggregator: AggregatorAddress) -> SealedFleet:
        transport = links.MemberTransport(
            aggregator.address, aggregator.feed_port, _peer(aggregator), self._context()
        )
        reply = transport.exchange("GET", SEALED_PATH, None, {}, _TIMEOUT_S)
        return _read(reply, SealedFleet)


class FeedSender:
    """Sends pushes to one aggregator, over a connection that is kept.

    A push may arrive twice: it says from which revision to which it leads.
    """

    def __init__(
        self,
        aggregator: AggregatorAddress,
        context: links.Context,
        term: Callable[[], int],
    ) -> None:
        """`term` returns the highest term we know."""
        self._transport = links.KeptTransport(
            aggregator.address, aggregator.feed_port, _peer(aggregator), context
        )
        self._term = term

    def send(self, body: bytes) -> DeltaReply:
        headers = {
            "Content-Type": "application/json",
            # So that an aggregator learns that another was promoted.
            "X-Skerry-Term": str(self._term()),
        }
        reply = self._transport.exchange(
            "POST", _FEED_PATH, body, headers, _PUSH_TIMEOUT_S
        )
        return _read(reply, DeltaReply)

    def close(self) -> None:
        self._transport.close()


def _peer(aggregator: AggregatorAddress) -> links.Peer:
    return links.Peer(aggregator.name, Role.AGGREGATOR)


def _post(transport: client.Transport, path: str, body: object, kind: type[T]) -> T:
    headers = {"Content-Type": "application/json"}
    reply = transport.exchange("POST", path, wire.encode(body), headers, _TIMEOUT_S)
    return _read(reply, kind)


def _read(reply: client.Reply, kind: type[T]) -> T:
    if reply.status >= 400:
        raise client.error_of(reply)
    return wire.decode(kind, reply.body, strict=False)
