"""Read small files and replace them whole: the door to configuration and /sys.

A replaced file is on disk when `replace` returns; a reader sees the old one or
the new one, never a part.
"""

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import Final

from node.errors import Failed, Unavailable
from node.units import MiB

# What is read here is text of the kernel or of ours; more is not for us.
_SIZE_MAX: Final = MiB


class FileUnwritable(Failed):
    code = "file_unwritable"
    remedy = "Check the folder's owner, mode and file system."


class DiskFull(Unavailable):
    """There is no space for the file: the old one is intact."""

    code = "storage_full"
    remedy = "Free space on the disk that holds the file, then try again."


def read_text(path: Path) -> str:
    """Return the text of a small file, stripped; empty if it cannot be read.

    The kernel refuses to show some facts on some machines: that is no error.
    """
    try:
        with path.open("rb") as file:
            return file.read(_SIZE_MAX).decode(errors="replace").strip(" \n\t\0")
    except OSError:
        return ""


def replace(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put a file in the place of another, at once and for good.

    Raises DiskFull and FileUnwritable; the old file is then as it was.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _ours(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise _ours(path, error) from error
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make sure that names made or removed in a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _ours(path: Path, error: OSError) -> Failed | Unavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"there is no space for {path}", path=str(path))
    return FileUnwritable(f"{path} cannot be written: {error.strerror}", path=str(path))
