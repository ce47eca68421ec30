"""Build and steer each host's mirror of the shared storage (mirror.c).

The mirror is the witness of the lab: its log lies outside of the host, and so does
the file that tells it which fault to play.

    <lab>/witness/h1.log     every change that h1 made; read it with tests.lab.witness
                  h1.fault   4096 bytes, mapped by the mirror: one letter, a pattern

Measured on two cores: 280 MB/s and 15,000 writes of 4 KiB a second, both with
O_DIRECT; bindfs without a log: 660 MB/s and 11,500.
"""

import enum
import hashlib
import logging
import tempfile
import time
from pathlib import Path

from tests.lab import command, errors, layout, requirements

log = logging.getLogger(__name__)

PROGRAM = layout.MIRROR
_SOURCE = Path(__file__).with_name("mirror.c")
_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")
_BUILD_TIMEOUT_S = 120.0
_FAULT_BYTES = 4096  # one page: FAULT_BYTES of mirror.c
_PATTERN_BYTES_MAX = 255


class Fault(enum.Enum):
    """How the shared storage of one host fails; the value is mirror.c's letter."""

    NONE = "-"
    ENOSPC = "s"  # what needs new blocks fails; overwriting goes on
    EIO = "e"  # data and changes fail, names can be looked up
    READONLY = "r"
    STUCK = "h"  # requests hang in the server: even SIGKILL waits for them


def build() -> Path:
    """Return the mirror's program, compiled now unless it is there."""
    digest = hashlib.sha256(_SOURCE.read_bytes() + repr(_FLAGS).encode()).hexdigest()
    stamp = PROGRAM.with_name("inputs.sha256")
    if PROGRAM.exists() and stamp.exists() and stamp.read_text() == digest:
        return PROGRAM
    requirements.check(requirements.missing())
    begin = time.monotonic()
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    libraries = command.check(["pkg-config", "--cflags", "--libs", "fuse3"]).split()
    with tempfile.TemporaryDirectory(dir=PROGRAM.parent) as work:
        fresh = Path(work) / "mirror"
        argv = ["gcc", *_FLAGS, "-o", str(fresh), str(_SOURCE), *libraries]
        command.check(argv, timeout_s=_BUILD_TIMEOUT_S)
        fresh.replace(PROGRAM)
    stamp.write_text(digest)
    log.info("the storage mirror is built (%.1f s)", time.monotonic() - begin)
    return PROGRAM


def set_fault(lab: layout.Layout, name: str, fault: Fault, pattern: str = "") -> None:
    """Let a host's requests fail from now on; the pattern is fnmatch's, "": all.

    It is matched with paths below the mount point, and its `*` matches a slash too.
    """
    encoded = pattern.encode()
    if len(encoded) > _PATTERN_BYTES_MAX or b"\0" in encoded:
        raise errors.BadSetting(
            "fault",
            f"the pattern is longer than {_PATTERN_BYTES_MAX} bytes or has a NUL",
            remedy="give a shorter one, such as '*/images/*'",
        )
    path = lab.fault_file(name)
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_bytes(Fault.NONE.value.encode().ljust(_FAULT_BYTES, b"\0"))
    # The mirror maps this very file. Its pattern changes only while no fault is on.
    with path.open("r+b", buffering=0) as file:
        file.write(Fault.NONE.value.encode())
        file.write(encoded.ljust(_FAULT_BYTES - 1, b"\0"))
        file.seek(0)
        file.write(fault.value.encode())


def current_fault(lab: layout.Layout, name: str) -> Fault:
    """Return how a host's storage fails now."""
    return Fault(lab.fault_file(name).read_bytes()[:1].decode())
