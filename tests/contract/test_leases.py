"""The contract of the leases' door: two hosts and one storage.

The real hosts are two sanlock daemons on one folder, six times as fast as the
clock and without a watchdog; each is spoken to by a process of its own, since
libsanlock remembers its daemon. Each test has lockspace and leases of its own.
"""

import contextlib
import itertools
import multiprocessing
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from node.errors import Error
from node.system import leases
from node.system.leases import Leases, Liveness, Lockspace, Resource
from tests.fakes.leases import FakeLeases, FakeLeaseStorage

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
IO_TIMEOUT_S = 3  # of fast seconds: a dead host's leases are free after 14 s of ours
MIB = leases.LEASE_BYTES
DEADLINE_S = 40.0
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Two hosts, and the ways to let the second one die or the first one lose."""

    first: Leases
    second: Leases
    folder: Path
    die: Callable[[Lockspace], None]
    lose: Callable[[Lockspace], None]
    is_killed: Callable[[], bool]  # tells whether the killpath of the first was run
    restart: Callable[[], None]  # lets the first one's daemon end, and start again

    def lockspace(self, sector_bytes: int = leases.SECTOR_BYTES) -> Lockspace:
        number = next(_numbers)
        path = self.folder / f"ids-{number}"
        _make_file(path, MIB)
        lockspace = Lockspace(f"space-{number}", path, sector_bytes=sector_bytes)
        self.first.write_lockspace(lockspace, IO_TIMEOUT_S)
        return lockspace

    def resource(self, lockspace: Lockspace) -> Resource:
        path = self.folder / f"leases-{lockspace.name}"
        _make_file(path, 4 * MIB)
        resource = Resource(
            *(lockspace.name, "vm-1", path, 2 * MIB),
            sector_bytes=lockspace.sector_bytes,
        )
        self.first.write_resource(resource)
        return resource


class RemoteLeases:
    """Call the leases' door in another process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._connection.send((name, arguments))
            assert self._connection.poll(DEADLINE_S), f"{name} hangs"
            result = self._connection.recv()
            if isinstance(result, Error):
                raise result
            return result

        return call


def serve(connection: Connection, run_folder: str) -> None:
    """Be one host: answer calls until the pipe is closed."""
    os.environ["SANLOCK_RUN_DIR"] = run_folder
    killed = str(Path(run_folder) / "killed")
    killpath = leases.Killpath(Path("/usr/bin/touch"), (killed,))
    door = leases.SanlockLeases(lambda _lockspace: killpath)
    with contextlib.suppress(EOFError):
        while True:
            name, arguments = connection.recv()
            try:
                connection.send(getattr(door, name)(*arguments))
            except Error as error:
                connection.send(error)


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a sanlock of our own, six times as fast as the clock."""
    folder.mkdir(exist_ok=True)
    (folder / "sanlock.sock").unlink(missing_ok=True)  # of one that was killed
    environment = {
        **os.environ,
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": "+0 x6",
        "SANLOCK_PRIVILEGED": "0",
        "SANLOCK_RUN_DIR": str(folder),
    }
    argv = ["sanlock", "daemon", "-D", "-w", "0", "-h", "0", "-l", "0", "-e"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*argv, f"host-{folder.name}"], env=environment, stdout=log, stderr=log
        )
    try:
        wait_until((folder / "sanlock.sock").exists)
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def remote(folder: Path) -> Iterator[RemoteLeases]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, str(folder)))
    process.start()
    theirs.close()
    try:
        yield RemoteLeases(ours)
    finally:
        ours.close()
        process.join(DEADLINE_S)
        process.close()


@contextlib.contextmanager
def two_hosts(kind: str, folder: Path) -> Iterator[Hosts]:
    if kind == "fake":
        storage = FakeLeaseStorage()

        def fall_silent(lockspace: Lockspace) -> None:
            storage.die(lockspace.name, 2)

        killed = threading.Event()
        one = FakeLeases(
            storage, "one", lambda _lockspace: killed.set(), reads_at_once=False
        )
        two = FakeLeases(storage, "two")

        def lose(lockspace: Lockspace) -> None:
            one.lose(lockspace.name)

        yield Hosts(one, two, folder, fall_silent, lose, killed.is_set, one.restart)
        return
    if os.geteuid() != 0 or shutil.which("sanlock") is None or not FAKETIME.exists():
        pytest.skip("needs root, sanlock and libfaketime")
    with (
        contextlib.ExitStack() as daemons,
        daemon(folder / "two") as second,
        remote(folder / "one") as first_door,
        remote(folder / "two") as second_door,
    ):

        def kill(_lockspace: Lockspace) -> None:
            second.kill()

        def restart() -> None:
            daemons.close()
            daemons.enter_context(daemon(folder / "one"))

        restart()
        is_killed = (folder / "one" / "killed").exists
        yield Hosts(first_door, second_door, folder, kill, spoil, is_killed, restart)


def spoil(lockspace: Lockspace) -> None:
    """Let every renewal in a lockspace fail from now on."""
    os.truncate(lockspace.path, 0)


KINDS = ["fake", pytest.param("sanlock", marks=pytest.mark.real)]


@pytest.fixture(scope="module", params=KINDS)
def hosts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosts]:
    with two_hosts(request.param, tmp_path_factory.mktemp("leases")) as both:
        yield both


@pytest.fixture(params=KINDS)
def mortal_hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hosts]:
    with two_hosts(request.param, tmp_path) as both:
        yield both


def test_add_lockspace_refuses_what_was_never_written(hosts: Hosts) -> None:
    path = hosts.folder / "empty"
    _make_file(path, MIB)
    with pytest.raises(leases.NotALease):
        hosts.first.add_lockspace(Lockspace("empty", path), 1, IO_TIMEOUT_S)


def test_add_lockspace_joins_and_joining_again_is_no_error(hosts: Hosts) -> None:
    lockspace = hosts.lockspace()
    hosts.first.add_lockspace(lockspace, 1, IO_TIMEOUT_S)
    hosts.first.add_lockspace(lockspace, 1, IO_TIMEOUT_S)
    assert hosts.first.is_joined(lockspace, 1)
    assert not hosts.second.is_joined(lockspace, 1)


def test_add_lockspace_refuses_a_second_host_id(hosts: Hosts) -> None:
    lockspace = hosts.lockspace()
    hosts.first.add_lockspace(lockspace, 1, IO_TIMEOUT_S)
    with pytest.raises(leases.HostIdHeld):
        hosts.first.add_lockspace(lockspace, 2, IO_TIMEOUT_S)


def test_remove_lockspace_leaves_and_refuses_when_not_joined(hosts: Hosts) -> None:
    lockspace = hosts.lockspace()
    hosts.first.add_lockspace(lockspace, 1, IO_TIMEOUT_S)
    hosts.first.remove_lockspace(lockspace, 1)
    assert not hosts.first.is_joined(lockspace, 1)
    with pytest.raises(leases.NotHeld):
        hosts.first.remove_lockspace(lockspace, 1)


def test_acquire_refuses_a_host_outside_the_lockspace(hosts: Hosts) -> None:
    resource = hosts.resource(hosts.lockspace())
    with pytest.raises(leases.NotHeld):
        hosts.first.acquire(resource)


def test_read_owner_refuses_what_was_never_written(hosts: Hosts) -> None:
    path = hosts.folder / "no-lease"
    _make_file(path, MIB)
    with pytest.raises(leases.NotALease):
        hosts.first.read_owner(Resource("space", "none", path, 0))


def test_acquire_grows_the_version_with_each_owner(hosts: Hosts) -> None:
    lockspace, resource = both_joined(hosts)
    assert hosts.first.acquire(resource) == 1
    assert hosts.first.acquire(resource) == 1
    hosts.first.release(resource)
    assert hosts.second.acquire(resource) == 2
    owner = hosts.first.read_owner(resource)
    assert owner is not None
    assert (owner.host_id, owner.version) == (2, 2)
    hosts.second.release(resource)
    hosts.second.release(resource)
    assert hosts.first.read_owner(resource) is None
    leave(hosts, lockspace)


def test_acquire_refuses_a_lease_that_another_host_holds(hosts: Hosts) -> None:
    lockspace, resource = both_joined(hosts)
    hosts.first.acquire(resource)
    with pytest.raises(leases.LeaseHeld):
        hosts.second.acquire(resource)
    hosts.first.release(resource)
    leave(hosts, lockspace)


def test_acquire_refuses_a_version_that_moved(hosts: Hosts) -> None:
    lockspace, resource = both_joined(hosts)
    seen = hosts.first.acquire(resource)
    hosts.first.release(resource)
    hosts.second.acquire(resource)
    hosts.second.release(resource)
    with pytest.raises(leases.LeaseMoved):
        hosts.first.acquire(resource, seen)
    assert hosts.first.acquire(resource, seen + 1) == seen + 2
    hosts.first.release(resource)
    leave(hosts, lockspace)


def test_add_lockspace_refuses_a_host_id_that_another_host_renews(
    hosts: Hosts,
) -> None:
    lockspace = hosts.lockspace()
    hosts.first.add_lockspace(lockspace, 1, IO_TIMEOUT_S)
    with pytest.raises(leases.HostIdHeld):
        hosts.second.add_lockspace(lockspace, 1, IO_TIMEOUT_S)
    hosts.first.remove_lockspace(lockspace, 1)


def test_hosts_refuses_a_lockspace_we_are_not_in(hosts: Hosts) -> None:
    with pytest.raises(leases.NotHeld):
        hosts.first.hosts("never-joined")


def test_hosts_are_unknown_until_the_first_renewal(mortal_hosts: Hosts) -> None:
    hosts = mortal_hosts
    lockspace = hosts.lockspace()
    hosts.first.add_lockspace(lockspace, 1, IO_TIMEOUT_S)
    with pytest.raises(leases.HostsUnknown):
        hosts.first.hosts(lockspace.name)
    wait_until(lambda: liveness(hosts, lockspace, 1) is Liveness.LIVE)


def test_leases_of_a_daemon_that_ended_are_found_lost_before_it_is_replaced(
    mortal_hosts: Hosts,
) -> None:
    hosts = mortal_hosts
    lockspace = hosts.lockspace()
    resource = hosts.resource(lockspace)
    other = replace(resource, name="vm-2", offset=3 * MIB)
    hosts.first.write_resource(other)
    hosts.first.add_lockspace(lockspace, 1, IO_TIMEOUT_S)
    hosts.first.acquire(resource)
    hosts.restart()
    hosts.first.add_lockspace(lockspace, 1, IO_TIMEOUT_S)
    for wanted in (other, resource):
        with pytest.raises(leases.LeasesDown):
            hosts.first.acquire(wanted)
    assert hosts.first.is_lost(resource)
    with pytest.raises(leases.LeasesDown):
        hosts.first.release(resource)
    assert hosts.first.acquire(other) == 1
    assert hosts.first.acquire(resource) == 2
    assert not hosts.first.is_lost(resource)


def test_acquire_takes_the_lease_of_a_dead_host(mortal_hosts: Hosts) -> None:
    hosts = mortal_hosts
    lockspace, resource = both_joined(hosts)
    hosts.second.acquire(resource)
    wait_until(lambda: liveness(hosts, lockspace, 2) is Liveness.LIVE)
    hosts.die(lockspace)
    wait_until(lambda: is_acquired(hosts.first, resource))
    assert liveness(hosts, lockspace, 2) is Liveness.DEAD
    owner = hosts.first.read_owner(resource)
    assert owner is not None
    assert (owner.host_id, owner.version) == (1, 2)


def test_remove_lockspace_is_refused_while_a_lease_is_held(hosts: Hosts) -> None:
    lockspace, resource = both_joined(hosts)
    hosts.first.acquire(resource)
    with pytest.raises(leases.LeaseInUse):
        hosts.first.remove_lockspace(lockspace, 1)
    assert hosts.first.is_joined(lockspace, 1)
    hosts.first.release(resource)
    leave(hosts, lockspace)


def test_joined_tells_of_every_lockspace(hosts: Hosts) -> None:
    lockspace, _ = both_joined(hosts)
    told = leases.Joined(lockspace.name, 1, lockspace.path, 0)
    assert told in hosts.first.joined()
    leave(hosts, lockspace)
    assert told not in hosts.first.joined()


def test_leases_work_on_4_kib_sectors(hosts: Hosts) -> None:
    lockspace = hosts.lockspace(sector_bytes=4096)
    resource = hosts.resource(lockspace)
    hosts.first.add_lockspace(lockspace, 1, IO_TIMEOUT_S)
    assert hosts.first.acquire(resource) == 1
    owner = hosts.second.read_owner(resource)
    assert owner is not None
    assert (owner.host_id, owner.version) == (1, 1)
    hosts.first.release(resource)
    hosts.first.remove_lockspace(lockspace, 1)


def test_is_lost_tells_a_held_lease_from_one_that_is_not(hosts: Hosts) -> None:
    lockspace, resource = both_joined(hosts)
    assert hosts.first.is_lost(resource)
    hosts.first.acquire(resource)
    assert not hosts.first.is_lost(resource)
    hosts.first.release(resource)
    leave(hosts, lockspace)


def test_lost_lockspace_runs_the_killpath_and_ends_with_its_leases(
    mortal_hosts: Hosts,
) -> None:
    hosts = mortal_hosts
    lockspace, kept = hosts.lockspace(), hosts.lockspace()
    resource, other = hosts.resource(lockspace), hosts.resource(kept)
    for space, wanted in ((lockspace, resource), (kept, other)):
        hosts.first.add_lockspace(space, 1, IO_TIMEOUT_S)
        hosts.first.acquire(wanted)
    assert not hosts.is_killed()
    hosts.lose(lockspace)
    wait_until(hosts.is_killed)
    assert hosts.first.is_lost(resource)
    assert not hosts.first.is_lost(other)
    hosts.first.release(resource)
    wait_until(lambda: not hosts.first.is_joined(lockspace, 1))
    with pytest.raises(leases.NotHeld):
        hosts.first.acquire(resource)
    hosts.first.release(other)
    assert hosts.first.acquire(other) == 2


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        pytest.param("/" + "x" * 127, (), id="program"),
        pytest.param("/bin/sh", ("x" * 64, "y" * 64), id="arguments"),
    ],
)
def test_killpath_refuses_what_sanlock_would_cut(
    program: str, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(leases.KillpathTooLong):
        leases.Killpath(Path(program), arguments)


def both_joined(hosts: Hosts) -> tuple[Lockspace, Resource]:
    lockspace = hosts.lockspace()
    resource = hosts.resource(lockspace)
    hosts.first.add_lockspace(lockspace, 1, IO_TIMEOUT_S)
    hosts.second.add_lockspace(lockspace, 2, IO_TIMEOUT_S)
    return lockspace, resource


def leave(hosts: Hosts, lockspace: Lockspace) -> None:
    hosts.first.remove_lockspace(lockspace, 1)
    hosts.second.remove_lockspace(lockspace, 2)


def liveness(hosts: Hosts, lockspace: Lockspace, host_id: int) -> Liveness:
    """Return what a host is to the first one, who looks at the others now and then."""
    try:
        found = hosts.first.hosts(lockspace.name)
    except leases.LeaseBusy:
        return Liveness.UNKNOWN
    known = {each.host_id: each.liveness for each in found}
    return known.get(host_id, Liveness.UNKNOWN)


def is_acquired(door: Leases, resource: Resource) -> bool:
    try:
        door.acquire(resource)
    except leases.LeaseHeld:
        return False
    return True


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _make_file(path: Path, size_bytes: int) -> None:
    with path.open("wb") as stream:
        stream.truncate(size_bytes)
