"""Install the Debian packages that are missing, and start no service.

The packages stay; build/installed-packages.txt lists what was added.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.errors import Denied, Failed, Unsupported
from tests.machine import packages, progress, quiet

# Another apt may be at work on the machine: wait for it that long.
APT_LOCK_TIMEOUT_S = 300

APT_GET: Final = (
    "apt-get",
    "--yes",
    "--option",
    f"DPkg::Lock::Timeout={APT_LOCK_TIMEOUT_S}",
)

# What apt says → the command that mends it, after which it is tried again.
MENDS: Final[Mapping[str, tuple[str, ...]]] = {
    "dpkg was interrupted": ("dpkg", "--configure", "--pending"),
    "Unable to locate package": (*APT_GET, "update"),
    "has no installation candidate": (*APT_GET, "update"),
    "404  Not Found": (*APT_GET, "update"),
}


class NotDebian(Unsupported):
    """We know the packages of Debian 12 and 13 only."""

    code = "not_debian"
    remedy = (
        "use a Debian 12 or 13 machine, or install by hand what tests/machine/"
        "packages.py lists"
    )


class NotRoot(Denied):
    """Packages can be installed by root only."""

    code = "not_root"
    remedy = "run the same command as root, for example with sudo"


class QueryFailed(Failed):
    """Debian's package database did not answer."""

    code = "query_failed"
    remedy = "run `dpkg --audit` and do what it says, then run this again"


@dataclass(frozen=True, slots=True)
class Places:
    log: Path
    added: Path  # the list of what was installed
    policy: quiet.Policy


def find_release(facts: Mapping[str, str]) -> packages.Release:
    """Return which Debian os-release(5) speaks of, or raise NotDebian."""
    for release in packages.RELEASES:
        if facts.get("ID") == "debian" and facts.get("VERSION_CODENAME") == release:
            return release
    raise NotDebian(f"this is {facts.get('PRETTY_NAME', 'an unknown system')}")


def install(needed: Mapping[str, str], places: Places, *, is_root: bool) -> None:
    """Install what is missing of name → why, and tell what and why."""
    lacking = packages.missing(needed, installed_packages())
    print(f"{len(needed)} packages needed, {len(lacking)} missing", flush=True)
    if is_root:
        quiet.repair(places.policy)
    if not lacking:
        return
    for name, why in lacking.items():
        print(f"  {name:<28} {why}", flush=True)
    if not is_root:
        raise NotRoot("only root can install packages")
    title = f"installing {len(lacking)} packages"
    with progress.step(title), quiet.services_forbidden(places.policy):
        _install(tuple(lacking), places.log)
    places.added.parent.mkdir(parents=True, exist_ok=True)
    with places.added.open("a", encoding="utf-8") as added:
        added.writelines(f"{name}\n" for name in lacking)


def installed_packages() -> frozenset[str]:
    """Return the names of the packages that are completely installed."""
    argv = ("dpkg-query", "--show", "--showformat=${Package}\t${db:Status-Status}\n")
    try:
        answer = subprocess.run(
            argv, capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise QueryFailed(f"dpkg-query: {error}") from error
    return parse_installed(answer.stdout)


def parse_installed(listing: str) -> frozenset[str]:
    """Return the packages of `name, tab, status` lines whose status is good."""
    rows = (line.partition("\t") for line in listing.splitlines())
    return frozenset(name for name, _, status in rows if status == "installed")


def find_mend(output: str) -> tuple[str, ...] | None:
    """Return the command that mends what apt complains of, None if unknown."""
    return next((argv for said, argv in MENDS.items() if said in output), None)


def _install(names: Sequence[str], log: Path) -> None:
    """Run apt-get; after each complaint that can be mended, mend it and retry."""
    argv = (*APT_GET, "install", "--no-install-recommends", *names)
    tried: set[tuple[str, ...]] = set()
    while True:
        begin = log.stat().st_size if log.exists() else 0
        try:
            _run(argv, log)
        except progress.StepFailed:
            with log.open("rb") as output:
                output.seek(begin)
                mend = find_mend(output.read().decode(errors="replace"))
            if mend is None or mend in tried:
                raise
            tried.add(mend)
            _run(mend, log)
        else:
            return


def _run(argv: Sequence[str], log: Path) -> None:
    progress.run(
        argv,
        log=log,
        environment={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        remedy="see the log; `apt-get check` names broken packages; run this again",
    )
