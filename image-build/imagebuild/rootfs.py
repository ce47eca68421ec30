"""Install the packages of a lock into a folder, and nothing else.

mmdebstrap takes them from a repository that holds only these, so that no mirror is
asked and no other version comes in. Source: mmdebstrap(1).
"""

import os
import shutil
from pathlib import Path
from typing import Final

from imagebuild import programs
from imagebuild.lock import Lock
from imagebuild.recipe import Recipe

# Debian's kernel makes an initrd when it is installed. Ours is made later.
_NO_INITRD: Final = (
    'mkdir -p "$1/etc/kernel/postinst.d"; cd "$1/etc/kernel/postinst.d";'
    " for name in initramfs-tools tiny-initramfs dracut; do"
    ' chroot "$1" dpkg-divert --quiet --local --no-rename --add'
    ' --divert "/etc/kernel/not-run.$name" "/etc/kernel/postinst.d/$name"; done'
)


# What a root was installed by, beside its packages: a change makes it anew.
RECIPE_OF_INSTALL: Final = _NO_INITRD


def install(recipe: Recipe, lock: Lock, repository: Path, root: Path) -> None:
    """Make a root file system of the recipe's packages in a new folder."""
    shutil.rmtree(root, ignore_errors=True)
    words: list[str | Path] = [
        *("mmdebstrap", "--mode=root", "--variant=essential", "--format=directory"),
        "--architectures=amd64",
        '--aptopt=Apt::Install-Recommends "false"',
        # Each is written to disk once, by the build itself.
        "--dpkgopt=force-unsafe-io",
        f"--essential-hook={_NO_INITRD}",
        f"--include={','.join(recipe.packages)}",
        recipe.suites[0],
        root,
        f"deb [trusted=yes] copy:{repository.resolve()} ./",
    ]
    programs.run(words, environment={"SOURCE_DATE_EPOCH": str(lock.epoch_s)})


def unpack(package: Path, folder: Path) -> None:
    """Put a package's files into a folder, and do nothing else with it."""
    folder.mkdir(parents=True, exist_ok=True)
    programs.run(["dpkg-deb", "--extract", package, folder])


def in_root(root: Path, *words: str, stdin: str = "", epoch_s: int = 0) -> str:
    """Run a program of the root in it."""
    environment = {"SOURCE_DATE_EPOCH": str(epoch_s)}
    return programs.run(
        ["chroot", root, *words], stdin=stdin.encode(), environment=environment
    )


def owners(root: Path) -> dict[str, list[str]]:
    """Return the files of each package of a root, as dpkg has it."""
    found: dict[str, list[str]] = {}
    for listed in sorted((root / "var/lib/dpkg/info").glob("*.list")):
        name = listed.name.removesuffix(".list").partition(":")[0]
        found[name] = [_real(root, line) for line in listed.read_text().splitlines()]
    return found


def _real(root: Path, path: str) -> str:
    """Return a path without the links of the merged /usr: dpkg says /bin/sh."""
    top, _, rest = path.lstrip("/").partition("/")
    return f"/usr/{top}/{rest}" if rest and (root / top).is_symlink() else path


def walk(root: Path) -> list[str]:
    """Return all that is in a root, but folders, from / on, in order."""
    found = []
    for folder, folders, files in os.walk(root):
        inside = folder.removeprefix(os.fspath(root))
        links = [each for each in folders if os.path.islink(os.path.join(folder, each))]
        found += [f"{inside}/{name}" for name in (*files, *links)]
    return sorted(found)
