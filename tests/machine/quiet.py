"""Keep Debian's packages from starting services while they are installed.

Debian's maintainer scripts ask /usr/sbin/policy-rc.d before they start a
service; exit status 101 forbids it. What stood there before is kept beside it
and comes back whatever happens: at the end, or, after a `kill -9`, at the next
run. Our policy carries a mark, so the two files alone tell where we are:

    policy-rc.d   policy-rc.d.before-skerry
    any or none   none                        nobody is at work
    any           former                      a run is about to put ours there
    ours          former or none              at work, or a run was killed

Source: invoke-rc.d(8).
"""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from node.errors import Busy

# Longer than any installation of ours by another checkout takes.
LOCK_TIMEOUT_S = 900.0
LOCK_RETRY_S = 0.5

MARK = "# Put here by Skerry's tests/machine while it installs packages."
FORBID = f"#!/bin/sh\n{MARK}\nexit 101\n"


class InstallationRuns(Busy):
    """Another run installs packages: wait until it has ended."""

    code = "installation_runs"
    remedy = "wait until the other run has ended, then run this again"


@dataclass(frozen=True, slots=True)
class Policy:
    """Where the policy is; both files are in one folder, so renames work."""

    path: Path = Path("/usr/sbin/policy-rc.d")

    @property
    def former(self) -> Path:
        """Return where the policy that we found is kept."""
        return self.path.with_name(self.path.name + ".before-skerry")


@contextlib.contextmanager
def services_forbidden(policy: Policy) -> Iterator[None]:
    """Forbid the start of services; bring the former policy back at the end."""
    with _locked(policy.path.parent):
        restore(policy)
        try:
            _forbid(policy)
            yield
        finally:
            restore(policy)


def repair(policy: Policy) -> None:
    """Repair what a killed run left; wait for a run that is still at work."""
    if _is_ours(policy.path) or os.path.lexists(policy.former):
        with _locked(policy.path.parent):
            restore(policy)


def restore(policy: Policy) -> None:
    """Bring back what a run, finished or killed, found before its own policy."""
    ours = _is_ours(policy.path)
    if not os.path.lexists(policy.former):
        if ours:
            policy.path.unlink()
    elif ours or not os.path.lexists(policy.path):
        policy.former.replace(policy.path)
    else:
        # It is the former one still, or somebody put another one there since.
        policy.former.unlink()


def _forbid(policy: Policy) -> None:
    """Keep the former policy, then put ours in its place in one step."""
    part = policy.path.with_name(policy.path.name + ".skerry-part")
    part.unlink(missing_ok=True)
    if os.path.lexists(policy.path):
        shutil.copy2(policy.path, part, follow_symlinks=False)
        part.replace(policy.former)
    part.write_text(FORBID, encoding="utf-8")
    part.chmod(0o755)
    part.replace(policy.path)


def _is_ours(path: Path) -> bool:
    try:
        return not path.is_symlink() and MARK.encode() in path.read_bytes()
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder: two runs must not restore each other's policy.

    Child processes inherit the lock, so an apt that outlives a killed run keeps
    the next one from allowing services under it.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    is_told = False
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.set_inheritable(descriptor, True)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InstallationRuns(f"{folder} is locked") from None
                if not is_told:
                    print("waiting for another installation to end", flush=True)
                    is_told = True
                time.sleep(LOCK_RETRY_S)
        yield
    finally:
        os.close(descriptor)
