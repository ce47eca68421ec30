"""Run programs: the image build's only door to them."""

import logging
import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from node.errors import Failed, Unavailable

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 1800.0  # of the slowest, on a machine that does other things too
_TAIL: Final = 30  # lines of what a program said that are shown when it failed
# Nothing of the caller's own, so that two builds are the same.
ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "DEBIAN_FRONTEND": "noninteractive",
}


class ProgramFailed(Failed):
    code = "program_failed"
    remedy = "Read what it said; the whole of it is in the build's log."


class ProgramMissing(Unavailable):
    code = "program_missing"
    remedy = "`make image` installs what the build needs."


def run(
    words: Sequence[str | os.PathLike[str]],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: bytes = b"",
    timeout_s: float = TIMEOUT_S,
) -> str:
    """Run a program that must succeed, and return what it printed."""
    argv = [os.fspath(word) for word in words]
    began = time.monotonic()
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            env={**ENVIRONMENT, **(environment or {})},
            cwd=folder,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise ProgramMissing(f"{argv[0]} is not installed", program=argv[0]) from error
    except subprocess.TimeoutExpired as error:
        raise ProgramFailed(
            f"`{shlex.join(argv)}` took longer than {timeout_s:g} s", program=argv[0]
        ) from error
    said = done.stderr.decode(errors="replace")
    log.debug("%s\n%s", shlex.join(argv), said)
    if done.returncode != 0:
        text = said + done.stdout.decode(errors="replace")
        tail = "\n".join(text.splitlines()[-_TAIL:])
        raise ProgramFailed(
            f"`{shlex.join(argv)}` ended with {done.returncode}:\n{tail}",
            program=argv[0],
        )
    log.info("%s: %.1f s", argv[0], time.monotonic() - began)
    return done.stdout.decode(errors="replace")
