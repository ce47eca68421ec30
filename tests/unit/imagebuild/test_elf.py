"""Read what programs need."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from imagebuild import elf

LIBC = "libc.so.6"
SHELL = Path("/bin/sh").resolve()


def test_read_returns_what_ldd_lists() -> None:
    program = Path(sys.executable).resolve()
    listed = subprocess.run(
        ["ldd", program], capture_output=True, text=True, check=True
    )
    needed = elf.read(program).libraries
    assert LIBC in needed
    assert all(name in listed.stdout for name in needed)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(80)],
    ids=["empty", "magic", "script", "32-bit"],
)
def test_read_passes_over_other_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert elf.read(tmp_path / "file") == elf.Needs()


def test_missing_tells_the_program_and_the_library(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    shutil.copy(SHELL, tmp_path / "usr/bin/sh")
    (tmp_path / "usr/bin/link").symlink_to("sh")
    (tmp_path / "usr/bin/text").write_text("text")
    paths = ["/usr/bin/sh", "/usr/bin/link", "/usr/bin/text"]
    assert elf.missing(tmp_path, paths) == [("/usr/bin/sh", [LIBC])]
    library = tmp_path / "usr/lib/x86_64-linux-gnu" / LIBC
    library.parent.mkdir(parents=True)
    library.symlink_to("/nowhere")  # a link counts: it leads elsewhere inside the root
    assert elf.missing(tmp_path, paths) == []
