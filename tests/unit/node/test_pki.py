"""Keys, certificates and signatures: who is believed, and who is not."""

import base64
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from node import pki
from node.log import Secret
from node.model.fleet import Role
from node.model.ids import Fingerprint, FleetId

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
FLEET = FleetId("0f1e2d3c-0000-4000-8000-000000000001")
NODE_ID = "11111111-2222-4333-8444-000000000001"
SUBJECT = pki.Subject(NODE_ID, Role.NODE, FLEET)

CA_KEY = pki.make_key()
CA = pki.make_ca(CA_KEY, FLEET, NOW)
KEY = pki.make_key()
CSR = pki.signing_request(KEY, NODE_ID)


def issue(lifetime_s: float = 3600.0, csr: str = CSR) -> str:
    return pki.issue(CA_KEY, CA, csr, SUBJECT, ("10.0.0.1", "n1"), NOW, lifetime_s)


def test_issue_names_node_role_fleet_and_addresses() -> None:
    certificate = issue()
    assert pki.subject_of(certificate) == SUBJECT
    assert pki.alternatives_of(certificate) == {"10.0.0.1", "n1"}
    assert pki.key_fingerprint(certificate) == pki.request_key_fingerprint(CSR)


def test_issue_leaves_out_empty_and_doubled_alternatives() -> None:
    certificate = pki.issue(CA_KEY, CA, CSR, SUBJECT, ("n1", "", "n1"), NOW, 60)
    assert pki.alternatives_of(certificate) == {"n1"}


def test_issue_refuses_a_request_that_its_key_did_not_sign() -> None:
    other_id = NODE_ID[:-1] + "2"
    der = base64.b64decode("".join(CSR.splitlines()[1:-1]))
    altered = base64.b64encode(der.replace(NODE_ID.encode(), other_id.encode()))
    title = "CERTIFICATE REQUEST"
    forged = f"-----BEGIN {title}-----\n{altered.decode()}\n-----END {title}-----\n"
    with pytest.raises(pki.BadSigningRequest, match="not signed by its own key"):
        issue(csr=forged)


@given(st.integers(0, 200), st.integers(1, 255))
def test_issue_refuses_a_damaged_request_with_an_error_of_ours(
    at: int, change: int
) -> None:
    der = bytearray(base64.b64decode("".join(CSR.splitlines()[1:-1])))
    der[at] ^= change
    body = base64.b64encode(der).decode()
    title = "CERTIFICATE REQUEST"
    damaged = f"-----BEGIN {title}-----\n{body}\n-----END {title}-----\n"
    with pytest.raises(pki.BadSigningRequest):
        issue(csr=damaged)


@pytest.mark.parametrize(
    "name",
    ["", "a b", "x,OU=aggregator", "ü", "-n", "n" * 65, "n\n"],
    ids=["empty", "blank", "comma", "umlaut", "dash-first", "long", "newline"],
)
def test_signing_request_refuses_names_that_nginx_cannot_read(name: str) -> None:
    with pytest.raises(pki.BadName):
        pki.signing_request(KEY, name)


def test_check_issued_by_passes_over_dates() -> None:
    long_ago = NOW - timedelta(days=9000)
    old = pki.issue(CA_KEY, CA, CSR, SUBJECT, (), long_ago, 60)
    pki.check_issued_by(old, CA)


def test_check_issued_by_refuses_another_ca_of_the_same_fleet_id() -> None:
    impostor = pki.make_ca(pki.make_key(), FLEET, NOW)
    with pytest.raises(pki.SignatureRefused):
        pki.check_issued_by(issue(), impostor)


def test_check_is_for_refuses_another_key() -> None:
    with pytest.raises(pki.BadCertificate):
        pki.check_is_for(issue(), pki.make_key())


@pytest.mark.parametrize(
    "lifetime_s", [4.0, 3600.0, 365 * 86400.0], ids=["seconds", "hour", "year"]
)
def test_renewal_at_lies_ahead_and_before_the_end(lifetime_s: float) -> None:
    certificate = issue(lifetime_s)
    assert NOW < pki.renewal_at(certificate) < pki.expires_at(certificate)
    assert pki.expires_at(certificate) == NOW + timedelta(seconds=lifetime_s)


def test_fingerprint_is_that_of_the_der_form() -> None:
    der = ssl.PEM_cert_to_DER_cert(CA)
    assert pki.fingerprint(CA) == pki.fingerprint_of_der(der)
    assert pki.key_fingerprint(CA) == pki.key_fingerprint_of_der(der)
    assert pki.fingerprint(CA) != pki.key_fingerprint(CA)


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["", ":", " "]))
def test_parse_fingerprint_reads_what_people_type(raw: bytes, sign: str) -> None:
    text = raw.hex(sign).upper() if sign else raw.hex()
    assert pki.parse_fingerprint(f" {text}\n") == raw.hex()


@pytest.mark.parametrize("text", ["", "ab" * 31, "gg" * 32, "ab" * 33])
def test_parse_fingerprint_refuses_other_texts(text: str) -> None:
    with pytest.raises(pki.BadFingerprint):
        pki.parse_fingerprint(text)


@given(st.text())
def test_check_signature_holds_for_what_was_signed(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    pki.check_signature(issue(), text, pki.sign(KEY, text))


@pytest.mark.parametrize(
    ("text", "signature"),
    [
        ("altered", pki.sign(KEY, "text")),
        ("text", pki.sign(pki.make_key(), "text")),
        ("text", "no base64!"),
        ("text", ""),
    ],
    ids=["other-text", "other-key", "no-base64", "empty"],
)
def test_check_signature_refuses_everything_else(text: str, signature: str) -> None:
    with pytest.raises(pki.SignatureRefused):
        pki.check_signature(issue(), text, signature)


def test_load_key_reads_what_dump_key_wrote() -> None:
    again = pki.load_key(pki.dump_key(KEY))
    pki.check_is_for(issue(), again)


def test_load_key_refuses_other_texts() -> None:
    with pytest.raises(pki.BadKey):
        pki.load_key(Secret("no key"))


@pytest.mark.parametrize(
    "read",
    [pki.fingerprint, pki.subject_of, pki.expires_at, pki.serial],
    ids=lambda read: str(read.__name__),
)
def test_reading_refuses_what_is_no_certificate(read: object) -> None:
    assert callable(read)
    with pytest.raises(pki.BadCertificate):
        read("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def test_subject_of_refuses_a_certificate_without_a_role() -> None:
    with pytest.raises(pki.BadCertificate):
        pki.subject_of(pki.self_signed(KEY, NODE_ID, NOW))


def test_subject_of_der_is_that_of_the_text() -> None:
    der = ssl.PEM_cert_to_DER_cert(issue())
    assert pki.subject_of_der(der) == SUBJECT
    with pytest.raises(pki.BadCertificate):
        pki.subject_of_der(der[:-9])


def test_certificate_is_read_once_however_often_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate, read, texts = issue(), x509.load_pem_x509_certificate, []

    def count(text: bytes) -> x509.Certificate:
        texts.append(text)
        return read(text)

    monkeypatch.setattr(x509, "load_pem_x509_certificate", count)
    for _ in range(3):
        assert pki.subject_of(certificate) == SUBJECT
        assert pki.expires_at(certificate) > NOW
    assert len(texts) == 1


def test_token_proof_binds_secret_aggregator_and_request() -> None:
    ours = (Fingerprint("a" * 64), Fingerprint("b" * 64))
    proof = pki.token_proof(Secret("secret"), ours[1], CSR)
    assert pki.is_token_proof(proof, Secret("secret"), ours, CSR)
    assert not pki.is_token_proof(proof, Secret("other"), ours, CSR)
    assert not pki.is_token_proof(proof, Secret("secret"), ours[:1], CSR)
    other = pki.signing_request(pki.make_key(), NODE_ID)
    assert not pki.is_token_proof(proof, Secret("secret"), ours, other)
    assert not pki.is_token_proof("ü", Secret("secret"), ours, CSR)


def test_fleet_of_returns_the_fleet_of_a_ca() -> None:
    assert pki.fleet_of(CA) == FLEET
