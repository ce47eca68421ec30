"""Operations on disks through the real storage process, as its user."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pytest

from node import jobs
from node.model.ids import NodeId
from node.storage.disks import executor
from node.storage.disks.actions import Home, ProgramFailed
from node.storage.disks.executor import Executor, Mandate, NobodyWatches, Order
from node.storage.domains.file import FileDomain
from node.storage.formats import layout
from node.storage.formats.layout import Layout
from node.storage.formats.volume_meta import Allocation, Format
from node.storage.guard import GuardFiles, SocketGuard
from node.storage.operations import add_volume, change, copy, create, delete
from node.storage.operations.copy import CopyOf
from node.storage.operations.facts import Site
from node.storage.operations.plan import Plan
from node.storage.process.launch import STORAGE_ID
from node.storage.process.protocol import LockspaceAt, Need, ResourceAt
from node.units import MiB
from tests.contract import disks
from tests.contract.disks import new
from tests.fakes import storage_process
from tests.unit.node.storage.examples import SD

DISK = "d15c0000-0000-4000-8000-000000000001"
OTHER = "d15c0000-0000-4000-8000-000000000002"
V1, V2, V3 = (f"70100000-0000-4000-8000-00000000000{n}" for n in range(1, 4))
JOB = "5cc55a2c-0000-4000-8000-000000000001"

pytestmark = pytest.mark.real


@dataclass(frozen=True, slots=True)
class Pool:
    """A storage domain, and the process that writes there."""

    guard: SocketGuard
    root: Path
    need: Need
    images: Path  # where base images lie: not on the pool, and on this machine

    @property
    def domain(self) -> FileDomain:
        files = GuardFiles(self.guard, SD, str(self.root), [self.need])
        return FileDomain(files, PurePosixPath(self.root), Site(SD))

    def executor(self) -> Executor:
        homes = {SD: Home(str(self.root))}
        mandate = Mandate("node", self.need.version, {SD: (self.need,)})
        return Executor(self.guard, homes, SD, mandate, images=self.images)

    def run(self, plan: Plan) -> None:
        self.executor().execute(Order(JOB, "test", DISK), plan, NobodyWatches())


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    if why_not := storage_process.why_not():
        pytest.skip(why_not)
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory(dir="/run") as own,  # no NFS, wherever the pool is
        storage_process.instances(tmp_path) as instances,
    ):
        folder = Path(name)
        storage_process.give(folder, STORAGE_ID)
        guard = instances.start()
        root = folder / SD
        for path in Layout(PurePosixPath(root)).folders():
            files = GuardFiles(guard, SD, str(folder))
            files.make_folder(str(path), layout.FOLDER_MODE)
        space = LockspaceAt(SD, f"/nowhere/{SD}")
        spm = ResourceAt(SD, layout.SPM_RESOURCE, "/nowhere/leases", MiB)
        guard.write_lockspace(space)
        guard.join(space, 1)
        guard.write_resource(spm)
        need = Need(SD, layout.SPM_RESOURCE, guard.acquire(spm))
        Path(own).chmod(0o711)
        yield Pool(guard, root, need, Path(own) / "images")


def test_disks_are_made_and_removed_with_the_owner_and_modes_of_ovirt(
    pool: Pool,
) -> None:
    pool.run(create.make(pool.domain.look(DISK), new(DISK, V1)))
    pool.run(add_volume.make(pool.domain.look(DISK), new(DISK, V2), V1))
    request = CopyOf(OTHER, V3, 1, Format.RAW, Allocation.PREALLOCATED)
    source = pool.domain.look(DISK).require()
    pool.run(copy.make(source, V2, pool.domain.look(OTHER), request))
    folders = [pool.root / "images" / image_id for image_id in (DISK, OTHER)]
    for path in (*folders, *(each for folder in folders for each in folder.iterdir())):
        status = path.stat()
        mode = layout.FOLDER_MODE if path.is_dir() else layout.FILE_MODE
        assert (status.st_uid, status.st_gid) == (STORAGE_ID, STORAGE_ID), path
        assert oct(status.st_mode & 0o7777) == oct(mode), path
    raw = pool.root / "images" / OTHER / V3
    assert raw.stat().st_blocks * 512 >= raw.stat().st_size == disks.SIZE
    pool.run(change.make_template(pool.domain.look(OTHER), V3))
    base = pool.domain.look(OTHER).require()
    pool.run(delete.make(pool.domain.look(DISK), is_wiped=True))
    pool.run(create.make(pool.domain.look(DISK), new(DISK, V1), base))
    assert pool.domain.users(OTHER) == (DISK,)
    pool.run(delete.make(pool.domain.look(DISK)))
    pool.run(delete.make(pool.domain.look(OTHER)))
    assert list((pool.root / "images").iterdir()) == []
    assert list((pool.root / "dom_md" / "skerry" / "journals").iterdir()) == []
    assert pool.guard.steps() == ()


def test_base_image_is_copied_by_the_storage_user_and_nothing_else(
    pool: Pool,
) -> None:
    pool.images.mkdir(mode=0o711)
    image = pool.images / "debian.qcow2"
    disks.run("qemu-img", "create", "-q", "-f", "qcow2", str(image), "2M")
    disks.qemu_io(image, Format.COW, "write -P 5 0 1M")
    image.chmod(0o600)
    plan = create.make(pool.domain.look(DISK), new(DISK, V1), image="debian")
    with pytest.raises(ProgramFailed, match="Permission denied"):
        pool.run(plan)
    assert list((pool.root / "images").iterdir()) == []
    image.chmod(0o644)
    before = image.read_bytes()
    pool.run(plan)
    volume = pool.root / "images" / DISK / V1
    status = volume.stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (STORAGE_ID, layout.FILE_MODE)
    disks.qemu_io(volume, Format.COW, "read -P 5 0 1M", "read -P 0 1M 3M")
    assert image.read_bytes() == before
    assert pool.guard.steps() == ()


@dataclass(slots=True)
class Leaver:
    """Lets the agent stop as soon as a program runs, or the job be cancelled."""

    error: jobs.AgentStopping | jobs.Cancelled
    guard: SocketGuard

    def check(self) -> None:
        if self.guard.steps():
            raise self.error

    def step(self, percent: int, text: str, data_node_id: NodeId | None = None) -> None:
        pass


def test_slow_copy_is_cancelled_or_found_again(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "LOOK_S", 0.0)  # else it may end before a look
    size = 64 * MiB
    raw = replace(new(DISK, V1), volume_format=Format.RAW, size_bytes=size)
    pool.run(create.make(pool.domain.look(DISK), raw))
    path = pool.root / "images" / DISK / V1
    disks.qemu_io(path, Format.RAW, f"write -P 5 0 {size}")
    source = pool.domain.look(DISK).require()
    plan = copy.make(source, V1, pool.domain.look(OTHER), CopyOf(OTHER, V2, 1))
    order = Order(JOB, "copy", OTHER)
    cancelled = Leaver(jobs.Cancelled("no"), pool.guard)
    assert leave(pool, order, plan, cancelled) == "job_cancelled"
    assert [each.name for each in (pool.root / "images").iterdir()] == [DISK]
    stopped = Leaver(jobs.AgentStopping("now"), pool.guard)
    assert leave(pool, order, plan, stopped) == "agent_stopping"
    (recovery,) = disks.recover(pool.executor())
    assert (recovery.outcome, recovery.error) == ("finished", None)
    copied = pool.root / "images" / OTHER / V2
    disks.run("qemu-img", "compare", "-f", "raw", "-F", "raw", str(path), str(copied))


def leave(pool: Pool, order: Order, plan: Plan, watch: Leaver) -> str:
    execute = pool.executor().execute
    return disks.code_of(lambda: execute(order, plan, watch))
