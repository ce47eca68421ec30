"""The admission face: what it takes, and how it answers what it does not."""

from dataclasses import dataclass, field

from aggregator import admission
from aggregator.fleet import tokens
from node import wire
from node.errors import Error
from node.model.fleet import (
    Admission,
    Enrolment,
    Renewal,
    RenewedCertificate,
)
from node.model.ids import FleetId
from tests.fakes.doorsteps import FakeNode

GIVEN = Admission(FleetId("f"), 1, "certificate", "ca", ())
ASKED = Enrolment("token-1", "proof", FakeNode().request(), "10.0.0.1")


@dataclass(slots=True)
class FakeRegistry:
    error: Error | None = None
    asked: list[tuple[object, str]] = field(default_factory=list)

    def enrol(self, enrolment: Enrolment, peer_address: str) -> Admission:
        self.asked.append((enrolment, peer_address))
        if self.error is not None:
            raise self.error
        return GIVEN

    def renew(self, renewal: Renewal) -> RenewedCertificate:
        self.asked.append((renewal, ""))
        return RenewedCertificate("fresh", "ca")


def post(path: str, body: bytes, nodes: FakeRegistry) -> tuple[int, bytes]:
    app = admission.create_app(nodes)
    reply = app.test_client().post(
        path,
        data=body,
        content_type="application/json",
        headers={"X-Real-IP": "192.0.2.7"},
    )
    return reply.status_code, reply.data


def test_enrolment_passes_on_request_and_address() -> None:
    nodes = FakeRegistry()
    status, body = post("/v1/enrolment", wire.encode(ASKED), nodes)
    assert status == 200
    assert wire.decode(Admission, body) == GIVEN
    assert nodes.asked == [(ASKED, "192.0.2.7")]


def test_enrolment_answers_a_refusal_without_its_cause() -> None:
    nodes = FakeRegistry(tokens.TokenRefused("forged"))
    status, body = post("/v1/enrolment", wire.encode(ASKED), nodes)
    assert status == 403
    assert b"token_refused" in body
    assert b"forged" not in body


def test_enrolment_refuses_what_is_no_request() -> None:
    status, _ = post("/v1/enrolment", b'{"token_id": 1}', FakeRegistry())
    assert status == 400


def test_renewal_gives_a_fresh_certificate() -> None:
    asked = Renewal("old", "csr", "signature")
    status, body = post("/v1/renewal", wire.encode(asked), FakeRegistry())
    assert status == 200
    assert wire.decode(RenewedCertificate, body).certificate == "fresh"


def test_nothing_else_is_served() -> None:
    status, _ = post("/v1/nodes/admit", b"{}", FakeRegistry())
    assert status == 404
