"""What the files door promises."""

import os
import stat
from pathlib import Path

import pytest

from node.system import files
from node.system.files import FileUnwritable


def test_read_text_strips_what_the_kernel_adds(tmp_path: Path) -> None:
    (tmp_path / "serial").write_bytes(b"ABC 123 \n\0")
    assert files.read_text(tmp_path / "serial") == "ABC 123"


@pytest.mark.parametrize("name", ["missing", "."], ids=["missing", "folder"])
def test_read_text_is_empty_when_there_is_nothing_to_read(
    tmp_path: Path, name: str
) -> None:
    assert files.read_text(tmp_path / name) == ""


def test_replace_puts_the_new_file_in_place_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    files.replace(path, b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_replace_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileUnwritable):
        files.replace(tmp_path / "folder", b"new")
    assert os.listdir(tmp_path) == ["folder"]


def test_replace_says_when_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileUnwritable, match="missing"):
        files.replace(tmp_path / "missing" / "file", b"new")
