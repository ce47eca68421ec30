"""Decide what to show of a node that announces itself.

Pure. Nothing of a sighting has been checked: anybody on the network can say it.
"""

from dataclasses import dataclass, replace

from node.model.ids import Fingerprint, NodeId
from node.model.reason import Reason


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a node says of itself on the network."""

    node_id: NodeId
    name: str
    address: str
    admission_port: int
    version: str
    fingerprint: Fingerprint
    is_waiting: bool
    ca_fingerprint: str = ""  # of its fleet, if it is a member


@dataclass(frozen=True, slots=True)
class Candidate:
    node_id: NodeId
    name: str
    address: str
    admission_port: int
    version: str
    fingerprint: Fingerprint
    first_seen: str  # RFC 3339
    last_seen: str
    problem: Reason | None = None


def next_candidate(
    sighting: Sighting,
    before: Candidate | None,
    admitted: Fingerprint | None,
    our_ca: Fingerprint,
    now: str,
) -> Candidate | None:
    """Return what to show from now on; None: the node does not want us.

    `admitted` is the fingerprint of the member with that id, if there is one. A
    node that has our CA and is no member lost its place when an aggregator did.
    """
    is_lost_member = admitted is None and sighting.ca_fingerprint == our_ca
    is_impostor = admitted is not None and admitted != sighting.fingerprint
    if not (sighting.is_waiting or is_lost_member or is_impostor):
        return None
    has_changed = before is not None and before.fingerprint != sighting.fingerprint
    problem = before.problem if before is not None else None
    if problem is None and (is_impostor or has_changed):
        problem = identity_changed(sighting.name, now)
    return Candidate(
        sighting.node_id,
        sighting.name,
        sighting.address,
        sighting.admission_port,
        sighting.version,
        sighting.fingerprint,
        before.first_seen if before is not None else now,
        now,
        problem,
    )


def identity_changed(name: str, now: str) -> Reason:
    """Return why a candidate is not to be trusted at first sight."""
    return Reason("node_identity_changed", now, {"node": name})


def differs(before: Candidate | None, after: Candidate | None) -> bool:
    """Tell whether there is news: being seen again is none."""
    if before is None or after is None:
        return before is not after
    return replace(before, last_seen=after.last_seen) != after
