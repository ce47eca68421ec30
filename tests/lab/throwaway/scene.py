"""What all checks in the VM share: one server, one node, one pool; a plugin of pytest.

The pool's master lies on sectors of 4 KiB, and what a test needs besides it makes
anew, so that none depends on another.
"""

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from node.model.ids import DiskId, PoolId, StorageDomainId
from node.model.storage import (
    Allocation,
    Connection,
    DiskFormat,
    DomainState,
    DomainType,
    SpmState,
    StorageDomainDocument,
)
from node.model.storage_requests import (
    ActOnDisk,
    CopyDisk,
    CreateDisk,
    CreatePool,
    CreateStorageDomain,
    ResizeDisk,
)
from node.units import MiB
from tests.lab.throwaway import node as nodes
from tests.lab.throwaway import server as servers
from tests.lab.throwaway.node import Node, wait_until
from tests.lab.throwaway.server import Server

if TYPE_CHECKING:
    from tests.lab.throwaway.host import Host

SIZE = 4 * MiB
WRITE = ("-c", "write -P 5 1M 64k")
READ = ("-c", "read -P 5 1M 64k")
QEMU_USER = ("--reuid=libvirt-qemu", "--regid=kvm", "--init-groups")

# Either has the verbs of storage. A host is loaded by who has one: it costs seconds.
Asked: TypeAlias = "Node | Host"


@pytest.fixture(scope="session")
def server() -> Server:
    return servers.started()


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    with nodes.running(Path("/run/skerry")) as made:
        yield made


@pytest.fixture(scope="session")
def pool(node: Node) -> PoolId:
    disk = servers.disk_of_large_sectors()
    connection = Connection(DomainType.POSIXFS, disk, file_system="ext4")
    return make_pool(node, make_domain(node, connection))


def nfs(server: Server, version: str, options: str = "") -> Connection:
    """Return the way to a new folder of the export."""
    path = server.export(f"folder-{uuid.uuid4()}", version)
    return Connection(
        DomainType.NFS, path, servers.ADDRESS, nfs_version=version, options=options
    )


def make_domain(node: Asked, connection: Connection) -> StorageDomainId:
    key = StorageDomainId(str(uuid.uuid4()))
    request = CreateStorageDomain(key, f"on-{key[:8]}", connection)
    node.done(node.storage.storage_domain_create(request))
    return key


def make_pool(node: Asked, master: StorageDomainId) -> PoolId:
    key = PoolId(str(uuid.uuid4()))
    node.done(node.storage.pool_create(CreatePool(key, f"of-{key[:8]}", master)))
    return key


def make_disk(
    node: Asked,
    where: StorageDomainId,
    disk_format: DiskFormat = DiskFormat.QCOW2,
    allocation: Allocation = Allocation.THIN,
) -> DiskId:
    key = DiskId(str(uuid.uuid4()))
    request = CreateDisk(key, f"disk-{key[:8]}", where, SIZE, disk_format, allocation)
    node.done(node.storage.disk_create(request))
    wait_until(lambda: key in disk_ids(node), "the disk's document")
    return key


def disk_ids(node: Asked) -> set[DiskId]:
    return {each.disk_id for each in node.storage.disk_list().disks}


def shown(node: Node, key: StorageDomainId) -> StorageDomainDocument:
    return node.storage.storage_domain_show(key)


def manages(host: Asked, pool_id: PoolId) -> bool:
    """Tell whether a host manages a pool."""
    return host.storage.pool_show(pool_id).spm.state is SpmState.MANAGER


def is_in(node: Asked, key: StorageDomainId, state: DomainState) -> bool:
    """Tell whether a storage domain is in a state."""
    listed = node.storage.storage_domain_list().storage_domains
    return any(
        each.storage_domain.storage_domain_id == key and each.state is state
        for each in listed
    )


def leaf(node: Node, where: StorageDomainId, disk_id: DiskId) -> str:
    """Return the file of a disk of one volume."""
    (volume_id,) = node.storage.disk_show(disk_id).chain.volumes
    layout = node.storage.roster.seat_with(where).pool.access(where).layout
    return str(layout.volume(disk_id, volume_id))


def as_qemu(*words: str) -> None:
    """Run a program as libvirt runs QEMU."""
    servers.run("setpriv", *QEMU_USER, *words)


@contextlib.contextmanager
def reader(path: str, seconds: float) -> Iterator[None]:
    """Let another program have a file open for a while."""
    words = ("sh", "-c", 'exec <"$0"; echo open; exec sleep "$1"', path, f"{seconds}")
    with subprocess.Popen(
        ["setpriv", *QEMU_USER, *words], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "open\n"
        yield
        program.kill()


def check_disks(node: Node, where: StorageDomainId) -> None:
    """Make, write, grow, copy and delete disks of every kind."""
    raw = make_disk(node, where, DiskFormat.RAW, Allocation.PREALLOCATED)
    as_qemu("qemu-io", "-f", "raw", "-t", "none", *WRITE, leaf(node, where, raw))
    thin = make_disk(node, where)
    node.done(node.storage.disk_resize(thin, ResizeDisk(2 * SIZE)))
    copies = {}
    for source, disk_format in ((raw, DiskFormat.QCOW2), (thin, DiskFormat.RAW)):
        copies[source] = DiskId(str(uuid.uuid4()))
        request = CopyDisk(copies[source], where, disk_format=disk_format)
        node.done(node.storage.disk_copy(source, request))
    sizes = [node.storage.disk_show(each).size_bytes for each in copies.values()]
    assert sizes == [SIZE, 2 * SIZE]
    copied = leaf(node, where, copies[raw])
    as_qemu("qemu-io", "-f", "qcow2", "-t", "none", *READ, copied)
    assert node.storage.disk_show(raw).allocated_bytes >= SIZE
    assert node.storage.storage_domain_check(where).problems == ()
    every = {raw, thin, *copies.values()}
    for each in every:
        node.done(node.storage.disk_delete(each, ActOnDisk()))
    wait_until(lambda: not every & disk_ids(node), "no disks")
