"""Speak TLS to somebody who is known by a fingerprint only, before any fleet.

The certificate that the other side shows is compared with the pin before one
byte of ours is sent; names and dates in it do not count.
"""

import contextlib
import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from node import pki
from node.errors import Denied
from node.http import client
from node.model.ids import Fingerprint


class FingerprintRefused(Denied):
    """Somebody else answers there, or the other side has a new key."""

    code = "fingerprint_refused"
    remedy = "Compare the fingerprint on the other side's console with the one given."


class _PinnedConnection(http.client.HTTPSConnection):
    """Check the certificate right after the handshake."""

    def __init__(
        self, address: str, port: int, pin: Fingerprint | None, timeout_s: float
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        super().__init__(address, port, timeout=timeout_s, context=context)
        self._pin = pin

    def connect(self) -> None:
        super().connect()
        if self._pin is None:
            return
        if not is_pinned(_certificate(self.sock), self._pin):
            self.close()
            raise FingerprintRefused(
                f"{self.host}:{self.port} does not have the fingerprint {self._pin}",
                address=f"{self.host}:{self.port}",
                fingerprint=self._pin,
            )


@dataclass(frozen=True, slots=True)
class PinnedTransport:
    """A transport of `node.http.client`; the pin is of a certificate or of its key.

    None pins nothing: only for what proves itself, such as a sealed copy.
    """

    address: str
    port: int
    pin: Fingerprint | None

    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> client.Reply:
        where = f"{self.address}:{self.port}"
        connection = _PinnedConnection(self.address, self.port, self.pin, timeout_s)
        with contextlib.closing(connection):
            return client.exchange(connection, method, target, body, headers, where)


def is_pinned(der: bytes, pin: Fingerprint) -> bool:
    """Tell whether a certificate, or its key, has the fingerprint."""
    if pki.fingerprint_of_der(der) == pin:
        return True
    try:
        return pki.key_fingerprint_of_der(der) == pin
    except (pki.BadCertificate, pki.BadSigningRequest):
        return False


def _certificate(sock: socket.socket) -> bytes:
    assert isinstance(sock, ssl.SSLSocket)
    der = sock.getpeercert(binary_form=True)
    assert der is not None, "a TLS server always shows a certificate"
    return der
