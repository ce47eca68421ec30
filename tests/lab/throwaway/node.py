"""One node's storage in the throw-away VM, put together as the agent does it.

Its storage process, its mounts and its sanlock are the real ones, as Debian starts
them: sanlock is no root's, the storage process's children are user 36's. sanlock alone
lives faster than the clock.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.clock import SystemClock
from node.jobs import Jobs
from node.model.ids import NodeId
from node.model.job import ENDED, Job, JobState
from node.storage.domains.access import LocalFolders
from node.storage.formats import layout
from node.storage.guard import SocketGuard
from node.storage.pools.reach import Reach
from node.storage.pools.service import Storage
from node.storage.pools.wanted import Memory
from node.storage.pools.world import World
from node.store import Store
from node.system import command
from node.system.mounts import SystemMounts
from tests.fakes import storage_process
from tests.lab import members
from tests.lab.throwaway import server

NODE_ID: Final = NodeId("aaaaaaaa-1111-4222-8333-000000000001")
SANLOCK_SOCKET: Final = Path("/run/sanlock/sanlock.sock")
# Emulated, and beside others on two cores: nothing takes so long unless it is broken.
WAIT_S: Final = 240.0
_LOG_TAIL: Final = 16_384
_PAUSE_S: Final = 0.5  # what is asked meanwhile costs the slow processor dearly
# Half as fast as in the lab: an emulated node may need seconds to obey a killpath. The
# grace, until sanlock kills the storage process itself, is the longest that it takes.
_SPEED: Final = 3
_GRACE: Final = "60"


@dataclass(frozen=True, slots=True)
class Node:
    """A node that runs."""

    jobs: Jobs
    storage: Storage
    reach: Reach
    guard: SocketGuard

    def done(self, job: Job) -> Job:
        """Return a job that has ended well."""
        ended = self.jobs.get(job.job_id, WAIT_S)
        assert ended.state in ENDED, f"{ended} does not end"
        assert ended.state is JobState.DONE, ended
        return ended

    def is_done(self, job: Job) -> bool:
        """Wait for the end of a job; tell whether it ended well."""
        return self.jobs.get(job.job_id, WAIT_S).state is JobState.DONE


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Node]:
    """Run a node whose files are in a new folder, and its daemons."""
    folder.mkdir(mode=0o755)
    with (
        sanlock(folder / "sanlock.log"),
        storage_process.instances(folder, "sanlock") as instances,
    ):
        instances.deadline_s = WAIT_S
        guard, clock = instances.start(), SystemClock()
        store = Store(folder / "node.db", clock, NODE_ID, "boot-1")
        jobs, mounts = Jobs(store, clock), SystemMounts(command.run)
        reach = Reach(mounts, folder / "mounts", guard, LocalFolders(mounts.find, True))
        world = World(
            *(NODE_ID, "n1", guard, clock, jobs, Memory(store), reach),
            has_watchdog=lambda: True,  # nobody else is there who could write
            hears_leader=lambda: True,  # so it does not come forward by itself
            uses=dict,
        )
        storage = Storage(store, world, None)
        jobs.recover(storage.job_handlers())
        jobs.start()
        storage.start()
        try:
            yield Node(jobs, storage, reach, guard)
        finally:
            jobs.stop(WAIT_S)
            storage.stop(WAIT_S)
            store.close()


def wait_until(is_so: Callable[[], object], what: str) -> float:
    """Wait until something is so, and return how long it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() < began + WAIT_S, f"not in time: {what}"
        time.sleep(_PAUSE_S)
    return time.monotonic() - began


@contextlib.contextmanager
def sanlock(log: Path) -> Iterator[None]:
    """Run sanlock as its own user, in the storage user's group as QEMU's user is."""
    server.run("groupadd", "--force", "--gid", str(layout.OWNER_ID), "skerry-storage")
    for user in ("sanlock", "libvirt-qemu"):
        server.run("usermod", "--append", "--groups", "skerry-storage", user)
    SANLOCK_SOCKET.parent.mkdir(exist_ok=True)
    SANLOCK_SOCKET.unlink(missing_ok=True)  # of one that was killed
    fast = {
        **os.environ,
        "LD_PRELOAD": members.FAKETIME,
        "FAKETIME": f"+0 x{_SPEED}",
    }
    words = ["sanlock", "daemon", "-D", "-w", "0", "-g", _GRACE, "-e", NODE_ID]
    with log.open("wb") as output:
        process = subprocess.Popen(words, env=fast, stdout=output, stderr=output)
        try:
            wait_until(SANLOCK_SOCKET.exists, "sanlock's socket")
            yield
        finally:
            process.kill()
            process.wait(WAIT_S)
            print(log.read_text(errors="replace")[-_LOG_TAIL:])  # shown with a failure
