"""A fleet's CA for tests: it issues what a real aggregator would."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from node import pki
from node.model.fleet import Admission, AggregatorAddress, Role
from node.model.ids import Fingerprint, FleetId, NodeId

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
FLEET = FleetId("0f1e2d3c-0000-4000-8000-000000000001")
NODE_ID = NodeId("11111111-2222-4333-8444-000000000001")
AGGREGATOR = AggregatorAddress("a1", "127.0.0.1", 7442, 7443, Fingerprint("a" * 64))


@dataclass(slots=True)
class PaperFleet:
    fleet_id: FleetId = FLEET
    now: datetime = NOW
    key: pki.Key = field(default_factory=pki.make_key)
    ca: str = ""

    def __post_init__(self) -> None:
        self.ca = pki.make_ca(self.key, self.fleet_id, self.now)

    def issue(
        self,
        csr: str,
        name: str = NODE_ID,
        role: Role = Role.NODE,
        lifetime_s: float = 3600.0,
    ) -> str:
        subject = pki.Subject(name, role, self.fleet_id)
        names = ("127.0.0.1", "localhost")
        return pki.issue(self.key, self.ca, csr, subject, names, self.now, lifetime_s)

    def admission(
        self, csr: str, *, term: int = 1, name: str = NODE_ID, lifetime_s: float = 3600
    ) -> Admission:
        certificate = self.issue(csr, name, lifetime_s=lifetime_s)
        return Admission(self.fleet_id, term, certificate, self.ca, (AGGREGATOR,))
