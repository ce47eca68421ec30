"""Storage domains that are called something else, or lie somewhere else."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.model.ids import DiskId, PoolId, StorageDomainId
from node.model.storage import DiskFormat, DomainState
from node.model.storage_requests import (
    ActOnStorageDomain,
    AttachStorageDomain,
    ChangeStorageDomain,
    ConnectPool,
    CreateDisk,
    CreatePool,
    CreateStorageDomain,
)
from node.storage.formats import domain_meta
from node.units import MiB
from tests.unit.node.storage.pools.nodes import Node, Nodes, wait_until

ALPHA = StorageDomainId("11111111-1111-4222-8333-00000000000a")
BETA = StorageDomainId("11111111-1111-4222-8333-00000000000b")
POOL = PoolId("22222222-1111-4222-8333-00000000000a")
DISK = DiskId("cccccccc-1111-4222-8333-000000000001")
ACT = ActOnStorageDomain()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    made.close()


@pytest.fixture
def one(nodes: Nodes) -> Node:
    """Return the manager of a pool with alpha and beta, which wipes its disks."""
    node = nodes.start()
    for key, name in ((ALPHA, "alpha"), (BETA, "beta")):
        request = CreateStorageDomain(
            key,
            name,
            nodes.connection(name),
            description=f"{name} is made",
            wipe_after_delete=key == BETA,
        )
        node.done(node.storage.storage_domain_create(request))
    node.done(node.storage.pool_create(CreatePool(POOL, "main", ALPHA)))
    node.done(node.storage.storage_domain_attach(BETA, AttachStorageDomain(POOL)))
    node.done(node.storage.storage_domain_activate(BETA, ACT))
    return node


def change(node: Node, request: ChangeStorageDomain) -> None:
    node.done(node.storage.storage_domain_change(BETA, request))


def metadata(nodes: Nodes, place: str) -> domain_meta.DomainMeta:
    path = Path(nodes.connection(place).path, BETA, "dom_md", "metadata")
    return domain_meta.parse(path.read_bytes())


def test_what_is_said_of_new_ones_stays_with_the_pool(one: Node) -> None:
    alpha, beta = (one.domain(each).storage_domain for each in (ALPHA, BETA))
    assert (alpha.description, alpha.wipe_after_delete) == ("alpha is made", False)
    assert (beta.description, beta.wipe_after_delete) == ("beta is made", True)


@pytest.mark.parametrize(
    ("where", "asked", "is_wiped"),
    [
        pytest.param(BETA, None, True, id="as-the-storage-domain-says"),
        pytest.param(ALPHA, None, False, id="as-another-says"),
        pytest.param(BETA, False, False, id="as-asked"),
    ],
)
def test_new_disk_is_wiped_as_its_storage_domain_says(
    one: Node, where: StorageDomainId, asked: bool | None, is_wiped: bool
) -> None:
    request = CreateDisk(
        DISK, "root", where, MiB, DiskFormat.RAW, wipe_after_delete=asked
    )
    one.done(one.storage.disk_create(request))
    wait_until(lambda: one.storage.disk_list().disks)
    assert one.storage.disk_show(DISK).wipe_after_delete is is_wiped


def test_change_is_seen_by_all_nodes_and_written_down(nodes: Nodes, one: Node) -> None:
    other = nodes.start(1)
    way = one.domain(ALPHA).storage_domain
    other.done(other.storage.pool_connect(POOL, ConnectPool("main", (way,))))
    assert "pool_joined" in [each.code for each in other.store.events(0).events]
    change(one, ChangeStorageDomain("gold", "fast", wipe_after_delete=False))
    assert metadata(nodes, "beta").description == "gold"

    def has_heard(node: Node) -> bool:
        node.storage.roster.poke()
        told = node.domain(BETA).storage_domain
        said = (told.name, told.description, told.wipe_after_delete)
        return said == ("gold", "fast", False)

    other.wait_state(BETA, DomainState.ACTIVE)
    wait_until(lambda: has_heard(one))
    wait_until(lambda: has_heard(other))
    generation = one.pool(POOL).generation
    change(one, ChangeStorageDomain("gold"))
    assert one.pool(POOL).generation == generation


def test_moved_storage_is_used_at_its_new_place(nodes: Nodes, one: Node) -> None:
    new = nodes.connection("gamma")
    one.done(one.storage.storage_domain_maintain(BETA, ACT))
    Path(new.path).rmdir()
    shutil.move(nodes.connection("beta").path, new.path)
    change(one, ChangeStorageDomain(connection=new))
    assert metadata(nodes, "gamma").remote_path == new.path
    one.done(one.storage.storage_domain_activate(BETA, ACT))
    one.wait_state(BETA, DomainState.ACTIVE)
    assert one.domain(BETA).storage_domain.connection == new


@pytest.mark.parametrize(
    ("rests", "place", "code"),
    [
        pytest.param(False, "gamma", "storage_domain_active", id="active"),
        pytest.param(True, "alpha", "storage_domain_not_found", id="another-one"),
    ],
)
def test_connection_is_refused_and_nothing_changed(
    nodes: Nodes, one: Node, rests: bool, place: str, code: str
) -> None:
    if rests:
        one.done(one.storage.storage_domain_maintain(BETA, ACT))
    request = ChangeStorageDomain(connection=nodes.connection(place))
    generation = one.pool(POOL).generation
    assert one.error(one.storage.storage_domain_change(BETA, request)) == code
    assert one.pool(POOL).generation == generation
    assert metadata(nodes, "beta").remote_path == nodes.connection("beta").path


def test_copy_is_refused_by_a_change_of_its_name(nodes: Nodes, one: Node) -> None:
    one.done(one.storage.storage_domain_maintain(BETA, ACT))
    path = Path(nodes.connection("beta").path, BETA, "dom_md", "metadata")
    moved = replace(metadata(nodes, "beta"), remote_path="/elsewhere")
    path.write_bytes(domain_meta.write(moved))
    job = one.storage.storage_domain_change(BETA, ChangeStorageDomain("gold"))
    assert one.error(job) == "storage_domain_copied"
    assert metadata(nodes, "beta") == moved
