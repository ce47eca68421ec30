"""Nodes with all their storage in this process: real folders, a fake sanlock."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.clock import Clock, SystemClock
from node.jobs import AgentStopping, Handler, Jobs
from node.model.ids import JobId, NodeId, PoolId, StorageDomainId, VmId
from node.model.job import ENDED, Job, JobState
from node.model.storage import (
    Connection,
    DomainState,
    DomainType,
    PoolDocument,
    StorageDomainDocument,
)
from node.model.vm import Vm
from node.storage.disks.work import Holding, holding_nobody
from node.storage.domains.access import LocalFolders
from node.storage.guard import FILE_DEADLINE_S, GuardDown
from node.storage.pools.reach import Reach
from node.storage.pools.service import Storage
from node.storage.pools.volumes import PoolVolumes
from node.storage.pools.wanted import Memory
from node.storage.pools.world import Use, World
from node.storage.process.file_operations import FileFailed
from node.storage.process.protocol import (
    JoinedAt,
    Leases,
    LockspaceAt,
    Need,
    ResourceAt,
)
from node.storage.spm.pool import Options
from node.store import Change, Store
from node.system.leases import IO_TIMEOUT_S
from node.system.mounts import Mount
from tests.fakes.leases import FakeLeaseStorage
from tests.fakes.leasing_guard import LeasingGuard
from tests.fakes.mounts import FakeMounts

WAIT_S = 30.0  # nothing here takes so long unless it is broken
NODES = (
    "aaaaaaaa-1111-4222-8333-000000000001",
    "aaaaaaaa-1111-4222-8333-000000000002",
)


@dataclass(slots=True)
class Guard(LeasingGuard):
    """A storage process that can be down, and an agent that can die before a call."""

    is_down: bool = False
    # Less than these the storage does not read at once, but of holes.
    sector_bytes: int = 512
    calls_left: int | None = None  # of jobs, before the agent dies; None: it lives
    death: Callable[[str], BaseException] = AgentStopping
    dies_at_commits: bool = False  # of the agent's store as well

    @property
    def is_dead(self) -> bool:
        return self.calls_left is not None and self.calls_left < 0

    def leases(self) -> Leases:
        self._check()
        return LeasingGuard.leases(self)

    def lockspaces(self) -> tuple[JoinedAt, ...]:
        self._check()
        return LeasingGuard.lockspaces(self)

    def join(
        self, lockspace: LockspaceAt, host_id: int, io_timeout_s: int = IO_TIMEOUT_S
    ) -> None:
        self._check()
        LeasingGuard.join(self, lockspace, host_id, io_timeout_s)

    def leave(self, lockspace: LockspaceAt, host_id: int) -> None:
        self._check()
        LeasingGuard.leave(self, lockspace, host_id)

    def acquire(self, resource: ResourceAt, version: int | None = None) -> int:
        self._check()
        return LeasingGuard.acquire(self, resource, version)

    def release(self, resource: ResourceAt) -> None:
        self._check()
        LeasingGuard.release(self, resource)

    def file(
        self,
        domain: str,
        root: str,
        operations: Sequence[Mapping[str, Any]],
        deadline_s: float = FILE_DEADLINE_S,
        needs: Sequence[Need] = (),
    ) -> tuple[Any, ...]:
        self._check()
        for each in operations:
            size_bytes = int(each.get("size_bytes", self.sector_bytes))
            if size_bytes % self.sector_bytes and Path(each["path"]).stat().st_blocks:
                raise FileFailed("too small a piece", errno="EINVAL")
        return LeasingGuard.file(self, domain, root, operations, deadline_s, needs)

    def pass_commit(self) -> None:
        """Let a job write down how far it is; as `pass_call`."""
        is_job = threading.current_thread().name.startswith("job-")
        if is_job and not self.is_down and (self.dies_at_commits or self.is_dead):
            self._check()  # who is dead writes nothing down

    def pass_call(self) -> None:
        """Let a call be made that is counted; AgentStopping if it is one too many."""
        self._check()

    def _check(self) -> None:
        if self.is_down:
            raise GuardDown("there is no socket")
        if self.calls_left is None:
            return
        if self.is_dead:
            raise self.death("the agent is dead")
        if threading.current_thread().name.startswith("job-"):
            self.calls_left -= 1
            if self.is_dead:
                raise self.death("the agent dies")


class MortalStore(Store):
    """A store whose agent may die before each commit of a job, and after it."""

    def __init__(self, path: Path, clock: Clock, node_id: NodeId, guard: Guard) -> None:
        super().__init__(path, clock, node_id, "boot-1")
        self._guard = guard

    @contextlib.contextmanager
    def change(self) -> Iterator[Change]:
        with super().change() as change:
            yield change
            self._guard.pass_commit()
        self._guard.pass_commit()


@dataclass(slots=True)
class Node:
    """One node; `kill` it and make another one on its folder: it restarted."""

    node_id: NodeId
    folder: Path
    mounts: FakeMounts
    guard: Guard
    store: Store
    jobs: Jobs
    storage: Storage
    uses: dict[str, Use]
    changes: list[None]
    told_definitions: list[Vm]
    volumes: PoolVolumes = field(init=False)

    def __post_init__(self) -> None:
        self.volumes = self.storage.volumes()

    @property
    def problems_changed(self) -> int:
        return len(self.changes)

    def start(self, others: Mapping[str, Handler]) -> None:
        """`others` run jobs that are not of storage."""
        self.jobs.recover({**others, **self.storage.job_handlers()})
        self.jobs.start()
        self.storage.start()

    def stop(self) -> None:
        self.jobs.stop(WAIT_S)
        self.storage.stop(WAIT_S)
        self.store.close()

    def end_of(self, job: Job) -> Job:
        """Return a job when it has ended."""
        ended = self.jobs.get(job.job_id, WAIT_S)
        assert ended.state in ENDED, f"{ended} does not end"
        return ended

    def done(self, job: Job) -> Job:
        """Return a job that has ended well."""
        ended = self.end_of(job)
        assert ended.state is JobState.DONE, ended
        return ended

    def has_died(self, job_id: JobId) -> bool:
        """Wait until a job has ended, or the agent died over it; tell which."""
        wait_until(lambda: self.guard.is_dead or self.jobs.get(job_id).state in ENDED)
        return self.guard.is_dead

    def error(self, job: Job) -> str:
        """Return the code of the error that a job ended with."""
        ended = self.end_of(job)
        assert ended.error is not None, ended
        return ended.error.code

    def pool(self, pool_id: PoolId) -> PoolDocument:
        return self.storage.pool_show(pool_id)

    def domain(self, storage_domain_id: StorageDomainId) -> StorageDomainDocument:
        return self.storage.storage_domain_show(storage_domain_id)

    def wait_state(
        self, storage_domain_id: StorageDomainId, state: DomainState
    ) -> None:
        wait_until(lambda: self.found(storage_domain_id, state))

    def found(self, storage_domain_id: StorageDomainId, state: DomainState) -> bool:
        """Tell whether a storage domain is known, and in a state."""
        known = self.storage.storage_domain_list().storage_domains
        return any(
            each.storage_domain.storage_domain_id == storage_domain_id
            and each.state is state
            for each in known
        )


@dataclass(slots=True)
class Nodes:
    """Nodes that share one storage."""

    folder: Path
    leases: FakeLeaseStorage = field(default_factory=FakeLeaseStorage)
    running: list[Node] = field(default_factory=list)
    has_watchdog: bool = True
    # Which VM runs with a disk elsewhere, as leases tell.
    user_elsewhere: Callable[[str], str | None] = lambda _disk_id: None
    # Keeps VMs that have a disk from starting; and who hears of their definitions.
    holding: Holding = holding_nobody
    on_defined: Callable[[Vm], object] = lambda _vm: None
    guards: dict[str, Guard] = field(default_factory=dict)
    # What else a node has, before its jobs go on; it says who runs them.
    prepare: Callable[[Node], Mapping[str, Handler]] = lambda _node: {}

    @property
    def shared(self) -> Path:
        found = self.folder / "shared"
        found.mkdir(exist_ok=True)
        return found

    def connection(self, name: str) -> Connection:
        """Return the way to a folder of the shared file system."""
        path = self.shared / name
        path.mkdir(exist_ok=True)
        return Connection(DomainType.POSIXFS, str(path))

    def guard(self, number: int) -> Guard:
        """Return a node's storage process, which outlives its agents."""
        machine = NODES[number]
        made = Guard(storage=self.leases, machine=machine)
        return self.guards.setdefault(machine, made)

    def start(self, number: int = 0, *, has_local: bool = False) -> Node:
        """Start a node, or start it again."""
        node_id = NodeId(NODES[number])
        folder = self.folder / f"node-{number}"
        folder.mkdir(exist_ok=True)
        clock = SystemClock()
        table = [
            Mount("/dev/vda1", "/", "ext4"),
            Mount("nas:/shared", str(self.shared), "nfs4"),
        ]
        mounts = FakeMounts(table)
        guard = self.guard(number)
        store = MortalStore(folder / "node.db", clock, node_id, guard)
        jobs = Jobs(store, clock)
        uses: dict[str, Use] = {}
        changes: list[None] = []
        told: list[Vm] = []

        def hear(vm: Vm) -> None:
            told.append(vm)
            self.on_defined(vm)

        world = World(
            node_id,
            f"n{number}",
            guard,
            clock,
            jobs,
            Memory(store),
            Reach(mounts, folder / "run", guard, LocalFolders(mounts.find)),
            lambda: self.has_watchdog,
            lambda: True,  # an aggregator leads: nobody comes forward by himself
            functools.partial(_copy, uses),
            lambda disk_id: self.user_elsewhere(disk_id),
            holding=lambda *how: self.holding(*how),
            on_defined=hear,
            on_problems=lambda: changes.append(None),
            options=Options(io_timeout_s=1),
        )
        local = folder / "local" if has_local else None
        node = Node(
            *(node_id, folder, mounts, guard, store, jobs),
            Storage(store, world, local),
            uses,
            changes,
            told,
        )
        node.start(self.prepare(node))
        self.running.append(node)
        return node

    def restart(self, node: Node) -> Node:
        """Start a node's agent again; its storage process went on."""
        self.stop(node)
        number = NODES.index(node.node_id)
        return self.start(number, has_local=(node.folder / "local").exists())

    def stop(self, node: Node) -> None:
        node.stop()
        node.guard.calls_left = None
        self.running.remove(node)

    def close(self) -> None:
        for node in list(self.running):
            self.stop(node)


def _copy(uses: dict[str, Use]) -> Mapping[str, Use]:
    return dict(uses)


def wait_until(is_so: Callable[[], object]) -> None:
    """Wait until something is so; fail after a while."""
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


VM = VmId("bbbbbbbb-1111-4222-8333-000000000001")
