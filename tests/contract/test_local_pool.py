"""A local pool on the real storage process, which sanlock has no part in."""

import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from node.clock import SystemClock
from node.model.ids import NodeId
from node.storage.domains import formatting
from node.storage.domains.access import Access, LocalFolders
from node.storage.formats.domain_meta import DomainClass, DomainMeta, DomainType
from node.storage.formats.layout import Layout
from node.storage.guard import Guard
from node.storage.spm.pool import Pool
from node.storage.spm.states import State
from node.storage.spm.term import SpmLost
from node.system import command
from node.system.mounts import SystemMounts
from tests.fakes import storage_process
from tests.fakes.storage_process import Instances

SD = "275766cb-c7d8-43d6-a663-4e52160de620"
POOL = "5849b030-626e-47cb-ad90-3ce782d831b3"

# A test machine may keep its temporary files in memory.
LOCAL_FOLDERS = LocalFolders(SystemMounts(command.run).find, permits_scratch=True)

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        bool(storage_process.why_not()), reason=storage_process.why_not()
    ),
]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Instances]:
    with storage_process.instances(tmp_path) as made:
        yield made


@pytest.fixture
def access() -> Iterator[Access]:
    """Return a place that the storage user reaches: pytest's own are root's."""
    with tempfile.TemporaryDirectory() as folder:
        storage_process.give(Path(folder), 36)
        yield Access(Layout(PurePosixPath(folder) / SD), folder, is_local=True)


def pool_of(guard: Guard, access: Access) -> Pool:
    pool = Pool(
        *(POOL, NodeId("node-1"), guard, SystemClock()),
        local_folders=LOCAL_FOLDERS,
        recover=lambda _term: None,
        remember=lambda _map: None,
        has_watchdog=lambda: False,
    )
    pool.connect(access)
    return pool


def touch(pool: Pool, guard: Guard, access: Access) -> None:
    with pool.spm.work() as term:
        files = access.files(guard, term.needs(SD))
        files.write_whole(str(access.layout.images / "x"), b"x", 0o660)


def test_local_pool_is_managed_at_once_and_after_a_restart(
    process: Instances, access: Access
) -> None:
    guard = process.start()
    meta = DomainMeta(
        *(SD, DomainType.LOCALFS, DomainClass.DATA, "disk", access.source)
    )
    formatting.make(guard, access, meta, 1_700_000_000, LOCAL_FOLDERS)
    pool = pool_of(guard, access)
    pool.create(access)
    touch(pool, guard, access)
    first = pool.spm.term()
    process.kill()
    guard = process.start()
    with pytest.raises(SpmLost):
        touch(pool, guard, access)
    assert pool.spm.state is State.FREE
    again = pool_of(guard, access)
    again.refresh()
    assert again.spm.become().lease_version > first.lease_version
    touch(again, guard, access)
    with pytest.raises(Exception, match="not held") as caught:
        access.files(guard, first.needs(SD)).remove(str(access.layout.images / "x"))
    assert getattr(caught.value, "code", "") == "stale_lease"
    assert Path(access.layout.images / "x").exists()
