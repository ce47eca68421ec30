"""What people do to storage by mistake: refused, with a remedy, and nothing changed.

Each mistake is made on files that are really there; what leases would say is told by
fakes. What lies on the storage afterwards is compared byte for byte.
"""

import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.errors import Error
from node.model.ids import DiskId, PoolId, StorageDomainId
from node.model.job import Job
from node.model.storage import DiskFormat
from node.model.storage_requests import (
    AttachStorageDomain,
    ConnectPool,
    CreateDisk,
    CreatePool,
    CreateStorageDomain,
    ImportStorageDomain,
    RemoveStorageDomain,
)
from node.units import MiB
from tests.unit.node.storage.pools.nodes import Node, Nodes

ALPHA = StorageDomainId("11111111-1111-4222-8333-00000000000a")
BETA = StorageDomainId("11111111-1111-4222-8333-00000000000b")
OURS = PoolId("22222222-1111-4222-8333-00000000000a")
THEIRS = PoolId("22222222-1111-4222-8333-00000000000b")
NEW = PoolId("22222222-1111-4222-8333-00000000000c")
DISK = DiskId("cccccccc-1111-4222-8333-000000000001")
# What is written all the time by whoever is there, and leases: sanlock's, not ours.
ALIVE = frozenset({"ids", "leases", "presence", "__DIRECT_IO_TEST__"})
ODD_NAMES = ("a\nb", "x" * 5000, "a\0b", "", " ")
OF_OTHER_POOL = "storage_domain_of_other_pool"
ODD_SIZES = (-1, 0, 2**70)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def calm_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Return nodes for what is refused before it touches anything."""
    made = Nodes(tmp_path_factory.mktemp("mistakes"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def calm(calm_nodes: Nodes) -> Node:
    return _manager(calm_nodes)


@pytest.fixture
def ours(nodes: Nodes) -> Node:
    """Return the manager of our pool, whose only storage domain has a disk."""
    return _manager(nodes)


def _manager(nodes: Nodes) -> Node:
    node = nodes.start()
    _make(nodes, node, ALPHA, "alpha")
    node.done(node.storage.pool_create(CreatePool(OURS, "ours", ALPHA)))
    request = CreateDisk(DISK, "root", ALPHA, MiB, DiskFormat.RAW)
    node.done(node.storage.disk_create(request))
    return node


@pytest.fixture
def theirs(nodes: Nodes, ours: Node) -> Node:
    """Return a node of another fleet, with a pool of its own, on the same storage."""
    node = nodes.start(1)
    _make(nodes, node, BETA, "beta")
    node.done(node.storage.pool_create(CreatePool(THEIRS, "theirs", BETA)))
    return node


def _make(nodes: Nodes, node: Node, key: StorageDomainId, name: str) -> None:
    request = CreateStorageDomain(key, name, nodes.connection(name))
    node.done(node.storage.storage_domain_create(request))


def _digests(folder: Path) -> dict[str, str]:
    """Return what lies in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ALIVE
    }


def _refusal(node: Node, ask: Callable[[], Job]) -> tuple[str, str]:
    """Return code and remedy of the error, at once or of the job."""
    try:
        job = ask()
    except Error as error:
        return error.code, error.remedy
    ended = node.end_of(job)
    assert ended.error is not None, "it was not refused"
    return ended.error.code, ended.error.remedy


def _check_refused(
    nodes: Nodes, node: Node, ask: Callable[[], Job], codes: set[str]
) -> None:
    before = _digests(nodes.shared)
    code, remedy = _refusal(node, ask)
    assert code in codes
    assert remedy
    assert _digests(nodes.shared) == before


@pytest.mark.parametrize("is_forced", [False, True], ids=["asked", "forced"])
def test_storage_domain_of_a_living_fleet_is_not_imported(
    nodes: Nodes, theirs: Node, is_forced: bool
) -> None:
    request = ImportStorageDomain(nodes.connection("alpha"), ALPHA, THEIRS, is_forced)
    _check_refused(
        nodes,
        theirs,
        lambda: theirs.storage.storage_domain_import(request),
        {"spm_held"} if is_forced else {OF_OTHER_POOL},
    )


def test_storage_domain_of_another_fleet_makes_no_pool(
    nodes: Nodes, theirs: Node
) -> None:
    way = nodes.connection("alpha")
    looked = theirs.storage.storage_domain_import(ImportStorageDomain(way, ALPHA))
    theirs.done(looked)
    for ask in (
        lambda: theirs.storage.pool_create(CreatePool(THEIRS, "x", ALPHA)),
        lambda: theirs.storage.pool_create(CreatePool(NEW, "x", ALPHA)),
        lambda: theirs.storage.storage_domain_attach(
            ALPHA, AttachStorageDomain(THEIRS)
        ),
        lambda: theirs.storage.storage_domain_remove(
            ALPHA, RemoveStorageDomain(is_formatted=True)
        ),
    ):
        _check_refused(
            nodes, theirs, ask, {"pool_exists", "storage_domain_in_pool", OF_OTHER_POOL}
        )


def test_copy_of_a_storage_domain_is_not_taken_for_another(
    nodes: Nodes, ours: Node
) -> None:
    way = nodes.connection("copied")
    shutil.copytree(nodes.shared / "alpha", way.path, dirs_exist_ok=True)
    request = ImportStorageDomain(way, ALPHA, OURS)
    ask = functools.partial(ours.storage.storage_domain_import, request)
    _check_refused(nodes, ours, ask, {"storage_domain_copied"})


def test_copy_of_a_storage_domain_is_joined_by_nobody(nodes: Nodes, ours: Node) -> None:
    other = nodes.start(1)
    way = ours.domain(ALPHA).storage_domain
    other.done(other.storage.pool_connect(OURS, ConnectPool("ours", (way,))))
    copied = nodes.connection("copied")
    shutil.copytree(nodes.shared / "alpha", copied.path, dirs_exist_ok=True)
    request = ImportStorageDomain(copied, ALPHA)
    ask = functools.partial(other.storage.storage_domain_import, request)
    _check_refused(nodes, other, ask, {"storage_domain_copied"})


def test_pool_of_another_id_is_not_joined(nodes: Nodes, ours: Node) -> None:
    other = nodes.start(1)
    way = ours.domain(ALPHA).storage_domain
    request = ConnectPool("ours", (way,))
    ask = functools.partial(other.storage.pool_connect, THEIRS, request)
    _check_refused(nodes, other, ask, {"pool_map_lost"})


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "one-letter": lambda text: text.replace(b"alpha", b"alphb"),
    "pool": lambda text: text.replace(OURS.encode(), THEIRS.encode()),
    "no-checksum": lambda text: text.partition(b"_SHA_CKSUM")[0],
    "cut-off": lambda text: text[: len(text) // 2],
    "zeros": lambda text: bytes(len(text)),
    "empty": lambda text: b"",
    "twice": lambda text: text + text,
    "huge": lambda text: text * 10_000,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_metadata_are_refused_and_stay_as_they_are(
    nodes: Nodes, ours: Node, name: str
) -> None:
    stranger = nodes.start(1)
    (path,) = (nodes.shared / "alpha").glob("*/dom_md/metadata")
    whole = path.read_bytes()
    damaged = DAMAGES[name](whole)
    assert damaged != whole
    path.write_bytes(damaged)
    way = nodes.connection("alpha")
    import_ = stranger.storage.storage_domain_import
    request = ImportStorageDomain(way, ALPHA, is_forced=True)
    _check_refused(nodes, stranger, functools.partial(import_, request), METADATA)
    assert path.read_bytes() == damaged


METADATA = {
    "storage_metadata_checksum",
    "storage_metadata_damaged",
    "file_too_large",
}


@pytest.mark.parametrize(
    "name", ODD_NAMES, ids=["line", "long", "nul", "empty", "blank"]
)
def test_hostile_name_of_a_storage_domain_is_refused(
    calm_nodes: Nodes, calm: Node, name: str
) -> None:
    request = CreateStorageDomain(BETA, name, calm_nodes.connection("beta"))
    ask = functools.partial(calm.storage.storage_domain_create, request)
    codes = {
        "long_storage_description",
        "storage_domain_unnamed",
        "unwritable_metadata",
    }
    _check_refused(calm_nodes, calm, ask, codes)


@pytest.mark.parametrize("size_bytes", ODD_SIZES, ids=["negative", "none", "beyond"])
def test_hostile_size_of_a_disk_is_refused(
    calm_nodes: Nodes, calm: Node, size_bytes: int
) -> None:
    request = CreateDisk(DiskId(DISK[:-1] + "2"), "x", ALPHA, size_bytes)
    ask = functools.partial(calm.storage.disk_create, request)
    _check_refused(calm_nodes, calm, ask, {"bad_disk_size"})


@pytest.mark.parametrize("name", ["../../etc", "a/../b", "-x", "", "é" * 36])
def test_hostile_id_is_made_into_no_path(
    calm_nodes: Nodes, calm: Node, name: str
) -> None:
    request = CreateDisk(DiskId(name), "x", ALPHA, MiB)
    ask = functools.partial(calm.storage.disk_create, request)
    _check_refused(calm_nodes, calm, ask, {"bad_storage_id"})
