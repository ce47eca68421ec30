"""Check what a node says of itself when it asks to be admitted. Pure."""

import re
from collections.abc import Iterable
from typing import Final

from aggregator.fleet.members import Member
from node import pki
from node.errors import Conflict
from node.model.fleet import AdmissionRequest
from node.model.ids import NodeId

NAME_BYTES_MAX: Final = 255  # of a node's name, as of all names
_NODE_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class WrongNode(Conflict):
    """What answers is not the node that was meant, or no node at all."""

    code = "wrong_node"
    remedy = "Check the address, and the node's id and name on its console."


class NameTaken(Conflict):
    code = "name_taken"
    remedy = "Give the node another name in its configuration, then admit it."


def check(request: AdmissionRequest, address: str, expected: NodeId | None) -> None:
    """Refuse a request that is not about the node that was meant; WrongNode."""
    node_id, name = request.node_id, request.name
    if not _NODE_ID.fullmatch(node_id):
        raise WrongNode(f"{node_id[:80]!r} is no node id")
    if not 0 < len(name.encode()) <= NAME_BYTES_MAX:
        raise WrongNode("the node's name is empty or too long")
    if expected is not None and node_id != expected:
        raise WrongNode(f"at {address} is node {node_id}, not {expected}")
    if pki.request_name(request.csr) != node_id:
        raise WrongNode("the node's signing request is for another node")


def check_name(node_id: NodeId, name: str, members: Iterable[Member]) -> None:
    """Refuse a name that another node has; NameTaken."""
    for other in members:
        if other.node_id != node_id and other.name.casefold() == name.casefold():
            raise NameTaken(f"another node is called {name}", node=name)
