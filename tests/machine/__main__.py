"""Prepare this Debian machine: `/usr/bin/python3 -m tests.machine PURPOSE`.

Runs before any virtual environment exists, so it needs the standard library
only. Asking twice is quick and changes nothing.
"""

import argparse
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from node.errors import Error
from tests.machine import browser, install, packages, progress, quiet, venv

ROOT: Final = Path(__file__).resolve().parents[2]

Part = Callable[[Path, Path], None]


@dataclass(frozen=True, slots=True)
class Purpose:
    help: str
    uses: tuple[packages.Use, ...]
    parts: tuple[tuple[str, Part], ...]  # name of the log, what makes the part


_VENV: Final = ("venv", venv.make)
_BROWSER: Final = ("browser", browser.fetch)

PURPOSES: Final = {
    "demo": Purpose(
        "what `make demo` needs", ("build", "boot", "lab"), (_VENV, _BROWSER)
    ),
    "lab": Purpose(
        "what the lab needs (python -m tests.lab)",
        ("build", "boot", "lab"),
        (_VENV, _BROWSER),
    ),
    "test": Purpose(
        "what `make test` needs",
        ("build", "boot", "lab", "image", "test", "database"),
        (_VENV, _BROWSER),
    ),
    "image": Purpose("what `make image` needs", ("build", "boot", "image"), (_VENV,)),
    "venv": Purpose("the virtual environment .venv", ("build",), (_VENV,)),
    "browser": Purpose("the dashboard's browser libraries", (), (_BROWSER,)),
}


def main(arguments: list[str] | None = None) -> int:
    """Prepare for the purpose that was asked for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.machine",
        description="Prepare this Debian machine. Starts no service.",
        epilog="Logs are in build/log, the list of added packages in "
        "build/installed-packages.txt.",
    )
    commands = parser.add_subparsers(dest="purpose", required=True, metavar="PURPOSE")
    for name, purpose in PURPOSES.items():
        commands.add_parser(name, help=purpose.help, description=purpose.help)
    purpose = PURPOSES[parser.parse_args(arguments).purpose]
    # A polite end, too, has to bring the machine's policy back.
    signal.signal(signal.SIGTERM, _stop)
    try:
        prepare(purpose, ROOT)
    except Error as error:
        return progress.fail(error)
    return 0


def prepare(purpose: Purpose, root: Path) -> None:
    """Install the packages of a purpose, then make its parts."""
    uses = purpose.uses
    if _BROWSER in purpose.parts and shutil.which("npm") is None:
        uses = (*uses, "npm")
    if uses:
        release = install.find_release(_os_release())
        places = install.Places(
            log=root / "build" / "log" / "packages.log",
            added=root / "build" / "installed-packages.txt",
            policy=quiet.Policy(),
        )
        needed = packages.choose(uses, release)
        install.install(needed, places, is_root=os.geteuid() == 0)
    for name, make in purpose.parts:
        make(root, root / "build" / "log" / f"{name}.log")


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
