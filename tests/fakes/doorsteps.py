"""Nodes as an aggregator reaches them: by address, fingerprint and key."""

from dataclasses import dataclass, field, replace

from aggregator.fleet import reach
from node import pki
from node.errors import Conflict, Error
from node.http import client, pinned
from node.model.fleet import (
    Admission,
    AdmissionRequest,
    Membership,
    Renewal,
    SealedFleet,
)
from node.model.host import AdmissionState, NodeStatus
from node.model.ids import Fingerprint, NodeId

NODE_ID = NodeId("11111111-2222-4333-8444-000000000001")
FINGERPRINT = Fingerprint("f" * 64)


@dataclass(slots=True)
class FakeNode:
    """One node: a doorstep before it is a member, an API afterwards."""

    node_id: NodeId = NODE_ID
    name: str = "n1"
    fingerprint: Fingerprint = FINGERPRINT
    key: pki.Key = field(default_factory=pki.make_key)
    admission: Admission | None = None
    memberships: list[Membership] = field(default_factory=list)
    sealed: SealedFleet | None = None
    leaves: int = 0
    error: Error | None = None  # raised by everything that is asked

    def request(self) -> AdmissionRequest:
        ca = pki.fingerprint(self.admission.ca_certificate) if self.admission else None
        return AdmissionRequest(
            self.node_id,
            self.name,
            "0.1.0",
            self.fingerprint,
            pki.signing_request(self.key, self.node_id),
            is_waiting=self.admission is None,
            ca_fingerprint=ca,
        )

    def admission_show(self) -> AdmissionRequest:
        self._fail()
        return self.request()

    def admit(self, request: Admission) -> Membership:
        self._fail()
        ca = pki.fingerprint(request.ca_certificate)
        if self.admission is not None and self.request().ca_fingerprint != ca:
            raise Conflict("this node belongs to another fleet")
        self.admission = request
        return Membership(request.fleet_id, request.term, request.aggregators, ca)

    def sealed_show(self) -> SealedFleet:
        self._fail()
        assert self.sealed is not None
        return self.sealed

    def aggregators_put(self, request: Membership) -> Membership:
        self._fail()
        self.memberships.append(request)
        return request

    def leave(self) -> NodeStatus:
        self._fail()
        self.leaves += 1
        self.admission = None
        return NodeStatus(
            self.node_id,
            self.name,
            "10.0.0.1",
            "0.1.0",
            self.fingerprint,
            AdmissionState.WAITING,
            "",
            "epoch",
            1,
            0,
            0,
            0,
        )

    def renewal(self) -> Renewal:
        assert self.admission is not None
        csr = pki.signing_request(self.key, self.node_id)
        signature = pki.sign(self.key, csr)
        return Renewal(self.admission.certificate, csr, signature)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass(slots=True)
class Street:
    """Which node answers at which address."""

    nodes: dict[str, FakeNode] = field(default_factory=dict)

    def knock(self, address: str, port: int, pin: Fingerprint | None) -> reach.Doorstep:
        node = self.nodes.get(address)
        if node is None:
            raise client.NodeUnreachable(f"nobody at {address}")
        if pin not in (None, node.fingerprint):
            error = pinned.FingerprintRefused(f"{address} has another fingerprint")
            return replace(node, error=error)
        return node


_typed: type[reach.MemberNode] = FakeNode
