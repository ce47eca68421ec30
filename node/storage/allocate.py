"""Give a file space up to a size, and make it that large: a program, for raw disks.

    python3 -I -S -c PROGRAM FILE SIZE

Where the file system cannot (NFS 3), zeros are written behind the old end, directly:
glibc would write them through the cache, from where they land when the program was
killed, another node has the lease and a guest has written there. Asked for twice it
goes on where it stopped. The standard library only. Sizes are bytes.
Source: fallocate(2), posix_fallocate(3), open(2) on O_DIRECT.
"""

import ctypes
import errno
import mmap
import os
import sys
from typing import Final

_CHUNK: Final = 4 * 1024 * 1024  # large enough for the storage, small for us
_BLOCK: Final = 4096  # what direct I/O asks for at most
_UNABLE: Final = (errno.EOPNOTSUPP, errno.ENOSYS)


def allocate(path: str, size_bytes: int) -> None:
    """Do it, and wait until it is on disk; OSError."""
    file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECT)
    try:
        try:
            _fallocate(file, size_bytes)
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            write_zeros(file, size_bytes)
        os.fsync(file)
    finally:
        os.close(file)


def write_zeros(file: int, size_bytes: int) -> None:
    """Write behind a file's end until it has that size; it is open for direct I/O."""
    with mmap.mmap(-1, _CHUNK) as zeros:
        place = os.fstat(file).st_size // _BLOCK * _BLOCK
        # The block that the file ends in keeps what it has.
        os.preadv(file, [memoryview(zeros)[:_BLOCK]], place)
        while place < size_bytes:
            length = min(_CHUNK, -(-(size_bytes - place) // _BLOCK) * _BLOCK)
            place += os.pwritev(file, [memoryview(zeros)[:length]], place)
            zeros[:_BLOCK] = bytes(_BLOCK)
    if os.fstat(file).st_size > size_bytes:
        os.ftruncate(file, size_bytes)


def _fallocate(file: int, size_bytes: int) -> None:
    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if function(file, 0, 0, size_bytes) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    try:
        allocate(sys.argv[1], int(sys.argv[2]))
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror}")
