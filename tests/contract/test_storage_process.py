"""The storage process on the real sanlock: who may write, whoever dies or hangs.

Two hosts share one folder; the first sees it through a FUSE mirror that can hang.
The storage process is the first host's, the second is only a sanlock that waits for
the lease. Both run six times as fast as the clock and without a watchdog.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.errors import Error
from node.storage.guard import SocketGuard
from node.storage.process.launch import STORAGE_ID
from node.storage.process.protocol import LockspaceAt, Need, ResourceAt, StepState
from node.system import leases
from node.system.leases import Resource
from node.units import MiB
from tests.contract import test_leases
from tests.contract.test_leases import FAKETIME, RemoteLeases
from tests.fakes import storage_process
from tests.fakes.storage_process import Instances, wait_until

pytestmark = pytest.mark.real

# By a grandchild, which no death signal of its parent's reaches; $1 is the file.
STAMP = '(while :; do date +%s%N >>"$1"; done) & wait'
END_S = 40.0
# Of fast seconds: a busy machine must not lose a lockspace that a test did not spoil.
# What hangs is given up after 7 s of ours, and what died is free after 17 s.
IO_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Place:
    """Two hosts, the first of which holds the lease of a storage process."""

    instances: Instances
    guard: SocketGuard
    second: RemoteLeases
    sanlock: subprocess.Popen[bytes]  # the first host's
    mirror: subprocess.Popen[bytes]
    shared: Path  # as it is
    mirrored: Path  # as the first host sees it
    resource: ResourceAt
    need: Need

    def theirs(self) -> Resource:
        """Return the lease as the second host sees it."""
        path = self.shared / Path(self.resource.path).name
        return Resource(self.need.lockspace, self.need.resource, path, MiB)

    def is_free(self) -> bool:
        """Take the lease on the second host; tell whether it could."""
        try:
            self.second.acquire(self.theirs())
        except leases.LeaseHeld:
            return False
        return True


@contextlib.contextmanager
def mirrored(shared: Path, mount: Path) -> Iterator[subprocess.Popen[bytes]]:
    mount.mkdir()
    words = ["bindfs", "-f", "-o", "allow_other", str(shared), str(mount)]
    mirror = subprocess.Popen(words)
    try:
        wait_until(mount.is_mount)
        yield mirror
    finally:
        mirror.kill()
        mirror.wait(END_S)
        subprocess.run(["umount", "-l", str(mount)], check=True, timeout=END_S)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    if why_not := storage_process.why_not():
        pytest.skip(why_not)
    if not (shutil.which("sanlock") and shutil.which("bindfs") and FAKETIME.exists()):
        pytest.skip("needs sanlock, libfaketime and bindfs")
    environment = {"SANLOCK_RUN_DIR": str(tmp_path / "one")}
    with (
        tempfile.TemporaryDirectory() as folder,
        test_leases.daemon(tmp_path / "one") as sanlock,
        test_leases.daemon(tmp_path / "two"),
        test_leases.remote(tmp_path / "two") as second,
    ):
        Path(folder).chmod(0o755)
        shared, mount = Path(folder, "shared"), Path(folder, "mirror")
        shared.mkdir()
        storage_process.give(shared, STORAGE_ID)
        for name, size in (("ids", MiB), ("leases", 4 * MiB)):
            (shared / name).touch()
            os.truncate(shared / name, size)
        with (
            mirrored(shared, mount) as mirror,
            storage_process.instances(tmp_path, "real", environment) as instances,
        ):
            guard = instances.start()
            lockspace = LockspaceAt("space", str(mount / "ids"))
            resource = ResourceAt("space", "SDM", str(mount / "leases"), MiB)
            guard.write_lockspace(lockspace, IO_TIMEOUT_S)
            guard.write_resource(resource)
            theirs = leases.Lockspace("space", shared / "ids")
            second.add_lockspace(theirs, 2, IO_TIMEOUT_S)
            guard.join(lockspace, 1, IO_TIMEOUT_S)
            need = Need("space", "SDM", guard.acquire(resource))
            yield Place(
                *(instances, guard, second, sanlock, mirror),
                *(shared, mount, resource, need),
            )


def test_lease_outlives_a_killed_process_until_its_last_writer_is_dead(
    place: Place,
) -> None:
    stamps = place.shared / "stamps"
    seen = str(place.mirrored / "stamps")
    place.guard.run("slow", ["sh", "-c", STAMP, "sh", seen], [place.need])
    wait_until(lambda: stamps.exists() and "\n" in stamps.read_text())
    place.instances.kill()
    killed_at = time.time_ns()
    # The writer goes on, and sanlock knows: nobody else gets the lease.
    wait_until(lambda: last(stamps) > killed_at)
    assert not place.is_free()
    place.instances.start()
    wait_until(place.is_free)
    owned_at = time.time_ns()
    assert killed_at < last(stamps) < owned_at
    assert place.second.read_owner(place.theirs()).version == place.need.version + 1


def test_hanging_storage_costs_the_lease_and_its_writers_and_nothing_else(
    place: Place,
) -> None:
    guard, elsewhere = place.guard, place.shared
    kept = kept_lease(place)
    guard.run("free", ["sleep", "1000"])
    guard.run("kept", ["sleep", "1000"], [kept])
    guard.run("both", ["sleep", "1000"], [kept, place.need])
    guard.run("under", ["sleep", "1000"], [place.need])
    here = [{"name": "space", "path": str(elsewhere)}]
    there = [{"name": "probe", "path": str(place.mirrored / "ids")}]
    guard.file("there", str(place.mirrored), there, END_S)
    place.mirror.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(Error) as caught:
            guard.file("there", str(place.mirrored), there, 1.0)
        assert caught.value.code == "storage_hangs"
        assert time.monotonic() - started < 10
        assert guard.wait("under", 0).state is StepState.RUNNING
        # sanlock gives up, runs the killpath, and gets its lease back in time.
        step = guard.wait("under", END_S)
        assert (step.exit_status, step.was_lost) == (-9, True)
        step = guard.wait("both", END_S)
        assert (step.exit_status, step.was_lost) == (-9, True)
        wait_until(lambda: guard.leases().lost == (place.need,))
        guard.file("here", str(elsewhere), here, END_S)
        wait_until(lambda: [each.name for each in guard.lockspaces()] == ["kept"])
        wait_until(place.is_free)
        for name in ("free", "kept"):
            assert guard.wait(name, 0).state is StepState.RUNNING
        assert [each.lockspace for each in guard.leases().held] == ["kept"]
        assert place.instances.processes[-1].poll() is None
    finally:
        place.mirror.send_signal(signal.SIGCONT)


def test_severed_sanlock_costs_the_leases(place: Place) -> None:
    place.guard.run("under", ["sleep", "1000"], [place.need])
    place.sanlock.kill()
    step = place.guard.wait("under", END_S)
    assert (step.exit_status, step.was_lost) == (-9, True)
    assert place.guard.leases().held == ()


def kept_lease(place: Place) -> Need:
    """Hold a lease of another lockspace, which does not hang."""
    ids, path = place.shared / "kept-ids", place.shared / "kept-leases"
    for each in (ids, path):
        each.touch()
        os.truncate(each, 4 * MiB)
    lockspace = LockspaceAt("kept", str(ids))
    resource = ResourceAt("kept", "SDM", str(path), MiB)
    place.guard.write_lockspace(lockspace, IO_TIMEOUT_S)
    place.guard.join(lockspace, 1, IO_TIMEOUT_S)
    place.guard.write_resource(resource)
    return Need("kept", "SDM", place.guard.acquire(resource))


def last(stamps: Path) -> int:
    """Return the newest whole stamp."""
    return int(stamps.read_text().split("\n")[-2])
