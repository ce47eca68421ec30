"""Make and check keys, signing requests, certificates and signatures.

Pure but for fresh keys and serial numbers; times are passed in. Keys are on
P-256, signatures are ECDSA with SHA-256, everything travels as PEM. The subject
of a certificate is O=<fleet>, OU=<role>, CN=<node id or aggregator's name>.
"""

import functools
import hashlib
import hmac
import ipaddress
import re
import ssl
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.errors import Denied, Invalid
from node.log import Secret
from node.model.fleet import Role
from node.model.ids import Fingerprint, FleetId
from node.units import DAY_S

# A fleet outlives its machines: nobody plans to replace its CA.
CA_DAYS: Final = 30 * 365
# A self-signed certificate is trusted by its fingerprint alone, never by its dates.
SELF_SIGNED_DAYS: Final = 100 * 365
# Clocks of freshly booted machines are off by up to a time zone's mistake.
BACKDATED_S: Final = 3600.0
# nginx reads the subject with a pattern, so a name is kept to plain letters.
NAME_PATTERN: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
# Ours, the CA's and a few that come by: ours are looked at each second.
_LOADED_MAX: Final = 16
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")

Key = ec.EllipticCurvePrivateKey


class BadCertificate(Invalid):
    code = "bad_certificate"
    remedy = "Send a certificate that this fleet issued, as PEM."


class BadSigningRequest(Invalid):
    code = "bad_signing_request"
    remedy = "Send a PKCS #10 request for a P-256 key, signed with that key."


class BadKey(Invalid):
    """A stored key cannot be read."""

    code = "bad_key"
    remedy = "Restore the key's file, or remove it to get a new identity."


class BadFingerprint(Invalid):
    code = "bad_fingerprint"
    remedy = "Give the 64 hex digits of SHA-256; colons and blanks may stand between."


class BadName(Invalid):
    code = "bad_name"
    remedy = "Use up to 64 of a-z, A-Z, 0-9, '.', '_' and '-'."


class SignatureRefused(Denied):
    """Something is not signed by the key that it names."""

    code = "signature_refused"
    remedy = "Sign with the key of the certificate, or ask for admission anew."


@dataclass(frozen=True, slots=True)
class Subject:
    name: str
    role: Role
    fleet_id: FleetId


def make_key() -> Key:
    """Return a fresh private key."""
    return ec.generate_private_key(ec.SECP256R1())


def dump_key(key: Key) -> Secret:
    """Return a key as PEM, without a passphrase."""
    return Secret(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
    )


def load_key(pem: Secret) -> Key:
    """Return the key in a PEM text; BadKey if it holds none on P-256."""
    try:
        key = serialization.load_pem_private_key(pem.reveal().encode(), None)
    except (ValueError, TypeError) as error:
        raise BadKey("the key cannot be read") from error
    if not isinstance(key, Key) or key.curve.name != "secp256r1":
        raise BadKey("the key is not on P-256")
    return key


def self_signed(key: Key, name: str, now: datetime) -> str:
    """Return the certificate that a waiting node shows, trusted by fingerprint."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, check_name(name))])
    return _sign_certificate(
        _builder(subject, subject, key.public_key(), now, SELF_SIGNED_DAYS * DAY_S)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(_both_usages(), False),
        key,
    )


def make_ca(key: Key, fleet_id: FleetId, now: datetime) -> str:
    """Return the certificate of a fleet's CA."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, fleet_id),
            x509.NameAttribute(NameOID.COMMON_NAME, "Skerry CA"),
        ]
    )
    return _sign_certificate(
        _builder(subject, subject, key.public_key(), now, CA_DAYS * DAY_S)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(_ca_key_usage(), True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False
        ),
        key,
    )


def signing_request(key: Key, name: str) -> str:
    """Return a request for a certificate; only name and key in it count."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, check_name(name))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return _pem(builder.sign(key, hashes.SHA256()))


def request_name(csr: str) -> str:
    """Return the name in a request; BadSigningRequest unless it is well signed."""
    return _common_name(_load_request(csr).subject)


def request_key_fingerprint(csr: str) -> Fingerprint:
    """Return the fingerprint of the key that a request is for."""
    return _key_fingerprint(_public_key(_load_request(csr)))


def issue(
    ca_key: Key,
    ca_certificate: str,
    csr: str,
    subject: Subject,
    alternatives: Iterable[str],
    now: datetime,
    lifetime_s: float,
) -> str:
    """Return a certificate for the key in a request, good as server and client.

    `alternatives` are the addresses and names it may be reached by.
    """
    authority = _load(ca_certificate)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.fleet_id),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, subject.role.value),
            x509.NameAttribute(NameOID.COMMON_NAME, check_name(subject.name)),
        ]
    )
    public_key = _public_key(_load_request(csr))
    names = [_general_name(text) for text in dict.fromkeys(alternatives) if text]
    return _sign_certificate(
        _builder(name, authority.subject, public_key, now, lifetime_s)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(_both_usages(), False)
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            False,
        ),
        ca_key,
    )


def revocation_list(
    ca_key: Key, ca_certificate: str, serials: Iterable[int], now: datetime
) -> str:
    """Return the list of revoked certificates, as nginx reads it.

    It never grows stale: whoever holds it is the one who writes it.
    """
    moment = now.replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(_load(ca_certificate).subject)
        .last_update(moment - timedelta(seconds=BACKDATED_S))
        .next_update(moment + timedelta(days=CA_DAYS))
    )
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(serial)
            .revocation_date(moment)
            .build()
        )
    return _pem(builder.sign(ca_key, hashes.SHA256()))


def fingerprint(certificate: str) -> Fingerprint:
    """Return SHA-256 of a certificate, as a person compares it."""
    return fingerprint_of_der(_load(certificate).public_bytes(_DER))


def fingerprint_of_der(der: bytes) -> Fingerprint:
    """Return SHA-256 of a certificate as TLS shows it."""
    return Fingerprint(hashlib.sha256(der).hexdigest())


def key_fingerprint(certificate: str) -> Fingerprint:
    """Return SHA-256 of a certificate's public key: the same after a renewal."""
    return _key_fingerprint(_public_key(_load(certificate)))


def key_fingerprint_of_der(der: bytes) -> Fingerprint:
    """Return SHA-256 of the public key in a certificate as TLS shows it."""
    return _key_fingerprint(_public_key(_load_der(der)))


def parse_fingerprint(text: str) -> Fingerprint:
    """Return a fingerprint as a person types it: any case, colons, blanks."""
    digits = re.sub(r"[:\s]", "", text).lower()
    if not _FINGERPRINT.fullmatch(digits):
        raise BadFingerprint(f"{text[:100]!r} is not a SHA-256 fingerprint")
    return Fingerprint(digits)


def check_name(name: str) -> str:
    """Return a name that may stand in a certificate; BadName if it may not."""
    if not NAME_PATTERN.fullmatch(name):
        raise BadName(f"{name[:80]!r} cannot stand in a certificate", field="name")
    return name


def subject_of(certificate: str) -> Subject:
    """Return for whom a fleet's certificate speaks; BadCertificate if for none."""
    return _subject(_load(certificate))


def subject_of_der(der: bytes) -> Subject:
    """Return for whom a certificate as TLS shows it speaks; BadCertificate."""
    return _subject(_load_der(der))


def fleet_of(ca_certificate: str) -> FleetId:
    """Return the fleet whose CA this is."""
    name = _load(ca_certificate).subject
    return FleetId(_attribute(name, NameOID.ORGANIZATION_NAME))


def alternatives_of(certificate: str) -> frozenset[str]:
    """Return the addresses and names that a certificate may be reached by."""
    try:
        extension = _load(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(str(each.value) for each in extension.value)


def serial(certificate: str) -> int:
    """Return the number that the CA gave a certificate."""
    return _load(certificate).serial_number


def valid_from(certificate: str) -> datetime:
    """Return when a certificate's life begins, in UTC."""
    return _load(certificate).not_valid_before_utc


def expires_at(certificate: str) -> datetime:
    """Return when a certificate's life ends, in UTC."""
    return _load(certificate).not_valid_after_utc


def renewal_at(certificate: str) -> datetime:
    """Return when two thirds of a certificate's life are over."""
    begin, end = valid_from(certificate), expires_at(certificate)
    return begin + (end - begin) * 2 / 3


def check_issued_by(certificate: str, ca_certificate: str) -> None:
    """Raise SignatureRefused unless the CA signed it; dates do not count."""
    authority = _load(ca_certificate)
    try:
        _load(certificate).verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise SignatureRefused(
            "the certificate was not issued by this fleet's CA",
            fingerprint=fingerprint(certificate),
        ) from error


def check_is_for(certificate: str, key: Key) -> None:
    """Raise BadCertificate unless a certificate is for our key."""
    if key_fingerprint(certificate) != _key_fingerprint(key.public_key()):
        raise BadCertificate("the certificate is for another key than ours")


def sign(key: Key, text: str) -> str:
    """Return a signature of a text, in base64."""
    return b64encode(key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))).decode()


def check_signature(certificate: str, text: str, signature: str) -> None:
    """Raise SignatureRefused unless the certificate's key signed the text."""
    try:
        _public_key(_load(certificate)).verify(
            b64decode(signature, validate=True),
            text.encode(),
            ec.ECDSA(hashes.SHA256()),
        )
    except (InvalidSignature, ValueError) as error:
        raise SignatureRefused("the signature is not by the certificate's key") from (
            error
        )


def token_proof(secret: Secret, aggregator: Fingerprint, csr: str) -> str:
    """Return what shows that a node holds a token, bound to both keys."""
    text = f"skerry-enrolment\n{aggregator}\n{csr}"
    return hmac.new(secret.reveal().encode(), text.encode(), hashlib.sha256).hexdigest()


def is_token_proof(
    proof: str, secret: Secret, aggregators: Iterable[Fingerprint], csr: str
) -> bool:
    """Tell whether a proof holds for one of the aggregator's own fingerprints."""
    given = proof.encode()
    return any(
        hmac.compare_digest(given, token_proof(secret, each, csr).encode())
        for each in aggregators
    )


def client_context(
    ca_certificate: str, certificate_path: str, key_path: str
) -> ssl.SSLContext:
    """Return how we call other members: our certificate, their CA, TLS 1.2 and up.

    Only for `node.http.links`, which checks who answers: the host name does not count.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.load_verify_locations(cadata=ca_certificate)
    context.load_cert_chain(certificate_path, key_path)
    return context


_DER = serialization.Encoding.DER


@functools.lru_cache(_LOADED_MAX)
def _load(certificate: str) -> x509.Certificate:
    with _refusing(BadCertificate, "the certificate cannot be read"):
        return _whole(x509.load_pem_x509_certificate(certificate.encode()))


def _load_der(der: bytes) -> x509.Certificate:
    with _refusing(BadCertificate, "the certificate cannot be read"):
        return _whole(x509.load_der_x509_certificate(der))


def _whole(loaded: x509.Certificate) -> x509.Certificate:
    """Read also what is read of a certificate only when it is asked for."""
    _ = (loaded.subject, loaded.not_valid_after_utc, loaded.public_key())
    return loaded


def _load_request(csr: str) -> x509.CertificateSigningRequest:
    with _refusing(BadSigningRequest, "the request cannot be read"):
        request = x509.load_pem_x509_csr(csr.encode())
        _ = (request.subject, request.public_key())
        is_signed = request.is_signature_valid
    if not is_signed:
        raise BadSigningRequest("the request is not signed by its own key")
    return request


@contextmanager
def _refusing(kind: type[Invalid], message: str) -> Iterator[None]:
    """Refuse what strangers send in a form that no certificate has."""
    try:
        yield
    # KeyError: a string of a type that the library does not know
    except (ValueError, TypeError, KeyError, UnsupportedAlgorithm) as error:
        raise kind(f"{message}: {error}") from error


def _public_key(
    bearer: x509.Certificate | x509.CertificateSigningRequest,
) -> ec.EllipticCurvePublicKey:
    key = bearer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise BadSigningRequest("the key is not on P-256")
    return key


def _key_fingerprint(key: ec.EllipticCurvePublicKey) -> Fingerprint:
    der = key.public_bytes(_DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Fingerprint(hashlib.sha256(der).hexdigest())


def _subject(certificate: x509.Certificate) -> Subject:
    name = certificate.subject
    try:
        role = Role(_attribute(name, NameOID.ORGANIZATIONAL_UNIT_NAME))
    except ValueError as error:
        raise BadCertificate("the certificate names no role of ours") from error
    fleet_id = FleetId(_attribute(name, NameOID.ORGANIZATION_NAME))
    return Subject(_common_name(name), role, fleet_id)


def _common_name(name: x509.Name) -> str:
    return _attribute(name, NameOID.COMMON_NAME)


def _attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    found = name.get_attributes_for_oid(oid)
    return str(found[0].value) if len(found) == 1 else ""


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text.encode("idna").decode())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime_s: float,
) -> x509.CertificateBuilder:
    # At most half of the life lies in the past, so that a short one works too.
    backdated_s = min(BACKDATED_S, lifetime_s / 2)
    moment = now.astimezone(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(seconds=backdated_s))
        .not_valid_after(moment + timedelta(seconds=lifetime_s))
    )


def _both_usages() -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    )


def _ca_key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _sign_certificate(builder: x509.CertificateBuilder, key: Key) -> str:
    return _pem(builder.sign(key, hashes.SHA256()))


def _pem(
    signed: (
        x509.Certificate
        | x509.CertificateSigningRequest
        | x509.CertificateRevocationList
    ),
) -> str:
    return signed.public_bytes(serialization.Encoding.PEM).decode()
