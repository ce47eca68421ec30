"""Give the tests storage processes, domains and leases."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.storage.guard import SocketGuard
from node.storage.process.launch import STORAGE_ID
from node.storage.process.protocol import LockspaceAt, Need, ResourceAt
from tests.fakes import storage_process
from tests.fakes.storage_process import Instances


@pytest.fixture
def instances(tmp_path: Path) -> Iterator[Instances]:
    """Return the means to start real storage processes with a fake sanlock."""
    if why_not := storage_process.why_not():
        pytest.skip(why_not)
    with storage_process.instances(tmp_path) as made:
        yield made


@pytest.fixture
def guard(instances: Instances) -> SocketGuard:
    return instances.start()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SocketGuard]:
    """Return a client of a storage process that a module's tests share."""
    if why_not := storage_process.why_not():
        pytest.skip(why_not)
    with storage_process.instances(tmp_path_factory.mktemp("shared")) as made:
        yield made.start()


@pytest.fixture
def domain() -> Iterator[Path]:
    """Return a folder that the storage user reaches: pytest's own are root's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        inner = Path(folder, "domain")
        inner.mkdir()
        if os.geteuid() == 0:
            os.chown(inner, STORAGE_ID, STORAGE_ID)
        yield inner


class Lease:
    """A lease of a lockspace of its own, that a guard has acquired."""

    def __init__(self, guard: SocketGuard, name: str = "space") -> None:
        lockspace = LockspaceAt(name, f"/nowhere/{name}")
        self.resource = ResourceAt(name, "SDM", f"/nowhere/{name}-leases", 1 << 20)
        guard.write_lockspace(lockspace)
        guard.join(lockspace, 1)
        guard.write_resource(self.resource)
        self.lockspace = lockspace
        self.version = guard.acquire(self.resource)

    @property
    def need(self) -> Need:
        return Need(self.resource.lockspace, self.resource.name, self.version)


@pytest.fixture
def lease(guard: SocketGuard) -> Lease:
    return Lease(guard)
