"""The storage process as a whole, killed at bad moments; only sanlock is a fake."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from node.errors import Error
from node.storage.guard import GuardDown, SocketGuard
from node.storage.process import __main__ as process
from node.storage.process.holdings import Holdings
from node.storage.process.launch import STORAGE_ID
from node.storage.process.protocol import LockspaceAt, ResourceAt, StepState
from node.system.leases import LeaseFailed, Lockspace, Resource
from tests.fakes.leases import FakeLeases, FakeLeaseStorage
from tests.fakes.storage_process import CHECKOUT, Instances, wait_until
from tests.unit.node.storage.process.conftest import Lease

# Appends the time to a file until it is killed; $1 is the file.
STAMP = 'while :; do date +%s%N >>"$1"; done'
# The same by a grandchild, which no death signal of its parent's reaches.
STAMP_BELOW = f"({STAMP}) & wait"
END_S = 20.0


def test_step_goes_on_when_its_client_is_killed(
    instances: Instances, guard: SocketGuard, domain: Path
) -> None:
    go = domain / "go"
    program = 'echo begun; until [ -e "$1" ]; do sleep 0.05; done; echo done'
    asks = (
        "import sys; from pathlib import Path; from node.storage import guard; "
        "made = guard.SocketGuard(Path(sys.argv[1])); "
        "made.run('slow', ['sh', '-c', sys.argv[2], 'sh', sys.argv[3]]); "
        "made.wait('slow', 600)"
    )
    path = str(instances.run_folder / "storage.sock")
    client = subprocess.Popen(
        [sys.executable, "-c", asks, path, program, str(go)], cwd=CHECKOUT
    )
    wait_until(lambda: begun(guard))
    client.kill()
    client.wait(END_S)
    go.touch()
    step = instances.client().wait("slow", END_S)
    assert (step.exit_status, step.stdout) == (0, "begun\ndone\n")


@pytest.mark.parametrize("program", [STAMP, STAMP_BELOW], ids=["child", "grandchild"])
def test_writers_are_dead_before_the_next_instance_owns_anything(
    instances: Instances, guard: SocketGuard, lease: Lease, domain: Path, program: str
) -> None:
    stamps = domain / "stamps"
    guard.run("slow", ["sh", "-c", program, "sh", str(stamps)], [lease.need])
    wait_until(lambda: stamps.exists() and "\n" in stamps.read_text())
    instances.kill()
    next_guard = instances.start()
    Lease(next_guard)
    owned_at = time.time_ns()
    written = stamps.read_text()
    assert int(written.split("\n")[-2]) < owned_at
    assert processes(instances.group) == set()
    # Nobody appends afterwards: a second look after another program has run.
    next_guard.run("pause", ["sleep", "0.2"])
    next_guard.wait("pause", END_S)
    assert stamps.read_text() == written


def test_child_dies_with_the_process_that_started_it(
    instances: Instances, guard: SocketGuard
) -> None:
    guard.run("slow", ["sh", "-c", "echo begun; exec sleep 1000"])
    wait_until(lambda: begun(guard))
    instances.kill()
    wait_until(lambda: processes(instances.group) == set())


def test_worker_is_the_storage_user_and_dies_with_the_process_even_when_it_hangs(
    instances: Instances, guard: SocketGuard, domain: Path
) -> None:
    guard.file("d", str(domain), [{"name": "stat", "path": str(domain)}])
    (worker,) = processes(instances.group)
    assert users(worker) == {STORAGE_ID}
    os.kill(worker, signal.SIGSTOP)
    instances.kill()
    wait_until(lambda: processes(instances.group) == set())


def test_start_refuses_a_second_process_and_spares_the_first(
    instances: Instances, guard: SocketGuard
) -> None:
    guard.run("slow", ["sleep", "1000"])
    words = [str(instances.run_folder), instances.group.name, "fake"]
    second = subprocess.run(
        [sys.executable, "-m", "tests.fakes.storage_process", *words],
        cwd=CHECKOUT,
        capture_output=True,
        timeout=END_S,
        check=False,
    )
    assert second.returncode != 0
    assert b"another one runs" in second.stderr
    assert guard.wait("slow", 0).state is StepState.RUNNING


def test_sigterm_ends_it_and_all_that_it_started(
    instances: Instances, guard: SocketGuard
) -> None:
    guard.run("slow", ["sleep", "1000"])
    instances.send(signal.SIGTERM)
    assert instances.processes[-1].wait(END_S) == 0
    assert not instances.group.exists()
    with pytest.raises(GuardDown):
        guard.steps()


def test_lost_lockspace_kills_what_needs_it_and_nothing_else(
    instances: Instances, guard: SocketGuard, lease: Lease, domain: Path
) -> None:
    kept = Lease(guard, "kept")
    two = "sleep 1000 & wait"
    guard.run("under", ["sh", "-c", two], [lease.need])
    guard.run("both", ["sh", "-c", two], [kept.need, lease.need])
    guard.run("other", ["sh", "-c", two], [kept.need])
    guard.run("free", ["sleep", "1000"])
    stat = [{"name": "stat", "path": str(domain)}]
    for needs in ((), (lease.need,), (kept.need,)):
        guard.file("d", str(domain), stat, END_S, needs)
    guard.file("space", str(domain), stat, END_S)
    wait_until(lambda: len(processes(instances.group)) == 11)
    instances.send(signal.SIGUSR2)
    for name in ("under", "both"):
        step = guard.wait(name, END_S)
        assert (step.exit_status, step.was_lost) == (-9, True)
    wait_until(lambda: len(processes(instances.group)) == 5)
    for name in ("other", "free"):
        assert guard.wait(name, 0).state is StepState.RUNNING
    assert [held.lockspace for held in guard.leases().held] == ["kept"]
    assert instances.processes[-1].poll() is None


def test_local_leases_are_written_by_the_storage_user_over_no_link(
    instances: Instances, domain: Path
) -> None:
    instances.start()
    guard = instances.client(session=7)  # as an agent does
    outside = domain.parent / "outside"
    outside.write_text("root's")
    path = domain / "local_leases"
    (domain / "local_leases.new").symlink_to(outside)
    space = LockspaceAt("local:one", str(path))
    guard.write_lockspace(space)
    (domain / "local_leases.new").symlink_to(outside)
    guard.join(space, 1)
    assert guard.acquire(ResourceAt("local:one", "SDM", "/unused", 0)) == 1
    assert outside.read_text() == "root's"
    assert path.stat().st_uid == STORAGE_ID
    assert os.listdir(domain) == ["local_leases"]


class Blind(FakeLeases):
    """A door that cannot tell at first."""

    def __init__(self) -> None:
        super().__init__(FakeLeaseStorage(), "one")
        self.failures = 2

    def is_lost(self, resource: Resource) -> bool:
        if self.failures:
            self.failures -= 1
            raise LeaseFailed("not now")
        return super().is_lost(resource)


def test_watch_looks_again_after_a_round_that_failed() -> None:
    door, is_killed = Blind(), threading.Event()
    holdings = Holdings(door)
    space, resource = Lockspace("s", Path("/s")), Resource("s", "r", Path("/r"), 0)
    door.write_lockspace(space, 10)
    door.add_lockspace(space, 1, 10)
    door.write_resource(resource)
    holdings.acquire(resource, None)
    door.lose("s")
    is_killed.set()
    for _ in range(2):
        with pytest.raises(LeaseFailed):
            process.watch_once(holdings, is_killed, 0.0)
    process.watch_once(holdings, is_killed, 0.0)
    assert [each.resource for each in holdings.lost()] == ["r"]
    assert door.joined() == ()


def test_lost_lease_is_told_and_refused_and_can_be_acquired_again(
    instances: Instances, guard: SocketGuard, lease: Lease
) -> None:
    guard.run("under", ["sleep", "1000"], [lease.need])
    instances.send(signal.SIGUSR2)
    wait_until(lambda: guard.leases().lost == (lease.need,))
    assert guard.leases().held == ()
    assert guard.wait("under", END_S).was_lost
    with pytest.raises(Error) as caught:
        guard.run("after", ["true"], [lease.need])
    assert caught.value.code == "stale_lease"
    wait_until(lambda: guard.lockspaces() == ())
    guard.join(lease.lockspace, 1)
    assert guard.acquire(lease.resource) > lease.version
    assert guard.leases().lost == ()


def test_memory_stays_small(instances: Instances, guard: SocketGuard) -> None:
    for number in range(10):
        guard.run(f"step-{number}", ["true"])
        guard.wait(f"step-{number}", END_S)
    status = Path(f"/proc/{instances.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    assert int(line.split()[1]) < 25 * 1024


def begun(guard: SocketGuard) -> bool:
    try:
        return guard.progress("slow") == "begun"
    except Error:
        return False


def processes(group: Path) -> set[int]:
    found: set[int] = set()
    for folder, _, _ in os.walk(group):
        try:
            found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
        except OSError:
            continue
    return found


def users(pid: int) -> set[int]:
    """Return whom a process runs as: real, effective, saved, of files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (words,) = [line.split()[1:] for line in lines if line.startswith("Uid:")]
    return set(map(int, words))
