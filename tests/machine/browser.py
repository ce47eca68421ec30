"""Fetch the dashboard's browser libraries and put the files that it serves.

npm installs exactly what package-lock.json says, below build/, and runs no
script of a package. The files in SERVED are copied to the dashboard's static
folder, where git does not see them.
"""

import os
import shutil
from pathlib import Path
from typing import Final

from node.errors import Unavailable
from tests.machine import progress, venv

# In node_modules → below the dashboard's static/vendor.
SERVED: Final = {
    "idiomorph/dist/idiomorph.min.js": "idiomorph.min.js",
    "idiomorph/LICENSE": "idiomorph.LICENSE",
}

INPUTS: Final = ("package.json", "package-lock.json")
VENDOR: Final = Path("aggregator", "dashboard", "static", "vendor")
STAMP: Final = "made-of"


class NpmMissing(Unavailable):
    """There is no npm in the PATH."""

    code = "npm_missing"
    remedy = "run `make browser` as root: it installs Debian's npm"


class FileMissing(Unavailable):
    """A browser library does not have a file that the dashboard serves."""

    code = "file_missing"
    remedy = "compare the library's version in package.json with SERVED"


def fetch(root: Path, log: Path) -> None:
    """Fetch the libraries and copy the files, unless all are there."""
    work = root / "build" / "browser"
    stamp = work / STAMP
    made_of = venv.fingerprint([root / name for name in INPUTS], [])
    if venv.is_current(stamp, made_of):
        print("browser libraries are up to date", flush=True)
    else:
        npm = shutil.which("npm")
        if npm is None:
            raise NpmMissing("npm is not installed")
        with progress.step("fetching browser libraries"):
            work.mkdir(parents=True, exist_ok=True)
            stamp.unlink(missing_ok=True)
            for name in INPUTS:
                shutil.copyfile(root / name, work / name)
            progress.run(
                (npm, "ci", "--ignore-scripts", "--omit=dev", "--no-audit"),
                directory=work,
                log=log,
                remedy="see the log; when the cause is gone, run `make browser`",
            )
        stamp.write_text(made_of, encoding="utf-8")
    serve(work / "node_modules", root / VENDOR)


def serve(modules: Path, vendor: Path) -> None:
    """Copy what the dashboard serves; a reader never sees half a file."""
    vendor.mkdir(parents=True, exist_ok=True)
    for source, target in SERVED.items():
        if not (modules / source).is_file():
            raise FileMissing(f"there is no {source}")
        part = vendor / f".{target}.part"
        shutil.copyfile(modules / source, part)
        os.replace(part, vendor / target)
