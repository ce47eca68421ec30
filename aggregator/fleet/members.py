"""Say what is kept of a member, and which of its certificates still live.

Pure. The record is one of the fleet's documents.
"""

from dataclasses import dataclass, replace
from typing import Final

from aggregator import db
from node import clock, pki, wire
from node.model.ids import Fingerprint, NodeId

ADMISSION_PORT: Final = 7441  # where nodes wait, unless an address says otherwise


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    serial: str  # hex
    expires_at: str  # RFC 3339


@dataclass(frozen=True, slots=True)
class Member:
    node_id: NodeId
    name: str
    address: str
    api_port: int
    fingerprint: Fingerprint  # of its self-signed certificate
    admitted_at: str
    admitted_by: str  # a user, or the token it came with
    admission_port: int = ADMISSION_PORT
    key_fingerprint: str = ""
    certificates: tuple[IssuedCertificate, ...] = ()  # those not yet ended
    schema: int = 1


def read(record: db.Record) -> Member:
    """Return the member in a record."""
    return wire.from_json(Member, record.body, strict=False)


def with_certificate(member: Member, certificate: str, now: str) -> Member:
    """Return a member with one certificate more, without those that ended."""
    end = clock.rfc3339(pki.expires_at(certificate))
    issued = IssuedCertificate(serial(certificate), end)
    living = (each for each in member.certificates if each.expires_at >= now)
    return replace(member, certificates=(*living, issued))


def serial(certificate: str) -> str:
    """Return a certificate's number as revocations name it."""
    return f"{pki.serial(certificate):x}"
