"""Say which doors a node opens to the network.

Pure. Admission, for anybody, with the self-signed certificate that is known by
its fingerprint; for a member, the API with client certificates; and disks in and
out, for whoever has a ticket.
"""

from dataclasses import dataclass
from pathlib import Path

from node.host import enrol
from node.http import nginx


@dataclass(frozen=True, slots=True)
class NodeFront:
    run_folder: Path
    pki_folder: Path
    api_port: int
    admission_port: int
    transfer_port: int
    is_member: bool
    has_ipv6: bool
    user: str = "www-data"


def render(node: NodeFront) -> str:
    """Return nginx.conf of a node."""
    doors = [_admission(node)]
    if node.is_member:
        doors.append(_api(node))
    doors.append(_transfers(node))
    return nginx.render(
        nginx.Front(str(node.run_folder), tuple(doors), node.has_ipv6, node.user)
    )


def _admission(node: NodeFront) -> nginx.Door:
    return nginx.Door(
        "admission",
        "Admission: no client certificates; whoever comes here is nobody.",
        node.admission_port,
        str(node.pki_folder / enrol.SELF_SIGNED),
        str(node.pki_folder / enrol.KEY),
        str(node.run_folder / "admission.sock"),
    )


def _api(node: NodeFront) -> nginx.Door:
    return nginx.Door(
        "api",
        "The API: members of the fleet only.",
        node.api_port,
        str(node.pki_folder / enrol.MEMBER),
        str(node.pki_folder / enrol.KEY),
        str(node.run_folder / "nginx.sock"),
        ca=str(node.pki_folder / enrol.CA),
    )


def _transfers(node: NodeFront) -> nginx.Door:
    member = enrol.MEMBER if node.is_member else enrol.SELF_SIGNED
    return nginx.Door(
        "transfers",
        "Disks in and out: the ticket in the path is what lets a client in.",
        node.transfer_port,
        str(node.pki_folder / member),
        str(node.pki_folder / enrol.KEY),
        str(node.run_folder / "transfer/transfer.sock"),
        is_stream=True,
    )
