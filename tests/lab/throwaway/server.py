"""An NFS server of the kernel, in the throw-away VM, on a disk with 4 KiB sectors.

Exported as careful administrators do: root is squashed to nobody, the folders belong to
36:36 with mode 0771. It can fall silent, as a server does whose power is cut, and
be stopped, so that it refuses connections.
"""

import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.storage.formats import layout
from tests.lab import command

ADDRESS: Final = "127.0.0.1"
LARGE_SECTOR_BYTES: Final = 4096
_DISK: Final = "1G"  # of the VM's memory, where it is written
_THREADS: Final = "4"
# Clients of NFS 4 see the folder with fsid 0 as their root: what lies above it, a layer
# in memory, cannot be exported.
_EXPORT: Final = "rw,sync,no_subtree_check,insecure,root_squash"
# After a restart clients of NFS 4 wait for so long; it is the least there is.
_GRACE_S: Final = 10
_SETTINGS: Final = Path("/proc/fs/nfsd")
_SILENCE: Final = """
table inet silence {
    chain input {
        type filter hook input priority 0;
        tcp dport 2049 drop
    }
}
"""
_SPEECH: Final = "delete table inet silence"


@dataclass(frozen=True, slots=True)
class Server:
    """The VM's only NFS server."""

    folder: Path

    def export(self, name: str, version: str) -> str:
        """Make a folder that only the storage user may enter; return its path there."""
        path = self.folder / name
        path.mkdir()
        give(path)
        return str(path) if version == "3" else f"/{name}"

    def export_for_tests(self) -> str:
        """Make a folder where root is the storage user, as tests of ours expect."""
        path = Path(self.export("tests", "3"))
        as_storage_user = f"anonuid={layout.OWNER_ID},anongid={layout.OWNER_ID}"
        # A mount of its own: else clients of NFS 4 find it with what is said above it.
        run("mount", "--bind", str(path), str(path))
        options = f"{_EXPORT},fsid=1,{as_storage_user}"
        run("exportfs", "-o", options, f"{ADDRESS}:{path}")
        return str(path)

    def start(self) -> None:
        """Serve, after a grace period for clients that were here before."""
        for name in ("nfsv4leasetime", "nfsv4gracetime"):
            (_SETTINGS / name).write_text(str(_GRACE_S))
        run("rpc.nfsd", _THREADS)

    @contextlib.contextmanager
    def dead(self, manner: str) -> Iterator[None]:
        """Answer nobody for a while: be silent, or refuse all connections."""
        if manner == "silent":
            run("nft", "-f", "-", stdin=_SILENCE)
            try:
                yield
            finally:
                run("nft", _SPEECH)
        else:
            run("rpc.nfsd", "0")
            try:
                yield
            finally:
                self.start()


def started() -> Server:
    """Make the disk, export it and serve."""
    run("modprobe", "-a", "loop", "nfsd", "nfs", "ext4", "nf_tables")
    folder = Path(tempfile.mkdtemp(prefix="export-", dir="/run"))
    folder.chmod(0o755)
    run("mount", disk_of_large_sectors(), str(folder))
    run("rpcbind")
    run("exportfs", "-o", f"{_EXPORT},fsid=0", f"{ADDRESS}:{folder}")
    run("rpc.mountd")
    run("mount", "-t", "nfsd", "nfsd", str(_SETTINGS))
    made = Server(folder)
    made.start()
    return made


def disk_of_large_sectors() -> str:
    """Return a disk with an empty ext4, by another name."""
    file = Path(tempfile.mkstemp(prefix="disk-", dir="/run")[1])
    run("truncate", "--size", _DISK, str(file))
    disk = device(file, LARGE_SECTOR_BYTES)
    make_file_system(disk)
    return str(link(disk))


def device(file: Path, sector_bytes: int = 512) -> str:
    """Return a block device that is a file."""
    sectors = ("--sector-size", str(sector_bytes))
    return run("losetup", "--find", "--show", *sectors, str(file)).strip()


def make_file_system(disk: str) -> None:
    """Make an ext4 that the storage user owns."""
    owner = f"root_owner={layout.OWNER_ID}:{layout.OWNER_ID}"
    run("mkfs.ext4", "-qF", "-E", owner, disk)


def link(disk: str) -> Path:
    """Return another name of a disk, as it has one below /dev/disk/by-id."""
    name = Path(f"/dev/disk-{uuid.uuid4()}")
    name.symlink_to(disk)
    return name


def give(path: Path) -> None:
    """Make a folder the storage user's alone."""
    run("chown", f"{layout.OWNER_ID}:{layout.OWNER_ID}", str(path))
    path.chmod(layout.FOLDER_MODE)


def run(*words: str, stdin: str = "") -> str:
    """Run a program that must succeed, and return what it says."""
    return command.check(words, input=stdin)
