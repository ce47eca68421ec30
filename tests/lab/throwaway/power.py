"""A disk of the throw-away VM whose power can be cut at any instant, afterwards.

The kernel logs its writes and flushes. Whoever has something confirmed puts a mark in
the log; a disk as it was at any instant is made from it: see `write_log`.
"""

import contextlib
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.throwaway import server, write_log
from tests.lab.throwaway.server import run
from tests.lab.throwaway.write_log import Entry

_NAME: Final = "powered"
_MIB: Final = 1 << 20
_SIZE: Final = 256 * _MIB
_LOG_SIZE: Final = 512 * _MIB
_SECTOR: Final = 512  # of device-mapper's tables, whatever the disk's are
_MOUNT: Final = Path("/run/powered")


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk with an ext4 on sectors of 4 KiB; `link` is how it is called."""

    link: Path
    log: Path

    def mark(self, text: str) -> None:
        """Note that something was begun, or confirmed: a text of no spaces."""
        run("dmsetup", "message", _NAME, "0", "mark", text)

    def entries(self) -> list[Entry]:
        """Return what was logged until the last mark."""
        return write_log.read(self.log)

    @property
    def folder(self) -> Path:
        """Return where root sees the files, if they are to be seen."""
        return _MOUNT

    @contextlib.contextmanager
    def seen(self) -> Iterator[None]:
        """Let root see the files; nobody has it mounted afterwards."""
        _MOUNT.mkdir(exist_ok=True)
        run("mount", str(self.link), str(_MOUNT))
        try:
            yield
        finally:
            run("umount", "--lazy", "--all-targets", str(self.link.resolve()))

    @contextlib.contextmanager
    def cut(
        self, entries: Sequence[Entry], last: int, rng: random.Random
    ) -> Iterator[None]:
        """Be the disk that is found if the power fails after entry `last`.

        Its file system is whole, once its journal was played.
        """
        file = _file(_SIZE)
        left = write_log.survivors(entries, last, rng)
        print(f"{len(left) - last - 1} writes that no flush covers")
        write_log.play(self.log, left, file)
        disk = server.device(file, server.LARGE_SECTOR_BYTES)
        self.link.unlink()
        self.link.symlink_to(disk)
        try:
            with self.seen():
                pass
            run("e2fsck", "-f", "-n", disk)
            yield
        finally:
            run("losetup", "--detach", disk)
            file.unlink()


def made() -> Disk:
    """Make the only disk of that kind."""
    run("modprobe", "-a", "loop", "ext4", "dm-log-writes")
    log = _file(_LOG_SIZE)
    below = server.device(_file(_SIZE), server.LARGE_SECTOR_BYTES)
    table = f"0 {_SIZE // _SECTOR} log-writes {below} {server.device(log)}"
    run("dmsetup", "create", _NAME, "--noudevsync", "--table", table)
    # No udev gives it its name.
    number = run("dmsetup", "info", "-c", "--noheadings", "-o", "minor", _NAME)
    disk = f"/dev/dm-{number.strip()}"
    server.make_file_system(disk)
    return Disk(server.link(disk), log)


def _file(size: int) -> Path:
    path = Path(tempfile.mkstemp(prefix="powered-", dir="/run")[1])
    run("truncate", "--size", str(size), str(path))
    return path
