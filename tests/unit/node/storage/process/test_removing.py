"""Remove folders as an NFS client lets us; what it does is played here."""

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.storage.process import removing
from node.storage.process.removing import FileHeld

NAME = "_remove_me_disk"
KEPT = ".nfs0001"


@pytest.fixture
def above(tmp_path: Path) -> Iterator[int]:
    folder = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield folder
    os.close(folder)


@pytest.fixture
def doomed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder that, as with NFS, cannot go while a file is kept in it."""
    really, folder = shutil.rmtree, tmp_path / NAME

    def remove(name: str, *, dir_fd: int) -> None:
        if (folder / KEPT).exists():
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        really(name, dir_fd=dir_fd)

    monkeypatch.setattr(shutil, "rmtree", remove)
    folder.mkdir()
    (folder / KEPT).touch()
    return folder


def test_folder_goes_when_the_file_is_closed(above: int, doomed: Path) -> None:
    closing = threading.Timer(0.2, (doomed / KEPT).unlink)
    closing.start()
    removing.remove_tree(above, NAME)
    closing.join()
    assert not doomed.exists()


def test_who_waits_too_long_is_told_what_is_open(
    above: int, doomed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removing, "HELD_S", 0.1)
    with pytest.raises(FileHeld, match=KEPT):
        removing.remove_tree(above, NAME)
    assert (doomed / KEPT).exists()


@pytest.mark.parametrize("kept", [(), (KEPT,)])
def test_other_files_are_never_waited_for(
    above: int, tmp_path: Path, kept: tuple[str, ...]
) -> None:
    (tmp_path / NAME).mkdir()
    for each in ("a", *kept):
        (tmp_path / NAME / each).touch()
    with pytest.raises(OSError, match="not empty") as caught:
        removing.remove_folder(above, NAME)
    assert caught.value.errno == errno.ENOTEMPTY


def test_empty_folder_waits_for_kept_files_too(above: int, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / KEPT).touch()
    closing = threading.Timer(0.2, (tmp_path / NAME / KEPT).unlink)
    closing.start()
    removing.remove_folder(above, NAME)
    closing.join()
    assert not (tmp_path / NAME).exists()


def test_file_that_goes_while_all_are_removed_is_no_error(
    above: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / KEPT).touch()
    really, calls = shutil.rmtree, []

    def remove(name: str, *, dir_fd: int) -> None:
        calls.append(name)
        if len(calls) == 1:
            raise FileNotFoundError(errno.ENOENT, KEPT)
        really(name, dir_fd=dir_fd)

    monkeypatch.setattr(shutil, "rmtree", remove)
    removing.remove_tree(above, NAME)
    assert not (tmp_path / NAME).exists()


def test_folder_that_is_not_there_is_no_error(above: int) -> None:
    removing.remove_tree(above, NAME)
