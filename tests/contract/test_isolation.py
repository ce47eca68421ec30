"""Who waits, and what hangs, keeps nobody else from an answer.

Behaviour, not times: requests are answered while others are seen to wait still.
The servers are those of the product, with their eight threads.
"""

import contextlib
import itertools
import select
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator import dashboard, db
from aggregator.access.identity import ADMINISTRATOR
from aggregator.api import app as api
from aggregator.federation import ingest
from aggregator.federation.events import EventLog
from aggregator.federation.mirror import Mirror
from node import wire
from node.clock import SystemClock
from node.errors import Busy
from node.http import client, face, serving
from node.http.client import NodeClient, Reply, UnixTransport
from node.log import Secret
from node.model.feed import Delta
from node.model.ids import DiskId, VmId
from node.model.job import ENDED, JobState
from node.model.requests import ActOnVm, CreateVm, StartVm, StopManner, StopVm
from node.model.vm import Vm, VmSpec
from tests.contract.agents import BUSY, FakeAgent
from tests.fakes import fleet as members
from tests.fakes import services as fakes
from tests.fakes.hypervisor import FakeHypervisor
from tests.fakes.volumes import FakeVolumes
from tests.unit.aggregator.federation.test_mirror import Member
from tests.unit.node.vm.examples import DISK, NODE_ID, SPEC

THREADS = 8
POLLS = 100
STUCK = 20
WAIT_S = 30.0


class Waiting:
    """Many connections that have asked, and wait for their answers."""

    def __init__(self, path: Path, request: bytes, count: int) -> None:
        self._ends = contextlib.ExitStack()
        self._waiting: set[socket.socket] = set()
        for _ in range(count):
            caller = self._ends.enter_context(socket.socket(socket.AF_UNIX))
            caller.settimeout(WAIT_S)
            caller.connect(str(path))
            caller.sendall(request)
            self._waiting.add(caller)

    def settle(self, left: int) -> int:
        """Wait until no more than so many wait; return how many do."""
        while len(self._waiting) > left:
            ready, _, _ = select.select(list(self._waiting), [], [], WAIT_S)
            assert ready, f"{len(self._waiting)} callers wait in vain"
            self._waiting.difference_update(ready)
        return len(self._waiting)

    def count(self) -> int:
        """Return how many wait at this moment."""
        ready, _, _ = select.select(list(self._waiting), [], [], 0)
        return len(self._waiting) - len(ready)

    def close(self) -> None:
        self._ends.close()


def _request(target: str, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


@contextlib.contextmanager
def _served(path: Path, application: serving.Application) -> Iterator[Path]:
    server = serving.Server(path, application, THREADS)
    server.start()
    try:
        yield path
    finally:
        server.stop()


# --- a node


class HangingHypervisor(FakeHypervisor):
    """QEMU hangs in what needs its monitor, until the end of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = threading.Semaphore(0)  # one for each call that hangs
        self.go_on = threading.Event()

    def suspend(self, vm_id: VmId) -> None:
        self._hang()
        super().suspend(vm_id)

    def screenshot(self, vm_id: VmId) -> bytes:
        self._hang()
        return super().screenshot(vm_id)

    def _hang(self) -> None:
        self.hangs.release()
        self.go_on.wait(WAIT_S)


@pytest.fixture
def hypervisor() -> Iterator[HangingHypervisor]:
    made = HangingHypervisor()
    yield made
    made.go_on.set()


@pytest.fixture
def agent(tmp_path: Path, hypervisor: HangingHypervisor) -> Iterator[FakeAgent]:
    made = FakeAgent(tmp_path, hypervisor)
    yield made
    hypervisor.go_on.set()
    made.close()


@pytest.fixture
def node(agent: FakeAgent) -> Iterator[Path]:
    with _served(agent.folder / "s", agent.local) as path:
        yield path


def test_hundred_polls_of_a_node_leave_threads_for_others(
    agent: FakeAgent, node: Path
) -> None:
    last = agent.store.events(0).last
    polls = Waiting(node, _request(f"/v1/events?since={last}&wait_s=20", {}), POLLS)
    assert polls.settle(face.WAITERS) == face.WAITERS
    speaker = NodeClient(UnixTransport(node))
    assert speaker.status().name == "oak"
    assert len(speaker.vm_list().vms) == 2
    assert polls.count() == face.WAITERS
    with agent.store.change() as change:
        change.event("node_started", node="oak")
    assert polls.settle(0) == 0
    polls.close()


def test_twenty_stuck_vms_keep_nobody_from_an_answer(
    agent: FakeAgent, hypervisor: HangingHypervisor, node: Path
) -> None:
    stuck = [VmId(f"aaaaaaaa-0000-4000-8000-0000000000{n:02x}") for n in range(50, 70)]
    for number, vm_id in enumerate(stuck):
        agent.add(vm_id, f"stuck{number}")
        agent.end_of(agent.vms.start(vm_id, StartVm()))
        hypervisor.set_stuck(vm_id, True)
    speaker = NodeClient(UnixTransport(node))
    jobs = [speaker.vm_pause(vm_id, ActOnVm()) for vm_id in stuck]
    assert hypervisor.hangs.acquire(timeout=WAIT_S)
    assert speaker.status().vms_running == STUCK + 1
    assert speaker.stats().at
    assert speaker.vm_show(stuck[0]).vm.spec.name == "stuck0"
    waiting = speaker.job_cancel(jobs[-1].job_id)
    assert waiting.state in ENDED
    assert not any(speaker.job_show(job.job_id).state in ENDED for job in jobs[:3])
    hypervisor.go_on.set()
    agent.settle()


def test_pictures_of_stuck_vms_are_few_at_a_time(
    hypervisor: HangingHypervisor, node: Path
) -> None:
    request = _request(f"/v1/vms/{BUSY}/screenshot", {})
    pictures = Waiting(node, request, face.SLOW)
    for _ in range(face.SLOW):
        assert hypervisor.hangs.acquire(timeout=WAIT_S)
    speaker = NodeClient(UnixTransport(node))
    with pytest.raises(Busy) as raised:
        speaker.vm_screenshot(BUSY)
    assert raised.value.code == "too_many_slow"
    assert len(speaker.vm_list().vms) == 2
    assert pictures.count() == face.SLOW
    hypervisor.go_on.set()
    assert pictures.settle(0) == 0
    assert speaker.vm_screenshot(BUSY)
    pictures.close()


class Hanging:
    """A pool's storage that hangs when disks are made, until `go_on` is set."""

    def __init__(self) -> None:
        self.hangs = threading.Semaphore(0)  # one for each VM that is waited for
        self.go_on = threading.Event()

    def make(self, _vm: Vm) -> None:
        if not self.go_on.is_set():
            self.hangs.release()
            self.go_on.wait(WAIT_S)


def test_slow_creations_keep_nobody_from_an_answer(tmp_path: Path) -> None:
    disks, volumes = Hanging(), FakeVolumes(NODE_ID, is_shared=False)
    agent = FakeAgent(tmp_path, volumes=volumes)
    volumes.on_make = disks.make
    specs = [_spec_of(number) for number in range(THREADS)]
    with (
        _served(tmp_path / "s", agent.local) as path,
        ThreadPoolExecutor(THREADS) as callers,
    ):
        speaker = NodeClient(UnixTransport(path))
        asked = [
            callers.submit(speaker.vm_create, CreateVm(each, None)) for each in specs
        ]
        assert disks.hangs.acquire(timeout=WAIT_S)
        # Those that find no place are sent away at once, while the disk hangs still.
        sent_away = itertools.islice(as_completed(asked, WAIT_S), THREADS - face.SLOW)
        assert {_code(each.exception()) for each in sent_away} == {"too_many_slow"}
        assert len(speaker.vm_list().vms) == 2
        job = speaker.vm_stop(BUSY, StopVm(manner=StopManner.FORCE))
        assert agent.end_of(job).state is JobState.DONE
        assert not disks.go_on.is_set()
        disks.go_on.set()
        for each in asked:
            assert each.exception(WAIT_S) is None or (_code(each.exception()) in _LATER)
        # Who asks again gets the VM.
        assert {speaker.vm_create(CreateVm(each)).vm.spec.vm_id for each in specs} == {
            each.vm_id for each in specs
        }
    agent.close()


_LATER = {"too_many_slow", "pool_vm_busy"}


def _code(error: BaseException | None) -> str:
    return error.code if isinstance(error, Busy) else repr(error)


def _spec_of(number: int) -> VmSpec:
    return replace(
        SPEC,
        vm_id=VmId(f"aaaaaaaa-0000-4000-8000-0000000001{number:02x}"),
        name=f"slow{number}",
        disks=(
            replace(DISK, disk_id=DiskId(f"bbbbbbbb-0000-4000-8000-{number:012x}")),
        ),
        nics=(),
    )


# --- an aggregator


class Desk:
    """The aggregator's two servers: one for people, one for nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clock = SystemClock()
        self.fleet = fakes.make_fleet()
        services = replace(self.fleet.services, clock=clock)
        pages = face.Application("dashboard")
        pages.register_blueprint(dashboard.blueprint(services))
        self.people = serving.by_prefix(pages, {"/v1": api.create(services)})
        self.waiters = THREADS // 2  # of the dashboard
        session = self.fleet.access.login(
            ADMINISTRATOR, Secret(fakes.PASSWORD), "192.0.2.9"
        )
        token = session.token.reveal()
        self.browser = {"Cookie": f"skerry={token}"}
        self.script = {"Authorization": f"Bearer {token}"}
        self.database = db.Database(db.sqlite_url(folder / "a.db"))
        self.events = EventLog(self.database, clock)
        self.mirror = Mirror(self.database, self.events, clock)
        node_id = members.node_id(1)
        self.mirror.set_members([Member(node_id, "n1")])
        pushes = ingest.Ingest(self.mirror, lambda _node_id: True, lambda: None)
        others = face.create_app("others", (), lambda _verb, _path: None)
        self.feed = pushes.before(others)
        self.node = {ingest.ROLE: "node", ingest.SUBJECT: node_id}

    def close(self) -> None:
        self.events.close()
        self.database.close()

    def push(self, path: Path) -> Reply:
        delta = Delta("epoch-1", 0, 1, "boot-1")
        headers = {**self.node, "Content-Type": "application/json"}
        return UnixTransport(path).exchange(
            "POST", "/v1/feed/delta", wire.encode(delta), headers, WAIT_S
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def test_hundred_dashboards_leave_threads_for_pages_and_nodes(desk: Desk) -> None:
    with (
        _served(desk.folder / "people", desk.people) as people,
        _served(desk.folder / "ingest", desk.feed) as nodes,
    ):
        speaker = UnixTransport(people)
        first = speaker.exchange("GET", "/ui/changes", None, desk.browser, WAIT_S)
        moment = wire.parse(first.body)["moment"]
        polls = Waiting(
            people,
            _request(f"/ui/changes?since={moment}&wait_s=20", desk.browser),
            POLLS,
        )
        last = desk.fleet.events.list(maximum=1)[0].seq
        scripts = Waiting(
            people, _request(f"/v1/events?since={last}&wait_s=20", desk.script), POLLS
        )
        assert polls.settle(desk.waiters) == desk.waiters
        assert scripts.settle(face.WAITERS) == face.WAITERS
        page = speaker.exchange("GET", "/ui/vms", None, desk.browser, WAIT_S)
        assert b"web1" in page.body
        listed = speaker.exchange("GET", "/v1/vms", None, desk.script, WAIT_S)
        assert listed.status == 200
        assert desk.push(nodes).status == 200
        assert (polls.count(), scripts.count()) == (desk.waiters, face.WAITERS)
        desk.fleet.events.record("aggregator_started", aggregator="a", term=2)
        assert polls.settle(0) == scripts.settle(0) == 0
        polls.close()
        scripts.close()


def test_nodes_that_push_at_once_are_all_answered(desk: Desk) -> None:
    with _served(desk.folder / "ingest", desk.feed) as nodes:
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(desk.push(nodes).status))
            for _ in range(POLLS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
    assert statuses == [200] * POLLS


def test_client_gives_up_on_a_node_that_hangs(
    hypervisor: HangingHypervisor, node: Path
) -> None:
    with pytest.raises(client.NodeUnreachable):
        UnixTransport(node).exchange("GET", f"/v1/vms/{BUSY}/screenshot", None, {}, 0.2)
    hypervisor.go_on.set()
