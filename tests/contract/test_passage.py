"""Disks pass the aggregator's real nginx, to nodes with real certificates."""

import hashlib
import http.client
import os
import shutil
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aggregator import authority, nginx
from aggregator.passage import WHERE, Passage
from node import pki
from node.clock import SystemClock
from node.http import front, serving
from node.model.ids import FleetId, NodeId
from node.units import MiB
from tests.contract.test_nginx import wait_until
from tests.ports import free_ports

pytestmark = pytest.mark.real

DEADLINE_S = 30.0
NODE_ID = NodeId("11111111-2222-4333-8444-000000000001")
STRANGER = NodeId("11111111-2222-4333-8444-00000000000f")
AWAY = NodeId("11111111-2222-4333-8444-0000000000aa")
# A little more than the buffers of nginx, which passes it on as it comes.
BODY = os.urandom(5 * MiB + 17)


@dataclass(frozen=True, slots=True)
class Seen:
    """What reached a node."""

    method: str
    path: str
    headers: dict[str, str]
    sha256: str


@dataclass(slots=True)
class Node:
    """A server with the certificate of a node."""

    port: int
    seen: list[Seen] = field(default_factory=list)


@contextmanager
def node_serving(
    folder: Path, ca: authority.Authority, node_id: NodeId
) -> Iterator[Node]:
    key = pki.make_key()
    csr = pki.signing_request(key, node_id)
    names = ("127.0.0.1", node_id)
    certificate, private = folder / f"{node_id}.pem", folder / f"{node_id}.key"
    certificate.write_text(ca.issue_node(csr, node_id, names, 3600))
    private.write_text(pki.dump_key(key).reveal())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    seen: list[Seen] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            summed = hashlib.sha256(body).hexdigest()
            seen.append(Seen(self.command, self.path, headers, summed))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *arguments: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield Node(server.server_address[1], seen)
        server.shutdown()
        thread.join()


@dataclass(frozen=True, slots=True)
class Aggregator:
    port: int
    node: Node
    other: Node  # another member
    foreign: Node  # of another fleet, with the node's id
    ports: dict[NodeId, int]  # where nodes are believed to serve

    def put(
        self, path: str, headers: dict[str, str] | None = None, body: bytes = BODY
    ) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context, timeout=DEADLINE_S
        )
        try:
            connection.request("PUT", path, body, headers or {})
            return connection.getresponse().status
        finally:
            connection.close()


def made_authority(folder: Path, fleet_id: str) -> authority.Authority:
    authority.create(folder, FleetId(fleet_id), SystemClock())
    made = authority.Authority(folder, SystemClock())
    made.prepare_own("a1", "127.0.0.1")
    made.write_revoked([])
    return made


@contextmanager
def nginx_running(folder: Path, run: Path, port: int) -> Iterator[None]:
    feed, admission = free_ports(2)

    def render() -> str:
        return nginx.render(
            nginx.AggregatorFront(run, folder, port, feed, admission, False, "root")
        )

    served = front.Front(run, render)
    served.refresh()
    with (run / "log").open("wb") as log:
        process = subprocess.Popen(served.argv(), stdout=log, stderr=log)
    try:
        wait_until((run / "nginx.pid").exists)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)


@pytest.fixture(scope="module")
def aggregator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aggregator]:
    if os.geteuid() != 0 or shutil.which("nginx") is None:
        pytest.skip("needs root and nginx")
    folder = tmp_path_factory.mktemp("passage")
    run, state, abroad = folder / "run", folder / "state", folder / "abroad"
    run.mkdir()
    ours = made_authority(state, "0f1e2d3c-0000-4000-8000-000000000001")
    theirs = made_authority(abroad, "0f1e2d3c-0000-4000-8000-000000000002")
    addresses = {NODE_ID: "127.0.0.1", AWAY: "127.0.0.1"}
    ports: dict[NodeId, int] = {}
    passage = Passage(addresses.get, ports.get, SystemClock())
    application = serving.by_prefix(_nowhere, {WHERE: passage})
    people = serving.Server(run / "people.sock", application, 2)
    (port,) = free_ports(1)
    with (
        node_serving(folder, ours, NODE_ID) as node,
        node_serving(folder, ours, AWAY) as other,
        node_serving(abroad, theirs, NODE_ID) as foreign,
        nginx_running(state, run, port),
    ):
        people.start()
        yield Aggregator(port, node, other, foreign, ports)
        people.stop()


@pytest.fixture(autouse=True)
def clean(aggregator: Aggregator) -> None:
    aggregator.ports.update({NODE_ID: aggregator.node.port, STRANGER: 1})
    aggregator.node.seen.clear()


def _nowhere(environ: Any, start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [("Content-Length", "0")])
    return []


def test_disk_arrives_as_it_was_sent(aggregator: Aggregator) -> None:
    path = f"/transfers/{NODE_ID}/images/a-ticket"
    headers = {"Content-Range": f"bytes 0-{len(BODY) - 1}/*"}
    assert aggregator.put(f"{path}?flush=n", headers) == 200
    (seen,) = aggregator.node.seen
    assert (seen.method, seen.path) == ("PUT", "/images/a-ticket?flush=n")
    assert seen.sha256 == hashlib.sha256(BODY).hexdigest()
    assert seen.headers["content-range"] == headers["Content-Range"]


@pytest.mark.parametrize("part", ["extents", "checksum", "checksum/algorithms"])
def test_what_is_asked_about_a_disk_arrives(aggregator: Aggregator, part: str) -> None:
    path = f"/transfers/{NODE_ID}/images/a-ticket/{part}"
    assert aggregator.put(path, body=b"") == 200
    assert aggregator.node.seen[0].path == f"/images/a-ticket/{part}"


def test_node_hears_nothing_of_who_is_logged_in(aggregator: Aggregator) -> None:
    path = f"/transfers/{NODE_ID}/images/a-ticket"
    secrets = {"Cookie": "session=secret", "Authorization": "Bearer secret"}
    assert aggregator.put(path, secrets, b"x") == 200
    (seen,) = aggregator.node.seen
    assert "secret" not in str(seen.headers)


@pytest.mark.parametrize("which", ["foreign", "other"])
def test_only_the_node_itself_is_believed(aggregator: Aggregator, which: str) -> None:
    """A server of another fleet, or of another member, listens where it should."""
    server: Node = getattr(aggregator, which)
    aggregator.ports[NODE_ID] = server.port
    path = f"/transfers/{NODE_ID}/images/a-ticket"
    assert aggregator.put(path, body=b"x") == 503
    assert server.seen == []


def test_disk_goes_to_members_only(aggregator: Aggregator) -> None:
    path = f"/transfers/{STRANGER}/images/a-ticket"
    assert aggregator.put(path, body=b"x") == 403


def test_node_that_is_away_is_told(aggregator: Aggregator) -> None:
    (aggregator.ports[NODE_ID],) = free_ports(1)
    assert aggregator.put(f"/transfers/{NODE_ID}/images/x", body=b"x") == 503


def test_node_that_serves_nothing_is_not_asked(aggregator: Aggregator) -> None:
    del aggregator.ports[NODE_ID]
    assert aggregator.put(f"/transfers/{NODE_ID}/images/x", body=b"x") == 403


@pytest.mark.parametrize(
    "path",
    [
        "/passage",
        "/passage/",
        "/transfers/{node}/v1/vms",
        "/transfers/{node}/images/a/b",
        "/transfers/{node}/images/..%2f..%2fv1%2fvms",
        "/transfers/{node}/images/a%20HTTP/1.1%0d%0aX:%20y",
        "/transfers/{node}/images/a%3fb",
        "/transfers/{node}/images/" + 65 * "a",
        "/transfers/{node}/images/",
        "/transfers/../passage",
    ],
)
def test_nothing_else_of_a_node_is_reached(aggregator: Aggregator, path: str) -> None:
    at = path.format(node=NODE_ID)
    assert aggregator.put(at, body=b"x") == 404
    assert aggregator.node.seen == []
