"""A qemu-img that writes headers and copies bytes: enough for plans to go on."""

import json
import shutil
from pathlib import Path

from tests.fakes.guard import FakeGuard, Outcome, Program
from tests.unit.node.storage.formats.test_qcow2 import file

BACKING_FORMAT = 0xE2792ACA


def qemu_img(guard: FakeGuard) -> Program:
    """Return the program as `guard` runs it."""

    def run(argv: tuple[str, ...]) -> Outcome:
        folder, words = Path(guard.runs[-1].folder), list(argv[2:])
        if argv[1] == "create":
            write_qcow2(folder / words[-2], _after(words, "-b"), _after(words, "-F"))
        elif argv[1] == "convert":
            source = words[-2]
            if source.startswith("json:"):
                source = json.loads(source.removeprefix("json:"))["file"]["filename"]
            shutil.copyfile(folder / source, folder / words[-1])
        return Outcome()

    return run


def write_qcow2(path: Path, backing: str = "", backing_format: str = "") -> None:
    """Write a file that says what it is built on, if anything."""
    extensions = ((BACKING_FORMAT, backing_format.encode()),) if backing_format else ()
    path.write_bytes(file(backing.encode(), extensions=extensions))


def _after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1] if option in words else ""
