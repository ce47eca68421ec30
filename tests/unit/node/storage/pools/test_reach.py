"""The way to storage domains: what is mounted where, and what is refused."""

from pathlib import Path

import pytest

from node.errors import Error
from node.model.ids import StorageDomainId
from node.model.storage import (
    Connection,
    DomainClass,
    DomainType,
    StorageDomain,
)
from node.storage.domains import formatting
from node.storage.domains.access import Access, LocalFolders
from node.storage.formats import domain_meta
from node.storage.formats.domain_meta import DomainMeta
from node.storage.formats.layout import Layout
from node.storage.pools import reach
from node.storage.pools.reach import Reach
from node.system.mounts import Mount
from node.units import MiB
from tests.fakes.mounts import FakeMounts
from tests.fakes.pool_guard import PoolGuard
from tests.unit.node.storage.examples import SD

NFS = Connection(DomainType.NFS, "/export/alpha", "nas.lab", nfs_version="4.2")
CEPH = Connection(DomainType.POSIXFS, "mon1:/", file_system="ceph", options="name=x")


@pytest.fixture
def mounts(tmp_path: Path) -> FakeMounts:
    root = Mount("/dev/vda1", "/", "ext4")
    return FakeMounts([root, Mount("nas:/shared", str(tmp_path / "shared"), "nfs4")])


@pytest.fixture
def way(tmp_path: Path, mounts: FakeMounts) -> Reach:
    return Reach(mounts, tmp_path / "run", PoolGuard(), LocalFolders(mounts.find))


@pytest.mark.parametrize("connection", [NFS, CEPH], ids=lambda each: each.kind.value)
def test_what_is_mounted_lies_below_our_folder(
    way: Reach, mounts: FakeMounts, tmp_path: Path, connection: Connection
) -> None:
    place = way.enter(connection)
    assert way.enter(connection) == place
    (mount,) = (each for each in mounts.table if each.target == str(place))
    assert Path(place).parent == tmp_path / "run"
    assert mount.file_system == {NFS: "nfs", CEPH: "ceph"}[connection]
    assert {"nosuid", "nodev"} <= set(mount.options)
    way.close(connection)
    assert str(place) not in {each.target for each in mounts.table}


def test_mount_points_tell_their_source_and_differ(way: Reach) -> None:
    other = Connection(DomainType.NFS, "/export/alpha", "nas.lab", options="ro")
    names = [way.place(each).name for each in (NFS, other)]
    assert all(name.startswith("nas.lab:_export_alpha-") for name in names)
    assert len(set(names)) == 2
    long = Connection(DomainType.NFS, "/" + "é/" * 400, "nas.lab")
    assert len(way.place(long).name.encode()) < 255


def test_mount_that_went_is_made_again(way: Reach, mounts: FakeMounts) -> None:
    place = way.enter(NFS)
    mounts.table = [each for each in mounts.table if each.target != str(place)]
    way.keep(NFS)
    assert str(place) in {each.target for each in mounts.table}


def test_folder_that_others_mount_is_used_as_it_is(
    way: Reach, mounts: FakeMounts, tmp_path: Path
) -> None:
    before = list(mounts.table)
    connection = Connection(DomainType.POSIXFS, str(tmp_path / "shared/alpha"))
    assert str(way.enter(connection)) == connection.path
    way.keep(connection)
    way.close(connection)
    assert mounts.table == before


@pytest.mark.parametrize(
    ("kind", "folder", "code"),
    [
        pytest.param("posixfs", "mine", "storage_folder_not_shared", id="shared"),
        pytest.param("localfs", "shared/x", "storage_folder_not_local", id="local"),
    ],
)
def test_folder_of_the_other_kind_is_refused(
    way: Reach, tmp_path: Path, kind: str, folder: str, code: str
) -> None:
    with pytest.raises(Error) as caught:
        way.enter(Connection(DomainType(kind), str(tmp_path / folder)))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "connection",
    [
        pytest.param(Connection(DomainType.NFS, "/x"), id="no-server"),
        pytest.param(Connection(DomainType.NFS, "", "nas"), id="no-path"),
        pytest.param(Connection(DomainType.NFS, "x", "nas"), id="relative-export"),
        pytest.param(Connection(DomainType.LOCALFS, "x"), id="relative"),
        pytest.param(Connection(DomainType.POSIXFS, "x"), id="relative-posix"),
    ],
)
def test_check_refuses_what_leads_nowhere(connection: Connection) -> None:
    with pytest.raises(Error):
        reach.check(connection)


def test_open_knows_sectors_from_the_metadata(way: Reach, tmp_path: Path) -> None:
    folder = tmp_path / "shared" / "alpha"
    folder.mkdir(parents=True)
    connection = Connection(DomainType.POSIXFS, str(folder))
    layout = Layout(way.place(connection) / SD)
    access = Access(layout, str(folder), sector_bytes=4096)
    meta = DomainMeta(
        *(SD, domain_meta.DomainType.POSIXFS, domain_meta.DomainClass.DATA),
        *("alpha", str(folder)),
        sector_size=4096,
    )
    formatting.make(way.guard, access, meta, 1_700_000_000, way.local_folders)
    known = StorageDomain(StorageDomainId(SD), "alpha", DomainClass.DATA, connection)
    found = way.open(known)
    assert (found.sector_bytes, found.alignment_bytes) == (4096, MiB)
    assert (found.connection, found.is_local) == (connection, False)
