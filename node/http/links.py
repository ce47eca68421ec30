"""Speak TLS to a member of the fleet, who is known by name wherever it is.

The certificate that the other side shows must be of the fleet's CA, and its
subject the one wanted: addresses change, names do not. Both are checked before
one byte of ours is sent. Contexts are made by `pki.client_context`.
"""

import contextlib
import http.client
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from node import pki
from node.http import client
from node.model.fleet import Role


class WrongMember(client.NodeUnreachable):
    """Somebody else of the fleet answers at the address; nothing was sent."""

    code = "wrong_member"
    remedy = "Wait until the member tells its new address, or correct it."


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom we want to speak to; the fleet is that of the context's CA."""

    name: str  # of an aggregator; the id of a node
    role: Role


Context: TypeAlias = Callable[[], ssl.SSLContext]


class _MemberConnection(http.client.HTTPSConnection):
    """Check who answers, right after the handshake."""

    def __init__(
        self, address: str, port: int, peer: Peer, context: ssl.SSLContext
    ) -> None:
        super().__init__(address, port, context=context)
        self._peer = peer

    @property
    def is_open(self) -> bool:
        return self.sock is not None

    def connect(self) -> None:
        super().connect()
        if not _is_of(self._peer, self.sock):
            self.close()
            where, wanted = f"{self.host}:{self.port}", self._peer
            raise WrongMember(
                f"at {where} answers somebody else than {wanted.role} {wanted.name}",
                address=where,
                wanted=wanted.name,
            )

    def set_timeout(self, timeout_s: float) -> None:
        """Let the next request take this long, on an open connection too."""
        self.timeout = timeout_s
        if self.sock is not None:
            self.sock.settimeout(timeout_s)


@dataclass(frozen=True, slots=True)
class MemberTransport:
    """A transport of `node.http.client` that connects for each request."""

    address: str
    port: int
    peer: Peer
    context: ssl.SSLContext

    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> client.Reply:
        connection = _MemberConnection(self.address, self.port, self.peer, self.context)
        connection.set_timeout(timeout_s)
        where = f"{self.address}:{self.port}"
        with contextlib.closing(connection):
            return client.exchange(connection, method, target, body, headers, where)


class KeptTransport:
    """A transport of `node.http.client` that keeps its connection; for one thread.

    Only for requests that may arrive twice: the other side may close while we
    send, and then the request is sent again.
    """

    def __init__(self, address: str, port: int, peer: Peer, context: Context) -> None:
        """`context` returns another object when the certificate is another."""
        self._address = address
        self._port = port
        self._peer = peer
        self._context = context
        self._used: ssl.SSLContext | None = None
        self._connection: _MemberConnection | None = None

    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> client.Reply:
        """Send one request; twice at most, and then within twice the time."""
        connection = self._current()
        connection.set_timeout(timeout_s)
        where = f"{self._address}:{self._port}"
        if connection.is_open:
            try:
                return client.exchange(connection, method, target, body, headers, where)
            except client.NodeUnreachable as error:
                if isinstance(error.__cause__, TimeoutError):
                    raise
        return client.exchange(connection, method, target, body, headers, where)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _current(self) -> _MemberConnection:
        """Return the connection, a new one if our certificate is another."""
        context = self._context()
        if self._connection is None or context is not self._used:
            self.close()
            self._connection = _MemberConnection(
                self._address, self._port, self._peer, context
            )
            self._used = context
        return self._connection


def _is_of(peer: Peer, sock: object) -> bool:
    assert isinstance(sock, ssl.SSLSocket), "the connection is TLS"
    der = sock.getpeercert(binary_form=True)
    assert der is not None, "a TLS server always shows a certificate"
    try:
        subject = pki.subject_of_der(der)
    except pki.BadCertificate:
        return False
    return (subject.name, subject.role) == (peer.name, peer.role)
