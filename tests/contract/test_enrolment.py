"""A node joins, renews and keeps the papers of a fleet: real TLS, on loopback.

Both sides as they are composed in the product, without guests: nginx, waitress,
the faces, and certificates that live for seconds.
"""

import contextlib
import os
import random
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aggregator import admission, authority, db, registry
from aggregator import nginx as aggregator_nginx
from aggregator.federation import events
from aggregator.fleet import founding, handout, reach, sealing, term, upkeep
from node import pki, store
from node.api import admission as node_admission
from node.api import faces
from node.api import nginx as node_nginx
from node.clock import SystemClock
from node.host import enrol, keeper
from node.host.aggregators import TlsAggregators
from node.http import client, face, front, links, serving
from node.log import Secret
from node.model.fleet import AggregatorAddress, Role
from node.model.host import AdmissionState, NodeStatus
from node.model.ids import CorrelationId, Fingerprint, NodeId
from node.units import DAY_S
from tests.ports import free_port

pytestmark = pytest.mark.real
DEADLINE_S = 30.0
NODE_ID = NodeId("11111111-2222-4333-8444-000000000001")
CLOCK = SystemClock()
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class By:
    user: str
    address: str
    correlation_id: CorrelationId


ADMIN = By("admin@internal", "192.0.2.1", CorrelationId("c-1"))


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


class NginxProcess:
    """nginx of one side; started last and ended first."""

    def __init__(self, served: front.Front, run_folder: Path) -> None:
        served.refresh()
        with (run_folder / "log").open("ab") as log:
            self._process = subprocess.Popen(served.argv(), stdout=log, stderr=log)
        wait_until((run_folder / "nginx.pid").exists)

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(DEADLINE_S)


class Aggregator:
    """Admission, renewal, the sealed copy."""

    def __init__(self, folder: Path, ports: tuple[int, int], node_days: float) -> None:
        self.run = folder / "run"
        self.pki = folder / "pki"
        self.database = db.Database(db.sqlite_url(folder / "a.db"))
        self.feed_port, self.admission_port = ports
        self.node_days = node_days

    def start(self, own_days: float = 365.0) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        self.authority = authority.Authority(self.pki, CLOCK)
        self.authority.prepare_own("a1", LOOPBACK, own_days)
        self.leadership = term.Leadership(self.database, self.authority, self.pki)
        self.events = events.EventLog(self.database, CLOCK)
        me = AggregatorAddress(
            "a1",
            LOOPBACK,
            self.feed_port,
            self.admission_port,
            self.authority.key_fingerprint(),
        )
        self.registry = registry.Registry(
            self.database,
            self.authority,
            self.leadership,
            self.events,
            CLOCK,
            me,
            reach=reach.doorstep,
            call=self._call,
            certificate_days=self.node_days,
        )
        self.front = front.Front(self.run, self._nginx)
        self.upkeep = upkeep.Upkeep(
            self.registry,
            self.leadership,
            self.authority,
            me,
            CLOCK,
            lambda: None,
            lambda: "",
            1.0,
        )
        papers = handout.blueprint(self.leadership, self.registry.is_member)
        feed = face.create_app("feed", (papers,), lambda verb, path: None)
        self.servers = (
            serving.Server(self.run / "ingest.sock", feed, 2),
            serving.Server(
                self.run / "admission.sock", admission.create_app(self.registry), 2
            ),
        )
        for server in self.servers:
            server.start()
        self.nginx = NginxProcess(self.front, self.run)
        self.registry.on_revoked(self._refresh)

    def stop(self) -> None:
        self.nginx.end()
        for server in self.servers:
            server.stop()
        self.events.close()
        self.database.close()

    def _refresh(self) -> None:
        self.front.refresh()

    def _call(self, member: registry.Member) -> client.NodeClient:
        transport = links.MemberTransport(
            member.address,
            member.api_port,
            links.Peer(member.node_id, Role.NODE),
            self.authority.client_context(),
        )
        return client.NodeClient(transport, self.leadership.headers)

    def _nginx(self) -> str:
        return aggregator_nginx.render(
            aggregator_nginx.AggregatorFront(
                self.run,
                self.pki,
                free_port(),
                self.feed_port,
                self.admission_port,
                has_ipv6=False,
                user="root",
            )
        )


class Node:
    """The part of an agent that belongs to a fleet."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.run.mkdir(parents=True)
        self.pki = folder / "pki"
        self.api_port, self.admission_port = free_port(), free_port()
        self.store = store.Store(folder / "node.db", CLOCK, NODE_ID, "boot-1")
        self.front = front.Front(self.run, self._nginx)
        identity = enrol.Identity(
            NODE_ID, "n1", LOOPBACK, self.api_port, self.admission_port
        )
        self.is_up = False
        self.enrolment = enrol.Enrolment(
            self.store,
            self.pki,
            identity,
            CLOCK,
            self._changed,
            built_at=enrol.build_date(),
        )
        routes = node_admission.blueprint(self.enrolment, self._status)
        again = node_admission.blueprint(self.enrolment, self._status)
        fleet = faces.create_fleet((routes,), self.enrolment.check_term)
        self.servers = (
            serving.Server(self.run / "nginx.sock", fleet, 2),
            serving.Server(
                self.run / "admission.sock", faces.create_admission((again,)), 2
            ),
        )
        for server in self.servers:
            server.start()
        self.nginx = NginxProcess(self.front, self.run)
        self.is_up = True

    def keeper(self, asked: keeper.ZeroTouch | None = None) -> keeper.Keeper:
        doors = TlsAggregators(self.enrolment.client_context)
        return keeper.Keeper(
            self.enrolment, doors, asked, LOOPBACK, CLOCK, random.Random(1), 1.0
        )

    def stop(self) -> None:
        self.nginx.end()
        for server in self.servers:
            server.stop()
        self.store.close()

    def served(self) -> Fingerprint | None:
        """Return the fingerprint that the API port shows; None: it is closed."""
        try:
            text = ssl.get_server_certificate((LOOPBACK, self.api_port), timeout=5)
        except OSError:
            return None
        return pki.fingerprint(text)

    def _changed(self) -> None:
        if self.is_up:
            self.front.refresh()

    def _nginx(self) -> str:
        return node_nginx.render(
            node_nginx.NodeFront(
                self.run,
                self.pki,
                self.api_port,
                self.admission_port,
                free_port(),
                is_member=self.enrolment.is_member(),
                has_ipv6=False,
                user="root",
            )
        )

    def _status(self) -> NodeStatus:
        fingerprint = self.enrolment.fingerprint()
        waiting = AdmissionState.WAITING
        return NodeStatus(
            NODE_ID, "n1", LOOPBACK, "0", fingerprint, waiting, "", "e", 1, 1, 0, 0
        )


@dataclass(slots=True)
class Scene:
    folder: Path
    node: Node
    opened: list[Aggregator] = field(default_factory=list)
    recovery_key: Secret = field(default_factory=lambda: Secret(""))

    def found(self, node_days: float = 30.0, **more: Any) -> Aggregator:
        aggregator = self.aggregator(node_days)
        self.recovery_key = founding.init(aggregator.pki, aggregator.database, CLOCK)
        aggregator.start(**more)
        return aggregator

    def aggregator(self, node_days: float) -> Aggregator:
        folder = self.folder / f"aggregator-{len(self.opened)}"
        folder.mkdir()
        made = Aggregator(folder, (free_port(), free_port()), node_days)
        self.opened.append(made)
        return made

    def admit(self, aggregator: Aggregator) -> registry.Member:
        where = f"{LOOPBACK}:{self.node.admission_port}"
        fingerprint = self.node.enrolment.fingerprint()
        return aggregator.registry.admit_address(where, fingerprint, ADMIN)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    if os.geteuid() != 0 or shutil.which("nginx") is None:
        pytest.skip("needs root and nginx")
    with contextlib.ExitStack() as stack:
        node = Node(tmp_path / "node")
        stack.callback(node.stop)
        made = Scene(tmp_path, node)
        yield made
        for aggregator in made.opened:
            aggregator.stop()


def test_admission_by_fingerprint_opens_the_api_to_the_aggregator(
    scene: Scene,
) -> None:
    aggregator = scene.found()
    assert scene.node.served() is None
    member = scene.admit(aggregator)
    certificate = scene.node.enrolment.certificate()
    assert certificate is not None
    wait_until(lambda: scene.node.served() == pki.fingerprint(certificate))
    aggregator.registry.tell(member)
    assert scene.admit(aggregator).node_id == member.node_id


def test_admission_is_refused_to_a_second_fleet(scene: Scene) -> None:
    scene.admit(scene.found())
    with pytest.raises(registry.OtherFleet):
        scene.admit(scene.found())


def test_a_wrong_fingerprint_admits_nobody(scene: Scene) -> None:
    aggregator = scene.found()
    where = f"{LOOPBACK}:{scene.node.admission_port}"
    with pytest.raises(registry.IdentityChanged):
        aggregator.registry.admit_address(where, Fingerprint("0" * 64), ADMIN)
    assert not scene.node.enrolment.is_member()


def test_a_node_enrols_by_token(scene: Scene) -> None:
    aggregator = scene.found()
    token = aggregator.registry.make_token(60, ADMIN)
    asked = keeper.parse_zero_touch(token.aggregator, token.text)
    scene.node.keeper(asked).step()
    assert scene.node.enrolment.is_member()
    assert aggregator.registry.is_member(NODE_ID)


def test_a_node_enrols_with_nobody_else(scene: Scene) -> None:
    aggregator = scene.found()
    token = aggregator.registry.make_token(60, ADMIN)
    where = token.aggregator.partition(",")[0]
    asked = keeper.parse_zero_touch(f"{where},{'0' * 64}", token.text)
    scene.node.keeper(asked).step()
    assert not scene.node.enrolment.is_member()
    assert aggregator.registry.members() == ()


def test_certificates_of_seconds_are_renewed_even_after_their_end(
    scene: Scene,
) -> None:
    aggregator = scene.found(node_days=3 / DAY_S, own_days=1 / DAY_S)
    scene.admit(aggregator)
    enrolment = scene.node.enrolment
    wait_until(lambda: bool(enrolment.problems()))
    ours = pki.expires_at(aggregator.authority.certificate())
    wait_until(lambda: CLOCK.now() > ours)
    before = enrolment.certificate()
    scene.node.keeper().step()
    assert enrolment.certificate() != before
    assert enrolment.problems() == ()


def test_a_node_keeps_the_sealed_copy_and_a_new_aggregator_rebuilds_from_it(
    scene: Scene,
) -> None:
    first = scene.found()
    scene.admit(first)
    first.leadership.seal_changes()
    keeping = scene.node.keeper()
    membership = scene.node.enrolment.membership()
    assert membership is not None
    keeping.note_mark(membership.aggregators[0], first.leadership.mark())
    wait_until(lambda: _stepped(keeping, scene.node) == (1, 1))
    second = scene.aggregator(30.0)
    doorstep = reach.doorstep(LOOPBACK, scene.node.admission_port, None)
    with pytest.raises(sealing.SealRefused):
        founding.rebuild(
            second.pki, second.database, doorstep, sealing.make_recovery_key()
        )
    founding.rebuild(second.pki, second.database, doorstep, scene.recovery_key)
    second.start()
    (member,) = second.registry.members()
    second.registry.tell(member)
    followed = scene.node.enrolment.membership()
    assert followed is not None
    assert (followed.term, followed.aggregators) == (
        2,
        second.registry.membership().aggregators,
    )
    with pytest.raises(Exception, match="term 1 is over"):
        first.registry.tell(member)
    assert not first.leadership.is_leading


def test_removal_releases_the_node_and_closes_its_api(scene: Scene) -> None:
    aggregator = scene.found()
    scene.admit(aggregator)
    wait_until(lambda: scene.node.served() is not None)
    aggregator.registry.remove(NODE_ID, ADMIN)
    assert not scene.node.enrolment.is_member()
    wait_until(lambda: scene.node.served() is None)
    assert scene.admit(aggregator).node_id == NODE_ID


def _stepped(keeping: keeper.Keeper, node: Node) -> tuple[int, int]:
    keeping.step()
    return node.enrolment.sealed_mark()
