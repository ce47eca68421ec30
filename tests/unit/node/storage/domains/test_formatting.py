"""Empty storage domains, on real folders."""

import stat
from pathlib import Path, PurePosixPath

import pytest

from node.errors import Conflict
from node.storage.domains import formatting
from node.storage.domains.formatting import FolderTaken, StillAttached, WrongOwner
from node.storage.domains.host_ids import HOST_ID_MAX
from node.storage.formats import xlease_index
from node.storage.formats.domain_meta import DomainClass, DomainMeta, DomainType
from node.storage.formats.layout import Special
from node.storage.process.file_operations import FileFailed, FileMissing
from tests.fakes.guard import LocalFiles
from tests.fakes.pool_nodes import LOCAL_FOLDERS, NOW_S, PoolNode, PoolWorld
from tests.unit.node.storage.examples import IMAGE, OTHER_SD, POOL, SD

SPECIAL = {"ids", "inbox", "leases", "metadata", "outbox", "skerry", "xleases"}


@pytest.fixture
def world(tmp_path: Path) -> PoolWorld:
    return PoolWorld(tmp_path, POOL)


@pytest.fixture
def node(world: PoolWorld) -> PoolNode:
    return world.node("node-1")


def meta(storage_domain_id: str, source: str) -> DomainMeta:
    return DomainMeta(
        *(storage_domain_id, DomainType.POSIXFS, DomainClass.DATA, "one", source)
    )


def test_make_makes_what_ovirt_expects(world: PoolWorld, node: PoolNode) -> None:
    access = world.make(node, SD)
    dom_md = Path(access.layout.dom_md)
    assert {each.name for each in dom_md.iterdir()} == SPECIAL
    assert access.meta(node.guard) == meta(SD, access.source)
    modes = {
        stat.S_IMODE(each.stat().st_mode) for each in dom_md.iterdir() if each.is_file()
    }
    assert modes == {0o660}
    assert stat.S_IMODE(dom_md.stat().st_mode) == 0o771
    assert (dom_md / "inbox").stat().st_size == 16 << 20
    assert (dom_md / "skerry/presence").stat().st_size == HOST_ID_MAX * 4096
    with (dom_md / "xleases").open("rb") as file:
        file.seek(xlease_index.index_offset(access.alignment_bytes))
        index = xlease_index.parse(file.read(xlease_index.SIZE))
    assert (index.lockspace, index.is_updating) == (SD, False)
    assert node.guard.storage.lockspaces == {SD: {}}
    assert list(node.guard.storage.leases) == [(SD, "SDM")]


def test_make_again_changes_nothing(world: PoolWorld, node: PoolNode) -> None:
    access = world.make(node, SD)
    node.pool.create(access)
    before = access.meta(node.guard)
    formatting.make(
        node.guard, access, meta(SD, access.source), NOW_S + 1, LOCAL_FOLDERS
    )
    assert access.meta(node.guard) == before


def test_make_goes_on_over_remains(world: PoolWorld, node: PoolNode) -> None:
    access = world.make(node, SD)
    dom_md = Path(access.layout.dom_md)
    for name in ("metadata", "xleases", "ids"):
        (dom_md / name).unlink()
    world.make(node, SD)
    assert {each.name for each in dom_md.iterdir()} == SPECIAL


def test_make_refuses_remains_with_disks(world: PoolWorld, node: PoolNode) -> None:
    access = world.make(node, SD)
    Path(access.layout.special(Special.METADATA)).unlink()
    Path(access.layout.image(IMAGE)).mkdir()
    with pytest.raises(FolderTaken):
        world.make(node, SD)


def test_make_refuses_a_folder_with_another_storage_domain(
    world: PoolWorld, node: PoolNode
) -> None:
    taken = world.make(node, SD)
    mount = taken.layout.root.parent
    found = formatting.look(LocalFiles(str(mount)), mount)
    assert [each.storage_domain_id for each in found] == [SD]
    other = type(taken)(type(taken.layout)(mount / OTHER_SD), taken.source)
    with pytest.raises(FolderTaken) as caught:
        formatting.make(
            node.guard, other, meta(OTHER_SD, taken.source), NOW_S, LOCAL_FOLDERS
        )
    assert caught.value.fields["storage_domain_id"] == SD
    assert not Path(other.layout.root).exists()


def test_destroy_removes_all_but_only_what_no_pool_has(
    world: PoolWorld, node: PoolNode
) -> None:
    access = world.make(node, SD)
    node.pool.create(access)
    with pytest.raises(StillAttached):
        formatting.destroy(node.guard, access, node.node_id)
    other = world.make(node, OTHER_SD)
    formatting.destroy(node.guard, other, node.node_id)
    formatting.destroy(node.guard, other, node.node_id)
    assert list(Path(other.layout.root.parent).iterdir()) == []


def test_denied_write_names_the_remedy() -> None:
    def write() -> None:
        with formatting.explained(PurePosixPath("/mnt")):
            raise FileFailed("no", path="/mnt/a", errno="EACCES")

    with pytest.raises(WrongOwner, match="/mnt/a") as caught:
        write()
    assert "chown 36:36" in caught.value.remedy


@pytest.mark.parametrize(
    "error", [FileFailed("x", errno="EIO"), FileMissing("x"), Conflict("x")]
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    def write() -> None:
        with formatting.explained(PurePosixPath("/mnt")):
            raise error

    with pytest.raises(type(error)):
        write()
