"""Checksums of images: read once, remembered, never believed of another file."""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.storage.checksums import Checksums
from node.store import Store
from node.units import GiB, MiB
from tests.fakes.clock import FakeClock
from tests.fakes.qemu_img import header
from tests.unit.node.vm.examples import NODE_ID

WAIT_S = 20.0
CONTENT = header(GiB) + bytes(5 * MiB)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "node.db", FakeClock(), NODE_ID, "boot-1")
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/debian.qcow2").write_bytes(CONTENT)
    return tmp_path / "images"


def _sums(checksums: Checksums) -> dict[str, str]:
    return {image.name: image.sha256 for image in checksums.list()}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_list_shows_a_checksum_when_it_is_known(folder: Path, store: Store) -> None:
    checksums = Checksums(folder, store, lambda: None)
    assert _sums(checksums) == {"debian": ""}
    checksums.read_missing()
    assert _sums(checksums) == {"debian": _sha256(CONTENT)}


def test_a_checksum_is_remembered_by_the_next_agent(folder: Path, store: Store) -> None:
    Checksums(folder, store, lambda: None).read_missing()
    assert _sums(Checksums(folder, store, lambda: None))["debian"] == _sha256(CONTENT)


def test_a_file_that_changed_is_read_again(folder: Path, store: Store) -> None:
    checksums = Checksums(folder, store, lambda: None)
    checksums.read_missing()
    other = header(2 * GiB) + bytes(5 * MiB)
    (folder / "debian.qcow2").write_bytes(other)
    os.utime(folder / "debian.qcow2", (0, 0))
    assert _sums(checksums) == {"debian": ""}
    checksums.read_missing()
    assert _sums(checksums) == {"debian": _sha256(other)}


def test_a_file_is_read_once(folder: Path, store: Store) -> None:
    news: list[None] = []
    checksums = Checksums(folder, store, lambda: news.append(None))
    for _ in range(3):
        checksums.read_missing()
    assert len(news) == 1


def test_read_missing_forgets_an_image_that_is_gone(folder: Path, store: Store) -> None:
    checksums = Checksums(folder, store, lambda: None)
    checksums.read_missing()
    (folder / "debian.qcow2").rename(folder / "other.qcow2")
    checksums.read_missing()
    kept = store.setting("image_checksums")
    assert kept is not None
    assert list(kept) == ["other"]


def test_start_reads_in_the_background_when_somebody_lists(
    folder: Path, store: Store
) -> None:
    is_known = threading.Event()
    checksums = Checksums(folder, store, is_known.set)
    checksums.start()
    checksums.list()
    assert is_known.wait(WAIT_S)
    checksums.stop(WAIT_S)
    assert _sums(checksums)["debian"] == _sha256(CONTENT)
