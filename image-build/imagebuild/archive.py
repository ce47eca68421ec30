"""Find the packages of a recipe in Debian's archive, and keep what is fetched.

The mirror is the one that this machine's own apt uses. Nothing of the machine's apt is
changed: what is done here has folders of its own. apt checks the archive's signature
when a recipe is resolved; later the lock's checksums say what may be used.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import requests

from imagebuild import programs
from imagebuild.lock import ARCHIVES, Lock, Package
from imagebuild.recipe import Recipe
from node.errors import Failed, NotFound, Unavailable

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FETCHERS: Final = 4
_CONNECT_S, _READ_S = 20.0, 120.0
_CHUNK: Final = 1 << 20
_LINE: Final = re.compile(r"'(\S+)' (\S+) (\d+) SHA256:([0-9a-f]{64})")
_SECURITY: Final = "-security"


class NoMirror(Unavailable):
    code = "no_mirror"
    remedy = "Say which: SKERRY_MIRROR=URL, the part before `dists`."


class PackageGone(NotFound):
    """The mirror no longer has a version that the lock names."""

    code = "package_gone"
    remedy = "`make image-lock` takes the versions of today; commit its change."


class PackageDiffers(Failed):
    """What the mirror sent is not what the lock says."""

    code = "package_differs"
    remedy = "Ask another mirror. If all say the same, somebody changed the lock."


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where the archives of Debian are, without a slash at the end."""

    urls: dict[str, str]

    def url(self, package: Package) -> str:
        return f"{self.urls[package.archive]}/{package.path}"


def find_mirror(environment: dict[str, str]) -> Mirror:
    """Return the mirror that this machine uses; SKERRY_MIRROR names another."""
    url = environment.get("SKERRY_MIRROR", "").rstrip("/")
    if not url:
        told = programs.run(
            ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"]
        )
        found = (line.split() for line in told.splitlines())
        url = next((u.rstrip("/") for label, u in found if label == "Debian"), "")
    if not url:
        raise NoMirror("apt of this machine knows no mirror of Debian (`apt update`?)")
    return Mirror({"debian": url, "debian-security": f"{url}{_SECURITY}"})


def resolve(recipe: Recipe, mirror: Mirror, folder: Path, day: date) -> Lock:
    """Return the packages that a recipe needs, of what the mirror has now."""
    configuration = _own_apt(recipe, mirror, folder)
    environment = {"APT_CONFIG": os.fspath(configuration)}
    programs.run(["apt-get", "update"], environment=environment)
    ask = ("apt-get", "--quiet=2", "--yes", "--print-uris", "install")
    # What every Debian system has, as mmdebstrap's variant `essential` takes it.
    wanted = programs.run(
        [*ask, "?essential", *recipe.packages], environment=environment
    )
    packages = list(parse_uris(wanted, mirror))
    for each in recipe.unpacked:
        told = programs.run(
            ["apt-get", "--quiet=2", "--print-uris", "download", each.package],
            environment=environment,
        )
        packages += parse_uris(told, mirror)
    bad = sorted({p.name for p in packages[: wanted.count("\n")]} & recipe.excluded)
    if bad:
        raise Failed(f"excluded, but needed by others: {', '.join(bad)}")
    return Lock(day, tuple(sorted(set(packages))))


def fetch(lock: Lock, mirror: Callable[[], Mirror], cache: Path) -> dict[Package, Path]:
    """Return each package's file in the cache; what is not there is fetched."""
    cache.mkdir(parents=True, exist_ok=True)
    files = {each: cache / f"{each.sha256}.deb" for each in lock.packages}
    absent = [each for each, file in files.items() if not file.exists()]
    if absent:
        source = mirror()
        with ThreadPoolExecutor(_FETCHERS) as pool:
            jobs = [pool.submit(_fetch, each, source, files[each]) for each in absent]
            for job in jobs:
                job.result()
    for package, file in files.items():
        _check(package, file)
    return files


def repository(files: dict[Package, Path], folder: Path, suite: str) -> None:
    """Make a repository of these packages alone, for apt to install from.

    It bears the suite's name: mmdebstrap takes what is essential from that only.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for package, file in files.items():
        os.link(file, folder / f"{package.name}_{package.sha256[:8]}.deb")
    index = programs.run(["dpkg-scanpackages", "--multiversion", "."], folder=folder)
    (folder / "Packages").write_text(index)
    digest = hashlib.sha256(index.encode()).hexdigest()
    (folder / "Release").write_text(
        f"Suite: {suite}\nCodename: {suite}\nSHA256:\n"
        f" {digest} {len(index.encode())} Packages\n"
    )


def _own_apt(recipe: Recipe, mirror: Mirror, folder: Path) -> Path:
    """Lay out an apt that knows no package as installed; return its settings."""
    for each in ("state/lists/partial", "cache/archives/partial"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    (folder / "state/status").touch()
    sources = "".join(
        f"deb [signed-by={KEYRING}] {mirror.urls[_archive(suite)]} {suite} "
        f"{' '.join(recipe.components)}\n"
        for suite in recipe.suites
    )
    (folder / "sources.list").write_text(sources)
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "state/status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::ForceHash": "sha256",
        "APT::Sandbox::User": "root",
    }
    configuration = folder / "apt.conf"
    text = "".join(f'{name} "{value}";\n' for name, value in settings.items())
    configuration.write_text(text)
    return configuration


def _archive(suite: str) -> str:
    return "debian-security" if suite.endswith(_SECURITY) else "debian"


def parse_uris(told: str, mirror: Mirror) -> Iterable[Package]:
    """Yield what apt would fetch, as it prints it."""
    for url, file, size, digest in _LINE.findall(told):
        name, version, _ = file.split("_")
        archive = next(a for a in reversed(ARCHIVES) if _is_below(url, mirror.urls[a]))
        path = unquote(url[len(mirror.urls[archive]) + 1 :])
        yield Package(name, unquote(version), archive, path, int(size), digest)


def _is_below(url: str, base: str) -> bool:
    return url.startswith(f"{base}/")


def _fetch(package: Package, mirror: Mirror, target: Path) -> None:
    fresh = target.with_suffix(".part")
    try:
        with requests.get(
            mirror.url(package), stream=True, timeout=(_CONNECT_S, _READ_S)
        ) as answer:
            if answer.status_code == requests.codes.not_found:
                raise PackageGone(
                    f"the mirror has no {package.name} {package.version} any more",
                    package=package.name,
                )
            answer.raise_for_status()
            with fresh.open("wb") as file:
                for chunk in answer.iter_content(_CHUNK):
                    file.write(chunk)
    except requests.RequestException as error:
        raise Unavailable(f"{package.name} cannot be fetched: {error}") from error
    _check(package, fresh)
    fresh.replace(target)


def _check(package: Package, file: Path) -> None:
    with file.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    if digest != package.sha256:
        file.unlink()
        raise PackageDiffers(
            f"{package.name} {package.version} is {digest}, not {package.sha256}",
            package=package.name,
        )
