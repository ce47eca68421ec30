"""Issue certificates to simulated nodes, by the CA of the aggregator at hand."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aggregator import authority
from node import pki
from node.clock import SystemClock
from node.model.ids import NodeId
from node.units import DAY_S
from tests.scale import simulated

ADDRESS: Final = "127.0.0.1"


def write(pki_folder: Path, nodes: Iterable[int], folder: Path) -> None:
    """Write <node id>.pem with key and certificate for each node."""
    folder.mkdir(mode=0o700)
    fleet = authority.Authority(pki_folder, SystemClock())
    for index in nodes:
        node_id = simulated.node_id(index)
        path = folder / f"{node_id}.pem"
        path.write_text(_issue(fleet, node_id))


def _issue(fleet: authority.Authority, node_id: NodeId) -> str:
    key = pki.make_key()
    request = pki.signing_request(key, node_id)
    certificate = fleet.issue_node(request, node_id, (ADDRESS,), DAY_S)
    return pki.dump_key(key).reveal() + certificate
