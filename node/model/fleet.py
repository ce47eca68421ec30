"""How a node belongs to a fleet: admission, terms, the sealed copy.

Ciphertext and certificates travel as text: base64 and PEM.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from node.model.ids import Fingerprint, FleetId, NodeId

# What an aggregator serves to nodes beside the feed: the first two without a
# client certificate, on its admission port; the third on its feed port.
ENROLMENT_PATH: Final = "/v1/enrolment"
RENEWAL_PATH: Final = "/v1/renewal"
SEALED_PATH: Final = "/v1/fleet/sealed"


class Role(StrEnum):
    """Who a certificate speaks for: its organisational unit."""

    NODE = "node"
    AGGREGATOR = "aggregator"


@dataclass(frozen=True, slots=True)
class AggregatorAddress:
    name: str
    address: str  # name or IP that nodes reach it by
    feed_port: int
    admission_port: int
    key_fingerprint: Fingerprint  # SHA-256 of its public key: accepted for renewal


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """What a waiting node shows whoever connects: its request to be signed."""

    node_id: NodeId
    name: str
    version: str
    fingerprint: Fingerprint  # of its self-signed certificate
    csr: str
    is_waiting: bool = True
    ca_fingerprint: Fingerprint | None = None  # whom it belongs to, if it does
    api_port: int = 7440
    admission_port: int = 7441


@dataclass(frozen=True, slots=True)
class Admission:
    """What makes a waiting node a member."""

    fleet_id: FleetId
    term: int
    certificate: str
    ca_certificate: str
    aggregators: tuple[AggregatorAddress, ...]


@dataclass(frozen=True, slots=True)
class SealedFleet:
    """The fleet's documents, readable only with its recovery key."""

    fleet_id: FleetId
    term: int
    version: int
    ciphertext: str


@dataclass(frozen=True, slots=True)
class DeclaredProperty:
    """A custom property that the fleet declares."""

    level: str  # vm, nic, disk, network
    name: str
    pattern: str


@dataclass(frozen=True, slots=True)
class HookKey:
    """Who may sign bundles of hooks for the fleet."""

    name: str
    pem: str  # an Ed25519 public key


@dataclass(frozen=True, slots=True)
class FleetRules:
    """What a fleet has decided for all its members."""

    properties: tuple[DeclaredProperty, ...] = ()
    hook_keys: tuple[HookKey, ...] = ()
    has_strict_hooks: bool = False  # what libvirt's schema dislikes does not start


@dataclass(frozen=True, slots=True)
class Membership:
    """What a member keeps of its fleet."""

    fleet_id: FleetId
    term: int
    aggregators: tuple[AggregatorAddress, ...]
    ca_fingerprint: Fingerprint
    rules: FleetRules = FleetRules()


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Zero touch: a node that was booted with a token asks to be admitted.

    `proof` is HMAC-SHA256 over the aggregator's fingerprint and the CSR, keyed
    with the token, in hex.
    """

    token_id: str
    proof: str
    request: AdmissionRequest
    address: str


@dataclass(frozen=True, slots=True)
class Renewal:
    """A new request, signed by the key of the old certificate.

    `signature` is ECDSA-SHA256 over the CSR's PEM text, base64.
    """

    certificate: str
    csr: str
    signature: str


@dataclass(frozen=True, slots=True)
class RenewedCertificate:
    certificate: str
    ca_certificate: str
