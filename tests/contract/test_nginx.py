"""The real nginx lets in whom it should, on loopback, with real certificates.

Behind each door stands a program that answers with the headers it was sent.
"""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from aggregator import authority
from aggregator import nginx as aggregator_nginx
from node import pki
from node.api import nginx as node_nginx
from node.clock import SystemClock
from node.host import enrol
from node.http import client, front, links, pinned
from node.log import Secret
from node.model.fleet import Role
from node.model.ids import Fingerprint, FleetId, NodeId
from tests.fakes.papers import PaperFleet
from tests.ports import free_ports

pytestmark = pytest.mark.real
DEADLINE_S = 30.0
FLEET = FleetId("0f1e2d3c-0000-4000-8000-000000000001")
NODE_ID = NodeId("11111111-2222-4333-8444-000000000001")
FORGED = {
    "X-Skerry-Role": "aggregator",
    "X-Skerry-Subject": "evil",
    "X-Skerry-Fingerprint": "evil",
    "X-Skerry-Refused": "evil",
    "X_Skerry_Role": "aggregator",
    "X-Real-IP": "8.8.8.8",
}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any


@dataclass(slots=True)
class Caller:
    """Who calls: a certificate and its key in files, or nobody."""

    certificate: Path | None = None
    key: Path | None = None

    def get(self, port: int, headers: dict[str, str] | None = None) -> Answer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=context, timeout=DEADLINE_S
        )
        try:
            connection.request("GET", "/v1/x", headers=headers or {})
            reply = connection.getresponse()
            return Answer(reply.status, json.loads(reply.read()))
        finally:
            connection.close()


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({key.lower(): value for key, value in self.headers.items()})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *arguments: object) -> None:
        return


@contextmanager
def echoing(path: Path) -> Iterator[None]:
    with socketserver.ThreadingUnixStreamServer(str(path), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


@contextmanager
def running(run_folder: Path, render: Callable[[], str]) -> Iterator[front.Front]:
    """Run nginx; whatever it says lands in its log."""
    if os.geteuid() != 0 or shutil.which("nginx") is None:
        pytest.skip("needs root and nginx")
    served = front.Front(run_folder, render)
    served.refresh()
    with (run_folder / "log").open("wb") as log:
        process = subprocess.Popen(served.argv(), stdout=log, stderr=log)
    try:
        wait_until((run_folder / "nginx.pid").exists)
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def write_caller(
    folder: Path,
    name: str,
    fleet: PaperFleet,
    role: Role = Role.AGGREGATOR,
    lifetime_s: float = 3600,
) -> Caller:
    key = pki.make_key()
    certificate = fleet.issue(
        pki.signing_request(key, name), name, role, lifetime_s=lifetime_s
    )
    caller = Caller(folder / f"{name}.pem", folder / f"{name}.key")
    assert caller.certificate is not None
    assert caller.key is not None
    caller.certificate.write_text(certificate)
    caller.key.write_text(pki.dump_key(key).reveal())
    return caller


@dataclass(frozen=True, slots=True)
class NodeSide:
    fleet: PaperFleet
    folder: Path
    front: front.Front
    api_port: int
    admission_port: int
    self_signed: str

    def caller(self, name: str, **more: Any) -> Caller:
        return write_caller(self.folder, name, self.fleet, **more)


@pytest.fixture(scope="module")
def node_side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeSide]:
    folder = tmp_path_factory.mktemp("node")
    run, keys = folder / "run", folder / "pki"
    run.mkdir()
    keys.mkdir()
    fleet = PaperFleet(now=datetime.now(UTC))
    key = pki.make_key()
    csr = pki.signing_request(key, NODE_ID)
    self_signed = pki.self_signed(key, NODE_ID, fleet.now)
    for name, text in {
        enrol.KEY: pki.dump_key(key).reveal(),
        enrol.SELF_SIGNED: self_signed,
        enrol.MEMBER: fleet.issue(csr),
        enrol.CA: fleet.ca,
    }.items():
        (keys / name).write_text(text)
    api_port, admission_port, transfer_port = free_ports(3)

    def render() -> str:
        return node_nginx.render(
            node_nginx.NodeFront(
                run,
                keys,
                api_port,
                admission_port,
                transfer_port,
                is_member=True,
                has_ipv6=False,
                user="root",
            )
        )

    with (
        echoing(run / "nginx.sock"),
        echoing(run / "admission.sock"),
        running(run, render) as served,
    ):
        yield NodeSide(fleet, folder, served, api_port, admission_port, self_signed)


def test_api_says_who_an_aggregator_is(node_side: NodeSide) -> None:
    answer = node_side.caller("a1").get(node_side.api_port, FORGED)
    assert answer.status == 200
    assert answer.body["x-skerry-role"] == "aggregator"
    assert answer.body["x-skerry-subject"] == "a1"
    assert answer.body["x-real-ip"] == "127.0.0.1"
    assert "x_skerry_role" not in answer.body
    assert len(answer.body["x-skerry-fingerprint"]) == 40


def test_api_says_who_a_node_is(node_side: NodeSide) -> None:
    caller = node_side.caller(NODE_ID, role=Role.NODE)
    answer = caller.get(node_side.api_port, FORGED)
    assert answer.body["x-skerry-role"] == "node"
    assert answer.body["x-skerry-subject"] == NODE_ID


def test_api_refuses_who_has_no_certificate(node_side: NodeSide) -> None:
    answer = Caller().get(node_side.api_port)
    assert answer.status == 403
    assert answer.body["x-skerry-refused"] == "NONE"


def test_api_refuses_a_certificate_of_another_fleet(node_side: NodeSide) -> None:
    foreign = PaperFleet(now=datetime.now(UTC))
    caller = write_caller(node_side.folder, "foreign", foreign)
    assert caller.get(node_side.api_port).status == 403


def test_api_refuses_a_self_signed_certificate(node_side: NodeSide) -> None:
    keys = node_side.folder / "pki"
    caller = Caller(keys / enrol.SELF_SIGNED, keys / enrol.KEY)
    answer = caller.get(node_side.api_port, FORGED)
    assert answer.status == 403
    assert answer.body["x-skerry-refused"].startswith("FAILED:")
    assert "x-skerry-role" not in answer.body


def test_api_refuses_a_certificate_that_ended(node_side: NodeSide) -> None:
    node_side.fleet.now -= timedelta(days=2)
    try:
        caller = node_side.caller("late", lifetime_s=60)
    finally:
        node_side.fleet.now += timedelta(days=2)
    assert caller.get(node_side.api_port).status == 403


def test_admission_knows_nobody(node_side: NodeSide) -> None:
    answer = node_side.caller("a1").get(node_side.admission_port, FORGED)
    assert answer.status == 200
    assert not [key for key in answer.body if key.startswith("x-skerry")]
    assert "x_skerry_role" not in answer.body


def test_admission_answers_whoever_pins_its_fingerprint(node_side: NodeSide) -> None:
    for pin in (
        pki.fingerprint(node_side.self_signed),
        pki.key_fingerprint(node_side.self_signed),
        None,
    ):
        transport = pinned.PinnedTransport("127.0.0.1", node_side.admission_port, pin)
        assert transport.exchange("GET", "/x", None, {}, DEADLINE_S).status == 200


def test_admission_is_sent_nothing_when_its_fingerprint_is_another(
    node_side: NodeSide,
) -> None:
    transport = pinned.PinnedTransport(
        "127.0.0.1", node_side.admission_port, Fingerprint("0" * 64)
    )
    with pytest.raises(pinned.FingerprintRefused):
        transport.exchange("GET", "/x", None, {}, DEADLINE_S)


def test_exchange_reports_a_port_where_nobody_listens() -> None:
    (port,) = free_ports(1)
    transport = pinned.PinnedTransport("127.0.0.1", port, None)
    with pytest.raises(client.NodeUnreachable):
        transport.exchange("GET", "/x", None, {}, DEADLINE_S)


def test_api_refuses_a_body_that_is_too_large(node_side: NodeSide) -> None:
    transport = pinned.PinnedTransport("127.0.0.1", node_side.admission_port, None)
    reply = transport.exchange("POST", "/x", b"x" * 3_000_000, {}, DEADLINE_S)
    assert reply.status == 400
    assert client.error_of(reply).code == "body_too_large"


def test_api_serves_the_member_certificate(node_side: NodeSide) -> None:
    context = ssl.create_default_context(cadata=node_side.fleet.ca)
    caller = node_side.caller("a1")
    assert caller.certificate is not None
    context.load_cert_chain(caller.certificate, caller.key)
    transport = client.TlsTransport("127.0.0.1", node_side.api_port, context)
    assert transport.exchange("GET", "/x", None, {}, DEADLINE_S).status == 200


@dataclass(frozen=True, slots=True)
class AggregatorSide:
    authority: authority.Authority
    folder: Path
    front: front.Front
    https_port: int
    feed_port: int
    admission_port: int

    def caller(self, name: str, node_id: NodeId) -> tuple[Caller, int]:
        key = pki.make_key()
        csr = pki.signing_request(key, node_id)
        certificate = self.authority.issue_node(csr, node_id, ("127.0.0.1",), 3600)
        caller = Caller(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        assert caller.certificate is not None
        assert caller.key is not None
        caller.certificate.write_text(certificate)
        caller.key.write_text(pki.dump_key(key).reveal())
        return caller, pki.serial(certificate)


def _exchanged(transport: links.KeptTransport) -> str:
    """Return the number of the connection that a request went through."""
    reply = transport.exchange("GET", "/v1/x", None, {}, DEADLINE_S)
    assert reply.status == 200
    return str(json.loads(reply.body)["x-skerry-connection"])


@pytest.fixture(scope="module")
def aggregator_side(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AggregatorSide]:
    folder = tmp_path_factory.mktemp("aggregator")
    run, state = folder / "run", folder / "state"
    run.mkdir()
    authority.create(state, FLEET, SystemClock())
    ca = authority.Authority(state, SystemClock())
    ca.prepare_own("a1", "127.0.0.1")
    ca.write_revoked([])
    https_port, feed_port, admission_port = free_ports(3)

    def render() -> str:
        text = aggregator_nginx.render(
            aggregator_nginx.AggregatorFront(
                run, state, https_port, feed_port, admission_port, False, "root"
            )
        )
        scheme = "proxy_set_header X-Forwarded-Proto https;"
        number = "proxy_set_header X-Skerry-Connection $connection;"
        return text.replace(scheme, f"{scheme} {number}")

    with (
        echoing(run / "people.sock"),
        echoing(run / "ingest.sock"),
        echoing(run / "admission.sock"),
        running(run, render) as served,
    ):
        yield AggregatorSide(ca, folder, served, https_port, feed_port, admission_port)


def test_people_need_no_certificate_and_have_no_role(
    aggregator_side: AggregatorSide,
) -> None:
    headers = {**FORGED, "X-Skerry-Live": "1", "Host": "fleet.example:8443"}
    answer = Caller().get(aggregator_side.https_port, headers)
    assert answer.status == 200
    assert "x-skerry-role" not in answer.body
    assert answer.body["x-skerry-live"] == "1"
    assert answer.body["host"] == "fleet.example:8443"
    assert answer.body["x-forwarded-proto"] == "https"


def test_feed_says_which_node_pushes(aggregator_side: AggregatorSide) -> None:
    caller, _ = aggregator_side.caller("n1", NODE_ID)
    answer = caller.get(aggregator_side.feed_port, FORGED)
    assert answer.body["x-skerry-subject"] == NODE_ID
    assert answer.body["x-skerry-role"] == "node"


def test_kept_connection_outlives_a_reload_of_nginx(
    aggregator_side: AggregatorSide,
) -> None:
    caller, _ = aggregator_side.caller("kept", NODE_ID)
    ca = aggregator_side.authority.ca_certificate
    context = pki.client_context(ca, str(caller.certificate), str(caller.key))
    peer = links.Peer("a1", Role.AGGREGATOR)
    port = aggregator_side.feed_port
    transport = links.KeptTransport("127.0.0.1", port, peer, lambda: context)
    with contextlib.closing(transport):
        before = _exchanged(transport)
        assert _exchanged(transport) == before
        assert aggregator_side.front.refresh()
        # the old worker closes what it kept; nobody notices but by the port
        wait_until(lambda: _exchanged(transport) != before)


def test_feed_refuses_who_has_no_certificate(aggregator_side: AggregatorSide) -> None:
    assert Caller().get(aggregator_side.feed_port).status == 403


def test_feed_refuses_a_revoked_certificate_from_then_on(
    aggregator_side: AggregatorSide,
) -> None:
    revoked, serial = aggregator_side.caller("revoked", NODE_ID)
    other, _ = aggregator_side.caller("other", NODE_ID)
    assert revoked.get(aggregator_side.feed_port).status == 200
    aggregator_side.authority.write_revoked([serial])
    assert aggregator_side.front.refresh()
    wait_until(lambda: revoked.get(aggregator_side.feed_port).status == 403)
    assert other.get(aggregator_side.feed_port).status == 200


def test_admission_needs_no_certificate_and_gives_no_role(
    aggregator_side: AggregatorSide,
) -> None:
    answer = Caller().get(aggregator_side.admission_port, FORGED)
    assert answer.status == 200
    assert "x-skerry-role" not in answer.body


def test_admission_is_found_by_its_key_when_its_certificate_ended(
    aggregator_side: AggregatorSide,
) -> None:
    """A renewal reaches an aggregator that could not renew itself."""
    state = aggregator_side.folder / "state"
    ca = aggregator_side.authority
    key = pki.load_key(Secret((state / authority.KEY).read_text()))
    pin = ca.key_fingerprint()
    good = ca.certificate()
    ended = pki.issue(
        pki.load_key(ca.ca_key()),
        ca.ca_certificate,
        pki.signing_request(key, "a1"),
        pki.Subject("a1", Role.AGGREGATOR, FLEET),
        ("127.0.0.1",),
        datetime.now(UTC) - timedelta(hours=9),
        60,
    )
    (state / authority.CERTIFICATE).write_text(ended)
    aggregator_side.front.refresh()
    port = aggregator_side.admission_port
    try:
        wait_until(lambda: _served(port) == pki.fingerprint(ended))
        transport = pinned.PinnedTransport("127.0.0.1", port, pin)
        assert transport.exchange("GET", "/x", None, {}, DEADLINE_S).status == 200
    finally:
        (state / authority.CERTIFICATE).write_text(good)
        aggregator_side.front.refresh()
        wait_until(lambda: _served(port) == pki.fingerprint(good))


def test_people_are_told_when_the_service_is_down(
    aggregator_side: AggregatorSide,
) -> None:
    path = aggregator_side.folder / "run" / "people.sock"
    aside = path.with_name("aside.sock")
    path.rename(aside)
    try:
        answer = Caller().get(aggregator_side.https_port)
    finally:
        aside.rename(path)
    assert answer.status == 503
    assert answer.body["error"]["code"] == "service_down"


def _served(port: int) -> Fingerprint:
    text = ssl.get_server_certificate(("127.0.0.1", port), timeout=DEADLINE_S)
    return pki.fingerprint(text)
