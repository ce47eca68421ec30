"""Test how the lab says what the machine lacks."""

from pathlib import Path

import pytest

from tests.lab import errors, requirements

MOUNTS = """\
1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 0:5 / /srv rw - tmpfs tmpfs rw
3 2 0:6 / /srv/disk rw shared:1 - xfs /dev/vdb rw
4 1 0:7 / /mnt rw - xfs /dev/vdc rw
5 1 0:8 / /mnt rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/opt/lab", "ext4"),
        ("/srv/lab", "tmpfs"),
        ("/srv/disk/lab", "xfs"),
        ("/srv-other", "ext4"),
        ("/mnt/lab", "tmpfs"),
    ],
    ids=["root", "mount", "below-mount", "name-alike", "mounted-over"],
)
def test_filesystem_is_that_of_the_nearest_mount(path: str, expected: str) -> None:
    assert requirements.filesystem(Path(path), MOUNTS) == expected


@pytest.mark.parametrize("path", ["/etc/lab", "/var/lib/lab", "/run/lab"])
def test_check_directory_refuses_what_members_overlay(path: str) -> None:
    with pytest.raises(errors.Missing, match="SKERRY_LAB_DIR"):
        requirements.check_directory(Path(path))


def test_check_names_all_that_lacks_and_what_brings_it() -> None:
    lacks = [
        requirements.Lack("sanlock", "sanlock"),
        requirements.Lack("virtlogd", "libvirt-daemon"),
        requirements.Lack("libvirtd", "libvirt-daemon"),
        requirements.Lack("/dev/fuse", remedy="modprobe fuse"),
    ]
    with pytest.raises(errors.Missing) as refusal:
        requirements.check(lacks)
    assert refusal.value.remedy == (
        "modprobe fuse; apt-get install libvirt-daemon sanlock"
    )
    assert "sanlock, virtlogd, libvirtd, /dev/fuse" in str(refusal.value)
