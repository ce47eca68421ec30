"""Say what we ask of a node before and after it is a member.

`node.http.client.NodeClient` is all of it; tests have their own.
"""

from typing import Protocol

from node.http import client, pinned
from node.model.fleet import Admission, AdmissionRequest, Membership, SealedFleet
from node.model.host import NodeStatus
from node.model.ids import Fingerprint


class Doorstep(Protocol):
    """A node's admission port."""

    def admission_show(self) -> AdmissionRequest: ...

    def admit(self, request: Admission) -> Membership: ...

    def sealed_show(self) -> SealedFleet: ...


class MemberNode(Protocol):
    """A member's API port."""

    def aggregators_put(self, request: Membership) -> Membership: ...

    def leave(self) -> NodeStatus: ...


class Reach(Protocol):
    def __call__(self, address: str, port: int, pin: Fingerprint | None) -> Doorstep:
        """Return a node's doorstep; no pin: only to fetch what proves itself."""


def doorstep(address: str, port: int, pin: Fingerprint | None) -> Doorstep:
    """Return the doorstep of the node at an address."""
    return client.NodeClient(pinned.PinnedTransport(address, port, pin))
