"""Test the throw-away VM, and prove in it what this machine's kernel lacks."""

import time
from pathlib import Path

import pytest

from tests.lab import errors, machine_vm, requirements

LACKS = requirements.missing_for_vm()
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(LACKS), reason=requirements.describe(LACKS)),
]

# 8 s on an idle machine; beside others on two cores, many times that.
TIMEOUT_S = 600.0

# A disk of 4 KiB sectors holds the file system that the kernel serves by NFS.
NFS_AND_SECTORS = """
set -e
modprobe -a loop nfsd nfs ext4
truncate -s 64M /run/disk
disk=$(losetup --find --show --sector-size 4096 /run/disk)
echo "sectors $(blockdev --getss $disk)"
mkfs.ext4 -qF $disk
mkdir -p /run/export /run/client
mount $disk /run/export
install -d -o 36 -g 36 -m 770 /run/export/domain
if dd if=$disk of=/dev/null bs=512 count=1 iflag=direct 2>/dev/null
then echo "512 accepted"; else echo "512 refused"; fi
rpcbind
exportfs -o rw,sync,no_subtree_check,insecure,root_squash,fsid=0 127.0.0.1:/run/export
rpc.mountd
rpc.nfsd 2
for version in 3 4.0 4.1 4.2; do
    # The root of NFS 4 is the folder with fsid 0.
    case $version in 3) path=/run/export ;; *) path=/ ;; esac
    mount -t nfs -o vers=$version,nolock 127.0.0.1:$path /run/client
    echo "mounted $(findmnt -no OPTIONS /run/client | grep -o '\\<vers=[0-9.]*')"
    if touch /run/client/domain/root 2>/dev/null
    then echo "root wrote"; else echo "root squashed"; fi
    setpriv --reuid=36 --regid=36 --clear-groups sh -c '
        cd /run/client/domain
        dd if=/dev/zero of=file bs=4096 count=1 oflag=direct status=none
        stat -c "made %u:%g %s" file; rm file'
    umount /run/client
done
"""
EXPECTED = [
    *("sectors 4096", "512 refused"),
    *("mounted vers=3", "root squashed", "made 36:36 4096"),
    *("mounted vers=4.0", "root squashed", "made 36:36 4096"),
    *("mounted vers=4.1", "root squashed", "made 36:36 4096"),
    *("mounted vers=4.2", "root squashed", "made 36:36 4096"),
]


def test_run_returns_output_and_status_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("here\n")
    script = f"cat {tmp_path}/mine; rm {tmp_path}/mine; id -un >&2; exit 7"
    done = machine_vm.run(["sh", "-c", script], timeout_s=TIMEOUT_S)
    assert (done.stdout, done.stderr, done.returncode) == ("here\n", "root\n", 7)
    assert (tmp_path / "mine").exists()


def test_run_ends_a_command_at_its_deadline() -> None:
    begin = time.monotonic()
    with pytest.raises(errors.TimedOut):
        machine_vm.run(["sleep", "4321"], timeout_s=12.0)
    assert time.monotonic() - begin < 60.0


def test_kernel_serves_nfs_from_a_disk_of_4_kib_sectors() -> None:
    done = machine_vm.run(["sh", "-c", NFS_AND_SECTORS], timeout_s=TIMEOUT_S)
    assert done.stdout.splitlines() == EXPECTED, done.stderr
    assert done.returncode == 0
