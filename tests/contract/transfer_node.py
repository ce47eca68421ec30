"""Run all of a node that transfers need: its local pool, and the real processes."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from node.clock import SystemClock
from node.jobs import Jobs
from node.model.ids import DiskId, NodeId, StorageDomainId, TransferId
from node.model.job import ENDED, JobState
from node.model.storage import DiskFormat, Transfer, TransferPhase
from node.model.storage_requests import CreateDisk
from node.storage.domains.access import LocalFolders
from node.storage.pools.reach import Reach
from node.storage.pools.service import Storage
from node.storage.pools.wanted import Memory
from node.storage.pools.world import Use, World
from node.storage.process.launch import STORAGE_ID
from node.storage.transfers.service import Transfers
from node.store import Store
from node.system import command
from node.system.mounts import SystemMounts
from node.transfer import places
from node.transfer.client import ImageClient, TicketClient
from tests.contract import transfers
from tests.fakes import storage_process
from tests.fakes.storage_process import Instances

NODE = NodeId("aaaaaaaa-1111-4222-8333-000000000009")
DEADLINE_S = 30.0
T = TypeVar("T")


@dataclass(slots=True)
class Agent:
    """What ends and begins with the agent."""

    store: Store
    jobs: Jobs
    storage: Storage
    transfers: Transfers

    def stop(self) -> None:
        self.transfers.stop(DEADLINE_S)
        self.jobs.stop(DEADLINE_S)
        self.storage.stop(DEADLINE_S)
        self.store.close()


@dataclass(slots=True)
class Node:
    folder: Path
    instances: Instances
    port: int
    uses: dict[str, Use] = field(default_factory=dict)
    agent: Agent = field(init=False)

    @property
    def run_folder(self) -> Path:
        return self.folder / "transfer"

    @property
    def transfers(self) -> Transfers:
        return self.agent.transfers

    def start(self) -> None:
        """Start the agent, and wait until it manages its local pool."""
        clock = SystemClock()
        session = time.monotonic_ns()
        guard = self.instances.client(session)
        store = Store(self.folder / "node.db", clock, NODE, "boot-1")
        jobs = Jobs(store, clock)
        mounts = SystemMounts(command.run)
        local_folders = LocalFolders(mounts.find, permits_scratch=True)
        world = World(
            *(NODE, "n9", guard, clock, jobs, Memory(store)),
            Reach(mounts, self.folder / "mounts", guard, local_folders),
            lambda: False,
            lambda: True,
            lambda: dict(self.uses),
        )
        storage = Storage(store, world, self.folder / "local")
        folder = self.run_folder
        doors = (
            TicketClient(folder / places.TICKETS_SOCKET),
            ImageClient(folder / places.SOCKET),
        )
        made = Transfers(
            store,
            storage.world,
            storage.roster,
            doors,
            folder,
            ("127.0.0.1", self.port),
        )
        jobs.recover(storage.job_handlers())
        jobs.start()
        storage.start()
        made.start()
        self.agent = Agent(store, jobs, storage, made)
        self.wait(self._is_serving)

    def restart(self) -> None:
        self.agent.stop()
        self.start()

    def make_disk(
        self,
        disk_id: DiskId,
        size_bytes: int,
        disk_format: DiskFormat = DiskFormat.QCOW2,
    ) -> None:
        storage = self.agent.storage
        assert self.wait(lambda: bool(storage.storage_domain_list().storage_domains))
        (known,) = storage.storage_domain_list().storage_domains
        where = StorageDomainId(known.storage_domain.storage_domain_id)
        request = CreateDisk(disk_id, "disk", where, size_bytes, disk_format)
        job = storage.disk_create(request)
        ended = self.agent.jobs.get(job.job_id, DEADLINE_S)
        assert ended.state is JobState.DONE, ended

    def volume(self, disk_id: DiskId) -> Path:
        """Return the file of a disk's only volume."""
        found = self.folder.glob(f"local/*/images/{disk_id}/*.meta")
        return next(iter(found)).with_suffix("")

    def qemu_nbd(self) -> int:
        """Return the pid of the only qemu-nbd that serves a disk."""
        (socket,) = self.run_folder.glob("*.nbd")
        wanted = f"--socket={socket}".encode()
        (pid,) = (
            int(each.parent.name)
            for each in Path("/proc").glob("[0-9]*/cmdline")
            if _is_running(each, wanted)
        )
        return pid

    def wait_phase(self, transfer_id: TransferId, phase: TransferPhase) -> Transfer:
        """Return a transfer when it is in a phase."""

        def found() -> Transfer | None:
            transfer = self.transfers.transfer_show(transfer_id)
            return transfer if transfer.phase is phase else None

        try:
            return self.wait(found)
        except AssertionError:
            raise AssertionError(self.transfers.transfer_show(transfer_id)) from None

    def wait(self, look: Callable[[], T | None]) -> T:
        """Return what is so as soon as it is."""
        deadline = time.monotonic() + DEADLINE_S
        while not (found := look()):
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)
        return found

    def _is_serving(self) -> bool:
        seats = tuple(self.agent.storage.roster.seats())
        jobs = self.agent.jobs.list()
        return all(each.is_serving for each in seats) and all(
            each.state in ENDED for each in jobs if each.verb == "disk_create"
        )


def _is_running(path: Path, wanted: bytes) -> bool:
    """Tell whether a program was called with a word."""
    try:
        words = path.read_bytes().split(b"\0")
    except OSError:  # it has ended
        return False
    return words[0].endswith(b"qemu-nbd") and wanted in words


@contextlib.contextmanager
def running(tmp_path: Path) -> Iterator[Node]:
    """Run a node whose agent serves transfers through nginx."""
    if why_not := storage_process.why_not():
        pytest.skip(why_not)
    if shutil.which("nginx") is None or shutil.which("qemu-nbd") is None:
        pytest.skip("needs nginx and qemu-nbd")
    with (
        tempfile.TemporaryDirectory() as name,
        storage_process.instances(tmp_path) as instances,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        instances.start()
        run_folder = folder / "transfer"
        run_folder.mkdir()
        storage_process.give(run_folder, STORAGE_ID)
        with (
            transfers.serving(run_folder),
            transfers.fronted(folder, run_folder / places.SOCKET) as (_, port),
        ):
            node = Node(folder, instances, port)
            node.start()
            try:
                yield node
            finally:
                node.agent.stop()
