"""Hold the fleet's CA and this aggregator's own certificate.

In the state folder: ca.key ca.pem crl.pem (the fleet's), key.pem certificate.pem
(ours; nginx and our calls to nodes use them).
"""

import logging
import ssl
import threading
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Final

from node import pki, vault
from node.clock import Clock
from node.errors import NotFound
from node.log import Secret
from node.model.fleet import Role
from node.model.ids import Fingerprint, FleetId, NodeId
from node.units import DAY_S

log = logging.getLogger(__name__)

CA_KEY: Final = "ca.key"
CA_CERTIFICATE: Final = "ca.pem"
REVOKED: Final = "crl.pem"
KEY: Final = "key.pem"
CERTIFICATE: Final = "certificate.pem"
# As long as a node's by default: it is renewed at two thirds all the same.
OWN_DAYS: Final = 365.0


class NoAuthority(NotFound):
    """The state folder holds no CA."""

    code = "no_authority"
    remedy = "Run `skerry-aggregator init`, or `rebuild` with a recovery key."


class Authority:
    """Issue certificates in the fleet's name, and renew our own."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Load the CA; NoAuthority if there is none."""
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        # with the certificate that it was made of
        self._context: tuple[str, ssl.SSLContext] | None = None
        ca_key, certificate = (
            vault.read(folder / CA_KEY),
            vault.read(folder / CA_CERTIFICATE),
        )
        if ca_key is None or certificate is None:
            raise NoAuthority(f"there is no CA in {folder}")
        self._ca_key = pki.load_key(Secret(ca_key))
        self.ca_certificate: Final = certificate
        self.ca_fingerprint: Final = pki.fingerprint(certificate)
        self.fleet_id: Final = pki.fleet_of(certificate)

    def ca_key(self) -> Secret:
        """Return the CA's key, to be sealed."""
        return pki.dump_key(self._ca_key)

    def issue_node(
        self,
        csr: str,
        node_id: NodeId,
        alternatives: Iterable[str],
        lifetime_s: float,
    ) -> str:
        """Return a node's certificate for the key of its request."""
        return self._issue(csr, node_id, Role.NODE, alternatives, lifetime_s)

    def prepare_own(self, name: str, address: str, days: float = OWN_DAYS) -> bool:
        """Make our certificate unless a good one is there; tell whether it changed.

        Its key stays the same for ever, since nodes pin it.
        """
        with self._lock:
            key = self._own_key()
            if self._is_good(key, name, address):
                return False
            csr = pki.signing_request(key, name)
            names = (address, name, "localhost")
            certificate = self._issue(csr, name, Role.AGGREGATOR, names, days * DAY_S)
            vault.write(self._folder / CERTIFICATE, certificate, vault.PUBLIC)
            log.info(
                "issued our certificate for %s, good until %s",
                name,
                pki.expires_at(certificate),
            )
            return True

    def certificate(self) -> str:
        """Return our own certificate; call `prepare_own` first."""
        certificate = vault.read(self._folder / CERTIFICATE)
        if certificate is None:
            raise NoAuthority("this aggregator has no certificate yet")
        return certificate

    def key_fingerprint(self) -> Fingerprint:
        """Return the fingerprint of our key: what nodes pin and tokens name."""
        return pki.key_fingerprint(self.certificate())

    def fingerprints(self) -> tuple[Fingerprint, Fingerprint]:
        """Return what a node may know us by: our key, our certificate."""
        certificate = self.certificate()
        return pki.key_fingerprint(certificate), pki.fingerprint(certificate)

    def write_revoked(self, serials: Iterable[int]) -> None:
        """Write the list of revoked certificates that nginx reads."""
        text = pki.revocation_list(
            self._ca_key, self.ca_certificate, serials, self._clock.now()
        )
        vault.write(self._folder / REVOKED, text, vault.PUBLIC)

    def client_context(self) -> ssl.SSLContext:
        """Return how we call nodes: with our certificate, trusting our CA only.

        The same object as before, unless our certificate is another.
        """
        with self._lock:
            certificate = self.certificate()
            if self._context is None or self._context[0] != certificate:
                context = pki.client_context(
                    self.ca_certificate,
                    str(self._folder / CERTIFICATE),
                    str(self._folder / KEY),
                )
                self._context = (certificate, context)
            return self._context[1]

    def _issue(
        self,
        csr: str,
        name: str,
        role: Role,
        alternatives: Iterable[str],
        lifetime_s: float,
    ) -> str:
        return pki.issue(
            self._ca_key,
            self.ca_certificate,
            csr,
            pki.Subject(name, role, self.fleet_id),
            alternatives,
            self._clock.now(),
            lifetime_s,
        )

    def _own_key(self) -> pki.Key:
        text = vault.read(self._folder / KEY)
        if text is not None:
            return pki.load_key(Secret(text))
        key = pki.make_key()
        vault.write(self._folder / KEY, pki.dump_key(key).reveal(), vault.PRIVATE)
        return key

    def _is_good(self, key: pki.Key, name: str, address: str) -> bool:
        """Tell whether our certificate is ours, speaks for us and is young enough."""
        text = vault.read(self._folder / CERTIFICATE)
        if text is None:
            return False
        try:
            pki.check_issued_by(text, self.ca_certificate)
            pki.check_is_for(text, key)
        except (pki.SignatureRefused, pki.BadCertificate):
            return False
        return (
            pki.subject_of(text).name == name
            and address in pki.alternatives_of(text)
            and self._clock.now() < pki.renewal_at(text)
        )


def create(folder: Path, fleet_id: FleetId, clock: Clock) -> None:
    """Make the CA of a new fleet in a folder."""
    key = pki.make_key()
    # A machine's clock at its first start is often ahead of the nodes' clocks.
    since = clock.now() - timedelta(days=1)
    adopt(folder, pki.dump_key(key), pki.make_ca(key, fleet_id, since))


def adopt(folder: Path, ca_key: Secret, ca_certificate: str) -> None:
    """Put a CA into a folder; BadKey or BadCertificate if the two do not match."""
    pki.check_is_for(ca_certificate, pki.load_key(ca_key))
    vault.write(folder / CA_KEY, ca_key.reveal(), vault.PRIVATE)
    vault.write(folder / CA_CERTIFICATE, ca_certificate, vault.PUBLIC)
