"""How storage domains are reached and mounted: tables."""

from pathlib import Path, PurePosixPath

import pytest

from node.model.storage import Connection, DomainType
from node.storage.domains import access
from node.storage.domains.access import Access, LocalFolders, NotLocal
from node.storage.formats import domain_meta
from node.storage.formats.layout import Layout
from node.storage.process.protocol import LockspaceAt, Need, ResourceAt
from node.system.mounts import Mount
from node.units import MiB
from tests.unit.node.storage.examples import SD

LAYOUT = Layout(PurePosixPath("/mnt") / SD)
DOM_MD = f"/mnt/{SD}/dom_md"


def test_shared_storage_domain_has_leases_where_ovirt_looks() -> None:
    found = Access(LAYOUT, "nas:/a", sector_bytes=4096, alignment_bytes=2 * MiB)
    geometry = {"sector_bytes": 4096, "alignment_bytes": 2 * MiB}
    assert found.lockspace == LockspaceAt(SD, f"{DOM_MD}/ids", **geometry)
    assert found.spm_lease == ResourceAt(
        SD, "SDM", f"{DOM_MD}/leases", 2 * MiB, **geometry
    )
    assert found.need(7) == Need(SD, "SDM", 7)


def test_local_storage_domain_has_leases_of_its_own_kind() -> None:
    found = Access(LAYOUT, "/disk", is_local=True)
    path = f"{DOM_MD}/skerry/local_leases"
    assert found.lockspace == LockspaceAt(f"local:{SD}", path)
    assert found.need(7).lockspace == f"local:{SD}"


NFS = Connection(DomainType.NFS, "/export", "nas", nfs_version="4.2", options="ro,x")
POSIX = Connection(DomainType.POSIXFS, "nas:/vol", file_system="glusterfs")


@pytest.mark.parametrize(
    ("connection", "source", "stored", "mounting"),
    [
        pytest.param(
            NFS,
            "nas:/export",
            domain_meta.DomainType.NFS,
            (
                "nfs",
                (
                    *("soft", "nosharecache", "timeo=100", "retrans=3"),
                    *("vers=4.2", "ro", "x", "nosuid", "nodev"),
                ),
            ),
            id="nfs",
        ),
        pytest.param(
            POSIX,
            "nas:/vol",
            domain_meta.DomainType.POSIXFS,
            ("glusterfs", ("nosuid", "nodev")),
            id="posixfs",
        ),
    ],
)
def test_connection_says_how_it_is_mounted(
    connection: Connection,
    source: str,
    stored: domain_meta.DomainType,
    mounting: tuple[str, tuple[str, ...]],
) -> None:
    assert access.source(connection) == source
    assert access.stored_type(connection.kind) is stored
    assert access.mounting(connection) == mounting


LOCAL = ["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs"]
SHARED = [
    *("nfs", "nfs4", "cifs", "smb3", "ceph", "gfs2", "ocfs2", "lustre", "9p"),
    *("fuse", "fuseblk", "fuse.glusterfs", "fuse.sshfs", "fuse.mergerfs"),
    *("beegfs", "gpfs", "orangefs", "pvfs2", "afs", "virtiofs", "vboxsf", "acfs"),
    *("ecryptfs", "aufs", "ramfs", "iso9660", "vfat", "what-comes-next"),
]


@pytest.mark.parametrize("file_system", [*SHARED, "tmpfs", "overlay"])
def test_local_storage_domain_is_refused_where_others_may_reach_it(
    file_system: str,
) -> None:
    with pytest.raises(NotLocal):
        access.check_local(Mount("nas:/a", "/mnt", file_system), "/mnt/a")


@pytest.mark.parametrize("file_system", LOCAL)
def test_local_storage_domain_may_lie_on_a_disk(file_system: str) -> None:
    access.check_local(Mount("/dev/vda1", "/mnt", file_system), "/mnt/a")


@pytest.mark.parametrize("file_system", ["tmpfs", "overlay"])
def test_scratch_is_permitted_where_nothing_is_kept(file_system: str) -> None:
    mount = Mount("none", "/mnt", file_system)
    access.check_local(mount, "/mnt/a", permits_scratch=True)


@pytest.mark.parametrize("file_system", SHARED)
def test_permitted_scratch_permits_nothing_else(file_system: str) -> None:
    mount = Mount("nas:/a", "/mnt", file_system)
    with pytest.raises(NotLocal):
        access.check_local(mount, "/mnt/a", permits_scratch=True)


def test_local_folders_look_at_local_storage_domains_only() -> None:
    asked: list[Path] = []

    def find(path: Path) -> Mount:
        asked.append(path)
        return Mount("nas:/a", "/mnt", "nfs4")

    folders = LocalFolders(find)
    folders.check(Access(LAYOUT, "nas:/a"))
    assert asked == []
    with pytest.raises(NotLocal):
        folders.check(Access(LAYOUT, "/disk", is_local=True))
    assert asked == [Path(LAYOUT.root)]
