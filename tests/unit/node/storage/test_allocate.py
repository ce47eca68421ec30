"""What a file holds that was given space, also where the file system cannot."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.storage import allocate
from node.units import MiB
from tests import memory

PROGRAM = Path(allocate.__file__).read_text()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with memory.fast_folder(tmp_path) as folder:
        yield folder / "disk"


def test_allocate_takes_the_space_and_keeps_the_data(path: Path) -> None:
    path.write_bytes(b"guest" * 1000)
    words = [sys.executable, "-I", "-S", "-c", PROGRAM, str(path), str(6 * MiB)]
    for _ in range(2):
        subprocess.run(words, check=True, timeout=60)
        status = path.stat()
        assert status.st_blocks * 512 >= status.st_size == 6 * MiB
    assert path.read_bytes()[:5000] == b"guest" * 1000


@pytest.mark.parametrize("old", [0, 512, 4096, 5000, 4 * MiB + 512])
@pytest.mark.parametrize("size", [9 * MiB + 512, 8 * MiB, 5 * MiB + 4096])
def test_write_zeros_continues_behind_the_old_end(
    path: Path, old: int, size: int
) -> None:
    data = os.urandom(old)
    path.write_bytes(data)
    file = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        allocate.write_zeros(file, size)
    finally:
        os.close(file)
    assert path.read_bytes() == data.ljust(size, b"\0")
    assert path.stat().st_blocks * 512 >= size


def test_allocate_says_why_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    words = [sys.executable, "-I", "-S", "-c", PROGRAM, str(tmp_path / "link"), "4096"]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert (done.returncode, b"link" in done.stderr) == (1, True)
    assert (tmp_path / "other").read_bytes() == b"precious"
