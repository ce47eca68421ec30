"""What is left in a file that was wiped."""

import os
import subprocess
import sys
from pathlib import Path

from node.storage import wipe
from node.units import MiB


def test_wipe_overwrites_data_and_leaves_holes(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(64 * MiB)
        os.pwrite(file.fileno(), b"secret" * 1000, 5 * MiB)
        os.pwrite(file.fileno(), b"secret", 64 * MiB - 6)
    before = path.stat().st_blocks
    done = subprocess.run(
        [sys.executable, "-I", wipe.__file__, str(path)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert b"(100.00/100%)" in done.stdout
    assert not any(path.read_bytes())
    assert path.stat().st_size == 64 * MiB
    assert path.stat().st_blocks <= before + 16


def test_wipe_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"precious")
    (tmp_path / "disk").symlink_to(tmp_path / "other")
    words = [sys.executable, "-I", wipe.__file__, str(tmp_path / "disk")]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert (done.returncode, b"disk" in done.stderr) == (1, True)
    assert (tmp_path / "other").read_bytes() == b"precious"


def test_wipe_refuses_a_file_with_another_name(tmp_path: Path) -> None:
    (tmp_path / "template").write_bytes(b"precious")
    (tmp_path / "disk").hardlink_to(tmp_path / "template")
    words = [sys.executable, "-I", wipe.__file__, str(tmp_path / "disk")]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert (done.returncode, b"another name" in done.stderr) == (1, True)
    assert (tmp_path / "template").read_bytes() == b"precious"
