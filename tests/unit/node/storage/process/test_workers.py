"""Let workers hang, die and refuse; only sanlock is a fake."""

import os
import socket
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from node import wire
from node.errors import Error
from node.storage.guard import GuardFiles, SocketGuard
from node.storage.process import __main__ as process
from node.storage.process.children import Child, Children, Command
from node.storage.process.holdings import Holdings
from node.storage.process.protocol import FileWork, Need
from node.storage.process.sessions import ANYBODY, Sessions
from node.storage.process.workers import (
    ABANDONED_MAX,
    PAUSE_FIRST_S,
    PAUSE_LAST_S,
    StorageHangs,
    Workers,
)
from node.system.leases import Lockspace, Resource
from tests.fakes.clock import FakeClock
from tests.fakes.leases import FakeLeases, FakeLeaseStorage
from tests.fakes.storage_process import Instances, wait_until
from tests.unit.node.storage.process.conftest import Lease

DEADLINE_S = 1.5
END_S = 20.0


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def fifo(domain: Path) -> str:
    """Return a file that hangs who opens it."""
    path = domain / "fifo"
    os.mkfifo(path)
    path.chmod(0o666)
    return str(path)


def test_file_does_operations_in_order_up_to_the_first_error(
    shared: SocketGuard, key: str, domain: Path
) -> None:
    path = str(domain / "a")
    write = {"name": "write_whole", "path": path, "data": "eHl6", "mode": 0o660}
    missing = {"name": "stat", "path": str(domain / "missing")}
    removal = {"name": "remove", "path": path}
    with pytest.raises(Error) as caught:
        shared.file(key, str(domain), [write, missing, removal])
    assert caught.value.code == "file_missing"
    assert caught.value.fields["path"] == str(domain / "missing")
    assert (domain / "a").read_bytes() == b"xyz"
    status = (domain / "a").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (36, 36, 0o660)


def test_file_kills_a_worker_at_its_deadline_and_pauses(
    shared: SocketGuard, key: str, domain: Path, fifo: str
) -> None:
    started = time.monotonic()
    assert refusal(shared, key, domain, [read(fifo)]) == "storage_hangs"
    assert DEADLINE_S <= time.monotonic() - started < END_S
    code = refusal(shared, key, domain, [space(domain)])
    is_pause_over = time.monotonic() - started > DEADLINE_S + PAUSE_FIRST_S
    assert code == "storage_hangs" or is_pause_over
    deadline = time.monotonic() + END_S
    while (code := refusal(shared, key, domain, [space(domain)])) and (
        time.monotonic() < deadline
    ):
        assert code == "storage_hangs"
    assert code == ""


def test_file_of_another_domain_does_not_wait_for_one_that_hangs(
    shared: SocketGuard, key: str, domain: Path, fifo: str
) -> None:
    other = str(uuid.uuid4())
    shared.file(other, str(domain), [space(domain)])
    with ThreadPoolExecutor(1) as pool:
        hangs = pool.submit(refusal, shared, key, domain, [read(fifo)], 3.0)
        done = 0
        while not hangs.done():
            shared.file(other, str(domain), [space(domain)])
            done += 1
        assert hangs.result() == "storage_hangs"
    assert done > 10


def test_release_is_refused_while_a_file_operation_needs_the_lease(
    shared: SocketGuard, key: str, domain: Path, fifo: str
) -> None:
    lease = Lease(shared, key)
    with ThreadPoolExecutor(1) as pool:
        hangs = pool.submit(refusal, shared, key, domain, [read(fifo)], 3.0, [lease])
        while not any(each.users for each in shared.leases().held):
            assert not hangs.done()
        with pytest.raises(Error) as caught:
            shared.release(lease.resource)
        assert caught.value.code == "lease_in_use"
        assert hangs.result() == "storage_hangs"
    shared.release(lease.resource)


def test_file_refuses_a_stale_lease_and_changes_nothing(
    shared: SocketGuard, key: str, domain: Path
) -> None:
    lease = Lease(shared, key)
    shared.release(lease.resource)
    folder = {"name": "make_folder", "path": str(domain / "f"), "mode": 0o770}
    asked = refusal(shared, key, domain, [folder], END_S, [lease])
    assert asked == "stale_lease"
    assert list(domain.iterdir()) == []


def test_file_starts_another_worker_when_one_was_killed(
    shared: SocketGuard, key: str, domain: Path, fifo: str
) -> None:
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(refusal, shared, key, domain, [read(fifo)], END_S)
        os.kill(worker(domain), 9)
        assert cut.result() == "storage_worker_ended"
    assert refusal(shared, key, domain, [space(domain)], END_S) == ""


def test_file_carries_megabytes(shared: SocketGuard, key: str, domain: Path) -> None:
    files = GuardFiles(shared, key, str(domain))
    data = os.urandom(4 * 1024 * 1024)
    files.write_whole(str(domain / "big"), data, 0o660)
    assert files.read(str(domain / "big"), len(data)) == data


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param({"name": "format"}, id="unknown-name"),
        pytest.param({"name": ["read"]}, id="name-is-a-list"),
        pytest.param({}, id="no-name"),
        pytest.param({"name": "stat"}, id="missing-argument"),
        pytest.param({"name": "stat", "path": "/", "x": 1}, id="unknown-argument"),
        pytest.param({"name": "stat", "path": 7}, id="wrong-type"),
        pytest.param(
            {"name": "read", "path": "/", "size_max": True}, id="true-is-no-int"
        ),
        pytest.param(
            {"name": "write_whole", "path": "/", "data": "%", "mode": 0}, id="base64"
        ),
    ],
)
def test_file_refuses_what_makes_no_sense(
    shared: SocketGuard, domain: Path, operation: dict[str, Any]
) -> None:
    # One worker serves all of these: none of them ends it.
    shared_key = "sense"
    code = refusal(shared, shared_key, domain, [operation], END_S)
    assert code == "file_request_malformed"


class Stuck(Children):
    """Starts workers that say nothing, and do not die when they are killed."""

    def __init__(self) -> None:
        self.user = None
        self.started: list[Child] = []
        self.open: list[int] = []  # their ends of the conversations

    def start(self, command: Command) -> Child:
        assert command.conversation is not None
        self.open.append(os.dup(command.conversation))
        self.started.append(Child(command))
        return self.started[-1]


def test_worker_that_does_not_die_keeps_its_lease_and_a_few_are_enough() -> None:
    door = FakeLeases(FakeLeaseStorage(), "one")
    space_of, resource = Lockspace("s", Path("/s")), Resource("s", "r", Path("/r"), 0)
    door.write_lockspace(space_of, 10)
    door.add_lockspace(space_of, 1, 10)
    door.write_resource(resource)
    held, children, clock = Holdings(door), Stuck(), FakeClock()
    need = Need("s", "r", held.acquire(resource, None))
    made = Workers(held, children, Sessions(), clock.monotonic)
    request = FileWork("d", "/d", ({"name": "space", "path": "/d"},), 0.01, (need,))
    for number in range(ABANDONED_MAX + 2):
        with pytest.raises(StorageHangs):
            made.work(request, ANYBODY)
        started = min(number + 1, ABANDONED_MAX)
        assert len(children.started) == started
        assert [each.users for each in held.held()] == [started]
        clock.advance(PAUSE_LAST_S)
    for child, conversation in zip(children.started, children.open, strict=True):
        os.close(conversation)
        child.finish()
    held.release(resource)
    assert door.read_owner(resource) is None


def test_worker_that_does_not_die_blocks_writes_of_its_domain_only() -> None:
    held, children, clock = (
        Holdings(FakeLeases(FakeLeaseStorage(), "one")),
        Stuck(),
        FakeClock(),
    )
    made = Workers(held, children, Sessions(), clock.monotonic)
    reading = ({"name": "space", "path": "/d"},)
    writing = (*reading, {"name": "remove", "path": "/d/x"})

    def ask(domain: str, operations: tuple[dict[str, Any], ...]) -> str:
        clock.advance(PAUSE_LAST_S)
        try:
            made.work(FileWork(domain, "/d", operations, 0.01), ANYBODY)
        except Error as error:
            return error.code
        return ""

    assert ask("read", reading) == "storage_hangs"
    assert ask("read", writing) == "storage_hangs"  # who reads writes nothing late
    assert ask("read", writing) == "storage_writer_hangs"
    assert len(children.started) == 2
    assert ask("read", reading) == "storage_hangs"
    assert ask("other", writing) == "storage_hangs"
    assert len(children.started) == 4
    children.started[1].finish()
    assert ask("read", writing) == "storage_hangs"
    for child, conversation in zip(children.started, children.open, strict=True):
        os.close(conversation)
        child.finish()


def test_file_drops_what_waits_for_a_client_that_hung_up(
    instances: Instances, guard: SocketGuard, key: str, domain: Path, fifo: str
) -> None:
    lease = Lease(guard, key)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(refusal, guard, key, domain, [read(fifo)], END_S, [lease])
        wait_until(lambda: users(guard) == 1)
        for number in range(3):
            quits(instances, key, domain, [folder(domain / str(number))], lease)
        wait_until(lambda: is_freed(fifo))
        assert waits.result() == ""
    # Some of these come after those three.
    for _ in range(30):
        assert refusal(guard, key, domain, [space(domain)], END_S, [lease]) == ""
    assert os.listdir(domain) == ["fifo"]


def test_file_of_an_agent_that_died_ends_before_the_next_one_sees_anything(
    instances: Instances, guard: SocketGuard, key: str, domain: Path, fifo: str
) -> None:
    lease = Lease(guard, key)
    old, new = instances.client(1), instances.client(2)
    waiting = domain / "waiting"
    with ThreadPoolExecutor(2) as pool:
        # It hangs, and would write when the storage lives again.
        late = [read(fifo), folder(domain / "late")]
        running = pool.submit(refusal, old, key, domain, late, END_S, [lease])
        wait_until(lambda: users(guard) == 1)
        queued = pool.submit(
            refusal, old, key, domain, [folder(waiting)], END_S, [lease]
        )
        started = time.monotonic()
        # Nothing that this domain's worker would have to do first.
        assert users(new) == 0
        assert time.monotonic() - started < END_S / 2
        assert not is_freed(fifo)  # nobody reads there any more
        assert running.result() == "storage_worker_ended"
        assert queued.result() == "session_over"
    for ask in (
        lambda: old.file(key, str(domain), [folder(waiting)]),
        lambda: old.run("late", ["true"]),
        lambda: old.release(lease.resource),
        lambda: guard.acquire(lease.resource),
    ):
        with pytest.raises(Error) as caught:
            ask()
        assert caught.value.code == "session_over"
    assert sorted(os.listdir(domain)) == ["fifo"]
    assert [held.version for held in old.leases().held] == [lease.version]


def quits(
    instances: Instances,
    key: str,
    domain: Path,
    operations: list[dict[str, Any]],
    lease: Lease,
) -> None:
    """Ask for file operations and hang up before the answer."""
    work = FileWork(key, str(domain), tuple(operations), END_S, (lease.need,))
    call = {"verb": "file", "request": wire.to_json(work)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(instances.run_folder / process.SOCKET))
        client.sendall(wire.encode(call) + b"\n")


def users(guard: SocketGuard) -> int:
    """Return how many use the leases that are held."""
    return sum(each.users for each in guard.leases().held)


def is_freed(fifo: str) -> bool:
    """Let who hangs in a fifo go on; tell whether anybody does."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def folder(path: Path) -> dict[str, Any]:
    return {"name": "make_folder", "path": str(path), "mode": 0o770}


def read(path: str) -> dict[str, Any]:
    return {"name": "read", "path": path, "size_max": 10}


def space(domain: Path) -> dict[str, Any]:
    return {"name": "space", "path": str(domain)}


def refusal(
    guard: SocketGuard,
    key: str,
    domain: Path,
    operations: Sequence[dict[str, Any]],
    deadline_s: float = DEADLINE_S,
    leases: Sequence[Lease] = (),
) -> str:
    """Return the code of the error that operations end with; empty: none."""
    needs = [lease.need for lease in leases]
    try:
        guard.file(key, str(domain), operations, deadline_s, needs)
    except Error as error:
        return error.code
    return ""


def worker(domain: Path) -> int:
    """Return the worker of a domain, once it runs."""
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(domain).encode() in words and words[1] == b"-I":
                return int(folder.name)
    pytest.fail("no worker was started")
