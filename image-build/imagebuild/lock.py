"""Hold the exact packages of an image, so that it is the same whenever it is built.

Pure. The file has a line for each package, by name, as a person can compare them:

    # made by `make image-lock`; every path is below a mirror of Debian's archive
    date 2026-11-24
    debian acl 2.3.2-2 33600 <sha256> pool/main/a/acl/acl_2.3.2-2_amd64.deb
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from node.errors import Invalid

ARCHIVES: Final = ("debian", "debian-security")
_HEAD: Final = "# made by `make image-lock`; each path is below a mirror of its archive"


class LockMalformed(Invalid):
    code = "lock_malformed"
    remedy = "`make image-lock` writes it anew."


@dataclass(frozen=True, slots=True, order=True)
class Package:
    name: str
    version: str
    archive: str  # which of ARCHIVES has it
    path: str  # below that
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Lock:
    day: date  # of the build, whenever that is: what all times in the image are
    packages: tuple[Package, ...]

    @property
    def epoch_s(self) -> int:
        """Return the day's begin in seconds since 1970."""
        at = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        return int(at.timestamp())

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return which of the packages that are wanted are not locked."""
        known = {each.name for each in self.packages}
        return sorted(set(names) - known)


def dump(lock: Lock) -> str:
    """Return the file's text."""
    lines = [_HEAD, f"date {lock.day.isoformat()}"]
    lines += [
        f"{p.archive} {p.name} {p.version} {p.size_bytes} {p.sha256} {p.path}"
        for p in sorted(lock.packages)
    ]
    return "\n".join(lines) + "\n"


def parse(text: str) -> Lock:
    """Read the file's text; LockMalformed."""
    day: date | None = None
    packages: list[Package] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        try:
            match words:
                case [] | ["#", *_]:
                    pass
                case ["date", text]:
                    day = date.fromisoformat(text)
                case [archive, name, version, size, digest, path]:
                    packages.append(
                        _package(archive, name, version, size, digest, path)
                    )
                case _:
                    raise ValueError(f"{len(words)} words")
        except ValueError as error:
            raise LockMalformed(f"line {number}: {error}: {line!r}") from error
    if day is None or not packages:
        raise LockMalformed("it has no date, or no packages")
    return Lock(day, tuple(sorted(packages)))


def _package(
    archive: str, name: str, version: str, size: str, digest: str, path: str
) -> Package:
    if archive not in ARCHIVES:
        raise ValueError(f"the archive is one of {', '.join(ARCHIVES)}")
    if len(bytes.fromhex(digest)) != 32:
        raise ValueError("no SHA-256")
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("the path leaves the archive")
    return Package(name, version, archive, path, int(size), digest)
