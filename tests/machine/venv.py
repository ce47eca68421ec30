"""Make .venv: what setup.cfg asks for, at the versions of constraints.txt.

It sees no package of the system except those in FROM_DEBIAN, which exist
nowhere else and are linked in by name. A stamp in it tells what it was made
of: it is brought up to date when that changed, and made anew when making it
was interrupted.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from node.errors import Unavailable
from tests.machine import progress

PYTHON: Final = Path("/usr/bin/python3")
DEBIAN_PACKAGES: Final = Path("/usr/lib/python3/dist-packages")

# What is linked in from there: the package, and patterns of its files.
FROM_DEBIAN: Final = {"python3-sanlock": ("sanlock*.so", "sanlock_python*-info")}

INPUTS: Final = ("setup.cfg", "pyproject.toml", "constraints.txt")
STAMP: Final = "made-of"
REMEDY: Final = "see the log; when the cause is gone, run `make venv`"


class BindingMissing(Unavailable):
    """A Python package of Debian's is not installed."""

    code = "binding_missing"
    remedy = "install it as root, or run `make venv` as root, which does"


def make(root: Path, log: Path) -> None:
    """Make .venv below the checkout, unless it is what it should be."""
    folder = root / ".venv"
    stamp = folder / STAMP
    python = folder / "bin" / "python"
    bindings = find_bindings(DEBIAN_PACKAGES)
    made_of = fingerprint([root / name for name in INPUTS], [PYTHON, *bindings])
    if is_current(stamp, made_of):
        print(f"{folder.name} is up to date", flush=True)
        return
    if not stamp.exists() or not is_usable(python):
        with progress.step(f"making {folder.name}"):
            shutil.rmtree(folder, ignore_errors=True)
            create = (os.fspath(PYTHON), "-m", "venv", os.fspath(folder))
            progress.run(create, log=log, remedy=REMEDY)
    # Without its stamp it counts as unfinished, until the last line below.
    stamp.unlink(missing_ok=True)
    with progress.step("installing Python packages"):
        install = (
            *(os.fspath(python), "-m", "pip", "install", "--no-input"),
            *("--disable-pip-version-check", "--editable", f"{root}[test]"),
            *("--constraint", os.fspath(root / "constraints.txt")),
        )
        progress.run(install, log=log, remedy=REMEDY)
        for site_packages in folder.glob("lib/python3*/site-packages"):
            link(bindings, site_packages)
    stamp.write_text(made_of, encoding="utf-8")


def fingerprint(read: Iterable[Path], found: Iterable[Path]) -> str:
    """Return one string that changes whenever .venv has to be made again.

    Of what is read, the contents count; of what is found, the real path.
    """
    total = hashlib.sha256()
    for path in read:
        total.update(path.read_bytes() + b"\0")
    for path in found:
        total.update(os.fsencode(path.resolve()) + b"\0")
    return total.hexdigest()


def is_current(stamp: Path, made_of: str) -> bool:
    """Tell whether something was finished, and made of the same things."""
    try:
        return stamp.read_text(encoding="utf-8") == made_of
    except FileNotFoundError:
        return False


def is_usable(python: Path) -> bool:
    """Tell whether the interpreter of .venv is still the one of the machine."""
    return python.exists() and python.resolve() == PYTHON.resolve()


def find_bindings(folder: Path) -> list[Path]:
    """Return the files to link in from a folder; raise if a package has none."""
    bindings: list[Path] = []
    for name, patterns in FROM_DEBIAN.items():
        found = [path for pattern in patterns for path in folder.glob(pattern)]
        if not found:
            raise BindingMissing(f"{name} is not installed")
        bindings += sorted(found)
    return bindings


def link(bindings: Iterable[Path], site_packages: Path) -> None:
    """Link these files in, in place of what an older version had there."""
    for patterns in FROM_DEBIAN.values():
        for pattern in patterns:
            for former in site_packages.glob(pattern):
                former.unlink()
    for path in bindings:
        (site_packages / path.name).symlink_to(path)
