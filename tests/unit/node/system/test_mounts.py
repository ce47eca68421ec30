"""What /proc/self/mountinfo says: by hand."""

from pathlib import Path

import pytest

from node.system import mounts
from node.system.mounts import Mount

TABLE = (
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n"
    "40 22 0:35 / /mnt/a rw,nosuid shared:20 master:2 - nfs4 nas:/a\\040b rw,vers=4.2\n"
    "41 22 0:36 / /mnt/with\\040blank rw - fuse.glusterfs nas:/v rw\n"
    "42 40 0:37 / /mnt/a ro - tmpfs none ro\n"
)


def test_parse_reads_sources_targets_and_file_systems() -> None:
    assert mounts.parse(TABLE) == (
        Mount("/dev/sda1", "/", "ext4", ("rw", "relatime")),
        Mount("nas:/a b", "/mnt/a", "nfs4", ("rw", "nosuid")),
        Mount("nas:/v", "/mnt/with blank", "fuse.glusterfs", ("rw",)),
        Mount("none", "/mnt/a", "tmpfs", ("ro",)),
    )


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/", "/dev/sda1"),
        ("/mnt", "/dev/sda1"),
        ("/mnt/ab", "/dev/sda1"),
        ("/mnt/a/b/c", "none"),
        ("/mnt/with blank/x", "nas:/v"),
    ],
)
def test_lying_on_is_the_deepest_and_newest_mount(path: str, source: str) -> None:
    assert mounts.lying_on(mounts.parse(TABLE), Path(path)).source == source


@pytest.mark.parametrize(
    ("file_system", "expected"),
    [
        ("ext4", (True, False)),
        ("tmpfs", (False, True)),
        ("nfs4", (False, False)),
        ("fuse.mergerfs", (False, False)),
        ("brand-new-cluster-fs", (False, False)),
    ],
)
def test_only_what_is_known_to_be_one_hosts_is_local(
    file_system: str, expected: tuple[bool, bool]
) -> None:
    mount = Mount("a", "/", file_system)
    assert (mount.is_local, mount.is_scratch) == expected


@pytest.mark.parametrize(
    ("told", "asked", "expected"),
    [
        pytest.param("nas:/a", "nas:/a", True, id="same"),
        pytest.param("nas:/a", "nas:/a/", True, id="last-slash"),
        pytest.param("nas:/a/b", "nas://a//b", True, id="slashes"),
        pytest.param("nas:/", "nas:/", True, id="root"),
        pytest.param("nas:/a", "nas:/ab", False, id="longer"),
        pytest.param("nas:/a", "san:/a", False, id="other-server"),
        pytest.param("tmpfs", "none", False, id="other-word"),
        pytest.param("/dev/null", "/dev/zero", False, id="other-disk"),
    ],
)
def test_is_same_passes_over_slashes_that_mean_nothing(
    told: str, asked: str, expected: bool
) -> None:
    assert mounts.is_same(told, asked) is expected


def test_is_same_follows_the_names_of_a_disk() -> None:
    # What a process has open is a link in /dev to a link elsewhere, as disks' ids are.
    with Path("/dev/null").open("rb") as file:
        assert mounts.is_same("/dev/null", f"/dev/fd/{file.fileno()}")
