"""The CA and our own certificate."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from aggregator import authority
from node import pki
from node.log import Secret
from node.model.fleet import Role
from node.model.ids import FleetId, NodeId
from node.units import DAY_S
from tests.fakes.clock import FakeClock

FLEET = FleetId("0f1e2d3c-0000-4000-8000-000000000001")
NODE_ID = NodeId("11111111-2222-4333-8444-000000000001")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ca(tmp_path: Path, clock: FakeClock) -> authority.Authority:
    authority.create(tmp_path, FLEET, clock)
    return authority.Authority(tmp_path, clock)


def test_authority_needs_a_ca(tmp_path: Path, clock: FakeClock) -> None:
    with pytest.raises(authority.NoAuthority):
        authority.Authority(tmp_path, clock)


def test_adopt_refuses_a_key_that_does_not_fit(
    ca: authority.Authority, tmp_path: Path
) -> None:
    other = pki.dump_key(pki.make_key())
    with pytest.raises(pki.BadCertificate):
        authority.adopt(tmp_path / "other", other, ca.ca_certificate)


def test_adopt_makes_the_same_authority(
    ca: authority.Authority, tmp_path: Path, clock: FakeClock
) -> None:
    authority.adopt(tmp_path / "b", ca.ca_key(), ca.ca_certificate)
    again = authority.Authority(tmp_path / "b", clock)
    assert again.ca_fingerprint == ca.ca_fingerprint
    assert again.fleet_id == FLEET


def test_issue_node_speaks_for_a_node(ca: authority.Authority) -> None:
    csr = pki.signing_request(pki.make_key(), "whatever")
    certificate = ca.issue_node(csr, NODE_ID, ("10.0.0.1",), 60)
    assert pki.subject_of(certificate) == pki.Subject(NODE_ID, Role.NODE, FLEET)
    pki.check_issued_by(certificate, ca.ca_certificate)


def test_prepare_own_keeps_a_good_certificate(
    ca: authority.Authority, tmp_path: Path, clock: FakeClock
) -> None:
    assert ca.prepare_own("a1", "10.0.0.250")
    assert not ca.prepare_own("a1", "10.0.0.250")
    assert not authority.Authority(tmp_path, clock).prepare_own("a1", "10.0.0.250")


@pytest.mark.parametrize("change", ["name", "address", "age", "other-ca", "damaged"])
def test_prepare_own_makes_another_when_it_does_not_serve(
    ca: authority.Authority, tmp_path: Path, clock: FakeClock, change: str
) -> None:
    ca.prepare_own("a1", "10.0.0.250")
    key = ca.key_fingerprint()
    name, address = "a1", "10.0.0.250"
    if change == "name":
        name = "a2"
    elif change == "address":
        address = "10.0.0.251"
    elif change == "age":
        clock.advance(authority.OWN_DAYS * DAY_S * 0.7)
    elif change == "other-ca":
        authority.create(tmp_path, FLEET, clock)
    else:
        (tmp_path / authority.CERTIFICATE).write_text("damaged")
    ca = authority.Authority(tmp_path, clock)
    assert ca.prepare_own(name, address)
    assert ca.key_fingerprint() == key
    assert pki.subject_of(ca.certificate()).name == name


def test_prepare_own_takes_lives_of_seconds(
    ca: authority.Authority, clock: FakeClock
) -> None:
    ca.prepare_own("a1", "10.0.0.250", days=6 / DAY_S)
    assert not ca.prepare_own("a1", "10.0.0.250")
    clock.advance(5)
    assert ca.prepare_own("a1", "10.0.0.250")


def test_fingerprints_are_of_key_and_certificate(ca: authority.Authority) -> None:
    ca.prepare_own("a1", "10.0.0.250")
    certificate = ca.certificate()
    assert ca.fingerprints() == (
        pki.key_fingerprint(certificate),
        pki.fingerprint(certificate),
    )


def test_certificate_needs_to_be_prepared(ca: authority.Authority) -> None:
    with pytest.raises(authority.NoAuthority):
        ca.certificate()


def test_write_revoked_lists_serials_for_years(
    ca: authority.Authority, tmp_path: Path, clock: FakeClock
) -> None:
    ca.write_revoked([7, 9])
    text = (tmp_path / authority.REVOKED).read_bytes()
    revoked = x509.load_pem_x509_crl(text)
    assert {each.serial_number for each in revoked} == {7, 9}
    assert revoked.next_update_utc is not None
    assert revoked.next_update_utc > clock.now() + timedelta(days=3650)


def test_client_context_trusts_only_the_fleet(ca: authority.Authority) -> None:
    ca.prepare_own("a1", "10.0.0.250")
    trusted = ca.client_context().get_ca_certs()
    assert len(trusted) == 1


def test_client_context_stays_until_our_certificate_is_another(
    ca: authority.Authority,
) -> None:
    ca.prepare_own("a1", "10.0.0.250")
    before = ca.client_context()
    assert ca.client_context() is before
    ca.prepare_own("a1", "10.0.0.251")
    assert ca.client_context() is not before


def test_ca_key_stays_secret(ca: authority.Authority) -> None:
    assert isinstance(ca.ca_key(), Secret)
    assert "PRIVATE" not in repr(ca.ca_key())
