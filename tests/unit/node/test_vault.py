"""Files that are replaced whole."""

import os
from pathlib import Path

import pytest

from node import vault


def test_write_replaces_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "secret"
    vault.write(path, "one", vault.PRIVATE)
    vault.write(path, "two", vault.PRIVATE)
    assert vault.read(path) == "two"
    assert [each.name for each in path.parent.iterdir()] == ["secret"]


@pytest.mark.parametrize("mode", [vault.PRIVATE, vault.PUBLIC])
def test_write_sets_the_mode_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        vault.write(tmp_path / "file", "text", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_read_returns_none_when_there_is_no_file(tmp_path: Path) -> None:
    assert vault.read(tmp_path / "none") is None
