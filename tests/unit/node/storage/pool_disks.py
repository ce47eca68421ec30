"""A pool on real folders with its disks: what tests of its services start from."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from node.clock import SystemClock
from node.contract.memories import VmSuspended
from node.contract.volumes import VmRunsElsewhere
from node.jobs import AgentStopping, Jobs
from node.model.ids import DiskId, JobId, NodeId, StorageDomainId
from node.model.job import Job
from node.model.storage import DiskFormat
from node.model.storage_requests import CreateDisk
from node.storage.disks.tasks import Named
from node.storage.disks.verbs import Disks, first_volume
from node.storage.disks.work import DiskWork
from node.storage.domains.access import Access
from node.storage.domains.catalog import Catalog
from node.storage.formats import volume_meta
from node.storage.formats.volume_meta import Allocation, Format, VolumeMeta, VolumeRole
from node.storage.spm.pool import Pool
from node.storage.spm.term import Term
from node.store import Store
from node.units import MiB
from tests.fakes.pool_guard import PoolGuard
from tests.fakes.pool_nodes import PoolNode, PoolWorld
from tests.unit.node.storage.examples import OTHER_SD, POOL, SD
from tests.unit.node.storage.small_qemu import qemu_img, write_qcow2

SIZE = MiB
LONG_S = 30.0  # nothing here takes so long unless it is broken
META = VolumeMeta(SD, "", SIZE, Format.COW, Allocation.SPARSE, VolumeRole.LEAF, 1)


def put(access: Access, image_id: str, volume_id: str, **fields: object) -> Path:
    """Write a thin qcow2 volume by hand; `fields` are of its metadata."""
    meta = replace(META, storage_domain_id=access.storage_domain_id, image_id=image_id)
    meta = replace(meta, **fields)  # type: ignore[arg-type]  # what a test names
    path = Path(access.layout.volume(image_id, volume_id))
    path.parent.mkdir(exist_ok=True)
    said = ("", "") if meta.parent_id is None else (meta.parent_id, "qcow2")
    write_qcow2(path, *said)
    Path(f"{path}.meta").write_bytes(volume_meta.write(meta))
    Path(f"{path}.lease").touch()
    return path


def link(access: Access, source_id: str, image_id: str, volume_id: str) -> None:
    """Link a template's volume into an image."""
    source = Path(access.layout.volume(source_id, volume_id))
    target = Path(access.layout.volume(image_id, volume_id))
    target.parent.mkdir(exist_ok=True)
    for part in ("", ".meta", ".lease"):
        os.link(f"{source}{part}", f"{target}{part}")


def touch(folder: Path, seconds: int) -> None:
    """Let a folder have been changed at another time."""
    os.utime(folder, (seconds, seconds))


@dataclass(slots=True)
class Agent:
    """A node with the service for disks, from one start to the next."""

    world: PoolWorld
    node: PoolNode
    store: Store
    jobs: Jobs
    work: DiskWork
    disks: Disks
    catalog: Catalog
    running: dict[str, str] = field(default_factory=dict)  # VMs by their disks
    named: dict[str, Named] = field(default_factory=dict)  # by definitions
    defined: list[str] = field(default_factory=list)  # what they had to follow
    follow: list[Callable[[str], None]] = field(default_factory=list)  # who does
    # What happened to the VMs whose disks were worked on, in order.
    held: list[str] = field(default_factory=list)
    # "stops": when a definition is to follow; "runs elsewhere", "is suspended": a VM
    # with the disks;
    # "is succeeded": another node manages the pool.
    moods: set[str] = field(default_factory=set)
    news: list[str] = field(default_factory=list)
    told: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)  # events

    @property
    def pool(self) -> Pool:
        return self.node.pool

    @property
    def guard(self) -> PoolGuard:
        return self.node.guard

    def end_of(self, job: Job) -> Job:
        ended = self.jobs.get(job.job_id, LONG_S)
        assert ended.ended_at, f"{ended} does not end"
        return ended

    def folder(self, image_id: str, storage_domain_id: str = SD) -> Path:
        return Path(self.world.access(storage_domain_id).layout.image(image_id))

    def journals(self) -> list[Path]:
        return list(Path(self.world.access(SD).layout.journals).iterdir())


def agent(
    world: PoolWorld,
    folder: Path,
    node_id: str = "node-1",
    guard: PoolGuard | None = None,
) -> Agent:
    """Return a node as it is before its jobs are started."""
    works: list[DiskWork] = []

    def recover(term: Term) -> None:
        for each in works:
            each.recover(term)

    node = world.node(node_id, recover, guard)
    node.guard.programs.setdefault("qemu-img", qemu_img(node.guard))
    folder.mkdir(exist_ok=True)
    store = Store(folder / "node.db", world.clock, NodeId(node_id), "boot")
    all_jobs = Jobs(store, SystemClock())
    catalog = Catalog(node.guard, world.clock)
    running: dict[str, str] = {}
    named: dict[str, Named] = {}
    defined: list[str] = []
    follow: list[Callable[[str], None]] = []
    held: list[str] = []
    moods: set[str] = set()

    def named_by(disk_id: str, storage_domain_id: str) -> tuple[Named, ...]:
        return (named[disk_id],) if disk_id in named else ()

    def define(text: str) -> None:
        if "stops" in moods:
            raise AgentStopping("now")
        defined.append(text)
        for each in follow:
            each(text)
        held.append("define")

    @contextmanager
    def holding(
        disk_ids: frozenset[str], may_sleep: bool
    ) -> Iterator[Callable[[str], None]]:
        if "is suspended" in moods and not may_sleep:
            raise VmSuspended("it is")
        if "runs elsewhere" in moods:
            raise VmRunsElsewhere("it does")
        ours = sorted(disk_ids & named.keys())
        held.extend(f"hold {each}" for each in ours)
        yield lambda vm_id: held.append(f"let go {vm_id}")
        held.extend("end" for _ in ours)

    news: list[str] = []
    told: list[tuple[str, Mapping[str, str]]] = []
    work = DiskWork(
        *(node.pool, NodeId(node_id), node.guard, all_jobs, catalog),
        clock=world.clock,
        holder=lambda: NodeId("node-9") if "is succeeded" in moods else None,
        vm_of=running.get,
        on_news=lambda: news.append("news"),
        define=define,
        named_by=named_by,
        holding=holding,
        tell=lambda code, fields: told.append((code, fields)),
    )
    works.append(work)
    disks = Disks(node.pool, work, catalog, world.clock)
    parts = (world, node, store, all_jobs, work, disks, catalog)
    return Agent(*parts, running, named, defined, follow, held, moods, news, told)


@contextmanager
def started(made: Agent) -> Iterator[Agent]:
    """Run the jobs of a node until the end of the block."""
    made.jobs.recover(made.work.job_handlers())
    made.jobs.start()
    try:
        yield made
    finally:
        made.jobs.stop(LONG_S)
        made.store.close()


def make_pool(world: PoolWorld, made: Agent) -> None:
    """Make the node manager of a pool with two storage domains."""
    made.pool.create(world.make(made.node, SD))
    made.pool.attach(world.make(made.node, OTHER_SD))
    made.pool.activate(OTHER_SD)


@contextmanager
def managing(tmp_path: Path) -> Iterator[Agent]:
    """Yield a started node that manages a pool with two storage domains."""
    world = PoolWorld(tmp_path, POOL)
    made = agent(world, tmp_path / "store")
    make_pool(world, made)
    with started(made):
        yield made


def new_disk(disk_id: str, job_id: str | None = None, **fields: object) -> CreateDisk:
    """Return the request for a thin raw disk, which no program has to make."""
    request = CreateDisk(
        DiskId(disk_id),
        "root",
        StorageDomainId(SD),
        SIZE,
        DiskFormat.RAW,
        job_id=JobId(job_id) if job_id else None,
    )
    return replace(request, **fields)  # type: ignore[arg-type]  # what a test names


def volume_of(disk_id: str) -> str:
    return first_volume(disk_id)
