"""Find room in memory for what tests write: they wait for the disk else.

It must take direct I/O, as storage does it, and run programs. Where it does not, tests
lie on the disk as any others. Source: tmpfs(5), open(2) on O_DIRECT.
"""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from node.units import GiB

_MEMORY: Final = Path("/dev/shm")
_ROOM_BYTES: Final = 2 * GiB  # more than all tests of `make test-fast` write


def root() -> Path | None:
    """Return the folder in memory; None: there is none that can be used."""
    name = _MEMORY / f"skerry-test-{uuid.uuid4().hex}"
    try:
        found = os.statvfs(_MEMORY)
        os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DIRECT))
    except OSError:
        return None
    finally:
        name.unlink(missing_ok=True)
    has_room = found.f_bavail * found.f_frsize >= _ROOM_BYTES
    return _MEMORY if has_room and not found.f_flag & os.ST_NOEXEC else None


@contextlib.contextmanager
def fast_folder(slow: Path) -> Iterator[Path]:
    """Yield a folder in memory, if there can be one; else the other one."""
    memory = root()
    if memory is None:
        yield slow
        return
    with tempfile.TemporaryDirectory(prefix="skerry-test-", dir=memory) as folder:
        yield Path(folder)
