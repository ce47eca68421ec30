"""Overwrite what a file has allocated with zeros: a program, for removed disks.

    python3 -I -S -c PROGRAM FILE

Holes stay holes, so that a thin disk does not grow while it is wiped; where the file
system cannot tell them, all is written. A file with another name is refused: its data
are somebody else's, too, as a template's are. What a killed wipe leaves in the cache
harms nobody, since the file is used no more. Prints its progress as qemu-img does.
The standard library only. Source: lseek(2) on SEEK_DATA.
"""

import errno
import os
import sys
from typing import Final

_CHUNK: Final = 4 * 1024 * 1024  # large enough for the storage, small for us


def wipe(path: str) -> None:
    """Overwrite a file and wait until that is on disk; OSError."""
    file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(file)
        if status.st_nlink != 1:
            raise OSError(errno.EMLINK, "it has another name, so it is not wiped", path)
        size = status.st_size
        place = 0
        while (place := _data_after(file, place, size)) < size:
            end = os.lseek(file, place, os.SEEK_HOLE)
            while place < end:
                length = min(_CHUNK, end - place)
                place += os.pwrite(file, bytes(length), place)
                print(f"\r    ({100 * place / size:.2f}/100%)", end="", flush=True)
            os.fdatasync(file)
        os.fsync(file)
    finally:
        os.close(file)


def _data_after(file: int, place: int, size: int) -> int:
    """Return where data begin; the size if there are no more."""
    try:
        return os.lseek(file, place, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise


if __name__ == "__main__":
    try:
        wipe(sys.argv[1])
    except OSError as error:
        sys.exit(f"{error.filename or sys.argv[1]}: {error.strerror}")
